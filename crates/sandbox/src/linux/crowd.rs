//! How many processes and threads there may be, decided where they are made. Time is passed in.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::family;
use crate::report::Limit;

/// How long it may take until a process that was allowed is seen.
const UNSEEN: Duration = Duration::from_millis(20);

pub(super) struct Crowd {
    processes: Option<u32>,
    threads: Option<u32>,
    /// Upper bounds of what there is.
    counted: (u64, u64),
    /// When something was allowed lately, and whether it was a process.
    lately: VecDeque<(Instant, bool)>,
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
        Crowd { processes, threads, counted: (1, 1), lately: VecDeque::new(), looked: None, closed: false, grown: true }
    }

    /// From now on nobody is added.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// Whether somebody was added since this was last asked.
    pub(super) fn grew(&mut self) -> bool {
        std::mem::take(&mut self.grown)
    }

    /// Whether one more may be made.
    pub(super) fn admit(&mut self, now: Instant, process: bool) -> Result<(), Full> {
        self.admit_among(now, process, || {
            let all = family::descendants(std::process::id());
            let alive = all.iter().filter(|process| !process.zombie);
            // The dead that nobody has waited for hold a number, too.
            (all.len() as u64, alive.map(|process| process.threads).sum())
        })
    }

    fn admit_among(&mut self, now: Instant, process: bool, look: impl FnOnce() -> (u64, u64)) -> Result<(), Full> {
        if self.closed {
            return Err(Full::Closed);
        }
        if self.full(process).is_some() && self.looked.is_none_or(|looked| now.duration_since(looked) >= UNSEEN / 2) {
            self.looked = Some(now);
            while self.lately.front().is_some_and(|(at, _)| now.duration_since(*at) >= UNSEEN) {
                self.lately.pop_front();
            }
            let (processes, threads) = look();
            let unseen = self.lately.iter().filter(|(_, process)| *process).count() as u64;
            self.counted = (processes + unseen, threads + self.lately.len() as u64);
        }
        if let Some(full) = self.full(process) {
            return Err(full);
        }
        self.counted.0 += u64::from(process);
        self.counted.1 += 1;
        if self.processes.is_some() || self.threads.is_some() {
            self.lately.push_back((now, process));
            // Older ones are seen when somebody looks.
            while self.lately.front().is_some_and(|(at, _)| now.duration_since(*at) >= UNSEEN) {
                self.lately.pop_front();
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
        let mut admit = |at, process, seen| crowd.admit_among(at, process, || seen).is_ok();
        let admitted = (0..100).filter(|_| admit(start, true, (1, 1))).count();
        assert_eq!(admitted, 4);
        // They have become visible, and three have ended.
        let later = start + UNSEEN * 2;
        assert_eq!((0..100).filter(|_| admit(later, true, (2, 2))).count(), 3);
        let later = later + UNSEEN * 2;
        assert_eq!((0..100).filter(|_| admit(later, false, (5, 5))).count(), 3);
        assert!(!admit(later, true, (5, 5)));
        crowd.close();
        assert_eq!(crowd.admit_among(later, true, || (0, 0)), Err(Full::Closed));
    }
}
