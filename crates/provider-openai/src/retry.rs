//! When a request is sent again. Pure: time and randomness are passed in.

use std::time::{Duration, UNIX_EPOCH};

use bespoke_plugin_api::Timestamp;

/// The first try again comes soon: most failures are over at once.
const FIRST: Duration = Duration::from_millis(100);
/// The second one; each further one waits for twice as long.
const SECOND: Duration = Duration::from_secs(2);
/// The longest wait. A server that wants more is not waited for: whoever asked has something better to do.
pub(crate) const LONGEST: Duration = Duration::from_secs(30);

/// How long to wait before try number `again`, from 1. `random` spreads the tries of many: from half to one and a half of it.
pub(crate) fn backoff(again: u32, random: u8) -> Duration {
    let wait = match again {
        0 | 1 => FIRST,
        n => SECOND.saturating_mul(1 << (n - 2).min(8)).min(LONGEST.mul_f32(0.66)),
    };
    wait.mul_f32(0.5 + f32::from(random) / 256.0)
}

/// What the headers of an answer say of when to ask again: `retry-after-ms`, seconds, or a date.
pub(crate) fn asked_wait<'a>(header: impl Fn(&str) -> Option<&'a str>, now: Timestamp) -> Option<Duration> {
    let number = |text: &str| text.trim().parse::<f64>().ok().and_then(|n| Duration::try_from_secs_f64(n.max(0.0)).ok());
    if let Some(wait) = header("retry-after-ms").and_then(number) {
        return Some(wait / 1000);
    }
    let text = header("retry-after")?;
    number(text).or_else(|| {
        let at = httpdate::parse_http_date(text.trim()).ok()?;
        // A date that has passed asks for no wait.
        Some(at.duration_since(UNIX_EPOCH + Duration::from_micros(now.0)).unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_are_spread_around_their_middle() {
        let millis = |random| (1..=7).map(|again| backoff(again, random).as_millis()).collect::<Vec<_>>();
        assert_eq!(millis(0), [50, 1000, 2000, 4000, 8000, 9900, 9900]);
        assert_eq!(millis(128), [100, 2000, 4000, 8000, 16_000, 19_800, 19_800]);
        assert!((0..=u8::MAX).all(|random| (1..200).all(|again| backoff(again, random) <= LONGEST)));
    }

    #[test]
    fn a_server_says_when_in_seconds_or_as_a_date() {
        // 6 November 1994, 08:49:30 UTC.
        let now = Timestamp(784_111_770_000_000);
        for (name, value, expected) in [
            ("retry-after", "2", Some(2_000)),
            ("retry-after", " 0.25 ", Some(250)),
            ("retry-after", "-5", Some(0)),
            ("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT", Some(7_000)),
            ("retry-after", "Sunday, 06-Nov-94 08:49:37 GMT", Some(7_000)),
            ("retry-after", "Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("retry-after", "soon", None),
            ("retry-after", "1e300", None),
            ("retry-after", "NaN", Some(0)),
            ("retry-after-ms", "1500", Some(1_500)),
            ("x", "1", None),
        ] {
            let wait = asked_wait(|asked| (asked == name).then_some(value), now);
            assert_eq!(wait, expected.map(Duration::from_millis), "{name}: {value}");
        }
    }
}
