//! Calls of a plugin since the program started: how many, how many failed, how long they took.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use bespoke_plugin_api::Timestamp;

use crate::{
    clock,
    usage::{Recorder, Usage},
};

/// Counters of a plugin. Every call is counted. Time is taken of each of the first 64, and of each as long as calls take 10 µs and more;
/// of faster ones of one in eight, which then stands for as many: two readings of the clock were 42 of the 163 ns that a guarded call cost
/// over a direct one.
#[derive(Debug)]
pub struct Metrics {
    calls: AtomicU64,
    errors: AtomicU64,
    nanos: AtomicU64,
    /// The calls that `nanos` stands for.
    timed: AtomicU64,
    /// The last call that was timed took less than 10 µs.
    fast: AtomicBool,
    times: Recorder,
    /// From the question to the first piece of the answer, of what answers in pieces.
    firsts: Recorder,
    longest: AtomicU64,
    /// When the last call that was timed ended, in nanoseconds since `begun`; 0 for none.
    last: AtomicU64,
    begun: Instant,
    /// What was taken of `calls` and `errors` already.
    taken_calls: AtomicU64,
    taken_errors: AtomicU64,
}

const ALL_TIMED: u64 = 64;
const ONE_IN: u64 = 8;
const FAST: u64 = 10_000;

/// A call under way, and for how many its time stands.
pub(crate) struct Begun(Option<(Instant, u64)>);

impl Default for Metrics {
    fn default() -> Self {
        Metrics {
            calls: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            nanos: AtomicU64::new(0),
            timed: AtomicU64::new(0),
            fast: AtomicBool::new(false),
            times: Recorder::default(),
            firsts: Recorder::default(),
            longest: AtomicU64::new(0),
            last: AtomicU64::new(0),
            begun: Instant::now(),
            taken_calls: AtomicU64::new(0),
            taken_errors: AtomicU64::new(0),
        }
    }
}

impl Metrics {
    pub(crate) fn begin(&self) -> Begun {
        let n = self.calls.fetch_add(1, Ordering::Relaxed);
        let weight = match () {
            () if n < ALL_TIMED || !self.fast.load(Ordering::Relaxed) => 1,
            () if n.is_multiple_of(ONE_IN) => ONE_IN,
            () => return Begun(None),
        };
        Begun(Some((Instant::now(), weight)))
    }

    /// Of a call that goes on as long as it likes.
    pub(crate) fn begin_untimed(&self) -> Begun {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Begun(None)
    }

    pub(crate) fn end(&self, Begun(begun): Begun, failed: bool) {
        if let Some((at, weight)) = begun {
            let now = Instant::now();
            self.last.fetch_max(nanos(now - self.begun).max(1), Ordering::Relaxed);
            self.took(now - at, weight);
        }
        if failed {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The first piece of an answer came so long after the question.
    pub(crate) fn first(&self, time: Duration) {
        self.firsts.add(nanos(time), 1);
    }

    fn took(&self, time: Duration, weight: u64) {
        let time = nanos(time);
        self.fast.store(time < FAST, Ordering::Relaxed);
        self.times.add(time, weight);
        self.longest.fetch_max(time, Ordering::Relaxed);
        self.nanos.fetch_add(time.saturating_mul(weight), Ordering::Relaxed);
        self.timed.fetch_add(weight, Ordering::Relaxed);
    }

    /// How many calls were begun, how many failed, and the mean time.
    pub fn read(&self) -> (u64, u64, Duration) {
        let mean = self.nanos.load(Ordering::Relaxed).checked_div(self.timed.load(Ordering::Relaxed)).unwrap_or(0);
        (self.calls.load(Ordering::Relaxed), self.errors.load(Ordering::Relaxed), Duration::from_nanos(mean))
    }

    /// What was used since it was taken last, and what was measured of it.
    pub(crate) fn take(&self, (cpu, memory_mb): (Option<Duration>, Option<f64>)) -> Usage {
        // What comes meanwhile is part of the next one.
        let since = |all: &AtomicU64, taken: &AtomicU64| {
            let now = all.load(Ordering::Relaxed);
            now.saturating_sub(taken.swap(now, Ordering::Relaxed))
        };
        let (calls, errors) = (since(&self.calls, &self.taken_calls), since(&self.errors, &self.taken_errors));
        let longest = Duration::from_nanos(self.longest.swap(0, Ordering::Relaxed));
        Usage { calls, errors, times: self.times.take(), firsts: self.firsts.take(), longest, cpu, memory_mb, last: self.last() }
    }

    /// As [`take`](Self::take), and leaves it there.
    pub(crate) fn look(&self, (cpu, memory_mb): (Option<Duration>, Option<f64>)) -> Usage {
        let since = |all: &AtomicU64, taken: &AtomicU64| all.load(Ordering::Relaxed).saturating_sub(taken.load(Ordering::Relaxed));
        Usage {
            calls: since(&self.calls, &self.taken_calls),
            errors: since(&self.errors, &self.taken_errors),
            times: self.times.look(),
            firsts: self.firsts.look(),
            longest: Duration::from_nanos(self.longest.load(Ordering::Relaxed)),
            cpu,
            memory_mb,
            last: self.last(),
        }
    }

    /// When a call ended last: of fast ones, one of the last eight.
    fn last(&self) -> Option<Timestamp> {
        let last = self.last.load(Ordering::Relaxed);
        let ago = nanos(self.begun.elapsed()).saturating_sub(last);
        (last > 0).then(|| Timestamp(clock::time_of_day().0.saturating_sub(ago / 1_000)))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sampled_time_stands_for_the_calls_that_were_not_timed() {
        for micros in [3, 3_000] {
            let metrics = Metrics::default();
            let calls = ALL_TIMED + 10 * ONE_IN;
            for n in 0..calls {
                if let Begun(Some((_, weight))) = metrics.begin() {
                    metrics.took(Duration::from_micros(micros), weight);
                }
                metrics.end(Begun(None), n % 2 == 0);
            }
            assert_eq!(metrics.read(), (calls, calls / 2, Duration::from_micros(micros)));
            let used = metrics.take((None, None));
            assert_eq!(
                (used.calls, used.errors, used.times.count(), used.longest),
                (calls, calls / 2, calls, Duration::from_micros(micros))
            );
            assert_eq!(metrics.take((None, None)).calls, 0);
        }
    }

    #[test]
    fn slow_calls_are_all_timed() {
        let metrics = Metrics::default();
        metrics.calls.store(1_001, Ordering::Relaxed);
        metrics.took(Duration::from_micros(5), 1);
        assert!(metrics.begin().0.is_none());
        metrics.took(Duration::from_micros(50), 1);
        assert_eq!(metrics.begin().0.map(|(_, weight)| weight), Some(1));
    }
}
