//! What is on its way to a child. The sender writes what the pipe has room for; the pump writes the rest when there is room again, the
//! control lane first. Nobody waits for the child here, whether it reads or not.

use std::{
    collections::VecDeque,
    fs::File,
    io::{ErrorKind, Write},
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bespoke_plugin_api::{Code, Error, Result};
use bespoke_plugin_proxy::Link;
use bespoke_protocol::{
    Frame, HEADER_LEN, Lane,
    line::{LineWriter, Side, undelivered},
    parse,
};

/// Bytes that may wait for a child that does not read. Four times the longest message, so that a few of those may meet; more is a child
/// that will not come back.
pub(crate) const MOST_WAITING: usize = 256 << 20;

/// Shared by the link, which fills it, and the pump, which empties it.
pub(crate) struct Outbox {
    state: Mutex<State>,
    waker: Arc<Waker>,
}

/// Wakes a pump that waits.
pub(crate) struct Waker {
    /// A byte here does it.
    pipe: File,
    woken: AtomicBool,
}

impl Waker {
    /// Over the writing end of a pipe that does not block.
    pub(crate) fn new(pipe: OwnedFd) -> Arc<Self> {
        Arc::new(Waker { pipe: pipe.into(), woken: AtomicBool::new(false) })
    }

    pub(crate) fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            // A pipe that is full has woken it already.
            let _ = (&self.pipe).write(&[0]);
        }
    }

    /// The pump is awake; what comes now wakes it again.
    pub(crate) fn awake(&self) {
        self.woken.store(false, Ordering::Release);
    }
}

struct State {
    /// `None` once it is closed, by either side. The pump holds it too while it waits for room in it.
    stdin: Option<Arc<File>>,
    lines: LineWriter,
    /// A line that was written in part; nothing may overtake it.
    begun: Vec<u8>,
    written: usize,
    control: VecDeque<Vec<u8>>,
    data: VecDeque<Vec<u8>>,
    waiting: usize,
    /// Frames that could not be sent, answered in the child's place.
    returned: Vec<u8>,
    orders: Orders,
}

/// What the pump is asked to do.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Orders {
    /// Nothing more will be sent: the child shall end.
    pub(crate) finish: bool,
    /// The child shall end at once.
    pub(crate) kill: bool,
    /// The child has closed its standard input.
    pub(crate) deaf: bool,
    /// More waits than may.
    pub(crate) overfull: bool,
}

impl Outbox {
    /// An outbox over a pipe that does not block.
    pub(crate) fn new(stdin: OwnedFd, waker: Arc<Waker>) -> Arc<Self> {
        let state = State {
            stdin: Some(Arc::new(stdin.into())),
            lines: LineWriter::new(Side::Host),
            begun: Vec::new(),
            written: 0,
            control: VecDeque::new(),
            data: VecDeque::new(),
            waiting: 0,
            returned: Vec::new(),
            orders: Orders::default(),
        };
        Arc::new(Outbox { state: Mutex::new(state), waker })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the child to end: its standard input is closed once all is written.
    pub(crate) fn finish(&self) {
        self.lock().orders.finish = true;
        self.waker.wake();
    }

    /// Ends the child at once.
    pub(crate) fn kill(&self) {
        self.lock().orders.kill = true;
        self.waker.wake();
    }

    pub(crate) fn orders(&self) -> Orders {
        self.lock().orders
    }

    /// Frames that were answered here, for the pump to deliver.
    pub(crate) fn take_returned(&self) -> Vec<u8> {
        std::mem::take(&mut self.lock().returned)
    }

    /// The child has said what it can read.
    pub(crate) fn meet(&self, hello: &Frame<'_>) {
        self.lock().lines.meet(hello);
    }

    /// Frames from this side of the link itself: pings, and word of what did not arrive.
    pub(crate) fn put(&self, frames: &[u8]) {
        let mut state = self.lock();
        if state.stdin.is_some() {
            state.add(frames);
            state.write();
        }
    }

    /// Writes what has waited, as far as there is room.
    pub(crate) fn flush(&self) {
        let mut state = self.lock();
        state.write();
        if state.orders.finish && !state.has_more() {
            state.stdin = None;
        }
    }

    /// Closes the pipe whatever still waits.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.stdin = None;
        state.forget();
    }

