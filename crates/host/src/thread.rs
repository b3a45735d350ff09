//! Plugin code on threads that the host can do without: the only way in which a time limit holds against code that blocks.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bespoke_plugin_api::{Code, Error, Result};
use tokio::sync::oneshot;

use crate::slot::panicked;

/// Starts the threads, and counts those that were left behind.
#[derive(Default)]
pub(crate) struct Threads {
    late: Arc<AtomicUsize>,
}

/// Whether somebody still waits for the result of a thread.
#[derive(Clone)]
pub(crate) struct Waiting {
    phase: Arc<AtomicU8>,
    late: Arc<AtomicUsize>,
}

const RUNNING: u8 = 0;
/// The result was there in time.
const DONE: u8 = 1;
/// Whoever waited has gone; the thread goes on for nobody.
const LEFT: u8 = 2;

impl Threads {
    /// Threads that did not come back in time and still run.
    pub(crate) fn late(&self) -> usize {
        self.late.load(Ordering::Relaxed)
    }

    /// Runs `work` on a thread of that name and waits for its result; `None` when the limit passed first. A result that
    /// nobody waits for any more, because of the limit or because this future was dropped, goes to `unwanted`, still on the
    /// thread. A panic is caught; `what` says in its message what panicked.
    ///
    /// # Errors
    /// That of `work`, `PLUGIN_EXCEPTION`, or `RESOURCE_EXHAUSTED` when there is no thread to be had.
    pub(crate) async fn run<R: Send + 'static>(
        &self,
        name: String,
        what: &'static str,
        limit: Duration,
        work: impl FnOnce(&Waiting) -> Result<R> + Send + 'static,
        unwanted: impl FnOnce(R) + Send + 'static,
    ) -> Result<Option<R>> {
        let waiting = Waiting { phase: Arc::default(), late: self.late.clone() };
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
            if !in_time {
                of_thread.late.fetch_sub(1, Ordering::Relaxed);
            }
        };
        std::thread::Builder::new()
            .name(name)
            .spawn(body)
            .map_err(|e| Error::new(Code::RESOURCE_EXHAUSTED, format!("no thread for the plugin: {e}")))?;
        let _leaves = Leaves(waiting);
        match tokio::time::timeout(limit, rx).await {
            Ok(Ok(result)) => result.map(Some),
            // The sender is dropped without a word only when a value that panics on drop was on its way.
            Ok(Err(_)) => Err(Error::new(Code::PLUGIN_EXCEPTION, format!("{what}: its thread ended without a word"))),
            Err(_) => Ok(None),
        }
    }
}

impl Waiting {
    /// Whether nobody waits any more.
    pub(crate) fn is_over(&self) -> bool {
        self.phase.load(Ordering::Acquire) == LEFT
    }
}

/// Says that nobody waits any more, however the waiting ended.
struct Leaves(Waiting);

impl Drop for Leaves {
    fn drop(&mut self) {
        let Waiting { phase, late } = &self.0;
        // Counted first, so that the thread never takes away what was not added.
        late.fetch_add(1, Ordering::Relaxed);
        if phase.compare_exchange(RUNNING, LEFT, Ordering::AcqRel, Ordering::Acquire).is_err() {
            late.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
