//! Every fake, direct and through the loopback: equal bytes, and the rules of streams and cancellation.

use bespoke_fake::BESPOKE_PLUGIN;
use bespoke_plugin_api::{
    ChatRequest, Message,
    serde_json::{Value, json},
};
use bespoke_plugin_testkit::Conformance;

fn script() -> Value {
    json!({
        "replies": [
            [{ "text": "Hello there, " }, { "delay_ms": 5 }, { "text": "friend." }],
            [{ "text": "One moment." }, { "tool": { "name": "fake_echo", "args": { "zeta": 1, "alpha": 0.1 } } }],
            [{ "text": "It is a" }, { "error": { "code": 1203, "message": "slow down", "retryable": true } }],
            [{ "text": "I am about to" }, { "panic": "lose my mind" }],
        ],
        "piece_delay_ms": 1,
        "transcripts": ["first", "second"],
        "messages": [{ "text": "Hello?" }, { "text": "Anybody?", "chat": "c2", "sender": "bob" }],
    })
}

fn ask(text: &str) -> ChatRequest {
    ChatRequest::new(vec![Message::system("Be brief."), Message::user(text)])
}

#[test]
fn all_kinds_are_the_same_in_every_tier() {
    Conformance::new(&BESPOKE_PLUGIN)
        .config(script())
        .channel_messages(2)
        .tool("fake_echo", json!({ "zeta": 0.1, "alpha": [1e300, -0.0, null], "bytes": 70_000 }))
        .tool("fake_echo", json!({ "fail": "as told" }))
        .tool("fake_echo", json!({ "panic": "as told" }))
        .tool("fake_wait", json!({ "ms": 100, "steps": 4 }))
        .chat(ask("a tool"))
        .chat(ask("an error"))
        .chat(ask("a panic"))
        .chat(ask("an echo that ends here and not there").stop(vec!["here".into()]))
        .slow_tool("fake_wait", json!({ "ms": 3_600_000, "steps": 1 }))
        .check();
}

#[test]
fn a_slow_answer_can_be_cancelled_and_dropped() {
    let replies = vec![json!([{ "text": "Well" }, { "delay_ms": 3_600_000 }, { "text": "never" }]); 2];
    Conformance::new(&BESPOKE_PLUGIN).config(json!({ "replies": replies })).slow_chat(ask("slowly")).check();
}

#[test]
fn every_hook_script_is_the_same_in_every_tier() {
    for hook in [
        json!("continue"),
        json!({ "replace": "something else" }),
        json!({ "veto": "not today" }),
        json!({ "fail": "broken" }),
        json!({ "panic": "boom" }),
        json!({ "slow_ms": 50 }),
    ] {
        let suite = Conformance::new(&BESPOKE_PLUGIN).config(json!({ "hook": hook }));
        let (compiled, wired) = suite.transcripts().unwrap();
        assert_eq!(String::from_utf8(compiled).unwrap(), String::from_utf8(wired).unwrap());
    }
}
