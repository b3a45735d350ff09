//! Letters: messages that came in over channels until they are answered, and those that are to leave until they have left.

use bespoke_plugin_api::{Outbound, Timestamp};
use serde::Serialize;

/// A message that could not be sent and is not tried any more. As JSON, its time is ISO 8601 in UTC.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Its number.
    pub id: i64,
    /// Over which channel it was to leave.
    pub channel: String,
    /// The message, its files without their bytes.
    pub message: Outbound,
    /// How often it was tried.
    pub attempts: u32,
    /// Why it was not sent last.
    pub error: String,
    /// When it was written.
    #[serde(serialize_with = "crate::sessions::as_iso")]
    pub created: Timestamp,
}
