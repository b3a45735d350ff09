//! Answers on their way: styles, lengths, files, edits, and what is sent once.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bespoke_plugin_api::{
    Attachment, CallCx, HostApi, MessageRef, Outbound, Result,
    serde_json::{Value, json},
};
use bespoke_plugin_testkit::block_on;

use crate::kit::{Asked, Set, ok, refusal, telegram, whole};

fn send(set: &Set, message: Outbound) -> Result<MessageRef> {
    block_on(set.channel().send(&CallCx::new(), message))
}

fn edit(set: &Set, message: &MessageRef, text: &str) -> Result<()> {
    block_on(set.channel().edit(&CallCx::new(), message.clone(), Outbound::new("7", text)))
}

/// Text of each part as long as a message may be.
fn long(words: usize) -> String {
    (0..words).map(|n| format!("word{n:05} ")).collect()
}

#[test]
fn markdown_arrives_as_text_with_places() {
    let set = Set::new(json!({}), telegram(vec![]));
    let sent = send(&set, Outbound::new("7", "Some **bold** [link](https://example.com) & <b>").reply_to("41".into())).unwrap();
    assert_eq!(sent, MessageRef::new("7", "100"));
    assert_eq!(
        set.bodies("sendMessage"),
        [json!({
            "chat_id": 7,
            "text": "Some bold link & <b>",
            "reply_parameters": { "message_id": 41, "allow_sending_without_reply": true },
            "entities": [
                { "type": "bold", "offset": 5, "length": 4 },
                { "type": "text_link", "offset": 10, "length": 4, "url": "https://example.com" },
            ],
        })]
    );
    send(&set, Outbound::new("-100:12", "in a topic")).unwrap();
    assert_eq!(set.bodies("sendMessage")[1], json!({ "chat_id": -100, "text": "in a topic", "message_thread_id": 12 }));
    for nothing in ["", "  \n", "```\n```"] {
        assert!(send(&set, Outbound::new("7", nothing)).is_err());
    }
}

#[test]
fn what_telegram_finds_wrong_with_places_goes_plainly() {
    let set = Set::new(json!({}), |asked: &Asked| match asked.body.get("entities") {
        Some(_) => refusal(400, "Bad Request: can't parse entities: unexpected end", json!({})),
        None => ok(json!({ "message_id": 5 })),
    });
    assert_eq!(send(&set, Outbound::new("7", "**bold**")).unwrap().id, "5");
    edit(&set, &MessageRef::new("7", "5"), "**other**").unwrap();
    let texts: Vec<String> = set.asked().iter().map(|asked| format!("{} {}", asked.method, asked.body["text"])).collect();
    assert_eq!(texts, ["sendMessage \"bold\"", "sendMessage \"bold\"", "editMessageText \"other\"", "editMessageText \"other\""]);
}

#[test]
fn a_long_answer_is_several_messages_of_which_the_first_is_the_reply() {
    let set = Set::new(json!({}), telegram(vec![]));
    let text = long(1_000);
    let sent = send(&set, Outbound::new("7", &text).reply_to("41".into())).unwrap();
    let bodies = set.bodies("sendMessage");
    assert_eq!(bodies.len(), 3);
    assert_eq!(sent.id, "102");
    assert!(bodies.iter().all(|body| body["text"].as_str().unwrap().encode_utf16().count() <= 4096));
    assert_eq!(bodies.iter().map(|body| format!("{} ", body["text"].as_str().unwrap())).collect::<String>(), text);
    assert_eq!(bodies.iter().map(|body| body.get("reply_parameters").is_some()).collect::<Vec<_>>(), [true, false, false]);
}

#[test]
fn a_key_is_sent_once_and_what_was_cut_short_goes_on() {
    let (count, next) = (AtomicUsize::new(0), AtomicI64::new(100));
    let script = move |_: &Asked| match count.fetch_add(1, Ordering::SeqCst) {
        1 => whole(503, ""),
        _ => ok(json!({ "message_id": next.fetch_add(1, Ordering::SeqCst) })),
    };
    let set = Set::new(json!({}), script);
    let message = || Outbound::new("7", long(1_000)).idempotency_key("k".into());
    assert!(send(&set, message()).unwrap_err().is_retryable());
    // The next instance knows it as well.
    let state = block_on(set.instance.life.capture_state()).unwrap().unwrap();
    let next = Set::new(json!({}), telegram(vec![]));
    block_on(next.instance.life.restore_state(state)).unwrap();
    for set in [&set, &next] {
        let before = set.asked().len();
        let sent = send(set, message()).unwrap();
        let texts: Vec<Value> = set.bodies("sendMessage")[before..].iter().map(|body| body["text"].clone()).collect();
        assert_eq!(texts.len(), 2, "the first part is there already");
        assert!(texts[0].as_str().unwrap().starts_with("word00"));
        assert!(!texts[0].as_str().unwrap().starts_with("word00000"));
        assert_eq!(send(set, message()).unwrap(), sent);
        assert_eq!(set.asked().len(), before + 2);
    }
    // In another chat it is another message.
    send(&set, Outbound::new("8", "hello").idempotency_key("k".into())).unwrap();
    assert_eq!(set.bodies("sendMessage").last().unwrap()["chat_id"], 8);
}

