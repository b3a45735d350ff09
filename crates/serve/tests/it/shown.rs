//! Answers that are shown while they are written.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bespoke_plugin_api::{ChannelSpec, ChatDelta, Code, Error, Hook, HookReply, HookSpec, serde_json::json};
use futures_util::{StreamExt, stream};

use crate::kit::{Gate, Pieces, Served, World, config, end, hooks, mind, place, says_after};

fn editing() -> Arc<World> {
    World::new(ChannelSpec::new("wire").idempotent(true).edits(true).typing(true))
}

/// A model that stops after its first word until the gate opens.
fn halting(gate: &Gate) -> bespoke_host::Candidate {
    let gate = gate.clone();
    mind(move |asked| {
        let gate = gate.clone();
        let rest = stream::once(async move {
            gate.opened().await;
            Ok(ChatDelta::text(asked))
        });
        let pieces = stream::iter([Ok(ChatDelta::text("re "))]).chain(rest).chain(stream::iter([Ok(end())]));
        Box::pin(pieces) as Pieces
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_one_message_that_grows() {
    let (_folder, path) = place();
    let (world, gate) = (editing(), Gate::default());
    let served = Served::over(&path, config(json!({})), vec![world.plug(), halting(&gate)]).await;
    world.write("a", "1", "hello");
    world.until_read("a", &["re …"]).await;
    world.until(|world| world.typed.load(Ordering::SeqCst) > 0).await;
    gate.open();
    world.until(|world| world.read("a") == ["re hello"]).await;
    world.until(|_| served.status().outbox == 0).await;
    assert_eq!(world.sent().len(), 1);
    assert!(world.sent()[0].edits >= 1);
    served.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_shown_early_where_a_hook_wants_to_see_it_first() {
    let (_folder, path) = place();
    let (world, gate) = (editing(), Gate::default());
    let looks = hooks("looks", vec![HookSpec::new("looks", Hook::BeforeMessageSend)], |_| Ok(HookReply::Continue));
    let served = Served::over(&path, config(json!({})), vec![world.plug(), halting(&gate), looks]).await;
    world.write("a", "1", "hello");
    // By then it would have been shown.
    world.until(|world| world.typed.load(Ordering::SeqCst) > 0).await;
    assert!(world.sent().is_empty());
    gate.open();
    world.until_read("a", &["re hello"]).await;
    assert_eq!(world.sent()[0].edits, 0);
    served.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_shown_before_a_restart_is_edited_after_it() {
    let (_folder, path) = place();
    let (world, gate) = (editing(), Gate::default());
    let served = Served::over(&path, config(json!({})), vec![world.plug(), halting(&gate)]).await;
    world.write("a", "1", "hello");
    world.until_read("a", &["re …"]).await;
    crate::kit::within(served.server.drain(std::time::Duration::from_millis(20))).await;
    crate::kit::within(served.host.shutdown()).await;
    gate.open();
    let served = Served::over(&path, config(json!({})), vec![world.plug(), halting(&gate)]).await;
    world.until(|world| world.read("a") == ["re hello"]).await;
    world.until(|_| served.status().outbox == 0 && served.status().waiting == 0).await;
    assert_eq!(world.sent().len(), 1);
    assert_eq!((served.said("wire", "a"), served.status().repeated), (vec!["hello".to_owned(), "re hello".to_owned()], 0));
    served.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_cannot_be_edited_any_more_is_followed_by_a_new_one() {
    let (_folder, path) = place();
    let (world, gate) = (editing(), Gate::default());
    let served = Served::over(&path, config(json!({})), vec![world.plug(), halting(&gate)]).await;
    world.write("a", "1", "hello");
    world.until_read("a", &["re …"]).await;
    let edits = Arc::new(AtomicUsize::new(0));
    let counted = edits.clone();
    // The first after the text is complete is an edit.
    *world.fault.lock().unwrap() = Some(Box::new(move |message| {
        let fails = message.text == "re hello" && counted.fetch_add(1, Ordering::SeqCst) == 0;
        fails.then(|| Error::new(Code::INVALID_PARAMS, "too old"))
    }));
    gate.open();
    world.until(|_| served.status().outbox == 0 && served.status().waiting == 0).await;
    assert_eq!(edits.load(Ordering::SeqCst), 2);
    let read = world.read("a");
    assert_eq!((read.len(), read[1].as_str()), (2, "re hello"), "{read:?}");
    served.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_fails_after_its_beginning_becomes_the_apology() {
    let (_folder, path) = place();
    let (world, gate) = (editing(), Gate::default());
    let opened = gate.clone();
    let broken = mind(move |_| {
        let gate = opened.clone();
        let rest = stream::once(async move {
            gate.opened().await;
            Err(Error::new(Code::LLM_COMPLETION_FAILED, "out of words"))
        });
        Box::pin(stream::iter([Ok(ChatDelta::text("I think"))]).chain(rest)) as Pieces
    });
    let served = Served::over(&path, config(json!({})), vec![world.plug(), broken]).await;
    world.write("a", "1", "hello");
    world.until_read("a", &["I think …"]).await;
    gate.open();
    world.until(|world| world.read("a") == ["I could not answer. Please try again later."]).await;
    world.until(|_| served.status().outbox == 0).await;
    assert!(served.said("wire", "a").is_empty());
    served.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_answer_is_shown_to_a_limit_and_sent_as_a_whole() {
    let (_folder, path) = place();
    let (world, gate) = (editing(), Gate::default());
    let (opened, long) = (gate.clone(), "ü".repeat(9_000));
    let text = long.clone();
    let served = Served::over(
        &path,
        config(json!({})),
        vec![
            world.plug(),
            mind(move |_| {
                let gate = opened.clone();
                says_after(&text, async move { gate.opened().await })
            }),
        ],
    )
    .await;
    world.write("a", "1", "hello");
    world.until(|world| world.sent().len() == 1).await;
    assert_eq!(world.read("a")[0].chars().count(), 3_002);
    gate.open();
    world.until(|world| world.read("a") == [long.clone()]).await;
    served.end().await;
}

/// An edit brings what does not fit into the message, and files, as further ones: nobody knows whether they came.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_have_arrived_is_counted_also_when_its_beginning_was_shown() {
    for (idempotent, error, repeated) in [
        (false, Error::new(Code::NETWORK_FAILED, "the line broke"), 1),
        (false, Error::new(Code::LLM_RATE_LIMITED, "not now").retryable(), 0),
        (true, Error::new(Code::NETWORK_FAILED, "the line broke"), 0),
    ] {
        let (_folder, path) = place();
        let (world, gate) = (World::new(ChannelSpec::new("wire").idempotent(idempotent).edits(true)), Gate::default());
        let served = Served::over(&path, config(json!({})), vec![world.plug(), halting(&gate)]).await;
        world.write("a", "1", "hello");
        world.until_read("a", &["re …"]).await;
        let (edits, told) = (AtomicUsize::new(0), error.clone());
        *world.fault.lock().unwrap() = Some(Box::new(move |message| {
            let fails = message.text == "re hello" && edits.fetch_add(1, Ordering::SeqCst) == 0;
            fails.then(|| told.clone())
        }));
        gate.open();
        world.until(|_| served.status().outbox == 0 && served.status().waiting == 0).await;
        assert_eq!((world.read("a"), served.status().repeated), (vec!["re hello".to_owned()], repeated), "{error} {idempotent}");
        served.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_out_anew_under_another_key_after_it_may_have_arrived_is_counted() {
    let (_folder, path) = place();
    let (world, gate) = (World::new(ChannelSpec::new("wire").idempotent(true).edits(true)), Gate::default());
    let served = Served::over(&path, config(json!({})), vec![world.plug(), halting(&gate)]).await;
    world.write("a", "1", "hello");
    world.until_read("a", &["re …"]).await;
    let edits = AtomicUsize::new(0);
    *world.fault.lock().unwrap() = Some(Box::new(move |message| match (message.text == "re hello", edits.load(Ordering::SeqCst)) {
        (true, n @ (0 | 1)) => {
            edits.fetch_add(1, Ordering::SeqCst);
            let code = if n == 0 { Code::NETWORK_FAILED } else { Code::INVALID_PARAMS };
            Some(Error::new(code, "the line broke, and then it was too old"))
        }
        _ => None,
    }));
    gate.open();
    world.until(|_| served.status().outbox == 0 && served.status().waiting == 0).await;
    assert_eq!((world.read("a").len(), served.status().repeated), (2, 1));
    served.end().await;
}
