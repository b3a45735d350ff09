//! What a component has of WASI, and what it does not: only what its manifest asks for and its user grants, whatever it tries.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bespoke_host::{Host, State};
use bespoke_plugin_api::{
    CallCx, Code, Result, Tool, ToolRequest,
    serde_json::{Value, json},
};

use crate::{
    kit::{LONG, World, echo, row, wasi, within},
    text::Text,
};

async fn try_in(host: &Host, args: Value, limit: Duration) -> Result<String> {
    let slot = host.find::<dyn Tool>("wasi")?;
    let cx = CallCx::new().with_deadline(bespoke_host::now().plus(limit));
    let call = slot.call(&cx, |tool, cx| async move { tool.call(&cx, ToolRequest::new(args)).await });
    within(call).await.map(|output| output.to_text())
}

async fn tried(host: &Host, args: Value) -> String {
    try_in(host, args.clone(), LONG).await.unwrap_or_else(|e| panic!("{args}: {e:?}"))
}

/// A table: what is tried, and how what comes of it begins.
async fn try_all(host: &Host, cases: &[(Value, &str)]) {
    for (args, said) in cases {
        let got = tried(host, args.clone()).await;
        assert!(got.starts_with(said), "{args}: {got}, and not {said}");
    }
}

/// The manifest of one that asks for these.
fn asks(reads: &[&Path], writes: &[&Path]) -> String {
    format!(
        "[permissions]\nread_files = {}\nwrite_files = {}\nreasons = {{ read_files = \"reads\", write_files = \"writes\" }}\n",
        json!(reads),
        json!(writes)
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_granted_is_not_there() {
    let world = World::new();
    let host = world.host([world.wasi("")]).await;
    let cases = [
        (json!({ "do": "folders" }), "[]"),
        (json!({ "do": "read", "path": "/etc/passwd" }), "refused: there is no such folder"),
        (json!({ "do": "env" }), "[[],[],null]"),
        (json!({ "do": "stdin" }), "refused: StreamError::Closed"),
        (json!({ "do": "terminal" }), "false"),
        (json!({ "do": "tcp" }), "refused: ErrorCode { code: 1, name: \"access-denied\""),
        (json!({ "do": "udp" }), "refused: ErrorCode { code: 1, name: \"access-denied\""),
        (json!({ "do": "lookup" }), "refused: ErrorCode { code: 20, name: \"permanent-resolver-failure\""),
        (json!({ "do": "stdout", "text": "a line\n" }), "done"),
        (json!({ "do": "stderr", "text": "half of one" }), "done"),
        (json!({ "do": "flood", "n": 3000 }), "3000"),
        (json!({ "do": "random", "n": 16 }), "true"),
        (json!({ "do": "sleep", "n": 20 }), "true"),
    ];
    try_all(&host, &cases).await;
    let now = bespoke_host::now().0 / 1_000_000;
    let told: u64 = tried(&host, json!({ "do": "now" })).await.parse().unwrap();
    assert!((now..now + LONG.as_secs()).contains(&told), "{told} {now}");
    within(host.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_was_granted_is_there_as_it_was_granted_and_nothing_beside_it() {
    let world = World::new();
    let place = fs::canonicalize(world.path()).unwrap().join("files");
    let (read, write, secret) = (place.join("read"), place.join("write"), place.join("secret.txt"));
    for folder in [&read, &write] {
        fs::create_dir_all(folder.join("in")).unwrap();
        fs::write(folder.join("a.txt"), "aloud").unwrap();
        symlink("../secret.txt", folder.join("out")).unwrap();
        symlink(&secret, folder.join("absolute")).unwrap();
        symlink("..", folder.join("up")).unwrap();
        symlink("a.txt", folder.join("within")).unwrap();
    }
    fs::write(&secret, "secret").unwrap();
    let host = world.host([world.wasi(&asks(&[&read], &[&write])), world.acts()]).await;
    assert_eq!(row(&host, "wasi-guest").state, State::Ready, "{:?}", row(&host, "wasi-guest"));
    let at = |folder: &Path, what: &str, more: Value| {
        let mut args = json!({ "do": what, "folder": folder });
        args.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        args
    };
    let path = |folder: &Path, what: &str, path: &str| at(folder, what, json!({ "path": path }));

    let mut folders: Vec<String> = bespoke_plugin_api::serde_json::from_str(&tried(&host, json!({ "do": "folders" })).await).unwrap();
    folders.sort();
    assert_eq!(folders, [read.display().to_string(), write.display().to_string()]);
    for folder in [&read, &write] {
        try_all(
            &host,
            &[
                (path(folder, "read", "a.txt"), "aloud"),
                (path(folder, "read", "in/../a.txt"), "aloud"),
                (path(folder, "read", "within"), "aloud"),
                (at(folder, "list", json!({})), r#"["a.txt","absolute","in","out","up","within"]"#),
            ],
        )
        .await;
        for out in
            ["/", "/etc/passwd", "..", "../secret.txt", "in/../../secret.txt", "out", "absolute", "up", "up/secret.txt", "up/read/a.txt"]
        {
            for what in ["read", "write", "truncate"] {
                let got = tried(&host, at(folder, what, json!({ "path": out, "text": "changed" }))).await;
                assert!(got.starts_with("refused: ErrorCode"), "{what} {out}: {got}");
            }
        }
    }

    // Nothing is changed where only reading was granted, and nothing is carried out of it or into it.
    for (what, more) in [
        ("write", json!({ "path": "a.txt", "text": "changed" })),
        ("write", json!({ "path": "new.txt", "text": "new" })),
        ("truncate", json!({ "path": "a.txt" })),
        ("mkdir", json!({ "path": "new" })),
        ("remove", json!({ "path": "a.txt" })),
        ("touch", json!({ "path": "a.txt" })),
        ("symlink", json!({ "path": "new", "to": "a.txt" })),
        ("rename", json!({ "path": "a.txt", "into": write, "to": "taken.txt" })),
        ("link", json!({ "path": "a.txt", "into": write, "to": "linked.txt" })),
        ("rename", json!({ "path": "a.txt", "into": read, "to": "renamed.txt" })),
    ] {
        let got = tried(&host, at(&read, what, more.clone())).await;
        assert!(got.starts_with("refused: ErrorCode"), "{what} {more}: {got}");
    }
    for what in ["rename", "link"] {
        let got = tried(&host, at(&write, what, json!({ "path": "a.txt", "into": read, "to": "brought.txt" }))).await;
        assert!(got.starts_with("refused: ErrorCode"), "{what}: {got}");
    }

    // And where writing was granted, all of that can be done, but for links that lead out.
    try_all(
        &host,
        &[
            (at(&write, "write", json!({ "path": "new.txt", "text": "new" })), "3"),
            (path(&write, "mkdir", "new"), "done"),
            (at(&write, "rename", json!({ "path": "new.txt", "into": write, "to": "new/renamed.txt" })), "done"),
            (path(&write, "read", "new/renamed.txt"), "new"),
            (path(&write, "touch", "a.txt"), "done"),
            (path(&write, "truncate", "a.txt"), "done"),
            (path(&write, "remove", "a.txt"), "done"),
            (at(&write, "symlink", json!({ "path": "far", "to": secret })), "refused: ErrorCode"),
        ],
    )
    .await;
    let _ = tried(&host, at(&write, "symlink", json!({ "path": "near", "to": "../secret.txt" }))).await;
    assert!(tried(&host, path(&write, "read", "near")).await.starts_with("refused: ErrorCode"));
    assert_eq!(fs::read_to_string(write.join("new/renamed.txt")).unwrap(), "new");
    assert_eq!(fs::read_to_string(read.join("a.txt")).unwrap(), "aloud");
    assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
    assert_eq!(fs::read_dir(&read).unwrap().count(), 6);

    // What stands there later is not what was granted.
    fs::rename(&read, place.join("moved")).unwrap();
    symlink(&place, &read).unwrap();
    within(host.restart("wasi-guest")).await.unwrap();
    assert_eq!(tried(&host, json!({ "do": "folders" })).await, json!([write]).to_string());
    assert_eq!(echo(&host).await.unwrap(), "7");
    within(host.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_no_folder_and_what_is_not_there_keeps_nobody_from_starting() {
    let world = World::new();
    let place = fs::canonicalize(world.path()).unwrap();
    let file = place.join("file");
    fs::write(&file, "x").unwrap();
    let host = world.host([world.wasi(&asks(&[&file], &[&place.join("nothing")]))]).await;
    assert_eq!(tried(&host, json!({ "do": "folders" })).await, "[]");
    within(host.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_long_ends_as_who_computes_for_long() {
    // A caller who has gone.
    let world = World::new().limits(|limits| limits.unwanted = Duration::from_millis(100));
    let host = world.host([world.wasi(""), world.acts()]).await;
    let begun = Instant::now();
    let hour = json!({ "do": "sleep", "n": 3_600_000 });
    let error = try_in(&host, hour.clone(), Duration::from_millis(300)).await.unwrap_err();
    assert_eq!(error.code(), Code::EXECUTION_TIMEOUT, "{error:?}");
    assert_eq!(echo(&host).await.unwrap(), "7");
    // It is ended soon, and the next one answers.
    answers_again(&host).await;
    assert!(begun.elapsed() < LONG, "{:?}", begun.elapsed());
    within(host.shutdown()).await;

    // A caller who waits, too.
    let world = World::new().limits(|limits| limits.step = Duration::from_millis(300));
    let host = world.host([world.wasi("")]).await;
    for (args, said) in [(hour, "waited for 0.6 s without an answer"), (json!({ "do": "spin" }), "for 0.")] {
        let error = try_in(&host, args.clone(), LONG).await.unwrap_err();
        assert_eq!(error.code(), Code::EXECUTION_TIMEOUT, "{args}: {error:?}");
        assert!(error.message().contains(said) && error.message().contains("without an answer"), "{args}: {}", error.message());
        answers_again(&host).await;
    }
    within(host.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_exits_or_hoards_ends_alone() {
    let world = World::new();
    let host = world.host([world.wasi(""), world.acts()]).await;
    for (args, said) in [
        (json!({ "do": "exit" }), "exit"),
        (json!({ "do": "hoard", "n": 20_000 }), "table"),
        (json!({ "do": "random", "n": 1_000_000 }), "was ended"),
    ] {
        // A plugin that has failed too often is left alone: each begins with a fresh record.
        within(host.unload("wasi-guest")).await.unwrap();
        within(host.load(world.wasi(""), None)).await.unwrap();
        let error = try_in(&host, args.clone(), LONG).await.unwrap_err();
        assert_eq!(error.code(), Code::PLUGIN_CRASHED, "{args}: {error:?}");
        assert!(error.message().contains(said), "{args}: {}", error.message());
        answers_again(&host).await;
        assert_eq!(echo(&host).await.unwrap(), "7");
    }
    within(host.shutdown()).await;
}

/// The next instance answers.
async fn answers_again(host: &Host) {
    let begun = Instant::now();
    loop {
        match try_in(host, json!({ "do": "terminal" }), LONG).await {
            Ok(said) => return assert_eq!(said, "false"),
            Err(error) => assert!(begun.elapsed() < LONG, "{error:?}"),
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn who_waits_keeps_no_thread_of_the_runtime() {
    // One thread for everybody: it goes on while the guest waits for a clock of WASI.
    let world = World::new();
    let host = Arc::new(world.host([world.wasi("")]).await);
    let over = Arc::new(AtomicBool::new(false));
    let ends = over.clone();
    let others = tokio::spawn(async move {
        let mut turns = 0;
        while !ends.load(Ordering::SeqCst) {
            turns += 1;
            tokio::task::yield_now().await;
        }
        turns
    });
    assert_eq!(tried(&host, json!({ "do": "sleep", "n": 500 })).await, "true");
    over.store(true, Ordering::SeqCst);
    let turns = within(others).await.unwrap();
    assert!(turns > 20, "{turns}");
    within(host.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_ask_is_not_given_it_and_what_there_is_not_is_named() {
    let world = World::new();
    let host = world.host([world.wasi(""), world.acts()]).await;
    assert_eq!(tried(&host, json!({ "do": "folders" })).await, "[]");
    // The same component, which is loaded with WASI.
    let silent = world.bytes("silent", &fs::read(wasi()).unwrap());
    let error = within(host.load(silent, None)).await.unwrap_err();
    let shown = format!("{} {}", error.message(), error.help().unwrap_or_default());
    assert_eq!(error.code(), Code::LOAD_FAILED, "{shown}");
    assert!(shown.contains("it asks for WASI (`wasi:") && shown.contains("write wasi = true under [wasm] in its plugin.toml"), "{shown}");

    for (interface, words) in [
        ("wasi:http/types@0.2.0", "it asks for `http` of WASI, and this program gives cli, clocks, filesystem, io, random, sockets"),
        ("wasi:io/poll@0.3.0", "it asks for version 0.3.0 of WASI, and this program has 0.2"),
    ] {
        let imports = format!("(import \"{interface}\" (instance))");
        let bytes = wat::parse_str(Text { imports: &imports, ..Text::default() }.component()).unwrap();
        let plain = fs::read_to_string(world.bytes("asking", &bytes).origin).unwrap();
        let error = within(host.load(world.plugin("asking", &format!("{plain}wasi = true\n"), &bytes), None)).await.unwrap_err();
        assert_eq!(error.code(), Code::LOAD_FAILED, "{error:?}");
        assert!(error.message().contains(words), "{}", error.message());
    }
    assert_eq!(echo(&host).await.unwrap(), "7");
    within(host.shutdown()).await;
}
