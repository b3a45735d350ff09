//! A library in Rust that panics, wherever it can: the one who asked is told, nobody else notices, and the host's own panics stay its own.

use std::{
    panic::{catch_unwind, set_hook, take_hook},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bespoke_host::{State, Terms};
use bespoke_plugin_api::{CallCx, Code, Contribution, Duplex, Level, Tool, ToolRequest, Tts, TtsOptions, next, serde_json::json};
use bespoke_plugin_testkit::TestHost;

use crate::kit::{World, act, row, until, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_does_not_come_up_says_why() {
    for (mode, keys, why) in [
        ("declare", "", "panicked: in register"),
        ("", "begin = \"panic\"", "panicked: in start"),
        ("", "begin = \"fail\"", "it does not want to"),
    ] {
        let world = World::new();
        let host = world.host_with(keys, [world.faulty(mode)]).await;
        let failed = row(&host, "faulty");
        assert_eq!(failed.state, State::Failed, "{failed:?}");
        assert!(failed.reason.as_ref().is_some_and(|told| told.contains(why)), "{keys}: {failed:?}");
        within(host.shutdown()).await;
        assert_eq!(host.late_threads(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_hangs_in_its_start_is_ended_at_its_limit() {
    let world = World::new();
    let host = world.host_configured(
        "[plugins]\nstart_timeout_ms = 3000\n[plugins.faulty]\nallow_native = true\nbegin = \"hang\"\n",
        vec![world.faulty("")],
    );
    let host = host.await;
    let failed = row(&host, "faulty");
    assert_eq!(failed.state, State::Failed, "{failed:?}");
    assert!(failed.reason.is_some_and(|why| why.contains("did not start within")));
    until("nothing of it is left behind", || host.late_threads() == 0).await;
    within(host.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_panics_is_an_error_of_that_call() {
    let world = World::new();
    let host = world.host([world.faulty("")]).await;
    for _ in 0..3 {
        for (what, code, why) in [
            ("panic", Code::PLUGIN_EXCEPTION, "in a call"),
            ("twice", Code::PLUGIN_EXCEPTION, "panicked: without a message"),
            ("fail", Code::INTERNAL_ERROR, "as told"),
            ("broken work", Code::PLUGIN_EXCEPTION, "the work panicked"),
        ] {
            let error = act(&host, "faulty", what).await.unwrap_err();
            assert_eq!(error.code(), code, "{what}: {error}");
            assert!(error.message().contains(why), "{what}: {error}");
        }
        assert_eq!(act(&host, "faulty", "thread").await.unwrap(), "went on");
        assert_eq!(act(&host, "faulty", "work").await.unwrap(), "worked");
    }
    assert_eq!(row(&host, "faulty").state, State::Ready, "the instance lives");
    within(host.shutdown()).await;
    assert_eq!(row(&host, "faulty").state, State::Stopped);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_panics_ends_alone_and_so_does_a_drop() {
    let world = World::new();
    let plugin = world.faulty("stream");
    let host = TestHost::new();
    let config = json!({ "drop": "panic" });
    let instance = within(plugin.artifact.start(host.context("faulty"), config, Terms::default())).await.unwrap();
    let found = instance.contributions.iter().find_map(|c| if let Contribution::Tts(_, tts) = c { Some(tts.clone()) } else { None });
    let tts: Arc<dyn Tts> = found.unwrap();
    let open = || tts.open(&TtsOptions::default()).unwrap();
    let (mut breaks, mut goes_on): (Box<dyn Duplex<_, _>>, _) = (open(), open());
    breaks.push("panic").unwrap();
    let error = within(next(&mut *breaks)).await.unwrap().unwrap_err();
    assert!(error.code() == Code::PLUGIN_EXCEPTION && error.message().contains("in push"), "{error}");
    goes_on.push("not yet").unwrap();
    // Dropping one panics in the library, and is told in the log.
    drop((breaks, goes_on));
    let found = instance.contributions.iter().find_map(|c| if let Contribution::Tool(_, tool) = c { Some(tool.clone()) } else { None });
    let tool: Arc<dyn Tool> = found.unwrap();
    let answer = within(tool.call(&CallCx::new(), ToolRequest::new(json!({})))).await.unwrap();
    assert_eq!(answer.to_text(), "stream");
    let logged = |what: &str| host.lines().iter().any(|(level, line)| *level == Level::Error && line.contains(what));
    until("the panic is told", || logged("faulty panicked at") && logged("in push") && logged("in the drop of a stream")).await;
    drop((tts, tool));
    within(instance.life.shutdown()).await;
}

/// A library has its own copy of what panics go through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hosts_panics_stay_its_own() {
    let seen = Arc::new((AtomicUsize::new(0), Mutex::new(Vec::new())));
    let told = seen.clone();
    let before = take_hook();
    set_hook(Box::new(move |info| {
        let what = info.payload_as_str().unwrap_or_default().to_owned();
        if what == "of the host" {
            told.0.fetch_add(1, Ordering::SeqCst);
        }
        told.1.lock().unwrap().push(what);
    }));
    let world = World::new();
    let host = world.host([world.faulty("")]).await;
    act(&host, "faulty", "panic").await.unwrap_err();
    catch_unwind(|| panic!("of the host")).unwrap_err();
    set_hook(before);
    assert_eq!(seen.0.load(Ordering::SeqCst), 1);
    assert!(!seen.1.lock().unwrap().iter().any(|what| what == "in a call"), "a panic of the library went through the host's hook");
    within(host.shutdown()).await;
}
