//! One entry: the keys that all have, and what they mean. No key of a single plugin.

use std::time::Duration;

use bespoke_plugin_api::{
    Error, Hook, HookSpec, OnFailure, Result,
    serde::{Deserialize, Deserializer, de},
    serde_json::json,
};

/// Most entries; more are a slip, or a list that somebody else writes.
const MOST: usize = 64;
/// Milliseconds that may be waited for an answer.
const TIMEOUT_MS: std::ops::RangeInclusive<u64> = 10..=3_600_000;

/// Declares the entries of a plugin: a struct with the keys that all hooks of a configuration have, and its own.
///
/// Unknown keys are refused, so that a guard is not open for a slip of the pen; therefore it is one struct, and not one in another.
#[macro_export]
macro_rules! entry {
    ($(#[$about:meta])* pub struct $Entry:ident { $($(#[$key:meta])* pub $field:ident: $type:ty,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, bespoke_plugin_api::serde::Deserialize)]
        #[serde(crate = "bespoke_plugin_api::serde", deny_unknown_fields)]
        #[cfg_attr(test, derive(schemars::JsonSchema, bespoke_plugin_api::serde::Serialize), schemars(extend("additionalProperties" = false)))]
        pub struct $Entry {
            /// Name of the subscription: small letters, digits, `-` and `_`. No other hook may have it.
            pub name: String,
            /// What it is asked about; `on_event` when `topics` says which events it is told of.
            #[serde(default, deserialize_with = "bespoke_configured_hooks::hook_named")]
            #[cfg_attr(test, schemars(schema_with = "hook_schema"))]
            pub hook: Option<$crate::Hook>,
            /// Topics of events that it is told of, such as `step_completed`; with a star at the end, all that begin so.
            #[serde(default)]
            pub topics: Vec<String>,
            $($(#[$key])* pub $field: $type,)*
            /// Milliseconds after which an answer is too late; whoever is still asked then is not waited for.
            #[serde(default = "timeout_ms")]
            #[cfg_attr(test, schemars(range(min = 10, max = 3_600_000)))]
            pub timeout_ms: u64,
            /// Higher runs earlier.
            #[serde(default)]
            pub priority: i32,
            /// Whether things go on when it fails or is late: `open`, or not: `closed`.
            #[serde(default, deserialize_with = "bespoke_configured_hooks::on_failure")]
            #[cfg_attr(test, schemars(schema_with = "on_failure_schema"))]
            pub on_failure: $crate::OnFailure,
            /// Whether it only looks: it is told beside others, and its answer does not count.
            #[serde(default)]
            pub observer: bool,
        }

        impl $crate::Entry for $Entry {
            fn said(&self) -> $crate::Said<'_> {
                $crate::Said {
                    name: &self.name,
                    hook: self.hook,
                    topics: &self.topics,
                    timeout_ms: self.timeout_ms,
                    priority: self.priority,
                    on_failure: self.on_failure,
                    observer: self.observer,
                }
            }
        }

        fn timeout_ms() -> u64 {
            5_000
        }

        #[cfg(test)]
        fn hook_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
            schemars::json_schema!({ "type": "string", "enum": $crate::hook_names() })
        }

        #[cfg(test)]
        fn on_failure_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
            schemars::json_schema!({ "type": "string", "enum": ["open", "closed"] })
        }
    };
}

/// An entry, as [`entry!`] declares it.
pub trait Entry {
    /// The keys that all have.
    fn said(&self) -> Said<'_>;
}

/// The keys that all entries have.
#[derive(Debug, Clone, Copy)]
pub struct Said<'e> {
    /// The subscription's.
    pub name: &'e str,
    /// What it is asked about.
    pub hook: Option<Hook>,
    /// Of events: which.
    pub topics: &'e [String],
    /// Most time of an answer.
    pub timeout_ms: u64,
    /// Higher runs earlier.
    pub priority: i32,
    /// What a failure means.
    pub on_failure: OnFailure,
    /// Whether it only looks.
    pub observer: bool,
}

/// The subscriptions of these entries, in their order.
///
/// # Errors
/// `INVALID_PARAMS`, with the key of the first one that makes no sense.
pub fn specs<E: Entry>(entries: &[E]) -> Result<Vec<HookSpec>> {
    if entries.len() > MOST {
        return Err(bad("hooks".into(), format!("{} hooks, and {MOST} are the most", entries.len())));
    }
    let said: Vec<Said<'_>> = entries.iter().map(Entry::said).collect();
    said.iter().enumerate().map(|(at, entry)| entry.spec(at, &said[..at])).collect()
}

