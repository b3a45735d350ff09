//! What a command says, on its way to whoever asked: as much as there is room for, without secrets, and nothing after its end.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use bespoke_plugin_api::{Output, OutputSink};

use crate::Redactor;

/// Most bytes that one run of a command says.
pub(crate) const MOST_OUTPUT: usize = 1 << 20;
/// What a line costs beside its bytes: whoever keeps lines keeps them as strings.
const PER_LINE: usize = 32;

/// An output with an end.
pub(crate) struct Bounded {
    to: Output,
    redactor: Redactor,
    room: AtomicUsize,
    /// It is said once that there was more.
    full: AtomicBool,
    over: AtomicBool,
}

impl Bounded {
    pub(crate) fn new(to: Output, redactor: Redactor) -> Arc<Self> {
        Arc::new(Bounded { to, redactor, room: AtomicUsize::new(MOST_OUTPUT), full: AtomicBool::new(false), over: AtomicBool::new(false) })
    }

    /// Whether a text may pass. When one does not, what comes after it does not either: a hole in the middle would not be seen.
    fn takes(&self, text: &str) -> bool {
        if self.over.load(Ordering::Acquire) || self.full.load(Ordering::Acquire) {
            return false;
        }
        let took = self.room.fetch_update(Ordering::AcqRel, Ordering::Acquire, |room| room.checked_sub(text.len() + PER_LINE)).is_ok();
        if !took && !self.full.swap(true, Ordering::AcqRel) {
            self.to.note(&format!("the command says more than {} KiB; the rest is left out", MOST_OUTPUT >> 10));
        }
        took
    }
}

impl OutputSink for Bounded {
    fn line(&self, text: &str) {
        if self.takes(text) {
            self.to.line(&self.redactor.redact(text));
        }
    }

    fn note(&self, text: &str) {
        if self.takes(text) {
            self.to.note(&self.redactor.redact(text));
        }
    }
}

/// Closes an output with the run of the command: code that was left behind speaks to nobody.
pub(crate) struct Closes(pub(crate) Arc<Bounded>);

impl Drop for Closes {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Release);
    }
}
