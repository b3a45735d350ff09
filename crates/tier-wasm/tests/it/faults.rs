//! What a plugin that runs may do wrong: its callers get the code that says so, in time; calls of others beside it are all answered; and
//! the next instance serves.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bespoke_host::Host;
use bespoke_plugin_api::{Code, serde_json::json};

use crate::kit::{LONG, World, act, act_in, echo, logged, row, within};

/// What is done, which code it ends with, what is said of it, and what helps.
const FAULTS: &[(&str, Code, &str, &str)] = &[
    ("panic", Code::PLUGIN_CRASHED, "on purpose", ""),
    ("instant", Code::PLUGIN_CRASHED, "time not implemented", "use cx.now()"),
    ("thread", Code::PLUGIN_CRASHED, "failed to spawn thread", "use cx.spawn() or cx.blocking()"),
    ("naps", Code::PLUGIN_CRASHED, "can't sleep", "use cx.sleep().await"),
    ("opens", Code::PLUGIN_CRASHED, "not supported on this platform", "use cx.host().store()"),
    ("memory", Code::RESOURCE_EXHAUSTED, "64 MiB of memory", "memory_mb"),
    ("stack", Code::PLUGIN_CRASHED, "was ended", ""),
    ("loop", Code::EXECUTION_TIMEOUT, "computed for 0.3 s without an answer", ""),
    ("host_loop", Code::EXECUTION_TIMEOUT, "computed for 0.3 s without an answer", ""),
];

