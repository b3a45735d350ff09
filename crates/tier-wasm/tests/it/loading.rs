//! What is refused when it is loaded, in words of its user, and what a start can do wrong. Whatever it is, the host lives, and a plugin
//! beside it answers.

use std::{fs, time::Duration};

use bespoke_host::Host;
use bespoke_plugin_api::{Code, serde_json::json};

use crate::{
    kit::{World, act, within},
    text::Text,
};

fn text(change: impl FnOnce(&mut Text<'static>)) -> Vec<u8> {
    let mut text = Text::default();
    change(&mut text);
    wat::parse_str(text.component()).unwrap()
}

/// Each with its code and what its user reads of it.
fn cases() -> Vec<(&'static str, Vec<u8>, Code, &'static [&'static str])> {
    let whole = text(|_| {});
    let mut lying = whole.clone();
    // Announces a section that is longer than the file.
    lying[9] = 0xff;
    lying[10] = 0xff;
    let deep = "(func $deep (param i32) (result i32) (i32.add (call $deep (local.get 0)) (i32.const 1)))";
    let deep: &'static str = Box::leak(format!("(memory (export \"memory\") 2) {deep}").into_boxed_str());
    vec![
        ("nothing", Vec::new(), Code::LOAD_FAILED, &["it is no wasm", "bespoke plugin build DIR --tier wasm"]),
        ("a text", b"#!/bin/sh\n".to_vec(), Code::LOAD_FAILED, &["plugin.wasm: it is no wasm", "bespoke plugin build DIR --tier wasm"]),
        ("a core module", wat::parse_str("(module)").unwrap(), Code::LOAD_FAILED, &["it is a core module, and no component"]),
        ("a newer wasm", b"\0asm\x63\0\x01\0".to_vec(), Code::LOAD_FAILED, &["a version that this program does not know"]),
        (
            "cut off",
            whole[..whole.len() / 2].to_vec(),
            Code::LOAD_FAILED,
            &["plugin.wasm: it is no component, or not all of one", "bespoke plugin build DIR --tier wasm"],
        ),
        ("lying of a length", lying, Code::LOAD_FAILED, &["it is no component"]),
        (
            "no plugin",
            wat::parse_str("(component)").unwrap(),
            Code::LOAD_FAILED,
            &["no plugin", "bespoke:plugin/guest@1.0.0", "bespoke plugin build DIR --tier wasm"],
        ),
        ("a newer world", text(|t| t.version = "2.0.0"), Code::LOAD_FAILED, &["version 2.0.0", "this program has 1.0", "a newer version"]),
        (
            "an older world",
            text(|t| t.version = "0.3.0"),
            Code::LOAD_FAILED,
            &["version 0.3.0", "this program has 1.0", "bespoke plugin build DIR --tier wasm"],
        ),
        ("a newer minor one", text(|t| t.version = "1.9.0"), Code::LOAD_FAILED, &["version 1.9.0", "a newer version of this program"]),
        (
            "an import that nobody has",
            text(|t| t.imports = "(import \"acme:thing/x@1.0.0\" (instance))"),
            Code::LOAD_FAILED,
            &["it imports `acme:thing/x@1.0.0`", "bespoke plugin build"],
        ),
        (
            "a function that the host does not have",
            text(|t| t.imports = "(import \"bespoke:plugin/host@1.0.0\" (instance (export \"conjure\" (func))))"),
            Code::LOAD_FAILED,
            &["it imports `conjure`", "log, now, random, pull"],
        ),
        (
            "a function of another type",
            text(|t| t.imports = "(import \"bespoke:plugin/host@1.0.0\" (instance (export \"now\" (func (result string)))))"),
            Code::LOAD_FAILED,
            &["it does not fit this program", "now"],
        ),
        (
            "WASI",
            text(|t| t.imports = "(import \"wasi:io/poll@0.2.0\" (instance))"),
            Code::LOAD_FAILED,
            &["it asks for WASI (`wasi:io/poll@0.2.0`), and its manifest does not", "write wasi = true under [wasm] in its plugin.toml"],
        ),
        ("a trap in start", text(|t| t.start = "unreachable"), Code::LOAD_FAILED, &["aborted", "bespoke logs --plugin bad"]),
        (
            "an error of start",
            text(|t| {
                t.start = "(i32.const 256)";
                t.more = "(memory (export \"memory\") 2) (data (i32.const 256) \"\\01\\00\\00\\00\\10\\01\\00\\00\\02\\00\\00\\00\") \
                          (data (i32.const 272) \"no\")";
            }),
            Code::LOAD_FAILED,
            &["does not start: no"],
        ),
        (
            "frames that are none",
            text(|t| {
                t.step = "(i32.const 256)";
                t.more = "(memory (export \"memory\") 2) (data (i32.const 256) \"\\00\\00\\00\\00\\00\\02\\00\\00\\40\\00\\00\\00\")";
            }),
            Code::LOAD_FAILED,
            &["no frame header"],
        ),
        (
            "a list that is longer than its memory",
            text(|t| {
                t.step = "(i32.const 256)";
                t.more = "(memory (export \"memory\") 2) (data (i32.const 256) \"\\00\\00\\00\\00\\00\\02\\00\\00\\ff\\ff\\ff\\7f\")";
            }),
            Code::LOAD_FAILED,
            &["was ended"],
        ),
        (
            "recursion without an end",
            text(|t| {
                t.step = "(call $deep (i32.const 0))";
                t.more = deep;
            }),
            Code::LOAD_FAILED,
            &["its stack overflowed"],
        ),
        (
            "more memory than there may be",
            text(|t| t.more = "(memory (export \"memory\") 20000)"),
            Code::RESOURCE_EXHAUSTED,
            &["256 MiB of memory", "memory_mb"],
        ),
        (
            "a table without an end",
            text(|t| {
                t.step = "(loop $on (br_if $on (i32.ne (table.grow $t (ref.null func) (i32.const 9999)) (i32.const -1)))) unreachable";
                t.more = "(memory (export \"memory\") 2) (table $t 1 funcref)";
            }),
            Code::RESOURCE_EXHAUSTED,
            &["a table of more than 100000 elements"],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_plugin_is_refused_in_words_and_harms_nobody() {
    let world = World::new();
    let host = world.host([world.acts()]).await;
    for (name, bytes, code, words) in cases() {
        let (loaded, ()) = within(async { tokio::join!(host.load(world.bytes("bad", &bytes), None), answered(&host)) }).await;
        let error = loaded.expect_err(name);
        let shown = format!("{} {}", error.message(), error.help().unwrap_or_default());
        assert_eq!(error.code(), code, "{name}: {shown}");
        for words in words {
            assert!(shown.contains(words), "{name}: `{words}` is not in: {shown}");
        }
    }
    within(host.shutdown()).await;
}

/// The plugin beside it answers, each call with its own.
async fn answered(host: &Host) {
    let slow = act(host, "acts", json!({ "do": "sleeps", "n": 20 }));
    let quick = async {
        for n in 0..10 {
            assert_eq!(act(host, "acts", json!({ "do": "echo", "value": n })).await.unwrap(), n.to_string());
        }
    };
    assert_eq!(tokio::join!(slow, quick).0.unwrap(), "slept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_is_not_there_or_too_large_is_told_with_its_size() {
    let world = World::new().limits(|limits| limits.artifact = 100);
    let host = world.host([]).await;
    let large = world.text("large", &Text::default().component());
    let error = within(host.load(large, None)).await.unwrap_err();
    assert_eq!(error.code(), Code::LOAD_FAILED, "{error:?}");
    assert!(error.message().contains("a component may have 100"), "{}", error.message());

    let gone = world.text("gone", "(component)");
    fs::remove_file(world.path().join("plugins/gone/plugin.wasm")).unwrap();
    let error = within(host.load(gone, None)).await.unwrap_err();
    assert_eq!(error.code(), Code::LOAD_FAILED);
    assert!(error.message().ends_with("plugins/gone/plugin.wasm: there is no such file"), "{}", error.message());
    assert!(error.help().unwrap().contains("bespoke plugin build DIR --tier wasm"), "{:?}", error.help());
    within(host.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_an_end_is_ended_and_told() {
    let world = World::new();
    let endless = ["(loop $on (br $on)) unreachable", "(i32.const 0)"];
    let manifest = "[resources]\nstart_timeout_ms = 3000\n";
    let host = world.host([]).await;
    // In `start`, and in the first step.
    for (start, step) in [(endless[0], endless[1]), (endless[1], endless[0])] {
        let bytes = wat::parse_str(Text { start, step, ..Text::default() }.component()).unwrap();
        let plain = world.bytes("endless", &bytes);
        let text = fs::read_to_string(&plain.origin).unwrap();
        let candidate = world.plugin("endless", &format!("{text}{manifest}"), &bytes);
        let error = within(host.load(candidate, None)).await.unwrap_err();
        assert_eq!(error.code(), Code::INITIALIZE_FAILED, "{}", error.message());
        // By the tier, which says what it waited for, or on a busy machine by the host.
        assert!(error.message().contains("did not"), "{}", error.message());
    }
    within(host.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compilation_that_takes_too_long_is_told_goes_on_and_is_kept() {
    let slow = World::new().own_cache().limits(|limits| limits.compile = Duration::ZERO);
    let host = slow.host([]).await;
    let error = within(host.load(slow.acts(), None)).await.unwrap_err();
    assert_eq!(error.code(), Code::LOAD_FAILED);
    assert!(error.message().contains("it was not compiled within 0 s"), "{}", error.message());
    let folder = slow.cache().join("wasm");
    let kept = || fs::read_dir(&folder).into_iter().flatten().flatten().any(|entry| entry.path().extension().is_some_and(|e| e == "cwasm"));
    crate::kit::until("it is kept", kept).await;
    within(host.shutdown()).await;
}
