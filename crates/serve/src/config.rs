//! The section `[serve]` of bespoke.toml.

use std::{ops::RangeInclusive, time::Duration};

use bespoke_plugin_api::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// More chats at work than these wait for the same model anyway.
const CHATS: RangeInclusive<u64> = 1..=1_024;
/// Most milliseconds of anything here: a week.
const WEEK_MS: u64 = 7 * 24 * 60 * 60 * 1_000;
/// Most days that anything is kept: a century.
const DAYS: u64 = 36_500;

/// How the running agent serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct ServeConfig {
    /// Names of the channels that are served; when empty, all channels of plugins that have a table, but for stand-ins for tests.
    #[cfg_attr(test, schemars(extend("x-reload" = "live")))]
    pub channels: Vec<String>,
    /// Who may run commands that need a login, as `channel:sender`, such as `telegram:4711`.
    #[cfg_attr(test, schemars(extend("x-reload" = "live")))]
    pub owners: Vec<String>,
    /// Most chats that are answered at the same time, 1–1024. The messages of others wait in the database.
    #[cfg_attr(test, schemars(range(min = 1, max = 1_024), extend("x-reload" = "live")))]
    pub chats: u64,
    /// Most time that one answer may take, in milliseconds, 1–604 800 000.
    #[cfg_attr(test, schemars(range(min = 1, max = 604_800_000), extend("x-reload" = "live")))]
    pub turn_timeout_ms: u64,
    /// How often the answer to a message is begun, when the program dies in the middle of it again and again, before it is given up.
    #[cfg_attr(test, schemars(range(min = 1), extend("x-reload" = "live")))]
    pub turn_attempts: u32,
    /// Pause between two edits of an answer that is shown while it is written, in milliseconds, 1–604 800 000.
    #[cfg_attr(test, schemars(range(min = 1, max = 604_800_000), extend("x-reload" = "live")))]
    pub edit_every_ms: u64,
    /// Pause before a message that could not be sent is sent again, in milliseconds, 1–604 800 000. It doubles each time, up to five
    /// minutes or itself.
    #[cfg_attr(test, schemars(range(min = 1, max = 604_800_000), extend("x-reload" = "live")))]
    pub retry_ms: u64,
    /// How often a message is sent before it is a dead letter. Times at which the channel's plugin did not run do not count.
    #[cfg_attr(test, schemars(range(min = 1), extend("x-reload" = "live")))]
    pub send_attempts: u32,
    /// How old a message that cannot be sent gets before it is a dead letter, in milliseconds, 1–604 800 000.
    #[cfg_attr(test, schemars(range(min = 1, max = 604_800_000), extend("x-reload" = "live")))]
    pub send_age_ms: u64,
    /// How many days a dead letter is kept, with its files, 0–36 500; 0 until somebody drops it.
    #[cfg_attr(test, schemars(range(max = 36_500), extend("x-reload" = "live")))]
    pub dead_days: u32,
    /// How long running answers may take to end when the program is to stop, in milliseconds, 0–604 800 000.
    #[cfg_attr(test, schemars(range(max = 604_800_000), extend("x-reload" = "live")))]
    pub drain_ms: u64,
}

impl Default for ServeConfig {
    fn default() -> Self {
        ServeConfig {
            channels: Vec::new(),
            owners: Vec::new(),
            chats: 8,
            turn_timeout_ms: 600_000,
            turn_attempts: 3,
            edit_every_ms: 1_000,
            retry_ms: 1_000,
            send_attempts: 100,
            send_age_ms: 86_400_000,
            dead_days: 30,
            drain_ms: 30_000,
        }
    }
}

impl ServeConfig {
    /// Whether every value is in its range.
    ///
    /// # Errors
    /// `INVALID_PARAMS`; `data.path` is the offending key.
    pub fn check(&self) -> Result<()> {
        let fault =
            |key: &str, message: String| Err(Error::invalid_params(format!("serve.{key} {message}")).with_data(json!({ "path": key })));
        for (key, names) in [("channels", &self.channels), ("owners", &self.owners)] {
            if let Some(twice) = names.iter().enumerate().find_map(|(at, name)| names[..at].contains(name).then_some(name)) {
                return fault(key, format!("names `{twice}` twice"));
            }
        }
        if let Some(owner) = self.owners.iter().find(|owner| !owner.split_once(':').is_some_and(|(a, b)| !a.is_empty() && !b.is_empty())) {
            return fault("owners", format!("has `{owner}`; write `channel:sender`"));
        }
        for (key, value, range) in [
            ("chats", self.chats, CHATS),
            ("turn_timeout_ms", self.turn_timeout_ms, 1..=WEEK_MS),
            ("turn_attempts", self.turn_attempts.into(), 1..=u32::MAX.into()),
            ("edit_every_ms", self.edit_every_ms, 1..=WEEK_MS),
            ("retry_ms", self.retry_ms, 1..=WEEK_MS),
            ("send_attempts", self.send_attempts.into(), 1..=u32::MAX.into()),
            ("send_age_ms", self.send_age_ms, 1..=WEEK_MS),
            ("dead_days", self.dead_days.into(), 0..=DAYS),
            ("drain_ms", self.drain_ms, 0..=WEEK_MS),
        ] {
            if !range.contains(&value) {
                return fault(key, format!("is {value}; it has to be between {} and {}", range.start(), range.end()));
            }
        }
        Ok(())
    }

    /// How long running answers may take to end.
    pub fn drain_limit(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }

    pub(crate) fn most_chats(&self) -> usize {
        usize::try_from(self.chats).unwrap_or(usize::MAX)
    }

    pub(crate) fn turn_limit(&self) -> Duration {
        Duration::from_millis(self.turn_timeout_ms)
    }

    pub(crate) fn edit_every(&self) -> Duration {
        Duration::from_millis(self.edit_every_ms)
    }

    pub(crate) fn retry(&self) -> Duration {
        Duration::from_millis(self.retry_ms)
    }

    pub(crate) fn send_age(&self) -> Duration {
        Duration::from_millis(self.send_age_ms)
    }

    /// How long a dead letter is kept; `None` without an end.
    pub(crate) fn dead_age(&self) -> Option<Duration> {
        (self.dead_days > 0).then(|| Duration::from_secs(u64::from(self.dead_days) * 24 * 60 * 60))
    }

    /// Whether a person of a channel has a login.
    pub(crate) fn owns(&self, user: &str) -> bool {
        self.owners.iter().any(|owner| owner == user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_fresh() {
        bespoke_plugin_testkit::check_config_schema(env!("CARGO_MANIFEST_DIR"), schemars::schema_for!(ServeConfig));
    }

    #[test]
    fn values_out_of_range_are_named() {
        assert_eq!(ServeConfig::default().check(), Ok(()));
        for (keys, path, message) in [
            (json!({ "chats": 0 }), "chats", "serve.chats is 0; it has to be between 1 and 1024"),
            (json!({ "owners": ["4711"] }), "owners", "serve.owners has `4711`; write `channel:sender`"),
            (json!({ "channels": ["a", "a"] }), "channels", "serve.channels names `a` twice"),
            (json!({ "retry_ms": 0 }), "retry_ms", "serve.retry_ms is 0; it has to be between 1 and 604800000"),
        ] {
            let error = serde_json::from_value::<ServeConfig>(keys).unwrap().check().unwrap_err();
            assert_eq!((error.data().unwrap()["path"].as_str().unwrap(), error.message()), (path, message));
        }
        assert!(serde_json::from_value::<ServeConfig>(json!({ "chanels": [] })).is_err());
    }
}
