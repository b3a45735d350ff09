//! Requests to the Bot API: how one is made, how long it may take, how much may come back, and that the token is in nothing that is told.

use std::{future::poll_fn, time::Duration};

use bespoke_plugin_api::{
    CallCx, Error, HttpReply, HttpRequest, PluginContext, Result,
    bytes::{Bytes, BytesMut},
    serde::de::DeserializeOwned,
    serde_json::{self, Value},
};

use crate::{
    api::{Answer, Update},
    config::check_token,
    failure::{Failure, Kind},
};

/// Most time until an answer begins that Telegram does not hold back.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most time that an answer may take once it has begun, and one with a file.
const READING: Duration = Duration::from_secs(30);
const READING_FILE: Duration = Duration::from_secs(120);
/// Most time that a file may take to get there.
const SENDING_FILE: Duration = Duration::from_secs(120);
/// Most bytes of an answer, and of one with messages: a hundred of the longest come to a tenth of it.
const LONGEST: usize = 1 << 20;
const LONGEST_UPDATES: usize = 8 << 20;

/// The Bot API, as one instance of the plugin sees it.
pub(crate) struct Client {
    cx: PluginContext,
    base: String,
    /// As the configuration has it; else it is a secret.
    token: Option<String>,
}

/// What is sent.
#[derive(Clone)]
pub(crate) enum Body {
    Json(Value),
    /// Its type and its bytes.
    Form(String, Bytes),
}

impl Client {
    pub(crate) fn new(cx: PluginContext, base: String, token: Option<String>) -> Self {
        Client { cx, base, token }
    }

    pub(crate) fn server(&self) -> &str {
        &self.base
    }

    /// The token, and the number of the bot in it.
    pub(crate) async fn token(&self) -> Result<(String, i64)> {
        let token = match &self.token {
            Some(token) => token.clone(),
            None => match self.cx.secret("token").await {
                Ok(token) => token.trim().to_owned(),
                Err(error) if error.data().is_some_and(|data| data.get("unset").is_some()) => {
                    let error = Error::invalid_params("there is no token, so there is no bot");
                    return Err(error.with_help("ask @BotFather for one with /newbot, then export TELEGRAM_TOKEN=…"));
                }
                Err(error) => return Err(error),
            },
        };
        let bot = check_token(&token)?;
        Ok((token, bot))
    }

    /// Calls a method.
    pub(crate) async fn call<T: DeserializeOwned>(&self, call: &CallCx, method: &str, body: Body) -> Result<T, Failure> {
        let patience = if matches!(body, Body::Form(..)) { SENDING_FILE } else { PATIENCE };
        let (token, mut reply) = self.ask(call, method, body, patience).await?;
        let (bytes, whole) = self.read(call, method, &token, &mut reply, LONGEST, READING).await?;
        let result = self.answer(method, &token, reply.status, &bytes, whole)?;
        let unfit = |e| Failure::passing(format!("{method}: {} answers with what is none of its answers: {e}", self.base));
        serde_json::from_value(result).map_err(unfit)
    }

    /// Asks for messages. What is no update as we know it stands there as its number alone.
    pub(crate) async fn updates(&self, call: &CallCx, ask: Value, wait: Duration) -> Result<Vec<Result<Update, i64>>, Failure> {
        let method = "getUpdates";
        let (token, mut reply) = self.ask(call, method, Body::Json(ask), wait + PATIENCE).await?;
        let (bytes, whole) = self.read(call, method, &token, &mut reply, LONGEST_UPDATES, READING).await?;
        match self.answer(method, &token, reply.status, &bytes, whole)? {
            Value::Array(all) => Ok(all.into_iter().filter_map(update).collect()),
            _ => Err(Failure::passing(format!("{method}: {} answers with no list", self.base))),
        }
    }

