//! One instance in this library: the core, and what the machine does for it.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bespoke_plugin_api::{BoxFuture, Descriptor, Result, Timestamp};
use bespoke_plugin_guest::{Core, Platform, on_a_thread};

use crate::{host::Host, logs};

/// Capacity that the way to the host keeps.
const KEEP: usize = 1 << 20;

thread_local! {
    /// The number of the instance that this thread steps; none is 0. Nothing that would have to be torn down with the thread.
    static STEPPING: Cell<u64> = const { Cell::new(0) };
}

/// The instance that this thread steps.
pub(crate) fn stepping() -> u64 {
    STEPPING.get()
}

pub(crate) struct Guest {
    core: Core,
    number: u64,
    frames: Vec<u8>,
}

impl Guest {
    pub(crate) fn new(plugin: &'static Descriptor, host: Host) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let core = Core::new(plugin, Arc::new(Machine { host, number }));
        logs::enter(plugin.id(), number, core.logger());
        Guest { core, number, frames: Vec::new() }
    }

    /// One step of the core. True when there is more to do at once.
    pub(crate) fn step(&mut self, bytes: &[u8], say: impl FnOnce(&[u8])) -> Result<bool> {
        let Guest { core, number, frames } = self;
        let _on = On::step(*number);
        let more = core.step(bytes, frames)?;
        if !frames.is_empty() {
            say(frames);
            frames.clear();
            frames.shrink_to(KEEP);
        }
        Ok(more)
    }

    /// Its plugin is dropped while its lines still have somewhere to go; what it says last, nobody hears.
    pub(crate) fn close(self: Box<Self>) {
        let number = self.number;
        let _on = On::step(number);
        logs::leave(number);
        drop(self);
    }
}

/// This thread steps an instance, as long as this lives.
struct On(u64);

impl On {
    fn step(number: u64) -> Self {
        On(STEPPING.replace(number))
    }
}

impl Drop for On {
    fn drop(&mut self) {
        STEPPING.set(self.0);
    }
}

struct Machine {
    host: Host,
    number: u64,
}

impl Platform for Machine {
    fn now(&self) -> Timestamp {
        self.host.now()
    }

    fn random(&self, buffer: &mut [u8]) -> Result<()> {
        self.host.random(buffer)
    }

    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        on_a_thread(work)
    }

    /// What the thread that steps it wakes, the step sees before it ends.
    fn wake(&self) {
        if stepping() != self.number {
            self.host.wake();
        }
    }
}
