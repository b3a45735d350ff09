//! What is on its way to a child. The sender writes what the pipe has room for; the pump writes the rest when there is room again, the
//! control lane first. Nobody waits for the child here, whether it reads or not.

use std::{
    collections::VecDeque,
    fs::File,
    io::{ErrorKind, Write},
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bespoke_plugin_api::{Code, Error, Result};
use bespoke_plugin_proxy::{Link, MOST_WAITING};
use bespoke_protocol::{
    Frame, HEADER_LEN, Lane,
    line::{LineWriter, Side, undelivered},
    parse,
};
use tokio::sync::Notify;

/// Capacity that a buffer keeps when it is empty.
const KEEP: usize = 1 << 20;

/// Shared by the link, which fills it, and the pump, which empties it.
pub(crate) struct Outbox {
    state: Mutex<State>,
    waker: Arc<Waker>,
}

/// Wakes a pump that waits, or is about to.
#[derive(Default)]
pub(crate) struct Waker(Notify);

impl Waker {
    pub(crate) fn wake(&self) {
        self.0.notify_one();
    }

    /// Once, however often it was woken since.
    pub(crate) async fn woken(&self) {
        self.0.notified().await;
    }
}

struct State {
    /// `None` once it is closed, by either side. The pump holds it too while it waits for room in it.
    stdin: Option<Arc<File>>,
    lines: LineWriter,
    /// A line that was written in part; nothing may overtake it.
    begun: Vec<u8>,
    written: usize,
    control: Queue,
    data: Queue,
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
            control: Queue::default(),
            data: Queue::default(),
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
        (self.control, self.data) = (Queue::default(), Queue::default());
    }

    fn write(&mut self) {
        loop {
            if self.written >= self.begun.len() {
                self.written = 0;
                self.begun.clear();
                self.begun.shrink_to(KEEP);
                if !(self.control.take(&mut self.begun) || self.data.take(&mut self.begun)) {
                    return;
                }
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
        let queue = match frame.kind.lane() {
            Lane::Control => &mut self.control,
            Lane::Data => &mut self.data,
        };
        self.waiting += queue.put(&mut self.lines, frame)?;
        Ok(())
    }
}

/// Lines that wait, one behind the other in one buffer: one that grows with what waits, so that a frame that waits costs no buffer of its own.
#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    /// How many of the bytes have left.
    taken: usize,
    /// The length of each line that waits.
    lens: VecDeque<usize>,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.lens.is_empty()
    }

    /// Appends a frame as a line, of this many bytes; or nothing.
    fn put(&mut self, lines: &mut LineWriter, frame: &Frame<'_>) -> Result<usize> {
        let end = self.bytes.len();
        self.bytes.reserve(frame.head.len() + frame.blob.len() + HEADER_LEN + 96);
        if let Err(error) = lines.put(frame, &mut self.bytes) {
            self.bytes.truncate(end);
            return Err(error);
        }
        let len = self.bytes.len() - end;
        self.lens.push_back(len);
        Ok(len)
    }

    /// Moves the first line into a buffer that is empty. False when there is none.
    fn take(&mut self, line: &mut Vec<u8>) -> bool {
        let Some(len) = self.lens.pop_front() else { return false };
        if self.taken == 0 && self.bytes.len() == len {
            std::mem::swap(line, &mut self.bytes);
            return true;
        }
        line.extend_from_slice(&self.bytes[self.taken..self.taken + len]);
        self.taken += len;
        if self.is_empty() {
            self.bytes.clear();
            self.bytes.shrink_to(KEEP);
            self.taken = 0;
        } else if self.taken > self.bytes.len() / 2 {
            // Each byte is moved once at most for one that has left.
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        true
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

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        pin::pin,
        task::{Context, Waker as Nobody},
    };

    use bespoke_protocol::{
        CxHead, Kind, Reassembler,
        line::{Incoming, LineReader},
        put_bytes_frame, put_call, put_plain, read_reply,
    };
    use rustix::{
        fs::{OFlags, fcntl_setfl},
        pipe::{PipeFlags, pipe_with},
    };

    use super::*;

    /// A link, and the other end of its pipe.
    fn link() -> (PipeLink, File) {
        let (child, stdin) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        fcntl_setfl(&stdin, OFlags::NONBLOCK).unwrap();
        (PipeLink(Outbox::new(stdin, Arc::default())), child.into())
    }

    /// Whether the pump was woken since it was asked last.
    fn woken(link: &PipeLink) -> bool {
        pin!(link.0.waker.woken()).poll(&mut Context::from_waker(Nobody::noop())).is_ready()
    }

    fn call(id: u32, bytes: usize) -> Vec<u8> {
        let mut frame = Vec::new();
        put_call(&mut frame, Kind::CALL, id, "tool.call", "", &CxHead::default(), &"x".repeat(bytes)).unwrap();
        frame
    }

    fn data(id: u32, bytes: usize) -> Vec<u8> {
        let mut frame = Vec::new();
        put_bytes_frame(&mut frame, id, &vec![b'x'; bytes]).unwrap();
        frame
    }

    /// What a child reads while its pump writes.
    fn read_all(link: &PipeLink, child: &mut File) -> Vec<(Kind, u32, usize)> {
        let mut lines = LineReader::new(Side::Host, 128 << 20);
        let (mut seen, mut piece) = (Vec::new(), vec![0; 1 << 16]);
        loop {
            link.0.flush();
            match child.read(&mut piece) {
                Ok(0) => return seen,
                Ok(n) => lines.feed(&piece[..n], |incoming| match incoming {
                    Incoming::Frame(frame) => seen.push((frame.kind, frame.id, frame.head.len().max(frame.blob.len()))),
                    other => panic!("{other:?}"),
                }),
                Err(e) if e.kind() == ErrorKind::WouldBlock && link.0.full_pipe().is_none() => return seen,
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(e) => panic!("{e}"),
            }
        }
    }

    #[test]
    fn control_overtakes_data_but_no_line_that_has_begun() {
        let (link, mut child) = link();
        // More than a pipe holds: from here on, everything waits.
        link.send(Lane::Data, &data(1, 300_000)).unwrap();
        assert!(link.0.full_pipe().is_some());
        link.send(Lane::Data, &data(2, 10)).unwrap();
        link.send(Lane::Control, &call(3, 10)).unwrap();
        link.send(Lane::Data, &data(4, 10)).unwrap();
        link.send(Lane::Control, &call(5, 10)).unwrap();
        let order: Vec<_> = read_all(&link, &mut child).into_iter().map(|(_, id, _)| id).collect();
        assert_eq!(order, [1, 3, 5, 2, 4]);
        assert_eq!(link.0.lock().waiting, 0);
    }

    #[test]
    fn a_child_that_does_not_read_is_waited_for_by_nobody_and_costs_so_much_memory() {
        let (link, _child) = link();
        let one = call(1, 16 << 20);
        for _ in 0..17 {
            link.send(Lane::Control, &one).unwrap();
        }
        assert!(link.0.orders().overfull);
        let state = link.0.lock();
        assert!(state.waiting <= MOST_WAITING && state.control.is_empty());
        drop(state);
        assert!(woken(&link) && !woken(&link), "the pump is woken, once");
    }

    #[test]
    fn what_is_too_long_for_the_child_is_answered_in_its_place() {
        let (link, mut child) = link();
        link.0.lock().lines = LineWriter::new(Side::Host).limit(1000);
        link.send(Lane::Control, &[call(7, 2000), call(8, 10)].concat()).unwrap();
        let mut told = Vec::new();
        Reassembler::new()
            .feed(&link.0.take_returned(), |frame| told.push((frame.id, read_reply::<()>(&frame).unwrap_err().code())))
            .unwrap();
        assert_eq!(told, [(7, Code::RESOURCE_EXHAUSTED)]);
        assert_eq!(read_all(&link, &mut child).len(), 1);
    }

    #[test]
    fn the_pipe_is_closed_behind_the_last_line() {
        let (link, mut child) = link();
        link.send(Lane::Data, &data(1, 300_000)).unwrap();
        link.0.finish();
        let mut late = Vec::new();
        put_plain(&mut late, Kind::CANCEL, 0, 2);
        assert!(link.send(Lane::Control, &late).is_err());
        assert_eq!(read_all(&link, &mut child).len(), 1);
        assert_eq!(child.read(&mut [0; 8]).unwrap(), 0);
    }

    #[test]
    fn a_child_that_has_closed_its_input_is_the_pumps_to_tell_of() {
        let (link, child) = link();
        drop(child);
        assert!(link.send(Lane::Control, &call(1, 1)).is_ok(), "the pump knows better why");
        assert!(link.0.orders().deaf);
        assert!(woken(&link));
    }
}
