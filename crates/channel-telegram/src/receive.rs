//! Which messages are for the agent, and what it gets of them.

use std::{borrow::Cow, pin::pin, time::Duration};

use bespoke_plugin_api::{
    CallCx, Code, Inbound, Inbox, Level,
    serde::{self, Deserialize, Serialize},
    serde_json::json,
};

use crate::{
    api::{File, Message, Update, User},
    client::Body,
    config::Access,
    core::Core,
    failure::{Failure, Kind},
    files,
    retry::backoff,
};

/// Who Telegram names when an administrator of a group writes as the group.
const ANONYMOUS_ADMINISTRATOR: i64 = 1_087_968_824;

/// How long a message may still be taken when the channel is to end.
const GRACE: Duration = Duration::from_secs(5);

/// What is to be done with a message.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// It is for the agent: its text without the name of the bot.
    Take(String),
    /// It is, if another one of its album is.
    Beside(String),
    /// Somebody who may not write to the bot did.
    Stranger(i64),
    /// It is for nobody here.
    Pass,
}

/// Judges a message by who wrote it, where, and to whom.
pub(crate) fn judge(message: &Message, me: &User, access: &Access) -> Verdict {
    let Some(from) = &message.from else { return Verdict::Pass };
    let group = match message.chat.kind.as_str() {
        "private" => false,
        "group" | "supergroup" => true,
        _ => return Verdict::Pass,
    };
    // Two bots that answer each other never end.
    if from.is_bot && from.id != ANONYMOUS_ADMINISTRATOR {
        return Verdict::Pass;
    }
    let text = message.text.as_deref().or(message.caption.as_deref()).unwrap_or_default();
    let heard = hear(text, me.username.as_deref().unwrap_or_default());
    let replied = message.reply_to_message.as_ref().and_then(|m| m.from.as_ref()).is_some_and(|from| from.id == me.id);
    let spoken_to = !group || heard.mentioned || replied || heard.command == Command::Ours;
    // Of an album, one message has the words.
    let beside = !spoken_to && message.media_group_id.is_some() && access.admits(from.id, message.chat.id);
    if heard.command == Command::Others || !(spoken_to || beside) {
        return Verdict::Pass;
    }
    let text = with_others(heard.text, message);
    if text.is_empty() && wanted(message).is_empty() {
        return Verdict::Pass;
    }
    match access.admits(from.id, message.chat.id) {
        true if beside => Verdict::Beside(text),
        true => Verdict::Take(text),
        false => Verdict::Stranger(from.id),
    }
}

/// What a text says of whom it is for.
struct Heard {
    text: String,
    mentioned: bool,
    command: Command,
}

#[derive(Debug, PartialEq)]
enum Command {
    None,
    Ours,
    /// For another bot, by its name.
    Others,
}

/// Takes the bot's name out of a text: `@name` wherever it stands, and that behind a command.
fn hear(text: &str, name: &str) -> Heard {
    let mut command = Command::None;
    let text = text.trim();
    if let Some(rest) = text.strip_prefix('/') {
        let word = rest.split(char::is_whitespace).next().unwrap_or_default();
        let (verb, to) = word.split_once('@').map_or((word, None), |(verb, to)| (verb, Some(to)));
        if verb.starts_with(|c: char| c.is_ascii_alphabetic()) && verb.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
        {
            command = if to.is_none_or(|to| to.eq_ignore_ascii_case(name)) { Command::Ours } else { Command::Others };
            let rest = &rest[word.len()..];
            if command == Command::Ours {
                let rest = without(rest, name);
                return Heard { text: format!("/{verb}{}", rest.0).trim().to_owned(), mentioned: rest.1, command };
            }
        }
    }
    let (text, mentioned) = without(text, name);
    Heard { text: text.trim().to_owned(), mentioned, command }
}

