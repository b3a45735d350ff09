//! One instance: a store, and the future that owns it and steps it. When it is stepped, and by whom, is the proxy's.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bespoke_manifest::Permissions;
use bespoke_plugin_api::{Code as ErrorCode, Error, HostApi, Level, Result};
use bespoke_plugin_proxy::{Mailbox, Step};
use bespoke_protocol::parse;
use bespoke_tier::log;
use tokio::runtime::Handle;
use wasmtime::{Store, UpdateDeadline};

use crate::{
    code::Code,
    ending::Ending,
    engine::Running,
    limits::{Budget, Gauge, Limits, Patience, Room, Why},
    wasi::Wasi,
    world::Outbound,
};

/// Most bytes that a step gets at once, but for a frame that is longer.
const BATCH: usize = 1 << 20;

/// How often a step that waits for WASI is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// What the functions of the host see of an instance.
pub(crate) struct Data {
    voice: Voice,
    mailbox: Mailbox,
    exchange: Shared,
    /// For a component that asks for it.
    pub(crate) wasi: Option<Wasi>,
    limits: Limits,
    room: Room,
    budget: Budget,
    why: Option<Why>,
    /// Whole frames that were too many for a step.
    carry: Vec<u8>,
    /// What the host had given up when the step began, and the last call that the guest may know of.
    given_up: u64,
    last_call: Arc<AtomicU32>,
}

/// Where the lines of an instance go: into the plugin's log, and the last that matters is kept for the error of one that ends.
#[derive(Clone)]
pub(crate) struct Voice {
    pub(crate) host: Arc<dyn HostApi>,
    exchange: Shared,
}

impl Voice {
    fn new(host: Arc<dyn HostApi>, exchange: &Shared) -> Self {
        Voice { host, exchange: exchange.clone() }
    }

    /// One of no instance.
    #[cfg(all(test, feature = "wasi"))]
    pub(crate) fn alone(host: Arc<dyn HostApi>) -> Self {
        Voice::new(host, &Shared::default())
    }

    pub(crate) fn say(&self, level: Level, line: &str) {
        if level >= Level::Warn {
            lock(&self.exchange).said = Some(log::line(line));
        }
        self.host.log(level, line);
    }
}

impl Data {
    pub(crate) fn log(&mut self, level: Level, line: &str) {
        self.voice.say(level, line);
    }

    pub(crate) fn now(&self) -> u64 {
        self.voice.host.now().0
    }

    /// What has come since the step began.
    pub(crate) fn pull(&mut self) -> Vec<u8> {
        let mut frames = Vec::new();
        self.take(&mut frames);
        frames
    }

    /// Takes mail: whole frames, not more than a guest can be given at once.
    fn take(&mut self, to: &mut Vec<u8>) {
        // One after the other: what is carried is never more than what may wait in a mailbox.
        if self.carry.is_empty() {
            self.mailbox.take(to);
            self.last_call.store(self.mailbox.last_call(), Ordering::Relaxed);
        } else {
            to.append(&mut self.carry);
        }
        if to.len() > BATCH {
            let end = whole(to, BATCH);
            self.carry = to.split_off(end);
        }
    }

    fn begin(&mut self) {
        self.budget.begin();
        self.given_up = self.mailbox.given_up();
        self.room.refused = None;
    }

    /// For a step that may wait for more than the guest's own code.
    fn watch(&self) -> Option<Watch> {
        self.wasi.as_ref()?;
        Some(Watch {
            mailbox: self.mailbox.clone(),
            given_up: self.given_up,
            last_call: self.last_call.clone(),
            limits: self.limits,
            patience: Patience::new(self.limits, Instant::now()),
        })
    }

    /// A tick has passed in the midst of a step.
    fn tick(&mut self) -> UpdateDeadline {
        let waited = std::mem::take(&mut lock(&self.exchange).waited);
        let wanted = wanted(&self.mailbox, self.given_up, &self.last_call);
        self.why = self.budget.tick(waited, Instant::now(), wanted);
        if self.why.is_some() {
            return UpdateDeadline::Interrupt;
        }
        match self.budget.owed(Instant::now()) {
            // What computes for nobody is ended soon, and does not take longer for it.
            Some(pause) if wanted => UpdateDeadline::YieldCustom(1, self.voice.host.sleep(pause)),
            // The runtime's own way, so that it looks after its timers and sockets before it goes on.
            _ => UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())),
        }
    }

    fn error(&self, trap: &wasmtime::Error) -> Error {
        let said = lock(&self.exchange).said.clone();
        Ending { limits: &self.limits, why: self.why, refused: self.room.refused, said: said.as_deref() }.error(trap)
    }
}

