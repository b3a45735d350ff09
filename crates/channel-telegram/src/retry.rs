//! How long to wait before the next try. Pure: randomness is passed in.

use std::time::Duration;

/// The first wait; each further one is twice as long.
const FIRST: Duration = Duration::from_millis(500);
/// The longest one.
const LONGEST: Duration = Duration::from_secs(60);

/// The wait before try number `again`, from 1. `random` spreads the tries of many: from half to one and a half of it.
pub(crate) fn backoff(again: u32, random: u8) -> Duration {
    let wait = FIRST.saturating_mul(1 << again.saturating_sub(1).min(16)).min(LONGEST);
    wait.mul_f32(0.5 + f32::from(random) / 256.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_minute_and_are_spread() {
        let waits: Vec<u128> = (1..=9).map(|again| backoff(again, 128).as_millis()).collect();
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!((backoff(1, 0).as_millis(), backoff(u32::MAX, 255).as_secs()), (250, 89));
    }
}
