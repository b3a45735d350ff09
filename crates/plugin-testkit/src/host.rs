//! A host for tests: everything in memory, the clock in the test's hand, nothing reaches the network.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Poll, Waker},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bespoke_plugin_api::{
    BoxFuture, BoxStream, CallCx, CancelToken, Code, Contribution, Error, Event, FeedSender, Health, HostApi, HttpReply, HttpRequest,
    HttpResponse, Level, PluginContext, Result, RuntimePack, Target, Timestamp, feed,
};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::executor::{Signal, block_on};

/// Events that a subscriber of a [`TestHost`] may be behind: any number, so that announcing never waits.
const SUBSCRIBER_QUEUE: usize = usize::MAX;

/// How time passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// A sleep ends at once and moves the clock: tests with delays are instant and repeatable.
    Jump,
    /// Only [`TestHost::advance`] moves it: who sleeps, sleeps until the test says so.
    Manual,
    /// The system's.
    Real,
}

type OnHttp = dyn Fn(HttpRequest) -> BoxFuture<'static, Result<HttpReply>> + Send + Sync;
type OnCall = dyn Fn(Target, Value) -> BoxFuture<'static, Result<Value>> + Send + Sync;

/// A host for tests.
pub struct TestHost {
    clock: Clock,
    time: Arc<Time>,
    state: Mutex<State>,
    stopped: CancelToken,
}

/// A clock that tests move; shared with who sleeps by it.
struct Time {
    /// Microseconds since the Unix epoch.
    now: AtomicU64,
    sleepers: Mutex<Vec<Waker>>,
}

impl Time {
    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::SeqCst))
    }

    fn wake_sleepers(&self) {
        let sleepers = std::mem::take(&mut *self.sleepers.lock().unwrap_or_else(PoisonError::into_inner));
        for waker in sleepers {
            waker.wake();
        }
    }
}

#[derive(Default)]
struct State {
    lines: Vec<(Level, String)>,
    emitted: Vec<(String, Value)>,
    subscribers: Vec<(String, FeedSender<Event>)>,
    seq: u64,
    health: Option<Health>,
    stored: BTreeMap<String, Bytes>,
    secrets: BTreeMap<String, Result<String>>,
    models: BTreeMap<String, PathBuf>,
    runtimes: BTreeMap<String, RuntimePack>,
    published: Vec<Contribution>,
    http: Option<Arc<OnHttp>>,
    call: Option<Arc<OnCall>>,
    random: u64,
}

impl TestHost {
    /// A host whose clock jumps, from 1 January 2025, 00:00 UTC.
    pub fn new() -> Arc<Self> {
        Self::with_clock(Clock::Jump)
    }

    /// A host with that clock.
    pub fn with_clock(clock: Clock) -> Arc<Self> {
        let time = Arc::new(Time { now: AtomicU64::new(1_735_689_600_000_000), sleepers: Mutex::default() });
        Arc::new(TestHost { clock, time, state: Mutex::default(), stopped: CancelToken::new() })
    }

    /// A context of plugin `id` over this host.
    pub fn context(self: &Arc<Self>, id: &str) -> PluginContext {
        PluginContext::new(id, self.clone())
    }

    /// Sets a clock that jumps or is moved by hand.
    pub fn set_now(&self, now: Timestamp) {
        self.time.now.store(now.0, Ordering::SeqCst);
        self.time.wake_sleepers();
    }

    /// Moves such a clock.
    pub fn advance(&self, time: Duration) {
        self.set_now(self.time.now().plus(time));
    }

    /// Answers HTTP requests; without this they fail as they do offline.
    pub fn on_http(&self, answer: impl Fn(HttpRequest) -> Result<HttpResponse> + Send + Sync + 'static) {
        self.on_http_later(move |request| Box::pin(std::future::ready(answer(request).map(HttpReply::from))));
    }

