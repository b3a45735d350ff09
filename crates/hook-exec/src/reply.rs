//! What a program has answered: its exit code, its output and its errors, as a reply.

use bespoke_configured_hooks::{MOST_ANSWER, shown};
use bespoke_plugin_api::{Code, Error, HookReply, Result};

/// What became of a program.
#[derive(Debug)]
pub(crate) struct Said {
    /// Its exit code; none when a signal ended it.
    pub(crate) code: Option<i32>,
    /// Its output; none when there was too much of it.
    pub(crate) stdout: Option<Vec<u8>>,
    /// The beginning of its errors.
    pub(crate) stderr: String,
}

/// The exit code that is a veto.
const VETO: i32 = 2;

pub(crate) fn read(name: &str, said: Said) -> Result<HookReply> {
    let failed = |what: String| Err(Error::new(Code::PLUGIN_EXCEPTION, format!("`{name}` {what}")));
    match said.code {
        Some(0) => {}
        Some(VETO) => {
            let reason = first_line(&said.stderr);
            return Ok(HookReply::veto(if reason.is_empty() { format!("refused by `{name}`") } else { reason }));
        }
        Some(code) => return failed(with(format!("ended with exit code {code}"), &first_line(&said.stderr))),
        None => return failed(with("was ended by a signal".into(), &first_line(&said.stderr))),
    }
    let Some(output) = said.stdout else { return failed(format!("answered with more than {MOST_ANSWER} bytes")) };
    bespoke_configured_hooks::read(&format!("`{name}`"), &output)
}

fn with(what: String, why: &str) -> String {
    if why.is_empty() { what } else { format!("{what}: {why}") }
}

fn first_line(text: &str) -> String {
    shown(text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: Option<i32>, stdout: &str, stderr: &str) -> Result<HookReply> {
        read("guard", Said { code, stdout: Some(stdout.as_bytes().to_vec()), stderr: stderr.into() })
    }

    #[test]
    fn codes_and_output_are_replies() {
        assert_eq!(said(Some(0), "", "chatter"), Ok(HookReply::Continue));
        assert_eq!(said(Some(0), " \n", ""), Ok(HookReply::Continue));
        assert_eq!(said(Some(0), r#"{"reply":"continue"}"#, ""), Ok(HookReply::Continue));
        assert_eq!(said(Some(0), r#"{"reply":"veto","reason":"no\u001b[31m"}"#, ""), Ok(HookReply::veto("no [31m")));
        assert_eq!(said(Some(2), r#"{"reply":"continue"}"#, "\n not on Sundays \nmore"), Ok(HookReply::veto("not on Sundays")));
        assert_eq!(said(Some(2), "", ""), Ok(HookReply::veto("refused by `guard`")));
        assert_eq!(said(Some(2), "", &"x".repeat(2000)), Ok(HookReply::veto("x".repeat(500) + "…")));
        let replaced = said(Some(0), r#"{"reply":"replace","event":{"hook":"before_agent_run","session":"s","input":"new"}}"#, "");
        assert!(matches!(replaced, Ok(HookReply::Replace { .. })), "{replaced:?}");
    }

    #[test]
    fn what_is_no_reply_is_a_failure() {
        for (code, stdout, stderr, expected) in [
            (Some(1), "", "boom\nmore", "`guard` ended with exit code 1: boom"),
            (Some(127), "", "", "`guard` ended with exit code 127"),
            (None, "", "", "`guard` was ended by a signal"),
            (Some(0), "ok", "", "`guard` answered with what is no reply (no JSON)"),
            (Some(0), r#"{"reply":"continue"} {"reply":"continue"}"#, "", "`guard` answered with what is no reply (no JSON)"),
            (Some(0), r#"{"reply":"continue""#, "", "`guard` answered with what is no reply (JSON that breaks off)"),
            (Some(0), r#"{"reply":"veto"}"#, "", "`guard` answered with what is no reply (JSON of another shape)"),
            (Some(0), r#"{"reply":"perhaps"}"#, "", "`guard` answered with a `reply` that is none of continue, veto and replace"),
            (
                Some(0),
                r#"{"reply":"replace","event":{"hook":"nonsense"}}"#,
                "",
                "`guard` answered with what is no reply (JSON of another shape)",
            ),
        ] {
            assert_eq!(said(code, stdout, stderr).unwrap_err().message(), expected);
        }
        let flood = read("guard", Said { code: Some(0), stdout: None, stderr: String::new() });
        assert_eq!(flood.unwrap_err().message(), "`guard` answered with more than 4194304 bytes");
    }
}
