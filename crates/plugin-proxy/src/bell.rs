//! What wakes the pump of a guest in memory. What the pump then does is `inline`'s.

use std::{
    future::poll_fn,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Poll, Wake, Waker},
};

/// What wakes the pump.
#[derive(Default)]
pub(crate) struct Bell {
    rung: AtomicBool,
    /// Rung while a sender had the turn: it is rung again when the turn is given back.
    left: AtomicBool,
    pump: Mutex<Option<Waker>>,
}

impl Bell {
    /// Wakes the pump, once however often it rings.
    pub(crate) fn ring(&self) {
        if !self.rung.swap(true, Ordering::SeqCst) {
            let pump = self.pump.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(pump) = pump {
                pump.wake();
            }
        }
    }

    /// For who has the turn.
    pub(crate) fn leave(&self) {
        self.left.store(true, Ordering::SeqCst);
    }

    /// The turn was given back.
    pub(crate) fn back(&self) {
        if self.left.swap(false, Ordering::SeqCst) {
            self.ring();
        }
    }

    /// Waits until it has rung.
    pub(crate) async fn rung(&self) {
        poll_fn(|cx| {
            if self.rung.swap(false, Ordering::SeqCst) {
                return Poll::Ready(());
            }
            *self.pump.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
            // It may have rung in between, and found nobody.
            if self.rung.swap(false, Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}
