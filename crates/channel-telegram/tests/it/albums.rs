//! Albums: several files of one message, which come as messages of their own.

use std::time::{Duration, Instant};

use bespoke_plugin_api::{
    CallCx, HttpRequest, Inbound,
    serde_json::{Value, json},
};
use bespoke_plugin_testkit::{Clock, TestHost, block_on};

use crate::kit::{Asked, Kept, LONG, Set, allowed, ok, telegram, update, whole};

const SECRET: &str = "s3cret";

/// A picture of an album.
fn picture(number: i64, group: &str, caption: &str) -> Value {
    let mut update = update(number, number, "");
    let message = update["message"].as_object_mut().unwrap();
    message.remove("text");
    message.insert("media_group_id".into(), json!(group));
    message.insert("photo".into(), json!([{ "file_id": format!("p{number}") }]));
    if !caption.is_empty() {
        message.insert("caption".into(), json!(caption));
    }
    update
}

/// A Bot API whose files are named by their ids.
fn with_files(updates: Vec<Value>) -> impl Fn(&Asked) -> Option<bespoke_plugin_api::Result<bespoke_plugin_api::HttpReply>> + Send + Sync {
    let bot = telegram(updates);
    move |asked| match asked.method.as_str() {
        "getFile" => ok(json!({ "file_path": asked.body["file_id"] })),
        file if file.starts_with("file ") => whole(200, file[5..].to_owned()),
        _ => bot(asked),
    }
}

/// Chat, id and text of each, and its files.
fn shown(messages: &[Inbound]) -> Vec<String> {
    let files = |m: &Inbound| m.attachments.iter().map(|a| String::from_utf8_lossy(&a.data).into_owned()).collect::<Vec<_>>().join(",");
    messages.iter().map(|m| format!("{} {} {:?} {}", m.chat, m.id, m.text, files(m))).collect()
}

#[test]
fn an_album_is_one_message_and_no_other_one_waits_for_it() {
    let mut other = update(3, 3, "meanwhile");
    other["message"]["chat"]["id"] = json!(8);
    let updates = vec![picture(1, "a", "look at these"), picture(2, "a", ""), other, picture(4, "a", "")];
    // Time stands still: an album is not handed over by it.
    let host = TestHost::with_clock(Clock::Manual);
    let set = Set::on(host.clone(), json!({ "allowed_users": [7], "allowed_chats": [8] }), with_files(updates.clone()));
    let inbox = Kept::new();
    let running = set.run(&inbox);
    assert_eq!(inbox.texts(1), ["8 3 meanwhile"]);
    // It is stored, and so it is acknowledged.
    set.until_asked("getUpdates", 2);
    assert_eq!(set.bodies("getUpdates")[1]["offset"], json!(5));
    assert!(host.stored("albums").is_some());
    assert_eq!(inbox.all().len(), 1);
    running.stop().unwrap();
    // The next run hands it over.
    host.advance(Duration::from_secs(1));
    let set = Set::on(host.clone(), allowed(), with_files(vec![]));
    let running = set.run(&inbox);
    assert_eq!(shown(&inbox.until(2))[1..], [r#"7 1 "look at these" p1,p2,p4"#]);
    running.stop().unwrap();
    assert_eq!(host.stored("albums"), None);
}

#[test]
fn an_album_ends_with_time_with_its_tenth_with_another_one_and_with_what_is_said_after_it() {
    for (updates, expected) in [
        (vec![picture(1, "a", ""), picture(2, "a", "")], vec![r#"7 1 "" p1,p2"#]),
        (vec![picture(1, "a", "x"), update(2, 2, "y"), picture(3, "b", "z")], vec![r#"7 1 "x" p1"#, r#"7 2 "y" "#, r#"7 3 "z" p3"#]),
        (vec![picture(1, "a", "x"), picture(2, "b", "y")], vec![r#"7 1 "x" p1"#, r#"7 2 "y" p2"#]),
        (vec![picture(1, "a", "x"), picture(2, "a", "y"), picture(1, "a", "x")], vec![r#"7 1 "x\ny" p1,p2"#]),
        ((1..=10).map(|n| picture(n, "a", "")).collect(), vec![r#"7 1 "" p1,p2,p3,p4,p5,p6,p7,p8,p9,p10"#]),
    ] {
        let set = Set::new(allowed(), with_files(updates));
        let inbox = Kept::new();
        let running = set.run(&inbox);
        assert_eq!(shown(&inbox.until(expected.len())), expected);
        running.stop().unwrap();
    }
}

#[test]
fn in_a_group_one_of_an_album_speaks_to_the_bot_for_all() {
    let group = |mut update: Value| {
        update["message"]["chat"] = json!({ "id": -100, "type": "group" });
        update
    };
    let spoken = [picture(1, "a", ""), picture(2, "a", "@bespoke_bot look"), picture(3, "a", "")].map(group);
    let unspoken = [picture(4, "b", "holiday"), picture(5, "b", "")].map(group);
    let set = Set::new(allowed(), with_files(spoken.into_iter().chain(unspoken).chain([update(6, 6, "last")]).collect()));
    let inbox = Kept::new();
    let running = set.run(&inbox);
    assert_eq!(shown(&inbox.until(2))[0], r#"-100 1 "look" p1,p2,p3"#);
    assert_eq!(inbox.all()[1].text, "last");
    // What was not for it is forgotten.
    assert_eq!(inbox.all().len(), 2);
    running.stop().unwrap();
}

#[test]
fn an_album_comes_through_the_webhook() {
    let config =
        json!({ "allowed_users": [7], "webhook": { "url": "https://bot.example.com/hooks/telegram/updates", "secret_token": SECRET } });
    let host = TestHost::with_clock(Clock::Manual);
    let set = Set::on(host.clone(), config, with_files(vec![]));
    let inbox = Kept::new();
    let running = set.run(&inbox);
    set.until_asked("setWebhook", 1);
    let post = |update: &Value| {
        let request = HttpRequest::new("POST", "/hooks/telegram/updates").header("x-telegram-bot-api-secret-token", SECRET);
        block_on(set.endpoint().handle(&CallCx::new(), request.body(update.to_string().into()))).unwrap().status
    };
    // As Telegram does: what is not taken comes again, before anything else of its chat.
    let posted = |update: Value| {
        let end = Instant::now() + LONG;
        while post(&update) != 200 {
            assert!(Instant::now() < end, "{update} is never taken");
            std::thread::yield_now();
        }
    };
    posted(picture(1, "a", "look"));
    posted(picture(2, "a", ""));
    assert!(inbox.all().is_empty());
    // Whoever waits for it may not have begun to.
    let end = Instant::now() + LONG;
    while inbox.all().is_empty() {
        assert!(Instant::now() < end, "it is never handed over");
        host.advance(Duration::from_secs(1));
        std::thread::yield_now();
    }
    assert_eq!(shown(&inbox.until(1)), [r#"7 1 "look" p1,p2"#]);
    // What is said after it ends it.
    posted(picture(3, "b", ""));
    posted(update(4, 4, "these"));
    assert_eq!(shown(&inbox.until(3))[1..], [r#"7 3 "" p3"#, r#"7 4 "these" "#]);
    running.stop().unwrap();
}
