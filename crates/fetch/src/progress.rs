//! What a caller sees while files are fetched. Not a progress bar: drawing is the caller's.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use crate::error::{Error, Failure, Stop};

/// One step of one file. Reported often (each chunk, and several times a second while a tool runs); cheap to drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress<'a> {
    /// The pin's file name.
    pub file: &'a str,
    /// The source in use, as [`crate::Source`] displays it, or a folder; empty before one is chosen.
    pub source: &'a str,
    /// What is being done.
    pub phase: Phase,
    /// Bytes of this phase so far.
    pub done: u64,
    /// Bytes of this phase in all; `None` when they cannot be known, as for most archives.
    pub total: Option<u64>,
}

/// What is being done for a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Another process or thread holds the lock of this file.
    Waiting,
    /// The package index is asked where the archive lies.
    Looking,
    /// The file, or the archive that holds it, is being downloaded or copied.
    #[default]
    Downloading,
    /// Node.js is being fetched through pip, because an npm package is wanted and this machine has no npm.
    FetchingNpm,
    /// An archive that was given is being read and compared with its pin.
    Verifying,
    /// Members are being taken out of an archive.
    Extracting,
    /// The file is verified and in place; `done` is its size.
    Done,
}

/// The caller's callback and flag, with the time limit of the source in use.
pub(crate) struct Watch<'a> {
    file: &'a str,
    source: String,
    report: &'a mut dyn FnMut(Progress<'_>),
    cancel: &'a AtomicBool,
    started: Instant,
    limit: Duration,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(file: &'a str, report: &'a mut dyn FnMut(Progress<'_>), cancel: &'a AtomicBool, limit: Duration) -> Self {
        Self { file, source: String::new(), report, cancel, started: Instant::now(), limit }
    }

    /// The next source gets the whole time limit again.
    pub(crate) fn turn_to(&mut self, source: String) {
        self.source = source;
        self.restart();
    }

    /// What was waited for a lock is not the source's fault.
    pub(crate) fn restart(&mut self) {
        self.started = Instant::now();
    }

    /// Reports, then says whether to go on.
    pub(crate) fn step(&mut self, phase: Phase, done: u64, total: Option<u64>) -> Result<(), Stop> {
        self.tell(phase, done, total)?;
        if self.started.elapsed() > self.limit {
            return Err(Failure::TimedOut(self.limit).into());
        }
        Ok(())
    }

    /// As [`Watch::step`] while someone else holds the lock, which has a time limit of its own.
    pub(crate) fn wait(&mut self) -> Result<(), Error> {
        self.tell(Phase::Waiting, 0, None)
    }

    /// Reports without a question: the work is over.
    pub(crate) fn done(&mut self, bytes: u64) {
        let done = Progress { file: self.file, source: &self.source, phase: Phase::Done, done: bytes, total: Some(bytes) };
        (self.report)(done);
    }

    fn tell(&mut self, phase: Phase, done: u64, total: Option<u64>) -> Result<(), Error> {
        (self.report)(Progress { file: self.file, source: &self.source, phase, done, total });
        if self.cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled { file: self.file.to_owned() });
        }
        Ok(())
    }

    pub(crate) fn file(&self) -> &'a str {
        self.file
    }
}
