//! Plugin code on threads that the host can do without: the only way in which a time limit holds against code that blocks.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bespoke_plugin_api::{Code, Error, Result};
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::oneshot,
};

use crate::slot::panicked;

/// Starts the threads, and knows those that were left behind.
#[derive(Default)]
pub(crate) struct Threads {
    late: Arc<Late>,
    seats: Arc<Seats>,
}

/// How many threads of the runtime run plugin code that may block them: never more than half, so that timers fire and others are
/// answered whatever it does.
#[derive(Default)]
pub(crate) struct Seats(AtomicUsize);

/// A thread of the runtime that may be blocked, as long as this lives.
pub(crate) struct Seat(Arc<Seats>);

impl Seats {
    /// One more, if there is one.
    pub(crate) fn take(self: &Arc<Self>, runtime: &Handle) -> Option<Seat> {
        let most = match runtime.runtime_flavor() {
            // It stands still with its only thread, which is the caller's, too; there is nothing to keep free.
            RuntimeFlavor::CurrentThread => usize::MAX,
            _ => runtime.metrics().num_workers() / 2,
        };
        let more = |taken: usize| (taken < most).then_some(taken + 1);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok().then(|| Seat(self.clone()))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Plugin code that did not come back in time and still runs, by plugin and name: `start-x` and `stop-x` on threads of their own,
/// `call-x` on a thread of the runtime or one of its own.
#[derive(Default)]
pub(crate) struct Late(Mutex<Vec<Left>>);

struct Left {
    plugin: String,
    name: String,
    since: Instant,
    key: Arc<()>,
}

/// One that is late, as long as this lives.
pub(crate) struct LateOne {
    late: Arc<Late>,
    key: Arc<()>,
}

impl Late {
    /// Notes one.
    pub(crate) fn enter(self: &Arc<Self>, plugin: &str, name: String) -> LateOne {
        let key = Arc::new(());
        self.lock().push(Left { plugin: plugin.to_owned(), name, since: Instant::now(), key: key.clone() });
        LateOne { late: self.clone(), key }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    /// How many of a plugin's calls.
    pub(crate) fn of(&self, plugin: &str) -> usize {
        self.lock().iter().filter(|left| left.plugin == plugin && left.name.starts_with("call-")).count()
    }

    /// For how long the first of a plugin's calls has blocked.
    pub(crate) fn longest(&self, plugin: &str) -> Option<Duration> {
        self.lock().iter().filter(|left| left.plugin == plugin && left.name.starts_with("call-")).map(|left| left.since.elapsed()).max()
    }

    /// Their names, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.lock().iter().map(|left| left.name.clone()).collect();
        names.sort();
        names
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Left>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for LateOne {
    fn drop(&mut self) {
        self.late.lock().retain(|left| !Arc::ptr_eq(&left.key, &self.key));
    }
}

/// Whether somebody still waits for the result of a thread.
#[derive(Clone)]
pub(crate) struct Waiting {
    phase: Arc<AtomicU8>,
    /// Filled by whoever stops waiting, emptied by the thread when it is done.
    late: Arc<Mutex<Option<LateOne>>>,
}

const RUNNING: u8 = 0;
/// The result was there in time.
const DONE: u8 = 1;
/// Whoever waited has gone; the thread goes on for nobody.
const LEFT: u8 = 2;

impl Threads {
    /// What did not come back in time and still runs.
    pub(crate) fn late(&self) -> &Arc<Late> {
        &self.late
    }

    /// For calls beside their callers.
    pub(crate) fn seats(&self) -> &Arc<Seats> {
        &self.seats
    }

    /// Runs `work` on a thread of that name and waits for its result; `None` when the limit passed first. A result that
    /// nobody waits for any more, because of the limit or because this future was dropped, goes to `unwanted`, still on the
    /// thread. A panic is caught; `what` says in its message what panicked.
    ///
    /// # Errors
    /// That of `work`, `PLUGIN_EXCEPTION`, or `RESOURCE_EXHAUSTED` when there is no thread to be had.
    pub(crate) async fn run<R: Send + 'static>(
        &self,
        plugin: &str,
        name: String,
        what: &'static str,
        limit: Duration,
        work: impl FnOnce(&Waiting) -> Result<R> + Send + 'static,
        unwanted: impl FnOnce(R) + Send + 'static,
    ) -> Result<Option<R>> {
        let waiting = Waiting { phase: Arc::default(), late: Arc::default() };
        let (tx, rx) = oneshot::channel();
        let of_thread = waiting.clone();
        let body = move || {
            let result = catch_unwind(AssertUnwindSafe(|| work(&of_thread))).unwrap_or_else(|panic| Err(panicked(what, &*panic)));
            let in_time = of_thread.phase.compare_exchange(RUNNING, DONE, Ordering::AcqRel, Ordering::Acquire).is_ok();
            let result = if in_time { tx.send(result).err() } else { Some(result) };
            if let Some(Ok(value)) = result {
                // A panic in here has nobody to be told to; the panic hook has written it.
                let _ = catch_unwind(AssertUnwindSafe(|| unwanted(value)));
            }
            drop(of_thread.late());
        };
        std::thread::Builder::new()
            .name(name.clone())
            .spawn(body)
            .map_err(|e| Error::new(Code::RESOURCE_EXHAUSTED, format!("no thread for the plugin: {e}")))?;
        let _leaves = Leaves { waiting, late: &self.late, plugin, name };
        match tokio::time::timeout(limit, rx).await {
            Ok(Ok(result)) => result.map(Some),
            // The sender is dropped without a word only when a value that panics on drop was on its way.
            Ok(Err(_)) => Err(Error::new(Code::PLUGIN_EXCEPTION, format!("{what}: its thread ended without a word"))),
            Err(_) => Ok(None),
        }
    }
}

impl Waiting {
    fn late(&self) -> Option<LateOne> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether nobody waits any more.
    pub(crate) fn is_over(&self) -> bool {
        self.phase.load(Ordering::Acquire) == LEFT
    }
}

/// Says that nobody waits any more, however the waiting ended.
struct Leaves<'w> {
    waiting: Waiting,
    late: &'w Arc<Late>,
    plugin: &'w str,
    name: String,
}

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        let Waiting { phase, late } = &self.waiting;
        // Noted first, so that the thread never takes away what was not there yet.
        let noted = self.late.enter(self.plugin, std::mem::take(&mut self.name));
        *late.lock().unwrap_or_else(PoisonError::into_inner) = Some(noted);
        if phase.compare_exchange(RUNNING, LEFT, Ordering::AcqRel, Ordering::Acquire).is_err() {
            drop(self.waiting.late());
        }
    }
}
