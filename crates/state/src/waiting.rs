//! How a thread waits for somebody else who has the file: for a moment as it is, for longer with its other tasks in other hands. What is
//! waited for is not known here.

use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::runtime::{Handle, RuntimeFlavor};

/// How long a thread just waits before it hands its other tasks over. Longer than what accesses of this process take, which are done in less
/// than a millisecond where the machine is not busy: to hand over makes tokio begin a thread, and with it memory, for each that waits.
pub(crate) const SHORT: Duration = Duration::from_millis(100);

/// Whoever holds it is done at once, unless it waits for another process. A thread that panicked inside a transaction has rolled it back
/// on its way out, so its lock means nothing, and there is no poison.
pub(crate) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    held_after(SHORT, mutex)
}

fn held_after<T>(short: Duration, mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.try_lock_for(short).unwrap_or_else(|| waiting(|| mutex.lock()))
}

/// Does what only waits, and for long. A worker of a runtime with several threads hands its other tasks to another one first.
pub(crate) fn waiting<T>(wait: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(wait),
        _ => wait(),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
            mpsc,
        },
        thread,
    };

    use tokio::runtime::{Builder, Runtime};

    use super::*;

    /// A runtime of one worker, and how many threads it has begun.
    fn runtime() -> (Runtime, Arc<AtomicUsize>) {
        let begun = Arc::new(AtomicUsize::new(0));
        let counted = begun.clone();
        let mut builder = Builder::new_multi_thread();
        let builder = builder.worker_threads(1).on_thread_start(move || _ = counted.fetch_add(1, Ordering::SeqCst));
        (builder.build().unwrap(), begun)
    }

    #[test]
    fn who_waits_for_a_moment_begins_no_thread() {
        let (runtime, begun) = runtime();
        let lock = Arc::new(Mutex::new(()));
        // Sometimes it is free again before the other one looks.
        for _ in 0..200 {
            let guard = lock.lock();
            let (tell, told) = mpsc::channel();
            let wanted = lock.clone();
            let waits = runtime.spawn(async move {
                tell.send(()).unwrap();
                drop(held_after(Duration::from_secs(600), &wanted));
            });
            told.recv().unwrap();
            (0..100).for_each(|_| thread::yield_now());
            drop(guard);
            runtime.block_on(waits).unwrap();
        }
        assert_eq!(begun.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn who_waits_for_longer_lets_other_tasks_go_on() {
        let (runtime, _) = runtime();
        let lock = Arc::new(Mutex::new(()));
        let guard = lock.lock();
        let wanted = lock.clone();
        let waits = runtime.spawn(async move { drop(held(&wanted)) });
        // The only worker waits, or is about to.
        runtime.block_on(runtime.spawn(async {})).unwrap();
        drop(guard);
        runtime.block_on(waits).unwrap();
    }
}
