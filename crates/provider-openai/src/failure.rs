//! What a server says when it refuses, in words of this program: code, one sentence, and the command that would help. Pure.

use bespoke_plugin_api::{Code, Error, serde_json::Value};
use http::{StatusCode, Uri};

/// Most characters of what a server said that are shown.
const SHOWN: usize = 200;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Models,
    Chat,
    Transcribe,
    Speak,
    Embed,
}

impl Op {
    /// Behind the base address.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Op::Models => "/models",
            Op::Chat => "/chat/completions",
            Op::Transcribe => "/audio/transcriptions",
            Op::Speak => "/audio/speech",
            Op::Embed => "/embeddings",
        }
    }

    pub(crate) fn method(self) -> &'static str {
        if self == Op::Models { "GET" } else { "POST" }
    }

    /// The code of a failure that has none of its own.
    pub(crate) fn failed(self) -> Code {
        match self {
            Op::Models | Op::Chat | Op::Embed => Code::LLM_COMPLETION_FAILED,
            Op::Transcribe => Code::STT_TRANSCRIPTION_FAILED,
            Op::Speak => Code::TTS_SYNTHESIS_FAILED,
        }
    }

    /// The key of the configuration that names its model.
    fn model_key(self) -> &'static str {
        match self {
            Op::Models | Op::Chat => "model",
            Op::Transcribe => "stt_model",
            Op::Speak => "tts_model",
            Op::Embed => "embedding_model",
        }
    }
}

/// What a server says is wrong, in the shapes that are about: `{"error": {"message": …}}`, `{"error": "…"}`, `{"message": …}`,
/// `{"detail": …}`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Complaint {
    pub(crate) message: String,
    /// `code` and `type`, as far as they are words.
    words: Vec<String>,
    /// `code`, if it is a status.
    pub(crate) status: Option<u16>,
}

impl Complaint {
    /// What an object complains of, if it does.
    pub(crate) fn of(value: &Value) -> Option<Self> {
        let inner = match value.get("error") {
            None | Some(Value::Null) => {
                ["message", "detail"].iter().find_map(|key| value.get(key)).filter(|_| value.get("choices").is_none())?
            }
            Some(inner) => inner,
        };
        let message = match inner {
            Value::String(text) => text.clone(),
            Value::Object(fields) => match fields.get("message") {
                Some(Value::String(text)) => text.clone(),
                _ => inner.to_string(),
            },
            other => other.to_string(),
        };
        let field = |key: &str| inner.get(key);
        let words = ["code", "type"].into_iter().filter_map(|key| Some(field(key)?.as_str()?.to_owned())).collect();
        let status = field("code").and_then(Value::as_u64).and_then(|n| u16::try_from(n).ok()).filter(|n| (400..600).contains(n));
        Some(Complaint { message, words, status })
    }

    fn says(&self, word: &str) -> bool {
        self.words.iter().any(|w| w.contains(word))
    }
}

/// Whether the same request may be sent again by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    Yes,
    No,
}

/// What a refusal comes to.
pub(crate) struct Refusal<'a> {
    pub(crate) op: Op,
    pub(crate) url: &'a str,
    /// `None` for a complaint in the middle of an answer that began well.
    pub(crate) status: Option<u16>,
    /// What it said, as text, already without secrets.
    pub(crate) text: &'a str,
    pub(crate) complaint: Option<&'a Complaint>,
    /// Where a redirect leads.
    pub(crate) location: Option<&'a str>,
    /// Whether a key was sent.
    pub(crate) keyed: bool,
    /// Ids of models that the server is known to have.
    pub(crate) known: &'a [String],
}

