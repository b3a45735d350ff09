//! Answers that go out: signed, with a key by which the service knows one that is sent again.

use std::{
    future::poll_fn,
    pin::pin,
    task::Poll,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bespoke_plugin_api::{
    Code, Error, HttpReply, HttpRequest, MessageRef, Outbound, Result,
    serde_json::{self, Value, json},
};
use bespoke_signed::{SIGNATURE, TIMESTAMP, sign};

use crate::{
    plugin::{Core, NO_URL},
    wire,
};

/// Bytes of what a service says of a delivery; only its id is wanted.
const MOST_REPLY: usize = 64 << 10;
/// Characters of the id that a service gives a message.
const MOST_ID: usize = 256;
/// The longest pause that a service may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// Delivers a message.
///
/// # Errors
/// Retryable ones where the service was not reached, was late, or says so by 408, 425, 429 or 5xx; the pause that it asks for is
/// `retry_after_ms` in their data.
pub(crate) async fn send(core: &Core, message: Outbound) -> Result<MessageRef> {
    let url = core.config.url.as_ref().ok_or_else(|| Error::invalid_params(NO_URL))?;
    let key = core.key().await?;
    let (chat, idempotency_key) = (message.chat.clone(), message.idempotency_key.clone());
    let body = wire::answer(message).map_err(|error| Error::internal(format!("the answer is no JSON: {error}")))?;
    let second = core.second();
    let mut request = HttpRequest::new("POST", url)
        .header("content-type", "application/json")
        .header(TIMESTAMP, second.to_string())
        .header(SIGNATURE, sign(key.as_bytes(), second, &body))
        .timeout(core.config.timeout());
    // What cannot stand in a header is in the body, as any key is.
    if let Some(key) = idempotency_key.as_ref().filter(|key| !key.is_empty() && key.bytes().all(|b| b.is_ascii_graphic())) {
        request = request.header("idempotency-key", key);
    }
    let mut reply = core.cx.http(request.body(body.into())).await?;
    if !reply.is_success() {
        return Err(refused(core, &reply));
    }
    let mut naming = pin!(id_of(&mut reply));
    let mut patience = core.cx.sleep(core.config.timeout());
    // It is delivered: a service that goes on talking must not have it sent once more.
    let named = poll_fn(|task| match naming.as_mut().poll(task) {
        Poll::Pending => patience.as_mut().poll(task).map(|()| None),
        named => named,
    });
    let id = named.await.or(idempotency_key).unwrap_or_default();
    Ok(MessageRef::new(chat, id))
}

/// The id that the service gave the message, if it did. It is delivered whatever becomes of this.
async fn id_of(reply: &mut HttpReply) -> Option<String> {
    let body = reply.read(MOST_REPLY).await.ok()?;
    let said: Value = serde_json::from_slice(&body).ok()?;
    let id = said.get("id")?.as_str()?;
    (!id.is_empty() && id.chars().count() <= MOST_ID).then(|| id.to_owned())
}

fn refused(core: &Core, reply: &HttpReply) -> Error {
    let status = reply.status;
    let message = format!("the service of the webhook answered {status}");
    if !matches!(status, 408 | 425 | 429 | 500..) {
        return Error::new(Code::INVALID_REQUEST, message).with_help("see why the address in plugins.webhook.url does not take it");
    }
    let error = Error::new(Code::NETWORK_FAILED, message).retryable();
    match reply.header("retry-after").and_then(|value| pause(value, core.second())) {
        Some(pause) => error.with_data(json!({ "retry_after_ms": u64::try_from(pause.as_millis()).unwrap_or(u64::MAX) })),
        None => error,
    }
}

/// What `Retry-After` says: seconds, or a date.
fn pause(value: &str, now: u64) -> Option<Duration> {
    let value = value.trim();
    let pause = match value.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = httpdate::parse_http_date(value).ok()?;
            let now = UNIX_EPOCH + Duration::from_secs(now);
            SystemTime::duration_since(&at, now).unwrap_or_default()
        }
    };
    Some(pause.min(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_seconds_or_a_date() {
        let now = 784_111_777; // Sun, 06 Nov 1994 08:49:37 GMT
        let ms = |value| pause(value, now).map(|pause| pause.as_millis());
        assert_eq!(ms("7"), Some(7_000));
        assert_eq!(ms(" 0 "), Some(0));
        assert_eq!(ms("99999999"), Some(3_600_000));
        assert_eq!(ms("Sun, 06 Nov 1994 08:49:47 GMT"), Some(10_000));
        assert_eq!(ms("Sun, 06 Nov 1994 08:49:07 GMT"), Some(0));
        for none in ["", "soon", "-1", "1.5"] {
            assert_eq!(ms(none), None, "{none}");
        }
    }
}
