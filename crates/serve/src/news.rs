//! What events tell of messages: that they came in, left, or came to nothing. Nothing that was said, and nobody waits for who listens.

use bespoke_host::topics;
use bespoke_plugin_api::{Attachment, Inbound};
use bespoke_state::Letter;
use serde_json::{Value, json};

use crate::core::Core;

/// What came to nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Failed {
    /// A row of the file is no message.
    Read,
    /// There is no answer, but an apology.
    Answered,
    /// It is a dead letter.
    Sent,
}

/// A message is in the file.
pub(crate) fn received(core: &Core, channel: &str, message: &Inbound) {
    core.host.events().tell(topics::MESSAGE_RECEIVED, || {
        let session = core.state.current(channel, &message.chat).ok().flatten().map(|current| current.session);
        told(channel, &message.chat, session.as_deref(), &message.text, &message.attachments)
    });
}

/// A letter has left.
pub(crate) fn sent(core: &Core, channel: &str, letter: &Letter) {
    let message = &letter.message;
    core.host
        .events()
        .tell(topics::MESSAGE_SENT, || told(channel, &message.chat, letter.session.as_deref(), &message.text, &message.attachments));
}

/// Something came to nothing. `code` is the kind of an error, `reason` has no secrets any more.
pub(crate) fn failed(core: &Core, (channel, chat): (&str, &str), session: Option<&str>, what: Failed, code: &str, reason: &str) {
    let what = match what {
        Failed::Read => "read",
        Failed::Answered => "answered",
        Failed::Sent => "sent",
    };
    core.host.events().tell(
        topics::MESSAGE_FAILED,
        || json!({ "channel": channel, "chat": chat, "session": session, "what": what, "code": code, "reason": reason }),
    );
}

fn told(channel: &str, chat: &str, session: Option<&str>, text: &str, files: &[Attachment]) -> Value {
    let kind = match files {
        [] => "text",
        files if files.iter().any(|file| file.voice) => "voice",
        _ => "files",
    };
    let size = text.len() + files.iter().map(|file| file.data.len()).sum::<usize>();
    json!({ "channel": channel, "chat": chat, "session": session, "kind": kind, "size": size })
}
