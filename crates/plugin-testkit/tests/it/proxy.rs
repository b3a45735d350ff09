//! The proxy against guests that are old, rude or broken.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex},
    time::Duration,
};

use bespoke_plugin_api::{
    CallCx, CancelToken, Channel, ChannelSpec, ChatRequest, Code, Contract, Error, Instance, MessageRef, Outbound, Provider, ProviderSpec,
    Reload, Result, Spec, Tool, ToolOutput, ToolRequest, ToolSpec, Vad, VadOptions, VadSpec, next, try_next,
};
use bespoke_plugin_proxy::{Link, Proxy, Receiver, StartOptions};
use bespoke_plugin_testkit::{TestHost, block_on, block_on_for};
use bespoke_protocol::{
    CxHead, DEFAULT_PAYLOAD, EVENT_WINDOW, GoodbyeHead, GuestHello, Kind, Lane, Reassembler, Route, Vitals, flag,
    line::{Incoming, LineReader, Side},
    method, put_body, put_call, put_json, put_plain, put_reply,
};
use serde_json::json;

/// What the guest of a test does with a frame: kind, flags, id, method; it writes its answer.
type Script = dyn FnMut(Kind, u8, u32, &str, &mut Vec<u8>) + Send;

struct Scripted {
    script: Mutex<Box<Script>>,
    receiver: Mutex<Option<Receiver>>,
}

impl Scripted {
    /// Takes the receiver out meanwhile: what it hears may be answered from within, by whoever sends.
    fn with(&self, act: impl FnOnce(&mut Receiver)) {
        let mut receiver = self.receiver.lock().unwrap().take().unwrap();
        act(&mut receiver);
        *self.receiver.lock().unwrap() = Some(receiver);
    }
}

struct ToScript(Arc<Scripted>);

impl Link for ToScript {
    fn send(&self, _lane: Lane, bytes: &[u8]) -> Result<()> {
        let mut out = Vec::new();
        Reassembler::new()
            .feed(bytes, |f| {
                let method = Route::read(&f).map(|r| r.method).unwrap_or_default();
                match (f.kind, method.as_str()) {
                    (Kind::HELLO, _) => put_json(&mut out, Kind::HELLO, 0, &hello()).unwrap(),
                    (_, method::START) => put_reply(&mut out, Kind::REPLY, f.id, &Ok(Vitals::default())),
                    (kind, method) => (self.0.script.lock().unwrap())(kind, f.flags, f.id, method, &mut out),
                }
            })
            .unwrap();
        // Answered from within `send`, as an in-process driver does.
        let receiver = self.0.receiver.lock().unwrap().take();
        if let Some(mut receiver) = receiver {
            let _ = receiver.receive(&out);
            *self.0.receiver.lock().unwrap() = Some(receiver);
        }
        Ok(())
    }
}

fn hello() -> GuestHello {
    let specs = vec![
        Spec::Tool(ToolSpec::new("t", "")),
        Spec::Vad(VadSpec::new("v")),
        Spec::Provider(ProviderSpec::new("p")),
        Spec::Channel(ChannelSpec::new("c").edits(true).streams(true)),
    ];
    GuestHello {
        protocol: 1,
        oldest: 1,
        plugin: "old".into(),
        version: "0.0.1".into(),
        specs,
        features: Vec::new(),
        max_payload: DEFAULT_PAYLOAD,
    }
}

fn start(script: impl FnMut(Kind, u8, u32, &str, &mut Vec<u8>) + Send + 'static) -> (Instance, Arc<Scripted>) {
    let scripted = Arc::new(Scripted { script: Mutex::new(Box::new(script)), receiver: Mutex::new(None) });
    let (proxy, receiver) = Proxy::new(TestHost::new(), Arc::new(ToScript(scripted.clone())));
    *scripted.receiver.lock().unwrap() = Some(receiver);
    (block_on(proxy.start(StartOptions::new("old", json!({})))).unwrap(), scripted)
}

fn find<T: Contract + ?Sized>(instance: &Instance) -> &Arc<T> {
    instance.contributions.iter().find_map(T::of).unwrap().1
}

