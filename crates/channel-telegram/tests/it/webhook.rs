//! Messages that Telegram sends: who may, what is answered, and that one is acknowledged after it was taken.

use bespoke_plugin_api::{
    CallCx, Code, Error, HttpRequest,
    serde_json::{Value, json},
};
use bespoke_plugin_testkit::block_on;

use crate::kit::{Kept, Set, me, ok, refusal, telegram, update};

const SECRET: &str = "s3cret-Hook_token";

fn config() -> Value {
    json!({ "allowed_users": [7], "webhook": { "url": "https://bot.example.com/hooks/telegram/updates", "secret_token": SECRET } })
}

fn post(set: &Set, secret: Option<&str>, body: &str) -> u16 {
    let mut request = HttpRequest::new("POST", "/hooks/telegram/updates").body(body.to_owned().into());
    if let Some(secret) = secret {
        request = request.header("X-Telegram-Bot-Api-Secret-Token", secret);
    }
    block_on(set.endpoint().handle(&CallCx::new(), request)).unwrap().status
}

#[test]
fn telegram_is_told_where_and_only_its_messages_are_taken() {
    let set = Set::new(config(), telegram(vec![]));
    let inbox = Kept::new();
    let hello = update(1, 1, "hello").to_string();
    assert_eq!(post(&set, Some(SECRET), &hello), 503, "it does not listen yet");
    let running = set.run(&inbox);
    set.until_asked("setWebhook", 1);
    assert_eq!(
        set.bodies("setWebhook"),
        [json!({
            "url": "https://bot.example.com/hooks/telegram/updates",
            "secret_token": SECRET,
            // One after the other, or they could overtake each other.
            "max_connections": 1,
            "allowed_updates": ["message"],
        })]
    );
    for (secret, body, status) in [
        (None, hello.as_str(), 401),
        (Some(""), &hello, 401),
        (Some("s3cret-Hook_toke"), &hello, 401),
        (Some("s3cret-Hook_tokeN"), &hello, 401),
        (Some(SECRET), "no JSON", 400),
        (Some(SECRET), "{}", 400),
        (Some(SECRET), r#"{"update_id":9,"message":7}"#, 200),
        (Some(SECRET), r#"{"update_id":9,"poll":{}}"#, 200),
        (Some(SECRET), &hello, 200),
    ] {
        assert_eq!(post(&set, secret, body), status, "{secret:?} {body}");
    }
    let get = HttpRequest::new("GET", "/hooks/telegram/updates").header("x-telegram-bot-api-secret-token", SECRET);
    assert_eq!(block_on(set.endpoint().handle(&CallCx::new(), get)).unwrap().status, 405);
    assert_eq!(inbox.texts(1), ["7 1 hello"]);
    // What is not taken Telegram keeps.
    inbox.refusals.lock().unwrap().push_back(Error::new(Code::INTERNAL_ERROR, "the disk is full"));
    assert_eq!(post(&set, Some(SECRET), &update(2, 2, "two").to_string()), 503);
    assert_eq!(post(&set, Some(SECRET), &update(2, 2, "two").to_string()), 200);
    assert_eq!(inbox.texts(2)[1], "7 2 two");
    running.stop().unwrap();
    assert_eq!(post(&set, Some(SECRET), &hello), 503, "it listens no more");
    assert!(set.bodies("getUpdates").is_empty() && set.bodies("deleteWebhook").is_empty());
    assert!(!set.logged().contains(SECRET), "{}", set.logged());
}

#[test]
fn without_a_webhook_nothing_is_taken() {
    let set = Set::new(json!({}), telegram(vec![]));
    assert_eq!(post(&set, Some(""), "{}"), 404);
}

#[test]
fn an_address_that_telegram_does_not_take_ends_it() {
    let set = Set::new(config(), |asked| match asked.method.as_str() {
        "getMe" => me(),
        "setWebhook" => refusal(400, "Bad Request: bad webhook: HTTPS url must be provided for webhook", json!({})),
        _ => ok(json!(true)),
    });
    let error = set.run(&Kept::new()).ended().unwrap_err();
    assert!(!error.is_retryable() && error.help().unwrap().contains("plugins.telegram.webhook.url"), "{error:?}");
    assert_eq!(set.bodies("setWebhook").len(), 1);
}
