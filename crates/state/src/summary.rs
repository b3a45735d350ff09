//! What is known of a session, and which sessions are meant. Reads and writes nothing.

use bespoke_plugin_api::{Message, Timestamp, Usage};
use serde::Serialize;

use crate::time::as_iso;

/// What is known of a conversation when it begins.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Meta {
    /// Name of the channel that it is held over.
    pub channel: Option<String>,
    /// Which chat of the channel.
    pub chat: Option<String>,
    /// Which agent answers.
    pub agent: Option<String>,
}

impl Meta {
    /// Over this channel.
    #[must_use]
    pub fn channel(mut self, channel: impl Into<String>) -> Self {
        self.channel = Some(channel.into());
        self
    }

    /// In this chat of the channel.
    #[must_use]
    pub fn chat(mut self, chat: impl Into<String>) -> Self {
        self.chat = Some(chat.into());
        self
    }

    /// Answered by this agent.
    #[must_use]
    pub fn agent(mut self, agent: impl Into<String>) -> Self {
        self.agent = Some(agent.into());
        self
    }
}

/// Which sessions are meant; by default, all in which something was said.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Filter {
    /// Those over this channel.
    pub channel: Option<String>,
    /// Those of this chat.
    pub chat: Option<String>,
    /// Those whose last change is older.
    pub before: Option<Timestamp>,
    /// Also those in which nothing was said.
    pub unused: bool,
}

impl Filter {
    /// Those over this channel.
    #[must_use]
    pub fn channel(mut self, channel: impl Into<String>) -> Self {
        self.channel = Some(channel.into());
        self
    }

    /// Those of this chat.
    #[must_use]
    pub fn chat(mut self, chat: impl Into<String>) -> Self {
        self.chat = Some(chat.into());
        self
    }

    /// Those whose last change is older.
    #[must_use]
    pub fn before(mut self, at: Timestamp) -> Self {
        self.before = Some(at);
        self
    }

    /// Also those in which nothing was said.
    #[must_use]
    pub fn unused(mut self) -> Self {
        self.unused = true;
        self
    }
}

/// A session, without what was said. As JSON, times are ISO 8601 in UTC.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Summary {
    /// Such as `20261120-093015-7f3a`: when it began, in UTC, and four random digits. Sorts by time.
    pub id: String,
    /// Its name, or the first words of the user; empty before those.
    pub title: String,
    /// When it began.
    #[serde(serialize_with = "as_iso")]
    pub created: Timestamp,
    /// When a message came or went last.
    #[serde(serialize_with = "as_iso")]
    pub updated: Timestamp,
    /// Name of the channel.
    pub channel: Option<String>,
    /// Which chat of the channel.
    pub chat: Option<String>,
    /// The agent that answered last.
    pub agent: Option<String>,
    /// The provider that answered last.
    pub provider: Option<String>,
    /// The model that answered last.
    pub model: Option<String>,
    /// Number of messages.
    pub length: u64,
    /// Tokens of all requests.
    pub usage: Usage,
}

/// A session with what was said.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Kept {
    /// What it is.
    pub summary: Summary,
    /// Its messages, oldest first, and when each was complete.
    pub messages: Vec<(Timestamp, Message)>,
}

/// What deleting did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deleted {
    /// Sessions that were there and are not any more.
    pub sessions: usize,
    /// Whether nothing of them is left. Another process that is reading keeps the log, which holds them until the last one
    /// closes the file, or the next deletion; so does a log that cannot be emptied, or a copy that cannot be removed.
    pub erased: bool,
}
