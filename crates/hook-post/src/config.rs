//! The table `[plugins.post]`.

use std::time::Duration;

use bespoke_plugin_api::{
    Error, Hook, HookSpec, Result,
    serde::{self, Deserialize, Deserializer, de},
    serde_json::json,
};

/// Most subscriptions; more are a slip, or a list that somebody else writes.
const MOST_HOOKS: usize = 64;

/// The table `[plugins.post]`. The key that signs is no part of it: it is the secret `signing_key`, the variable `POST_SIGNING_KEY`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize), schemars(extend("additionalProperties" = false)))]
pub struct Config {
    /// The addresses, and what each is asked or told of. At most 64.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub hooks: Vec<Entry>,
}

/// One address.
#[derive(Debug, Clone, Deserialize)]
#[serde(crate = "serde", deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize), schemars(extend("additionalProperties" = false)))]
pub struct Entry {
    /// Name of the subscription: small letters, digits, `-` and `_`. No other hook may have it.
    pub name: String,
    /// What it is asked about; `on_event` when `topics` says which events it is told of.
    #[serde(default, deserialize_with = "hook")]
    #[cfg_attr(test, schemars(schema_with = "hooks"))]
    pub hook: Option<Hook>,
    /// Topics of events that it is told of, such as `step_completed`; with a star at the end, all that begin so.
    #[serde(default)]
    pub topics: Vec<String>,
    /// Where the event is sent: an absolute http or https URL. Put a secret in it into the environment and write `${NAME}`.
    pub url: String,
    /// Milliseconds after which an answer is too late.
    #[serde(default = "timeout_ms")]
    #[cfg_attr(test, schemars(range(min = 10, max = 600_000)))]
    pub timeout_ms: u64,
    /// Higher runs earlier.
    #[serde(default)]
    pub priority: i32,
    /// Whether things go on when it fails or is late: `open`, or not: `closed`.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Whether it only looks: it is told beside others, and its answer does not count.
    #[serde(default)]
    pub observer: bool,
}

/// What a failure means. A word that is neither is an error here, where somebody wrote it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(crate = "serde", rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize))]
pub enum OnFailure {
    /// Goes on.
    #[default]
    Open,
    /// Stops what was about to happen.
    Closed,
}

/// Where a subscription sends.
pub(crate) struct Address {
    pub(crate) url: String,
    pub(crate) timeout: Duration,
    /// Of events, those with one of these topics; each with whether it is only the beginning.
    topics: Vec<(String, bool)>,
}

impl Config {
    /// The subscriptions and where they send.
    pub(crate) fn read(&self) -> Result<Vec<(HookSpec, Address)>> {
        if self.hooks.len() > MOST_HOOKS {
            return Err(bad("hooks".into(), format!("{} hooks, and {MOST_HOOKS} are the most", self.hooks.len())));
        }
        self.hooks.iter().enumerate().map(|(at, entry)| self.one(at, entry)).collect()
    }

    fn one(&self, at: usize, entry: &Entry) -> Result<(HookSpec, Address)> {
        let fault = |key: &str, message: String| bad(format!("hooks[{at}].{key}"), message);
        let name = &entry.name;
        let letters = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
        if name.is_empty() || name.len() > 64 || !letters {
            return Err(fault("name", format!("{name:?} is no name: write up to 64 small letters, digits, `-` and `_`")));
        }
        if self.hooks[..at].iter().any(|other| other.name == *name) {
            return Err(fault("name", format!("`{name}` stands there twice")));
        }
        if !(10..=600_000).contains(&entry.timeout_ms) {
            return Err(fault("timeout_ms", format!("`timeout_ms` is {}; it has to be from 10 to 600000", entry.timeout_ms)));
        }
        // The rest of a URL is for the client to judge. It may hold a secret, so it is not repeated.
        if !["http://", "https://"].iter().any(|scheme| entry.url.starts_with(scheme)) {
            return Err(fault("url", "the address begins neither with https:// nor with http://".into()));
        }
        let hook = match (entry.hook, entry.topics.is_empty()) {
            (Some(Hook::OnEvent) | None, false) => Hook::OnEvent,
            (Some(hook), true) if hook != Hook::OnEvent => hook,
            (Some(Hook::OnEvent), _) => return Err(fault("topics", "names no event; write topics = [\"step_*\"]".into())),
            (Some(hook), _) => return Err(fault("topics", format!("{} has no topics; leave them out, or the hook", hook.name()))),
            (None, true) => return Err(fault("hook", "neither a hook nor topics; write hook = \"before_tool_execute\"".into())),
        };
        let timeout = Duration::from_millis(entry.timeout_ms);
        let mut spec = HookSpec::new(name, hook).priority(entry.priority).timeout(timeout);
        if entry.on_failure == OnFailure::Closed {
            spec = spec.fail_closed();
        }
        if entry.observer {
            spec = spec.observer();
        }
        let topics: Vec<(String, bool)> = entry.topics.iter().map(|topic| topic_of(topic)).collect();
        let spec = spec.topics(topics.iter().map(|(topic, _)| topic));
        Ok((spec, Address { url: entry.url.clone(), timeout, topics }))
    }
}

impl Address {
    /// Whether it wants to know of events of this topic.
    pub(crate) fn hears(&self, topic: &str) -> bool {
        self.topics.iter().any(|(own, begins)| if *begins { topic.starts_with(own.as_str()) } else { topic == own })
    }
}

fn timeout_ms() -> u64 {
    5_000
}

/// `workflow_*` is all that begins so.
fn topic_of(topic: &str) -> (String, bool) {
    topic.strip_suffix('*').map_or_else(|| (topic.to_owned(), false), |beginning| (beginning.to_owned(), true))
}

/// A hook by its name, or the name that was probably meant.
fn hook<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Hook>, D::Error> {
    let name = String::deserialize(value)?;
    Hook::from_name(&name).map(Some).ok_or_else(|| {
        let names = Hook::ALL.iter().map(|hook| hook.name());
        let near = names.min_by_key(|known| strsim::damerau_levenshtein(known, &name.to_ascii_lowercase()));
        de::Error::custom(format!("there is no hook {name:?}; did you mean `{}`?", near.unwrap_or_default()))
    })
}

#[cfg(test)]
fn hooks(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "string", "enum": Hook::ALL.iter().map(|hook| hook.name()).collect::<Vec<_>>() })
}

/// A value that does not fit, with the key it stands under.
fn bad(path: String, message: String) -> Error {
    Error::invalid_params(message).with_data(json!({ "path": path }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_fresh() {
        bespoke_plugin_testkit::check_config_schema(env!("CARGO_MANIFEST_DIR"), schemars::schema_for!(Config));
    }
}
