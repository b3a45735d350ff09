//! Start, health and stop: in order, side by side, within bounded time, and each plugin's fault its own.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use bespoke_host::{Selection, State};
use bespoke_plugin_api::{CallCx, Code, Error, Health, Tool, ToolOutput, ToolRequest, serde_json::Value};
use expect_test::expect;
use tokio::sync::{Notify, oneshot};

use crate::kit::{Alive, Journal, LONG, Plug, built, call, row, says, started, table, within};

/// A plugin that notes its start and its end.
fn noting(journal: &Journal, id: &'static str) -> Plug {
    let (at_start, at_end) = (journal.clone(), journal.clone());
    Plug::new(id)
        .starts(move |_, _| {
            at_start.note(format!("+{id}"));
            async { Ok(()) }
        })
        .lives(Alive::ends(move || {
            at_end.note(format!("-{id}"));
            async {}
        }))
}

#[tokio::test]
async fn plugins_start_after_those_they_need_and_stop_before_them() {
    let journal = Journal::default();
    let host = started("", [noting(&journal, "a").needs("b", ""), noting(&journal, "b").needs("c", ""), noting(&journal, "c")]).await;
    within(host.shutdown()).await;
    assert_eq!(journal.text(), "+c +b +a -a -b -c");
    assert_eq!(table(&host), "a stopped\nb stopped\nc stopped\n");
}

#[tokio::test]
async fn starts_what_is_chosen_and_what_that_needs() {
    let journal = Journal::default();
    let host = built("", [noting(&journal, "a").needs("b", ""), noting(&journal, "b"), noting(&journal, "c")]);
    within(host.start(Selection::Ids(&["a".into(), "unknown".into()]))).await;
    assert_eq!((journal.text().as_str(), table(&host).as_str()), ("+b +a", "a ready\nb ready\nc unloaded\n"));
    // The rest can be started later; what runs is not started twice.
    within(host.start(Selection::All)).await;
    assert_eq!(journal.text(), "+b +a +c");
}

