//! What this machine does for the guest core: time, randomness, threads for work that blocks, and a pipe that ends a wait.

use std::{
    io::{self, PipeReader, PipeWriter, Read, Write},
    sync::atomic::{AtomicBool, Ordering},
    thread::ThreadId,
    time::{Duration, SystemTime},
};

use bespoke_plugin_api::{BoxFuture, Error, Result, Timestamp};
use bespoke_plugin_guest::{Platform, on_a_thread};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

/// The machine. The driver's thread rests on it; whoever wakes it writes a byte only then, so that a wake costs nothing while
/// the driver works.
pub(crate) struct Machine {
    /// The driver's own: what it wakes while it works, it sees before it rests.
    driver: ThreadId,
    noted: AtomicBool,
    resting: AtomicBool,
    reader: PipeReader,
    writer: PipeWriter,
}

impl Machine {
    pub(crate) fn new() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        fcntl_setfl(&reader, fcntl_getfl(&reader)? | OFlags::NONBLOCK)?;
        fcntl_setfl(&writer, fcntl_getfl(&writer)? | OFlags::NONBLOCK)?;
        Ok(Machine { driver: std::thread::current().id(), noted: AtomicBool::new(false), resting: AtomicBool::new(false), reader, writer })
    }

    /// The driver is going to wait for [`woken`](Self::woken). True when it need not.
    pub(crate) fn rest(&self) -> bool {
        self.resting.store(true, Ordering::SeqCst);
        self.noted.swap(false, Ordering::SeqCst)
    }

    /// The driver works again; `woken` says that somebody has written.
    pub(crate) fn work(&self, woken: bool) {
        self.resting.store(false, Ordering::SeqCst);
        self.noted.store(false, Ordering::SeqCst);
        if woken {
            // What does not fit one read ends one wait more.
            let _ = (&self.reader).read(&mut [0; 64]);
        }
    }

    pub(crate) fn woken(&self) -> &PipeReader {
        &self.reader
    }
}

impl Platform for Machine {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Timestamp(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }

    fn random(&self, buffer: &mut [u8]) -> Result<()> {
        getrandom::fill(buffer).map_err(|e| Error::internal(format!("no random bytes: {e}")))
    }

    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        on_a_thread(work)
    }

    fn wake(&self) {
        if std::thread::current().id() == self.driver {
            return;
        }
        if !self.noted.swap(true, Ordering::SeqCst) && self.resting.load(Ordering::SeqCst) {
            // A full pipe wakes as well as one with a byte more.
            let _ = (&self.writer).write(&[1]);
        }
    }
}
