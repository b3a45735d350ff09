//! Streams under strain: a slow plugin, a slow reader, drops in the middle, a guest that dies.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use bespoke_plugin_api::{
    BoxStream, CallCx, ChatDelta, ChatRequest, Code, Contract, Duplex, Error, Instance, Provider, Vad, VadEvent, VadOptions, next,
};
use bespoke_plugin_testkit::{block_on, block_on_for};
use bespoke_protocol::{EVENT_WINDOW, INPUT_WINDOW};
use serde_json::json;

use crate::host_api::{ask, start};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_slow_plugin_holds_its_writer_and_no_frame_is_lost() {
    let (world, _host, _probe) = start();
    let mut stream = open(&world);
    let frame = vec![0.0_f32; 16 << 10];
    let window = INPUT_WINDOW as usize / (frame.len() * 4);
    let mut cx = Context::from_waker(Waker::noop());
    for n in 0..window {
        assert!(stream.poll_ready(&mut cx).is_ready(), "{n} of {window}");
        stream.push(&frame).unwrap();
    }
    assert!(stream.poll_ready(&mut cx).is_pending());
    let refused = stream.push(&frame).unwrap_err();
    assert_eq!((refused.code(), refused.is_retryable()), (Code::RESOURCE_EXHAUSTED, true));

    ask(&world, json!({ "open_gate": null })).unwrap();
    let rest = async {
        for _ in 0..window {
            poll_fn(|cx| stream.poll_ready(cx)).await?;
            stream.push(&frame)?;
        }
        stream.finish()?;
        let mut events = 0;
        while let Some(event) = next(&mut *stream).await {
            event?;
            events += 1;
        }
        Ok::<_, Error>(events)
    };
    assert_eq!(block_on_for(SOON, rest).expect("it hangs").unwrap(), 2 * window);
}

#[test]
fn a_slow_reader_holds_its_plugin_and_no_event_is_lost() {
    let (world, _host, _probe) = start();
    let mut stream = chat(&world, u32::MAX);
    assert_eq!(read(&mut stream), Some("0".into()));
    let made = ask(&world, json!({ "made": null })).unwrap()["made"].as_u64().unwrap();
    assert!(made <= u64::from(EVENT_WINDOW), "{made} deltas were made for a reader who took one");
    for n in 1..u64::from(EVENT_WINDOW) * 3 {
        assert_eq!(read(&mut stream), Some(n.to_string()));
    }
}

#[test]
fn a_stream_that_ends_inside_its_window_ends_after_its_last_event() {
    let (world, _host, probe) = start();
    let mut stream = chat(&world, 600);
    for n in 0..600 {
        assert_eq!(read(&mut stream), Some(n.to_string()));
    }
    assert_eq!(read(&mut stream), None);
    assert_eq!(read(&mut stream), None);
    drop(stream);
    assert!(probe.wait_idle(SOON));
    assert_eq!(ask(&world, json!({ "dropped": null })).unwrap()["dropped"], 1);
}

#[test]
fn dropping_a_stream_drops_the_plugins_stream_before_anything_else_happens() {
    let (world, _host, _probe) = start();
    drop(open(&world));
    let mut answer = chat(&world, u32::MAX);
    assert_eq!(read(&mut answer), Some("0".into()));
    drop(answer);
    assert_eq!(ask(&world, json!({ "dropped": null })).unwrap()["dropped"], 2);
}

#[test]
fn an_error_of_a_push_ends_the_stream_after_the_events_before_it() {
    let (world, _host, _probe) = start();
    ask(&world, json!({ "open_gate": null })).unwrap();
    let mut stream = open(&world);
    stream.push(&[0.0]).unwrap();
    stream.push(&[-2.0]).unwrap();
    // Too late to be refused, and of no effect.
    let _ = stream.push(&[0.0]);
    let events = async { (next(&mut *stream).await, next(&mut *stream).await, next(&mut *stream).await) };
    let (first, second, third) = block_on_for(SOON, events).expect("it hangs");
    assert!(matches!(first, Some(Ok(VadEvent::SpeechStart { from: 1, .. }))), "{first:?}");
    assert_eq!(second.unwrap().unwrap_err().message(), "too quiet");
    assert!(third.is_none());
    assert_eq!(stream.push(&[0.0]).unwrap_err().message(), "too quiet");
}

#[test]
fn when_the_guest_dies_everybody_is_told_and_may_try_again() {
    let (world, _host, probe) = start();
    let (mut stream, mut answer) = (open(&world), chat(&world, u32::MAX));
    assert_eq!(read(&mut answer), Some("0".into()));
    probe.crash();
    let lost = block_on_for(SOON, next(&mut *stream)).expect("it hangs").unwrap().unwrap_err();
    assert_eq!((lost.code(), lost.is_retryable()), (Code::PLUGIN_CRASHED, true));
    let lost = loop {
        match block_on_for(SOON, poll_fn(|cx| answer.as_mut().poll_next(cx))).expect("it hangs") {
            Some(Ok(_)) => {}
            Some(Err(e)) => break e,
            None => panic!("a lost answer looks complete"),
        }
    };
    assert_eq!(lost.code(), Code::PLUGIN_CRASHED);
    assert_eq!(ask(&world, json!({})).unwrap_err().code(), Code::PLUGIN_CRASHED);
    assert_eq!(world.life.health().name(), "failed");
    assert!(stream.push(&[0.0]).is_err());
}

#[test]
fn a_frame_over_the_limit_is_refused_where_it_is_pushed() {
    let (world, _host, _probe) = start();
    let mut stream = open(&world);
    let refused = stream.push(&vec![0.0; bespoke_protocol::MAX_FRAME / 4]).unwrap_err();
    assert_eq!(refused.code(), Code::RESOURCE_EXHAUSTED);
    stream.push(&[0.0]).unwrap();
}

fn open(world: &Instance) -> Box<dyn Duplex<[f32], VadEvent>> {
    let (_, vad): (_, &Arc<dyn Vad>) = world.contributions.iter().find_map(<dyn Vad>::of).unwrap();
    vad.open(&VadOptions::new(16_000)).unwrap()
}

fn chat(world: &Instance, deltas: u32) -> BoxStream<ChatDelta> {
    let (_, provider) = world.contributions.iter().find_map(<dyn Provider>::of).unwrap();
    block_on(provider.chat(&CallCx::new(), ChatRequest::new(vec![]).max_tokens(deltas))).unwrap()
}

fn read(stream: &mut BoxStream<ChatDelta>) -> Option<String> {
    match block_on_for(SOON, poll_fn(|cx| stream.as_mut().poll_next(cx))).expect("it hangs")?.unwrap() {
        ChatDelta::Text { text, .. } => Some(text),
        other => panic!("{other:?}"),
    }
}