impl Refusal<'_> {
    /// As an error, and whether to try again.
    pub(crate) fn explain(&self) -> (Error, Again) {
        let status = self.status.or(self.complaint.and_then(|c| c.status)).unwrap_or(0);
        let says = |word| self.complaint.is_some_and(|c| c.says(word));
        let lower = self.text.to_lowercase();
        let error = |code| Error::new(code, self.sentence());
        let failed = self.op.failed();
        if (300..400).contains(&status) {
            let help = "bespoke config set plugins.openai.base_url URL";
            return (error(failed).with_help(help), Again::No);
        }
        match status {
            401 => return (error(failed).with_help(self.key_help()), Again::No),
            403 => {
                return (
                    error(failed).with_help(format!("ask who runs the server what this key may do, or {}", self.key_help())),
                    Again::No,
                );
            }
            429 if says("insufficient_quota") => {
                return (error(Code::LLM_RATE_LIMITED).with_help("the account behind OPENAI_API_KEY has no credit left"), Again::No);
            }
            429 => return (error(Code::LLM_RATE_LIMITED).retryable(), Again::Yes),
            _ => {}
        }
        if says("rate_limit") {
            return (error(Code::LLM_RATE_LIMITED).retryable(), Again::Yes);
        }
        let too_long =
            says("context_length") || says("exceed_context") || lower.contains("context length") || lower.contains("context size");
        if self.op == Op::Chat && too_long && status < 500 {
            return (error(Code::LLM_CONTEXT_TOO_LONG).with_help("begin a new session, or lower agent.history_tokens"), Again::No);
        }
        if status == 413 {
            return (error(Code::RESOURCE_EXHAUSTED).with_help("send less at once"), Again::No);
        }
        if self.op == Op::Speak && (400..500).contains(&status) && lower.contains("voice") {
            return (error(Code::TTS_VOICE_NOT_FOUND).with_help("bespoke config set plugins.openai.voice NAME"), Again::No);
        }
        let model_unknown =
            says("model_not_found") || matches!(status, 400 | 404) && lower.contains("model") && self.model_is_unknown(&lower);
        if model_unknown {
            return (error(Code::LLM_MODEL_NOT_AVAILABLE).with_help(self.model_help()), Again::No);
        }
        match status {
            404 | 405 => {
                let message = "is the address right? bespoke config set plugins.openai.base_url URL";
                (error(failed).with_help(message), Again::No)
            }
            408 | 500 | 502..=504 | 506..600 => (error(failed).retryable(), Again::Yes),
            0 if says("server_error") || says("overloaded") => (error(failed).retryable(), Again::Yes),
            _ => (error(failed), Again::No),
        }
    }

    fn model_is_unknown(&self, lower: &str) -> bool {
        ["not found", "does not exist", "not exist", "unknown", "no such", "not available", "invalid model"]
            .iter()
            .any(|w| lower.contains(w))
    }

    fn sentence(&self) -> String {
        let Refusal { url, .. } = self;
        let said = match self.complaint {
            Some(complaint) => shown(&complaint.message),
            None => shown(self.text),
        };
        let Some(status) = self.status else { return format!("{url} ended its answer with an error: {said}") };
        let name = StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).map_or(String::new(), |name| format!(" {name}"));
        if (300..400).contains(&status) {
            let to = match self.location.map(|location| location.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_owned))) {
                Some(Some(host)) => format!("to the host `{}`", shown(&host)),
                Some(None) => "to another path".to_owned(),
                None => "without saying where".to_owned(),
            };
            return format!("{url} answered {status}{name}: it redirects {to}, and redirects are not followed");
        }
        if said.is_empty() { format!("{url} answered {status}{name}") } else { format!("{url} answered {status}{name}: {said}") }
    }

    fn key_help(&self) -> &'static str {
        if self.keyed { "export OPENAI_API_KEY=… with a key that the server takes" } else { "export OPENAI_API_KEY=…; no key was sent" }
    }

    fn model_help(&self) -> String {
        let set = format!("bespoke config set plugins.openai.{} NAME", self.op.model_key());
        match self.known {
            [] => set,
            known => {
                let some: Vec<_> = known.iter().take(12).map(String::as_str).collect();
                let more = if known.len() > some.len() { ", …" } else { "" };
                format!("{set}; the server has {}{more}", some.join(", "))
            }
        }
    }
}

