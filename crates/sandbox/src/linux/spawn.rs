//! The host's end: starts a supervisor, gives it its orders, holds the lifeline. It waits for nothing but the start of a program.

use std::{
    fmt,
    io::{self, BufRead, BufReader, Read, Write},
    net::Shutdown,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::{ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    time::Duration,
};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::{Deserialize, Serialize};

use crate::{Policy, Report, Spawn};

/// What a supervisor is told first.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Orders {
    pub(super) policy: Policy,
    pub(super) command: Vec<Bytes>,
    pub(super) env: Vec<(Bytes, Bytes)>,
}

/// Text of the system, which may be no text.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Bytes {
    Text(String),
    Raw(Vec<u8>),
}

/// What a supervisor is told later, a line each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    /// Ask the command to end, and kill what is left after so many milliseconds.
    Stop(u64),
}

/// The longest line that a host reads of a supervisor.
const LONGEST_REPORT: u64 = 64 << 10;

/// A command behind its wall.
///
/// Dropping it ends the command as [`Child::kill`] does, and waits for it on a thread of its own.
pub struct Child {
    /// The command's standard input.
    pub stdin: Option<ChildStdin>,
    /// The command's standard output.
    pub stdout: Option<ChildStdout>,
    /// The command's standard error.
    pub stderr: Option<ChildStderr>,
    /// What the supervisor tells, to be read on a thread of the caller; nothing is lost for the command when nobody reads.
    pub reports: Option<Reports>,
    control: UnixStream,
    /// Not there only while it is dropped.
    supervisor: Option<std::process::Child>,
    id: u32,
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child").field("supervisor", &self.id).finish_non_exhaustive()
    }
}

/// What a supervisor tells, in order. Ends when nothing is left of the command.
#[derive(Debug)]
pub struct Reports {
    lines: BufReader<UnixStream>,
}

impl Iterator for Reports {
    type Item = io::Result<Report>;

    fn next(&mut self) -> Option<io::Result<Report>> {
        let mut line = Vec::new();
        match (&mut self.lines).take(LONGEST_REPORT).read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_slice(&line).map_err(io::Error::from)),
            // A supervisor that was killed before it had read everything.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => None,
            Err(error) => Some(Err(error)),
        }
    }
}

/// Starts a command behind a wall. What becomes of it is told by [`Child::reports`], also when it cannot be executed.
///
/// # Errors
/// When the supervisor cannot be started: the program or the folder is not there, or the system is out of something; and when a path
/// of the policy is not UTF-8.
pub fn spawn(spawn: Spawn) -> io::Result<Child> {
    let orders = Orders {
        policy: spawn.policy,
        command: spawn.command.into_iter().map(Bytes::from).collect(),
        env: spawn.env.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
    };
    let orders = serde_json::to_vec(&orders)?;

    let (control, theirs) = UnixStream::pair()?;
    let (stdin_of_command, stdin) = io::pipe()?;
    // Nothing runs between fork and exec, so that the standard library may use `posix_spawn`, which does not copy the page tables of a
    // host with large models. The environment is the command's, not the supervisor's: a variable of the loader would change both.
    let mut supervisor = Command::new(&spawn.program)
        .args(&spawn.verb)
        .env_clear()
        .current_dir(&spawn.cwd)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let child = Child {
        stdin: Some(ChildStdin::from(OwnedFd::from(stdin))),
        stdout: supervisor.stdout.take(),
        stderr: supervisor.stderr.take(),
        reports: Some(Reports { lines: BufReader::new(control.try_clone()?) }),
        control,
        id: supervisor.id(),
        supervisor: Some(supervisor),
    };
    // A supervisor that is gone already tells so by the end of its reports.
    match give_orders(&child.control, &orders, &OwnedFd::from(stdin_of_command)) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe && error.kind() != io::ErrorKind::ConnectionReset => Err(error),
        _ => Ok(child),
    }
}

/// The length, with the command's standard input beside it, and then the orders.
fn give_orders(mut control: &UnixStream, orders: &[u8], stdin: &OwnedFd) -> io::Result<()> {
    let length = u32::try_from(orders.len()).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the environment is too long"))?;
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    let descriptors = [stdin.as_fd()];
    beside.push(SendAncillaryMessage::ScmRights(&descriptors));
    let length = length.to_le_bytes();
    let sent = sendmsg(control, &[io::IoSlice::new(&length)], &mut beside, SendFlags::NOSIGNAL)?;
    control.write_all(length.get(sent..).unwrap_or_default())?;
    control.write_all(orders)
}

impl Child {
    /// The process of the supervisor.
    pub fn supervisor(&self) -> u32 {
        self.id
    }

    /// Asks the command to end (`SIGTERM`, to all that it has started, too), and kills what is left after the grace. Returns at once.
    pub fn stop(&self, grace: Duration) {
        let grace = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        if let Ok(mut line) = serde_json::to_vec(&Order::Stop(grace)) {
            line.push(b'\n');
            // Fails only when the supervisor is gone.
            let _ = (&self.control).write_all(&line);
        }
    }

    /// Kills the command and all that it has started. Returns at once.
    pub fn kill(&self) {
        self.stop(Duration::ZERO);
        // Reports hold another descriptor of the same socket: closing ours would not be seen.
        let _ = self.control.shutdown(Shutdown::Write);
    }

    /// Waits until nothing is left. It ends by itself only when the command does.
    ///
    /// # Errors
    /// When the system cannot be asked.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        let supervisor = self.supervisor.as_mut().ok_or_else(|| io::Error::other("it is being dropped"))?;
        supervisor.wait()
    }

    /// Whether nothing is left.
    ///
    /// # Errors
    /// When the system cannot be asked.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        let supervisor = self.supervisor.as_mut().ok_or_else(|| io::Error::other("it is being dropped"))?;
        supervisor.try_wait()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
        let Some(mut supervisor) = self.supervisor.take() else { return };
        if !matches!(supervisor.try_wait(), Ok(None)) {
            return;
        }
        // Bounded, as the supervisor is. Without a thread it stays a zombie until the host ends.
        let _ = std::thread::Builder::new().name("sandbox-wait".into()).spawn(move || supervisor.wait());
    }
}

impl From<std::ffi::OsString> for Bytes {
    fn from(text: std::ffi::OsString) -> Self {
        use std::os::unix::ffi::OsStringExt;
        match text.into_string() {
            Ok(text) => Bytes::Text(text),
            Err(raw) => Bytes::Raw(raw.into_vec()),
        }
    }
}

impl Bytes {
    pub(super) fn into_vec(self) -> Vec<u8> {
        match self {
            Bytes::Text(text) => text.into_bytes(),
            Bytes::Raw(raw) => raw,
        }
    }
}
