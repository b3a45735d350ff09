//! How long to wait before what failed is tried again.

use std::time::Duration;

/// The longest pause, unless the first one is longer.
const LONGEST: Duration = Duration::from_secs(300);

/// The pause after so many failures in a row: the first one, doubled each time, and some more or less, so that many do not come back in one
/// moment.
pub(crate) fn after(failures: u32, first: Duration) -> Duration {
    let mut random = [0];
    // Without randomness the pauses are equal, which is no reason to fail.
    let _ = getrandom::fill(&mut random);
    jittered(failures, first, random[0])
}

fn jittered(failures: u32, first: Duration, random: u8) -> Duration {
    let pause = first.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(LONGEST.max(first));
    pause.mul_f64(0.75 + f64::from(random) / 510.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit() {
        let second = Duration::from_secs(1);
        for (failures, random, ms) in
            [(0, 0, 750), (1, 0, 750), (1, 255, 1_250), (2, 0, 1_500), (4, 0, 6_000), (40, 0, 225_000), (u32::MAX, 255, 375_000)]
        {
            assert_eq!(jittered(failures, second, random).as_millis(), ms, "{failures}");
        }
        assert_eq!(jittered(9, Duration::from_secs(1_000), 0), Duration::from_secs(750));
    }
}
