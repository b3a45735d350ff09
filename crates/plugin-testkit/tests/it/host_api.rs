//! The host through the wire: each call a message, and the same answers.

use std::{sync::Arc, time::Duration};

use bespoke_plugin_api::{
    CallCx, CancelToken, Code, Contract, Contribution, Error, Health, Hook, HttpResponse, Instance, Level, Result, Timestamp, Tool,
    ToolRequest,
};
use bespoke_plugin_proxy::StartOptions;
use bespoke_plugin_testkit::{Conformance, Probe, TestHost, block_on, block_on_for, loopback};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::world::WORLD;

fn prepare(host: &TestHost) {
    host.set_secret("token", "s3cret");
    host.set_model("here.bin", "/models/here.bin");
    host.on_http(|request| Ok(HttpResponse::new(200).body(Bytes::from([b"got ".as_slice(), &request.body].concat()))));
    host.on_call(|target, args| match target.name.as_str() {
        "clock" => Ok(json!({ "kind": target.kind, "args": args })),
        _ => Err(Error::new(Code::PLUGIN_NOT_FOUND, "who?").with_help("look again")),
    });
}

#[test]
fn every_call_of_the_host_is_the_same_in_both_tiers() {
    let mut suite = Conformance::new(&WORLD).host(prepare);
    for args in [
        json!({ "http": "https://example.test/" }),
        json!({ "secret": "token" }),
        json!({ "secret": "none" }),
        json!({ "store": "key", "keep": "empty" }),
        json!({ "call": "clock" }),
        json!({ "call": "nobody" }),
        json!({ "emit": "done", "random": null }),
        json!({ "model": "here.bin" }),
        json!({ "model": "missing.bin" }),
        json!({ "blocking": "four", "spawn": null, "sleep": null }),
        json!({ "blocking_panic": "full" }),
        json!({ "open_gate": null }),
        json!({ "cx": null, "progress": [1, 2], "health": "tired" }),
    ] {
        suite = suite.tool("world", args);
    }
    let (compiled, wired) = suite.transcripts().unwrap();
    let (compiled, wired) = (String::from_utf8(compiled).unwrap(), String::from_utf8(wired).unwrap());
    assert_eq!(compiled, wired);
    for expected in ["s3cret", "look again", "/models/here.bin", r#""sleep":{"secs":1,"nanos":0}"#, r#""spawn":7"#, "the work panicked"] {
        assert!(wired.contains(expected), "{expected} is not in {wired}");
    }
}

#[test]
fn the_context_of_a_call_goes_along() {
    let (world, ..) = start();
    let cx =
        CallCx::new().nested("agent").unwrap().with_session("s").with_trace(9).with_deadline(Timestamp(77)).quieting(Hook::BeforeAgentRun);
    let seen = block_on(tool(&world).call(&cx, ToolRequest::new(json!({ "cx": null })))).unwrap().data.unwrap();
    assert_eq!(seen["cx"], json!({ "session": "s", "caller": "agent", "trace": 9, "depth": 1, "deadline": 77, "fires": false }));
}

#[test]
fn log_lines_health_and_events_arrive() {
    let (world, host, _probe) = start();
    assert_eq!(host.lines(), [(Level::Info, "the world begins".to_owned())]);
    ask(&world, json!({ "health": "tired", "emit": "yawned" })).unwrap();
    // What needs no reply is served before the reply that follows it.
    assert_eq!(host.reported_health(), Some(Health::Degraded("tired".into())));
    assert_eq!(host.emitted(), [("yawned".to_owned(), json!({ "n": 1 }))]);
}

#[test]
fn a_subscriber_hears_what_comes_after() {
    let (world, host, probe) = start();
    let (speaker, cx) = (host.clone(), CallCx::new());
    let cx = cx.with_progress(move |_| {
        speaker.announce("other.topic", json!(0));
        speaker.announce("session.created", json!({ "id": 1 }));
    });
    let answer = block_on_for(Duration::from_secs(10), tool(&world).call(&cx, ToolRequest::new(json!({ "subscribe": "session." }))));
    let event = answer.unwrap().unwrap().data.unwrap();
    assert_eq!((&event["subscribe"]["topic"], &event["subscribe"]["payload"]), (&json!("session.created"), &json!({ "id": 1 })));
    assert!(probe.wait_idle(Duration::from_secs(10)));
}

#[test]
fn tools_made_at_run_time_can_be_called() {
    let (world, host, _probe) = start();
    ask(&world, json!({ "publish": "fresh" })).unwrap();
    let published = host.published();
    let [Contribution::Tool(spec, fresh)] = &published[..] else { panic!("{published:?}") };
    assert_eq!(spec.name, "fresh");
    let answer = block_on(fresh.call(&CallCx::new(), ToolRequest::new(json!({ "made": null })))).unwrap();
    assert_eq!(answer.data.unwrap(), json!({ "made": 0 }));
}

/// A host call belongs to the call that made it: when that is dropped, the host stops too.
#[test]
fn a_dropped_call_ends_its_host_calls() {
    struct Gone(CancelToken);
    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.cancel();
        }
    }
    let (world, host, probe) = start();
    let (begun, ended) = (CancelToken::new(), CancelToken::new());
    let (told, gone) = (begun.clone(), ended.clone());
    host.on_call_later(move || {
        told.cancel();
        let gone = Gone(gone.clone());
        Box::pin(async move {
            let _gone = gone;
            std::future::pending().await
        })
    });
    let cx = CallCx::new();
    let mut call = tool(&world).call(&cx, ToolRequest::new(json!({ "call": "clock" })));
    block_on(async {
        let mut begun = begun.cancelled();
        std::future::poll_fn(|cx| {
            assert!(call.as_mut().poll(cx).is_pending());
            std::pin::Pin::new(&mut begun).poll(cx)
        })
        .await;
    });
    assert!(!ended.is_cancelled());
    drop(call);
    block_on_for(Duration::from_secs(10), ended.cancelled()).expect("the host goes on with a call that nobody waits for");
    assert!(probe.wait_idle(Duration::from_secs(10)));
}

pub(crate) fn start() -> (Instance, Arc<TestHost>, Probe) {
    let host = TestHost::new();
    prepare(&host);
    let options = StartOptions::new("world", json!({})).models(vec!["here.bin".into(), "missing.bin".into()]);
    let (world, probe) = block_on(loopback(&WORLD, host.clone(), options)).unwrap();
    (world, host, probe)
}

pub(crate) fn tool(world: &Instance) -> &Arc<dyn Tool> {
    world.contributions.iter().find_map(<dyn Tool>::of).unwrap().1
}

pub(crate) fn ask(world: &Instance, args: Value) -> Result<Value> {
    let cx = CallCx::new();
    let answer = block_on_for(Duration::from_secs(10), tool(world).call(&cx, ToolRequest::new(args))).expect("no answer");
    answer.map(|output| output.data.unwrap())
}
