//! A plugin that dies while it is called: of the calls that were with it, and of those that begin at that moment, each is told so or answered
//! by the next instance, and none waits in vain.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bespoke_host::{Config, Host, Selection, State, Supervision};
use bespoke_plugin_api::{Code, serde_json::json};
use rustix::process::{Pid, Signal, kill_process};

use crate::kit::{World, act, echo, row, until, within};

const CALLS: usize = 50;

fn pid(host: &Host) -> String {
    row(host, "victim").facts["pid"].clone()
}

/// Ends the plugin from outside: nothing of it knows before.
fn kill(pid: &str, signal: Signal) {
    kill_process(Pid::from_raw(pid.parse().unwrap()).unwrap(), signal).unwrap();
}

async fn back(host: &Host, before: &str) {
    let is_back = || row(host, "victim").state == State::Ready && row(host, "victim").facts.get("pid").is_some_and(|pid| pid != before);
    until("it is back", is_back).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_calls_when_it_dies_is_told_so_or_answered_by_the_next() {
    for (supervised, signal) in [(true, Signal::KILL), (true, Signal::SEGV), (true, Signal::TERM), (false, Signal::KILL)] {
        let what = format!("{signal:?}, supervised: {supervised}");
        let world = if supervised { World::new() } else { World::new().bare() };
        let mut quick = Supervision::default();
        (quick.pause, quick.longest) = (Duration::from_millis(1), Duration::from_millis(4));
        let host = Host::builder()
            .config(Config::parse("bespoke.toml", "").unwrap())
            .supervision(quick)
            .data_dir(world.path().join("data"))
            .plugins([world.plugin("victim", "ok")])
            .build()
            .unwrap();
        within(host.start(Selection::All)).await;

        // Those that are with it.
        let call = |n| {
            let host = host.clone();
            tokio::spawn(async move { act(&host, "victim", json!({ "do": "held", "n": n })).await })
        };
        let calls: Vec<_> = (0..CALLS).map(call).collect();
        until("all are in flight", || row(&host, "victim").in_flight == CALLS).await;
        let first = pid(&host);
        kill(&first, signal);
        for call in calls {
            let error = within(call).await.unwrap().unwrap_err();
            assert_eq!((error.code(), error.is_retryable()), (Code::PLUGIN_CRASHED, true), "{what}: {error}");
        }
        back(&host, &first).await;

        // Those that begin, one after the other in many places, before, while and after it dies.
        let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let callers: Vec<_> = (0..CALLS)
            .map(|_| {
                let (host, what) = (host.clone(), what.clone());
                let (over, answered) = (over.clone(), answered.clone());
                tokio::spawn(async move {
                    while !over.load(Ordering::SeqCst) {
                        match within(echo(&host, "victim")).await {
                            Ok(_) => _ = answered.fetch_add(1, Ordering::SeqCst),
                            // Until the host has seen its end, whoever calls is told of it at once, and may call again.
                            Err(error) => {
                                let told = (error.code(), error.is_retryable());
                                assert_eq!(told, (Code::PLUGIN_CRASHED, true), "{what}: {error}");
                            }
                        }
                    }
                })
            })
            .collect();
        let second = pid(&host);
        until("they are answered", || answered.load(Ordering::SeqCst) >= CALLS).await;
        kill(&second, signal);
        back(&host, &second).await;
        let so_far = answered.load(Ordering::SeqCst);
        until("they are answered again", || answered.load(Ordering::SeqCst) >= so_far + CALLS).await;
        over.store(true, Ordering::SeqCst);
        for caller in callers {
            within(caller).await.unwrap();
        }
        assert_eq!(row(&host, "victim").in_flight, 0, "{what}");
        within(host.shutdown()).await;
    }
}