/// A text without `@name`, and whether it stood there.
fn without(text: &str, name: &str) -> (String, bool) {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (mut kept, mut rest, mut found) = (String::new(), text, false);
    if name.is_empty() {
        return (text.to_owned(), false);
    }
    while let Some(at) = rest.find('@') {
        let after = &rest[at + 1..];
        let ours = after.get(..name.len()).is_some_and(|word| word.eq_ignore_ascii_case(name)) && !after[name.len()..].starts_with(is_name);
        let before = if at == 0 { kept.as_str() } else { &rest[..at] };
        let alone = !before.ends_with(is_name);
        if ours && alone {
            found = true;
            kept.push_str(&rest[..at]);
            rest = &after[name.len()..];
            // One of the two spaces around it goes with it.
            if kept.is_empty() || kept.ends_with(char::is_whitespace) {
                rest = rest.strip_prefix(' ').unwrap_or(rest);
            }
        } else {
            kept.push_str(&rest[..=at]);
            rest = after;
        }
    }
    kept.push_str(rest);
    (kept, found)
}

/// The text, with a word for what of the message the agent cannot see: nobody is left without an answer.
fn with_others(text: String, message: &Message) -> String {
    if let Some(sticker) = &message.sticker {
        return sticker.emoji.clone().unwrap_or_else(|| "(a sticker)".to_owned());
    }
    let unread = [
        (message.animation.is_some(), "an animation"),
        (message.video.is_some(), "a video"),
        (message.video_note.is_some(), "a video message"),
        (message.location.is_some(), "a location"),
        (message.contact.is_some(), "a contact"),
        (message.poll.is_some(), "a poll"),
    ];
    match unread.into_iter().find(|(there, _)| *there) {
        Some((_, what)) => with_note(text, &format!("{what}, which cannot be read here")),
        None => text,
    }
}

fn with_note(text: String, note: &str) -> String {
    if text.is_empty() { format!("({note})") } else { format!("{text}\n({note})") }
}

/// A file of a message, and what it is taken for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(crate = "serde")]
pub(crate) struct Wanted {
    pub(crate) file: File,
    pub(crate) what: Cow<'static, str>,
    pub(crate) mime: String,
    pub(crate) name: Option<String>,
    pub(crate) voice: bool,
}

/// The files of a message that the agent is given.
fn wanted(message: &Message) -> Vec<Wanted> {
    // An animation is there once more as a document, for programs that know none.
    let document = message.document.as_ref().filter(|_| message.animation.is_none());
    let kinds = [
        (message.voice.as_ref(), "a voice note", "audio/ogg", None),
        (message.audio.as_ref(), "a recording", "audio/mpeg", None),
        (message.photo.iter().max_by_key(|photo| photo.file_size), "a picture", "image/jpeg", Some("photo.jpg")),
        (document, "a file", "application/octet-stream", None),
    ];
    let wanted = kinds.into_iter().filter_map(|(file, what, mime, name)| {
        let file = file?;
        Some(Wanted {
            file: file.clone(),
            what: what.into(),
            mime: file.mime_type.clone().unwrap_or_else(|| mime.to_owned()),
            name: file.file_name.clone().or(name.map(str::to_owned)),
            voice: what == "a voice note",
        })
    });
    wanted.collect()
}

/// What the agent gets of a message, once its files are fetched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(crate = "serde")]
pub(crate) struct Note {
    /// The conversation, as the host names it.
    pub(crate) chat: String,
    pub(crate) sender: i64,
    pub(crate) sender_name: String,
    pub(crate) message: i64,
    pub(crate) text: String,
    pub(crate) wanted: Vec<Wanted>,
    /// Whether it is for the agent by itself, and not only beside another one of its album.
    pub(crate) spoken_to: bool,
}

/// What an update brings.
pub(crate) enum Received {
    Nothing,
    Message(Note),
    /// One of several that were sent together: which ones, and this.
    Part(String, Note),
}

