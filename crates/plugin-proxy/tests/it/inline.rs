//! A guest that its senders step: no message is left lying, whoever has the turn, and nobody waits for one that is gone.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Poll, Waker},
    thread::{self, ThreadId},
    time::Duration,
};

use bespoke_plugin_api::{
    BoxFuture, CallCx, Code, Contribution, Descriptor, Error, HostApi, Instance, Package, Plugin, PluginApi, PluginContext, Result, State,
    Timestamp, Tool, ToolOutput, ToolRequest, ToolSpec, async_trait,
    serde_json::{Value, json},
};
use bespoke_plugin_guest::{Core, Platform};
use bespoke_plugin_proxy::{Inline, Mailbox, StartOptions, Step};
use bespoke_plugin_testkit::{TestHost, block_on, block_on_for};

/// Against hangs only.
const LIMIT: Duration = Duration::from_secs(60);

struct Echo(PluginContext);

impl Plugin for Echo {
    type Config = Value;

    fn register(api: &mut PluginApi<Self>) {
        api.tool(ToolSpec::new("echo", "Says it again."), |echo| Arc::new(Say(echo.clone())));
    }

    async fn start(cx: PluginContext, _: Value) -> Result<Self> {
        Ok(Echo(cx))
    }
}

struct Say(Arc<Echo>);

#[async_trait]
impl Tool for Say {
    async fn call(&self, cx: &CallCx, request: ToolRequest) -> Result<ToolOutput> {
        match request.args["how"].as_str() {
            Some("blocking") => self.0.0.blocking(|| ()).await?,
            Some("never") => cx.cancelled().await,
            Some("asking") => drop(self.0.0.host().load("key").await?),
            _ => {}
        }
        Ok(ToolOutput::text("").with_data(request.args))
    }
}

static ECHO: Descriptor =
    Descriptor::of::<Echo>("echo", Package { name: "echo", version: "0.1.0", license: "Apache-2.0", manifest: "", config_schema: "{}" });

/// The guest core, with what a test does to its steps.
struct Guest {
    core: Core,
    mailbox: Mailbox,
    inbound: Vec<u8>,
    /// Steps that are pending before each one that is not.
    pauses: usize,
    paused: usize,
    gate: Option<Arc<Gate>>,
    dropped: Arc<AtomicBool>,
}

/// Holds a step, on the thread that makes it, until somebody opens it.
#[derive(Default)]
struct Gate {
    held: Mutex<Option<mpsc::Receiver<()>>>,
    reached: AtomicBool,
}

impl Step for Guest {
    fn poll_step(&mut self, out: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<Result<bool>> {
        if self.paused < self.pauses {
            self.paused += 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.paused = 0;
        if let Some(held) = self.gate.as_ref().and_then(|gate| Some((gate, gate.held.lock().unwrap().take()?))) {
            held.0.reached.store(true, Ordering::SeqCst);
            let _ = held.1.recv_timeout(LIMIT);
        }
        self.mailbox.take(&mut self.inbound);
        let stepped = self.core.step(&self.inbound, out);
        self.inbound.clear();
        Poll::Ready(stepped)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::SeqCst);
    }
}

struct Machine(Waker);

impl Platform for Machine {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }

    fn random(&self, _: &mut [u8]) -> Result<()> {
        Ok(())
    }

    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let state = Arc::new(Mutex::new((false, None::<Waker>)));
        let told = state.clone();
        thread::spawn(move || {
            work();
            let waker = {
                let mut state = told.lock().unwrap();
                state.0 = true;
                state.1.take()
            };
            waker.into_iter().for_each(Waker::wake);
        });
        Box::pin(std::future::poll_fn(move |cx| {
            let mut state = state.lock().unwrap();
            state.1 = Some(cx.waker().clone());
            if state.0 { Poll::Ready(()) } else { Poll::Pending }
        }))
    }

    fn wake(&self) {
        self.0.wake_by_ref();
    }
}

/// One that was started, and the thread of its pump.
struct Running {
    instance: Instance,
    inline: Inline<Guest>,
    dropped: Arc<AtomicBool>,
    pump: thread::JoinHandle<()>,
}

impl Running {
    fn new(pauses: usize, gate: Option<Arc<Gate>>) -> Running {
        let dropped = Arc::new(AtomicBool::new(false));
        let flag = dropped.clone();
        let host: Arc<dyn HostApi> = TestHost::new();
        let (proxy, inline) = Inline::start(host, |mailbox, waker| {
            let core = Core::new(&ECHO, Arc::new(Machine(waker)));
            Ok(Guest { core, mailbox, inbound: Vec::new(), pauses, paused: 0, gate, dropped: flag })
        })
        .unwrap();
        let pump = inline.pump();
        let pump = thread::spawn(move || block_on(pump));
        let instance = block_on_for(LIMIT, proxy.start(StartOptions::new("echo", json!({})))).expect("it starts in time").unwrap();
        Running { instance, inline, dropped, pump }
    }