#[test]
fn what_an_old_guest_does_not_know_has_its_default() {
    let (old, _guest) = start(|kind, _, id, method, out| match kind {
        Kind::CALL => put_reply::<()>(out, Kind::REPLY, id, &Err(Error::unsupported(&format!("method {method}")))),
        Kind::OPEN => bespoke_protocol::put_end(out, id, &Err(Error::unsupported(method))),
        _ => {}
    });
    assert_eq!(block_on(old.life.reconfigure(json!({}))).unwrap(), Reload::Restart);
    assert_eq!(block_on(old.life.capture_state()).unwrap(), None);
    block_on(old.life.shutdown());
    let (cx, channel) = (CallCx::new(), find::<dyn Channel>(&old));
    let edited = block_on(channel.edit(&cx, MessageRef::new("c", "1"), Outbound::new("c", "x"))).unwrap_err();
    assert_eq!(edited, Error::unsupported("channel.edit"));
    let mut stream = channel.stream("c").unwrap();
    assert_eq!(block_on(next(&mut *stream)).unwrap().unwrap_err(), Error::unsupported("channel.stream"));
    let called = block_on(find::<dyn Tool>(&old).call(&cx, ToolRequest::new(json!({})))).unwrap_err();
    assert_eq!(called.code(), Code::METHOD_NOT_FOUND);
}

#[test]
fn another_plugin_or_protocol_is_not_started() {
    let scripted = Arc::new(Scripted { script: Mutex::new(Box::new(|_, _, _, _, _| {})), receiver: Mutex::new(None) });
    let (proxy, receiver) = Proxy::new(TestHost::new(), Arc::new(ToScript(scripted.clone())));
    *scripted.receiver.lock().unwrap() = Some(receiver);
    let refused = block_on(proxy.start(StartOptions::new("new", json!({})))).unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::LOAD_FAILED, "the guest is the plugin `old`, not `new`"));
}

#[test]
fn an_answer_that_is_no_answer_is_an_error_of_that_call() {
    let (old, _guest) = start(|kind, _, id, _, out| {
        if kind == Kind::CALL {
            put_json(out, Kind::REPLY, id, &json!({ "ok": 17 })).unwrap();
        }
    });
    let cx = CallCx::new();
    let tool = find::<dyn Tool>(&old);
    let refused = block_on(tool.call(&cx, ToolRequest::new(json!({})))).unwrap_err();
    assert_eq!(refused.code(), Code::INVALID_REQUEST);
}

#[test]
fn a_flood_of_events_ends_its_stream_and_is_reset() {
    let resets = Arc::new(Mutex::new(Vec::new()));
    let seen = resets.clone();
    let (old, _guest) = start(move |kind, _, id, _, out| match kind {
        Kind::CALL => {
            put_reply(out, Kind::REPLY, id, &Ok(()));
            for _ in 0..=EVENT_WINDOW {
                put_body(out, Kind::EVENT, id, &bespoke_plugin_api::ChatDelta::text("x")).unwrap();
            }
        }
        Kind::RESET => seen.lock().unwrap().push(id),
        _ => {}
    });
    let mut answer = block_on(find::<dyn Provider>(&old).chat(&CallCx::new(), ChatRequest::new(vec![]))).unwrap();
    let mut events = 0;
    let error = loop {
        match block_on(poll_fn(|cx| answer.as_mut().poll_next(cx))).unwrap() {
            Ok(_) => events += 1,
            Err(e) => break e,
        }
    };
    assert_eq!((events, error.code()), (EVENT_WINDOW, Code::RESOURCE_EXHAUSTED));
    drop(answer);
    assert_eq!(resets.lock().unwrap().len(), 1);
}

#[test]
fn a_dropped_call_is_cancelled_once_and_a_late_answer_ignored() {
    let said = Arc::new(Mutex::new(Vec::new()));
    let seen = said.clone();
    let (old, guest) = start(move |kind, flags, id, _, _| seen.lock().unwrap().push((kind, flags, id)));
    let cx = CallCx::new();
    let tool = find::<dyn Tool>(&old);
    assert!(block_on_for(Duration::from_millis(1), tool.call(&cx, ToolRequest::new(json!({})))).is_none());
    let said = said.lock().unwrap().clone();
    let [(Kind::CALL, 0, call), (Kind::CANCEL, flag::ABANDONED, cancelled)] = said[..] else { panic!("{said:?}") };
    assert_eq!(call, cancelled);
    let mut late = Vec::new();
    put_reply(&mut late, Kind::REPLY, call, &Ok(ToolOutput::text("late")));
    put_plain(&mut late, Kind::END, 0, call);
    put_plain(&mut late, Kind(77), 0, call);
    guest.receiver.lock().unwrap().as_mut().unwrap().receive(&late).unwrap();
}

