//! Plugins that end by themselves, and plugins that rest.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bespoke_host::{Config, Host, ReloadClass, Selection, State, Supervision};
use bespoke_plugin_api::{CallCx, Code};

use crate::{
    kit::{call, line, row, within},
    mortal::Mortal,
};

async fn host(config: &str, plugins: &[&Mortal], supervision: Supervision) -> Host {
    let config = Config::parse("bespoke.toml", config).unwrap();
    let candidates = plugins.iter().map(|plugin| plugin.candidate());
    let host = Host::builder().config(config).plugins(candidates).supervision(supervision).build().unwrap();
    within(host.start(Selection::All)).await;
    host
}

/// Pauses that no test waits for.
fn quick() -> Supervision {
    let mut supervision = Supervision::default();
    (supervision.pause, supervision.longest) = (Duration::from_millis(1), Duration::from_millis(4));
    supervision
}

/// Ends it, and ends it again when it is back as the `n`th instance: the second pause is a long one.
async fn ends_twice(host: &Host, frail: &Mortal, n: usize) {
    frail.dies();
    within(async {
        while frail.instances().0 < n || row(host, "frail").state != State::Ready {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    frail.dies();
    becomes(host, "frail", State::Failed).await;
}

async fn becomes(host: &Host, id: &str, state: State) {
    within(async {
        while row(host, id).state != state {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_plugin_that_ends_is_brought_back_and_its_callers_wait() {
    let (frail, firm) = (Mortal::new("frail"), Mortal::new("firm"));
    let host = host("", &[&frail, &firm], quick()).await;
    assert_eq!(call(&host, "frail").await.unwrap(), "hello frail #1 frail 0");
    // Another plugin's calls go on all the while.
    let (over, lost) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let beside = {
        let (host, over, lost) = (host.clone(), over.clone(), lost.clone());
        tokio::spawn(async move {
            while !over.load(Ordering::SeqCst) {
                lost.fetch_add(usize::from(call(&host, "firm").await.is_err()), Ordering::SeqCst);
            }
        })
    };
    for n in 2..5 {
        frail.dies();
        // A call that finds it gone says so; whoever comes after waits for the next instance.
        let answer = within(async {
            loop {
                match call(&host, "frail").await {
                    Ok(answer) => return answer,
                    Err(error) => assert_eq!((error.code(), error.is_retryable()), (Code::PLUGIN_CRASHED, true), "{error}"),
                }
            }
        })
        .await;
        assert_eq!(answer, format!("hello frail #{n} frail 0"));
    }
    over.store(true, Ordering::SeqCst);
    beside.await.unwrap();
    assert_eq!((lost.load(Ordering::SeqCst), firm.instances()), (0, (1, 0)));
    host.shutdown().await;
    assert_eq!(frail.instances(), (4, 4), "every instance was ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_plugin_that_ends_too_often_is_left_alone_until_a_person_reloads_it() {
    let frail = Mortal::new("frail");
    let host = host("", &[&frail], quick()).await;
    for n in 1..=5 {
        within(async {
            while frail.instances().0 < n {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        becomes(&host, "frail", State::Ready).await;
        frail.dies();
    }
    becomes(&host, "frail", State::Quarantined).await;
    expect_test::expect![[r#"
        frail quarantined: ended 5 times within 600 s; last: exit code 3; its last line: no more
            fix: bespoke plugin reload frail
    "#]]
    .assert_eq(&line(&row(&host, "frail")));
    let error = call(&host, "frail").await.unwrap_err();
    assert_eq!(error.code(), Code::NOT_READY);
    assert!(error.message().contains("quarantined") && error.help() == Some("bespoke plugin reload frail"), "{error}");
    // A slot that was held all the while serves again.
    let slot = host.registry().find::<dyn bespoke_plugin_api::Tool>("frail").unwrap();
    within(host.restart("frail")).await.unwrap();
    assert!(slot.is_ready());
    assert_eq!(call(&host, "frail").await.unwrap(), "hello frail #6 frail 0");
    // What was before does not count any more.
    frail.dies();
    within(async {
        while frail.instances().0 < 7 {
            tokio::time::sleep(Duration::from_millis(1)).await
        }
    })
    .await;
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_plugin_that_does_not_come_back_is_tried_until_it_is_left_alone() {
    let frail = Mortal::new("frail");
    let host = host("", &[&frail], quick()).await;
    frail.fails.store(true, Ordering::SeqCst);
    frail.dies();
    becomes(&host, "frail", State::Quarantined).await;
    assert!(row(&host, "frail").reason.unwrap().contains("the disk is full"));
    assert_eq!(frail.instances().0, 5);
    frail.fails.store(false, Ordering::SeqCst);
    within(host.restart("frail")).await.unwrap();
    assert_eq!(call(&host, "frail").await.unwrap(), "hello frail #6 frail 0");
    host.shutdown().await;
}

/// A plugin that keeps ending does not keep a person from taking it out, nor others from being changed.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_plugin_between_two_starts_is_in_nobodys_way() {
    let (frail, firm) = (Mortal::new("frail"), Mortal::new("firm"));
    let patient = Supervision { pause: Duration::from_secs(3600), longest: Duration::from_secs(3600), ..Supervision::default() };
    let host = host("", &[&frail, &firm], patient).await;
    ends_twice(&host, &frail, 2).await;
    within(host.restart("firm")).await.unwrap();
    within(host.restart("frail")).await.unwrap();
    assert_eq!(call(&host, "frail").await.unwrap(), "hello frail #3 frail 0");
    ends_twice(&host, &frail, 4).await;
    within(host.unload("frail")).await.unwrap();
    assert_eq!(host.rows().len(), 1);
    host.shutdown().await;
    let (made, ended) = frail.instances();
    assert_eq!(made, ended);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_shutdown_waits_for_nobody_who_is_being_brought_back() {
    let frail = Mortal::new("frail");
    let patient = Supervision { pause: Duration::from_secs(3600), longest: Duration::from_secs(3600), ..Supervision::default() };
    let host = host("", &[&frail], patient).await;
    frail.dies();
    within(async {
        while frail.instances().0 < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await
        }
    })
    .await;
    becomes(&host, "frail", State::Ready).await;
    frail.dies();
    becomes(&host, "frail", State::Failed).await;
    assert!(row(&host, "frail").reason.unwrap().contains("is started again in"));
    within(host.shutdown()).await;
    assert_eq!(frail.instances(), (2, 2));
}

const LAZY: &str = "[plugins.late]\nstart = 'lazy'\nidle_stop_ms = 20\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_lazy_plugin_starts_with_its_first_call_and_rests_with_its_state() {
    let late = Mortal::new("late");
    let host = host(LAZY, &[&late], quick()).await;
    expect_test::expect![[r#"
        late unloaded: starts with its first call
    "#]]
    .assert_eq(&line(&row(&host, "late")));
    assert_eq!(late.instances(), (0, 0));
    let slot = host.registry().find::<dyn bespoke_plugin_api::Tool>("late").unwrap();
    assert!(slot.is_ready(), "it is offered all the same");
    assert_eq!(call(&host, "late").await.unwrap(), "hello late #1 late 0");
    assert_eq!(call(&host, "late").await.unwrap(), "hello late #1 late 1");
    within(async {
        while row(&host, "late").state != State::Unloaded {
            tokio::time::sleep(Duration::from_millis(2)).await
        }
    })
    .await;
    assert_eq!(late.instances(), (1, 1));
    assert!(row(&host, "late").reason.unwrap().contains("nobody called it for 20 ms"));
    // It goes on where it was.
    assert_eq!(call(&host, "late").await.unwrap(), "hello late #2 late 2");
    host.shutdown().await;
    assert_eq!(late.instances(), (2, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_call_is_lost_and_no_count_while_a_plugin_goes_to_rest_again_and_again() {
    let late = Mortal::new("late");
    let host = host("[plugins.late]\nstart = 'lazy'\nidle_stop_ms = 1\n", &[&late], quick()).await;
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..4_u64 {
        let host = host.clone();
        callers.spawn(async move {
            let mut counts = Vec::new();
            for n in 0..60_u64 {
                let answer = call(&host, "late").await.unwrap();
                counts.push(answer.rsplit(' ').next().unwrap().parse::<u64>().unwrap());
                // Long enough, at times, that it goes to rest in between.
                tokio::time::sleep(Duration::from_millis((n * 7 + caller) % 5)).await;
            }
            counts
        });
    }
    let mut all: Vec<u64> = within(callers.join_all()).await.into_iter().flatten().collect();
    all.sort_unstable();
    assert_eq!(all, (0..240).collect::<Vec<_>>(), "each call counted once, over {:?} instances", late.instances());
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_lazy_plugin_that_cannot_start_says_so_to_its_caller() {
    let late = Mortal::new("late");
    let host = host(LAZY, &[&late], quick()).await;
    late.fails.store(true, Ordering::SeqCst);
    let error = call(&host, "late").await.unwrap_err();
    assert_eq!(error.code(), Code::NOT_READY);
    assert!(error.message().contains("the disk is full"), "{error}");
    let bad = self::host("[plugins.late]\nstart = 'lazy'\ngreting = 1\n", &[&Mortal::new("late")], quick()).await;
    assert!(row(&bad, "late").reason.unwrap().contains("greting"), "its configuration is looked at all the same");
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_running_plugin_needs_is_up() {
    let (base, user) = (Mortal::new("base"), Mortal::with("user", &["user"], "[[requires]]\nplugin = \"base\"\n"));
    let host = host("[plugins.base]\nstart = 'lazy'\nidle_stop_ms = 1\n", &[&base, &user], quick()).await;
    assert_eq!(row(&host, "user").state, State::Ready, "{:?}", row(&host, "user"));
    assert_eq!(row(&host, "base").state, State::Ready);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!((row(&host, "base").state, base.instances()), (State::Ready, (1, 0)), "it does not rest while it is needed");
    let _ = CallCx::new();
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn how_a_plugin_is_run_changes_while_it_runs() {
    let late = Mortal::new("late");
    let host = host("", &[&late], quick()).await;
    assert_eq!(call(&host, "late").await.unwrap(), "hello late #1 late 0");
    let changed = |config: &str| Config::parse("bespoke.toml", config).unwrap();
    let report = within(host.reload(changed(LAZY))).await;
    let said: Vec<_> = report.changes.iter().map(|c| format!("{} {:?}", c.key, c.class)).collect();
    assert_eq!(said, ["plugins.late.idle_stop_ms Live", "plugins.late.start Live"]);
    assert!(report.plugins.is_empty() && report.problems.is_empty(), "{report:?}");
    becomes(&host, "late", State::Unloaded).await;
    assert_eq!(call(&host, "late").await.unwrap(), "hello late #2 late 1", "it rests from now on, and goes on where it was");
    let moved = within(host.reload(changed("[plugins.late]\npath = '/elsewhere'\nlimits = { memory_mb = 3 }\n"))).await;
    assert!(moved.changes.iter().all(|c| c.class == ReloadClass::Live), "part of the program, it has no wall and no folder: {moved:?}");
    host.shutdown().await;
}
