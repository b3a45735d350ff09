//! What all handles on one guest share: the link, the numbers, and who waits for what.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Poll, Waker},
    time::Instant,
};

use bespoke_plugin_api::{CallCx, Code, Error, HostApi, Inbox, Result, serde_json::Value};
use bespoke_protocol::{Frame, Kind, Lane, OutputHead, Vitals, put_plain};

use crate::{link::Link, server::Serving, start::HelloSlot};

pub(crate) struct Inner {
    pub(crate) host: Arc<dyn HostApi>,
    pub(crate) hello: HelloSlot,
    link: Arc<dyn Link>,
    table: Mutex<Table>,
    /// Host calls under way, so that the guest can cancel them and give credit.
    serving: Mutex<HashMap<u32, Serving>>,
    vitals: Mutex<Vitals>,
    /// Since when it has not answered how it does.
    asked: Mutex<Option<Instant>>,
    lost: OnceLock<Error>,
    end: Mutex<End>,
}

/// Whether the guest may go, and who wants to know when it does without being asked.
#[derive(Default)]
struct End {
    stopping: bool,
    unasked: bool,
    wakers: Vec<Waker>,
}

#[derive(Default)]
struct Table {
    next: u32,
    waiting: HashMap<u32, Arc<dyn Waiting>>,
}

