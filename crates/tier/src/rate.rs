//! How much of something is let through: a bucket that fills with time. No clock of its own.

use std::time::{Duration, Instant};

/// Lets through a burst, and after that so much a second. Counts what it did not let through.
#[derive(Debug)]
pub struct Rate {
    per_second: u32,
    burst: u32,
    left: f64,
    at: Instant,
    held: u64,
}

impl Rate {
    /// One that is full: `burst` at once, and after that `per_second`.
    pub fn new(burst: u32, per_second: u32, now: Instant) -> Self {
        Rate { per_second, burst, left: f64::from(burst), at: now, held: 0 }
    }

    /// Whether one more may pass. What was held back before is told once something passes again.
    pub fn pass(&mut self, now: Instant) -> Pass {
        self.fill(now);
        if self.left < 1.0 {
            self.held += 1;
            return Pass::Held;
        }
        self.left -= 1.0;
        Pass::Through { held_before: std::mem::take(&mut self.held) }
    }

    /// Takes `amount` whether it is there or not, and says for how long nothing more should be taken.
    pub fn charge(&mut self, amount: usize, now: Instant) -> Duration {
        self.fill(now);
        // A debt has an end: one long line does not silence its plugin for minutes.
        self.left = (self.left - amount as f64).max(-f64::from(self.burst));
        if self.left >= 0.0 { Duration::ZERO } else { Duration::from_secs_f64(-self.left / f64::from(self.per_second)) }
    }

    /// What was held back and not told yet.
    pub fn held(&mut self) -> u64 {
        std::mem::take(&mut self.held)
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * f64::from(self.per_second)).min(f64::from(self.burst));
        self.at = now;
    }
}

/// What became of one that wanted to pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// It may.
    Through {
        /// So many before it did not, and nobody was told yet.
        held_before: u64,
    },
    /// It may not.
    Held,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_so_much_a_second_and_what_was_held_is_told_once() {
        let start = Instant::now();
        let mut rate = Rate::new(2, 1, start);
        let passes = |rate: &mut Rate, at: u64| rate.pass(start + Duration::from_secs(at));
        assert_eq!(passes(&mut rate, 0), Pass::Through { held_before: 0 });
        assert_eq!(passes(&mut rate, 0), Pass::Through { held_before: 0 });
        assert_eq!([passes(&mut rate, 0), passes(&mut rate, 0)], [Pass::Held, Pass::Held]);
        assert_eq!(passes(&mut rate, 1), Pass::Through { held_before: 2 });
        assert_eq!(passes(&mut rate, 1), Pass::Held);
        // Time never fills it above the burst.
        assert_eq!(passes(&mut rate, 1000), Pass::Through { held_before: 1 });
        assert_eq!([passes(&mut rate, 1000), passes(&mut rate, 1000)], [Pass::Through { held_before: 0 }, Pass::Held]);
        assert_eq!((rate.held(), rate.held()), (1, 0));
    }

    #[test]
    fn a_debt_has_an_end() {
        let start = Instant::now();
        let mut rate = Rate::new(100, 100, start);
        assert_eq!(rate.charge(100, start), Duration::ZERO);
        assert_eq!(rate.charge(50, start), Duration::from_millis(500));
        assert_eq!(rate.charge(1 << 30, start), Duration::from_secs(1));
    }
}
