//! Channels: where people write to the agent and read its answers.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::builder;
use crate::{BoxFuture, CallCx, Duplex, Error, Result};

/// What the host is told of a channel before it starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ChannelSpec {
    /// Its name.
    pub name: String,
    /// Whether [`Channel::edit`] works.
    pub edits: bool,
    /// Whether [`Channel::typing`] works.
    pub typing: bool,
    /// Whether [`Channel::stream`] works.
    #[serde(default)]
    pub streams: bool,
    /// Whether a message that is sent again with the same [`idempotency_key`](Outbound::idempotency_key) arrives once. Over a channel
    /// without this, a message whose sending was cut short by a crash may arrive twice.
    #[serde(default)]
    pub idempotent: bool,
    /// Whether [`Outbound::attachments`] are delivered.
    #[serde(default)]
    pub attachments: bool,
}

impl ChannelSpec {
    /// A channel that can only send.
    pub fn new(name: impl Into<String>) -> Self {
        ChannelSpec { name: name.into(), edits: false, typing: false, streams: false, idempotent: false, attachments: false }
    }
}

builder!(ChannelSpec {
    /// Whether [`Channel::edit`] works.
    edits: bool => edits,
    /// Whether [`Channel::typing`] works.
    typing: bool => typing,
    /// Whether [`Channel::stream`] works.
    streams: bool => streams,
    /// Whether a message that is sent again arrives once.
    idempotent: bool => idempotent,
    /// Whether attachments are delivered.
    attachments: bool => attachments,
});

/// A file that goes with a message.
///
/// Hooks see it without its bytes: they may take it away or rename it, and whatever they leave keeps the bytes that it had.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Attachment {
    /// Its name, without folders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Media type, such as `audio/ogg`.
    pub mime: String,
    /// Whether it was spoken to be heard: a voice note, and no piece of music.
    #[serde(default)]
    pub voice: bool,
    /// How many bytes it has.
    pub size: u64,
    /// The bytes.
    #[serde(default, skip_serializing_if = "Bytes::is_empty")]
    pub data: Bytes,
}

impl Attachment {
    /// A file.
    pub fn new(mime: impl Into<String>, data: impl Into<Bytes>) -> Self {
        let data = data.into();
        Attachment { name: None, mime: mime.into(), voice: false, size: data.len() as u64, data }
    }

    /// A voice note.
    pub fn voice(mime: impl Into<String>, data: impl Into<Bytes>) -> Self {
        Attachment { voice: true, ..Attachment::new(mime, data) }
    }

    /// Without its bytes.
    #[must_use]
    pub fn light(&self) -> Self {
        Attachment { data: Bytes::new(), ..self.clone() }
    }
}

builder!(Attachment {
    /// With a name.
    name: String => Some(name),
});

/// A message of a person to the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Inbound {
    /// The conversation, as the channel names it.
    pub chat: String,
    /// The person, as the channel names them.
    pub sender: String,
    /// Names the message in its chat; the host takes a message of the same id once.
    pub id: String,
    /// The text.
    pub text: String,
    /// What the person is called there, for people to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_name: Option<String>,
    /// Files that came with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
}

impl Inbound {
    /// A message.
    pub fn new(chat: impl Into<String>, sender: impl Into<String>, id: impl Into<String>, text: impl Into<String>) -> Self {
        Inbound { chat: chat.into(), sender: sender.into(), id: id.into(), text: text.into(), sender_name: None, attachments: Vec::new() }
    }
}

builder!(Inbound {
    /// What the person is called.
    sender_name: String => Some(sender_name),
    /// Files that came with it.
    attachments: Vec<Attachment> => attachments,
});

/// A message of the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Outbound {
    /// The conversation.
    pub chat: String,
    /// The text.
    pub text: String,
    /// The same key means the same message: a channel that can, sends it once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// Id of the message that it answers, as [`Inbound::id`] has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// Files that go with it, over channels whose spec says `attachments`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
}

impl Outbound {
    /// A message.
    pub fn new(chat: impl Into<String>, text: impl Into<String>) -> Self {
        Outbound { chat: chat.into(), text: text.into(), idempotency_key: None, reply_to: None, attachments: Vec::new() }
    }
}

builder!(Outbound {
    /// Makes sending repeatable.
    idempotency_key: String => Some(idempotency_key),
    /// As the answer to a message.
    reply_to: String => Some(reply_to),
    /// With files.
    attachments: Vec<Attachment> => attachments,
});

/// Names a message that was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MessageRef {
    /// The conversation.
    pub chat: String,
    /// The message in it.
    pub id: String,
}

impl MessageRef {
    /// A reference.
    pub fn new(chat: impl Into<String>, id: impl Into<String>) -> Self {
        MessageRef { chat: chat.into(), id: id.into() }
    }
}

/// Where the host takes messages from a channel.
pub trait InboxSink: Send + Sync {
    /// Takes a message for good.
    fn accept(&self, message: Inbound) -> BoxFuture<'static, Result<()>>;
}

/// The channel's end of the host's intake.
#[derive(Clone)]
pub struct Inbox(Arc<dyn InboxSink>);

impl Inbox {
    /// An inbox over a sink of the host.
    pub fn new(sink: Arc<dyn InboxSink>) -> Self {
        Inbox(sink)
    }

    /// Hands a message over. When this returns `Ok` the message is durably taken, and only then may the channel
    /// acknowledge it at its source.
    pub async fn accept(&self, message: Inbound) -> Result<()> {
        self.0.accept(message).await
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inbox")
    }
}

/// The contract of a channel.
///
/// A message is Markdown as models write it; the channel turns it into what its people see, splits what is too long, and waits out
/// limits of its service. An error says by [`retryable`](Error::retryable) whether sending it once more may help.
#[async_trait]
pub trait Channel: Send + Sync {
    /// Listens until `cx` is cancelled or the source ends.
    async fn run(&self, cx: &CallCx, inbox: Inbox) -> Result<()>;

    /// Sends a message. Its reference is that of the last part, where it was split.
    async fn send(&self, cx: &CallCx, message: Outbound) -> Result<MessageRef>;

    /// Replaces a message that was sent, for channels whose spec says `edits`.
    async fn edit(&self, _cx: &CallCx, _message: MessageRef, _new: Outbound) -> Result<()> {
        Err(Error::unsupported("channel.edit"))
    }

    /// Shows that an answer is being written, for channels whose spec says `typing`.
    async fn typing(&self, _cx: &CallCx, _chat: &str) -> Result<()> {
        Err(Error::unsupported("channel.typing"))
    }

    /// Sends a message piece by piece, for channels whose spec says `streams`: text goes in as it is written, `finish` ends the
    /// message, and its reference comes out. Dropping it before that leaves the message as it is.
    fn stream(&self, _chat: &str) -> Result<Box<dyn Duplex<str, MessageRef>>> {
        Err(Error::unsupported("channel.stream"))
    }
}
