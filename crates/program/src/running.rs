//! Runs one program: starts it in a process group of its own, feeds and reads it at the same time, and ends the group, whatever
//! happens. One thread looks at all pipes; a second only waits for the program's end.
//!
//! What has started a program may be killed without a word. So the group has a keeper, which reads from a pipe that only this process
//! holds open, and kills the group when that is closed. The kernel's own signal for the end of a parent would reach the program alone, and
//! nothing that it has started.

use std::{
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, ioctl_fionbio},
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid},
};

use crate::{Capture, Job};

/// Bytes that are read or written at once: what a pipe holds.
const CHUNK: usize = 64 * 1024;

/// Chunks of a pipe that are read after the program's end: what was in the pipe, even a large one. More can only come from somebody
/// who has left the group.
const LAST_CHUNKS: usize = 16;

/// A shell, as every Unix has one, and what it does: nothing, until nobody holds its pipe any more.
const KEEPER: (&str, &str) = ("/bin/sh", "read line; kill -9 0");

/// What became of a program.
#[derive(Debug)]
pub struct Outcome {
    /// Why it ended.
    pub end: End,
    /// How it ended.
    pub status: ExitStatus,
    /// Its output.
    pub stdout: Capture,
    /// Its errors.
    pub stderr: Capture,
}

/// Why a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself, or by a signal of somebody else.
    Itself,
    /// Its time was over.
    TimedOut,
    /// The caller has gone.
    Cancelled,
}

/// Runs a program to its end, and blocks as long. When something comes over `caller`, or its other end is closed, the program is
/// killed. What it has left in its group is killed in any case, also when this process ends in the middle of it, however it ends.
///
/// # Errors
/// When it cannot be started, or not be looked after.
pub fn supervise(job: &Job, caller: &UnixStream) -> io::Result<Outcome> {
    let begun = Instant::now();
    let stdin = if job.stdin.is_empty() { Stdio::null() } else { Stdio::piped() };
    let mut command = Command::new(&job.program);
    command.args(&job.args).current_dir(&job.folder).env_clear().envs(job.environment.iter().map(|(name, value)| (name, value)));
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut group = Group::start(&mut command)?;
    let mut input = Input { pipe: group.child.stdin.take(), rest: &job.stdin };
    let mut stdout = Output::new(group.child.stdout.take(), job.max_output)?;
    let mut stderr = Output::new(group.child.stderr.take(), job.max_output)?;
    if let Some(pipe) = &input.pipe {
        ioctl_fionbio(pipe, true)?;
    }
    let exited = group.watch()?;
    let deadline = begun + job.timeout;
    let end = loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break End::TimedOut;
        }
        let ready = wait(caller.as_fd(), exited.as_fd(), &stdout, &stderr, &input, left)?;
        if ready.caller {
            break End::Cancelled;
        }
        if ready.stdout {
            stdout.read_some();
        }
        if ready.stderr {
            stderr.read_some();
        }
        if ready.stdin {
            input.write_some();
        }
        if ready.exited {
            break End::Itself;
        }
    };
    let status = group.end()?;
    drop(input);
    stdout.read_rest();
    stderr.read_rest();
    Ok(Outcome { end, status, stdout: stdout.capture, stderr: stderr.capture })
}

/// What there is to do.
#[derive(Default)]
struct Ready {
    caller: bool,
    exited: bool,
    stdout: bool,
    stderr: bool,
    stdin: bool,
}

/// Waits until something can be done, or the time is over.
fn wait(
    caller: BorrowedFd<'_>,
    exited: BorrowedFd<'_>,
    stdout: &Output,
    stderr: &Output,
    input: &Input<'_>,
    time: Duration,
) -> io::Result<Ready> {
    let mut ready = Ready::default();
    let mut fds = vec![PollFd::from_borrowed_fd(caller, PollFlags::IN), PollFd::from_borrowed_fd(exited, PollFlags::IN)];
    let mut marks = vec![&mut ready.caller, &mut ready.exited];
    if let Some(pipe) = &stdout.pipe {
        fds.push(PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN));
        marks.push(&mut ready.stdout);
    }
    if let Some(pipe) = &stderr.pipe {
        fds.push(PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN));
        marks.push(&mut ready.stderr);
    }
    if let Some(pipe) = &input.pipe {
        fds.push(PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::OUT));
        marks.push(&mut ready.stdin);
    }
    // Rounded up: waking a moment early would only turn in circles.
    let time = Timespec::try_from(time + Duration::from_millis(1)).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    match poll(&mut fds, Some(&time)) {
        Ok(_) => {}
        Err(Errno::INTR) => return Ok(Ready::default()),
        Err(e) => return Err(e.into()),
    }
    // Any event counts: an end or a fault shows when the pipe is used.
    for (fd, mark) in fds.iter().zip(marks) {
        *mark = !fd.revents().is_empty();
    }
    Ok(ready)
}

