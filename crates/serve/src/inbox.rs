//! Where channels hand over what people write: stored before it is taken, and once. Answers nothing.

use std::sync::{Arc, Weak, atomic::Ordering};

use bespoke_plugin_api::{BoxFuture, Code, Error, Inbound, InboxSink, Result};

use crate::{core::Core, lines::Line, news};

/// Most bytes of a name: of a chat, a person, a message.
const NAME: usize = 512;
/// Most bytes of a text.
const TEXT: usize = 1 << 20;
/// Most files of a message, and most bytes of all of them.
const FILES: (usize, usize) = (32, 64 << 20);
/// Most messages that wait. A channel keeps what comes after.
const WAITING: u64 = 100_000;

/// The intake of one channel.
pub(crate) struct Sink {
    core: Weak<Core>,
    line: Arc<Line>,
}

impl Sink {
    pub(crate) fn new(core: &Arc<Core>, line: &Arc<Line>) -> Self {
        Sink { core: Arc::downgrade(core), line: line.clone() }
    }

    fn take(&self, message: &Inbound) -> Result<()> {
        let closed = || Error::new(Code::NOT_READY, "the program is about to stop and takes no more messages").retryable();
        let core = self.core.upgrade().filter(|core| !core.is_closed() && !self.line.is_stopped()).ok_or_else(closed)?;
        check(message)?;
        if core.counts.waiting.load(Ordering::Relaxed) >= WAITING {
            return Err(Error::new(Code::RESOURCE_EXHAUSTED, format!("{WAITING} messages wait for an answer already")).retryable());
        }
        // Counted before it is there: whoever answers it at once takes it off again.
        core.counts.waiting.fetch_add(1, Ordering::Relaxed);
        let taken = core.state.take_in(self.line.name(), message);
        match taken {
            Ok(true) => {
                news::received(&core, self.line.name(), message);
                core.desk.knock(&core, self.line.name(), &message.chat);
            }
            Ok(false) | Err(_) => _ = core.counts.waiting.fetch_sub(1, Ordering::Relaxed),
        }
        Ok(taken.map(drop)?)
    }
}

impl InboxSink for Sink {
    fn accept(&self, message: Inbound) -> BoxFuture<'static, Result<()>> {
        let taken = self.take(&message);
        Box::pin(async move { taken })
    }
}

/// Whether a message is one: a channel that hands over what is not, will not do so more rightly the next time.
fn check(message: &Inbound) -> Result<()> {
    let fault = |what: String| Err(Error::invalid_params(what));
    for (what, name) in [("chat", &message.chat), ("sender", &message.sender), ("id", &message.id)] {
        if name.is_empty() && what != "sender" || name.len() > NAME {
            return fault(format!("the {what} of a message has {} bytes; it has to have 1 to {NAME}", name.len()));
        }
    }
    if message.text.len() > TEXT {
        return fault(format!("the text of a message has {} bytes; it may have {TEXT}", message.text.len()));
    }
    let (files, bytes) = (message.attachments.len(), message.attachments.iter().map(|file| file.data.len()).sum::<usize>());
    if files > FILES.0 || bytes > FILES.1 {
        return fault(format!("{files} files of {bytes} bytes came with a message; {} of {} bytes may", FILES.0, FILES.1));
    }
    Ok(())
}