#[test]
fn garbage_ends_every_call_and_stream() {
    let (old, guest) = start(|_, _, _, _, _| {});
    let mut stream = find::<dyn Vad>(&old).open(&VadOptions::new(16_000)).unwrap();
    stream.push(&[0.0]).unwrap();
    assert!(try_next(&mut *stream).is_none());
    let garbage = guest.receiver.lock().unwrap().as_mut().unwrap().receive(b"Segmentation fault\n").unwrap_err();
    assert_eq!(garbage.code(), Code::PARSE_ERROR);
    let lost = block_on(next(&mut *stream)).unwrap().unwrap_err();
    assert_eq!((lost.code(), lost.is_retryable()), (Code::PLUGIN_CRASHED, true));
    assert!(lost.message().contains("no frame header"), "{lost}");
}

#[test]
fn a_link_that_fails_is_a_crash() {
    struct Broken;
    impl Link for Broken {
        fn send(&self, _lane: Lane, _frames: &[u8]) -> Result<()> {
            Err(Error::internal("broken pipe"))
        }
    }
    let (proxy, _receiver) = Proxy::new(TestHost::new(), Arc::new(Broken));
    let lost = block_on(proxy.start(StartOptions::new("old", json!({})))).unwrap_err();
    assert_eq!((lost.code(), lost.message()), (Code::PLUGIN_CRASHED, "the link to the plugin is lost: broken pipe"));
}

/// The guest may have run half of the call, and the caller gone, before the call of `send` returns.
#[test]
fn a_caller_that_goes_while_the_call_is_being_sent_is_noticed() {
    let token = CancelToken::new();
    let leaving = token.clone();
    let (old, _guest) = start(move |kind, _, id, _, out| match kind {
        Kind::CALL => leaving.cancel(),
        Kind::CANCEL => put_reply::<()>(out, Kind::REPLY, id, &Err(Error::cancelled())),
        _ => {}
    });
    let cx = CallCx::new().with_cancel(token);
    let called = block_on_for(Duration::from_secs(10), find::<dyn Tool>(&old).call(&cx, ToolRequest::new(json!({})))).expect("it hangs");
    assert_eq!(called.unwrap_err().code(), Code::CANCELLED);
}

#[test]
fn a_call_that_was_answered_is_not_cancelled() {
    let said = Arc::new(Mutex::new(Vec::new()));
    let seen = said.clone();
    let (old, _guest) = start(move |kind, _, id, _, out| {
        seen.lock().unwrap().push(kind);
        put_reply(out, Kind::REPLY, id, &Ok(ToolOutput::text("done")));
    });
    block_on(find::<dyn Tool>(&old).call(&CallCx::new(), ToolRequest::new(json!({})))).unwrap();
    assert_eq!(said.lock().unwrap()[..], [Kind::CALL]);
}

#[test]
fn answers_of_the_wrong_type_twice_or_for_nobody_touch_no_other_call() {
    type Answer = fn(u32, &mut Vec<u8>);
    let answers: &[(&str, Answer)] = &[
        ("twice", |id, out| {
            put_reply(out, Kind::REPLY, id, &Ok(ToolOutput::text("right")));
            put_reply(out, Kind::REPLY, id, &Ok(ToolOutput::text("again")));
        }),
        ("wrong id first", |id, out| {
            put_reply(out, Kind::REPLY, id + 1000, &Ok(ToolOutput::text("whose?")));
            put_reply(out, Kind::REPLY, id, &Ok(ToolOutput::text("right")));
        }),
        ("an event for a call", |id, out| put_body(out, Kind::EVENT, id, &ToolOutput::text("no")).unwrap()),
        ("an end for a call", |id, out| bespoke_protocol::put_end(out, id, &Ok(()))),
        ("wrong type", |id, out| put_reply(out, Kind::REPLY, id, &Ok("text".to_owned()))),
        ("an error that is none", |id, out| put_json(out, Kind::REPLY, id, &json!({ "err": "no" })).unwrap()),
    ];
    for (what, answer) in answers {
        let mut calls = 0;
        let (old, _guest) = start(move |kind, _, id, _, out| {
            if kind == Kind::CALL {
                calls += 1;
                if calls == 1 { answer(id, out) } else { put_reply(out, Kind::REPLY, id, &Ok(ToolOutput::text("next"))) }
            }
        });
        let (cx, tool) = (CallCx::new(), find::<dyn Tool>(&old));
        let first = block_on_for(Duration::from_secs(10), tool.call(&cx, ToolRequest::new(json!({})))).expect(what);
        match *what {
            "twice" | "wrong id first" => assert_eq!(first.unwrap(), ToolOutput::text("right"), "{what}"),
            _ => {
                assert!(matches!(first.unwrap_err().code(), Code::INVALID_REQUEST | Code::INVALID_PARAMS | Code::INTERNAL_ERROR), "{what}")
            }
        }
        let second = block_on_for(Duration::from_secs(10), tool.call(&cx, ToolRequest::new(json!({})))).expect(what);
        assert_eq!(second.unwrap(), ToolOutput::text("next"), "{what}");
    }
}

