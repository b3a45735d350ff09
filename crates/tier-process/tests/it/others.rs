//! One plugin goes wrong in every way there is, until it is left alone: of the calls that others have in flight, each is answered.

use std::time::Duration;

use bespoke_host::{Config, Host, Selection, State, Supervision};
use bespoke_plugin_api::{Code, serde_json::json};

use crate::kit::{LONG, World, act, act_in, row, until, within};

/// Calls that are in flight all the while.
const IN_FLIGHT: usize = 64;

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_calls_in_flight_are_answered_while_another_plugin_floods_crashes_and_is_left_alone() {
    let world = World::new();
    let mut quick = Supervision::default();
    (quick.pause, quick.longest) = (Duration::from_millis(1), Duration::from_millis(4));
    let plugins = ["victim", "one", "two"].map(|id| world.plugin(id, "ok"));
    let config = Config::parse("bespoke.toml", "").unwrap();
    let host = Host::builder().config(config).supervision(quick).data_dir(world.path().join("data")).plugins(plugins).build().unwrap();
    within(host.start(Selection::All)).await;

    // They are with their plugins before anything goes wrong, and answered after it has.
    let calls: Vec<_> = (0..IN_FLIGHT)
        .map(|n| {
            let host = host.clone();
            let id = if n % 2 == 0 { "one" } else { "two" };
            tokio::spawn(async move { act(&host, id, json!({ "do": "held", "n": n })).await })
        })
        .collect();
    for id in ["one", "two"] {
        until("all are in flight", || row(&host, id).in_flight == IN_FLIGHT / 2).await;
    }

    let short = Duration::from_millis(500);
    for what in ["flood", "logs", "long", "garbage", "twice", "wrong id"] {
        let _ = act_in(&host, "victim", json!({ "do": what }), short).await;
    }
    for what in ["exit", "abort", "segv", "half", "close stdout"].into_iter().cycle().take(40) {
        let settled = || [State::Ready, State::Quarantined].contains(&row(&host, "victim").state);
        until("it is back or left alone", settled).await;
        if row(&host, "victim").state == State::Quarantined {
            break;
        }
        // It may be gone already, from the time before.
        let e = act_in(&host, "victim", json!({ "do": what }), LONG).await.unwrap_err();
        assert!([Code::PLUGIN_CRASHED, Code::NOT_READY].contains(&e.code()), "{what}: {e}");
    }
    assert_eq!(row(&host, "victim").state, State::Quarantined, "{:?}", row(&host, "victim").reason);

    assert!(calls.iter().all(|call| !call.is_finished()), "one was answered before its time");
    for id in ["one", "two"] {
        act(&host, id, json!({ "do": "release" })).await.unwrap();
    }
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(within(call).await.unwrap().unwrap(), format!("held {n}"));
    }
    assert_eq!(row(&host, "one").state, State::Ready);
    within(host.shutdown()).await;
}