    /// Answers HTTP requests with a future: to stream a body, to be late, never to answer, or to ask a real client. The future is
    /// polled wherever the request is awaited, so one that needs a runtime must bring it.
    pub fn on_http_later(&self, answer: impl Fn(HttpRequest) -> BoxFuture<'static, Result<HttpReply>> + Send + Sync + 'static) {
        self.state().http = Some(Arc::new(answer));
    }

    /// Answers calls of other plugins.
    pub fn on_call(&self, answer: impl Fn(Target, Value) -> Result<Value> + Send + Sync + 'static) {
        self.state().call = Some(Arc::new(move |target, args| Box::pin(std::future::ready(answer(target, args)))));
    }

    /// Answers calls of other plugins with a future: to be late, or never to answer.
    pub fn on_call_later(&self, answer: impl Fn() -> BoxFuture<'static, Result<Value>> + Send + Sync + 'static) {
        self.state().call = Some(Arc::new(move |_, _| answer()));
    }

    /// Sets a secret.
    pub fn set_secret(&self, name: &str, value: &str) {
        self.state().secrets.insert(name.to_owned(), Ok(value.to_owned()));
    }

    /// Lets a secret be set, but not be had.
    pub fn fail_secret(&self, name: &str, error: Error) {
        self.state().secrets.insert(name.to_owned(), Err(error));
    }

    /// Says where a model file lies.
    pub fn set_model(&self, file: &str, path: impl Into<PathBuf>) {
        self.state().models.insert(file.to_owned(), path.into());
    }

    /// Says where the libraries of a runtime lie.
    pub fn set_runtime(&self, pack: RuntimePack) {
        self.state().runtimes.insert(pack.spec.clone(), pack);
    }

    /// Emits an event of the host.
    pub fn announce(&self, topic: &str, payload: Value) {
        let at = self.now();
        let mut gone = Vec::new();
        let mut state = self.state();
        state.seq += 1;
        let event = Event::new(topic, state.seq, at, None, payload);
        for (index, (prefix, subscriber)) in state.subscribers.iter().enumerate() {
            if topic.starts_with(prefix.as_str()) && subscriber.send(Ok(event.clone())).is_err() {
                gone.push(index);
            }
        }
        for index in gone.into_iter().rev() {
            state.subscribers.remove(index);
        }
    }

    /// What was logged.
    pub fn lines(&self) -> Vec<(Level, String)> {
        self.state().lines.clone()
    }

    /// What was emitted, without the plugin's id.
    pub fn emitted(&self) -> Vec<(String, Value)> {
        self.state().emitted.clone()
    }

    /// What was published last.
    pub fn published(&self) -> Vec<Contribution> {
        self.state().published.clone()
    }

    /// The health that was reported last.
    pub fn reported_health(&self) -> Option<Health> {
        self.state().health.clone()
    }

    /// What was stored under a key.
    pub fn stored(&self, key: &str) -> Option<Bytes> {
        self.state().stored.get(key).cloned()
    }

    /// Ends all tasks, as when a plugin is stopped.
    pub fn stop(&self) {
        self.stopped.cancel();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for TestHost {
    fn drop(&mut self) {
        self.stop();
    }
}

impl HostApi for TestHost {
    fn log(&self, level: Level, line: &str) {
        self.state().lines.push((level, line.to_owned()));
    }

    fn now(&self) -> Timestamp {
        match self.clock {
            Clock::Real => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
            }
            Clock::Jump | Clock::Manual => self.time.now(),
        }
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        match self.clock {
            Clock::Jump => {
                self.advance(time);
                Box::pin(std::future::ready(()))
            }
            Clock::Real => {
                let done = Arc::new(Signal::default());
                let given = done.clone();
                std::thread::spawn(move || {
                    std::thread::sleep(time);
                    given.give();
                });
                Box::pin(async move { poll_fn(|cx| done.poll(cx)).await })
            }
            Clock::Manual => {
                let until = self.now().plus(time);
                let time = self.time.clone();
                Box::pin(poll_fn(move |cx| {
                    // Registered before looking, so that a move in between is not lost.
                    time.sleepers.lock().unwrap_or_else(PoisonError::into_inner).push(cx.waker().clone());
                    if time.now() >= until { Poll::Ready(()) } else { Poll::Pending }
                }))
            }
        }
    }

    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let done = Arc::new(Signal::default());
        let given = done.clone();
        std::thread::spawn(move || {
            // The panic shows as a missing result.
            let _ = catch_unwind(AssertUnwindSafe(work));
            given.give();
        });
        Box::pin(async move { poll_fn(|cx| done.poll(cx)).await })
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        let stopped = self.stopped.clone();
        std::thread::spawn(move || {
            block_on(async {
                let mut stopped = stopped.cancelled();
                let mut task = pin!(task);
                poll_fn(|cx| if Pin::new(&mut stopped).poll(cx).is_ready() { Poll::Ready(()) } else { task.as_mut().poll(cx) }).await;
            });
        });
    }

