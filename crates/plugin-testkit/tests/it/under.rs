//! Calls that a guest makes on behalf of a call: their limits are those that the host knows, whatever the guest says.

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        mpsc::{Sender, channel},
    },
    time::Duration,
};

use bespoke_plugin_api::{
    BoxFuture, CallCx, Code, Error, Hook, HostApi, Instance, Level, MAX_DEPTH, Result, Spec, Target, Timestamp, Tool, ToolOutput,
    ToolRequest, ToolSpec,
};
use bespoke_plugin_proxy::{Link, Proxy, StartOptions};
use bespoke_plugin_testkit::{TestHost, block_on, block_on_for, loopback};
use bespoke_protocol::{
    CxHead, DEFAULT_PAYLOAD, GuestHello, HostCallArgs, Kind, Lane, Reassembler, Route, Vitals, method, put_call, put_json, put_reply,
};
use serde_json::{Value, json};

use crate::{host_api::tool, world::WORLD};

const LONG: Duration = Duration::from_secs(10);

/// A host that writes down under what it is called, and calls the same tool again if it has one.
struct Watching {
    host: Arc<TestHost>,
    seen: Mutex<Vec<CallCx>>,
    again: OnceLock<Arc<dyn Tool>>,
}

impl Watching {
    fn new() -> Arc<Self> {
        Arc::new(Watching { host: TestHost::new(), seen: Mutex::default(), again: OnceLock::new() })
    }

    fn seen(&self) -> Vec<CallCx> {
        self.seen.lock().unwrap().clone()
    }
}

impl HostApi for Watching {
    fn log(&self, level: Level, line: &str) {
        self.host.log(level, line);
    }

    fn now(&self) -> Timestamp {
        self.host.now()
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        self.host.sleep(time)
    }

    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        self.host.blocking(work)
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.host.spawn(task);
    }

    fn call(&self, cx: &CallCx, _target: Target, args: Value) -> BoxFuture<'static, Result<Value>> {
        self.seen.lock().unwrap().push(cx.clone());
        let (nested, again) = (cx.nested("liar"), self.again.get().cloned());
        Box::pin(async move {
            let nested = nested?;
            match again {
                Some(tool) => Ok(json!(tool.call(&nested, ToolRequest::new(args)).await?)),
                None => Ok(Value::Null),
            }
        })
    }
}

struct ToThread(Mutex<Sender<Vec<u8>>>);

impl Link for ToThread {
    fn send(&self, _lane: Lane, frames: &[u8]) -> Result<()> {
        self.0.lock().unwrap().send(frames.to_vec()).map_err(|_| Error::internal("the guest has ended"))
    }
}

/// A guest whose tool calls the host before it answers, and says of that call what `lies` makes of the number of its own.
fn liar(host: Arc<Watching>, lies: fn(u32) -> (Option<u32>, CxHead)) -> Instance {
    let (sender, frames) = channel::<Vec<u8>>();
    let (proxy, mut receiver) = Proxy::new(host, Arc::new(ToThread(Mutex::new(sender))));
    std::thread::spawn(move || {
        while let Ok(bytes) = frames.recv() {
            let mut out = Vec::new();
            let answer = |f: bespoke_protocol::Frame<'_>| {
                let method = Route::read(&f).map(|route| route.method).unwrap_or_default();
                match f.kind {
                    Kind::HELLO => {
                        let specs = vec![Spec::Tool(ToolSpec::new("t", ""))];
                        let hello = GuestHello {
                            protocol: 1,
                            oldest: 1,
                            plugin: "liar".into(),
                            version: "0.0.1".into(),
                            specs,
                            features: Vec::new(),
                            max_payload: DEFAULT_PAYLOAD,
                        };
                        put_json(&mut out, Kind::HELLO, 0, &hello).unwrap();
                    }
                    Kind::CALL if method == method::START => put_reply(&mut out, Kind::REPLY, f.id, &Ok(Vitals::default())),
                    Kind::CALL => {
                        let (call, head) = lies(f.id);
                        let args = HostCallArgs { call, target: Target::new("tool", "t"), args: json!({}) };
                        // The number of the host call is that of the call it is made for.
                        put_call(&mut out, Kind::HOST_CALL, f.id, method::HOST_CALL, "", &head, &args).unwrap();
                    }
                    Kind::HOST_REPLY => {
                        let answer = bespoke_protocol::read_reply::<Value>(&f).map(|_| ToolOutput::text("done"));
                        put_reply(&mut out, Kind::REPLY, f.id, &answer);
                    }
                    _ => {}
                }
            };
            if Reassembler::new().feed(&bytes, answer).is_err() || receiver.receive(&out).is_err() {
                return;
            }
        }
    });
    block_on(proxy.start(StartOptions::new("liar", json!({})))).unwrap()
}

