//! Albums: several pictures or files that somebody sends together come as messages of their own, and reach the agent as one.
//!
//! What has come of an album is stored, so that Telegram can be told that it was taken, and handed over when nothing more comes: no other
//! message waits for that.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bespoke_plugin_api::{
    CallCx, Inbox, Level, Timestamp,
    bytes::Bytes,
    serde::{self, Deserialize, Serialize},
    serde_json,
};

use crate::{
    core::Core,
    failure::Failure,
    receive::{self, Note},
};

/// Where they are kept.
const KEPT: &str = "albums";
/// How long after the last message of an album there may be another one; they come at once.
const QUIET: Duration = Duration::from_millis(700);
/// How long after the first one it is handed over, whatever comes.
const LONGEST: Duration = Duration::from_secs(3);
/// Messages of an album: Telegram's own limit.
const PARTS: usize = 10;
/// Albums that are open at the same time. What comes of more of them comes message by message.
const MOST: usize = 64;

/// Those of which more may come, one of a chat.
#[derive(Debug, Default)]
pub(crate) struct Albums(Mutex<BTreeMap<String, Album>>);

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(crate = "serde")]
struct Album {
    /// As Telegram calls it.
    group: String,
    parts: Vec<Note>,
    first: Timestamp,
    last: Timestamp,
    /// It is being handed over.
    #[serde(skip)]
    ending: bool,
}

/// As they are stored.
#[derive(Serialize, Deserialize)]
#[serde(crate = "serde")]
struct Kept {
    /// Another bot has its own.
    bot: i64,
    albums: BTreeMap<String, Album>,
}

impl Album {
    /// When it is handed over.
    fn due(&self) -> Timestamp {
        let due = self.last.plus(QUIET).min(self.first.plus(LONGEST));
        if self.parts.len() >= PARTS { self.last } else { due }
    }

    /// All of it as one message; `None` when nothing of it was said to the bot.
    fn whole(&self) -> Option<Note> {
        let mut all = self.parts.first()?.clone();
        let texts = self.parts.iter().map(|part| part.text.as_str()).filter(|text| !text.is_empty());
        all.text = texts.collect::<Vec<_>>().join("\n");
        all.wanted = self.parts.iter().flat_map(|part| part.wanted.clone()).collect();
        self.parts.iter().any(|part| part.spoken_to).then_some(all)
    }
}

impl Albums {
    fn open(&self) -> MutexGuard<'_, BTreeMap<String, Album>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a message of this chat has to wait for one that is being handed over.
    pub(crate) fn is_ending(&self, chat: &str) -> bool {
        self.open().get(chat).is_some_and(|album| album.ending)
    }

    /// How long it is until that of a chat is to be handed over, if nothing more comes.
    pub(crate) fn due_of(&self, chat: &str, now: Timestamp) -> Option<Duration> {
        self.open().get(chat).filter(|album| !album.ending).map(|album| now.until(album.due()))
    }

    /// How long it is until one is to be handed over.
    pub(crate) fn due_in(&self, now: Timestamp) -> Option<Duration> {
        self.open().values().filter(|album| !album.ending).map(|album| now.until(album.due())).min()
    }
}

/// What an earlier run of the program has left.
pub(crate) async fn load(core: &Core, bot: i64) {
    let kept = core.cx.host().load(KEPT).await.ok().flatten();
    let kept = kept.and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok()).filter(|kept| kept.bot == bot);
    let mut open = core.albums.open();
    kept.into_iter().flat_map(|kept| kept.albums).for_each(|(chat, album)| _ = open.entry(chat).or_insert(album));
}

/// Takes a message of an album; the message itself when it is to go alone.
///
/// # Errors
/// When the caller goes.
pub(crate) async fn add(core: &Core, call: &CallCx, inbox: &Inbox, bot: i64, group: String, note: Note) -> Result<Option<Note>, Failure> {
    let (now, chat) = (core.cx.now(), note.chat.clone());
    let other = core.albums.open().get(&chat).is_some_and(|album| album.group != group);
    if other {
        end(core, call, inbox, bot, &chat).await?;
    }
    {
        let mut open = core.albums.open();
        if open.len() >= MOST && !open.contains_key(&chat) {
            return Ok(Some(note));
        }
        let empty = Album { group, parts: Vec::new(), first: now, last: now, ending: false };
        let album = open.entry(chat.clone()).or_insert(empty);
        // One that comes again.
        if album.parts.iter().any(|part| part.message == note.message) {
            return Ok(None);
        }
        album.last = now;
        album.parts.push(note.clone());
    }
    if store(core, bot).await {
        return Ok(None);
    }
    // What is nowhere may not be acknowledged: it goes now.
    let mut open = core.albums.open();
    if let Some(album) = open.get_mut(&chat) {
        album.parts.retain(|part| part.message != note.message);
        if album.parts.is_empty() {
            open.remove(&chat);
        }
    }
    Ok(Some(note))
}

/// Hands over those whose time has come.
///
/// # Errors
/// When the caller goes.
pub(crate) async fn end_due(core: &Core, call: &CallCx, inbox: &Inbox, bot: i64) -> Result<(), Failure> {
    let now = core.cx.now();
    let due: Vec<String> = core.albums.open().iter().filter(|(_, album)| album.due() <= now).map(|(chat, _)| chat.clone()).collect();
    for chat in due {
        end(core, call, inbox, bot, &chat).await?;
    }
    Ok(())
}

/// Hands over that of a chat, if there is one.
///
/// # Errors
/// When the caller goes; it is kept then.
pub(crate) async fn end(core: &Core, call: &CallCx, inbox: &Inbox, bot: i64, chat: &str) -> Result<(), Failure> {
    let album = {
        let mut open = core.albums.open();
        let Some(album) = open.get_mut(chat).filter(|album| !album.ending) else { return Ok(()) };
        album.ending = true;
        album.clone()
    };
    let ending = Ending { core, chat };
    if let Some(note) = album.whole() {
        let message = receive::fetched(core, call, note).await?;
        receive::hand_over(core, call, inbox, message).await?;
    }
    core.albums.open().remove(chat);
    drop(ending);
    store(core, bot).await;
    Ok(())
}

/// One that was not handed over after all may be so later.
struct Ending<'a> {
    core: &'a Core,
    chat: &'a str,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if let Some(album) = self.core.albums.open().get_mut(self.chat) {
            album.ending = false;
        }
    }
}

/// Stores them as they are; whether that was possible.
async fn store(core: &Core, bot: i64) -> bool {
    let albums = core.albums.open().clone();
    let kept = if albums.is_empty() { None } else { serde_json::to_vec(&Kept { bot, albums }).ok().map(Bytes::from) };
    match core.cx.host().store(KEPT, kept).await {
        Ok(()) => true,
        Err(error) => {
            core.cx.log(Level::Debug, &format!("an album is not kept: {}", error.message()));
            false
        }
    }
}
