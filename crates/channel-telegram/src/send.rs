//! Sending: an answer becomes messages, each goes at its time, and what was cut short goes on where it stopped.

use std::time::Duration;

use bespoke_plugin_api::{
    CallCx, Error, MessageRef, Outbound, Result,
    serde_json::{Value, json},
};

use crate::{
    api::Posted,
    client::Body,
    core::Core,
    failure::{Failure, Kind},
    files, markdown,
    retry::backoff,
    sent::{self, Record},
    split::{self, Part},
};

/// The longest that Telegram is waited for here; with more the caller has something better to do.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How often a message is sent that does not go.
const TRIES: u32 = 3;

/// A conversation: a chat, or a topic of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// As the host names it.
    name: String,
    chat: i64,
    thread: Option<i64>,
}

impl Target {
    pub(crate) fn parse(name: &str) -> Result<Self> {
        let (chat, thread) = name.split_once(':').map_or((name, None), |(chat, thread)| (chat, Some(thread)));
        let parsed = chat.parse().ok().zip(thread.map_or(Some(None), |thread| thread.parse().ok().map(Some)));
        let Some((chat, thread)) = parsed else {
            let error = Error::invalid_params(format!("`{name}` is no chat of Telegram"));
            return Err(error.with_help("a chat is a number, such as 4711, or -100123 for a group"));
        };
        Ok(Target { name: name.to_owned(), chat, thread })
    }

    fn is_group(&self) -> bool {
        self.chat < 0
    }
}

/// Sends an answer. Its reference is that of its last message.
pub(crate) async fn send(core: &Core, call: &CallCx, message: &Outbound) -> Result<MessageRef> {
    let target = Target::parse(&message.chat)?;
    let parts = split::parts(&markdown::read(&message.text));
    let ways: Vec<_> = message.attachments.iter().map(files::way).collect::<Result<_>>()?;
    if parts.is_empty() && ways.is_empty() {
        return Err(Error::invalid_params("there is nothing in the message that Telegram could show"));
    }
    let known = message.idempotency_key.as_deref().and_then(|key| core.sent().under(&target.name, key));
    let mut record =
        known.unwrap_or_else(|| Record { chat: target.name.clone(), key: message.idempotency_key.clone(), ..Record::default() });
    let reply_to = message.reply_to.as_deref().and_then(|id| id.parse::<i64>().ok());
    let mut sending = Sending { core, call, target, record: &mut record };
    let result = sending.all(&parts, message, &ways, reply_to).await;
    core.sending(result.as_ref().err().map(|failure| &failure.error));
    result.map_err(|failure| failure.error)?;
    record.id = record.last();
    core.sent().keep(&record);
    let id = record.id.ok_or_else(|| Error::internal("an answer of no message was sent"))?;
    Ok(MessageRef::new(&message.chat, id.to_string()))
}

/// Replaces the text of an answer, with more messages or fewer where it needs them.
pub(crate) async fn edit(core: &Core, call: &CallCx, message: &MessageRef, new: &Outbound) -> Result<()> {
    let target = Target::parse(&message.chat)?;
    let id: i64 = message.id.parse().map_err(|_| Error::invalid_params(format!("`{}` is no message of Telegram", message.id)))?;
    if !new.attachments.is_empty() {
        return Err(Error::invalid_params("an edit brings no files; send them as a message of their own"));
    }
    let parts = split::parts(&markdown::read(&new.text));
    if parts.is_empty() {
        return Err(Error::invalid_params("there is nothing in the message that Telegram could show"));
    }
    let mut record = core.sent().called(&target.name, id).unwrap_or_else(|| Record::of(&target.name, id));
    let result = Sending { core, call, target, record: &mut record }.replace(&parts).await;
    core.sent().keep(&record);
    core.sending(result.as_ref().err().map(|failure| &failure.error));
    result.map_err(|failure| failure.error)
}