/// Whether a step that runs does so for anybody. A stream may have much to catch up with, so that nobody waits for a call counts only once
/// something was given up since the step began.
fn wanted(mailbox: &Mailbox, given_up: u64, last_call: &AtomicU32) -> bool {
    mailbox.given_up() == given_up || mailbox.is_wanted(last_call.load(Ordering::Relaxed))
}

/// Sees to it that a step does not wait for longer than it may.
struct Watch {
    mailbox: Mailbox,
    given_up: u64,
    last_call: Arc<AtomicU32>,
    limits: Limits,
    patience: Patience,
}

impl Watch {
    fn look(&mut self) -> Option<Error> {
        let wanted = wanted(&self.mailbox, self.given_up, &self.last_call);
        self.patience.look(Instant::now(), wanted).map(|why| interrupted(&self.limits, why))
    }
}

fn interrupted(limits: &Limits, why: Why) -> Error {
    Ending { limits, why: Some(why), refused: None, said: None }.interrupted(why)
}

/// Does something of the guest, under a watch where it may wait.
async fn watched<T>(watch: Option<Watch>, work: impl Future<Output = wasmtime::Result<T>>) -> Result<T, End> {
    let Some(mut watch) = watch else { return Ok(work.await?) };
    let (mut work, mut clock) = (pin!(work), pin!(tokio::time::sleep(LOOK)));
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(done.map_err(End::Trap));
        }
        while clock.as_mut().poll(cx).is_ready() {
            if let Some(error) = watch.look() {
                return Poll::Ready(Err(End::Told(error)));
            }
            clock.as_mut().reset(tokio::time::Instant::now() + LOOK);
        }
        Poll::Pending
    })
    .await
}

/// Where whole frames end, of at most so many bytes, but for one that is longer. What the host has written are frames.
fn whole(frames: &[u8], most: usize) -> usize {
    let mut end = 0;
    while let Ok(Some((_, len))) = parse(&frames[end..]) {
        if end > 0 && end + len > most {
            break;
        }
        end += len;
    }
    if end == 0 { frames.len() } else { end }
}

/// What the future of an instance and whoever polls it say to each other.
#[derive(Default)]
struct Exchange {
    turn: Turn,
    /// Since when the step does nothing: after a tick, or because it waits.
    paused: Option<Instant>,
    /// For how long it has done nothing, since somebody asked.
    waited: Duration,
    /// The last line of this step that matters.
    said: Option<String>,
}

#[derive(Default)]
enum Turn {
    /// The guest waits to be stepped, or works.
    #[default]
    Waits,
    Asked,
    Done(Outbound),
}

type Shared = Arc<Mutex<Exchange>>;

fn lock(exchange: &Shared) -> MutexGuard<'_, Exchange> {
    // Nothing that can panic runs under this lock.
    exchange.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An instance.
pub(crate) struct Guest {
    /// Owns the store. **Invariant:** it is dropped only as a whole, so that no call is dropped before its store.
    life: Pin<Box<dyn Future<Output = Error> + Send>>,
    exchange: Shared,
    /// In the midst of a step.
    busy: bool,
    payload: usize,
    /// Where WASI has its timers, and threads for files: whoever steps a guest need not be of any runtime.
    runtime: Option<Handle>,
}

impl Guest {
    /// An instance that was not started yet: its first step does that. One whose component asks for WASI needs a runtime around this.
    pub(crate) fn new(
        code: Arc<Code>,
        host: Arc<dyn HostApi>,
        mailbox: Mailbox,
        limits: Limits,
        gauge: Arc<Gauge>,
        granted: &Permissions,
    ) -> Self {
        let exchange = Shared::default();
        let voice = Voice::new(host, &exchange);
        let wasi = code.wasi.then(|| Wasi::new(granted, &voice));
        let runtime = code.wasi.then(Handle::current);
        let data = Data {
            voice,
            mailbox,
            wasi,
            exchange: exchange.clone(),
            limits,
            room: Room::new(limits, gauge.clone()),
            budget: Budget::new(limits, gauge),
            why: None,
            carry: Vec::new(),
            given_up: 0,
            last_call: Arc::default(),
        };
        let mut store = Store::new(code.engine, data);
        store.limiter(|data| &mut data.room);
        store.epoch_deadline_callback(|mut store| Ok(store.data_mut().tick()));
        Guest { life: Box::pin(live(code, store, exchange.clone())), exchange, busy: false, payload: limits.payload(), runtime }
    }
}

impl Step for Guest {
    fn longest(&self) -> usize {
        self.payload
    }

