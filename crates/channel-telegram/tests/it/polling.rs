//! Messages that are asked for: their order, what is acknowledged when, and what is passed over.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bespoke_plugin_api::{
    Code, Error, Health, HostApi,
    serde_json::{Value, json},
};
use bespoke_plugin_testkit::{Clock, TestHost, block_on};

use crate::kit::{Kept, Set, allowed, me, ok, refusal, telegram, update, whole};

#[test]
fn messages_come_in_order_and_the_next_number_is_asked_for_after_they_were_taken() {
    let set = Set::new(allowed(), telegram((1..=250).map(|n| update(n, 1_000 + n, &format!("text {n}"))).collect()));
    let inbox = Kept::new();
    let running = set.run(&inbox);
    let messages = inbox.until(250);
    set.until_asked("getUpdates", 4);
    let texts: Vec<String> = messages.iter().map(|m| m.text.clone()).collect();
    assert_eq!(texts, (1..=250).map(|n| format!("text {n}")).collect::<Vec<_>>());
    let first = &messages[0];
    assert_eq!((first.chat.as_str(), first.sender.as_str(), first.id.as_str()), ("7", "7", "1001"));
    assert_eq!(first.sender_name.as_deref(), Some("Ann Lee"));
    let asked = set.bodies("getUpdates");
    assert_eq!(asked[0], json!({ "limit": 100, "timeout": 30, "allowed_updates": ["message"] }));
    assert_eq!(asked.iter().map(|body| body["offset"].clone()).collect::<Vec<_>>(), [Value::Null, json!(101), json!(201), json!(251)]);
    assert_eq!(set.instance.life.health(), Health::Ok);
    assert_eq!(set.instance.life.facts()["bot"], "@bespoke_bot");
    running.stop().unwrap();
}

#[test]
fn a_message_that_is_not_taken_is_not_acknowledged() {
    let set = Set::new(allowed(), telegram(vec![update(1, 1, "one"), update(2, 2, "two"), update(3, 3, "three")]));
    let inbox = Kept::new();
    let full = || Error::new(Code::INTERNAL_ERROR, "the disk is full");
    inbox.refusals.lock().unwrap().extend([full(), full(), full()]);
    let running = set.run(&inbox);
    // It is tried until it is taken; order is kept.
    assert_eq!(inbox.texts(3), ["7 1 one", "7 2 two", "7 3 three"]);
    set.until_asked("getUpdates", 2);
    assert!(set.logged().contains("the disk is full"));
    running.stop().unwrap();

    // One that stays in the way: nothing behind it is acknowledged, here or after a restart.
    let host = TestHost::with_clock(Clock::Jump);
    let set = Set::on(host.clone(), allowed(), telegram(vec![update(1, 1, "one"), update(2, 2, "two")]));
    let inbox = Kept::new();
    inbox.stuck.store(true, Ordering::SeqCst);
    let running = set.run(&inbox);
    set.until_asked("getUpdates", 1);
    running.stop().unwrap();
    assert_eq!(host.stored("offset"), None);
    let set = Set::on(host, allowed(), telegram(vec![update(1, 1, "one"), update(2, 2, "two")]));
    let inbox = Kept::new();
    let running = set.run(&inbox);
    assert_eq!(inbox.texts(2), ["7 1 one", "7 2 two"]);
    running.stop().unwrap();
}

#[test]
fn one_that_the_host_never_takes_does_not_stop_the_others() {
    let set = Set::new(allowed(), telegram(vec![update(1, 1, "one"), update(2, 2, "two")]));
    let inbox = Kept::new();
    inbox.refusals.lock().unwrap().push_back(Error::invalid_params("too long"));
    let running = set.run(&inbox);
    assert_eq!(inbox.texts(1), ["7 2 two"]);
    assert!(set.logged().contains("message 1 of chat 7 is refused and lost: too long"), "{}", set.logged());
    running.stop().unwrap();
}

#[test]
fn the_number_is_kept_for_this_bot_and_for_less_than_a_week() {
    let host = TestHost::with_clock(Clock::Manual);
    let set = Set::on(host.clone(), allowed(), telegram(vec![update(5, 1, "one")]));
    let inbox = Kept::new();
    let running = set.run(&inbox);
    set.until_asked("getUpdates", 2);
    running.stop().unwrap();
    let kept: Value = bespoke_plugin_api::serde_json::from_slice(&host.stored("offset").unwrap()).unwrap();
    assert_eq!((&kept["bot"], &kept["next"]), (&json!(4711), &json!(6)));

    let first_offset = |host: &Arc<TestHost>| {
        let set = Set::on(host.clone(), allowed(), telegram(vec![]));
        let running = set.run(&Kept::new());
        set.until_asked("getUpdates", 1);
        running.stop().unwrap();
        set.bodies("getUpdates")[0]["offset"].clone()
    };
    assert_eq!(first_offset(&host), json!(6));
    host.advance(Duration::from_secs(6 * 24 * 3600));
    assert_eq!(first_offset(&host), Value::Null);

    let other = TestHost::with_clock(Clock::Manual);
    let foreign = json!({ "bot": 4712, "next": 6, "at": 1_735_689_600_000_000u64 }).to_string();
    block_on(other.store("offset", Some(foreign.into()))).unwrap();
    assert_eq!(first_offset(&other), Value::Null);
}