/// A pipe that a program writes to.
struct Output {
    pipe: Option<Pipe>,
    capture: Capture,
}

type Pipe = Box<dyn ReadFd>;

/// Either of the two.
trait ReadFd: Read + AsFd {}

impl<T: Read + AsFd> ReadFd for T {}

impl Output {
    fn new(pipe: Option<impl ReadFd + 'static>, most: usize) -> io::Result<Self> {
        let pipe = pipe.map(|pipe| Box::new(pipe) as Pipe);
        if let Some(pipe) = &pipe {
            ioctl_fionbio(pipe.as_fd(), true)?;
        }
        Ok(Output { pipe, capture: Capture::new(most) })
    }

    /// Reads once; whether there was something.
    fn read_some(&mut self) -> bool {
        let Some(pipe) = &mut self.pipe else { return false };
        let mut chunk = vec![0; CHUNK];
        match pipe.read(&mut chunk) {
            Ok(0) => self.pipe = None,
            Ok(n) => {
                self.capture.push(&chunk[..n]);
                return true;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return true,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.pipe = None,
        }
        false
    }

    /// Reads what is in the pipe, and does not wait for whoever else may hold it open.
    fn read_rest(&mut self) {
        for _ in 0..LAST_CHUNKS {
            if !self.read_some() {
                break;
            }
        }
        self.pipe = None;
    }
}

/// The pipe that a program reads from.
struct Input<'a> {
    pipe: Option<ChildStdin>,
    rest: &'a [u8],
}

impl Input<'_> {
    fn write_some(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        match pipe.write(&self.rest[..self.rest.len().min(CHUNK)]) {
            Ok(n) => self.rest = &self.rest[n..],
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            // A program may end without reading it all.
            Err(_) => self.rest = &[],
        }
        if self.rest.is_empty() {
            self.pipe = None;
        }
    }
}

/// A program and all that it started, as far as that stayed in its group. Killed when dropped.
struct Group {
    child: Child,
    watcher: Option<JoinHandle<()>>,
    keeper: Keeper,
    ended: bool,
}

impl Group {
    fn start(command: &mut Command) -> io::Result<Self> {
        let keeper = Keeper::start()?;
        let child = command.process_group(keeper.group.as_raw_nonzero().get()).spawn()?;
        Ok(Group { child, watcher: None, keeper, ended: false })
    }

    /// A stream that ends when the program does. The program is not reaped by that: its number stays its own until [`Group::end`].
    fn watch(&mut self) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        let pid = pid_of(&self.child)?;
        let watcher = std::thread::Builder::new().name("program".into()).spawn(move || {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while matches!(waitid(WaitId::Pid(pid), options), Err(Errno::INTR)) {}
            drop(theirs);
        })?;
        self.watcher = Some(watcher);
        Ok(ours)
    }

    /// Kills what is left of the group, and says how the program ended.
    fn end(&mut self) -> io::Result<ExitStatus> {
        self.ended = true;
        self.keeper.kill();
        // By its own number, too: it may have left the group that it was put in.
        let _ = self.child.kill();
        if let Some(watcher) = self.watcher.take() {
            let _ = watcher.join();
        }
        self.child.wait()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.end();
        }
    }
}

/// The first of a group, which kills all of it when this process is gone. Ends with its group when dropped.
struct Keeper {
    child: Child,
    group: Pid,
}

impl Keeper {
    fn start() -> io::Result<Self> {
        let (shell, script) = KEEPER;
        let mut command = Command::new(shell);
        command.args(["-c", script]).current_dir("/").env_clear().process_group(0);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        match pid_of(&child) {
            Ok(group) => Ok(Keeper { child, group }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// It is not reaped by that: until then no other group can have its number.
    fn kill(&self) {
        let _ = kill_process_group(self.group, Signal::KILL);
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.kill();
        let _ = self.child.wait();
    }
}

fn pid_of(child: &Child) -> io::Result<Pid> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| io::Error::other("its number is no number of a process"))
}
