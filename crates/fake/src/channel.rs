//! A channel whose people follow the script, and whose other end is a list.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bespoke_plugin_api::{CallCx, Channel, Code, Duplex, Error, Inbound, Inbox, MessageRef, Outbound, Result, async_trait};

use crate::{Fake, Sent};

pub(crate) struct Wire(pub(crate) Arc<Fake>);

impl Fake {
    /// Puts a message on the list; one with a known key is on it already.
    fn record(&self, message: Outbound) -> MessageRef {
        let mut sent = self.sent();
        let known = message.idempotency_key.as_ref().and_then(|key| sent.iter().find(|s| s.message.idempotency_key.as_ref() == Some(key)));
        let id = match known {
            Some(known) => known.id.clone(),
            None => {
                let id = format!("{}", sent.len() + 1);
                sent.push(Sent { id: id.clone(), message: message.clone() });
                id
            }
        };
        MessageRef::new(message.chat, id)
    }
}

#[async_trait]
impl Channel for Wire {
    async fn run(&self, cx: &CallCx, inbox: Inbox) -> Result<()> {
        let script = self.0.script();
        for (number, message) in script.messages.iter().enumerate() {
            if cx.is_cancelled() {
                return Ok(());
            }
            inbox.accept(Inbound::new(&message.chat, &message.sender, format!("{}", number + 1), &message.text)).await?;
        }
        cx.cancelled().await;
        Ok(())
    }

    async fn send(&self, _cx: &CallCx, message: Outbound) -> Result<MessageRef> {
        Ok(self.0.record(message))
    }

    async fn edit(&self, _cx: &CallCx, message: MessageRef, new: Outbound) -> Result<()> {
        let mut sent = self.0.sent();
        let found = sent.iter_mut().find(|s| s.id == message.id && s.message.chat == message.chat);
        let found =
            found.ok_or_else(|| Error::new(Code::INVALID_PARAMS, format!("there is no message {} in {}", message.id, message.chat)))?;
        found.message.text = new.text;
        Ok(())
    }

    async fn typing(&self, _cx: &CallCx, _chat: &str) -> Result<()> {
        Ok(())
    }

    fn stream(&self, chat: &str) -> Result<Box<dyn Duplex<str, MessageRef>>> {
        Ok(Box::new(Writing { fake: self.0.clone(), message: Outbound::new(chat, ""), finished: false, done: None }))
    }
}

struct Writing {
    fake: Arc<Fake>,
    message: Outbound,
    finished: bool,
    done: Option<MessageRef>,
}

impl Duplex<str, MessageRef> for Writing {
    fn push(&mut self, text: &str) -> Result<()> {
        if self.finished {
            return Err(Error::invalid_params("push after finish"));
        }
        self.message.text.push_str(text);
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        if !std::mem::replace(&mut self.finished, true) {
            self.done = Some(self.fake.record(self.message.clone()));
        }
        Ok(())
    }

    fn poll_next(&mut self, _cx: &mut Context<'_>) -> Poll<Option<Result<MessageRef>>> {
        match self.done.take() {
            Some(message) => Poll::Ready(Some(Ok(message))),
            None if self.finished => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}
