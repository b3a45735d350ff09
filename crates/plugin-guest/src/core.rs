//! The core itself: routes frames, polls tasks that were woken, keeps streams within their credit.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bespoke_plugin_api::{BoxFuture, CancelToken, Code, Descriptor, Error, Instance, Level, Result};
use bespoke_protocol::{
    DEFAULT_PAYLOAD, EVENT_WINDOW, Frame, GoodbyeHead, GuestHello, HostHello, INPUT_WINDOW, Kind, OLDEST_PROTOCOL, PROTOCOL, Reassembler,
    Route, Vitals, agree, flag,
    line::{BLOB, Side, undelivered},
    put_credit, put_end, put_json, put_plain, put_reply,
};

use crate::{
    dispatch::{Dispatch, Effect, Work, poll_work, vitals},
    platform::Platform,
    shared::{Shared, TaskKey, TaskWaker},
    source::{Source, caught},
};

/// Polls of one [`Core::poll`], so that tasks which wake themselves for ever do not keep the driver from its inbox.
const POLL_BUDGET: usize = 1024;

/// Serves one instance of a plugin over frames.
pub struct Core {
    shared: Arc<Shared>,
    descriptor: &'static Descriptor,
    instance: Option<Instance>,
    inbound: Option<Reassembler>,
    tasks: HashMap<TaskKey, Task>,
    next_local: u32,
    /// Streams that wait for room in the outbox.
    stalled: Vec<TaskKey>,
    /// What the host was last told.
    told: Vitals,
    goodbye: Option<String>,
}

struct Task {
    token: CancelToken,
    waker: Waker,
    wake: Arc<TaskWaker>,
    job: Job,
}

enum Job {
    Call(Work),
    Stream(Stream),
    Local(BoxFuture<'static, ()>),
}

struct Stream {
    source: Box<dyn Source>,
    /// Input that the source had no room for.
    queue: VecDeque<Vec<u8>>,
    queued_bytes: usize,
    finish: Finish,
    /// Events that the host has room for.
    credit: u32,
    /// Bytes of input taken since the last credit to the host.
    taken: usize,
    /// The error of a push, told after the events that came before it.
    failed: Option<Error>,
}

#[derive(PartialEq)]
enum Finish {
    Open,
    Asked,
    Done,
}

impl Core {
    /// A guest for that plugin. It does nothing before the host speaks.
    pub fn new(descriptor: &'static Descriptor, platform: Arc<dyn Platform>) -> Self {
        Core {
            shared: Shared::new(platform),
            descriptor,
            instance: None,
            inbound: Some(Reassembler::new()),
            tasks: HashMap::new(),
            next_local: 0,
            stalled: Vec::new(),
            told: Vitals::default(),
            goodbye: None,
        }
    }

    /// [`deliver`](Self::deliver), [`poll`](Self::poll) and [`drain`](Self::drain) in one. True when there is more to do at
    /// once: step again, with or without bytes.
    ///
    /// # Errors
    /// As [`deliver`](Self::deliver).
    pub fn step(&mut self, inbound: &[u8], out: &mut Vec<u8>) -> Result<bool> {
        self.deliver(inbound)?;
        let more = self.poll();
        Ok(self.drain(out) || more)
    }

    /// Takes bytes from the host, cut anywhere.
    ///
    /// # Errors
    /// `PARSE_ERROR` when they are no frames; the link is of no use then.
    pub fn deliver(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(mut inbound) = self.inbound.take() else {
            return Err(Error::new(Code::PARSE_ERROR, "the link has failed before"));
        };
        inbound.feed(bytes, |frame| self.take(&frame))?;
        self.inbound = Some(inbound);
        Ok(())
    }

    /// Takes one frame of the host that the driver has found already.
    pub fn deliver_frame(&mut self, frame: &Frame<'_>) {
        self.take(frame);
    }

    /// A frame that could not be delivered: one of the guest's that the driver was not able to send, or one of the host's that
    /// it had to skip. Whoever waits for it learns why, at both ends.
    pub fn undelivered(&mut self, said_by: Side, kind: Kind, id: u32, error: &Error) {
        let (mut here, mut there) = (Vec::new(), Vec::new());
        match said_by {
            Side::Guest => undelivered(said_by, kind, id, error, &mut here, &mut there),
            Side::Host => undelivered(said_by, kind, id, error, &mut there, &mut here),
        }
        let mut own = Reassembler::new();
        // What this crate has just written are frames.
        let _ = own.feed(&here, |frame| self.take(&frame));
        // Behind what was said before: an END must not overtake its events.
        self.shared.outbox().lane(Kind::END).append(&mut there);
    }

    /// Why the host has said goodbye, once it has: the driver ends.
    pub fn goodbye(&self) -> Option<&str> {
        self.goodbye.as_deref()
    }

