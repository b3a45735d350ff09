//! Answers out: what is sent, and what each answer of the service means.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bespoke_channel_webhook::BESPOKE_PLUGIN;
use bespoke_plugin_api::{
    Attachment, CallCx, Code, Contribution, Error, HttpReply, HttpRequest, HttpResponse, MessageRef, Outbound, Result,
    bytes::Bytes,
    serde_json::{Value, from_slice, json},
};
use bespoke_plugin_testkit::{TestHost, block_on};
use bespoke_signed::{SIGNATURE, TIMESTAMP};
use futures_core::Stream;

use crate::world::{KEY, World};

/// The service answers so; what it was asked is kept.
fn answers(world: &World, answer: impl Fn() -> Result<HttpResponse> + Send + Sync + 'static) -> Arc<Mutex<Vec<HttpRequest>>> {
    let seen = Arc::<Mutex<Vec<HttpRequest>>>::default();
    let kept = seen.clone();
    world.host.on_http(move |request| {
        kept.lock().unwrap().push(request);
        answer()
    });
    seen
}

fn header<'a>(request: &'a HttpRequest, name: &str) -> Option<&'a str> {
    request.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
}

#[test]
fn an_answer_is_sent_signed_and_with_its_key() {
    let world = World::new();
    let seen = answers(&world, || Ok(HttpResponse::new(201).body(r#"{"id":"m-7"}"#.into())));
    let note = Attachment::voice("audio/ogg", vec![0, 255, 3]).name("answer.ogg".into());
    let message = Outbound::new("room", "Hi!").idempotency_key("out:17".into()).reply_to("1".into()).attachments(vec![note]);
    assert_eq!(world.send(message), Ok(MessageRef::new("room", "m-7")));
    let seen = seen.lock().unwrap();
    let [request] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!((request.method.as_str(), request.url.as_str()), ("POST", "https://example.com/answers?key=s3cret"));
    assert_eq!((header(request, "idempotency-key"), header(request, "content-type")), (Some("out:17"), Some("application/json")));
    let (timestamp, signature) = (header(request, TIMESTAMP).unwrap(), header(request, SIGNATURE).unwrap());
    let window = std::time::Duration::from_secs(300);
    assert_eq!(bespoke_signed::verify(KEY.as_bytes(), timestamp, signature, &request.body, world.second(), window), Ok(()));
    assert_eq!(
        from_slice::<Value>(&request.body).unwrap(),
        json!({
            "chat": "room", "text": "Hi!", "idempotency_key": "out:17", "reply_to": "1",
            "attachments": [{ "name": "answer.ogg", "mime": "audio/ogg", "voice": true, "data": "AP8D" }],
        })
    );
}

#[test]
fn a_delivery_has_the_id_that_the_service_gives_or_the_key() {
    let world = World::new();
    let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(300));
    for (body, key, id) in [
        (r#"{"id":"a"}"#, Some("k"), "a"),
        ("", Some("k"), "k"),
        ("ok", None, ""),
        (r#"{"id":7}"#, Some("k"), "k"),
        (long.as_str(), Some("k"), "k"),
        (&" ".repeat(100_000), Some("k"), "k"),
        ("", Some("no header\n"), "no header\n"),
    ] {
        let body = body.to_owned();
        let seen = answers(&world, move || Ok(HttpResponse::new(200).body(body.clone().into())));
        let mut message = Outbound::new("room", "Hi!");
        message.idempotency_key = key.map(str::to_owned);
        assert_eq!(world.send(message), Ok(MessageRef::new("room", id)));
        assert_eq!(header(&seen.lock().unwrap()[0], "idempotency-key"), key.filter(|key| !key.contains(' ')));
    }
}

#[test]
fn a_service_that_goes_on_talking_has_the_message() {
    let world = World::new();
    world.host.on_http_later(|_| {
        let endless = Box::pin(Endless);
        Box::pin(std::future::ready(Ok(HttpReply::new(200, Vec::new(), endless))))
    });
    let message = Outbound::new("room", "Hi!").idempotency_key("k".into());
    assert_eq!(world.send(message), Ok(MessageRef::new("room", "k")));
}

/// A body that never comes.
struct Endless;

impl Stream for Endless {
    type Item = Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Pending
    }
}

#[test]
fn what_may_work_later_is_retryable_and_the_rest_is_not() {
    let world = World::new();
    for (status, retry_after, retryable, pause) in [
        (500, None, true, None),
        (503, Some("7"), true, Some(7_000)),
        (429, Some("120"), true, Some(120_000)),
        (429, Some("soon"), true, None),
        (429, Some("86400"), true, Some(3_600_000)),
        (408, None, true, None),
        (400, Some("7"), false, None),
        (401, None, false, None),
        (404, None, false, None),
        (410, None, false, None),
        (302, None, false, None),
        (199, None, false, None),
    ] {
        answers(&world, move || {
            let response = HttpResponse::new(status).body("s3cret words of the service".into());
            Ok(retry_after.map_or(response.clone(), |value| response.header("retry-after", value)))
        });
        let error = world.send(Outbound::new("room", "Hi!")).unwrap_err();
        assert_eq!((error.is_retryable(), error.message()), (retryable, format!("the service of the webhook answered {status}").as_str()));
        assert_eq!(error.data().and_then(|data| data["retry_after_ms"].as_u64()), pause, "{status}");
        // Whoever sends again looks at the code, too.
        assert_eq!(error.code() == Code::NETWORK_FAILED, retryable, "{status}");
        assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
    }
    answers(&world, || Err(Error::new(Code::NETWORK_FAILED, "example.com could not be reached").retryable()));
    assert!(world.send(Outbound::new("room", "Hi!")).unwrap_err().is_retryable());
}

#[test]
fn without_an_address_or_a_key_nothing_leaves() {
    let world = World::quiet();
    let seen = answers(&world, || Ok(HttpResponse::new(200)));
    let error = world.send(Outbound::new("room", "Hi!")).unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::INVALID_PARAMS, "there is no signing key for the webhook"));
    assert!(seen.lock().unwrap().is_empty());

    let host = TestHost::new();
    host.set_secret("signing_key", KEY);
    let instance = block_on(BESPOKE_PLUGIN.start(host.context("webhook"), json!({}))).unwrap();
    assert!(instance.life.health().reason().unwrap().contains("bespoke config set plugins.webhook.url"));
    let Some(Contribution::Channel(_, channel)) = instance.contributions.first() else { panic!("{instance:?}") };
    let error = block_on(channel.send(&CallCx::new(), Outbound::new("room", "Hi!"))).unwrap_err();
    assert!(error.message().contains("answers have nowhere to go") && !error.is_retryable());

    for (config, path) in [
        (json!({ "url": "ftp://example.com/s3cret" }), "url"),
        (json!({ "url": "https://u:s3cret@example.com/" }), "url"),
        (json!({ "url": "example.com/s3cret" }), "url"),
        (json!({ "url": "https:// s3cret" }), "url"),
        (json!({ "url": "https://:80/s3cret" }), "url"),
        (json!({ "timeout_ms": 9 }), "timeout_ms"),
    ] {
        // Where the configuration is checked, before anything runs.
        let error = BESPOKE_PLUGIN.check(&config).unwrap_err();
        assert_eq!(error.data().unwrap()["path"], path);
        assert!(!error.message().contains("s3cret"));
        assert_eq!(block_on(BESPOKE_PLUGIN.start(TestHost::new().context("webhook"), config)).unwrap_err().message(), error.message());
    }
}
