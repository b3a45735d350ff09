//! An answer in JSON, as a reply. Exit codes and statuses are the plugin's to read.

use bespoke_plugin_api::{Code, Error, HookReply, Result, serde_json};

/// Bytes of an answer: a message with its text, many times over.
pub const MOST_ANSWER: usize = 4 << 20;
/// Characters of a reason, or of what is told of a failure.
const MOST_SHOWN: usize = 500;

/// Reads the answer of `who`, such as "`guard`": nothing goes on; else it is a reply.
///
/// # Errors
/// `PLUGIN_EXCEPTION`. What was answered is not repeated: it may hold what somebody said.
pub fn read(who: &str, answer: &[u8]) -> Result<HookReply> {
    let failed = |what: String| Err(Error::new(Code::PLUGIN_EXCEPTION, format!("{who} answered with {what}")));
    if answer.trim_ascii().is_empty() {
        return Ok(HookReply::Continue);
    }
    match serde_json::from_slice(answer) {
        Ok(HookReply::Unknown) => failed("a `reply` that is none of continue, veto and replace".into()),
        Ok(HookReply::Veto { reason, .. }) => Ok(HookReply::veto(shown(&reason))),
        Ok(reply) => Ok(reply),
        Err(error) => failed(format!("what is no reply ({})", kind(&error))),
    }
}

/// Bounded, and without anything that a terminal would obey.
pub fn shown(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let cut = text.chars().nth(MOST_SHOWN).is_some();
    text.chars().take(MOST_SHOWN).map(plain).collect::<String>().trim().to_owned() + if cut { "…" } else { "" }
}

fn kind(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        serde_json::error::Category::Data => "JSON of another shape",
        serde_json::error::Category::Eof => "JSON that breaks off",
        _ => "no JSON",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_reply_or_a_failure_that_repeats_nothing() {
        for (answer, reply) in [
            ("", HookReply::Continue),
            (" \n", HookReply::Continue),
            (r#"{"reply":"continue"}"#, HookReply::Continue),
            (r#"{"reply":"veto","reason":"no\u001b[31m"}"#, HookReply::veto("no [31m")),
        ] {
            assert_eq!(read("`guard`", answer.as_bytes()), Ok(reply), "{answer}");
        }
        let long = format!(r#"{{"reply":"veto","reason":"{}"}}"#, "x".repeat(2000));
        assert_eq!(read("`guard`", long.as_bytes()), Ok(HookReply::veto("x".repeat(500) + "…")));
        let replaced = read("`guard`", br#"{"reply":"replace","event":{"hook":"before_agent_run","session":"s","input":"new"}}"#);
        assert!(matches!(replaced, Ok(HookReply::Replace { .. })), "{replaced:?}");
        for (answer, what) in [
            ("ok", "what is no reply (no JSON)"),
            (r#"{"reply":"continue"} {"reply":"continue"}"#, "what is no reply (no JSON)"),
            (r#"{"reply":"continue""#, "what is no reply (JSON that breaks off)"),
            (r#"{"reply":"veto"}"#, "what is no reply (JSON of another shape)"),
            (r#"{"reply":"perhaps"}"#, "a `reply` that is none of continue, veto and replace"),
            (r#"{"reply":"replace","event":{"hook":"nonsense"}}"#, "what is no reply (JSON of another shape)"),
        ] {
            assert_eq!(read("`guard`", answer.as_bytes()).unwrap_err().message(), format!("`guard` answered with {what}"), "{answer}");
        }
    }
}
