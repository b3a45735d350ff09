//! What all parts of a server share. Decides nothing.

use std::{
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
use tokio::sync::watch;

use crate::{
    Parts, ServeConfig, Status,
    desk::Desk,
    lines::{Line, Lines},
};

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
    /// Cancelled when hooks that are told of the start have had their time.
    pub(crate) greeting: CancelToken,
    /// Whether they have been told.
    pub(crate) greeted: watch::Sender<bool>,
    lines: Mutex<Lines>,
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
        let over = CancelToken::new();
        Ok(Arc::new(Core {
            host,
            agent: ArcSwap::from_pointee(agent),
            state,
            notes: ArcSwapOption::new(notes.map(Arc::new)),
            config: ArcSwap::from_pointee(config),
            desk: Desk::default(),
            answers: CancelToken::new(),
            greeting: over.child(),
            greeted: watch::Sender::new(false),
            over,
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

    /// The channels, those that end among them.
    pub(crate) fn table(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The channels that are served.
    pub(crate) fn lines(&self) -> Vec<Arc<Line>> {
        self.table().served.values().cloned().collect()
    }

    pub(crate) fn line(&self, channel: &str) -> Option<Arc<Line>> {
        self.table().served.get(channel).cloned()
    }

    /// There is something to send over a channel, if it is served: by whoever serves it now.
    pub(crate) fn wake(&self, channel: &str) {
        if let Some(line) = self.line(channel) {
            line.post.wake();
        }
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
