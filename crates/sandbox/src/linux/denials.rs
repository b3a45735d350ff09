//! Says a refusal once, and then how often it came: a plugin that tries in a loop fills no log. Time is passed in.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::{
    Report,
    report::{Acted, Limit, What},
};

/// How long a refusal that was told is only counted.
const QUIET: Duration = Duration::from_secs(10);
/// How many different ones are told in that time.
const DIFFERENT: usize = 256;

type Key = (What, &'static str, String);

#[derive(Default)]
pub(super) struct Denials {
    /// How often since it was told.
    counted: HashMap<Key, u64>,
    /// Those that were too many to be told apart.
    others: u64,
    limits: HashMap<Limit, Instant>,
    since: Option<Instant>,
}

impl Denials {
    /// One more. Gives a report when it is the first of its kind.
    pub(super) fn denied(&mut self, now: Instant, what: What, call: &'static str, argument: String) -> Option<Report> {
        self.since.get_or_insert(now);
        let key = (what, call, argument);
        if let Some(times) = self.counted.get_mut(&key) {
            *times += 1;
            return None;
        }
        if self.counted.len() >= DIFFERENT {
            self.others += 1;
            return None;
        }
        let report = Report::Denied { what, call: call.to_owned(), argument: key.2.clone(), times: 1 };
        self.counted.insert(key, 0);
        Some(report)
    }

    /// A limit was reached. Gives a report unless it was told a moment ago.
    pub(super) fn limited(&mut self, now: Instant, limit: Limit, used: u64, allowed: u64, acted: Acted) -> Option<Report> {
        let told = self.limits.get(&limit).is_some_and(|last| now.duration_since(*last) < QUIET);
        if told && acted != Acted::Killed {
            return None;
        }
        self.limits.insert(limit, now);
        Some(Report::Limited { limit, used, allowed, acted })
    }

    /// What was only counted, when the time is over.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Report> {
        match self.since {
            Some(since) if now.duration_since(since) >= QUIET => self.rest(),
            _ => Vec::new(),
        }
    }

    /// What was only counted.
    pub(super) fn rest(&mut self) -> Vec<Report> {
        self.since = None;
        let mut told: Vec<_> = self.counted.drain().filter(|(_, times)| *times > 0).collect();
        told.sort_by(|a, b| a.0.cmp(&b.0));
        let mut reports: Vec<_> = told
            .into_iter()
            .map(|((what, call, argument), times)| Report::Denied { what, call: call.to_owned(), argument, times })
            .collect();
        if self.others > 0 {
            reports.push(Report::Dropped { count: std::mem::take(&mut self.others) });
        }
        reports
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_told_once_and_then_counted() {
        let mut denials = Denials::default();
        let start = Instant::now();
        let mut deny = |at, argument: &str| denials.denied(at, What::Read, "openat", argument.to_owned());
        assert!(deny(start, "/a").is_some());
        assert!(deny(start, "/a").is_none());
        assert!(deny(start, "/b").is_some());
        assert!(denials.due(start + QUIET / 2).is_empty());
        let [Report::Denied { argument, times: 1, .. }] = &denials.due(start + QUIET)[..] else { panic!() };
        assert_eq!(argument, "/a");
        assert!(denials.denied(start + QUIET, What::Read, "openat", "/a".to_owned()).is_some());
    }

    #[test]
    fn many_different_ones_are_bounded() {
        let mut denials = Denials::default();
        let start = Instant::now();
        let told = (0..10_000).filter(|n| denials.denied(start, What::Read, "openat", format!("/{n}")).is_some()).count();
        assert_eq!(told, DIFFERENT);
        assert_eq!(denials.rest(), [Report::Dropped { count: 10_000 - 256 }]);
    }
}
