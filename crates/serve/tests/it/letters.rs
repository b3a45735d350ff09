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
    // Whoever waits for the new try knows what became of it.
    let again = served.server.resend(Some(&[dead[1].id])).unwrap();
    served.server.tried(&again, Duration::from_secs(60)).await.unwrap();
    assert!(served.server.letters(0, 9).unwrap()[1].attempts >= 1);
    world.until(|_| served.status().dead == 2).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_its_next_try_is_sent_now_or_forgotten_when_somebody_says_so() {
    let (_folder, path) = place();
    let world = World::plain("wire");
    *world.fault.lock().unwrap() = Some(Box::new(|_| Some(Error::new(Code::NETWORK_FAILED, "no line").retryable())));
    let served = Served::over(&path, config(json!({ "retry_ms": 3_600_000 })), vec![world.plug(), echo()]).await;
    for n in 1..=3 {
        world.write("a", &format!("{n}"), &format!("{n}"));
    }
    let tried = |served: &Served| served.server.letters(0, 9).unwrap().iter().map(|letter| letter.attempts).collect::<Vec<_>>();
    world.until(|_| tried(&served) == [1, 0, 0] && served.server.letters(0, 1).unwrap()[0].error.is_some()).await;
    *world.fault.lock().unwrap() = None;
    let ids: Vec<_> = served.server.letters(0, 9).unwrap().iter().map(|letter| letter.id).collect();
    assert_eq!(served.server.forget(Some(&ids[..1])).unwrap(), ids[..1]);
    // The next ones leave at once, as nothing is before them any more.
    world.until_read("a", &["re 2", "re 3"]).await;
    *world.fault.lock().unwrap() = Some(Box::new(|_| Some(Error::new(Code::NETWORK_FAILED, "no line").retryable())));
    world.write("a", "4", "4");
    world.until(|_| served.server.letters(0, 9).unwrap().iter().any(|letter| letter.error.is_some())).await;
    *world.fault.lock().unwrap() = None;
    assert_eq!(served.server.resend(None).unwrap().len(), 1);
    world.until_read("a", &["re 2", "re 3", "re 4"]).await;
    served.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_cannot_be_read_are_told_and_everything_else_goes_on() {
    let (_folder, path) = place();
    cut_short(&path);
    let state = State::open(&path).unwrap();
    for id in ["2", "3"] {
        state.take_in("wire", &bespoke_plugin_api::Inbound::new("a", "ann", id, id)).unwrap();
    }
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute("UPDATE outbox SET body = 'SECRET'", []).unwrap();
    raw.execute("UPDATE inbox SET body = 'SECRET' WHERE id = (SELECT min(id) FROM inbox)", []).unwrap();
    drop((raw, state));
    let world = World::plain("wire");
    let host = crate::kit::host(vec![world.plug(), echo()]).await;
    let _listener = host.events().subscribe("message_", None);
    let served = Served::on(&path, config(json!({})), host, None).await;
    world.until_read("a", &["I could not read your message. Please send it again.", "re 3"]).await;
    world.until(|_| served.status().outbox == 0).await;
    assert_eq!((served.status().dead, served.status().waiting), (2, 0));
    let failed = served.host.events().history("message_failed", 0);
    let mut told: Vec<_> = failed.iter().map(|event| event.payload["reason"].as_str().unwrap()).collect();
    told.sort_unstable();
    assert_eq!(told, ["letter 1 cannot be read", "message 2 came in and cannot be read"]);
    assert!(failed.iter().all(|event| event.payload["what"] == "read" && !event.payload.to_string().contains("SECRET")));
    served.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_kept_for_as_long_as_the_configuration_says() {
    let (_folder, path) = place();
    let state = State::open(&path).unwrap();
    cut_short(&path);
    state.recover_letters().unwrap();
    let letter = state.next_letters("wire", 9).unwrap().letters.remove(0);
    state.not_sent(letter.id, &bespoke_state::Trouble::dead("gone")).unwrap();
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute("UPDATE outbox SET created = created - 29 * 86400000000", []).unwrap();
    drop((raw, state));
    for (days, dead) in [(30, 1), (0, 1), (28, 0)] {
        let world = World::plain("wire");
        let served = Served::over(&path, config(json!({ "dead_days": days })), vec![world.plug(), echo()]).await;
        if dead == 0 {
            world.until(|_| served.status().dead == 0).await;
        }
        world.write("a", &format!("of {days}"), "hello");
        world.until_read("a", &["re hello"]).await;
        assert_eq!(served.status().dead, dead, "{days}");
        served.end().await;
    }
}