    /// The pipe, as long as something waits for room in it.
    pub(crate) fn full_pipe(&self) -> Option<Arc<File>> {
        let state = self.lock();
        state.stdin.clone().filter(|_| state.has_more())
    }
}

impl State {
    fn has_more(&self) -> bool {
        self.written < self.begun.len() || !self.control.is_empty() || !self.data.is_empty()
    }

    fn forget(&mut self) {
        (self.begun, self.written, self.waiting) = (Vec::new(), 0, 0);
        self.control.clear();
        self.data.clear();
    }

    fn write(&mut self) {
        loop {
            if self.written >= self.begun.len() {
                let Some(next) = self.control.pop_front().or_else(|| self.data.pop_front()) else {
                    self.begun.clear();
                    self.written = 0;
                    return;
                };
                self.begun = next;
                self.written = 0;
            }
            let Some(stdin) = &self.stdin else { return self.forget() };
            match (&**stdin).write(&self.begun[self.written..]) {
                Ok(n) => {
                    self.written += n;
                    self.waiting = self.waiting.saturating_sub(n);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    // Why it reads no more is what the pump finds out.
                    self.stdin = None;
                    self.orders.deaf = true;
                    return self.forget();
                }
            }
        }
    }

    /// Puts frames in line. One that cannot be sent is answered here in the place of the child, so that nobody waits for ever.
    fn add(&mut self, mut frames: &[u8]) {
        while let Ok(Some((frame, len))) = parse(frames) {
            if let Err(error) = self.add_one(&frame) {
                let (mut back, mut instead) = (Vec::new(), Vec::new());
                undelivered(Side::Host, frame.kind, frame.id, &error, &mut back, &mut instead);
                self.returned.append(&mut back);
                while let Ok(Some((frame, len))) = parse(&instead) {
                    // Short, and written by us. One that does not fit either is for a child that takes nothing.
                    let _ = self.add_one(&frame);
                    instead.drain(..len);
                }
            }
            frames = &frames[len..];
        }
    }

    fn add_one(&mut self, frame: &Frame<'_>) -> Result<()> {
        let mut line = Vec::with_capacity(frame.head.len() + frame.blob.len() + HEADER_LEN + 96);
        self.lines.put(frame, &mut line)?;
        self.waiting += line.len();
        match frame.kind.lane() {
            Lane::Control => self.control.push_back(line),
            Lane::Data => self.data.push_back(line),
        }
        Ok(())
    }
}

/// The link of a child.
pub(crate) struct PipeLink(pub(crate) Arc<Outbox>);

impl Link for PipeLink {
    fn send(&self, _: Lane, frames: &[u8]) -> Result<()> {
        let mut state = self.0.lock();
        if state.orders.finish || state.orders.kill {
            return Err(Error::new(Code::PLUGIN_CRASHED, "the plugin's process is being ended").retryable());
        }
        // A child that has gone says why through the pump; until then it is as if it had not read this.
        if state.stdin.is_none() {
            return Ok(());
        }
        let waited = state.has_more();
        state.add(frames);
        if !waited {
            state.write();
        }
        if state.waiting > MOST_WAITING {
            state.orders.overfull = true;
            state.forget();
        }
        let pump_has_to = (!waited && state.has_more()) || !state.returned.is_empty() || state.orders != Orders::default();
        drop(state);
        if pump_has_to {
            self.0.waker.wake();
        }
        Ok(())
    }
}

impl Drop for PipeLink {
    /// Nobody holds a handle on the plugin any more.
    fn drop(&mut self) {
        self.0.finish();
    }
}