    fn http(&self, request: HttpRequest) -> BoxFuture<'static, Result<HttpReply>> {
        let answer = self.state().http.clone();
        Box::pin(async move {
            match answer {
                Some(answer) => answer(request).await,
                None => Err(Error::new(Code::PERMISSION_DENIED, format!("{}: this test is offline", request.url))),
            }
        })
    }

    fn call(&self, cx: &CallCx, target: Target, args: Value) -> BoxFuture<'static, Result<Value>> {
        let (answer, nested) = (self.state().call.clone(), cx.nested("plugin under test"));
        Box::pin(async move {
            nested?;
            match answer {
                Some(answer) => answer(target, args).await,
                None => Err(Error::new(Code::PLUGIN_NOT_FOUND, format!("no {} named `{}`", target.kind, target.name))),
            }
        })
    }

    fn publish(&self, contributions: Vec<Contribution>) -> Result<()> {
        let old = std::mem::replace(&mut self.state().published, contributions);
        drop(old);
        Ok(())
    }

    fn emit(&self, topic: &str, payload: Value) -> Result<()> {
        self.state().emitted.push((topic.to_owned(), payload));
        Ok(())
    }

    fn subscribe(&self, prefix: &str) -> Result<BoxStream<Event>> {
        let (sender, events) = feed(SUBSCRIBER_QUEUE);
        self.state().subscribers.push((prefix.to_owned(), sender));
        Ok(Box::pin(events))
    }

    fn secret(&self, name: &str) -> BoxFuture<'static, Result<String>> {
        let found = self.state().secrets.get(name).cloned();
        let unset = || Error::new(Code::PERMISSION_DENIED, format!("there is no secret `{name}`")).with_data(json!({ "unset": name }));
        Box::pin(std::future::ready(found.unwrap_or_else(|| Err(unset()))))
    }

    fn load(&self, key: &str) -> BoxFuture<'static, Result<Option<Bytes>>> {
        Box::pin(std::future::ready(Ok(self.stored(key))))
    }

    fn store(&self, key: &str, value: Option<Bytes>) -> BoxFuture<'static, Result<()>> {
        match value {
            Some(value) => self.state().stored.insert(key.to_owned(), value),
            None => self.state().stored.remove(key),
        };
        Box::pin(std::future::ready(Ok(())))
    }

    fn model(&self, file: &str) -> Result<PathBuf> {
        let found = self.state().models.get(file).cloned();
        found.ok_or_else(|| Error::new(Code::MODEL_NOT_FOUND, format!("{file} is not on this machine")))
    }

    fn runtime(&self, spec: &str) -> Result<RuntimePack> {
        let found = self.state().runtimes.get(spec).cloned();
        found.ok_or_else(|| Error::new(Code::DEPENDENCY_MISSING, format!("{spec} is not on this machine")))
    }

    /// The same bytes in every run: fit for tests, not for keys.
    fn random(&self, buffer: &mut [u8]) -> Result<()> {
        let mut state = self.state();
        for byte in buffer {
            state.random = state.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (state.random >> 56) as u8;
        }
        Ok(())
    }

    fn report_health(&self, health: Health) {
        self.state().health = Some(health);
    }
}
