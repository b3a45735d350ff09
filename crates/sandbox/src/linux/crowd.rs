//! How many processes and threads there may be, decided where they are made. Time is passed in.

use std::{
    collections::HashMap,
    path::Path,
    time::{Duration, Instant},
};

use super::family;
use crate::report::Limit;

/// How long it may take until what was allowed is made, when whoever was allowed it has not been heard of since.
const UNSEEN: Duration = Duration::from_secs(2);
/// How many threads are remembered before the old ones are forgotten.
const REMEMBERED: usize = 1024;
/// How often is looked at most: a fork bomb asks all the time.
const LOOK: Duration = Duration::from_millis(10);

pub(super) struct Crowd {
    processes: Option<u32>,
    threads: Option<u32>,
    /// Upper bounds of what there is.
    counted: (u64, u64),
    /// Threads that were allowed something, when, and whether it was a process. One that asks again has got it.
    allowed: HashMap<u32, (Instant, bool)>,
    looked: Option<Instant>,
    closed: bool,
    /// Whether somebody was added since the last [`Crowd::grew`].
    grown: bool,
}

/// Why there may be no more.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// This limit: how many there are, how many there may be.
    Limit(Limit, u64, u64),
    /// It is ending.
    Closed,
}

impl Crowd {
    pub(super) fn new(processes: Option<u32>, threads: Option<u32>) -> Self {
        Crowd { processes, threads, counted: (1, 1), allowed: HashMap::new(), looked: None, closed: false, grown: true }
    }

    /// From now on nobody is added.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// Whether somebody was added since this was last asked.
    pub(super) fn grew(&mut self) -> bool {
        std::mem::take(&mut self.grown)
    }

    /// A thread asks something: what it was allowed before is made, or has failed.
    pub(super) fn heard_of(&mut self, thread: u32) {
        self.allowed.remove(&thread);
    }

    /// Whether one more may be made by this thread, which was heard of.
    pub(super) fn admit(&mut self, now: Instant, thread: u32, process: bool) -> Result<(), Full> {
        self.admit_among(now, thread, process, |allowed| {
            allowed.retain(|thread, _| Path::new(&format!("/proc/{thread}")).exists());
            let all = family::descendants(std::process::id());
            let alive = all.iter().filter(|process| !process.zombie);
            // The dead that nobody has waited for hold a number, too.
            (all.len() as u64, alive.map(|process| process.threads).sum())
        })
    }

    fn admit_among(
        &mut self,
        now: Instant,
        thread: u32,
        process: bool,
        look: impl FnOnce(&mut HashMap<u32, (Instant, bool)>) -> (u64, u64),
    ) -> Result<(), Full> {
        if self.closed {
            return Err(Full::Closed);
        }
        if self.full(process).is_some() && self.looked.is_none_or(|looked| now.duration_since(looked) >= LOOK) {
            self.looked = Some(now);
            self.allowed.retain(|_, (at, _)| now.duration_since(*at) < UNSEEN);
            let (processes, threads) = look(&mut self.allowed);
            let unseen = self.allowed.values().filter(|(_, process)| *process).count() as u64;
            self.counted = (processes + unseen, threads + self.allowed.len() as u64);
        }
        if let Some(full) = self.full(process) {
            return Err(full);
        }
        self.counted.0 += u64::from(process);
        self.counted.1 += 1;
        if self.processes.is_some() || self.threads.is_some() {
            self.allowed.insert(thread, (now, process));
            if self.allowed.len() > REMEMBERED {
                self.allowed.retain(|_, (at, _)| now.duration_since(*at) < UNSEEN);
            }
        }
        self.grown |= process;
        Ok(())
    }

    fn full(&self, process: bool) -> Option<Full> {
        let over = |limit: Option<u32>, count: u64| limit.map(u64::from).filter(|limit| count >= *limit);
        if process && let Some(allowed) = over(self.processes, self.counted.0) {
            return Some(Full::Limit(Limit::Processes, self.counted.0, allowed));
        }
        over(self.threads, self.counted.1).map(|allowed| Full::Limit(Limit::Threads, self.counted.1, allowed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_allowed_even_when_nobody_is_seen() {
        let mut crowd = Crowd::new(Some(5), Some(8));
        let start = Instant::now();
        // Each asked by somebody new, as in a fork bomb.
        let bomb = |crowd: &mut Crowd, at, from: u32, process, seen: (u64, u64)| {
            (from..from + 100).filter(|thread| crowd.admit_among(at, *thread, process, |_| seen).is_ok()).count()
        };
        assert_eq!(bomb(&mut crowd, start, 0, true, (1, 1)), 4);
        // They are there or not, and have not been heard of.
        assert_eq!(bomb(&mut crowd, start + LOOK, 100, true, (1, 1)), 0);
        assert_eq!(bomb(&mut crowd, start + LOOK * 2, 100, true, (4, 4)), 0);
        // Three have ended.
        let later = start + UNSEEN * 2;
        assert_eq!(bomb(&mut crowd, later, 100, true, (2, 2)), 3);
        let later = later + UNSEEN * 2;
        assert_eq!(bomb(&mut crowd, later, 200, false, (5, 5)), 3);
        crowd.close();
        assert_eq!(crowd.admit_among(later, 1, true, |_| (0, 0)), Err(Full::Closed));
    }

    #[test]
    fn one_after_the_other_is_no_crowd() {
        let mut crowd = Crowd::new(Some(3), None);
        let start = Instant::now();
        for n in 0..1000 {
            crowd.heard_of(7);
            assert_eq!(crowd.admit_among(start + LOOK * n, 7, true, |_| (2, 2)), Ok(()));
        }
    }
}