/// What an update has for the agent.
pub(crate) async fn received(core: &Core, call: &CallCx, me: &User, update: Update) -> Received {
    let Some(message) = update.message else { return Received::Nothing };
    let verdict = judge(&message, me, &core.access());
    let (text, spoken_to) = match verdict {
        Verdict::Take(text) => (text, true),
        Verdict::Beside(text) => (text, false),
        Verdict::Pass => return Received::Nothing,
        Verdict::Stranger(user) => {
            refuse(core, call, &message, user).await;
            return Received::Nothing;
        }
    };
    let wanted = wanted(&message);
    let from = message.from.unwrap_or_default();
    let thread = message.message_thread_id.filter(|_| message.is_topic_message);
    let chat = thread.map_or_else(|| message.chat.id.to_string(), |thread| format!("{}:{thread}", message.chat.id));
    let name = [Some(from.first_name.as_str()), from.last_name.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(" ");
    let sender_name = if name.trim().is_empty() { from.username.unwrap_or_default() } else { name.trim().to_owned() };
    let note = Note { chat, sender: from.id, sender_name, message: message.message_id, text, wanted, spoken_to };
    match message.media_group_id {
        Some(group) => Received::Part(group, note),
        None => Received::Message(note),
    }
}

/// Fetches the files of a message.
///
/// # Errors
/// When the caller goes.
pub(crate) async fn fetched(core: &Core, call: &CallCx, note: Note) -> Result<Inbound, Failure> {
    let (mut text, mut attachments) = (note.text, Vec::new());
    for wanted in note.wanted {
        match files::fetch(core, call, &wanted).await {
            Ok(attachment) => attachments.push(attachment),
            Err(failure) if failure.kind == Kind::Cancelled => return Err(failure),
            Err(failure) => {
                core.cx.log(Level::Warn, &format!("{} is not fetched: {}", wanted.what, failure.error.message()));
                let too_large = failure.error.code() == Code::RESOURCE_EXHAUSTED || failure.says("file is too big");
                let why = if too_large { "is too large to be read here" } else { "could not be fetched" };
                text = with_note(text, &format!("{}, which {why}", wanted.what));
            }
        }
    }
    let inbound = Inbound::new(note.chat, note.sender.to_string(), note.message.to_string(), text).attachments(attachments);
    Ok(if note.sender_name.is_empty() { inbound } else { inbound.sender_name(note.sender_name) })
}

/// Tells the log, and where nobody has been let in yet the person too, how this one would be.
async fn refuse(core: &Core, call: &CallCx, message: &Message, user: i64) {
    if !core.is_new(user) {
        return;
    }
    let (command, empty) = {
        let access = core.access();
        (access.command(user), access.is_empty())
    };
    let chat = message.chat.id;
    core.cx.log(Level::Warn, &format!("user {user} in chat {chat} may not write to the bot; to let them in: {command}"));
    // Who has set the bot up writes to it first, and sees here how to go on. Others are not answered.
    if empty && message.chat.kind == "private" {
        let text = format!("Nobody may write to this bot yet. Whoever runs it lets you in with\n{command}");
        let body = json!({ "chat_id": chat, "text": text });
        if let Err(failure) = core.client.call::<bespoke_plugin_api::serde_json::Value>(call, "sendMessage", Body::Json(body)).await {
            core.cx.log(Level::Debug, &format!("a stranger is not told: {}", failure.error.message()));
        }
    }
}

/// Hands a message over, until it is taken.
///
/// # Errors
/// When the caller goes.
pub(crate) async fn hand_over(core: &Core, call: &CallCx, inbox: &Inbox, message: Inbound) -> Result<(), Failure> {
    let mut tries = 0;
    loop {
        if call.is_cancelled() {
            return Err(Failure::cancelled());
        }
        let mut accepting = pin!(inbox.accept(message.clone()));
        let accepted = match call.unless_cancelled(accepting.as_mut()).await {
            Ok(accepted) => accepted,
            // What has been begun is as good as done, and then it should not come again.
            Err(_) => match core.cx.within(&CallCx::new(), GRACE, accepting).await {
                Ok(Some(accepted)) => accepted,
                _ => return Err(Failure::cancelled()),
            },
        };
        match accepted {
            Ok(()) => return Ok(()),
            // The host never takes this one, and those behind it are not to wait for ever.
            Err(e) if e.code() == Code::INVALID_PARAMS => {
                core.cx.log(Level::Error, &format!("message {} of chat {} is refused and lost: {}", message.id, message.chat, e.message()));
                return Ok(());
            }
            Err(e) => {
                core.receiving(Some(&e));
                tries += 1;
                core.pause(call, backoff(tries, core.chance())).await?;
            }
        }
    }
}

#[cfg(test)]
#[path = "receive_tests.rs"]
mod tests;