/// The error of a key of one entry that makes no sense.
pub fn wrong(at: usize, key: &str, message: impl Into<String>) -> Error {
    bad(format!("hooks[{at}].{key}"), message.into())
}

impl Said<'_> {
    fn spec(&self, at: usize, before: &[Said<'_>]) -> Result<HookSpec> {
        let letters = self.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
        if self.name.is_empty() || self.name.len() > 64 || !letters {
            return Err(wrong(at, "name", format!("{:?} is no name: write up to 64 small letters, digits, `-` and `_`", self.name)));
        }
        if before.iter().any(|other| other.name == self.name) {
            return Err(wrong(at, "name", format!("`{}` stands there twice", self.name)));
        }
        if !TIMEOUT_MS.contains(&self.timeout_ms) {
            let (least, most) = (TIMEOUT_MS.start(), TIMEOUT_MS.end());
            let message = format!("`timeout_ms` is {}; it has to be from {least} to {most}", self.timeout_ms);
            return Err(wrong(at, "timeout_ms", message));
        }
        let hook = match (self.hook, self.topics.is_empty()) {
            (Some(Hook::OnEvent) | None, false) => Hook::OnEvent,
            (Some(hook), true) if hook != Hook::OnEvent => hook,
            (Some(Hook::OnEvent), _) => return Err(wrong(at, "topics", "names no event; write topics = [\"step_*\"]")),
            (Some(hook), _) => return Err(wrong(at, "topics", format!("{} has no topics; leave them out, or the hook", hook.name()))),
            (None, true) => return Err(wrong(at, "hook", "neither a hook nor topics; write hook = \"before_tool_execute\"")),
        };
        let mut spec = HookSpec::new(self.name, hook).priority(self.priority).timeout(Duration::from_millis(self.timeout_ms));
        if self.on_failure == OnFailure::Closed {
            spec = spec.fail_closed();
        }
        if self.observer {
            spec = spec.observer();
        }
        Ok(spec.topics(self.topics.iter().map(|topic| topic_of(topic).0)))
    }

    /// The topics, each with whether it is only the beginning.
    pub(crate) fn topics(&self) -> Vec<(String, bool)> {
        self.topics.iter().map(|topic| topic_of(topic)).collect()
    }
}

/// `workflow_*` is all that begins so.
fn topic_of(topic: &str) -> (String, bool) {
    topic.strip_suffix('*').map_or_else(|| (topic.to_owned(), false), |beginning| (beginning.to_owned(), true))
}

/// Reads a hook by its name; what is none is told the name that was probably meant.
///
/// # Errors
/// A name that is none.
pub fn hook_named<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Hook>, D::Error> {
    let name = String::deserialize(value)?;
    Hook::from_name(&name).map(Some).ok_or_else(|| {
        let near = hook_names().into_iter().min_by_key(|known| strsim::damerau_levenshtein(known, &name.to_ascii_lowercase()));
        de::Error::custom(format!("there is no hook {name:?}; did you mean `{}`?", near.unwrap_or_default()))
    })
}

/// Reads what a failure means. A word that is neither is an error here, where somebody wrote it; the wire reads it as the strict one.
///
/// # Errors
/// A word that is neither.
pub fn on_failure<'de, D: Deserializer<'de>>(value: D) -> Result<OnFailure, D::Error> {
    match String::deserialize(value)?.as_str() {
        "open" => Ok(OnFailure::Open),
        "closed" => Ok(OnFailure::Closed),
        other => Err(de::Error::unknown_variant(other, &["open", "closed"])),
    }
}

/// The names of all hooks.
pub fn hook_names() -> Vec<&'static str> {
    Hook::ALL.iter().map(|hook| hook.name()).collect()
}

/// A value that makes no sense, with the key it stands under.
fn bad(path: String, message: String) -> Error {
    Error::invalid_params(message).with_data(json!({ "path": path }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_a_beginning() {
        assert_eq!(topic_of("workflow_*"), ("workflow_".into(), true));
        assert_eq!(topic_of("*"), (String::new(), true));
        assert_eq!(topic_of("step_completed"), ("step_completed".into(), false));
    }
}