#[test]
fn an_answer_grows_beyond_a_message_and_shrinks_again() {
    let set = Set::new(json!({ "paced": false }), telegram(vec![]));
    let sent = send(&set, Outbound::new("7", "word")).unwrap();
    let log = |from: usize| {
        let line = |a: &Asked| format!("{} {} {}", a.method, a.body["message_id"], a.body["text"].as_str().map_or(0, str::len));
        set.asked()[from..].iter().map(line).collect::<Vec<_>>()
    };
    edit(&set, &sent, &long(100)).unwrap();
    // Nothing changed, so nobody is asked.
    edit(&set, &sent, &long(100)).unwrap();
    assert_eq!(log(1), ["editMessageText 100 999"]);
    edit(&set, &sent, &long(500)).unwrap();
    edit(&set, &sent, &long(600)).unwrap();
    edit(&set, &sent, &long(900)).unwrap();
    let (first, rest) = (4089, |n: usize| n * 10 - 4090 - 1);
    assert_eq!(
        log(2),
        [
            format!("editMessageText 100 {first}"),
            format!("sendMessage null {}", rest(500)),
            format!("editMessageText 101 {}", rest(600)),
            format!("editMessageText 101 {}", first),
            format!("sendMessage null {}", 900 * 10 - 2 * 4090 - 1),
        ]
    );
    edit(&set, &sent, "short").unwrap();
    assert_eq!(log(7), ["editMessageText 100 5", "deleteMessage 102 0", "deleteMessage 101 0"]);
}

#[test]
fn an_edit_of_a_message_that_was_sent_in_parts_edits_all_of_them() {
    let set = Set::new(json!({ "paced": false }), telegram(vec![]));
    let sent = send(&set, Outbound::new("7", long(600))).unwrap();
    assert_eq!(sent.id, "101");
    edit(&set, &sent, &format!("changed {}", long(600))).unwrap();
    let ids: Vec<Value> = set.bodies("editMessageText").iter().map(|body| body["message_id"].clone()).collect();
    assert_eq!(ids, [100, 101]);
}

#[test]
fn an_edit_that_changes_nothing_is_one() {
    let not_modified = "Bad Request: message is not modified: specified new message content and reply markup are exactly the same";
    let set = Set::new(json!({}), move |_| refusal(400, not_modified, json!({})));
    edit(&set, &MessageRef::new("7", "5"), "same").unwrap();
    let set = Set::new(json!({}), |_| refusal(400, "Bad Request: message to edit not found", json!({})));
    let error = edit(&set, &MessageRef::new("7", "5"), "**new**").unwrap_err();
    assert!(!error.is_retryable() && set.asked().len() == 1, "{error}");
    assert!(edit(&set, &MessageRef::new("7", "no number"), "new").is_err());
}

/// An answer that was shown while it was written ends with an edit that brings its files; trying that again sends none of them twice.
#[test]
fn an_edit_may_bring_files() {
    let set = Set::new(json!({}), telegram(vec![]));
    let sent = send(&set, Outbound::new("7", "…").idempotency_key("k".into())).unwrap();
    let new = || Outbound::new("7", "Done.").attachments(vec![Attachment::voice("audio/ogg", b"OggS".to_vec())]);
    for _ in 0..2 {
        block_on(set.channel().edit(&CallCx::new(), sent.clone(), new())).unwrap();
    }
    let methods: Vec<String> = set.asked().into_iter().map(|asked| asked.method).collect();
    assert_eq!(methods, ["sendMessage", "editMessageText", "sendVoice"]);
    // Under its key it says something else by now: the message changes, and no other one is sent.
    assert_eq!(send(&set, Outbound::new("7", "Done, indeed.").idempotency_key("k".into())).unwrap(), sent);
    assert_eq!(set.bodies("editMessageText")[1]["text"], "Done, indeed.");
}

