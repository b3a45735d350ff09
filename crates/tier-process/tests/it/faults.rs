//! The fault matrix: whatever a plugin does, the host lives, its caller is told what happened within its deadline, and nobody else
//! notices.

use std::time::{Duration, Instant};

use bespoke_host::State;
use bespoke_plugin_api::{Code, Vad, VadOptions, serde_json::json};
use bespoke_tier_process::Patience;

use crate::kit::{LONG, World, act, act_in, echo, logged, row, until, within};

/// What a caller gets.
enum Gets {
    Text(&'static str),
    Error(Code, &'static str),
}

use Gets::{Error, Text};

/// How long a caller waits who will wait in vain.
const SHORT: Duration = Duration::from_millis(700);

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_in_a_call_costs_that_plugin_only() {
    let cases = [
        ("raise", LONG, Error(Code::PLUGIN_EXCEPTION, "ValueError")),
        ("exit", LONG, Error(Code::PLUGIN_CRASHED, "exit code 3; it last said: about to go")),
        ("abort", LONG, Error(Code::PLUGIN_CRASHED, "SIGABRT")),
        ("segv", LONG, Error(Code::PLUGIN_CRASHED, "SIGSEGV")),
        ("bomb", LONG, Error(Code::PLUGIN_CRASHED, "reached its limit of memory")),
        ("loop", SHORT, Error(Code::EXECUTION_TIMEOUT, "")),
        ("garbage", LONG, Text("after garbage")),
        ("half and on", LONG, Text("after half")),
        ("half", LONG, Error(Code::PLUGIN_CRASHED, "exit code 0")),
        ("long", LONG, Error(Code::RESOURCE_EXHAUSTED, "67108864")),
        ("flood", SHORT, Error(Code::EXECUTION_TIMEOUT, "")),
        ("logs", SHORT, Error(Code::EXECUTION_TIMEOUT, "")),
        ("stderr", LONG, Text("still here")),
        ("never", SHORT, Error(Code::EXECUTION_TIMEOUT, "")),
        ("twice", LONG, Text("first")),
        ("wrong id", SHORT, Error(Code::EXECUTION_TIMEOUT, "")),
        ("wrong type", LONG, Error(Code::INVALID_REQUEST, "from the peer")),
        ("blind", SHORT, Error(Code::EXECUTION_TIMEOUT, "")),
        ("close stdout", LONG, Error(Code::PLUGIN_CRASHED, "closed its standard output and went on running")),
    ];
    for (what, limit, gets) in cases {
        let world = World::new();
        let victim = world.plugin_with("victim", "ok", "[resources]\nmemory_mb = 96");
        let host = world.host([victim, world.plugin("other", "ok")]).await;
        for id in ["victim", "other"] {
            assert_eq!(row(&host, id).state, State::Ready, "{what}: {:?}", row(&host, id).reason);
        }
        let others: Vec<_> = (0..8)
            .map(|n| {
                let host = host.clone();
                tokio::spawn(async move { act(&host, "other", json!({ "do": "sleep", "s": 0.1 * f64::from(n) })).await })
            })
            .collect();
        let begun = Instant::now();
        let got = act_in(&host, "victim", json!({ "do": what }), limit).await;
        let took = begun.elapsed();
        match (&got, &gets) {
            (Ok(text), Text(expected)) => assert_eq!(text, expected, "{what}"),
            (Err(e), Error(code, words)) => {
                assert_eq!((e.code(), e.plugin()), (*code, Some("victim")), "{what}: {e}");
                assert!(e.message().contains(words), "{what}: {e}");
            }
            (Err(e), Text(_)) => panic!("{what}: {e}"),
            (Ok(text), Error(..)) => panic!("{what}: {text}"),
        }
        if limit == SHORT {
            assert!(took < Duration::from_secs(10), "{what}: its deadline was {limit:?}, it took {took:?}");
        }
        for other in others {
            assert_eq!(within(other).await.unwrap().unwrap(), "slept", "{what}");
        }
        assert_eq!(echo(&host, "other").await.unwrap(), "1", "{what}");
        // It may be on its way back up again.
        within(host.shutdown()).await;
        until("nothing of it is left", || host.late_threads() == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_before_it_serves_is_why_it_does_not_start() {
    let cases = [
        ("exits", Code::LOAD_FAILED, "exit code 7 before it said hello; it last said: ImportError: no module named x"),
        ("newer", Code::LOAD_FAILED, "protocol 99"),
        ("somebody", Code::LOAD_FAILED, "`somebody`"),
        ("refuses", Code::INITIALIZE_FAILED, "it does not want to"),
        ("silent", Code::INITIALIZE_FAILED, "did not say hello within"),
        ("slow", Code::INITIALIZE_FAILED, "did not start within"),
    ];
    for (mode, code, words) in cases {
        let world = World::new();
        // Only those that have to be given up are waited for so long; half a second of it is what the host waits longer.
        let limit = if ["silent", "slow"].contains(&mode) { 5_000 } else { 60_000 };
        let victim = world.plugin_with("victim", mode, &format!("[resources]\nstart_timeout_ms = {limit}"));
        let host = world.host([victim, world.plugin("other", "ok")]).await;
        let row = row(&host, "victim");
        assert_eq!(row.state, State::Failed, "{mode}");
        assert!(row.reason.as_ref().is_some_and(|reason| reason.contains(words)), "{mode}: {:?}", row.reason);
        let e = echo(&host, "victim").await.unwrap_err();
        assert!([Code::NOT_READY, code].contains(&e.code()), "{mode}: {e:?}");
        assert_eq!(echo(&host, "other").await.unwrap(), "1", "{mode}");
        // The host may have been the first to lose its patience.
        until("nothing of it is left", || host.late_threads() == 0).await;
        within(host.shutdown()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_dies_in_the_middle_of_a_stream_ends_it_with_an_error() {
    let world = World::new();
    let host = world.host([world.plugin("victim", "dies mid-stream")]).await;
    let vad = host.find::<dyn Vad>("victim").unwrap();
    let mut stream = vad.lease().unwrap().open(&VadOptions::new(16_000)).unwrap();
    let mut events = 0;
    let error = within(async {
        loop {
            // Once it is over, a push says so, too; what came before it is still to be read.
            let _ = stream.push(&[0.0; 160]);
            match std::future::poll_fn(|cx| stream.poll_next(cx)).await {
                Some(Ok(_)) => events += 1,
                Some(Err(error)) => break error,
                None => panic!("ended without an error after {events} events"),
            }
        }
    })
    .await;
    assert_eq!((error.code(), events), (Code::PLUGIN_CRASHED, 3), "{error}");
    assert!(error.message().contains("exit code 9"), "{error}");
    within(host.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stray_line_is_a_warning_with_its_text() {
    logged();
    let world = World::new();
    let host = world.host([world.plugin("victim", "ok")]).await;
    act(&host, "victim", json!({ "do": "garbage" })).await.unwrap();
    let lines = json!([
        "plain",
        "WARNING: careful",
        "Traceback (most recent call last):",
        "  File \"x\"",
        "ValueError: no",
        "\u{1b}[31mERROR\u{1b}[0m red"
    ]);
    act(&host, "victim", json!({ "do": "stderr lines", "lines": lines })).await.unwrap();
    until("all is logged", || logged().contains("red")).await;
    let log = logged();
    for (level, words) in [
        ("WARN", "wrote a line to stdout that is no message: hello from print"),
        ("INFO", "plain"),
        ("WARN", "WARNING: careful"),
        ("ERROR", "Traceback (most recent call last):"),
        ("ERROR", "ValueError: no"),
        ("ERROR", "ERROR red"),
    ] {
        let found = log.lines().any(|line| line.trim_start().starts_with(level) && line.contains(words) && line.contains("victim"));
        assert!(found, "{level} {words}\n{log}");
    }
    within(host.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_floods_is_left_out_and_counted() {
    logged();
    let world = World::new();
    let host = world.host([world.plugin("victim", "ok")]).await;
    let e = act_in(&host, "victim", json!({ "do": "flood" }), Duration::from_secs(2)).await.unwrap_err();
    assert_eq!(e.code(), Code::EXECUTION_TIMEOUT);
    within(host.shutdown()).await;
    let log = logged();
    assert!(log.len() < 1 << 20, "{} bytes of log", log.len());
    assert!(log.contains("lines were left out"), "{}", &log[log.len().saturating_sub(2000)..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_says_nothing_more_is_degraded_and_then_ended() {
    let world = World::new().patience(Patience::default().pings(Duration::from_millis(300), 4));
    let host = world.host([world.plugin("victim", "ok")]).await;
    for what in ["loop", "blind"] {
        let pid = row(&host, "victim").facts["pid"].clone();
        let e = act_in(&host, "victim", json!({ "do": what }), Duration::from_millis(300)).await.unwrap_err();
        assert_eq!(e.code(), Code::EXECUTION_TIMEOUT);
        // A call that waits without a deadline of its own is told why it ends.
        let waits = tokio::spawn({
            let host = host.clone();
            async move { echo(&host, "victim").await }
        });
        until("degraded", || row(&host, "victim").health == "degraded" || row(&host, "victim").facts.get("pid") != Some(&pid)).await;
        let e = within(waits).await.unwrap().unwrap_err();
        assert_eq!(e.code(), Code::PLUGIN_CRASHED, "{what}: {e}");
        assert!(e.message().contains("did not answer for"), "{what}: {e}");
        until("it serves again", || row(&host, "victim").state == State::Ready && row(&host, "victim").facts.get("pid") != Some(&pid))
            .await;
        assert!(!crate::kit::lives(&pid));
        assert_eq!(echo(&host, "victim").await.unwrap(), "1");
    }
    within(host.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_crashed_is_brought_back_and_its_last_lines_are_kept() {
    let world = World::new();
    let host = world.host([world.plugin("victim", "ok")]).await;
    let before = row(&host, "victim").facts["pid"].clone();
    let e = act(&host, "victim", json!({ "do": "exit" })).await.unwrap_err();
    assert_eq!(e.data().unwrap()["stderr"], json!(["about to go"]));
    assert_eq!(e.data().unwrap()["exit"], json!(3));
    assert!(e.is_retryable());
    until("it is back", || row(&host, "victim").facts.get("pid").is_some_and(|pid| *pid != before)).await;
    assert_eq!(echo(&host, "victim").await.unwrap(), "1");
    within(host.shutdown()).await;
}