    /// Polls what was woken, until nothing is or the budget is spent. True when there is more to do at once.
    pub fn poll(&mut self) -> bool {
        for _ in 0..POLL_BUDGET {
            self.adopt();
            let Some(key) = self.shared.take_ready() else { return false };
            self.poll_task(key);
        }
        self.shared.has_work()
    }

    /// Moves the frames for the host to `out`, control first. True when that made room for streams that had waited for it:
    /// poll again.
    pub fn drain(&mut self, out: &mut Vec<u8>) -> bool {
        self.shared.outbox().drain(out);
        for key in self.stalled.drain(..) {
            if let Some(task) = self.tasks.get(&key) {
                task.wake.queue();
            }
        }
        self.shared.has_work()
    }

    /// A handle for lines of the log that are no plugin's: the driver's, and what the process says by other ways.
    pub fn logger(&self) -> Logger {
        Logger(self.shared.clone())
    }

    /// Calls, streams and tasks that are under way.
    pub fn active(&self) -> usize {
        self.tasks.len()
    }

    fn take(&mut self, frame: &Frame<'_>) {
        match frame.kind {
            Kind::HELLO => self.hello(frame),
            Kind::CALL => self.begin_call(frame),
            Kind::OPEN => self.open(frame),
            Kind::CANCEL => self.cancel(frame),
            Kind::RESET => self.discard(TaskKey::wire(frame.id)),
            Kind::CREDIT => self.with_stream(frame.id, |stream, _| stream.credit = stream.credit.saturating_add(frame.credit())),
            // Events are looked for after each frame, as a caller of a compiled-in stream does.
            Kind::DATA => self.with_stream(frame.id, |stream, waker| stream.input(frame.blob, waker)),
            Kind::FINISH => self.with_stream(frame.id, |stream, _| {
                if stream.finish == Finish::Open {
                    stream.finish = Finish::Asked;
                }
            }),
            Kind::HOST_REPLY | Kind::EVENT | Kind::END => self.shared.answer(frame.id, frame.kind, frame.head, frame.blob),
            Kind::PING => put_plain(self.shared.outbox().lane(Kind::PONG), Kind::PONG, 0, frame.id),
            Kind::GOODBYE => {
                let head: GoodbyeHead = bespoke_plugin_api::serde_json::from_slice(frame.head).unwrap_or_default();
                self.goodbye = Some(head.reason);
            }
            _ => {} // A newer host may say more than we understand.
        }
    }

    fn hello(&mut self, frame: &Frame<'_>) {
        let agreed = match bespoke_plugin_api::serde_json::from_slice::<HostHello>(frame.head) {
            Ok(hello) => agree(hello.protocol, hello.oldest).map(drop),
            Err(e) => Err(Error::new(Code::INVALID_REQUEST, format!("HELLO: {e}"))),
        };
        let hello = agreed.and_then(|()| caught(|| self.descriptor.declare())).map(|specs| GuestHello {
            protocol: PROTOCOL,
            oldest: OLDEST_PROTOCOL,
            plugin: self.descriptor.id().to_owned(),
            version: self.descriptor.package().version.to_owned(),
            specs,
            features: vec![BLOB.to_owned()],
            max_payload: DEFAULT_PAYLOAD,
        });
        let mut outbox = self.shared.outbox();
        let out = outbox.lane(Kind::HELLO);
        match hello.and_then(|hello| put_json(out, Kind::HELLO, 0, &hello)) {
            Ok(()) => {}
            // A REPLY to 0 says that there will be no HELLO.
            Err(e) => put_reply::<()>(out, Kind::REPLY, 0, &Err(e)),
        }
    }

    fn begin_call(&mut self, frame: &Frame<'_>) {
        let key = TaskKey::wire(frame.id);
        if self.tasks.contains_key(&key) {
            return self.refuse(frame.id, Error::new(Code::INVALID_REQUEST, format!("call {} is under way already", frame.id)));
        }
        let token = CancelToken::new();
        let work = Route::read(frame).and_then(|route| {
            let (shared, id) = (self.shared.clone(), frame.id);
            let cx = route.cx.to_cx(token.clone())?.with_wire_call(id).with_progress(move |value| {
                // Progress that does not fit a frame is not worth failing the call for.
                let _ = put_json(shared.outbox().lane(Kind::PROGRESS), Kind::PROGRESS, id, &value);
                shared.platform.wake();
            });
            self.dispatch().call(frame, &route, cx)
        });
        match work {
            Ok(work) => self.add(key, token, Job::Call(work)),
            Err(e) => self.refuse(frame.id, e),
        }
    }