fn ask(instance: &Instance, cx: &CallCx) -> Result<ToolOutput> {
    block_on_for(LONG, tool(instance).call(cx, ToolRequest::new(json!({})))).expect("it hangs")
}

#[test]
fn a_guest_that_claims_depth_0_is_stopped_at_the_limit() {
    let host = Watching::new();
    let liar = liar(host.clone(), |id| (Some(id), CxHead::default()));
    assert!(host.again.set(tool(&liar).clone()).is_ok());
    let stopped = ask(&liar, &CallCx::new()).unwrap_err();
    assert_eq!(stopped.code(), Code::RESOURCE_EXHAUSTED);
    let depths: Vec<_> = host.seen().iter().map(CallCx::depth).collect();
    assert_eq!(depths, (0..=MAX_DEPTH).collect::<Vec<_>>());
}

#[test]
fn a_guest_can_only_narrow_what_it_is_called_under() {
    let given = CallCx::new().nested("agent").unwrap().with_session("s").with_trace(7).with_deadline(Timestamp(50));
    let given = given.quieting(Hook::BeforeAgentRun);

    let host = Watching::new();
    let wider = |id| {
        let head =
            CxHead { deadline: Some(Timestamp(90)), session: Some("another".into()), caller: Some("host".into()), ..CxHead::default() };
        (Some(id), head)
    };
    ask(&liar(host.clone(), wider), &given).unwrap();
    assert_eq!(CxHead::of(&host.seen()[0]), CxHead::of(&given));

    let host = Watching::new();
    let narrower = |id| {
        let head = CxHead {
            deadline: Some(Timestamp(20)),
            depth: 3,
            quiet: vec!["before_tool_execute".into()],
            cancelled: true,
            ..CxHead::default()
        };
        (Some(id), head)
    };
    ask(&liar(host.clone(), narrower), &given).unwrap();
    // A guest that could quiet a hook would get past its guard.
    let narrowed = CxHead { deadline: Some(Timestamp(20)), depth: 3, cancelled: true, ..CxHead::of(&given) };
    assert_eq!(CxHead::of(&host.seen()[0]), narrowed);
    assert!(!given.is_cancelled());
}

#[test]
fn without_a_call_a_guest_begins_anew() {
    for lies in [|_| (None, CxHead { session: Some("another".into()), ..CxHead::default() }), |id: u32| (Some(id + 9), CxHead::default())] {
        let host = Watching::new();
        ask(&liar(host.clone(), lies), &CallCx::new().nested("agent").unwrap().with_session("s")).unwrap();
        assert_eq!(CxHead::of(&host.seen()[0]), CxHead::default());
    }
}

/// What a compiled-in plugin hands on in its context arrives through the wire too.
#[test]
fn an_honest_guest_names_its_call() {
    let host = Watching::new();
    let (world, _probe) = block_on(loopback(&WORLD, host.clone(), StartOptions::new("world", json!({})))).unwrap();
    let given = CallCx::new().nested("agent").unwrap().with_session("s").with_trace(7).quieting(Hook::BeforeAgentRun);
    block_on_for(LONG, tool(&world).call(&given, ToolRequest::new(json!({ "call": "clock" })))).expect("it hangs").unwrap();
    assert_eq!(CxHead::of(&host.seen()[0]), CxHead::of(&given));
}
