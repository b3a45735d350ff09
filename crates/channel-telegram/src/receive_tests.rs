//! Who is let in, and whom a message is for.

use bespoke_plugin_api::serde_json::{self, Value};

use super::*;
use crate::config::Config;

fn me() -> User {
    User { id: 99, is_bot: true, username: Some("Bespoke_Bot".into()), ..User::default() }
}

fn message(change: Value) -> Message {
    let mut message = json!({
        "message_id": 1, "date": 0, "chat": { "id": 7, "type": "private" }, "from": { "id": 7, "is_bot": false, "first_name": "Ann" },
    });
    message.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    serde_json::from_value(message).unwrap()
}

fn judged(change: Value) -> Verdict {
    let access = Access::of(&Config { allowed_users: vec![7], allowed_chats: vec![-100], ..Config::default() });
    judge(&message(change), &me(), &access)
}

fn take(text: &str) -> Verdict {
    Verdict::Take(text.into())
}

#[test]
fn only_those_who_are_let_in_are_heard() {
    assert_eq!(judged(json!({ "text": " hello " })), take("hello"));
    assert_eq!(judged(json!({ "text": "hello", "from": { "id": 8 } })), Verdict::Stranger(8));
    assert_eq!(judged(json!({ "text": "@bespoke_bot hi", "from": { "id": 8 }, "chat": { "id": -100, "type": "supergroup" } })), take("hi"));
    assert_eq!(
        judged(json!({ "text": "@bespoke_bot hi", "from": { "id": 8 }, "chat": { "id": -200, "type": "group" } })),
        Verdict::Stranger(8)
    );
    // A stranger's talk in a group that is not for the bot is not even that.
    assert_eq!(judged(json!({ "text": "hi", "from": { "id": 8 }, "chat": { "id": -200, "type": "group" } })), Verdict::Pass);
    for change in [
        json!({ "text": "hello", "from": null }),
        json!({ "text": "hello", "from": { "id": 7, "is_bot": true } }),
        json!({ "text": "hello", "chat": { "id": 7, "type": "channel" } }),
        json!({ "text": "hello", "chat": { "id": 7, "type": "something new" } }),
        json!({ "new_chat_members": [] }),
        json!({ "text": "" }),
    ] {
        assert_eq!(judged(change.clone()), Verdict::Pass, "{change}");
    }
}

#[test]
fn in_a_group_it_answers_when_it_is_spoken_to() {
    let group = |change: Value| {
        let mut all = json!({ "chat": { "id": -100, "type": "group" } });
        all.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        judged(all)
    };
    assert_eq!(group(json!({ "text": "hello all" })), Verdict::Pass);
    assert_eq!(group(json!({ "text": "hey @BESPOKE_BOT, what is up?" })), take("hey , what is up?"));
    assert_eq!(group(json!({ "text": "@bespoke_bot what is up?" })), take("what is up?"));
    assert_eq!(group(json!({ "text": "what is up, @bespoke_bot" })), take("what is up,"));
    assert_eq!(group(json!({ "text": "ask @bespoke_bot please" })), take("ask please"));
    for other in ["mail ann@bespoke_bot.example", "@bespoke_bot2 hi", "@bespoke_bo hi", "a@bespoke_bot"] {
        assert_eq!(group(json!({ "text": other })), Verdict::Pass, "{other}");
    }
    assert_eq!(group(json!({ "text": "yes", "reply_to_message": { "from": { "id": 99 } } })), take("yes"));
    assert_eq!(group(json!({ "text": "yes", "reply_to_message": { "from": { "id": 98 } } })), Verdict::Pass);
    assert_eq!(group(json!({ "caption": "@bespoke_bot look", "photo": [{ "file_id": "a" }] })), take("look"));
    assert_eq!(group(json!({ "voice": { "file_id": "a" } })), Verdict::Pass);
}

#[test]
fn commands_lose_the_name_of_the_bot_and_those_of_others_are_passed_over() {
    for (text, expected) in [
        ("/help", take("/help")),
        ("/help@Bespoke_bot", take("/help")),
        ("/weather@bespoke_bot Berlin @bespoke_bot", take("/weather Berlin")),
        ("/help@other_bot", Verdict::Pass),
        ("/", take("/")),
        ("/usr/bin@other", take("/usr/bin@other")),
        ("/2 is a half", take("/2 is a half")),
    ] {
        assert_eq!(judged(json!({ "text": text })), expected, "{text}");
    }
    assert_eq!(judged(json!({ "text": "/help", "chat": { "id": -100, "type": "group" } })), take("/help"));
}

#[test]
fn what_cannot_be_read_is_named() {
    assert_eq!(judged(json!({ "sticker": { "emoji": "👍" } })), take("👍"));
    assert_eq!(judged(json!({ "sticker": {} })), take("(a sticker)"));
    assert_eq!(judged(json!({ "video": { "file_id": "a" }, "caption": "see" })), take("see\n(a video, which cannot be read here)"));
    assert_eq!(judged(json!({ "location": { "latitude": 1.0 } })), take("(a location, which cannot be read here)"));
    assert_eq!(judged(json!({ "voice": { "file_id": "a" } })), take(""));
    let animation = message(json!({ "animation": { "file_id": "a" }, "document": { "file_id": "a" } }));
    assert!(wanted(&animation).is_empty());
    let photo = message(
        json!({ "photo": [{ "file_id": "s", "file_size": 1 }, { "file_id": "l", "file_size": 9 }, { "file_id": "m", "file_size": 5 }] }),
    );
    assert_eq!(wanted(&photo)[0].file.file_id, "l");
}

#[test]
fn a_name_is_found_whatever_stands_around_it() {
    for text in ["@", "@@", "é@", "@é", "日@n日", "@n@n", "@N", "@n_", "x@n", "@n.", "@n @n @n"] {
        let (_, found) = without(text, "n");
        assert_eq!(found, ["日@n日", "@n@n", "@N", "@n.", "@n @n @n"].contains(&text), "{text}");
    }
    assert_eq!(without("@n @n @n hi", "n").0, "hi");
    assert_eq!(without("a @n", ""), ("a @n".into(), false));
}