#[test]
fn files_go_as_what_they_are_and_as_files_where_that_is_refused() {
    let set = Set::new(json!({}), telegram(vec![]));
    let message = Outbound::new("7", "Here.").attachments(vec![
        Attachment::voice("audio/ogg", b"OggS opus".to_vec()),
        Attachment::new("image/png", b"png".to_vec()).name("plot.png".into()),
        Attachment::new("text/csv", b"a,b".to_vec()).name("list.csv".into()),
    ]);
    let sent = send(&set, message.reply_to("41".into())).unwrap();
    assert_eq!(sent.id, "103");
    let asked = set.asked();
    assert_eq!(asked.iter().map(|a| a.method.as_str()).collect::<Vec<_>>(), ["sendMessage", "sendVoice", "sendPhoto", "sendDocument"]);
    for (n, field, name, bytes) in
        [(1, "voice", "voice.ogg", "OggS opus"), (2, "photo", "plot.png", "png"), (3, "document", "list.csv", "a,b")]
    {
        let raw = &asked[n].raw;
        assert!(raw.contains(&format!("name=\"{field}\"; filename=\"{name}\"\r\n")) && raw.contains(bytes), "{raw}");
        assert!(raw.contains("name=\"chat_id\"\r\n\r\n7\r\n") && !raw.contains("reply_parameters"), "{raw}");
    }

    let next = AtomicI64::new(0);
    let set = Set::new(json!({}), move |asked: &Asked| match asked.method.as_str() {
        "sendVoice" => refusal(400, "Bad Request: VOICE_MESSAGES_FORBIDDEN", json!({})),
        _ => ok(json!({ "message_id": next.fetch_add(1, Ordering::SeqCst) })),
    });
    send(&set, Outbound::new("7", "").attachments(vec![Attachment::voice("audio/ogg", vec![1])]).reply_to("41".into())).unwrap();
    let asked = set.asked();
    assert_eq!(asked.iter().map(|a| a.method.as_str()).collect::<Vec<_>>(), ["sendVoice", "sendDocument"]);
    assert!(asked[1].raw.contains("\"message_id\":41"), "{}", asked[1].raw);
    let empty = Outbound::new("7", "text").attachments(vec![Attachment::new("a/b", vec![])]);
    assert!(send(&set, empty).is_err());
    assert_eq!(set.asked().len(), 2, "what cannot be sent whole is not begun");
}

#[test]
fn a_group_that_moved_is_found_where_it_is() {
    let set = Set::new(json!({}), |asked: &Asked| match asked.body["chat_id"].as_i64() {
        Some(-5) => refusal(400, "Bad Request: group chat was upgraded to a supergroup chat", json!({ "migrate_to_chat_id": -1005 })),
        _ => ok(json!({ "message_id": 5 })),
    });
    assert_eq!(send(&set, Outbound::new("-5", "hello")).unwrap(), MessageRef::new("-5", "5"));
    assert!(set.logged().contains("chat -5 is chat -1005 now"), "{}", set.logged());
    // Two that point at each other are no place.
    let set = Set::new(json!({}), |asked: &Asked| {
        let other = if asked.body["chat_id"] == -5 { -6 } else { -5 };
        refusal(400, "Bad Request: moved", json!({ "migrate_to_chat_id": other }))
    });
    assert!(send(&set, Outbound::new("-5", "hello")).is_err());
}

#[test]
fn messages_keep_to_the_limits_unless_told_otherwise() {
    let times = Mutex::new(Vec::new());
    let set = Set::new(json!({}), telegram(vec![]));
    for n in 0..6 {
        send(&set, Outbound::new("7", format!("{n}"))).unwrap();
        times.lock().unwrap().push(set.host.now());
    }
    let times = times.into_inner().unwrap();
    assert_eq!(times[2], times[0]);
    assert_eq!(times[2].until(times[5]), Duration::from_secs(3));
    let set = Set::new(json!({ "paced": false }), telegram(vec![]));
    let begun = set.host.now();
    for n in 0..50 {
        send(&set, Outbound::new("-7", format!("{n}"))).unwrap();
    }
    assert_eq!(set.host.now(), begun);
}

#[test]
fn typing_is_shown_and_not_during_a_flood() {
    let set = Set::new(json!({}), |asked: &Asked| match asked.method.as_str() {
        "sendChatAction" => ok(json!(true)),
        _ => refusal(429, "Too Many Requests", json!({ "retry_after": 4_000 })),
    });
    let typing = || block_on(set.channel().typing(&CallCx::new(), "-100:12")).unwrap();
    typing();
    assert_eq!(set.bodies("sendChatAction"), [json!({ "chat_id": -100, "action": "typing", "message_thread_id": 12 })]);
    assert!(send(&set, Outbound::new("-100:12", "hello")).is_err());
    typing();
    assert_eq!(set.bodies("sendChatAction").len(), 1);
}
