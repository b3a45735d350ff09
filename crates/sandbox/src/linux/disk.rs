//! What a folder holds, counted a few files at a time, so that a large one keeps nobody waiting. Time is passed in.

use std::{
    fs::{self, ReadDir},
    os::unix::fs::MetadataExt,
    path::PathBuf,
    time::{Duration, Instant},
};

use super::family::Process;
use crate::policy::Disk;

/// How many entries are looked at in one go.
const AT_ONCE: usize = 256;
/// How long is waited between two counts at least, and how many times as long as a count took.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_FACTOR: u32 = 20;
/// How deep folders may lie in each other; deeper ones are not counted, and neither can they be reached by most programs.
const DEPTH: usize = 128;
/// What a file takes beside its blocks, so that a million empty ones are not nothing.
const PER_FILE: u64 = 512;

pub(super) struct Counter {
    disk: Disk,
    open: Vec<ReadDir>,
    began: Instant,
    next: Instant,
    bytes: u64,
}

impl Counter {
    pub(super) fn new(disk: Disk, now: Instant) -> Self {
        Counter { disk, open: Vec::new(), began: now, next: now, bytes: 0 }
    }

    /// When it wants to go on.
    pub(super) fn next(&self, now: Instant) -> Instant {
        if self.open.is_empty() { self.next } else { now }
    }

    /// Goes on, and gives what the folder holds as soon as that is too much. `family` are asked for files that are open and have no name.
    pub(super) fn count(&mut self, now: Instant, family: impl FnOnce() -> Vec<Process>) -> Option<(u64, u64)> {
        if self.open.is_empty() {
            if now < self.next {
                return None;
            }
            self.began = now;
            self.bytes = nameless(&self.disk.folder, &family());
            self.open.extend(fs::read_dir(&self.disk.folder));
        }
        for _ in 0..AT_ONCE {
            let Some(folder) = self.open.last_mut() else { break };
            match folder.next() {
                None => drop(self.open.pop()),
                Some(Err(_)) => {}
                Some(Ok(entry)) => {
                    // Not through links: what they lead to is not in the folder.
                    let Ok(facts) = entry.metadata() else { continue };
                    self.bytes = self.bytes.saturating_add(facts.blocks().saturating_mul(512)).saturating_add(PER_FILE);
                    if facts.is_dir() && self.open.len() < DEPTH {
                        self.open.extend(fs::read_dir(entry.path()));
                    }
                }
            }
        }
        if self.bytes > self.disk.bytes {
            self.open.clear();
        }
        if self.open.is_empty() {
            self.next = now + PAUSE.max(now.duration_since(self.began) * PAUSE_FACTOR);
        }
        (self.bytes > self.disk.bytes).then_some((self.bytes, self.disk.bytes))
    }
}

/// Files below the folder that were removed and are still open: they take room and are in no list.
fn nameless(folder: &PathBuf, family: &[Process]) -> u64 {
    let mut seen = std::collections::HashSet::new();
    let mut bytes = 0u64;
    for Process { pid, .. } in family {
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let Ok(target) = fs::read_link(entry.path()) else { continue };
            if !target.starts_with(folder) || !target.as_os_str().as_encoded_bytes().ends_with(b" (deleted)") {
                continue;
            }
            if let Ok(facts) = fs::metadata(entry.path())
                && facts.nlink() == 0
                && seen.insert((facts.dev(), facts.ino()))
            {
                bytes = bytes.saturating_add(facts.blocks().saturating_mul(512));
            }
        }
    }
    bytes
}
