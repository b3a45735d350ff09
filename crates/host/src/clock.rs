//! The host's clock, as plugins see it.

use std::time::{Duration, SystemTime};

use bespoke_plugin_api::Timestamp;

/// Now. A system clock before 1970 reads as the epoch.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}