    /// Fetches a file of at most `limit` bytes by the path that `getFile` told.
    pub(crate) async fn download(&self, call: &CallCx, path: &str, limit: u64) -> Result<Bytes, Failure> {
        let (what, token) = ("the file", self.token().await.map_err(|e| Failure::new(Kind::Final, e))?.0);
        let path = path.trim_start_matches('/');
        if path.split('/').any(|part| part == "..")
            || path.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '?' | '#' | '\\'))
        {
            return Err(Failure::new(Kind::Refused { moved: None }, Error::invalid_params("the file has no path that can be asked for")));
        }
        let request = HttpRequest::new("GET", format!("{}/file/bot{token}/{path}", self.base)).timeout(PATIENCE);
        let mut reply = self.http(call, what, &token, request).await?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        if !reply.is_success() {
            let (bytes, whole) = self.read(call, what, &token, &mut reply, LONGEST, READING).await?;
            let refused = self.answer(what, &token, reply.status, &bytes, whole).err();
            return Err(refused.unwrap_or_else(|| Failure::passing(format!("{what}: the answer has the status {}", reply.status))));
        }
        match self.read(call, what, &token, &mut reply, limit, READING_FILE).await? {
            (bytes, true) => Ok(bytes),
            (_, false) => Err(Failure::too_large(format!("the file is larger than {limit} bytes"))),
        }
    }

    async fn ask(&self, call: &CallCx, method: &str, body: Body, patience: Duration) -> Result<(String, HttpReply), Failure> {
        let (token, _) = self.token().await.map_err(|e| Failure::new(Kind::Final, e))?;
        let (content_type, body) = match body {
            Body::Json(value) => ("application/json".to_owned(), Bytes::from(value.to_string())),
            Body::Form(content_type, body) => (content_type, body),
        };
        let url = format!("{}/bot{token}/{method}", self.base);
        let request = HttpRequest::new("POST", url).header("content-type", content_type).body(body).timeout(patience);
        let reply = self.http(call, method, &token, request).await?;
        Ok((token, reply))
    }

    async fn http(&self, call: &CallCx, method: &str, token: &str, request: HttpRequest) -> Result<HttpReply, Failure> {
        match call.unless_cancelled(self.cx.http(request)).await {
            Err(_) => Err(Failure::cancelled()),
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(e)) => Err(Failure::unreachable(&self.base, method, &without(token, &e))),
        }
    }

    /// The body, up to so many bytes, and whether that is all of it.
    async fn read(
        &self,
        call: &CallCx,
        method: &str,
        token: &str,
        reply: &mut HttpReply,
        limit: usize,
        time: Duration,
    ) -> Result<(Bytes, bool), Failure> {
        let mut all = BytesMut::new();
        let reading = async {
            while let Some(piece) = poll_fn(|cx| reply.body.as_mut().poll_next(cx)).await {
                let piece = piece?;
                let room = limit - all.len();
                all.extend_from_slice(&piece[..piece.len().min(room)]);
                if piece.len() > room {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        match self.cx.within(call, time, reading).await {
            Ok(Some(Ok(whole))) => Ok((all.freeze(), whole)),
            Ok(Some(Err(e))) => {
                let e: Error = without(token, &e);
                Err(Failure::passing(format!("{method}: the answer of {} broke off: {}", self.base, e.message())))
            }
            Err(_) => Err(Failure::cancelled()),
            Ok(None) => Err(Failure::passing(format!("{method}: the answer of {} took longer than {} s", self.base, time.as_secs()))),
        }
    }

    /// What an answer says.
    fn answer(&self, method: &str, token: &str, status: u16, bytes: &[u8], whole: bool) -> Result<Value, Failure> {
        let unreadable = |what: &str| {
            let message = format!("{method}: {} answers with {what} (status {status})", self.base);
            match status {
                // What stands between us and Telegram says it in its own words.
                500.. => Failure::passing(message),
                200..300 => {
                    let failure = Failure::passing(message);
                    Failure::new(Kind::Unreadable { first: first_update(bytes) }, failure.error)
                }
                _ => {
                    let answer = Answer { ok: false, result: Value::Null, error_code: None, description: None, parameters: None };
                    Failure::refused(&self.base, method, status, &answer)
                }
            }
        };
        if !whole {
            return Err(unreadable(&format!("more than {} bytes", bytes.len())));
        }
        let mut answer: Answer =
            serde_json::from_slice(bytes).map_err(|e| unreadable(&format!("what is no answer of the Bot API: {e}")))?;
        if answer.ok && (200..300).contains(&status) {
            return Ok(answer.result);
        }
        answer.description = answer.description.map(|text| shown(&text.replace(token, "***")));
        Err(Failure::refused(&self.base, method, status, &answer))
    }
}

/// An update, or the number of one that is none as we know it; what has no number is nothing.
fn update(value: Value) -> Option<Result<Update, i64>> {
    let number = value.get("update_id").and_then(Value::as_i64)?;
    Some(serde_json::from_value(value).map_err(|_| number))
}

/// The number of the first update in an answer that cannot be read to its end.
fn first_update(bytes: &[u8]) -> Option<i64> {
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(256)]);
    let (_, after) = head.split_once("\"update_id\"")?;
    let digits = after.trim_start().strip_prefix(':')?.trim_start();
    let end = digits.find(|c: char| !c.is_ascii_digit())?;
    digits[..end].parse().ok()
}

/// The beginning of what somebody else says, on one line.
fn shown(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match line.char_indices().nth(300) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

/// An error without the token, which stands in the address that was asked.
fn without(token: &str, e: &Error) -> Error {
    let cleaned = Error::new(e.code(), e.message().replace(token, "***"));
    let cleaned = e.help().map_or(cleaned.clone(), |help| cleaned.with_help(help.replace(token, "***")));
    let cleaned = e.data().map_or(cleaned.clone(), |data| cleaned.with_data(data.clone()));
    if e.is_retryable() { cleaned.retryable() } else { cleaned }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_update_is_seen_in_what_cannot_be_read() {
        for (text, first) in [
            (r#"{"ok":true,"result":[{"update_id":12,"message":{"#, Some(12)),
            (r#"{"ok":true,"result":[{ "update_id" : 12 }, {"update_id":13"#, Some(12)),
            (r#"{"ok":true,"result":[{"update_id":12"#, None),
            (r#"{"ok":true,"result":[{"update_id":"x"}"#, None),
            ("<html>502</html>", None),
            ("", None),
        ] {
            assert_eq!(first_update(text.as_bytes()), first, "{text}");
        }
    }

    #[test]
    fn what_is_shown_is_short_and_on_one_line() {
        assert_eq!(shown("a\nb\u{1b}[31m"), "a b [31m");
        assert_eq!(shown(&"é".repeat(1_000)).chars().count(), 301);
    }
}
