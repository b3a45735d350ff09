//! Other systems, where there is no wall yet: everything says so.

use std::{
    ffi::OsString,
    io,
    process::{ChildStderr, ChildStdin, ChildStdout, ExitCode, ExitStatus},
    time::Duration,
};

use crate::{Ability, Part, Report, Spawn};

/// A command behind its wall. There is none on this system.
#[derive(Debug)]
pub struct Child {
    /// The command's standard input.
    pub stdin: Option<ChildStdin>,
    /// The command's standard output.
    pub stdout: Option<ChildStdout>,
    /// The command's standard error.
    pub stderr: Option<ChildStderr>,
    /// What the supervisor tells.
    pub reports: Option<Reports>,
    never: std::convert::Infallible,
}

/// What a supervisor tells, in order.
#[derive(Debug)]
pub struct Reports {
    never: std::convert::Infallible,
}

impl Iterator for Reports {
    type Item = io::Result<Report>;
    fn next(&mut self) -> Option<Self::Item> {
        match self.never {}
    }
}

impl Child {
    /// The process of the supervisor.
    pub fn supervisor(&self) -> u32 {
        match self.never {}
    }
    /// Asks the command to end, and kills what is left after the grace.
    pub fn stop(&self, _grace: Duration) {}
    /// Kills the command and all that it has started.
    pub fn kill(&self) {}
    /// Waits until nothing is left.
    ///
    /// # Errors
    /// Never, as there is none.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        match self.never {}
    }
    /// Whether nothing is left.
    ///
    /// # Errors
    /// Never, as there is none.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        match self.never {}
    }
}

/// Starts a command behind a wall.
///
/// # Errors
/// Always: this system has no supervisor.
pub fn spawn(_spawn: Spawn) -> io::Result<Child> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "plugins in processes of their own are supervised on Linux only"))
}

/// Becomes the supervisor of one command; on this system it fails.
pub fn supervise(_arguments: &[OsString]) -> ExitCode {
    ExitCode::FAILURE
}

pub(crate) fn abilities() -> Vec<Ability> {
    [
        Part::Files,
        Part::Tcp,
        Part::Sockets,
        Part::Syscalls,
        Part::Signals,
        Part::Reports,
        Part::Memory,
        Part::CpuShare,
        Part::ResourceLimits,
        Part::Disk,
        Part::Processes,
        Part::NoOrphans,
    ]
    .into_iter()
    .map(|part| Ability { part, enforced: false, detail: "only on Linux".into() })
    .collect()
}
