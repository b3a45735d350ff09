//! The same answers compiled in and behind the wire, and a call that ends.

use std::{future::pending, time::Duration};

use bespoke_hook_post::BESPOKE_PLUGIN;
use bespoke_plugin_api::{
    CallCx, CancelToken, Code, Contract, Event, HookEvent, HookHandler, HookReply, HttpResponse, Timestamp, serde_json::json,
};
use bespoke_plugin_testkit::{Clock, Conformance, TestHost, block_on, block_on_for};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn behaves_the_same_in_every_tier() {
    let hooks = json!({ "hooks": [{ "name": "guard", "hook": "before_agent_run", "url": "http://127.0.0.1:9/" }] });
    let prepare = |host: &TestHost| host.on_http(|_| Ok(HttpResponse::new(403).body(br#"{"reason":"no"}"#.to_vec().into())));
    Conformance::new(&BESPOKE_PLUGIN).config(hooks).host(prepare).clock(Clock::Manual).check();
}

#[test]
fn behaves_the_same_while_it_is_off() {
    Conformance::new(&BESPOKE_PLUGIN).check();
}

#[test]
fn a_call_that_is_cancelled_ends_and_many_at_once_are_refused() {
    let host = TestHost::with_clock(Clock::Manual);
    host.on_http_later(|_| Box::pin(pending()));
    let hooks = json!({ "hooks": [{ "name": "guard", "hook": "before_agent_run", "url": "http://127.0.0.1:9/" }] });
    let _instance = block_on(BESPOKE_PLUGIN.start(host.context("post"), hooks)).unwrap();
    let published = host.published();
    let (_, handler) = <dyn HookHandler>::of(&published[0]).unwrap();
    let token = CancelToken::new();
    let (cx, event) = (CallCx::new().with_cancel(token.clone()), HookEvent::before_agent_run("s", "hello"));
    let mut calls: Vec<_> = (0..17).map(|_| Box::pin(handler.on(&cx, &event))).collect();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let last = calls.pop().unwrap();
    assert!(calls.iter_mut().all(|call| call.as_mut().poll(&mut context).is_pending()));
    assert_eq!(block_on_for(LIMIT, last).expect("it hangs").unwrap_err().code(), Code::RESOURCE_EXHAUSTED);
    token.cancel();
    for call in calls {
        assert_eq!(block_on_for(LIMIT, call).expect("it hangs").unwrap_err().code(), Code::CANCELLED);
    }
    // When the time is over, too.
    let (cx, event) = (CallCx::new(), HookEvent::before_agent_run("s", "hello"));
    let mut call = Box::pin(handler.on(&cx, &event));
    assert!(call.as_mut().poll(&mut context).is_pending());
    host.advance(Duration::from_millis(5_000));
    let error = block_on_for(LIMIT, call).expect("it hangs").unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::EXECUTION_TIMEOUT, "`guard` did not answer within 5000 ms"));
}

#[test]
fn of_events_it_hears_those_of_its_topics() {
    let host = TestHost::new();
    host.on_http(|_| Ok(HttpResponse::new(403).body(br#"{"reason":"heard"}"#.to_vec().into())));
    let hooks = json!({ "hooks": [{ "name": "told", "topics": ["workflow_*", "step_completed"], "url": "http://127.0.0.1:9/" }] });
    let _instance = block_on(BESPOKE_PLUGIN.start(host.context("post"), hooks)).unwrap();
    let published = host.published();
    let (_, handler) = <dyn HookHandler>::of(&published[0]).unwrap();
    for (topic, heard) in [("workflow_started", true), ("step_completed", true), ("step_completed_not", false), ("step", false)] {
        let event = HookEvent::on_event(Event::new(topic, 1, Timestamp(0), None, json!({})));
        let reply = block_on_for(LIMIT, handler.on(&CallCx::new(), &event)).expect("it hangs").unwrap();
        assert_eq!(reply, if heard { HookReply::veto("heard") } else { HookReply::Continue }, "{topic}");
    }
}
