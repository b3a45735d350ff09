//! One instance: a store, and the future that owns it and steps it. When it is stepped, and by whom, is the proxy's.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicUsize},
    task::{Context, Poll},
    time::Instant,
};

use bespoke_plugin_api::{Code as ErrorCode, Error, HostApi, Level, Result};
use bespoke_plugin_proxy::{Mailbox, Step};
use bespoke_protocol::parse;
use wasmtime::{Store, UpdateDeadline};

use crate::{
    code::Code,
    ending::Ending,
    engine::Running,
    hosted::plain,
    limits::{Budget, Limits, Room, Why},
    world::Outbound,
};

/// Most bytes that a step gets at once, but for a frame that is longer.
const BATCH: usize = 1 << 20;

/// What the functions of the host see of an instance.
pub(crate) struct Data {
    host: Arc<dyn HostApi>,
    mailbox: Mailbox,
    exchange: Shared,
    limits: Limits,
    room: Room,
    budget: Budget,
    why: Option<Why>,
    /// The last line that it said in this step.
    said: Option<String>,
    /// Whole frames that were too many for a step.
    carry: Vec<u8>,
    /// What the host had given up when the step began, and the last call that the guest may know of.
    given_up: u64,
    last_call: u32,
}

impl Data {
    pub(crate) fn log(&mut self, level: Level, line: &str) {
        if level >= Level::Warn {
            self.said = Some(plain(line));
        }
        self.host.log(level, line);
    }

    pub(crate) fn now(&self) -> u64 {
        self.host.now().0
    }

    /// What has come since the step began.
    pub(crate) fn pull(&mut self) -> Vec<u8> {
        let mut frames = Vec::new();
        self.take(&mut frames);
        frames
    }

    /// Takes mail: whole frames, not more than a guest can be given at once.
    fn take(&mut self, to: &mut Vec<u8>) {
        to.append(&mut self.carry);
        self.mailbox.take(to);
        self.last_call = self.mailbox.last_call();
        if to.len() > BATCH {
            let end = whole(to, BATCH);
            self.carry = to.split_off(end);
        }
    }

    fn begin(&mut self) {
        self.budget.begin();
        self.given_up = self.mailbox.given_up();
        self.room.refused = None;
        self.said = None;
    }

    /// A tick has passed in the midst of a step.
    fn tick(&mut self) -> UpdateDeadline {
        let resumed = lock(&self.exchange).resumed.take();
        // A stream may have much to catch up with, so that nobody waits for a call counts only once something was given up.
        let wanted = self.mailbox.given_up() == self.given_up || self.mailbox.is_wanted(self.last_call);
        self.why = self.budget.tick(resumed, Instant::now(), wanted);
        if self.why.is_some() {
            return UpdateDeadline::Interrupt;
        }
        // The runtime's own way, so that it looks after its timers and sockets before it goes on.
        UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()))
    }

    fn error(&self, trap: &wasmtime::Error) -> Error {
        self.ending().error(trap)
    }

    fn ending(&self) -> Ending<'_> {
        Ending { limits: &self.limits, why: self.why, refused: self.room.refused, said: self.said.as_deref() }
    }
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
    /// When the step went on, after a tick.
    resumed: Option<Instant>,
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
}

impl Guest {
    /// An instance that was not started yet: its first step does that.
    pub(crate) fn new(code: Arc<Code>, host: Arc<dyn HostApi>, mailbox: Mailbox, limits: Limits, memory: Arc<AtomicUsize>) -> Self {
        let exchange = Shared::default();
        let data = Data {
            host,
            mailbox,
            exchange: exchange.clone(),
            limits,
            room: Room::new(limits, memory),
            budget: Budget::new(limits),
            why: None,
            said: None,
            carry: Vec::new(),
            given_up: 0,
            last_call: 0,
        };
        let mut store = Store::new(code.engine, data);
        store.limiter(|data| &mut data.room);
        store.epoch_deadline_callback(|mut store| Ok(store.data_mut().tick()));
        Guest { life: Box::pin(live(code, store, exchange.clone())), exchange, busy: false, payload: limits.payload() }
    }
}

impl Step for Guest {
    fn longest(&self) -> usize {
        self.payload
    }

    fn poll_step(&mut self, out: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<Result<bool>> {
        {
            let mut exchange = lock(&self.exchange);
            if self.busy {
                exchange.resumed = Some(Instant::now());
            } else {
                exchange.turn = Turn::Asked;
            }
        }
        let polled = {
            let _running = Running::begin();
            self.life.as_mut().poll(cx)
        };
        if let Poll::Ready(ended) = polled {
            return Poll::Ready(Err(ended));
        }
        let turn = std::mem::take(&mut lock(&self.exchange).turn);
        let Turn::Done(Outbound { mut frames, more }) = turn else {
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
    let instance = code.pre.instantiate_async(&mut *store).await?;
    let start = instance.get_typed_func::<(), (Result<(), String>,)>(&mut *store, code.start)?;
    let step = instance.get_typed_func::<(Arc<Vec<u8>>,), (Result<Outbound, String>,)>(&mut *store, code.step)?;
    if let Err(why) = start.call_async(&mut *store, ()).await?.0 {
        return Err(End::Told(gone(format!("does not start: {}", plain(&why)))));
    }
    let mut inbound = Arc::new(Vec::new());
    loop {
        // Nobody else has it between two steps.
        if let Some(inbound) = Arc::get_mut(&mut inbound) {
            inbound.clear();
            inbound.shrink_to(BATCH);
            store.data_mut().take(inbound);
        }
        let (said,) = step.call_async(&mut *store, (inbound.clone(),)).await?;
        let mut said = said.map_err(|why| End::Told(gone(format!("does not take what the host says: {}", plain(&why)))))?;
        let data = store.data_mut();
        said.more |= !data.carry.is_empty();
        data.why = data.budget.end();
        if let Some(why) = data.why {
            return Err(End::Told(data.ending().interrupted(why)));
        }
        lock(exchange).turn = Turn::Done(said);
        asked(exchange).await;
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
        let turn = &mut lock(exchange).turn;
        if matches!(turn, Turn::Asked) {
            *turn = Turn::Waits;
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
