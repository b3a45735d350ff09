//! What all parts of a server share. Decides nothing.

use std::{
    collections::BTreeMap,
    fs::File,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use bespoke_agent::Agent;
use bespoke_host::Host;
use bespoke_plugin_api::{CallCx, CancelToken, Result};
use bespoke_state::State;
use bespoke_voice::Notes;

use crate::{Parts, ServeConfig, Status, desk::Desk, lines::Line};

/// A server.
pub(crate) struct Core {
    pub(crate) host: Host,
    pub(crate) agent: ArcSwap<Agent>,
    pub(crate) state: State,
    pub(crate) notes: ArcSwapOption<Notes>,
    pub(crate) config: ArcSwap<ServeConfig>,
    pub(crate) desk: Desk,
    /// Cancelled when answers that are being written have to stop.
    pub(crate) answers: CancelToken,
    /// Cancelled when nothing is left to do.
    pub(crate) over: CancelToken,
    pub(crate) counts: Counts,
    lines: Mutex<BTreeMap<String, Arc<Line>>>,
    closed: AtomicBool,
    begun: Instant,
    /// Held as long as this server may send.
    lock: Mutex<Option<File>>,
}

/// What happened since the start.
#[derive(Default)]
pub(crate) struct Counts {
    /// Messages that wait, over all channels; those of channels that are not served, too.
    pub(crate) waiting: AtomicU64,
    pub(crate) turns: AtomicU64,
    pub(crate) repeated: AtomicU64,
}

impl Core {
    pub(crate) fn new(parts: Parts, lock: File) -> Result<Arc<Self>> {
        let Parts { host, agent, state, notes, config } = parts;
        let counts = Counts { waiting: state.inbox_length()?.into(), ..Counts::default() };
        Ok(Arc::new(Core {
            host,
            agent: ArcSwap::from_pointee(agent),
            state,
            notes: ArcSwapOption::new(notes.map(Arc::new)),
            config: ArcSwap::from_pointee(config),
            desk: Desk::default(),
            answers: CancelToken::new(),
            over: CancelToken::new(),
            counts,
            lines: Mutex::default(),
            closed: AtomicBool::new(false),
            begun: Instant::now(),
            lock: Mutex::new(Some(lock)),
        }))
    }

    /// The context of what the server does by itself.
    pub(crate) fn cx(&self) -> CallCx {
        CallCx::new().with_cancel(self.over.child())
    }

    /// Whether no message is taken any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Takes no message any more; whether that was so before.
    pub(crate) fn close(&self) -> bool {
        self.closed.swap(true, Ordering::SeqCst)
    }

    /// Nothing is left to do: another server may begin.
    pub(crate) fn end(&self) {
        self.over.cancel();
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    pub(crate) fn table(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Line>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The channels that are served.
    pub(crate) fn lines(&self) -> Vec<Arc<Line>> {
        self.table().values().cloned().collect()
    }

    pub(crate) fn line(&self, channel: &str) -> Option<Arc<Line>> {
        self.table().get(channel).cloned()
    }

    pub(crate) fn status(&self) -> Status {
        let (outbox, dead) = self.state.outbox_length().unwrap_or_else(|error| {
            tracing::warn!(%error, "what is to be sent cannot be counted");
            (0, 0)
        });
        Status {
            uptime_ms: u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            draining: self.is_closed(),
            channels: self.lines().iter().map(|line| line.status()).collect(),
            at_work: self.desk.at_work(),
            waiting: self.counts.waiting.load(Ordering::Relaxed),
            outbox,
            dead,
            turns: self.counts.turns.load(Ordering::Relaxed),
            repeated: self.counts.repeated.load(Ordering::Relaxed),
        }
    }
}