/// A link that finds a frame too long refuses that frame; the call fails, the link does not.
#[test]
fn what_is_too_long_for_the_guest_is_an_error_of_that_call() {
    struct Narrow(ToScript);
    impl Link for Narrow {
        fn send(&self, lane: Lane, frames: &[u8]) -> Result<()> {
            if frames.len() > 1000 {
                return Err(Error::new(Code::RESOURCE_EXHAUSTED, format!("{} bytes are over 1000", frames.len())).with_help("less"));
            }
            self.0.send(lane, frames)
        }
    }
    let ends = Arc::new(Mutex::new(Vec::new()));
    let seen = ends.clone();
    let scripted = Arc::new(Scripted {
        script: Mutex::new(Box::new(move |kind, _, id, method, out| match kind {
            Kind::CALL => {
                if method == method::INVOKE {
                    // A host call whose answer will be too long.
                    put_call(out, Kind::HOST_CALL, 5, method::HOST_LOAD, "", &CxHead::default(), &"big".to_owned()).unwrap();
                }
                put_reply(out, Kind::REPLY, id, &Ok(ToolOutput::text("ok")));
            }
            other => seen.lock().unwrap().push(other),
        })),
        receiver: Mutex::new(None),
    });
    let host = TestHost::new();
    let (proxy, receiver) = Proxy::new(host.clone(), Arc::new(Narrow(ToScript(scripted.clone()))));
    *scripted.receiver.lock().unwrap() = Some(receiver);
    let old = block_on(proxy.start(StartOptions::new("old", json!({})))).unwrap();
    let (cx, tool) = (CallCx::new(), find::<dyn Tool>(&old));

    let refused = block_on(tool.call(&cx, ToolRequest::new(json!({ "a": "x".repeat(2000) })))).unwrap_err();
    assert_eq!((refused.code(), refused.help()), (Code::RESOURCE_EXHAUSTED, Some("less")));
    assert_eq!(block_on(tool.call(&cx, ToolRequest::new(json!({})))).unwrap(), ToolOutput::text("ok"));

    let mut vad = find::<dyn Vad>(&old).open(&VadOptions::new(16_000)).unwrap();
    vad.push(&[0.0; 100]).unwrap();
    assert_eq!(vad.push(&[0.0; 1000]).unwrap_err().code(), Code::RESOURCE_EXHAUSTED);
    vad.push(&[0.0; 100]).unwrap();
    drop(vad);
    // Nothing was cancelled that had not been sent.
    assert_eq!(*ends.lock().unwrap(), [Kind::OPEN, Kind::DATA, Kind::DATA, Kind::RESET]);

    ends.lock().unwrap().clear();
    block_on(bespoke_plugin_api::HostApi::store(&*host, "big", Some(vec![0; 2000].into()))).unwrap();
    block_on(old.life.invoke(&cx, "load", json!({}))).unwrap();
    let until = std::time::Instant::now() + Duration::from_secs(10);
    while !ends.lock().unwrap().contains(&Kind::HOST_REPLY) {
        assert!(std::time::Instant::now() < until, "the host call was never answered");
        std::thread::yield_now();
    }
}