/// A call or stream of the host that waits for frames.
pub(crate) trait Waiting: Send + Sync {
    /// A reply. When nothing follows it, `forget` is called before anybody is woken: whoever sees the answer and drops its
    /// handle must not find the number in the table and cancel what is done.
    fn reply(&self, frame: &Frame<'_>, forget: &dyn Fn());
    /// An event. An error says that the guest broke the rules, and ends the stream.
    fn event(&self, frame: &Frame<'_>) -> Result<()>;
    /// The end of a stream, or of everything.
    fn end(&self, result: Result<()>);
    /// Room for more input.
    fn credit(&self, _bytes: u32) {}
    /// Progress of a call.
    fn progress(&self, _value: Value) {}
    /// A line of a command.
    fn output(&self, _line: OutputHead) {}
    /// The context of a call, under which its guest may call on; `None` for what has none.
    fn cx(&self) -> Option<CallCx> {
        None
    }
    /// Where messages of a running channel go.
    fn inbox(&self) -> Option<Inbox> {
        None
    }
}

impl Inner {
    pub(crate) fn new(host: Arc<dyn HostApi>, link: Arc<dyn Link>) -> Arc<Self> {
        Arc::new(Inner {
            host,
            hello: HelloSlot::default(),
            link,
            table: Mutex::default(),
            serving: Mutex::default(),
            vitals: Mutex::default(),
            asked: Mutex::default(),
            lost: OnceLock::new(),
            end: Mutex::default(),
        })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing that can panic runs under this lock.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn serving(&self) -> MutexGuard<'_, HashMap<u32, Serving>> {
        self.serving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn vitals(&self) -> MutexGuard<'_, Vitals> {
        self.vitals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn asked(&self) -> MutexGuard<'_, Option<Instant>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) -> MutexGuard<'_, End> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the guest may go.
    pub(crate) fn stopping(&self) {
        self.end().stopping = true;
    }

    /// The reason, when the guest has gone although nobody stopped it.
    pub(crate) fn poll_ended(&self, waker: &Waker) -> Poll<Error> {
        let mut end = self.end();
        match self.lost.get() {
            Some(reason) if end.unasked => Poll::Ready(reason.clone()),
            _ => {
                if !end.wakers.iter().any(|w| w.will_wake(waker)) {
                    end.wakers.push(waker.clone());
                }
                Poll::Pending
            }
        }
    }

    /// Gives a call or stream its number.
    pub(crate) fn register(&self, waiting: Arc<dyn Waiting>) -> u32 {
        let mut table = self.table();
        loop {
            table.next = table.next.wrapping_add(1);
            let id = table.next;
            // Zero is nobody's: frames without an owner carry it.
            if id == 0 {
                continue;
            }
            if let Entry::Vacant(free) = table.waiting.entry(id) {
                free.insert(waiting);
                return id;
            }
        }
    }

    /// Who waits under that number.
    pub(crate) fn waiting(&self, id: u32) -> Option<Arc<dyn Waiting>> {
        self.table().waiting.get(&id).cloned()
    }

    /// Forgets a number; false when it was forgotten before.
    pub(crate) fn forget(&self, id: u32) -> bool {
        let forgotten = self.table().waiting.remove(&id);
        forgotten.is_some()
    }

    /// Whether somebody waits for a call up to that number and has not cancelled it.
    pub(crate) fn is_wanted(&self, last: u32) -> bool {
        // Numbers come round again. The contexts are looked at without the lock: what is cancelled wakes others.
        let before = |id: u32| last.wrapping_sub(id) < u32::MAX / 2;
        let waiting: Vec<_> = self.table().waiting.iter().filter(|(id, _)| before(**id)).map(|(_, one)| one.clone()).collect();
        waiting.iter().filter_map(|one| one.cx()).any(|cx| !cx.is_cancelled())
    }

    /// Sends frames.
    ///
    /// # Errors
    /// The error that the link was lost with; `RESOURCE_EXHAUSTED` when they are too long for it, which loses nothing else.
    pub(crate) fn send(&self, lane: Lane, frames: &[u8]) -> Result<()> {
        self.unless_lost(|link| link.send(lane, frames))
    }

    /// The same for what nobody waits for: see [`Link::post`].
    pub(crate) fn post(&self, lane: Lane, frames: &[u8]) -> Result<()> {
        self.unless_lost(|link| link.post(lane, frames))
    }

    fn unless_lost(&self, send: impl FnOnce(&dyn Link) -> Result<()>) -> Result<()> {
        if let Some(e) = self.lost.get() {
            return Err(e.clone());
        }
        send(&*self.link).map_err(|e| {
            if e.code() == Code::RESOURCE_EXHAUSTED {
                return e;
            }
            self.lose(e);
            self.lost.get().cloned().unwrap_or_else(crashed)
        })
    }

    /// Sends a frame without content. A link that is gone has told everybody who waits.
    pub(crate) fn send_plain(&self, kind: Kind, flags: u8, id: u32) {
        let _ = self.send(kind.lane(), &plain(kind, flags, id));
    }

    /// Posts a frame without content.
    pub(crate) fn post_plain(&self, kind: Kind, flags: u8, id: u32) {
        let _ = self.post(kind.lane(), &plain(kind, flags, id));
    }

    /// Ends everything: the guest is gone. The first reason counts.
    pub(crate) fn lose(&self, reason: Error) {
        let mut first = false;
        let reason = self.lost.get_or_init(|| {
            first = true;
            if TOLD.contains(&reason.code()) { reason } else { because(&reason) }
        });
        let waiting = std::mem::take(&mut self.table().waiting);
        for one in waiting.into_values() {
            one.end(Err(reason.clone()));
        }
        let serving = std::mem::take(&mut *self.serving());
        for one in serving.into_values() {
            one.stop();
        }
        self.hello.fill(Err(reason.clone()));
        // Last: who learns of the end finds everybody answered.
        let wakers = {
            let mut end = self.end();
            end.unasked |= first && !end.stopping;
            std::mem::take(&mut end.wakers)
        };
        for waker in wakers {
            waker.wake();
        }
    }
}

impl Drop for Inner {
    /// Nobody is left who could take an answer: what serves a host call stops, however long it would have been silent.
    fn drop(&mut self) {
        for one in std::mem::take(&mut *self.serving()).into_values() {
            one.stop();
        }
    }
}

/// Codes that say themselves what a guest's end means for its callers; anything else is a link that is lost.
const TOLD: [Code; 4] = [Code::PLUGIN_CRASHED, Code::RESOURCE_EXHAUSTED, Code::EXECUTION_TIMEOUT, Code::LOAD_FAILED];

/// The error of a guest that is gone without a word.
pub(crate) fn crashed() -> Error {
    Error::new(Code::PLUGIN_CRASHED, "the plugin's guest has ended").retryable()
}

fn because(reason: &Error) -> Error {
    Error::new(Code::PLUGIN_CRASHED, format!("the link to the plugin is lost: {}", reason.message())).retryable()
}

fn plain(kind: Kind, flags: u8, id: u32) -> Vec<u8> {
    let mut frame = Vec::with_capacity(bespoke_protocol::HEADER_LEN);
    put_plain(&mut frame, kind, flags, id);
    frame
}
