//! Plugins that are part of the binary, through a pipe: the binary serves one of them as a process, behind its wall, and what comes out
//! is byte for byte what it says compiled in and through the loopback.

use std::{fs, path::Path, sync::Arc};

use bespoke_host::{Grounds, Terms, open_folder};
use bespoke_plugin_api::{
    BoxFuture, ChatRequest, Descriptor, Instance, Message, PluginContext, Result,
    serde_json::{Value, json},
};
use bespoke_plugin_testkit::Conformance;
use bespoke_tier_process as _;

/// What this tier says of a plugin beside what the plugin says.
const FACTS: &[&str] = &["cpu", "memory", "pid", "running", "sandbox", "tier"];

/// A plugin folder whose program is this binary.
fn folder(of: &Path, plugin: &Descriptor) -> std::path::PathBuf {
    let folder = of.join(plugin.id());
    fs::create_dir_all(&folder).unwrap();
    let package = plugin.package();
    // A program of a plugin lies in its folder. Another file system, and it has to be copied there.
    let (program, there) = (env!("CARGO_BIN_EXE_bespoke"), folder.join("bespoke"));
    fs::hard_link(program, &there).or_else(|_| fs::copy(program, &there).map(drop)).unwrap();
    let process = format!("[process]\ncommand = [\"./bespoke\", \"__plugin\", \"{}\"]\n", plugin.id());
    let manifest = format!("version = \"1.0.0\"\nlicense = \"Apache-2.0\"\n{}\n{process}", package.manifest);
    fs::write(folder.join("plugin.toml"), manifest).unwrap();
    folder
}

/// Starts it there, as the host does.
fn through_a_process(of: &Path, plugin: &Descriptor) -> impl Fn(PluginContext, Value) -> BoxFuture<'static, Result<Instance>> + use<> {
    let grounds = Grounds::new(of.join("cache")).program(env!("CARGO_BIN_EXE_bespoke").into());
    let candidate = Arc::new(open_folder(&folder(of, plugin), &grounds));
    assert!(candidate.manifest.is_ok(), "{:?}", candidate.manifest);
    move |cx, config| candidate.artifact.start(cx, config, Terms::default())
}

/// The suite, within a runtime that has the timers of the tier.
fn held_against_a_process(suite: Conformance, plugin: &'static Descriptor) {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _entered = runtime.enter();
    suite.tier("process", FACTS, through_a_process(folder.path(), plugin)).check();
}

fn ask(text: &str) -> ChatRequest {
    ChatRequest::new(vec![Message::system("Be brief."), Message::user(text)])
}

#[test]
fn every_kind_is_the_same_over_a_pipe() {
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
    held_against_a_process(suite, &bespoke_fake::BESPOKE_PLUGIN);
}

#[test]
fn a_slow_answer_is_cancelled_and_dropped_over_a_pipe() {
    let replies = vec![json!([{ "text": "Well" }, { "delay_ms": 3_600_000 }, { "text": "never" }]); 2];
    let suite = Conformance::new(&bespoke_fake::BESPOKE_PLUGIN).config(json!({ "replies": replies })).slow_chat(ask("slowly"));
    held_against_a_process(suite, &bespoke_fake::BESPOKE_PLUGIN);
}

#[test]
fn what_a_hook_says_is_the_same_over_a_pipe() {
    for hook in [json!({ "replace": "something else" }), json!({ "veto": "not today" }), json!({ "fail": "broken" })] {
        held_against_a_process(
            Conformance::new(&bespoke_fake::BESPOKE_PLUGIN).config(json!({ "hook": hook })),
            &bespoke_fake::BESPOKE_PLUGIN,
        );
    }
}

/// What is heard, frame by frame, and what is said, to the last bit of each sample.
#[test]
fn hearing_and_speaking_are_the_same_over_a_pipe() {
    held_against_a_process(Conformance::new(&bespoke_vad_energy::BESPOKE_PLUGIN), &bespoke_vad_energy::BESPOKE_PLUGIN);
    held_against_a_process(Conformance::new(&bespoke_tts_flite::BESPOKE_PLUGIN), &bespoke_tts_flite::BESPOKE_PLUGIN);
}
