//! When to stop asking somebody who keeps failing, and when to try again: a state machine with time passed in. It asks nobody
//! itself and knows no hooks.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// When it trips and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Policy {
    /// So many failures trip it…
    pub(crate) failures: usize,
    /// …if they fall into so much time.
    pub(crate) within: Duration,
    /// Nobody is asked for so long; then one may try.
    pub(crate) cool_down: Duration,
}

impl Policy {
    /// Five failures within a minute, and half a minute of rest: a handler whose backend is away is not asked at every turn, and
    /// one that had a bad moment is back soon.
    pub(crate) const DEFAULT: Policy = Policy { failures: 5, within: Duration::from_secs(60), cool_down: Duration::from_secs(30) };
}

/// One handler's record.
#[derive(Debug)]
pub(crate) struct Breaker {
    policy: Policy,
    /// When it failed last, oldest first; at most as many as trip it.
    failed: VecDeque<Instant>,
    /// While it is tripped: when the next may try.
    probe_at: Option<Instant>,
}

impl Breaker {
    pub(crate) fn new(policy: Policy) -> Self {
        Breaker { policy, failed: VecDeque::new(), probe_at: None }
    }

    /// Whether it may be asked now. Of those who ask while it is tripped, one gets through after each cool-down; a try of which
    /// nothing is heard again does not keep the next from coming.
    pub(crate) fn admits(&mut self, now: Instant) -> bool {
        match self.probe_at {
            None => true,
            Some(at) if now >= at => {
                self.probe_at = Some(now + self.policy.cool_down);
                true
            }
            Some(_) => false,
        }
    }

    /// Whether it is left alone.
    pub(crate) fn is_tripped(&self) -> bool {
        self.probe_at.is_some()
    }

    /// It answered. Whether it had been tripped.
    pub(crate) fn succeeded(&mut self) -> bool {
        if self.probe_at.take().is_none() {
            return false;
        }
        self.failed.clear();
        true
    }

    /// It failed. Whether that tripped it.
    pub(crate) fn failed(&mut self, now: Instant) -> bool {
        if self.probe_at.is_some() {
            self.probe_at = Some(now + self.policy.cool_down);
            return false;
        }
        self.failed.push_back(now);
        while self.failed.front().is_some_and(|at| now.saturating_duration_since(*at) >= self.policy.within) {
            self.failed.pop_front();
        }
        if self.failed.len() < self.policy.failures {
            return false;
        }
        self.probe_at = Some(now + self.policy.cool_down);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy { failures: 3, within: Duration::from_secs(60), cool_down: Duration::from_secs(30) };

    /// `f` fails, `s` succeeds, `?` asks; a number waits so many seconds. What comes back is what was told, in order.
    fn play(script: &str) -> String {
        let (mut breaker, mut now, mut told) = (Breaker::new(POLICY), Instant::now(), String::new());
        for step in script.split(' ') {
            match step {
                "f" => told += if breaker.failed(now) { "tripped " } else { "" },
                "s" => told += if breaker.succeeded() { "recovered " } else { "" },
                "?" => told += if breaker.admits(now) { "yes " } else { "no " },
                seconds => now += Duration::from_secs(seconds.parse().unwrap()),
            }
        }
        told.trim_end().to_owned()
    }

    #[test]
    fn trips_rests_tries_and_recovers() {
        for (script, told) in [
            ("f f ?", "yes"),
            ("f f f ?", "tripped no"),
            // Two that are long ago do not count.
            ("f f 60 f ?", "yes"),
            ("f 30 f 29 f ?", "tripped no"),
            // One success between does not forgive: a handler that fails every other time is broken.
            ("f s f s f ?", "tripped no"),
            ("f f f 29 ? 1 ? ?", "tripped no yes no"),
            ("f f f 30 ? s ? f f ?", "tripped yes recovered yes yes"),
            // A try that fails begins another rest; one that is never heard of does not block the next.
            ("f f f 30 ? f 29 ? 1 ?", "tripped yes no yes"),
            ("f f f 30 ? 30 ?", "tripped yes yes"),
            // A late failure of a call from before changes nothing but the end of the rest.
            ("f f f f ? 30 ?", "tripped no yes"),
        ] {
            assert_eq!(play(script), told, "{script}");
        }
    }
}
