//! What a server has answered: its status and its body, as a reply.

use bespoke_configured_hooks::shown;
use bespoke_plugin_api::{
    Code, Error, HookReply, Result,
    bytes::Bytes,
    serde::{self, Deserialize},
    serde_json,
};

/// The body of a 403.
#[derive(Deserialize)]
#[serde(crate = "serde")]
struct No {
    reason: String,
}

pub(crate) fn read(name: &str, status: u16, body: Result<Bytes>) -> Result<HookReply> {
    let failed = |what: String| Err(Error::new(Code::PLUGIN_EXCEPTION, format!("the server of `{name}` {what}")));
    match status {
        200..300 => {}
        403 => {
            // A 403 without a reason may come from anything on the way, and is no answer to what was asked.
            return match body.ok().and_then(|body| serde_json::from_slice::<No>(&body).ok()) {
                Some(no) => Ok(HookReply::veto(shown(&no.reason))),
                None => failed("answered 403 without a reason".into()),
            };
        }
        status => return failed(format!("answered {status}")),
    }
    bespoke_configured_hooks::read(&format!("the server of `{name}`"), &body?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: u16, body: &'static str) -> Result<HookReply> {
        read("guard", status, Ok(Bytes::from_static(body.as_bytes())))
    }

    #[test]
    fn a_status_and_a_body_are_replies() {
        assert_eq!(said(200, ""), Ok(HookReply::Continue));
        assert_eq!(said(204, ""), Ok(HookReply::Continue));
        assert_eq!(said(202, " \r\n"), Ok(HookReply::Continue));
        assert_eq!(said(200, r#"{"reply":"continue"}"#), Ok(HookReply::Continue));
        assert_eq!(said(200, r#"{"reply":"veto","reason":"no\u001b[31m"}"#), Ok(HookReply::veto("no [31m")));
        assert_eq!(said(403, r#"{"reason":"not on Sundays","more":1}"#), Ok(HookReply::veto("not on Sundays")));
        let replaced = said(201, r#"{"reply":"replace","event":{"hook":"before_agent_run","session":"s","input":"new"}}"#);
        assert!(matches!(replaced, Ok(HookReply::Replace { .. })), "{replaced:?}");
    }

    #[test]
    fn what_is_no_reply_is_a_failure() {
        for (status, body, expected) in [
            (403, "", "answered 403 without a reason"),
            (403, "<html>Forbidden</html>", "answered 403 without a reason"),
            (403, r#"{"reason":7}"#, "answered 403 without a reason"),
            (401, "", "answered 401"),
            (302, "", "answered 302"),
            (500, r#"{"reply":"continue"}"#, "answered 500"),
            (199, "", "answered 199"),
            (200, "ok", "answered with what is no reply (no JSON)"),
            (200, r#"{"reply":"veto"}"#, "answered with what is no reply (JSON of another shape)"),
            (200, r#"{"reply":"continue""#, "answered with what is no reply (JSON that breaks off)"),
            (200, r#"{"reply":"perhaps"}"#, "answered with a `reply` that is none of continue, veto and replace"),
        ] {
            assert_eq!(said(status, body).unwrap_err().message(), format!("the server of `guard` {expected}"));
        }
        let long = read("guard", 200, Err(Error::new(Code::RESOURCE_EXHAUSTED, "the answer is longer than 4194304 bytes")));
        assert_eq!(long.unwrap_err().code(), Code::RESOURCE_EXHAUSTED);
    }
}