/// Shows that an answer is being written, for the next five seconds.
pub(crate) async fn typing(core: &Core, call: &CallCx, chat: &str) -> Result<()> {
    let target = Target::parse(chat)?;
    if !core.pacer().pause(core.cx.now(), &target.chat.to_string()).is_zero() {
        return Ok(());
    }
    let mut body = json!({ "chat_id": target.chat, "action": "typing" });
    if let Some(thread) = target.thread {
        body["message_thread_id"] = json!(thread);
    }
    let shown = core.client.call::<Value>(call, "sendChatAction", Body::Json(body)).await;
    shown.map(drop).map_err(|failure| failure.error)
}

/// An answer on its way.
struct Sending<'a> {
    core: &'a Core,
    call: &'a CallCx,
    target: Target,
    record: &'a mut Record,
}

impl Sending<'_> {
    /// Sends what of an answer was not sent yet.
    async fn all(&mut self, parts: &[Part], message: &Outbound, ways: &[files::Way], reply_to: Option<i64>) -> Result<(), Failure> {
        for part in parts.iter().skip(self.record.texts.len()) {
            let reply_to = reply_to.filter(|_| self.record.texts.is_empty());
            self.text(part, reply_to).await?;
        }
        for (attachment, way) in message.attachments.iter().zip(ways).skip(self.record.files.len()) {
            let reply_to = reply_to.filter(|_| self.record.last().is_none());
            let posted = match self.file(*way, attachment, reply_to).await {
                // A picture of odd proportions, a person who takes no voice notes: as a file it goes.
                Err(failure) if matches!(failure.kind, Kind::Refused { .. }) && *way != files::DOCUMENT => {
                    self.file(files::DOCUMENT, attachment, reply_to).await?
                }
                result => result?,
            };
            self.record.files.push(posted.message_id);
            self.remember();
        }
        Ok(())
    }

    /// Makes the messages of an answer say something else.
    async fn replace(&mut self, parts: &[Part]) -> Result<(), Failure> {
        for (n, part) in parts.iter().enumerate() {
            match self.record.texts.get(n).copied() {
                Some((_, mark)) if mark == sent::mark(part) => {}
                Some((id, _)) => {
                    self.change(id, part).await?;
                    self.record.texts[n].1 = sent::mark(part);
                }
                None => self.text(part, None).await?,
            }
        }
        while self.record.texts.len() > parts.len() {
            let Some((id, _)) = self.record.texts.pop() else { break };
            let gone = self.post("deleteMessage", |chat| Body::Json(json!({ "chat_id": chat, "message_id": id }))).await;
            match gone {
                // One that is gone, or too old to be deleted.
                Err(failure) if !matches!(failure.kind, Kind::Refused { .. }) => return Err(failure),
                _ => {}
            }
        }
        Ok(())
    }

    async fn text(&mut self, part: &Part, reply_to: Option<i64>) -> Result<(), Failure> {
        let (thread, text) = (self.target.thread, &part.text);
        let posted = self
            .styled(part, "sendMessage", |chat| {
                let mut body = json!({ "chat_id": chat, "text": text });
                if let Some(thread) = thread {
                    body["message_thread_id"] = json!(thread);
                }
                if let Some(id) = reply_to {
                    body["reply_parameters"] = answers(id);
                }
                body
            })
            .await?;
        let posted = posted_of(posted)?;
        self.record.texts.push((posted.message_id, sent::mark(part)));
        self.remember();
        Ok(())
    }

    async fn change(&mut self, id: i64, part: &Part) -> Result<(), Failure> {
        let text = &part.text;
        let changed = self.styled(part, "editMessageText", |chat| json!({ "chat_id": chat, "message_id": id, "text": text })).await;
        match changed {
            Err(failure) if failure.says("message is not modified") => Ok(()),
            changed => changed.map(drop),
        }
    }

    /// Posts a text with its styles, and plainly where Telegram does not take those.
    async fn styled(&self, part: &Part, method: &str, body: impl Fn(i64) -> Value) -> Result<Value, Failure> {
        let with = |entities: &[Value]| {
            let entities = entities.to_vec();
            let body = &body;
            move |chat| {
                let mut body = body(chat);
                if !entities.is_empty() {
                    body["entities"] = json!(entities);
                }
                Body::Json(body)
            }
        };
        match self.post(method, with(&part.entities)).await {
            Err(failure) if !part.entities.is_empty() && (failure.says("entit") || failure.says("parse")) => {
                self.post(method, with(&[])).await
            }
            result => result,
        }
    }

    async fn file(&self, way: files::Way, attachment: &bespoke_plugin_api::Attachment, reply_to: Option<i64>) -> Result<Posted, Failure> {
        let posted = self.post(way.method, |chat| {
            let mut fields = vec![("chat_id", chat.to_string())];
            fields.extend(self.target.thread.map(|thread| ("message_thread_id", thread.to_string())));
            fields.extend(reply_to.map(|id| ("reply_parameters", answers(id).to_string())));
            files::form(self.core, way, attachment, &fields)
        });
        posted_of(posted.await?)
    }

    /// Makes a request in the chat at its time, and again where that may help.
    async fn post(&self, method: &str, body: impl Fn(i64) -> Body) -> Result<Value, Failure> {
        let mut chat = self.target.chat;
        let mut tries = 0;
        loop {
            self.await_turn(chat).await?;
            let failure = match self.core.client.call(self.call, method, body(chat)).await {
                Ok(result) => return Ok(result),
                Err(failure) => failure,
            };
            tries += 1;
            match failure.kind {
                Kind::Flood(wait) => {
                    let now = self.core.cx.now();
                    self.core.pacer().hold(&chat.to_string(), now, now.plus(wait));
                    if tries >= TRIES {
                        return Err(failure);
                    }
                }
                // The group has become one of another kind, with another id.
                Kind::Refused { moved: Some(id) } if id != chat => {
                    let line = format!("chat {chat} is chat {id} now; plugins.telegram.allowed_chats may name the old one");
                    self.core.cx.log(bespoke_plugin_api::Level::Warn, &line);
                    chat = id;
                }
                Kind::Passing | Kind::Unreadable { .. } if tries < TRIES => {
                    self.core.sending(Some(&failure.error));
                    let wait = backoff(tries, self.core.chance());
                    if self.is_too_late(wait) {
                        return Err(failure);
                    }
                    self.core.pause(self.call, wait).await?;
                }
                _ => return Err(failure),
            }
            if tries > 2 * TRIES {
                return Err(Failure::passing(format!("{method}: the chat does not stay where it is")));
            }
        }
    }

    /// Waits until a message may go.
    async fn await_turn(&self, chat: i64) -> Result<(), Failure> {
        let (now, name) = (self.core.cx.now(), chat.to_string());
        let wait = if self.core.settings.paced {
            self.core.pacer().reserve(now, &name, self.target.is_group())
        } else {
            self.core.pacer().pause(now, &name)
        };
        if wait.is_zero() {
            return Ok(());
        }
        if wait > LONGEST_WAIT || self.is_too_late(wait) {
            return Err(Failure::flood(
                format!("chat {chat} gets no more than Telegram allows; the next message goes in {} s", wait.as_secs_f32()),
                wait,
            ));
        }
        self.core.pause(self.call, wait).await
    }

    fn is_too_late(&self, wait: Duration) -> bool {
        self.call.deadline().is_some_and(|at| self.core.cx.now().plus(wait) >= at)
    }

    fn remember(&self) {
        if self.record.key.is_some() || self.record.id.is_some() {
            self.core.sent().keep(self.record);
        }
    }
}

fn answers(id: i64) -> Value {
    json!({ "message_id": id, "allow_sending_without_reply": true })
}

fn posted_of(value: Value) -> Result<Posted, Failure> {
    bespoke_plugin_api::serde_json::from_value(value).map_err(|e| Failure::passing(format!("a message was sent, and has no id: {e}")))
}
