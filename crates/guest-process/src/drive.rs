//! The loop between the pipes and the core. Ends with the host: at the end of its input, or when it says goodbye.

use std::{
    fs::File,
    io::{self, ErrorKind, Read, Write},
    os::fd::AsFd,
    process::ExitCode,
    sync::Arc,
};

use bespoke_plugin_api::{Code, Descriptor, Level};
use bespoke_plugin_guest::{Core, Logger};
use bespoke_protocol::{
    MAX_FRAME, Reassembler,
    line::{Incoming, LineReader, LineWriter, Side},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::Errno,
};

use crate::{logs, platform::Machine};

/// Bytes on their way to the host above which the core is not asked for more: its streams wait, its log lines are dropped.
const HIGH_WATER: usize = 256 << 10;

/// Bytes of one read: what a host lets its pipe hold.
const READ: usize = 128 << 10;

/// Capacity that the way to the host keeps.
const KEEP: usize = 1 << 20;

/// A message of at most so many bytes is not refused with a message: that could be refused in turn.
const SHORT: usize = 1024;

/// Serves a plugin until the host is gone. Call it first in `main`, before anything is printed.
pub fn serve(descriptor: &'static Descriptor) -> ExitCode {
    match Pipes::take().and_then(|pipes| Driver::new(descriptor, pipes)?.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // Nobody is left to be told when this fails too.
            let _ = writeln!(io::stderr(), "ERROR the link to the host: {e}");
            ExitCode::FAILURE
        }
    }
}

/// The ends of the pipes to the host, which from now on nobody else in this process has.
struct Pipes {
    input: File,
    output: File,
}

impl Pipes {
    fn take() -> io::Result<Self> {
        let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        // Neither is inherited by what the plugin starts. Its prints go to the log, and it has nothing to read: a pipe that nobody
        // writes to, because there may be no /dev/null where it is walled in.
        rustix::stdio::dup2_stdout(io::stderr())?;
        let (nothing, _) = io::pipe()?;
        rustix::stdio::dup2_stdin(nothing)?;
        // A host that reads slowly must not keep the plugin from hearing that a call is cancelled.
        fcntl_setfl(&output, fcntl_getfl(&output)? | OFlags::NONBLOCK)?;
        Ok(Pipes { input, output })
    }
}

struct Driver {
    core: Core,
    machine: Arc<Machine>,
    logger: Logger,
    pipes: Pipes,
    writer: LineWriter,
    /// Lines of which the first `written` bytes have left.
    out: Vec<u8>,
    written: usize,
    /// Frames on their way from the core to `out`.
    frames: Vec<u8>,
}

impl Driver {
    fn new(descriptor: &'static Descriptor, pipes: Pipes) -> io::Result<Self> {
        let machine = Arc::new(Machine::new()?);
        let core = Core::new(descriptor, machine.clone());
        let logger = core.logger();
        logs::install(descriptor.id(), &logger);
        let writer = LineWriter::new(Side::Guest);
        Ok(Driver { core, machine, logger, pipes, writer, out: Vec::new(), written: 0, frames: Vec::new() })
    }

    fn run(mut self) -> io::Result<()> {
        let mut reader = LineReader::new(Side::Host, MAX_FRAME);
        let mut buffer = vec![0; READ];
        loop {
            let more = self.step();
            match self.flush() {
                Ok(()) => {}
                // The host has gone, and takes nothing more.
                Err(e) if e.kind() == ErrorKind::BrokenPipe => return Ok(()),
                Err(e) => return Err(e),
            }
            if self.core.goodbye().is_some() && self.out.is_empty() {
                return Ok(());
            }
            if self.wait(more)? {
                match self.pipes.input.read(&mut buffer) {
                    Ok(0) => return Ok(()),
                    Ok(len) => self.take(&mut reader, &buffer[..len]),
                    Err(e) if matches!(e.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                    Err(e) => return Err(e),
                }
            }
        }
    }

    /// Polls the core and takes what it has to say. True when there is more to do at once.
    fn step(&mut self) -> bool {
        let mut more = self.core.poll();
        if self.out.len() - self.written < HIGH_WATER {
            more |= self.core.drain(&mut self.frames);
            more |= self.encode();
        }
        more
    }

    /// Turns frames into lines. True when one was refused: the core has something else to say in its place.
    fn encode(&mut self) -> bool {
        let Driver { core, writer, out, frames, logger, .. } = self;
        let mut refused = Vec::new();
        // The core's own bytes are frames.
        let _ = Reassembler::new().feed(frames, |frame| {
            if let Err(e) = writer.put(&frame, out) {
                refused.push((frame.kind, frame.id, frame.head.len() + frame.blob.len(), e));
            }
        });
        frames.clear();
        frames.shrink_to(KEEP);
        let any = !refused.is_empty();
        for (kind, id, len, error) in refused {
            match error.code() {
                Code::RESOURCE_EXHAUSTED if len > SHORT => core.undelivered(Side::Guest, kind, id, &error),
                _ => logger.log(Level::Error, error.message()),
            }
        }
        any
    }

    fn take(&mut self, reader: &mut LineReader, bytes: &[u8]) {
        let Driver { core, writer, logger, .. } = self;
        reader.feed(bytes, |incoming| match incoming {
            Incoming::Frame(frame) => {
                writer.meet(&frame);
                core.deliver_frame(&frame);
            }
            Incoming::Stray(line) => {
                logger.log(Level::Warn, &format!("the host sent a line that is no message: {}", String::from_utf8_lossy(line)));
            }
            Incoming::TooLong(skipped) => {
                let error = skipped.error();
                match (skipped.kind, skipped.id) {
                    (Some(kind), Some(id)) => core.undelivered(Side::Host, kind, id, &error),
                    _ => logger.log(Level::Warn, error.message()),
                }
            }
        });
    }

    /// Writes what the pipe takes.
    fn flush(&mut self) -> io::Result<()> {
        while self.written < self.out.len() {
            match self.pipes.output.write(&self.out[self.written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(len) => self.written += len,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            }
        }
        self.out.clear();
        self.out.shrink_to(KEEP);
        self.written = 0;
        Ok(())
    }

    /// Waits for the host, for room on the way to it, and for whoever wakes the core. True when the host has said something.
    fn wait(&mut self, more: bool) -> io::Result<bool> {
        // A wake from here on ends the waiting.
        let at_once = self.machine.rest() || more;
        let mut fds = [
            PollFd::new(&self.pipes.input, PollFlags::IN),
            PollFd::new(self.machine.woken(), PollFlags::IN),
            PollFd::new(&self.pipes.output, PollFlags::OUT),
        ];
        // A pipe without a reader is always ready: it is looked at only when something is to be written.
        let fds = if self.out.is_empty() { &mut fds[..2] } else { &mut fds[..] };
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        match poll(fds, at_once.then_some(&none)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        let (input, woken) = (fds[0].revents(), !fds[1].revents().is_empty());
        self.machine.work(woken);
        Ok(!input.is_empty())
    }
}