#[test]
fn the_next_instance_goes_on_where_this_one_stopped() {
    let host = TestHost::with_clock(Clock::Manual);
    let set = Set::on(host.clone(), allowed(), telegram(vec![update(5, 1, "one")]));
    let running = set.run(&Kept::new());
    set.until_asked("getUpdates", 2);
    running.stop().unwrap();
    let state = block_on(set.instance.life.capture_state()).unwrap().unwrap();

    let next = Set::new(allowed(), telegram(vec![]));
    block_on(next.instance.life.restore_state(state.clone())).unwrap();
    let running = next.run(&Kept::new());
    next.until_asked("getUpdates", 1);
    running.stop().unwrap();
    assert_eq!(next.bodies("getUpdates")[0]["offset"], json!(6));
    let mut strange = state;
    strange.version = 9;
    assert!(block_on(next.instance.life.restore_state(strange)).is_err());
}

#[test]
fn what_is_no_message_of_a_person_is_passed_over_and_acknowledged() {
    let strange = vec![
        json!({ "update_id": 1, "edited_message": { "message_id": 1 } }),
        json!({ "update_id": 2, "channel_post": { "message_id": 1 } }),
        json!({ "update_id": 3, "something_new": [1, { "a": null }] }),
        json!({ "update_id": 4, "message": { "message_id": "no number" } }),
        json!({ "update_id": 5, "message": 7 }),
        json!("no update at all"),
        json!({ "no number": 1 }),
        update(6, 6, "hello"),
    ];
    let first = AtomicUsize::new(0);
    let set = Set::new(allowed(), move |asked| match asked.method.as_str() {
        "getUpdates" if first.fetch_add(1, Ordering::SeqCst) == 0 => ok(json!(strange)),
        "getUpdates" => None,
        _ => me(),
    });
    let inbox = Kept::new();
    let running = set.run(&inbox);
    set.until_asked("getUpdates", 2);
    assert_eq!(inbox.texts(1), ["7 6 hello"]);
    assert_eq!(set.bodies("getUpdates")[1]["offset"], json!(7));
    running.stop().unwrap();
}

#[test]
fn topics_are_conversations_of_their_own() {
    let mut topic = update(1, 1, "@bespoke_bot hi");
    topic["message"]["chat"] = json!({ "id": -100, "type": "supergroup" });
    topic["message"]["message_thread_id"] = json!(12);
    topic["message"]["is_topic_message"] = json!(true);
    let set = Set::new(allowed(), telegram(vec![topic]));
    let inbox = Kept::new();
    let running = set.run(&inbox);
    assert_eq!(inbox.texts(1), ["-100:12 1 hi"]);
    running.stop().unwrap();
}

#[test]
fn files_come_with_their_messages() {
    let with = |number: i64, change: Value| {
        let mut update = update(number, number, "");
        update["message"].as_object_mut().unwrap().remove("text");
        update["message"].as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        update
    };
    let updates = vec![
        with(1, json!({ "voice": { "file_id": "v", "duration": 3, "mime_type": "audio/ogg" } })),
        with(2, json!({ "document": { "file_id": "d", "file_name": "../a/list.txt", "mime_type": "text/plain" }, "caption": "read this" })),
        with(3, json!({ "photo": [{ "file_id": "s", "file_size": 10 }, { "file_id": "p", "file_size": 90 }] })),
        with(4, json!({ "voice": { "file_id": "huge", "file_size": 20_000_001 } })),
        with(5, json!({ "audio": { "file_id": "lied", "file_name": "song.mp3" } })),
        with(6, json!({ "document": { "file_id": "gone" } })),
        with(7, json!({ "document": { "file_id": "evil" } })),
    ];
    let bot = telegram(updates);
    let set = Set::new(json!({ "allowed_users": [7], "max_file_bytes": 20_000_000 }), move |asked| match asked.method.as_str() {
        "getFile" => match asked.body["file_id"].as_str().unwrap() {
            "gone" => refusal(500, "Internal Server Error", json!({})),
            "evil" => ok(json!({ "file_path": "../../bot1:2/getMe?x" })),
            id => ok(json!({ "file_id": id, "file_path": format!("files/{id}.bin") })),
        },
        "file files/lied.bin" => whole(200, vec![0; 20_000_001]),
        file if file.starts_with("file ") => whole(200, format!("bytes of {file}")),
        _ => bot(asked),
    });
    let inbox = Kept::new();
    let running = set.run(&inbox);
    let messages = inbox.until(7);
    let shown: Vec<String> = messages
        .iter()
        .map(|m| {
            let files =
                m.attachments.iter().map(|a| format!("{} {:?} voice={} {}", a.mime, a.name, a.voice, String::from_utf8_lossy(&a.data)));
            format!("{:?} {:?}", m.text, files.collect::<Vec<_>>())
        })
        .collect();
    assert_eq!(
        shown,
        [
            r#""" ["audio/ogg None voice=true bytes of file files/v.bin"]"#,
            r#""read this" ["text/plain Some(\"list.txt\") voice=false bytes of file files/d.bin"]"#,
            r#""" ["image/jpeg Some(\"photo.jpg\") voice=false bytes of file files/p.bin"]"#,
            r#""(a voice note, which is too large to be read here)" []"#,
            r#""(a recording, which is too large to be read here)" []"#,
            r#""(a file, which could not be fetched)" []"#,
            r#""(a file, which could not be fetched)" []"#,
        ]
    );
    assert_eq!(set.bodies("getFile").iter().filter(|body| body["file_id"] == "gone").count(), 3);
    running.stop().unwrap();
}

#[test]
fn a_server_that_answers_at_once_with_nothing_is_not_asked_without_a_pause() {
    let set = Set::new(allowed(), |asked| if asked.method == "getUpdates" { ok(json!([])) } else { me() });
    let begun = set.host.now();
    let running = set.run(&Kept::new());
    set.until_asked("getUpdates", 5);
    running.stop().unwrap();
    assert!(begun.until(set.host.now()) >= Duration::from_millis(4 * 300));
}
