//! The host's clocks. Deadlines count on one that only goes forward: whoever sets the time of day neither ends calls nor gives
//! them more time. What plugins read as the time is the time of day.

use std::{
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use bespoke_plugin_api::{CallCx, Timestamp};
use tokio::time::Instant;

/// Now, for deadlines: the time of day at which this program first asked, and how long ago that was. The deadline of a context
/// that the host is given counts on this clock.
///
/// It follows the clock of the runtime, so that a test which stops that one stops this one.
pub fn now() -> Timestamp {
    static BEGAN: OnceLock<(Instant, Timestamp)> = OnceLock::new();
    let (at, time) = BEGAN.get_or_init(|| (Instant::now(), time_of_day()));
    time.plus(Instant::now().saturating_duration_since(*at))
}

/// The time of day, as plugins see it. A system clock before 1970 reads as the epoch.
pub(crate) fn time_of_day() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// A context that comes from a plugin, whose deadline counts on the clock that plugins see, as the host counts.
pub(crate) fn from_plugin(cx: CallCx) -> CallCx {
    match cx.deadline() {
        None => cx,
        Some(at) => cx.without_deadline().with_deadline(now().plus(time_of_day().until(at))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn deadlines_follow_the_clock_of_the_runtime_and_not_the_time_of_day() {
        let (before, day) = (now(), time_of_day());
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(before.until(now()), Duration::from_secs(3600));
        assert!(day.until(time_of_day()) < Duration::from_secs(3600));
        // What a plugin was told is half an hour away is half an hour away for the host.
        let cx = from_plugin(CallCx::new().with_deadline(time_of_day().plus(Duration::from_secs(1800))));
        let left = now().until(cx.deadline().unwrap());
        assert!(left <= Duration::from_secs(1800) && left > Duration::from_secs(1700), "{left:?}");
    }
}