#[tokio::test]
async fn two_who_start_at_once_start_each_plugin_once() {
    let journal = Journal::default();
    let host = built("", [noting(&journal, "a"), noting(&journal, "b")]);
    within(async { tokio::join!(host.start(Selection::All), host.start(Selection::All)) }).await;
    assert_eq!(journal.read().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_side_by_side() {
    // Each waits for the other: one after the other they would never come up.
    let (to_a, from_b) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (a1, a2, b1, b2) = (to_a.clone(), from_b.clone(), to_a, from_b);
    let a = Plug::new("a").starts(move |_, _| {
        let (mine, theirs) = (a1.clone(), a2.clone());
        async move {
            theirs.notify_one();
            mine.notified().await;
            Ok(())
        }
    });
    let b = Plug::new("b").starts(move |_, _| {
        let (theirs, mine) = (b1.clone(), b2.clone());
        async move {
            theirs.notify_one();
            mine.notified().await;
            Ok(())
        }
    });
    let host = started("", [a, b]).await;
    assert_eq!(table(&host), "a ready\nb ready\n");
}

#[tokio::test]
async fn a_plugin_whose_need_failed_says_which_and_why() {
    let host = started(
        "",
        [
            Plug::new("a").needs("b", ""),
            Plug::new("b").starts(|_, _| async {
                Err(Error::new(Code::MODEL_NOT_FOUND, "b.onnx is missing").with_help("bespoke plugin download-files b"))
            }),
            Plug::new("c").needs("b", "optional = true"),
            Plug::new("z").needs("a", ""),
        ],
    )
    .await;
    expect![[r#"
        a failed: needs `b`, which is failed: b.onnx is missing
            fix: bespoke plugin download-files b
        b failed: b.onnx is missing
            fix: bespoke plugin download-files b
        c ready
        z failed: needs `a`, which is failed: needs `b`, which is failed: b.onnx is missing
            fix: bespoke plugin download-files b
    "#]]
    .assert_eq(&table(&host));
}

#[tokio::test]
async fn panics_are_caught_wherever_they_come_and_say_where() {
    let host = started(
        "",
        [
            Plug::new("register").registers(|_| panic!("no idea")),
            Plug::new("check").checks(|_| panic!("bad type")),
            Plug::new("start").starts(|_, _| async { panic!("{}", "at start") }),
            Plug::new("early").starts(|_, _| -> std::future::Ready<_> { panic!("before the future") }),
            Plug::new("odd").starts(|_, _| async { std::panic::panic_any(7) }),
            Plug::new("health")
                .lives(Alive { health: || panic!("ill"), facts: || panic!("no facts"), ..Alive::default() })
                .provides(says("x", "still here")),
        ],
    )
    .await;
    expect![[r#"
        check failed: the check of its configuration panicked: bad type
        early failed: start panicked: before the future
        health ready: health() panicked: ill
        odd failed: start panicked: no message
        register failed: register() panicked: no idea
        start failed: start panicked: at start
    "#]]
    .assert_eq(&table(&host));
    assert_eq!(row(&host, "health").health, "failed");
    assert_eq!(call(&host, "x").await.unwrap(), "still here");
    assert_eq!(host.late_threads(), 0);
}

#[tokio::test]
async fn health_is_the_worse_of_what_is_asked_and_what_was_reported() {
    let degraded = Plug::new("slow").starts(|cx, _| async move {
        cx.report_health(Health::Degraded("no GPU".into()));
        Ok(())
    });
    let failed = Plug::new("dead").lives(Alive { health: || Health::Failed("no line".into()), ..Alive::default() });
    let host = started("", [degraded, failed, Plug::new("well")]).await;
    let health: Vec<_> = host.rows().into_iter().map(|row| (row.id, row.health, row.reason)).collect();
    expect![[r#"
        [
            (
                "dead",
                "failed",
                Some(
                    "no line",
                ),
            ),
            (
                "slow",
                "degraded",
                Some(
                    "no GPU",
                ),
            ),
            (
                "well",
                "ok",
                None,
            ),
        ]
    "#]]
    .assert_debug_eq(&health);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_blocks_its_thread_is_left_behind_and_the_others_serve() {
    let (release, blocked) = mpsc::channel::<()>();
    let blocked = Mutex::new(blocked);
    let (down, is_down) = mpsc::channel();
    let hangs = Plug::new("hangs").provides(says("hung", "")).lives(Alive::ends(move || {
        let down = down.clone();
        async move { down.send(()).unwrap() }
    }));
    let hangs = hangs.starts(move |_, _| {
        let _ = blocked.lock().unwrap().recv();
        async { Ok(()) }
    });
    let begun = Instant::now();
    let host = started("[plugins]\nstart_timeout_ms = 1000\n", [hangs, Plug::new("well").provides(says("x", "well"))]).await;
    assert!(begun.elapsed() < LONG / 2);
    expect![[r#"
        hangs failed: did not start within 1 s; its thread was left behind
            fix: raise plugins.start_timeout_ms, or switch the plugin off
        well ready
    "#]]
    .assert_eq(&table(&host));
    assert_eq!(host.late_threads(), 1);
    assert_eq!(call(&host, "x").await.unwrap(), "well");
    assert!(host.registry().get::<dyn Tool>("hung").is_none());

    // It comes up after all: it is taken down again, serves nobody, and its thread no longer counts.
    drop(release);
    is_down.recv_timeout(LONG).expect("what came up late is shut down");
    within(async {
        while host.late_threads() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(row(&host, "hangs").state, State::Failed);
    assert!(host.registry().get::<dyn Tool>("hung").is_none());
    within(host.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_register_that_blocks_leaves_no_slots_behind() {
    let (release, blocked) = mpsc::channel::<()>();
    let blocked = Mutex::new(blocked);
    let hangs = Plug::new("hangs").provides(says("hung", "")).registers(move |specs| {
        let _ = blocked.lock().unwrap().recv();
        specs
    });
    let host = started("[plugins]\nstart_timeout_ms = 50\n", [hangs]).await;
    assert_eq!(host.late_threads(), 1);
    drop(release);
    within(async {
        while host.late_threads() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(host.registry().get::<dyn Tool>("hung").is_none());
}

#[tokio::test]
async fn a_manifest_may_ask_for_a_limit_of_its_own() {
    let never = Plug::new("never").extra("[resources]\nstart_timeout_ms = 20\n").starts(|_, _| std::future::pending());
    let host = started("", [never]).await;
    expect![[r#"
        never failed: did not start within 20 ms; its thread was left behind
            fix: raise its start_timeout_ms, in its plugin.toml or among its limits in the configuration, or switch the plugin off
    "#]]
    .assert_eq(&table(&host));
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_of_a_start_that_was_given_up_end() {
    let (guard, mut dropped) = oneshot::channel::<()>();
    let guard = Mutex::new(Some(guard));
    let never = Plug::new("never").starts(move |cx, _| {
        let guard = guard.lock().unwrap().take();
        cx.spawn(async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        });
        std::future::pending()
    });
    let _host = started("[plugins]\nstart_timeout_ms = 20\n", [never]).await;
    assert!(within(&mut dropped).await.is_err(), "the task was dropped with what it held");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_that_hangs_or_panics_is_bounded_and_told() {
    let (release, blocked) = mpsc::channel::<()>();
    let blocked = Arc::new(Mutex::new(blocked));
    let hangs = Plug::new("hangs").lives(Alive::ends(move || {
        let blocked = blocked.clone();
        async move {
            let _ = blocked.lock().unwrap().recv();
        }
    }));
    let panics = Plug::new("panics").lives(Alive::ends(|| async { panic!("not today") }));
    let host = started("[plugins]\nstop_timeout_ms = 2000\n", [hangs, panics, Plug::new("well")]).await;
    within(host.shutdown()).await;
    expect![[r#"
        hangs failed: did not stop within 2 s; its thread was left behind
        panics failed: shutdown panicked: not today
        well stopped
    "#]]
    .assert_eq(&table(&host));
    assert_eq!(host.late_threads(), 1);
    drop(release);
}

#[tokio::test]
async fn a_lease_keeps_its_generation_through_the_drain() {
    let ended = Arc::new(AtomicBool::new(false));
    let at_end = ended.clone();
    let plug = Plug::new("a").provides(says("x", "here")).lives(Alive::ends(move || {
        at_end.store(true, Ordering::SeqCst);
        async {}
    }));
    let host = started("", [plug]).await;
    let slot = host.registry().get::<dyn Tool>("x").unwrap();
    let lease = slot.lease().unwrap();
    let stopping = tokio::spawn({
        let host = host.clone();
        async move { host.shutdown().await }
    });
    within(async {
        while row(&host, "a").state != State::Draining {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(slot.lease().unwrap_err().to_string(), "a: is draining");
    let answer = lease.call(&CallCx::new(), ToolRequest::new(Value::Null)).await.unwrap();
    assert_eq!(answer.to_text(), "here");
    assert!(!ended.load(Ordering::SeqCst), "it is still in use");
    drop(lease);
    within(stopping).await.unwrap();
    assert!(ended.load(Ordering::SeqCst));
    assert_eq!(table(&host), "a stopped\n");
}

#[tokio::test]
async fn a_lease_that_is_never_given_back_does_not_hold_the_shutdown() {
    let host = started("[plugins]\nstop_timeout_ms = 30\n", [Plug::new("a").provides(says("x", ""))]).await;
    let _lease = host.registry().get::<dyn Tool>("x").unwrap().lease().unwrap();
    within(host.shutdown()).await;
    assert_eq!(table(&host), "a stopped: 1 call was still running after 30 ms\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_in_the_middle_of_a_start_does_not_wait_for_it() {
    let entered = Arc::new(Notify::new());
    let (tell, ended) = (entered.clone(), Arc::new(AtomicBool::new(false)));
    let never = Plug::new("never").starts(move |_, _| {
        tell.notify_one();
        std::future::pending()
    });
    let at_end = ended.clone();
    let well = Plug::new("well").lives(Alive::ends(move || {
        at_end.store(true, Ordering::SeqCst);
        async {}
    }));
    let host = built("", [never, well, Plug::new("later").needs("never", "")]);
    let starting = tokio::spawn({
        let host = host.clone();
        async move { host.start(Selection::All).await }
    });
    within(entered.notified()).await;
    within(host.shutdown()).await;
    within(starting).await.unwrap();
    assert!(ended.load(Ordering::SeqCst) || row(&host, "well").reason.is_some());
    expect![[r#"
        later stopped: the host was shut down before it was ready
        never stopped: the host was shut down before it was ready
    "#]]
    .assert_eq(&table(&host).lines().filter(|l| !l.starts_with("well")).map(|l| format!("{l}\n")).collect::<String>());
    // And nothing starts afterwards.
    within(host.start(Selection::All)).await;
    assert_ne!(row(&host, "later").state, State::Ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_stops_waiting_for_a_start_does_not_stop_the_start() {
    let go = Arc::new(Notify::new());
    let wait = go.clone();
    let plug = Plug::new("a").provides(says("x", "up")).starts(move |_, _| {
        let wait = wait.clone();
        async move {
            wait.notified().await;
            Ok(())
        }
    });
    let host = built("", [plug]);
    assert!(tokio::time::timeout(Duration::from_millis(20), host.start(Selection::All)).await.is_err());
    go.notify_one();
    within(async {
        while row(&host, "a").state != State::Ready {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(call(&host, "x").await.unwrap(), "up");
}

/// Dropping a runtime, or joining a thread, is forbidden or harmful on an async thread.
#[tokio::test]
async fn the_last_of_a_plugin_is_dropped_on_a_thread_that_may_block() {
    struct Heavy(Option<tokio::runtime::Runtime>, Journal);
    impl Drop for Heavy {
        fn drop(&mut self) {
            // Panics on an async thread.
            drop(self.0.take());
            self.1.note(std::thread::current().name().unwrap_or("?"));
        }
    }
    let journal = Journal::default();
    let heavy = Heavy(Some(tokio::runtime::Builder::new_current_thread().build().unwrap()), journal.clone());
    // The instance takes it over, so that it lives exactly as long as the instance.
    let heavy = Arc::new(Mutex::new(Some(heavy)));
    let host = started(
        "",
        [Plug::new("a").makes(move || {
            let mine = heavy.lock().unwrap().take();
            Alive::ends(move || {
                let _ = &mine;
                async {}
            })
        })],
    )
    .await;
    within(host.shutdown()).await;
    assert_eq!(journal.text(), "stop-a");
}

#[tokio::test]
async fn what_happens_to_plugins_is_told_on_the_bus() {
    use futures_util::StreamExt;
    let host = built("", [Plug::new("a"), Plug::new("b").starts(|_, _| async { Err(Error::internal("broken")) })]);
    let events = host.events().subscribe("plugin_", None);
    within(host.start(Selection::All)).await;
    within(host.shutdown()).await;
    let mut heard: Vec<_> = within(events.take(3).collect::<Vec<_>>()).await;
    heard.sort_by_key(|e| e.as_ref().unwrap().topic.clone());
    let heard: Vec<_> = heard.into_iter().map(|e| e.unwrap()).map(|e| format!("{} {}", e.topic, e.payload["plugin"])).collect();
    assert_eq!(heard, ["plugin_error \"b\"", "plugin_loaded \"a\"", "plugin_unloaded \"a\""]);
}

#[tokio::test]
async fn a_tool_that_was_called_is_counted() {
    let host =
        started("", [Plug::new("a").provides(says("x", "")).tool("y", |_, _| async { Err::<ToolOutput, _>(Error::internal("no")) })]).await;
    for _ in 0..2 {
        call(&host, "x").await.unwrap();
    }
    call(&host, "y").await.unwrap_err();
    assert_eq!((row(&host, "a").calls, row(&host, "a").errors), (3, 1));
}
