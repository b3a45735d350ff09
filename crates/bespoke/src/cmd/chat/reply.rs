//! An answer on its way to the channel.

use bespoke_host::{Leased, Refused, Slot};
use bespoke_plugin_api::{CallCx, Channel, Code, Duplex, Error, MessageRef, Outbound, next};

use crate::{
    conversation::Conversation,
    exit::{Exit, Failure, Result},
};

/// An answer on its way: shown as it is written, unless a hook wants to see it whole before it leaves.
pub(super) enum Reply<'s> {
    Stream(Leased<dyn Channel, Box<dyn Duplex<str, MessageRef>>>),
    Whole { slot: &'s Slot<dyn Channel>, chat: String, text: String },
}

impl<'s> Reply<'s> {
    pub(super) fn open(conversation: &Conversation<'_>, slot: &'s Slot<dyn Channel>, chat: &str) -> Result<Self> {
        if conversation.holds_back() {
            return Ok(Reply::Whole { slot, chat: chat.to_owned(), text: String::new() });
        }
        Ok(Reply::Stream(slot.enter(|channel| channel.stream(chat))?))
    }

    pub(super) fn push(&mut self, text: &str) -> bespoke_plugin_api::Result<()> {
        match self {
            Reply::Stream(stream) => stream.push(text),
            Reply::Whole { text: all, .. } => {
                all.push_str(text);
                Ok(())
            }
        }
    }

    /// What was written is no part of the answer: nothing of it was shown, or a new line begins.
    pub(super) fn begin_anew(&mut self) -> bespoke_plugin_api::Result<()> {
        match self {
            Reply::Stream(stream) => stream.push("\n"),
            Reply::Whole { text, .. } => {
                text.clear();
                Ok(())
            }
        }
    }

    pub(super) async fn send(self, conversation: &Conversation<'_>, cx: &CallCx) -> Result<()> {
        let (slot, message) = match self {
            Reply::Stream(mut stream) => {
                stream.finish().map_err(left)?;
                while let Some(sent) = next(&mut stream).await {
                    sent.map_err(left)?;
                }
                return Ok(());
            }
            Reply::Whole { slot, chat, text } => (slot, Outbound::new(chat, text)),
        };
        let chat = message.chat.clone();
        let withheld = |Refused { plugin, reason, .. }| Outbound::new(chat, format!("[withheld by {plugin}: {reason}]"));
        let message = conversation.sent(cx, message).await.unwrap_or_else(withheld);
        slot.call(cx, |channel, cx| async move { channel.send(&cx, message).await }).await.map(drop).map_err(left)
    }
}

/// A channel that cancels has lost whom it talks with: the conversation is over, and that is no failure.
pub(super) fn left(error: Error) -> Failure {
    if error.code() == Code::CANCELLED { Failure::new(Exit::Ok, "") } else { error.into() }
}