/// A message of the guest that the driver skipped: the call that it answers fails, a stream ends and is reset.
#[test]
fn what_was_skipped_on_the_way_is_told_to_whom_it_was_meant() {
    let said = Arc::new(Mutex::new(Vec::new()));
    let seen = said.clone();
    let (old, guest) = start(move |kind, _, id, _, _| seen.lock().unwrap().push((kind, id)));
    let skip = |line: String| {
        let mut reader = LineReader::new(Side::Guest, 100);
        let guest = guest.clone();
        reader.feed(format!("{line}\n").as_bytes(), |incoming| {
            let Incoming::TooLong(skipped) = incoming else { panic!("{incoming:?}") };
            guest.with(|r| r.skipped(&skipped));
        });
    };
    let long = "x".repeat(200);
    let cx = CallCx::new();
    let mut call = find::<dyn Tool>(&old).call(&cx, ToolRequest::new(json!({})));
    assert!(block_on_for(Duration::from_millis(1), &mut call).is_none());
    let id = said.lock().unwrap()[0].1;
    skip(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":"{long}"}}"#));
    let refused = block_on_for(Duration::from_secs(10), call).expect("it hangs").unwrap_err();
    assert_eq!(refused.code(), Code::RESOURCE_EXHAUSTED);
    assert!(refused.message().contains("100 bytes of one message that the host takes"), "{refused}");

    let mut stream = find::<dyn Vad>(&old).open(&VadOptions::new(16_000)).unwrap();
    let id = said.lock().unwrap().last().unwrap().1;
    skip(format!(r#"{{"jsonrpc":"2.0","method":"stream/event","params":{{"id":{id},"event":"{long}"}}}}"#));
    assert_eq!(block_on(next(&mut *stream)).unwrap().unwrap_err().code(), Code::RESOURCE_EXHAUSTED);
    assert_eq!(said.lock().unwrap().last(), Some(&(Kind::RESET, id)));
    // What the guest asked of the host is refused to it.
    skip(format!(r#"{{"jsonrpc":"2.0","id":9,"method":"host.emit","params":"{long}"}}"#));
    assert_eq!(said.lock().unwrap().last(), Some(&(Kind::HOST_REPLY, 9)));
}

#[test]
fn who_watches_a_life_learns_of_its_end_only_when_nobody_stopped_it() {
    type End = fn(&Instance, &Scripted);
    let table: [(&str, End, Option<&str>); 5] = [
        ("lost", |_, guest| guest.with(|r| r.lost(Error::internal("signal 11"))), Some("signal 11")),
        ("dropped", |_, guest| drop(guest.receiver.lock().unwrap().take()), Some("the plugin's guest has ended")),
        (
            "goodbye",
            |_, guest| {
                let mut out = Vec::new();
                put_json(&mut out, Kind::GOODBYE, 0, &GoodbyeHead { reason: "tired".into() }).unwrap();
                guest.with(|r| r.receive(&out).unwrap());
            },
            Some("tired"),
        ),
        ("nothing", |_, _| (), None),
        (
            "shutdown",
            |old, guest| {
                block_on(old.life.shutdown());
                guest.with(|r| r.lost(Error::internal("gone")));
            },
            None,
        ),
    ];
    for (what, end, reason) in table {
        let said = Arc::new(Mutex::new(Vec::new()));
        let seen = said.clone();
        let (old, guest) = start(move |kind, _, id, _, out| {
            seen.lock().unwrap().push(kind);
            if kind == Kind::CALL {
                put_reply(out, Kind::REPLY, id, &Ok(()));
            }
        });
        let mut ended = old.life.ended();
        assert!(block_on_for(Duration::from_millis(1), &mut ended).is_none(), "{what}");
        end(&old, &guest);
        match reason {
            Some(reason) => {
                let error = block_on_for(Duration::from_secs(10), ended).expect(what);
                assert_eq!((error.code(), error.is_retryable()), (Code::PLUGIN_CRASHED, true), "{what}");
                assert!(error.message().contains(reason), "{what}: {error}");
                // Whoever asks later learns the same.
                assert_eq!(block_on(old.life.ended()), error);
                let called = block_on(find::<dyn Tool>(&old).call(&CallCx::new(), ToolRequest::new(json!({})))).unwrap_err();
                assert_eq!(called, error, "{what}");
            }
            None => assert!(block_on_for(Duration::from_millis(20), ended).is_none(), "{what}"),
        }
        assert_eq!(said.lock().unwrap().contains(&Kind::GOODBYE), what == "shutdown", "{what}");
    }
}

#[test]
fn both_sides_answer_a_ping() {
    let said = Arc::new(Mutex::new(Vec::new()));
    let seen = said.clone();
    let (_old, guest) = start(move |kind, _, id, _, _| seen.lock().unwrap().push((kind, id)));
    let mut out = Vec::new();
    put_plain(&mut out, Kind::PING, 0, 41);
    guest.with(|r| r.receive(&out).unwrap());
    assert_eq!(*said.lock().unwrap(), [(Kind::PONG, 41)]);
}
