//! Plugins as libraries say byte for byte what they say compiled in and through the loopback.

use std::sync::Arc;

use bespoke_host::{Grounds, Terms, open_folder};
use bespoke_plugin_api::{
    BoxFuture, ChatRequest, Descriptor, Instance, Message, PluginContext, Result,
    serde_json::{Value, json},
};
use bespoke_plugin_testkit::Conformance;

use crate::kit::{World, example};

/// What this tier says of a plugin beside what the plugin says.
const FACTS: &[&str] = &["copies", "library", "tier", "toolchain", "trusted"];

/// Starts it there, as the host does.
fn in_a_library(
    world: &World,
    plugin: &Descriptor,
    library: &str,
) -> impl Fn(PluginContext, Value) -> BoxFuture<'static, Result<Instance>> + use<> {
    let folder = world.path().join(plugin.id());
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(example(library), folder.join("plugin.so")).unwrap();
    let package = plugin.package();
    let manifest = format!("version = \"1.0.0\"\nlicense = \"Apache-2.0\"\n{}\n[dylib]\nfile = \"plugin.so\"\n", package.manifest);
    std::fs::write(folder.join("plugin.toml"), manifest).unwrap();
    let candidate = Arc::new(open_folder(&folder, &Grounds::new(world.path().join("cache"))));
    assert!(candidate.manifest.is_ok(), "{:?}", candidate.manifest);
    move |cx, config| candidate.artifact.start(cx, config, Terms::default())
}

/// The suite, within a runtime that has the timers of the tier.
fn held_against_a_library(suite: Conformance, plugin: &'static Descriptor, library: &str) {
    let world = World::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _entered = runtime.enter();
    suite.tier("dylib", FACTS, in_a_library(&world, plugin, library)).check();
}

fn ask(text: &str) -> ChatRequest {
    ChatRequest::new(vec![Message::system("Be brief."), Message::user(text)])
}

#[test]
fn every_kind_is_the_same_in_a_library() {
    let script = json!({
        "replies": [
            [{ "text": "Hello there, " }, { "delay_ms": 5 }, { "text": "friend." }],
            [{ "text": "One moment." }, { "tool": { "name": "fake_echo", "args": { "zeta": 1, "alpha": 0.1 } } }],
            [{ "text": "It is a" }, { "error": { "code": 1203, "message": "slow down", "retryable": true } }],
            [{ "text": "I am about to" }, { "panic": "lose my mind" }],
        ],
        "piece_delay_ms": 1,
        "transcripts": ["first", "second"],
        "messages": [{ "text": "Hello?" }, { "text": "Anybody?", "chat": "c2", "sender": "bob" }],
        "received": "continue",
        "sent": { "veto": "not today" },
    });
    let suite = Conformance::new(&bespoke_fake::BESPOKE_PLUGIN)
        .config(script)
        .channel_messages(2)
        .tool("fake_echo", json!({ "zeta": 0.1, "alpha": [1e300, -0.0, null], "bytes": 70_000 }))
        .tool("fake_echo", json!({ "text": "\u{0}\u{1b}[31m\u{2028}\n\r\n\u{10ffff}", "": "x".repeat(200_000) }))
        .tool("fake_echo", json!({ "fail": "as told" }))
        .tool("fake_echo", json!({ "panic": "as told" }))
        .tool("fake_wait", json!({ "ms": 100, "steps": 4 }))
        .chat(ask("a tool"))
        .chat(ask("an error"))
        .chat(ask("a panic"))
        .chat(ask("an echo that ends here and not there").stop(vec!["here".into()]))
        .slow_tool("fake_wait", json!({ "ms": 3_600_000, "steps": 1 }));
    held_against_a_library(suite, &bespoke_fake::BESPOKE_PLUGIN, "dylib_fake");
}

#[test]
fn a_slow_answer_is_cancelled_and_dropped_in_a_library() {
    let replies = vec![json!([{ "text": "Well" }, { "delay_ms": 3_600_000 }, { "text": "never" }]); 2];
    let suite = Conformance::new(&bespoke_fake::BESPOKE_PLUGIN).config(json!({ "replies": replies })).slow_chat(ask("slowly"));
    held_against_a_library(suite, &bespoke_fake::BESPOKE_PLUGIN, "dylib_fake");
}

#[test]
fn what_a_hook_says_is_the_same_in_a_library() {
    for hook in [json!({ "replace": "something else" }), json!({ "veto": "not today" }), json!({ "fail": "broken" })] {
        let suite = Conformance::new(&bespoke_fake::BESPOKE_PLUGIN).config(json!({ "hook": hook }));
        held_against_a_library(suite, &bespoke_fake::BESPOKE_PLUGIN, "dylib_fake");
    }
}

/// Its clock is the host's, here, too.
#[test]
fn the_time_is_the_same_in_a_library() {
    let suite = Conformance::new(&bespoke_tool_clock::BESPOKE_PLUGIN)
        .tool("clock", json!({ "time_zone": "Europe/Paris" }))
        .tool("clock", json!({ "time_zone": "nowhere" }));
    held_against_a_library(suite, &bespoke_tool_clock::BESPOKE_PLUGIN, "dylib_clock");
}
