//! The names of what happens: those of the host, and how a listener says which it wants. Delivers nothing.

use std::fmt;

/// An agent's turn, or a spoken one, begins: `{workflow, kind, session}`.
pub const WORKFLOW_STARTED: &str = "workflow_started";
/// It is over: `{workflow, kind, session, ok, ms, steps, error}`.
pub const WORKFLOW_COMPLETED: &str = "workflow_completed";
/// A model is asked, a tool is called, or a stage of speech begins: `{workflow, step, kind, name}`.
pub const STEP_STARTED: &str = "step_started";
/// That is over: `{workflow, step, kind, name, ok, ms, error}`.
pub const STEP_COMPLETED: &str = "step_completed";
/// A plugin serves: `{plugin, version, ms}`.
pub const PLUGIN_LOADED: &str = "plugin_loaded";
/// A plugin serves no more: `{plugin, reason}`.
pub const PLUGIN_UNLOADED: &str = "plugin_unloaded";
/// Something is wrong with a plugin: `{plugin, what, code, reason}`.
pub const PLUGIN_ERROR: &str = "plugin_error";
/// A plugin serves on, and is another: `{plugin, change, …}`.
pub const PLUGIN_UPDATED: &str = "plugin_updated";
/// A handler failed, or was late: `{plugin, hook, name, reason}`.
pub const HOOK_FAILED: &str = "hook_failed";
/// A handler failed too often and is left alone for a while: `{plugin, hook, name, reason}`.
pub const HOOK_TRIPPED: &str = "hook_tripped";
/// A handler that was left alone answers again: `{plugin, hook, name}`.
pub const HOOK_RECOVERED: &str = "hook_recovered";
/// A handler of events was too slow: `{plugin, name, lost}`.
pub const HOOK_LOST: &str = "hook_lost";
/// A conversation has begun: `{session}`.
pub const SESSION_CREATED: &str = "session_created";
/// A conversation is over: `{session}`.
pub const SESSION_ENDED: &str = "session_ended";
/// A message has come in over a channel: `{channel, chat, session, kind, size}`.
pub const MESSAGE_RECEIVED: &str = "message_received";
/// A message has left over a channel: `{channel, chat, session, kind, size}`.
pub const MESSAGE_SENT: &str = "message_sent";
/// A message could not be read, answered, or sent: `{channel, chat, session, what, code, reason}`.
pub const MESSAGE_FAILED: &str = "message_failed";
/// What should have been kept was not: `{lost}`. Only in the history.
pub const EVENTS_LOST: &str = "events_lost";

/// All names of the host, in the order of docs/events.md. One of a plugin has a dot: the plugin's id stands before it.
pub const TOPICS: &[&str] = &[
    WORKFLOW_STARTED,
    WORKFLOW_COMPLETED,
    STEP_STARTED,
    STEP_COMPLETED,
    PLUGIN_LOADED,
    PLUGIN_UNLOADED,
    PLUGIN_ERROR,
    PLUGIN_UPDATED,
    HOOK_FAILED,
    HOOK_TRIPPED,
    HOOK_RECOVERED,
    HOOK_LOST,
    SESSION_CREATED,
    SESSION_ENDED,
    MESSAGE_RECEIVED,
    MESSAGE_SENT,
    MESSAGE_FAILED,
    EVENTS_LOST,
];

/// Which topics somebody hears.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Topics(Vec<Wanted>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    Exactly(String),
    Beginning(String),
}

impl Topics {
    /// All that begin so; all, when it is empty.
    pub fn beginning(prefix: &str) -> Self {
        Topics(vec![Wanted::Beginning(prefix.to_owned())])
    }

    /// Those of these names; one that ends in `*` means all that begin so.
    pub fn named<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Self {
        let wanted = names.into_iter().map(|name| match name.as_ref().strip_suffix('*') {
            Some(beginning) => Wanted::Beginning(beginning.to_owned()),
            None => Wanted::Exactly(name.as_ref().to_owned()),
        });
        Topics(wanted.collect())
    }

    /// These and those.
    #[must_use]
    pub fn and(mut self, other: Topics) -> Self {
        self.0.extend(other.0.into_iter().filter(|wanted| !self.0.contains(wanted)).collect::<Vec<_>>());
        self
    }

    /// Whether one of them is it.
    pub fn contain(&self, topic: &str) -> bool {
        self.0.iter().any(|wanted| match wanted {
            Wanted::Exactly(name) => name == topic,
            Wanted::Beginning(prefix) => topic.starts_with(prefix.as_str()),
        })
    }

    /// Whether nothing is heard.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// As they are written: `workflow_started, plugin_*`; all that there are as nothing.
impl fmt::Display for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, wanted) in self.0.iter().enumerate() {
            f.write_str(if n > 0 { ", " } else { "" })?;
            match wanted {
                Wanted::Exactly(name) => f.write_str(name)?,
                Wanted::Beginning(prefix) => write!(f, "{prefix}*")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_and_a_star_is_all_that_begin_so() {
        for (names, heard) in [
            (&["workflow_started"][..], &["workflow_started"][..]),
            (&["workflow_*", "a.done"], &["workflow_started", "workflow_completed", "a.done"]),
            (&["*"], &["workflow_started", "workflow_completed", "a.done", "a.done.really"]),
            (&[], &[]),
        ] {
            let topics = Topics::named(names);
            let all = ["workflow_started", "workflow_completed", "a.done", "a.done.really"];
            assert_eq!(all.into_iter().filter(|topic| topics.contain(topic)).collect::<Vec<_>>(), heard, "{names:?}");
            assert_eq!(topics.to_string(), names.join(", "));
        }
        assert!(Topics::beginning("").contain("x") && Topics::beginning("a.").contain("a.b") && !Topics::beginning("a.").contain("ab"));
        let both = Topics::named(["a"]).and(Topics::named(["a", "b*"]));
        assert_eq!(both.to_string(), "a, b*");
    }

    #[test]
    fn only_names_of_plugins_have_dots() {
        assert!(TOPICS.iter().all(|name| !name.contains('.') && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')));
    }
}