    fn open(&mut self, frame: &Frame<'_>) {
        let key = TaskKey::wire(frame.id);
        if self.tasks.contains_key(&key) {
            return self.end(frame.id, &Err(Error::new(Code::INVALID_REQUEST, format!("stream {} is open already", frame.id))));
        }
        match Route::read(frame).and_then(|route| self.dispatch().open(frame, &route)) {
            Ok(source) => self.add(key, CancelToken::new(), Job::Stream(Stream::new(source))),
            Err(e) => self.end(frame.id, &Err(e)),
        }
    }

    fn cancel(&mut self, frame: &Frame<'_>) {
        let key = TaskKey::wire(frame.id);
        if let Some(task) = self.tasks.get(&key) {
            task.token.cancel();
        }
        if frame.flags & flag::ABANDONED != 0 {
            self.discard(key);
        }
    }

    /// Drops a call or stream that nobody wants any more.
    fn discard(&mut self, key: TaskKey) {
        if let Some(task) = self.tasks.remove(&key) {
            task.token.cancel();
            self.drop_quietly(task);
        }
    }

    fn with_stream(&mut self, id: u32, act: impl FnOnce(&mut Stream, &Waker)) {
        // What comes for a stream that is gone crossed its END or RESET on the way.
        let key = TaskKey::wire(id);
        if let Some(Task { job: Job::Stream(stream), waker, .. }) = self.tasks.get_mut(&key) {
            act(stream, waker);
            self.poll_task(key);
        }
    }

    fn adopt(&mut self) {
        for task in self.shared.take_spawned() {
            self.next_local = self.next_local.wrapping_add(1);
            self.add(TaskKey::local(self.next_local), CancelToken::new(), Job::Local(task));
        }
    }

    fn add(&mut self, key: TaskKey, token: CancelToken, job: Job) {
        let wake = TaskWaker::new(self.shared.clone(), key);
        wake.queue();
        self.tasks.insert(key, Task { token, waker: Waker::from(wake.clone()), wake, job });
    }

    fn poll_task(&mut self, key: TaskKey) {
        let Some(task) = self.tasks.get_mut(&key) else { return };
        task.wake.begin_poll();
        let waker = task.waker.clone();
        let mut cx = Context::from_waker(&waker);
        match &mut task.job {
            Job::Call(work) => {
                // Calls are keyed by their id on the wire.
                let id = key.id().unwrap_or_default();
                if let Poll::Ready(answer) = poll_work(work, id, &mut cx) {
                    self.answered(key, answer.frame, answer.effect);
                }
            }
            Job::Stream(stream) => {
                let id = key.id().unwrap_or_default();
                match stream.poll(id, &self.shared, &mut cx) {
                    Progress::Waiting => {}
                    Progress::Stalled => self.stalled.push(key),
                    Progress::Over(result) => {
                        if let Some(task) = self.tasks.remove(&key) {
                            self.drop_quietly(task);
                        }
                        self.end(id, &result);
                    }
                }
            }
            Job::Local(work) => match caught(|| work.as_mut().poll(&mut cx)) {
                Ok(Poll::Pending) => {}
                done => {
                    if let Err(e) = done {
                        self.shared.outbox().log(Level::Error, &format!("a task of the plugin {}", e.message()));
                    }
                    if let Some(task) = self.tasks.remove(&key) {
                        self.drop_quietly(task);
                    }
                }
            },
        }
    }

    fn answered(&mut self, key: TaskKey, mut frame: Vec<u8>, effect: Effect) {
        match effect {
            Effect::Stream(source) => {
                if let Some(task) = self.tasks.get_mut(&key) {
                    let done = std::mem::replace(&mut task.job, Job::Stream(Stream::new(source)));
                    task.wake.queue();
                    // The future has finished; what it still holds may be the plugin's.
                    if let Err(e) = caught(|| drop(done)) {
                        self.shared.outbox().log(Level::Error, e.message());
                    }
                }
            }
            effect => {
                if let Some(task) = self.tasks.remove(&key) {
                    self.drop_quietly(task);
                }
                match effect {
                    Effect::Started(instance) => {
                        self.told = vitals(&*instance.life);
                        self.instance = Some(instance);
                    }
                    Effect::Stopped => self.end_local_tasks(),
                    Effect::None | Effect::Stream(_) => {}
                }
            }
        }
        self.tell_vitals();
        self.shared.outbox().lane(Kind::REPLY).append(&mut frame);
    }

    /// Tells the host how the plugin does when that has changed, so that health need not be asked for.
    fn tell_vitals(&mut self) {
        let Some(instance) = &self.instance else { return };
        let now = vitals(&*instance.life);
        if now != self.told && put_json(self.shared.outbox().lane(Kind::VITALS), Kind::VITALS, 0, &now).is_ok() {
            self.told = now;
        }
    }

    fn end_local_tasks(&mut self) {
        self.adopt();
        let local: Vec<_> = self.tasks.iter().filter(|(_, t)| matches!(t.job, Job::Local(_))).map(|(key, _)| *key).collect();
        for key in local {
            self.discard(key);
        }
    }