#[tokio::test(flavor = "multi_thread")]
async fn whatever_it_does_its_callers_are_told_and_others_go_on() {
    // A short step only where that is what ends it: the others take a while on a busy machine.
    let (world, short) = (World::new(), World::new().limits(|limits| limits.step = Duration::from_millis(300)));
    let host = Arc::new(world.host([world.acts()]).await);
    for (does, code, said, help) in FAULTS {
        // A plugin that has failed too often is left alone: each begins with a fresh record.
        within(host.unload("acts")).await.unwrap();
        let world = if *code == Code::EXECUTION_TIMEOUT { &short } else { &world };
        within(host.load(world.acts_with("[resources]\nmemory_mb = 64\n"), None)).await.unwrap();
        let (waits, fails) = within(async {
            tokio::join!(act(&host, "acts", json!({ "do": "waits" })), async {
                assert_eq!(echo(&host).await.unwrap(), "7");
                act(&host, "acts", json!({ "do": does })).await
            })
        })
        .await;
        let (waits, fails) = (waits.unwrap_err(), fails.unwrap_err());
        assert_eq!((fails.code(), waits.code()), (*code, *code), "{does}: {fails:?}");
        assert!(fails.message().contains(said), "{does}: {}", fails.message());
        let told = format!("{} {}", fails.message(), fails.help().unwrap_or_default());
        assert!(told.contains(help), "{does}: {told}");
        assert_eq!(fails.is_retryable(), *code == Code::PLUGIN_CRASHED, "{does}");
        answers_again(&host).await;
    }
    within(host.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_ends_with_its_callers_deadline_and_then_with_its_store() {
    let world = World::new().limits(|limits| limits.unwanted = Duration::from_millis(200));
    let host = Arc::new(world.host([world.acts()]).await);
    let begun = Instant::now();
    let error = act_in(&host, "acts", json!({ "do": "loop" }), Duration::from_millis(300)).await.unwrap_err();
    assert_eq!(error.code(), Code::EXECUTION_TIMEOUT, "{error:?}");
    assert!(begun.elapsed() < LONG / 4, "{:?}", begun.elapsed());
    // What still computes for nobody is ended long before it would be for its own sake.
    answers_again(&host).await;
    within(host.shutdown()).await;
}

/// The next instance answers. Who calls in the moment between the end of the last one and that its host knows of it, is told of the end;
/// who calls while the next one starts waits for it.
async fn answers_again(host: &Host) {
    let begun = Instant::now();
    loop {
        match echo(host).await {
            Ok(said) => return assert_eq!(said, "7"),
            Err(error) => assert!(begun.elapsed() < LONG, "{error:?}"),
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_computes_for_somebody_outlives_one_that_was_given_up() {
    let world = World::new().limits(|limits| limits.unwanted = Duration::from_millis(50));
    let host = Arc::new(world.host([world.acts()]).await);
    let (computed, given_up) = within(async {
        tokio::join!(
            act(&host, "acts", json!({ "do": "computes", "n": 600 })),
            act_in(&host, "acts", json!({ "do": "waits" }), Duration::from_millis(100))
        )
    })
    .await;
    assert_eq!(computed.as_deref(), Ok("computed"));
    assert_eq!(given_up.unwrap_err().code(), Code::EXECUTION_TIMEOUT);
    within(host.shutdown()).await;
}

#[tokio::test]
async fn a_computation_keeps_no_thread_of_the_runtime() {
    // One thread for everybody: what else runs on it goes on while the guest computes.
    let world = World::new();
    let host = Arc::new(world.host([world.acts()]).await);
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
    let computed = act(&host, "acts", json!({ "do": "computes", "n": 1500 })).await;
    over.store(true, Ordering::SeqCst);
    assert_eq!(computed.as_deref(), Ok("computed"));
    let turns = within(others).await.unwrap();
    // A guest that kept the thread would leave a handful, before it begins and after it is over.
    assert!(turns > 20, "{turns}");
    within(host.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cpu_time_is_used_up() {
    let world = World::new();
    let host = world.host([world.acts_with("[resources]\ncpu_seconds = 1\n")]).await;
    let mut ended = None;
    for _ in 0..100 {
        if let Err(error) = act(&host, "acts", json!({ "do": "computes", "n": 150 })).await {
            ended = Some(error);
            break;
        }
    }
    let ended = ended.expect("15 s are more than 1");
    assert_eq!(ended.code(), Code::RESOURCE_EXHAUSTED, "{ended:?}");
    assert!(ended.message().contains("the 1 s of CPU time"), "{}", ended.message());
    within(host.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_used_more_than_its_share_is_halted() {
    let world = World::new();
    let begun = Instant::now();
    let host = world.host([world.acts_with("[resources]\ncpu_percent = 10\n")]).await;
    assert_eq!(act(&host, "acts", json!({ "do": "computes", "n": 1500 })).await.as_deref(), Ok("computed"));
    let told = row(&host, "acts").facts["cpu"].clone();
    let computed: f64 = told.strip_suffix(" s, of at most 10 % of one processor").unwrap().parse().unwrap();
    // What follows has waited until all of that has come together, however slow the machine: a tenth of the time, and what was saved.
    assert_eq!(echo(&host).await.unwrap(), "7");
    let passed = begun.elapsed().as_secs_f64();
    assert!(computed <= 0.2 + passed * 0.1, "{told} after {passed} s");
    within(host.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_does_not_fit_is_refused_and_harms_nobody() {
    let world = World::new();
    let host = world.host([world.acts_with("[resources]\nmemory_mb = 16\n")]).await;
    let error = act(&host, "acts", json!({ "do": "length", "value": "x".repeat(5 << 20) })).await.unwrap_err();
    assert_eq!(error.code(), Code::RESOURCE_EXHAUSTED, "{error:?}");
    assert!(error.message().contains("and the plugin takes 4194304 at once"), "{}", error.message());
    assert_eq!(echo(&host).await.unwrap(), "7");
    // And one of the guest's that does not.
    let error = act(&host, "acts", json!({ "do": "many", "n": 14 << 20 })).await.unwrap_err();
    assert_eq!(error.code(), Code::RESOURCE_EXHAUSTED, "{error:?}");
    answers_again(&host).await;
    within(host.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_lines_is_held_back() {
    logged();
    let world = World::new();
    let host = world.host([world.acts()]).await;
    assert_eq!(act(&host, "acts", json!({ "do": "log", "n": 20_000 })).await.unwrap(), "20000");
    // The next that passes says how many did not.
    for _ in 0..100 {
        if logged().contains("lines were left out") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        act(&host, "acts", json!({ "do": "log", "n": 1 })).await.unwrap();
    }
    let log = logged();
    assert!(log.contains("lines were left out: it writes more than 100 a second"), "{}", log.lines().count());
    // 400 at once, and 100 in each second that it took.
    assert!((400..10_000).contains(&log.lines().count()), "{}", log.lines().count());
    assert_eq!(echo(&host).await.unwrap(), "7");
    within(host.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_never_answers_is_left_to_its_deadline() {
    let world = World::new();
    let host = Arc::new(world.host([world.acts()]).await);
    let error = act_in(&host, "acts", json!({ "do": "waits" }), Duration::from_millis(100)).await.unwrap_err();
    assert_eq!(error.code(), Code::EXECUTION_TIMEOUT);
    assert_eq!(echo(&host).await.unwrap(), "7");
    within(host.shutdown()).await;
}
