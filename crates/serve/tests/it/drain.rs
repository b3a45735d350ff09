//! How a server ends: what runs is finished, what comes is left where it is.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bespoke_plugin_api::{CallCx, Contribution, Hook, HookEvent, HookHandler, HookReply, HookSpec, Result, async_trait, serde_json::json};
use bespoke_serve::{Parts, Server};
use bespoke_state::State;

use crate::kit::{Gate, Served, World, agent, config, host, mind, place, plug, says, says_after, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_finishes_what_runs_and_takes_nothing_new() {
    let (_folder, path) = place();
    let (world, gate) = (World::plain("wire"), Gate::default());
    let opened = gate.clone();
    let slow = mind(move |asked| {
        let gate = opened.clone();
        if asked == "slow" { says_after("re slow", async move { gate.opened().await }) } else { says(&format!("re {asked}")) }
    });
    let served = Served::over(&path, config(json!({ "chats": 1 })), vec![world.plug(), slow]).await;
    world.write("a", "1", "slow");
    world.write("b", "1", "waits");
    world.until(|_| served.status().at_work == 1 && served.status().waiting == 2).await;
    let server = served.server.clone();
    let draining = tokio::spawn(async move { server.drain(Duration::from_secs(60)).await });
    world.until(|_| served.status().draining).await;
    world.write("c", "1", "too late");
    gate.open();
    within(draining).await.unwrap();
    assert_eq!(world.sent().iter().map(|sent| sent.text.as_str()).collect::<Vec<_>>(), ["re slow"]);
    let status = served.status();
    assert_eq!((status.waiting, status.outbox, status.turns, status.at_work), (1, 0, 1, 0));
    // A second one has nothing to do.
    within(served.server.drain(Duration::from_secs(60))).await;
    within(served.host.shutdown()).await;
    served.state.check().unwrap();
    drop(served);

    let served = Served::over(&path, config(json!({})), vec![world.plug(), crate::kit::echo()]).await;
    world.until(|world| world.sent().len() == 3).await;
    assert_eq!((world.read("b"), world.read("c")), (vec!["re waits".to_owned()], vec!["re too late".to_owned()]));
    served.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_ends_the_program_again_and_again_is_given_up() {
    let (_folder, path) = place();
    let state = bespoke_state::State::open(&path).unwrap();
    state.take_in("wire", &bespoke_plugin_api::Inbound::new("a", "ann", "1", "boom")).unwrap();
    // Begun three times, and never concluded.
    for _ in 0..3 {
        state.begin("wire", "a").unwrap();
    }
    drop(state);
    let world = World::plain("wire");
    let served = Served::over(&path, config(json!({})), vec![world.plug(), crate::kit::echo()]).await;
    world.until_read("a", &["I give up on this message: its answer was begun 3 times and never finished."]).await;
    served.end().await;
}

/// A handler of the start that never has enough.
struct Hangs(Arc<Mutex<Vec<Hook>>>);

#[async_trait]
impl HookHandler for Hangs {
    async fn on(&self, _: &CallCx, event: &HookEvent) -> Result<HookReply> {
        self.0.lock().unwrap().push(event.hook());
        if event.hook() == Hook::OnGatewayStart {
            std::future::pending::<()>().await;
        }
        Ok(HookReply::Continue)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_in_the_middle_of_the_start_waits_for_no_hook_of_it_and_loses_no_answer() {
    let (_folder, path) = place();
    let (world, gate, told) = (World::plain("wire"), Gate::default(), Arc::<Mutex<Vec<Hook>>>::default());
    let noted = told.clone();
    let hangs = plug("hangs", "", move || {
        let spec = |hook: Hook| HookSpec::new(hook.name(), hook).timeout(Duration::from_secs(24 * 60 * 60));
        let handler = |hook| Contribution::Hook(spec(hook), Arc::new(Hangs(noted.clone())));
        vec![handler(Hook::OnGatewayStart), handler(Hook::OnGatewayShutdown)]
    });
    let opened = gate.clone();
    let slow = mind(move |_| {
        let gate = opened.clone();
        says_after("re slow", async move { gate.opened().await })
    });
    let host = host(vec![world.plug(), slow, hangs]).await;
    let state = State::open(&path).unwrap();
    let server = within(Server::start(Parts::new(host.clone(), agent(&host), state.clone()).config(config(json!({}))))).await.unwrap();
    world.write("a", "1", "slow");
    world.until(|_| server.status().at_work == 1 && told.lock().unwrap().len() == 1).await;
    let drained = server.clone();
    let draining = tokio::spawn(async move { drained.drain(Duration::from_secs(60)).await });
    world.until(|_| server.status().draining && told.lock().unwrap().len() == 2).await;
    gate.open();
    within(draining).await.unwrap();
    within(server.started()).await;
    assert_eq!(world.read("a"), ["re slow"]);
    assert_eq!(*told.lock().unwrap(), [Hook::OnGatewayStart, Hook::OnGatewayShutdown]);
    within(host.shutdown()).await;
    state.check().unwrap();
}
