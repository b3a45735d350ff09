//! Channels: one that fails beside one that works, one whose plugin is replaced, and which ones there are.

use std::{sync::atomic::Ordering, time::Duration};

use bespoke_plugin_api::{ChannelSpec, Code, Contribution, Error, serde_json::json};
use bespoke_serve::ChannelState;

use crate::kit::{Gate, Served, World, agent, config, echo, place, plug, within};

fn state(served: &Served, channel: &str) -> Option<(ChannelState, Option<String>)> {
    served.status().channels.into_iter().find(|c| c.name == channel).map(|c| (c.state, c.error))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_fails_is_tried_again_and_leaves_the_others_alone() {
    let (_folder, path) = place();
    let (good, bad) = (World::plain("good"), World::plain("bad"));
    *bad.broken.lock().unwrap() = Some(Error::new(Code::NETWORK_FAILED, "no line").with_help("plug it in"));
    let served = Served::over(&path, config(json!({})), vec![good.plug(), bad.plug(), echo()]).await;
    good.write("a", "1", "hello");
    good.until_read("a", &["re hello"]).await;
    bad.until(|bad| bad.runs.load(Ordering::SeqCst) >= 3).await;
    bad.until(|_| state(&served, "bad").is_some_and(|(state, _)| state == ChannelState::Failed)).await;
    assert_eq!(state(&served, "bad").unwrap().1.as_deref(), Some("bad: no line"));
    let fix = served.status().channels.into_iter().find(|channel| channel.name == "bad").unwrap().fix;
    assert_eq!(fix.as_deref(), Some("plug it in"));
    assert_eq!(state(&served, "good"), Some((ChannelState::Running, None)));
    *bad.broken.lock().unwrap() = None;
    bad.write("a", "1", "hello");
    bad.until_read("a", &["re hello"]).await;
    assert_eq!(state(&served, "bad"), Some((ChannelState::Running, None)));
    assert_eq!(good.runs.load(Ordering::SeqCst), 1);
    served.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_goes_on_when_its_plugin_is_replaced() {
    for swap in ["overlap", "exclusive"] {
        let (_folder, path) = place();
        let world = World::plain("wire");
        let mut plugin = world.plug();
        let spec = ChannelSpec::new("wire").idempotent(true);
        let wire = crate::kit::channel(&world);
        let exclusive = plug("wire", &format!("swap = \"{swap}\"\n"), move || vec![Contribution::Channel(spec.clone(), wire.clone())]);
        (plugin.manifest, plugin.artifact) = (exclusive.manifest, exclusive.artifact);
        let served = Served::over(&path, config(json!({})), vec![plugin, echo()]).await;
        for round in 0..5 {
            world.write("a", &format!("before {round}"), "one");
            world.write("a", &format!("after {round}"), "two");
            world.until(|world| world.listening.load(Ordering::SeqCst) == 1).await;
            // Long before the limit of a stop: nobody waits for what listens.
            within(served.host.restart("wire")).await.unwrap();
            world.until(|world| world.runs.load(Ordering::SeqCst) == round + 2).await;
            world.until(|world| world.sent().len() == 2 * (round + 1)).await;
        }
        assert_eq!(world.read("a"), ["re one", "re two"].repeat(5), "{swap}");
        world.until(|world| world.listening.load(Ordering::SeqCst) == 1).await;
        assert_eq!(served.status().channels[0].failures, 0, "{swap}");
        served.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_configuration_stops_and_starts_channels() {
    let (_folder, path) = place();
    let (one, two) = (World::plain("one"), World::plain("two"));
    let served = Served::over(&path, config(json!({ "channels": ["one", "three"] })), vec![one.plug(), two.plug(), echo()]).await;
    one.write("a", "1", "hello");
    one.until_read("a", &["re hello"]).await;
    one.until(|_| state(&served, "three").is_some_and(|(state, _)| state == ChannelState::Failed)).await;
    let error = state(&served, "three").unwrap().1.unwrap();
    assert!(error.contains("three"), "{error}");
    within(served.server.reload(agent(&served.host), config(json!({ "channels": ["two"] })))).await;
    one.until(|one| one.listening.load(Ordering::SeqCst) == 0).await;
    one.write("a", "2", "anybody?");
    two.write("a", "1", "hello");
    two.until_read("a", &["re hello"]).await;
    assert_eq!(served.status().channels.iter().map(|c| c.name.clone()).collect::<Vec<_>>(), ["two"]);
    // One that cannot work changes nothing.
    let mut wrong = config(json!({}));
    wrong.chats = 0;
    within(served.server.reload(agent(&served.host), wrong)).await;
    assert_eq!(served.status().channels.len(), 1);
    // All that have a table.
    within(served.server.reload(agent(&served.host), config(json!({})))).await;
    one.until_read("a", &["re hello", "re anybody?"]).await;
    served.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_do_not_share_a_file() {
    let (_folder, path) = place();
    let world = World::plain("wire");
    let served = Served::over(&path, config(json!({})), vec![world.plug(), echo()]).await;
    let parts = bespoke_serve::Parts::new(served.host.clone(), agent(&served.host), served.state.clone());
    let error = bespoke_serve::Server::start(parts.clone()).await.unwrap_err();
    assert_eq!(error.code(), Code::CONFLICT, "{error}");
    within(served.server.drain(Duration::from_secs(20))).await;
    let next = bespoke_serve::Server::start(parts).await.unwrap();
    world.write("a", "1", "hello");
    world.until_read("a", &["re hello"]).await;
    within(next.drain(Duration::from_secs(20))).await;
    within(served.host.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_is_taken_out_and_put_back_runs_once() {
    let (_folder, path) = place();
    let (wire, other, gate) = (World::plain("wire"), World::plain("other"), Gate::default());
    *wire.lingers.lock().unwrap() = Some(gate.clone());
    let served = Served::over(&path, config(json!({})), vec![wire.plug(), other.plug(), echo()]).await;
    wire.until(|wire| wire.listening.load(Ordering::SeqCst) == 1).await;
    for round in 0..3 {
        within(served.server.reload(agent(&served.host), config(json!({ "channels": ["other"] })))).await;
        within(served.server.reload(agent(&served.host), config(json!({ "channels": ["other", "wire"] })))).await;
        // A second one would listen by now.
        other.write("a", &format!("{round}"), "hello");
        other.until(|other| other.sent().len() == round + 1).await;
    }
    assert_eq!((wire.runs.load(Ordering::SeqCst), served.status().channels.len()), (1, 2));
    assert_eq!(state(&served, "wire"), Some((ChannelState::Starting, None)));
    *wire.lingers.lock().unwrap() = None;
    gate.open();
    wire.write("a", "1", "hello");
    wire.until_read("a", &["re hello"]).await;
    assert_eq!(wire.most.load(Ordering::SeqCst), 1);
    served.end().await;
}
