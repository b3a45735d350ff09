//! Messages in: who is believed, and what each answer promises.

use bespoke_plugin_api::{
    Attachment, Code, Error, HttpRequest, Inbound,
    serde_json::{Value, from_slice, json},
};
use bespoke_signed::{SIGNATURE, TIMESTAMP, sign};

use crate::world::{KEY, World};

fn hello(id: &str) -> Value {
    json!({ "chat": "room", "sender": "ann", "id": id, "text": "Hello." })
}

#[test]
fn a_signed_message_is_taken_and_then_acknowledged() {
    let world = World::new();
    assert_eq!(world.post(&hello("1")), (202, json!({ "status": "accepted", "id": "1" })));
    let more = json!({
        "chat": "room", "sender": "ann", "id": "2", "text": "", "sender_name": "Ann", "later": true,
        "attachments": [
            { "name": "../../etc/note.ogg", "mime": "audio/ogg", "voice": true, "data": "AP8D" },
            { "name": "C:\\x\\..", "mime": "text/plain", "data": "" },
        ],
    });
    assert_eq!(world.post(&more).0, 202);
    let files = vec![Attachment::voice("audio/ogg", vec![0, 255, 3]).name("note.ogg".into()), Attachment::new("text/plain", vec![])];
    let second = Inbound::new("room", "ann", "2", "").sender_name("Ann".into()).attachments(files);
    assert_eq!(*world.taken.messages.lock().unwrap(), [Inbound::new("room", "ann", "1", "Hello."), second]);
}

#[test]
fn what_is_not_signed_now_with_the_key_is_not_read() {
    let world = World::new();
    let body = hello("1").to_string();
    let now = world.second();
    let with = |timestamp: String, signature: String, body: &str| {
        HttpRequest::new("POST", "/").header(TIMESTAMP, timestamp).header(SIGNATURE, signature).body(body.to_owned().into())
    };
    let at = |second: u64, key: &str| with(second.to_string(), sign(key.as_bytes(), second, body.as_bytes()), &body);
    for (what, request) in [
        ("no headers", HttpRequest::new("POST", "/").body(body.clone().into())),
        ("no signature", HttpRequest::new("POST", "/").header(TIMESTAMP, now.to_string()).body(body.clone().into())),
        ("another key", at(now, "another key of somebody")),
        ("an empty key", at(now, "")),
        ("too old", at(now - 301, KEY)),
        ("from the future", at(now + 301, KEY)),
        ("no time", with("soon".into(), sign(KEY.as_bytes(), now, body.as_bytes()), &body)),
        ("another body", with(now.to_string(), sign(KEY.as_bytes(), now, b"{}"), &body)),
        ("another time", with((now + 1).to_string(), sign(KEY.as_bytes(), now, body.as_bytes()), &body)),
        ("another scheme", with(now.to_string(), sign(KEY.as_bytes(), now, body.as_bytes()).replace("v1", "v0"), &body)),
        ("two signatures", at(now, KEY).header(SIGNATURE, "v1=00")),
        ("two times", at(now, KEY).header(TIMESTAMP, "0")),
        ("no JSON, unsigned", HttpRequest::new("POST", "/").body("no JSON".into())),
    ] {
        let answer = world.receive(request);
        assert_eq!(answer.status, 401, "{what}");
        assert!(!String::from_utf8_lossy(&answer.body).contains(KEY), "{what}");
    }
    assert_eq!(world.receive(at(now - 300, KEY)).status, 202);
    assert_eq!(world.taken.messages.lock().unwrap().len(), 1);
    assert!(world.logged().iter().all(|(_, line)| !line.contains("s3cret")));
}

#[test]
fn what_is_no_message_is_told_to_who_signed_it() {
    let world = World::new();
    let with = |key: &str, value: Value| {
        let mut body = hello("1");
        body[key] = value;
        body
    };
    let long = "x".repeat(257);
    let file = |file: Value| with("attachments", json!([file]));
    for (body, expected) in [
        (json!(7), "the body is no message: invalid type"),
        (json!({ "chat": "room" }), "the body is no message: missing field `sender`"),
        (with("id", json!(1)), "the body is no message: invalid type: integer `1`, expected a string"),
        (with("id", json!("")), "`id` has to have 1 to 256 characters that can be shown"),
        (with("chat", json!(long)), "`chat` has to have 1 to 256"),
        (with("sender", json!("a\u{1b}[31m")), "`sender` has to have 1 to 256"),
        (with("text", json!(" \n")), "there is neither text nor a file"),
        (file(json!({ "mime": "a/b", "data": "?" })), "the `data` of an attachment is no base64"),
        (file(json!({ "mime": "", "data": "" })), "`mime` has to have 1 to 256"),
        (with("attachments", json!(vec![json!({ "mime": "a/b", "data": "" }); 17])), "17 attachments, and 16 are the most"),
    ] {
        let (status, answer) = world.post(&body);
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(status == 400 && message.starts_with(expected), "{status} {message}");
    }
    assert_eq!(world.receive(world.signed("no JSON")).status, 400);
    assert!(world.taken.messages.lock().unwrap().is_empty());
}

#[test]
fn a_message_is_taken_once_and_one_that_was_not_taken_may_come_again() {
    let world = World::new();
    let request = world.signed(&hello("1").to_string());
    // Not durable: nothing is promised, and nothing is remembered.
    world.taken.refusals.lock().unwrap().push_back(Error::new(Code::INTERNAL_ERROR, "the disk is full"));
    let refused = world.receive(request.clone());
    assert_eq!((refused.status, refused.headers.iter().any(|(name, _)| name == "retry-after")), (503, true));
    assert!(!String::from_utf8_lossy(&refused.body).contains("disk"));
    assert_eq!(world.receive(request.clone()).status, 202);
    // The very same request again, and another with the same id.
    let again = world.receive(request);
    assert_eq!((again.status, from_slice::<Value>(&again.body).unwrap()), (200, json!({ "status": "duplicate", "id": "1" })));
    assert_eq!(world.post(&hello("1")).0, 200);
    assert_eq!(world.taken.messages.lock().unwrap().len(), 1);
    // Ids belong to their chat.
    let mut other = hello("1");
    other["chat"] = json!("another room");
    assert_eq!(world.post(&other).0, 202);
}

#[test]
fn nobody_is_answered_before_the_channel_runs_and_after_it() {
    let world = World::quiet();
    assert_eq!(world.receive(world.signed(&hello("1").to_string())).status, 503);
    let error = world.run_fails();
    assert_eq!((error.code(), error.message()), (Code::INVALID_PARAMS, "there is no signing key for the webhook"));
    assert!(error.help().unwrap().contains("bespoke config set-secret plugins.webhook.secrets.signing_key"));
    world.host.set_secret("signing_key", "short");
    assert_eq!(world.run_fails().message(), "the signing key of the webhook has 5 bytes; it needs 16");
    world.host.set_secret("signing_key", KEY);
    world.run();
    assert_eq!(world.post(&hello("1")).0, 202);
    let get = HttpRequest::new("GET", "/hooks/webhook/messages");
    let answer = world.receive(get);
    assert_eq!((answer.status, answer.headers.contains(&("allow".into(), "POST".into()))), (405, true));
    world.stop();
    assert_eq!(world.post(&hello("2")).0, 503);
    world.run();
    assert_eq!(world.post(&hello("2")).0, 202);
}