    fn dispatch(&self) -> Dispatch<'_> {
        Dispatch { descriptor: self.descriptor, instance: self.instance.as_ref(), shared: &self.shared }
    }

    fn refuse(&self, id: u32, error: Error) {
        put_reply::<()>(self.shared.outbox().lane(Kind::REPLY), Kind::REPLY, id, &Err(error));
    }

    fn end(&self, id: u32, result: &Result<()>) {
        put_end(self.shared.outbox().lane(Kind::END), id, result);
    }

    /// Drops what belongs to the plugin: its `Drop` may panic.
    fn drop_quietly(&self, task: Task) {
        if let Err(e) = caught(|| drop(task)) {
            self.shared.outbox().log(Level::Error, &format!("dropping a call or stream {}", e.message()));
        }
    }
}

/// Writes to the host's log. Lines beyond what the host takes are dropped and counted.
#[derive(Clone)]
pub struct Logger(Arc<Shared>);

impl Logger {
    /// Adds a line.
    pub fn log(&self, level: Level, line: &str) {
        self.0.outbox().log(level, line);
        self.0.platform.wake();
    }
}

impl std::fmt::Debug for Logger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Logger")
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        for (_, task) in std::mem::take(&mut self.tasks) {
            task.token.cancel();
            self.drop_quietly(task);
        }
        let instance = self.instance.take();
        let shared = self.shared.clone();
        // Nobody is left to be told of a panic here.
        let _ = caught(move || {
            shared.close();
            drop(instance);
        });
    }
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("plugin", &self.descriptor.id()).field("active", &self.active()).finish_non_exhaustive()
    }
}

enum Progress {
    /// Will be woken.
    Waiting,
    /// The outbox is full.
    Stalled,
    /// Has ended.
    Over(Result<()>),
}

impl Stream {
    fn new(source: Box<dyn Source>) -> Self {
        Stream { source, queue: VecDeque::new(), queued_bytes: 0, finish: Finish::Open, credit: EVENT_WINDOW, taken: 0, failed: None }
    }

    /// Takes a frame of input: at once where the source has room, else into the queue.
    fn input(&mut self, bytes: &[u8], waker: &Waker) {
        if self.failed.is_some() {
            return;
        }
        if self.finish != Finish::Open {
            self.failed = Some(Error::invalid_params("input after the end of input"));
            return;
        }
        if self.queue.is_empty() {
            match self.source.poll_ready(&mut Context::from_waker(waker)) {
                Poll::Ready(Ok(())) => {
                    self.failed = self.source.push(bytes).err();
                    self.taken += bytes.len();
                    return;
                }
                Poll::Ready(Err(e)) => {
                    self.failed = Some(e);
                    return;
                }
                Poll::Pending => {}
            }
        }
        // The frame that overshoots the credit is allowed, the next one is not.
        if self.queued_bytes > INPUT_WINDOW as usize {
            self.failed = Some(Error::new(Code::RESOURCE_EXHAUSTED, "the host sent more input than it had credit for"));
            return;
        }
        self.queued_bytes += bytes.len();
        self.queue.push_back(bytes.to_vec());
    }

    fn poll(&mut self, id: u32, shared: &Shared, cx: &mut Context<'_>) -> Progress {
        self.feed(cx);
        if self.taken >= INPUT_WINDOW as usize / 4 {
            let amount = u32::try_from(std::mem::take(&mut self.taken)).unwrap_or(u32::MAX);
            put_credit(shared.outbox().lane(Kind::CREDIT), 0, id, amount);
        }
        while self.credit > 0 {
            if shared.outbox().is_full() {
                return Progress::Stalled;
            }
            match self.source.poll_event(cx, id, shared) {
                Poll::Ready(Some(Ok(()))) => self.credit -= 1,
                Poll::Ready(Some(Err(e))) => return Progress::Over(Err(e)),
                Poll::Ready(None) => return Progress::Over(self.failed.take().map_or(Ok(()), Err)),
                Poll::Pending => {
                    return match self.failed.take() {
                        Some(e) => Progress::Over(Err(e)),
                        None => Progress::Waiting,
                    };
                }
            }
        }
        Progress::Waiting
    }

    fn feed(&mut self, cx: &mut Context<'_>) {
        while self.failed.is_none()
            && let Some(front) = self.queue.front()
        {
            match self.source.poll_ready(cx) {
                Poll::Ready(Ok(())) => {
                    self.failed = self.source.push(front).err();
                    self.taken += front.len();
                    self.queued_bytes -= front.len();
                    self.queue.pop_front();
                }
                Poll::Ready(Err(e)) => self.failed = Some(e),
                Poll::Pending => return,
            }
        }
        if self.failed.is_none() && self.finish == Finish::Asked {
            self.finish = Finish::Done;
            self.failed = self.source.finish().err();
        }
    }
}
