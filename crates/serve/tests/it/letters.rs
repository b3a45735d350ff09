//! Answers on their way: sent again, dead, sent again by hand, in order, and what nobody can know.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bespoke_plugin_api::{ChannelSpec, Code, Error, Outbound, serde_json::json};
use bespoke_state::{State, StateError};

use crate::kit::{Fault, Gate, Served, World, config, echo, place, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_succeed_later_is_sent_again_and_the_order_of_a_chat_is_kept() {
    let (_folder, path) = place();
    let world = World::plain("wire");
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    // Only one chat has trouble.
    *world.fault.lock().unwrap() = Some(Box::new(move |message: &Outbound| {
        let fails = message.chat == "a" && counted.fetch_add(1, Ordering::SeqCst) < 4;
        fails.then(|| Error::new(Code::NETWORK_FAILED, "no line").retryable().with_data(json!({ "retry_after_ms": 10 })))
    }));
    let served = Served::over(&path, config(json!({})), vec![world.plug(), echo()]).await;
    for n in 0..3 {
        world.write("a", &format!("{n}"), &format!("a{n}"));
        world.write("b", &format!("{n}"), &format!("b{n}"));
    }
    world.until_read("b", &["re b0", "re b1", "re b2"]).await;
    world.until_read("a", &["re a0", "re a1", "re a2"]).await;
    world.until(|_| served.status().outbox == 0).await;
    assert_eq!((tries.load(Ordering::SeqCst), served.status().dead), (7, 0));
    served.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_sent_is_a_dead_letter_until_somebody_sends_it_again() {
    let (_folder, path) = place();
    let world = World::plain("wire");
    let refuses = |error: Error| -> Fault { Box::new(move |message| message.text.contains("bad").then(|| error.clone())) };
    *world.fault.lock().unwrap() = Some(refuses(Error::invalid_params("no such chat")));
    let served = Served::over(&path, config(json!({ "send_attempts": 3 })), vec![world.plug(), echo()]).await;
    world.write("a", "1", "bad one");
    world.write("a", "2", "good one");
    // It keeps nobody waiting.
    world.until_read("a", &["re good one"]).await;
    *world.fault.lock().unwrap() = Some(refuses(Error::new(Code::NETWORK_FAILED, "no line").retryable()));
    world.write("a", "3", "bad two");
    world.until(|_| served.status().dead == 2).await;
    let dead = served.server.letters(0, 9).unwrap();
    let told =
        dead.iter().map(|d| (d.channel.as_str(), d.message.as_ref().unwrap().text.as_str(), d.attempts, d.error.as_deref().unwrap()));
    let expected = [("wire", "re bad one", 1, "wire: no such chat"), ("wire", "re bad two", 3, "wire: no line")];
    assert_eq!(told.collect::<Vec<_>>(), expected);
    *world.fault.lock().unwrap() = None;
    assert_eq!(served.server.resend(None).unwrap(), [dead[0].id, dead[1].id]);
    world.until(|_| served.status().dead == 0 && served.status().outbox == 0).await;
    world.until_read("a", &["re good one", "re bad one", "re bad two"]).await;
    let error = served.server.resend(Some(&[dead[0].id])).unwrap_err();
    assert!(matches!(error, StateError::NoLetter { .. }), "{error}");
    served.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_letter_is_not_tried_for_ever() {
    let (_folder, path) = place();
    let world = World::plain("wire");
    *world.fault.lock().unwrap() = Some(Box::new(|_| Some(Error::new(Code::NETWORK_FAILED, "no line").retryable())));
    let served = Served::over(&path, config(json!({ "send_age_ms": 1, "send_attempts": 1_000_000 })), vec![world.plug(), echo()]).await;
    world.write("a", "1", "hello");
    world.until(|_| served.status().dead == 1).await;
    served.end().await;
}

/// What was being sent when a program ended.
fn cut_short(path: &std::path::Path) {
    let state = State::open(path).unwrap();
    state.take_in("wire", &bespoke_plugin_api::Inbound::new("a", "ann", "1", "hello")).unwrap();
    let taken = state.begin("wire", "a").unwrap().unwrap();
    let mut ending = bespoke_state::Ending::default();
    ending.letters = vec![Outbound::new("a", "re hello")];
    ending.direct = true;
    assert!(state.conclude(taken.id, "wire", "a", ending).unwrap().letter.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_have_been_sent_is_sent_again_and_counted_where_it_may_come_twice() {
    for idempotent in [true, false] {
        let (_folder, path) = place();
        cut_short(&path);
        let world = World::new(ChannelSpec::new("wire").idempotent(idempotent));
        let served = Served::over(&path, config(json!({})), vec![world.plug(), echo()]).await;
        world.until_read("a", &["re hello"]).await;
        world.until(|_| served.status().outbox == 0).await;
        assert_eq!(served.status().repeated, u64::from(!idempotent));
        served.end().await;
    }
}

/// What a channel says of a message that was not sent goes before what its code says of most.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_channel_says_of_where_a_message_is_counts() {
    for (code, told, repeated) in [
        (Code::NETWORK_FAILED, None, 1),
        (Code::NETWORK_FAILED, Some(false), 0),
        (Code::RESOURCE_EXHAUSTED, None, 0),
        (Code::RESOURCE_EXHAUSTED, Some(true), 1),
    ] {
        let (_folder, path) = place();
        let world = World::new(ChannelSpec::new("wire"));
        let fails = std::sync::atomic::AtomicBool::new(true);
        *world.fault.lock().unwrap() = Some(Box::new(move |_| {
            let error = Error::new(code, "no").retryable();
            let error = told.map_or(error.clone(), |told| error.with_data(json!({ "may_have_arrived": told })));
            fails.swap(false, std::sync::atomic::Ordering::SeqCst).then_some(error)
        }));
        let served = Served::over(&path, config(json!({ "retry_ms": 1 })), vec![world.plug(), echo()]).await;
        world.write("a", "1", "hello");
        world.until_read("a", &["re hello"]).await;
        world.until(|_| served.status().outbox == 0).await;
        assert_eq!(served.status().repeated, repeated, "{code:?} {told:?}");
        served.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_takes_up_what_the_one_before_it_left() {
    let (_folder, path) = place();
    let world = World::plain("wire");
    let no_line = Arc::new(Mutex::new(true));
    let fails = no_line.clone();
    *world.fault.lock().unwrap() =
        Some(Box::new(move |_| fails.lock().unwrap().then(|| Error::new(Code::NETWORK_FAILED, "no line").retryable())));
    let gate = Gate::default();
    let opened = gate.clone();
    let slow = crate::kit::mind(move |asked| {
        let gate = opened.clone();
        if asked == "slow" {
            crate::kit::says_after("re slow", async move { gate.opened().await })
        } else {
            crate::kit::says(&format!("re {asked}"))
        }
    });
    let served = Served::over(&path, config(json!({ "retry_ms": 60_000 })), vec![world.plug(), slow]).await;
    world.write("a", "1", "one");
    world.until(|_| served.status().outbox == 1).await;
    world.write("a", "2", "slow");
    world.write("a", "3", "three");
    world.until(|_| served.status().waiting == 2 && served.status().at_work == 1).await;
    // It has no time to finish; what it began is taken back.
    within(served.server.drain(Duration::from_millis(50))).await;
    within(served.host.shutdown()).await;
    assert_eq!(served.said("wire", "a"), ["one", "re one"]);
    let status = served.status();
    assert_eq!((status.waiting, status.outbox, status.draining), (2, 1, true));
    drop(served);

    *no_line.lock().unwrap() = false;
    gate.open();
    let state = State::open(&path).unwrap();
    // A minute is long.
    assert!(state.next_letters("wire", 9).unwrap().letters.is_empty());
    drop(state);
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute("UPDATE outbox SET next = 0", []).unwrap();
    drop(raw);
    let served = Served::over(&path, config(json!({})), vec![world.plug(), echo()]).await;
    world.until_read("a", &["re one", "re slow", "re three"]).await;
    world.until(|_| served.status().outbox == 0).await;
    assert_eq!(served.said("wire", "a"), ["one", "re one", "slow", "re slow", "three", "re three"]);
    served.end().await;
}
