//! Times as they are stored, in microseconds since 1970, and as they are shown.

use std::time::{Duration, SystemTime};

use bespoke_plugin_api::Timestamp;
use serde::Serializer;

/// `2026-11-20T09:30:15.123456Z`; the fraction is as long as it needs to be.
pub fn iso(at: Timestamp) -> String {
    moment(at).to_string()
}

/// For fields that are shown so.
pub(crate) fn as_iso<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&iso(*at))
}

/// `20261120-093015`.
pub(crate) fn digits(at: Timestamp) -> String {
    moment(at).strftime("%Y%m%d-%H%M%S").to_string()
}

/// Reads what [`iso`] writes, and other times of ISO 8601; nothing before 1970.
pub fn parse(text: &str) -> Option<Timestamp> {
    let moment: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(moment.as_microsecond()).ok().map(Timestamp)
}

/// Now. A system clock before 1970 reads as the epoch.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// As SQLite keeps it.
pub(crate) fn stored(at: Timestamp) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}

/// As SQLite kept it; a time that nobody stored is the epoch.
pub(crate) fn loaded(micros: i64) -> Timestamp {
    Timestamp(u64::try_from(micros).unwrap_or(0))
}

fn moment(at: Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_microsecond(stored(at)).unwrap_or(jiff::Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_back() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_795_166_615_000_000, "2026-11-20T09:23:35Z"),
            (1_795_166_615_123_456, "2026-11-20T09:23:35.123456Z"),
        ] {
            assert_eq!(iso(Timestamp(micros)), text);
            assert_eq!(parse(text), Some(Timestamp(micros)));
        }
        assert_eq!(digits(Timestamp(1_795_166_615_999_999)), "20261120-092335");
        assert!(iso(Timestamp(u64::MAX)).starts_with("9999-"), "the last moment that has a name");
        for wrong in ["", "soon", "1969-12-31T23:59:59Z", "2026-13-01T00:00:00Z"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
