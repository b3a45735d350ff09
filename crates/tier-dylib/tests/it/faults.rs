//! Every fault of a library that leaves the program alive: its own plugin is told to be broken, with what to do; callers are let go in
//! time, and calls of others that are in flight meanwhile are answered.

use std::{fmt::Write as _, fs, path::Path, time::Duration};

use bespoke_host::{Candidate, Host, State};
use bespoke_plugin_api::{Code, serde_json::json};
use expect_test::{Expect, expect};

use crate::kit::{LONG, World, act, act_in, example, row, until, within};

/// Somebody else, who has to be answered whatever happens.
pub(crate) fn neighbour(world: &World) -> Candidate {
    let package = bespoke_fake::BESPOKE_PLUGIN.package();
    let folder = world.folder("fake", &[], &example("dylib_fake"));
    let manifest = format!("version = \"1.0.0\"\nlicense = \"Apache-2.0\"\n{}\n[dylib]\nfile = \"plugin.so\"\n", package.manifest);
    fs::write(folder.join("plugin.toml"), manifest).unwrap();
    world.candidate(&folder)
}

/// A call of the neighbour that is in flight while something happens.
async fn beside<T>(host: &Host, happens: impl Future<Output = T>) -> T {
    let waits = act_in(host, "fake_wait", json!({ "ms": 300, "steps": 10 }), LONG);
    let echoes = async {
        for n in 0..20 {
            let echo = act_in(host, "fake_echo", json!({ "n": n }), LONG).await;
            assert_eq!(echo.unwrap(), json!({ "n": n }).to_string());
        }
    };
    let (done, waited, ()) = tokio::join!(happens, waits, echoes);
    assert_eq!(waited.unwrap(), "waited 300 ms");
    done
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_such_plugin_is_refused_before_it_is_called_and_the_others_start() {
    let faults = [
        "NO_SYMBOL",
        "NO_DESCRIPTOR",
        "CROOKED",
        "WRONG_MAGIC",
        "WRONG_MAJOR",
        "TOO_SMALL",
        "TOO_LARGE",
        "SMALL_HOST",
        "OTHER_ID",
        "NO_STEP",
        "BAD_TEXT",
        "LONG_TEXT",
        "OTHER_PROTOCOL",
        "OPEN_FAILS",
        "OPEN_NOTHING",
        "OTHER_HELLO",
        "START_FAILS",
    ];
    let mut told = String::new();
    for fault in faults {
        let world = World::new();
        let host = world.host([world.fault(fault), neighbour(&world)]).await;
        assert_eq!(row(&host, "fake").state, State::Ready);
        let failed = row(&host, "faults");
        assert_eq!(failed.state, State::Failed, "{fault}: {failed:?}");
        let reason = failed.reason.unwrap().replace(&world.path().display().to_string(), "…");
        writeln!(told, "{fault}: {reason}; {}", failed.fix.as_deref().unwrap_or("no help")).unwrap();
        beside(&host, act(&host, "faults", "")).await.unwrap_err();
        within(host.shutdown()).await;
        assert_eq!(host.late_threads(), 0, "{fault}");
    }
    expect![[r#"
        NO_SYMBOL: …/plugins/faults/plugin.so: it is no plugin: it does not export `bespoke_plugin_v1`; build it for this program: bespoke plugin build DIR --tier dylib; or ask its author for such a build
        NO_DESCRIPTOR: …/plugins/faults/plugin.so: its `bespoke_plugin_v1` gives no descriptor; build it for this program: bespoke plugin build DIR --tier dylib; or ask its author for such a build
        CROOKED: …/plugins/faults/plugin.so: its `bespoke_plugin_v1` gives no descriptor; build it for this program: bespoke plugin build DIR --tier dylib; or ask its author for such a build
        WRONG_MAGIC: …/plugins/faults/plugin.so: its descriptor begins with 0x000000000000002a, and that of a plugin with 0x01454b4f50534542; build it for this program: bespoke plugin build DIR --tier dylib; or ask its author for such a build
        WRONG_MAJOR: …/plugins/faults/plugin.so: it is made for version 9.0 of the library interface, and this program has 1.0; build it for this program: bespoke plugin build DIR --tier dylib; or ask its author for such a build
        TOO_SMALL: …/plugins/faults/plugin.so: its descriptor has 64 bytes, and that of version 1.0 of the library interface 128; build it for this program: bespoke plugin build DIR --tier dylib; or ask its author for such a build
        TOO_LARGE: …/plugins/faults/plugin.so: its descriptor has 1073741824 bytes, and that of version 1.0 of the library interface 128; build it for this program: bespoke plugin build DIR --tier dylib; or ask its author for such a build
        SMALL_HOST: …/plugins/faults/plugin.so: its idea of the host's functions has 8 bytes, and that of version 1.0 of the library interface 40; build it for this program: bespoke plugin build DIR --tier dylib; or ask its author for such a build
        OTHER_ID: …/plugins/faults/plugin.so: it is the plugin `thermo`, and its folder says `faults`; build it for this program: bespoke plugin build DIR --tier dylib; or ask its author for such a build
        NO_STEP: …/plugins/faults/plugin.so: its descriptor lacks a function: it needs open, step and close; build it for this program: bespoke plugin build DIR --tier dylib; or ask its author for such a build
        BAD_TEXT: …/plugins/faults/plugin.so: the id in its descriptor is no UTF-8: invalid utf-8 sequence of 1 bytes from index 0; build it for this program: bespoke plugin build DIR --tier dylib; or ask its author for such a build
        LONG_TEXT: …/plugins/faults/plugin.so: the version in its descriptor is no text, of 1099511627776 bytes; build it for this program: bespoke plugin build DIR --tier dylib; or ask its author for such a build
        OTHER_PROTOCOL: …/plugins/faults/plugin.so: it speaks protocol 9, and this program 1 to 1; build it for this program: bespoke plugin build DIR --tier dylib; or ask its author for such a build
        OPEN_FAILS: …/plugins/faults/plugin.so: the library did not open: failed: no luck today; see what it logged: bespoke logs --plugin faults
        OPEN_NOTHING: …/plugins/faults/plugin.so: the library did not open: it gave no instance; see what it logged: bespoke logs --plugin faults
        OTHER_HELLO: the guest is the plugin `somebody`, not `faults`; mend id in its plugin.toml, or build the plugin that it names
        START_FAILS: the library failed: it does not start; see what it logged: bespoke logs --plugin faults
    "#]].assert_eq(&told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_newer_or_a_plain_library_says_is_taken() {
    for fault in ["NOTHING", "NEWER_MINOR", "NO_CANARIES"] {
        let world = World::new();
        let host = world.host([world.fault(fault)]).await;
        assert_eq!(act(&host, "faults", "").await.unwrap(), "a word", "{fault}");
        within(host.shutdown()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_no_library_is_told() {
    type Spoil = fn(&Path);
    let half = |file: &Path| {
        let bytes = fs::read(file).unwrap();
        fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
    };
    let spoils: [(&str, Spoil, &str); 6] = [
        ("text", |file| fs::write(file, "no library").unwrap(), "it is no library of this system: it does not begin as one in ELF does"),
        ("empty", |file| fs::write(file, "").unwrap(), "it cannot be loaded: it is cut off"),
        ("cut off", |file| fs::write(file, &fs::read(file).unwrap()[..5000]).unwrap(), "it cannot be loaded: it is cut off"),
        ("cut off late", half, "it cannot be loaded: "),
        (
            "a folder",
            |file| {
                fs::remove_file(file).unwrap();
                fs::create_dir(file).unwrap();
            },
            "it is no file",
        ),
        ("nothing", |file| fs::remove_file(file).unwrap(), "there is no such file"),
    ];
    for (what, spoil, why) in spoils {
        let world = World::new();
        let plugin = world.fault("NOTHING");
        let file = world.path().join("plugins/faults/plugin.so");
        spoil(&file);
        let host = world.host([plugin, neighbour(&world)]).await;
        let failed = row(&host, "faults");
        assert_eq!((failed.state, row(&host, "fake").state), (State::Failed, State::Ready), "{what}: {failed:?}");
        let reason = failed.reason.unwrap();
        assert!(reason.starts_with(&format!("{}: {why}", file.display())), "{what}: {reason}");
        assert!(!reason.contains("/cache/"), "{what}: {reason}");
        assert!(failed.fix.as_ref().is_some_and(|fix| fix.contains("bespoke plugin build DIR --tier dylib")), "{what}: {:?}", failed.fix);
        within(host.shutdown()).await;
    }
    // What it needs of others is asked for when it is opened, and not where it is first called.
    let world = World::new();
    let host = world.host([world.fault("UNBOUND")]).await;
    let reason = row(&host, "faults").reason.unwrap();
    assert!(reason.contains("undefined symbol: nobody_has_this"), "{reason}");
    within(host.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_answer_is_ended_at_its_limit() {
    for (fault, why) in [("NO_HELLO", "did not say hello within"), ("START_HANGS", "did not start within")] {
        // Where the machine stands still for longer than the difference, it is the host that says so, a little later.
        let world = World::new();
        world.fault(fault);
        let folder = world.path().join("plugins/faults");
        let manifest = fs::read_to_string(folder.join("plugin.toml")).unwrap() + "[resources]\nstart_timeout_ms = 3000\n";
        fs::write(folder.join("plugin.toml"), manifest).unwrap();
        let host = world.host([world.candidate(&folder)]).await;
        let failed = row(&host, "faults");
        assert_eq!(failed.state, State::Failed, "{fault}: {failed:?}");
        assert!(
            failed.reason.as_ref().is_some_and(|told| told.contains(why) || told.contains("did not start within")),
            "{fault}: {failed:?}"
        );
        until("nothing of it is left behind", || host.late_threads() == 0).await;
        within(host.shutdown()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_blocks_is_left_behind_and_counted() {
    for fault in ["OPEN_BLOCKS", "START_BLOCKS"] {
        let world = World::new();
        let release = world.path().join("release");
        let config = "[plugins]\nstart_timeout_ms = 3000\n[plugins.faults]\nallow_native = true\n[plugins.fake]\nallow_native = true\n";
        let plugins = vec![world.fault_with(fault, &[("RELEASE", &release)]), neighbour(&world)];
        let host = world.host_configured(config, plugins).await;
        let failed = row(&host, "faults");
        assert_eq!((failed.state, row(&host, "fake").state), (State::Failed, State::Ready), "{fault}: {failed:?}");
        assert!(failed.reason.is_some_and(|why| why.contains("its thread was left behind")), "{fault}");
        assert_eq!(host.late_names(), ["start-faults"], "{fault}");
        beside(&host, async {}).await;
        fs::write(&release, "").unwrap();
        until("the thread comes back", || host.late_threads() == 0).await;
        within(host.shutdown()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_blocks_or_hangs_lets_its_caller_go() {
    for fault in ["CALL_HANGS", "CALL_BLOCKS", "NEVER_READY"] {
        let world = World::new();
        let release = world.path().join("release");
        let host = world.host([world.fault_with(fault, &[("RELEASE", &release)]), neighbour(&world)]).await;
        for _ in 0..3 {
            let late = beside(&host, act_in(&host, "faults", json!({}), Duration::from_millis(300))).await.unwrap_err();
            assert_eq!(late.code(), Code::EXECUTION_TIMEOUT, "{fault}: {late}");
        }
        if fault == "CALL_BLOCKS" {
            assert!(host.late_threads() > 0);
            fs::write(&release, "").unwrap();
            assert_eq!(act(&host, "faults", "").await.unwrap(), "a word", "it goes on where it was");
            until("the threads come back", || host.late_threads() == 0).await;
        }
        within(host.shutdown()).await;
        assert_eq!(host.late_threads(), 0, "{fault}");
    }
}

/// Whoever looks how it does, or who is there, does not wait for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_blocks_when_it_is_asked_how_it_does_keeps_nobody() {
    let world = World::new();
    let release = world.path().join("release");
    let host = world.host([world.fault_with("HEALTH_BLOCKS", &[("RELEASE", &release)]), neighbour(&world)]).await;
    beside(&host, async {
        for _ in 0..3 {
            assert_eq!(host.rows().len(), 2);
        }
    })
    .await;
    fs::write(&release, "").unwrap();
    assert_eq!(act(&host, "faults", "").await.unwrap(), "a word", "it goes on where it was");
    within(host.shutdown()).await;
    until("the threads come back", || host.late_threads() == 0).await;
}

/// One that blocks for ever does not keep the host from ending; the program ends its runtime without it, as it does for what is compiled in.
#[test]
fn a_host_ends_without_what_blocks() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let world = World::new();
        let host = world.host([world.fault_with("CALL_BLOCKS", &[("RELEASE", Path::new("/nowhere/release"))])]).await;
        act_in(&host, "faults", json!({}), Duration::from_millis(300)).await.unwrap_err();
        within(host.shutdown()).await;
        assert!(!matches!(row(&host, "faults").state, State::Ready | State::Draining));
    });
    runtime.shutdown_background();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_breaks_in_a_call_is_told_and_started_again() {
    let expected: [(&str, Expect); 7] = [
        ("BREAKS", expect!["the library panicked: all is lost"]),
        ("FAILS", expect!["the library failed: it cannot go on"]),
        ("MEANS_NOTHING", expect!["the library returned 77, which means nothing: it does not say why"]),
        ("SAYS_TOO_MUCH", expect!["the library said more than 536870912 bytes in one step, and was ended"]),
        ("HALF", expect!["was ended: it stopped in the midst of a frame"]),
        ("ALWAYS_MORE", expect!["was ended: it asked 1048576 times in a row for another step, and did nothing in any"]),
        ("LIES", expect!["the link to the plugin is lost: [6e, 6f, 20, 66] is no frame header; does something else write to this stream?"]),
    ];
    for (fault, words) in expected {
        let world = World::new();
        let host = world.host([world.fault(fault), neighbour(&world)]).await;
        let broke = beside(&host, act(&host, "faults", "")).await.unwrap_err();
        assert!(broke.code() == Code::PLUGIN_CRASHED && broke.is_retryable(), "{fault}: {broke:?}");
        words.assert_eq(broke.message());
        until("it is started again", || row(&host, "faults").state == State::Ready).await;
        within(host.shutdown()).await;
        assert_eq!(host.late_threads(), 0, "{fault}");
    }
}

/// What it was given stays good after it is closed, also when somebody else has taken the place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_wakes_after_it_was_closed_harms_nobody() {
    let world = World::new();
    let host = world.host([world.fault("WAKES")]).await;
    assert_eq!(act(&host, "faults", "").await.unwrap(), "a word");
    within(host.shutdown()).await;
    drop(host);
    // Its threads go on; these have its places, among others.
    for _ in 0..3 {
        let host = world.host([world.fault("WAKES"), neighbour(&world)]).await;
        for _ in 0..5 {
            assert_eq!(beside(&host, act(&host, "faults", "")).await.unwrap(), "a word");
        }
        within(host.shutdown()).await;
    }
}