/// The beginning of a text on one line.
pub(crate) fn shown(text: &str) -> String {
    let mut line = String::new();
    // Bounded before it is joined: a page may be long.
    let head: String = text.chars().filter(|c| !c.is_control() || c.is_whitespace()).take(4 * SHOWN).collect();
    for word in head.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    match line.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

/// A text without secrets. Very short values are none, and would tear words apart.
pub(crate) fn redacted(text: &str, secrets: &[String]) -> String {
    let known = secrets.iter().filter(|secret| secret.len() >= 4);
    known.fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
}

#[cfg(test)]
mod tests {
    use bespoke_plugin_api::serde_json::json;
    use expect_test::expect;

    use super::*;

    fn explained(op: Op, status: Option<u16>, text: &str, location: Option<&str>) -> String {
        let value = bespoke_plugin_api::serde_json::from_str::<Value>(text).ok();
        let complaint = value.as_ref().and_then(Complaint::of);
        let known = ["a".to_owned(), "b".to_owned()];
        let refusal =
            Refusal { op, url: "http://h/v1/x", status, text, complaint: complaint.as_ref(), location, keyed: false, known: &known };
        let (error, again) = refusal.explain();
        assert_eq!(again == Again::Yes, error.is_retryable());
        format!("{}{} {error} -> {}\n", error.kind(), if error.is_retryable() { " (again)" } else { "" }, error.help().unwrap_or("-"))
    }

    #[test]
    fn refusals_are_told_with_the_command_that_helps() {
        let mut all = String::new();
        for (op, status, text) in [
            (Op::Chat, 400, r#"{"error":{"message":"temperature is out of range","type":"invalid_request_error","code":null}}"#),
            (
                Op::Chat,
                400,
                r#"{"error":{"code":400,"message":"request (9000 tokens) exceeds the available context size (2048 tokens)","type":"exceed_context_size_error"}}"#,
            ),
            (Op::Chat, 401, r#"{"error":{"message":"Incorrect API key provided"}}"#),
            (Op::Chat, 403, ""),
            (Op::Chat, 404, r#"{"error":{"message":"The model `m` does not exist","code":"model_not_found"}}"#),
            (Op::Chat, 404, r#"{"error":"model 'm' not found"}"#),
            (Op::Chat, 404, "<html><body><h1>404 Not Found</h1></body></html>"),
            (Op::Chat, 408, ""),
            (Op::Chat, 413, ""),
            (Op::Chat, 429, r#"{"error":{"message":"slow down","type":"requests"}}"#),
            (Op::Chat, 429, r#"{"error":{"message":"You exceeded your current quota","code":"insufficient_quota"}}"#),
            (Op::Chat, 500, "boom"),
            (Op::Chat, 501, r#"{"detail":"not here"}"#),
            (Op::Chat, 503, r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#),
            (Op::Speak, 400, r#"{"error":{"message":"unknown voice x"}}"#),
            (Op::Transcribe, 404, r#"{"error":{"message":"no such model"}}"#),
            (Op::Embed, 422, r#"{"detail":[{"loc":["input"]}]}"#),
        ] {
            all += &explained(op, Some(status), text, None);
        }
        all += &explained(Op::Chat, Some(302), "", Some("http://169.254.169.254/latest"));
        all += &explained(Op::Chat, Some(307), "", Some("/v2/x"));
        all += &explained(Op::Chat, Some(301), "", None);
        all += &explained(Op::Chat, None, r#"{"error":{"message":"overloaded","type":"overloaded_error"}}"#, None);
        all += &explained(Op::Chat, None, r#"{"error":{"message":"bad gateway","code":502}}"#, None);
        all += &explained(Op::Chat, None, r#"{"error":{"message":"no"}}"#, None);
        expect![[r#"
            LLM_COMPLETION_FAILED http://h/v1/x answered 400 Bad Request: temperature is out of range -> -
            LLM_CONTEXT_TOO_LONG http://h/v1/x answered 400 Bad Request: request (9000 tokens) exceeds the available context size (2048 tokens) -> begin a new session, or lower agent.history_tokens
            LLM_COMPLETION_FAILED http://h/v1/x answered 401 Unauthorized: Incorrect API key provided -> export OPENAI_API_KEY=…; no key was sent
            LLM_COMPLETION_FAILED http://h/v1/x answered 403 Forbidden -> ask who runs the server what this key may do, or export OPENAI_API_KEY=…; no key was sent
            LLM_MODEL_NOT_AVAILABLE http://h/v1/x answered 404 Not Found: The model `m` does not exist -> bespoke config set plugins.openai.model NAME; the server has a, b
            LLM_MODEL_NOT_AVAILABLE http://h/v1/x answered 404 Not Found: model 'm' not found -> bespoke config set plugins.openai.model NAME; the server has a, b
            LLM_COMPLETION_FAILED http://h/v1/x answered 404 Not Found: <html><body><h1>404 Not Found</h1></body></html> -> is the address right? bespoke config set plugins.openai.base_url URL
            LLM_COMPLETION_FAILED (again) http://h/v1/x answered 408 Request Timeout -> -
            RESOURCE_EXHAUSTED http://h/v1/x answered 413 Payload Too Large -> send less at once
            LLM_RATE_LIMITED (again) http://h/v1/x answered 429 Too Many Requests: slow down -> -
            LLM_RATE_LIMITED http://h/v1/x answered 429 Too Many Requests: You exceeded your current quota -> the account behind OPENAI_API_KEY has no credit left
            LLM_COMPLETION_FAILED (again) http://h/v1/x answered 500 Internal Server Error: boom -> -
            LLM_COMPLETION_FAILED http://h/v1/x answered 501 Not Implemented: not here -> -
            LLM_COMPLETION_FAILED (again) http://h/v1/x answered 503 Service Unavailable: Loading model -> -
            TTS_VOICE_NOT_FOUND http://h/v1/x answered 400 Bad Request: unknown voice x -> bespoke config set plugins.openai.voice NAME
            LLM_MODEL_NOT_AVAILABLE http://h/v1/x answered 404 Not Found: no such model -> bespoke config set plugins.openai.stt_model NAME; the server has a, b
            LLM_COMPLETION_FAILED http://h/v1/x answered 422 Unprocessable Entity: [{"loc":["input"]}] -> -
            LLM_COMPLETION_FAILED http://h/v1/x answered 302 Found: it redirects to the host `169.254.169.254`, and redirects are not followed -> bespoke config set plugins.openai.base_url URL
            LLM_COMPLETION_FAILED http://h/v1/x answered 307 Temporary Redirect: it redirects to another path, and redirects are not followed -> bespoke config set plugins.openai.base_url URL
            LLM_COMPLETION_FAILED http://h/v1/x answered 301 Moved Permanently: it redirects without saying where, and redirects are not followed -> bespoke config set plugins.openai.base_url URL
            LLM_COMPLETION_FAILED (again) http://h/v1/x ended its answer with an error: overloaded -> -
            LLM_COMPLETION_FAILED (again) http://h/v1/x ended its answer with an error: bad gateway -> -
            LLM_COMPLETION_FAILED http://h/v1/x ended its answer with an error: no -> -
        "#]].assert_eq(&all);
    }

    #[test]
    fn an_answer_is_no_complaint() {
        for value in [json!({ "choices": [] }), json!({ "error": null, "choices": [] }), json!({}), json!([1]), json!("message")] {
            assert_eq!(Complaint::of(&value), None, "{value}");
        }
    }

    #[test]
    fn what_is_shown_is_short_on_one_line_and_without_secrets() {
        assert_eq!(shown("a\r\n\tb\u{1b}[31m  c"), "a b[31m c");
        assert_eq!(shown(&"ä".repeat(1000)).chars().count(), SHOWN + 1);
        assert_eq!(redacted("the key sk-secret is sk-secret", &["sk-secret".into(), "e".into()]), "the key *** is ***");
    }
}
