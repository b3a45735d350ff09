//! A plugin behind a real pipe: this test program starts itself again, and that child serves.

mod link;
mod loud;

use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use bespoke_plugin_api::{
    Audio, CallCx, CancelToken, ChatRequest, Code, Contract, Instance, Message, Part, Provider, Stt, SttRequest, Tool, ToolOutput,
    ToolRequest, Vad, VadOptions, next,
};
use bespoke_plugin_testkit::{block_on, block_on_for};
use serde_json::json;

use crate::link::{Child, LIMIT};

const LONG: Duration = Duration::from_secs(30);

/// The child: not a test of its own, so it does nothing where nobody asks for it.
#[test]
fn child() {
    match std::env::var("GUEST_PROCESS_TEST").as_deref() {
        Ok("fake") => end(bespoke_guest_process::serve(&bespoke_fake::BESPOKE_PLUGIN)),
        Ok("loud") => end(bespoke_guest_process::serve(&loud::LOUD)),
        _ => {}
    }
}

/// The harness prints to standard output, which is the log by now.
fn end(code: ExitCode) {
    std::process::exit(i32::from(code != ExitCode::SUCCESS));
}

fn find<'a, T: Contract + ?Sized>(instance: &'a Instance, name: &str) -> &'a Arc<T> {
    instance.contributions.iter().filter(|c| c.name() == name).find_map(T::of).unwrap().1
}

fn wait<F: Future>(future: F) -> F::Output {
    block_on_for(LONG, future).expect("the guest hangs")
}

#[test]
fn a_tool_a_chat_and_a_transcription() {
    let child = Child::start("fake", json!({}));
    let cx = CallCx::new();
    let said = wait(find::<dyn Tool>(&child.instance, "fake_echo").call(&cx, ToolRequest::new(json!({ "text": "é\n✓" })))).unwrap();
    assert!(format!("{said:?}").contains('✓'), "{said:?}");

    let request = ChatRequest::new(vec![Message::user("one two three")]);
    let mut answer = wait(find::<dyn Provider>(&child.instance, "fake").chat(&cx, request)).unwrap();
    let mut deltas = Vec::new();
    while let Some(delta) = wait(std::future::poll_fn(|cx| answer.as_mut().poll_next(cx))) {
        deltas.push(delta.unwrap());
    }
    assert!(deltas.len() > 1, "{deltas:?}");

    // Ten seconds of audio as a blob: the same checksum as without a pipe.
    let audio = Audio::new((0..160_000).map(|n| (n as f32 * 0.01).sin()).collect::<Vec<_>>(), 16_000);
    let heard = wait(find::<dyn Stt>(&child.instance, "fake").transcribe(&cx, SttRequest::new(audio.clone()))).unwrap();
    let direct = Child::direct();
    assert_eq!(heard, wait(find::<dyn Stt>(&direct, "fake").transcribe(&cx, SttRequest::new(audio))).unwrap());
}

#[test]
fn frames_of_a_duplex() {
    let child = Child::start("fake", json!({}));
    let direct = Child::direct();
    let mut events = Vec::new();
    for instance in [&child.instance, &direct] {
        let mut vad = find::<dyn Vad>(instance, "fake").open(&VadOptions::new(16_000)).unwrap();
        let mut seen = Vec::new();
        for n in 0..200 {
            let loud = if (50..150).contains(&n) { 0.9 } else { 0.0 };
            vad.push(&[loud; 160]).unwrap();
        }
        vad.finish().unwrap();
        while let Some(event) = wait(next(&mut *vad)) {
            seen.push(event.unwrap());
        }
        events.push(seen);
    }
    assert!(!events[0].is_empty());
    assert_eq!(events[0], events[1]);
}

#[test]
fn a_call_is_cancelled_or_dropped_and_the_next_is_answered() {
    let child = Child::start("loud", json!({}));
    let tool = find::<dyn Tool>(&child.instance, "loud");
    let token = CancelToken::new();
    let cx = CallCx::new().with_cancel(token.clone());
    let mut call = tool.call(&cx, ToolRequest::new(json!({ "do": "wait" })));
    assert!(block_on_for(Duration::from_millis(20), &mut call).is_none());
    token.cancel();
    assert_eq!(wait(call).unwrap_err().code(), Code::CANCELLED);
    let cx = CallCx::new();
    assert!(block_on_for(Duration::from_millis(20), tool.call(&cx, ToolRequest::new(json!({ "do": "wait" })))).is_none());
    // The dropped one is gone, the other had ended.
    assert_eq!(wait(tool.call(&cx, ToolRequest::new(json!({ "do": "count" })))).unwrap(), ToolOutput::text("0"));
}

