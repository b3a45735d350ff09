//! What works: calls, streams, host calls, state across a swap; and what is told of an instance.

use std::{fs, sync::Arc, time::Duration};

use bespoke_host::State;
use bespoke_plugin_api::{
    Code, Vad, VadEvent, VadOptions,
    serde_json::{Value, json},
};
use futures_util::future::join_all;

use crate::kit::{World, act, act_in, acts, echo, row, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_portable_plugin_answers_calls_and_streams() {
    let world = World::new();
    let host = world.host([world.acts()]).await;
    assert_eq!(echo(&host).await.unwrap(), "7", "{:?}", row(&host, "acts"));
    for (args, said) in [
        (json!({ "do": "blocking", "n": 41 }), "42"),
        (json!({ "do": "sleeps", "n": 5 }), "slept"),
        (json!({ "do": "random", "n": 0 }), "0"),
        (json!({ "do": "store", "key": "a", "value": "b" }), "b"),
        (json!({ "do": "length", "value": "x".repeat(3 << 20) }), "3145728"),
    ] {
        assert_eq!(act(&host, "acts", args.clone()).await.as_deref(), Ok(said), "{args:.60}");
    }
    let zeros: usize = act(&host, "acts", json!({ "do": "random", "n": 200_000 })).await.unwrap().parse().unwrap();
    assert!((400..1400).contains(&zeros), "of 200,000 random bytes 781 are 0, more or less: {zeros}");
    assert_eq!(act(&host, "acts", json!({ "do": "many", "n": 5 << 20 })).await.unwrap().len(), 5 << 20);
    let error = act(&host, "acts", json!({ "do": "file", "path": "/etc/passwd" })).await.unwrap_err();
    assert!(error.message().contains("operation not supported"), "{}", error.message());
    assert!(error.help().is_some_and(|help| help.contains("cx.host().store()")), "{error:?}");

    let facts = row(&host, "acts").facts;
    assert_eq!(facts["tier"], "wasm");
    assert!(facts["memory"].ends_with("MiB of 256") && facts["sandbox"] == "enforced", "{facts:?}");
    within(host.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_waits_keeps_no_other_from_its_answer() {
    let world = World::new();
    let host = Arc::new(world.host([world.acts()]).await);
    let waiting = (0..20).map(|_| act(&host, "acts", json!({ "do": "sleeps", "n": 300 })));
    let quick = (0..200).map(|n| {
        let host = host.clone();
        async move { assert_eq!(act(&host, "acts", json!({ "do": "echo", "value": n })).await.unwrap(), n.to_string()) }
    });
    let (waited, _) = within(async { tokio::join!(join_all(waiting), join_all(quick)) }).await;
    assert!(waited.iter().all(|answer| answer.as_deref() == Ok("slept")));
    within(host.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minute_of_audio_in_frames_is_heard_to_the_last_frame() {
    let world = World::new();
    let host = world.host([world.acts()]).await;
    let slot = host.find::<dyn Vad>("acts").unwrap();
    let mut stream = slot.lease().unwrap().open(&VadOptions::new(16_000)).unwrap();
    let mut heard = Vec::new();
    let mut expected = Vec::new();
    for n in 0..3000u64 {
        let loud = n / 50 % 2 == 1;
        if n % 50 == 0 && n > 0 {
            expected.push(if loud { VadEvent::speech_start(n * 320, n * 320) } else { VadEvent::speech_end(n * 320, n * 320) });
        }
        within(std::future::poll_fn(|cx| stream.poll_ready(cx))).await.unwrap();
        stream.push(&[if loud { 0.9 } else { 0.0 }; 320]).unwrap();
    }
    stream.finish().unwrap();
    while let Some(event) = within(std::future::poll_fn(|cx| stream.poll_next(cx))).await {
        heard.push(event.unwrap());
    }
    assert_eq!(heard, expected);
    drop(stream);
    within(host.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_takes_new_code_from_the_same_place_takes_the_state_along_and_loses_no_call() {
    let world = World::new();
    let manifest = format!("swap = \"exclusive\"\n{}", fs::read_to_string(world.acts().origin).unwrap());
    let host = Arc::new(world.host([world.plugin("acts", &manifest, &fs::read(acts()).unwrap())]).await);
    let count = json!({ "do": "count" });
    for n in 1..=3 {
        assert_eq!(act(&host, "acts", count.clone()).await.unwrap(), n.to_string());
    }
    // A custom section more is another component.
    let newer = [&fs::read(acts()).unwrap()[..], &[0, 5, 4, b'n', b'o', b't', b'e']].concat();
    fs::write(world.path().join("plugins/acts/plugin.wasm"), newer).unwrap();
    let calls = join_all((0..50).map(|n| {
        let host = host.clone();
        async move { act(&host, "acts", json!({ "do": "sleeps", "n": 5 * n })).await }
    }));
    let before = row(&host, "acts").facts["component"].clone();
    let (restarted, answers) = within(async { tokio::join!(host.restart("acts"), calls) }).await;
    restarted.unwrap();
    assert_ne!(row(&host, "acts").facts["component"], before);
    assert_eq!(act(&host, "acts", count).await.unwrap(), "4", "the count goes on");
    for answer in answers {
        assert_eq!(answer.as_deref(), Ok("slept"));
    }
    assert!(echo(&host).await.is_ok());
    within(host.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_computation_hears_of_its_cancel_where_it_asks() {
    let world = World::new().limits(|limits| limits.unwanted = Duration::from_secs(60));
    let host = world.host([world.acts()]).await;
    let error = act_in(&host, "acts", json!({ "do": "checks" }), Duration::from_millis(200)).await.unwrap_err();
    assert!(matches!(error.code(), Code::EXECUTION_TIMEOUT | Code::CANCELLED), "{error:?}");
    // The same instance goes on: it was not ended for it.
    assert_eq!(echo(&host).await.unwrap(), "7");
    let facts: Value = json!(row(&host, "acts").facts);
    assert_eq!(row(&host, "acts").state, State::Ready, "{facts}");
    within(host.shutdown()).await;
}
