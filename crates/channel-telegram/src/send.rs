//! Sending: an answer becomes messages, each goes at its time, and what was cut short goes on where it stopped.

use std::time::Duration;

use bespoke_plugin_api::{
    Attachment, CallCx, Error, Level, MessageRef, Outbound, Result,
    serde_json::{self, Value, json},
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

/// Sends an answer. Its reference is that of its last message. Of one that has been begun under its key, what is missing is sent, and
/// what says something else is changed.
pub(crate) async fn send(core: &Core, call: &CallCx, message: &Outbound) -> Result<MessageRef> {
    let target = Target::parse(&message.chat)?;
    let known = message.idempotency_key.as_deref().and_then(|key| core.sent().under(&target.name, key));
    let begun = || Record { chat: target.name.clone(), key: message.idempotency_key.clone(), ..Record::default() };
    let mut record = known.unwrap_or_else(begun);
    show(core, call, target, &mut record, message).await?;
    record.id = record.id.or(record.last());
    core.sent().keep(&record);
    let id = record.id.ok_or_else(|| Error::internal("an answer of no message was sent"))?;
    Ok(MessageRef::new(&message.chat, id.to_string()))
}

/// Replaces an answer, with more messages or fewer where it needs them. Files that it brings come after it.
pub(crate) async fn edit(core: &Core, call: &CallCx, message: &MessageRef, new: &Outbound) -> Result<()> {
    let target = Target::parse(&message.chat)?;
    let id: i64 = message.id.parse().map_err(|_| Error::invalid_params(format!("`{}` is no message of Telegram", message.id)))?;
    let mut record = core.sent().called(&target.name, id).unwrap_or_else(|| Record::of(&target.name, id));
    let shown = show(core, call, target, &mut record, new).await;
    core.sent().keep(&record);
    shown
}

/// Makes the messages of an answer be what it says.
async fn show(core: &Core, call: &CallCx, target: Target, record: &mut Record, message: &Outbound) -> Result<()> {
    let parts = split::parts(&markdown::read(&message.text));
    // Before anything is sent: what cannot be sent whole is not begun.
    let ways: Vec<_> = message.attachments.iter().map(files::way).collect::<Result<_>>()?;
    if parts.is_empty() && ways.is_empty() {
        return Err(Error::invalid_params("there is nothing in the message that Telegram could show"));
    }
    let reply_to = message.reply_to.as_deref().and_then(|id| id.parse::<i64>().ok());
    let mut sending = Sending { core, call, target, record, reply_to };
    let mut result = sending.texts(&parts).await;
    if result.is_ok() {
        result = sending.files(&message.attachments, &ways).await;
    }
    // Besides the one that is edited.
    if sending.record.texts.len() + sending.record.files.len() > usize::from(sending.record.id.is_some()) {
        result = result.map_err(Failure::perhaps_there);
    }
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
    /// The message that its first one answers.
    reply_to: Option<i64>,
}

impl Sending<'_> {
    async fn texts(&mut self, parts: &[Part]) -> Result<(), Failure> {
        for (n, part) in parts.iter().enumerate() {
            match self.record.texts.get(n).copied() {
                Some((_, mark)) if mark == sent::mark(part) => {}
                Some((id, _)) => {
                    self.change(id, part).await?;
                    self.record.texts[n].1 = sent::mark(part);
                }
                None => self.text(part).await?,
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

    async fn files(&mut self, attachments: &[Attachment], ways: &[files::Way]) -> Result<(), Failure> {
        for (attachment, way) in attachments.iter().zip(ways).skip(self.record.files.len()) {
            let posted = match self.file(*way, attachment).await {
                // A picture of odd proportions, a person who takes no voice notes: as a file it goes.
                Err(failure) if matches!(failure.kind, Kind::Refused { .. }) && *way != files::DOCUMENT => {
                    self.file(files::DOCUMENT, attachment).await?
                }
                result => result?,
            };
            self.record.files.push(posted.message_id);
            self.remember();
        }
        Ok(())
    }

    /// What the next message answers: only the first one of an answer does.
    fn answers(&self) -> Option<Value> {
        let id = self.reply_to.filter(|_| self.record.last().is_none())?;
        Some(json!({ "message_id": id, "allow_sending_without_reply": true }))
    }

    async fn text(&mut self, part: &Part) -> Result<(), Failure> {
        let (thread, text, answers) = (self.target.thread, &part.text, self.answers());
        let posted = self
            .styled(part, "sendMessage", |chat| {
                let mut body = json!({ "chat_id": chat, "text": text });
                if let Some(thread) = thread {
                    body["message_thread_id"] = json!(thread);
                }
                if let Some(answers) = &answers {
                    body["reply_parameters"] = answers.clone();
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

    async fn file(&self, way: files::Way, attachment: &Attachment) -> Result<Posted, Failure> {
        let answers = self.answers();
        let posted = self.post(way.method, |chat| {
            let mut fields = vec![("chat_id", chat.to_string())];
            fields.extend(self.target.thread.map(|thread| ("message_thread_id", thread.to_string())));
            fields.extend(answers.as_ref().map(|answers| ("reply_parameters", answers.to_string())));
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
                    self.core.cx.log(Level::Warn, &line);
                    chat = id;
                }
                // Another try must not be a second message. That one is the host's to make: it counts it, and says so.
                Kind::Unsent if tries < TRIES => self.retry(failure, tries).await?,
                Kind::Passing | Kind::Unreadable { .. } if tries < TRIES && !method.starts_with("send") => {
                    self.retry(failure, tries).await?
                }
                _ => return Err(failure),
            }
            if tries > 2 * TRIES {
                return Err(Failure::passing(format!("{method}: the chat does not stay where it is")));
            }
        }
    }

    /// Tells of a failure, and waits until the next try.
    ///
    /// # Errors
    /// The failure, when there is no time for one.
    async fn retry(&self, failure: Failure, tries: u32) -> Result<(), Failure> {
        let wait = backoff(tries, self.core.chance());
        if self.is_too_late(wait) {
            return Err(failure);
        }
        self.core.sending(Some(&failure.error));
        self.core.pause(self.call, wait).await
    }

    /// Waits until a message may go.
    async fn await_turn(&self, chat: i64) -> Result<(), Failure> {
        let (now, name) = (self.core.cx.now(), chat.to_string());
        let left = self.call.deadline().map_or(LONGEST_WAIT, |at| now.until(at).min(LONGEST_WAIT));
        let place = match self.core.settings.paced {
            true => self.core.pacer().reserve(now, &name, self.target.is_group(), left),
            false => Ok(self.core.pacer().pause(now, &name)).and_then(|wait| if wait > left { Err(wait) } else { Ok(wait) }),
        };
        match place {
            Ok(wait) if wait.is_zero() => Ok(()),
            Ok(wait) => self.core.pause(self.call, wait).await,
            Err(wait) => {
                let told = format!("chat {chat} gets no more than Telegram allows; the next message goes in {} s", wait.as_secs_f32());
                Err(Failure::flood(told, wait))
            }
        }
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

fn posted_of(value: Value) -> Result<Posted, Failure> {
    serde_json::from_value(value).map_err(|e| Failure::passing(format!("a message was sent, and has no id: {e}")))
}