#[test]
fn sixty_four_calls_at_a_time() {
    let child = Child::start("loud", json!({}));
    std::thread::scope(|scope| {
        for n in 0..64 {
            let tool = find::<dyn Tool>(&child.instance, "loud");
            scope.spawn(move || {
                for turn in 0..20 {
                    let text = format!("{n}/{turn}");
                    let request = ToolRequest::new(json!({ "do": "block", "text": text }));
                    assert_eq!(wait(tool.call(&CallCx::new(), request)).unwrap(), ToolOutput::text(text));
                }
            });
        }
    });
}

#[test]
fn big_payloads_both_ways_and_too_big_ones() {
    let child = Child::start("loud", json!({}));
    let (cx, tool) = (CallCx::new(), find::<dyn Tool>(&child.instance, "loud"));
    for len in [0, 1, 65_536, LIMIT - 4096] {
        let text = "x".repeat(len);
        let said = wait(tool.call(&cx, ToolRequest::new(json!({ "do": "say", "text": text })))).unwrap();
        assert!(said == ToolOutput::text(text), "{len}");
        let blob = wait(tool.call(&cx, ToolRequest::new(json!({ "do": "blob", "len": len })))).unwrap();
        assert!(matches!(&blob.content[..], [Part::Blob { bytes, .. }] if bytes.len() == len && bytes.iter().all(|b| *b == 7)), "{len}");
    }
    // Longer than the host takes: the guest refuses to send it, and says so in its place.
    let refused = wait(tool.call(&cx, ToolRequest::new(json!({ "do": "blob", "len": LIMIT })))).unwrap_err();
    assert_eq!(refused.code(), Code::RESOURCE_EXHAUSTED);
    assert!(refused.message().contains(&LIMIT.to_string()) && refused.help().is_some(), "{refused}");
    // The link is as it was.
    assert_eq!(wait(tool.call(&cx, ToolRequest::new(json!({ "do": "say", "text": "on" })))).unwrap(), ToolOutput::text("on"));
    assert!(block_on_for(Duration::from_millis(1), child.instance.life.ended()).is_none());
}

#[test]
fn what_a_plugin_prints_and_logs_is_its_log() {
    let child = Child::start("loud", json!({}));
    let (cx, tool) = (CallCx::new(), find::<dyn Tool>(&child.instance, "loud"));
    for how in ["print", "read", "panic", "trace"] {
        let called = wait(tool.call(&cx, ToolRequest::new(json!({ "do": how }))));
        match how {
            "panic" => assert_eq!(called.unwrap_err().code(), Code::PLUGIN_EXCEPTION),
            _ => drop(called.unwrap()),
        }
    }
    let strays = child.strays();
    assert!(!strays.contains("stray print"), "{strays}");
    let until = Instant::now() + LONG;
    while !child.host.lines().iter().any(|(_, line)| line.contains("from tracing n=7")) {
        assert!(Instant::now() < until, "{:?}", child.host.lines());
        std::thread::yield_now();
    }
    let errors = child.finish().1;
    assert!(errors.contains("stray print\n"), "{errors}");
    assert!(errors.contains("ERROR loud panicked at") && errors.contains("on purpose"), "{errors}");
}

#[test]
fn it_ends_with_its_input_and_with_a_goodbye() {
    for goodbye in [false, true] {
        let child = Child::start("loud", json!({}));
        if goodbye {
            wait(child.instance.life.shutdown());
            assert_eq!(child.wait(), Some(0), "after a goodbye");
        } else {
            assert_eq!(child.finish().0, Some(0), "at the end of its input");
        }
    }
}

#[test]
fn a_guest_that_dies_ends_every_call() {
    let child = Child::start("loud", json!({}));
    let (cx, tool) = (CallCx::new(), find::<dyn Tool>(&child.instance, "loud"));
    let mut waiting = tool.call(&cx, ToolRequest::new(json!({ "do": "wait" })));
    assert!(block_on_for(Duration::from_millis(20), &mut waiting).is_none());
    let dying = wait(tool.call(&cx, ToolRequest::new(json!({ "do": "exit" })))).unwrap_err();
    assert_eq!((dying.code(), wait(waiting).unwrap_err().code()), (Code::PLUGIN_CRASHED, Code::PLUGIN_CRASHED));
    assert_eq!(wait(child.instance.life.ended()).code(), Code::PLUGIN_CRASHED);
}

/// Not a claim of speed: a bound against hangs and hidden waits.
#[test]
fn a_thousand_calls_one_after_the_other() {
    let child = Child::start("loud", json!({}));
    let (cx, tool) = (CallCx::new(), find::<dyn Tool>(&child.instance, "loud"));
    let began = Instant::now();
    for _ in 0..1000 {
        block_on(tool.call(&cx, ToolRequest::new(json!({ "do": "say", "text": "x" })))).unwrap();
    }
    let took = began.elapsed();
    assert!(took < LONG, "{took:?}");
}