    fn tool(&self) -> Arc<dyn Tool> {
        let [Contribution::Tool(_, tool)] = &self.instance.contributions[..] else { panic!("it has one tool") };
        tool.clone()
    }

    /// The pump ends with the last handle, and the guest is gone then.
    fn end(self) {
        drop((self.instance, self.inline));
        self.pump.join().unwrap();
        assert!(self.dropped.load(Ordering::SeqCst));
    }
}

fn call(tool: &dyn Tool, args: Value) -> Result<Value> {
    let cx = CallCx::new();
    let answer = block_on_for(LIMIT, tool.call(&cx, ToolRequest::new(args))).expect("it answers in time");
    answer.map(|output| output.data.unwrap_or_default())
}

#[test]
fn every_call_is_answered_whoever_has_the_turn() {
    for pauses in [0, 1, 3] {
        let running = Running::new(pauses, None);
        let answered = AtomicUsize::new(0);
        thread::scope(|scope| {
            for caller in 0..8 {
                let (tool, answered) = (running.tool(), &answered);
                scope.spawn(move || {
                    for n in 0..200 {
                        let how = if n % 10 == 0 { "blocking" } else { "at once" };
                        let args = json!({ "caller": caller, "n": n, "how": how });
                        assert_eq!(call(&*tool, args.clone()).unwrap(), args);
                        answered.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(answered.load(Ordering::SeqCst), 1600);
        running.end();
    }
}

#[test]
fn what_is_sent_while_somebody_steps_is_not_left_lying() {
    let (open, held) = mpsc::channel();
    let gate = Arc::new(Gate::default());
    let running = Running::new(0, Some(gate.clone()));
    *gate.held.lock().unwrap() = Some(held);
    thread::scope(|scope| {
        let first = running.tool();
        scope.spawn(move || call(&*first, json!(1)).unwrap());
        while !gate.reached.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        // The turn is taken, on a thread that is held: this one only leaves its mail.
        let (tool, cx) = (running.tool(), CallCx::new());
        let mut second = tool.call(&cx, ToolRequest::new(json!(2)));
        assert!(second.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        open.send(()).unwrap();
        let answer = block_on_for(LIMIT, second).expect("it answers in time").unwrap();
        assert_eq!(answer.data, Some(json!(2)));
    });
    running.end();
}

#[test]
fn whoever_waits_for_one_that_is_ended_learns_why() {
    let running = Running::new(0, None);
    let (tool, cx) = (running.tool(), CallCx::new());
    let mut waits = tool.call(&cx, ToolRequest::new(json!({ "how": "never" })));
    assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    running.inline.end(Error::new(Code::PLUGIN_CRASHED, "it was ended"));
    let told = block_on_for(LIMIT, waits).expect("it ends in time").unwrap_err();
    assert_eq!((told.code(), told.message()), (Code::PLUGIN_CRASHED, "it was ended"));
    assert_eq!(call(&*tool, json!(1)).unwrap_err().message(), "it was ended");
    let ended = block_on_for(LIMIT, running.instance.life.ended()).expect("its end is told in time");
    assert_eq!(ended.message(), "it was ended");
    drop(tool);
    running.end();
}

#[test]
fn a_guest_that_fails_takes_its_calls_along() {
    struct Fails(Mailbox);
    impl Step for Fails {
        fn poll_step(&mut self, _: &mut Vec<u8>, _: &mut Context<'_>) -> Poll<Result<bool>> {
            let any = self.0.take(&mut Vec::new());
            Poll::Ready(if any { Err(Error::new(Code::PLUGIN_CRASHED, "it trapped")) } else { Ok(false) })
        }
    }
    let (proxy, inline) = Inline::start(TestHost::new(), |mailbox, _| Ok(Fails(mailbox))).unwrap();
    let pump = inline.pump();
    let pump = thread::spawn(move || block_on(pump));
    let told = block_on_for(LIMIT, proxy.start(StartOptions::new("echo", json!({})))).expect("it ends in time").unwrap_err();
    assert_eq!(told.message(), "it trapped");
    pump.join().unwrap();
}

/// The core, which at some point does something else.
struct Spoilt {
    guest: Guest,
    how: &'static str,
    now: Arc<AtomicBool>,
}

impl Step for Spoilt {
    fn poll_step(&mut self, out: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<Result<bool>> {
        if !self.now.load(Ordering::SeqCst) {
            return self.guest.poll_step(out, cx);
        }
        match self.how {
            "cut" => {
                self.guest.mailbox.take(&mut Vec::new());
                // The head of a frame of a thousand bytes, and nothing of them.
                bespoke_protocol::put_bytes_frame(out, 1, &[0; 1000]).unwrap();
                out.truncate(bespoke_protocol::HEADER_LEN);
                Poll::Ready(Ok(false))
            }
            "fruitless" => {
                self.guest.mailbox.take(&mut Vec::new());
                Poll::Ready(Ok(true))
            }
            _ => Poll::Ready(Ok(false)),
        }
    }
}

#[test]
fn a_guest_that_cuts_frames_or_does_nothing_for_ever_or_takes_nothing_is_ended_and_told() {
    for (how, why) in [
        ("cut", "was ended: it stopped in the midst of a frame"),
        ("fruitless", "was ended: it asked 1048576 times in a row for another step, and did nothing in any"),
        ("deaf", "was ended: it does not take what it is sent: more than 268435456 bytes wait for it"),
    ] {
        let (now, dropped) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (spoilt, flag) = (now.clone(), dropped.clone());
        let (proxy, inline) = Inline::start(TestHost::new(), |mailbox, waker| {
            let core = Core::new(&ECHO, Arc::new(Machine(waker)));
            let guest = Guest { core, mailbox, inbound: Vec::new(), pauses: 0, paused: 0, gate: None, dropped: flag };
            Ok(Spoilt { guest, how, now: spoilt })
        })
        .unwrap();
        let pump = inline.pump();
        let pump = thread::spawn(move || block_on(pump));
        let instance = block_on_for(LIMIT, proxy.start(StartOptions::new("echo", json!({})))).expect("it starts in time").unwrap();
        let [Contribution::Tool(_, tool)] = &instance.contributions[..] else { panic!("it has one tool") };
        now.store(true, Ordering::SeqCst);
        thread::scope(|scope| {
            // Five of the long ones are more than may wait.
            let calls: Vec<_> = (0..6)
                .map(|_| {
                    scope.spawn(|| {
                        if how == "deaf" {
                            let state = State::new(1, vec![0; 60 << 20]);
                            return block_on_for(LIMIT, instance.life.restore_state(state)).expect("it answers in time").unwrap_err();
                        }
                        call(&**tool, json!({})).unwrap_err()
                    })
                })
                .collect();
            for told in calls {
                let told = told.join().unwrap();
                assert_eq!((told.code(), told.message(), told.is_retryable()), (Code::PLUGIN_CRASHED, why, true), "{how}");
            }
        });
        // With the last handle.
        drop((instance, inline));
        pump.join().unwrap();
        assert!(dropped.load(Ordering::SeqCst), "{how}");
    }
}

#[test]
fn only_callers_and_the_pump_step_one_that_may_block() {
    struct Seen(Guest, Arc<Mutex<HashSet<ThreadId>>>);
    impl Step for Seen {
        const MAY_BLOCK: bool = true;

        fn poll_step(&mut self, out: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<Result<bool>> {
            self.1.lock().unwrap().insert(thread::current().id());
            self.0.poll_step(out, cx)
        }
    }
    let seen = Arc::new(Mutex::new(HashSet::new()));
    let (steps, dropped) = (seen.clone(), Arc::new(AtomicBool::new(false)));
    let (proxy, inline) = Inline::start(TestHost::new(), |mailbox, waker| {
        let core = Core::new(&ECHO, Arc::new(Machine(waker)));
        Ok(Seen(Guest { core, mailbox, inbound: Vec::new(), pauses: 0, paused: 0, gate: None, dropped }, steps))
    })
    .unwrap();
    let pump = inline.pump();
    let pump = thread::spawn(move || block_on(pump));
    let instance = block_on_for(LIMIT, proxy.start(StartOptions::new("echo", json!({})))).expect("it starts in time").unwrap();
    let [Contribution::Tool(_, tool)] = &instance.contributions[..] else { panic!("it has one tool") };
    for n in 0..100 {
        // The answer of the host comes on a thread of the host's.
        let args = json!({ "n": n, "how": "asking" });
        assert_eq!(call(&**tool, args.clone()).unwrap(), args);
    }
    let ours = HashSet::from([thread::current().id(), pump.thread().id()]);
    assert_eq!(*seen.lock().unwrap(), ours);
    drop((instance, inline));
    pump.join().unwrap();
}
