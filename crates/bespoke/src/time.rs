//! The time of day, and how a person writes and reads it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bespoke_plugin_api::Timestamp;

/// Now. A clock that stands before 1970 reads as then.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}