    fn poll_step(&mut self, out: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<Result<bool>> {
        {
            let mut exchange = lock(&self.exchange);
            if !self.busy {
                exchange.turn = Turn::Asked;
            } else if let Some(paused) = exchange.paused.take() {
                exchange.waited += paused.elapsed();
            }
        }
        let polled = {
            let _entered = self.runtime.as_ref().map(Handle::enter);
            let _running = Running::begin();
            self.life.as_mut().poll(cx)
        };
        if let Poll::Ready(ended) = polled {
            return Poll::Ready(Err(ended));
        }
        let mut exchange = lock(&self.exchange);
        let Turn::Done(Outbound { mut frames, more }) = std::mem::take(&mut exchange.turn) else {
            exchange.paused = Some(Instant::now());
            self.busy = true;
            return Poll::Pending;
        };
        self.busy = false;
        if out.is_empty() {
            *out = frames;
        } else {
            out.append(&mut frames);
        }
        Poll::Ready(Ok(more))
    }
}

/// The life of an instance: why it ended.
async fn live(code: Arc<Code>, mut store: Store<Data>, exchange: Shared) -> Error {
    match serve(&code, &mut store, &exchange).await {
        Ok(never) => match never {},
        Err(End::Trap(trap)) => store.data().error(&trap),
        Err(End::Told(error)) => error,
    }
}

enum End {
    Trap(wasmtime::Error),
    Told(Error),
}

impl From<wasmtime::Error> for End {
    fn from(trap: wasmtime::Error) -> Self {
        End::Trap(trap)
    }
}

enum Never {}

async fn serve(code: &Code, store: &mut Store<Data>, exchange: &Shared) -> Result<Never, End> {
    asked(exchange).await;
    begin(store);
    let watch = store.data().watch();
    let instance = watched(watch, code.pre.instantiate_async(&mut *store)).await?;
    let start = instance.get_typed_func::<(), (Result<(), String>,)>(&mut *store, code.start)?;
    let step = instance.get_typed_func::<(Arc<Vec<u8>>,), (Result<Outbound, String>,)>(&mut *store, code.step)?;
    let watch = store.data().watch();
    if let Err(why) = watched(watch, start.call_async(&mut *store, ())).await?.0 {
        return Err(End::Told(gone(format!("does not start: {}", log::line(&why)))));
    }
    let mut inbound = Arc::new(Vec::new());
    loop {
        // Nobody else has it between two steps.
        if let Some(inbound) = Arc::get_mut(&mut inbound) {
            inbound.clear();
            inbound.shrink_to(BATCH);
            store.data_mut().take(inbound);
        }
        let watch = store.data().watch();
        let (said,) = watched(watch, step.call_async(&mut *store, (inbound.clone(),))).await?;
        let mut said = said.map_err(|why| End::Told(gone(format!("does not take what the host says: {}", log::line(&why)))))?;
        let data = store.data_mut();
        said.more |= !data.carry.is_empty();
        let waited = std::mem::take(&mut lock(exchange).waited);
        if let Some(why) = data.budget.end(waited) {
            return Err(End::Told(interrupted(&data.limits, why)));
        }
        lock(exchange).turn = Turn::Done(said);
        asked(exchange).await;
        if let Some(pause) = store.data_mut().budget.owed(Instant::now()) {
            let halted = store.data().voice.host.sleep(pause);
            halted.await;
        }
        begin(store);
    }
}

fn begin(store: &mut Store<Data>) {
    store.data_mut().begin();
    // From now on: what passed before is not this step's.
    store.set_epoch_deadline(1);
}

fn gone(message: String) -> Error {
    Error::new(ErrorCode::PLUGIN_CRASHED, message).retryable()
}

/// Waits for the next step. Whoever asks for it polls, so that nobody has to be woken.
async fn asked(exchange: &Shared) {
    poll_fn(|_| {
        let mut exchange = lock(exchange);
        if matches!(exchange.turn, Turn::Asked) {
            // What was said and waited belongs to the step before.
            (exchange.turn, exchange.said, exchange.waited) = (Turn::Waits, None, Duration::ZERO);
            return Poll::Ready(());
        }
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use bespoke_protocol::{Kind, put_frame, put_plain};

    #[test]
    fn frames_are_never_cut() {
        let mut frames = Vec::new();
        (0..10).for_each(|id| put_plain(&mut frames, Kind::PING, 0, id));
        let one = frames.len() / 10;
        assert_eq!([whole(&frames, one * 3), whole(&frames, one * 3 + 1), whole(&frames, usize::MAX)], [one * 3, one * 3, one * 10]);
        // One that is longer goes alone.
        let mut long = Vec::new();
        put_frame(&mut long, &bespoke_protocol::Frame { kind: Kind::DATA, flags: 0, id: 1, head: &[], blob: &[0; 100] });
        let len = long.len();
        long.extend_from_slice(&frames);
        assert_eq!(whole(&long, 50), len);
    }
}
