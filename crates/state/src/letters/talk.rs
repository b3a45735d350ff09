//! The conversation of a chat while one message is answered: what is said stays in memory until the answer is concluded.

use std::sync::Arc;

use bespoke_agent::{Journal, Session};
use bespoke_plugin_api::{Error, Message, Result, Usage};
use parking_lot::Mutex;
use rusqlite::{OptionalExtension, Row, Transaction, params};

use crate::{
    Meta, State,
    error::StateError,
    file::Fault,
    journal::{Line, Pen},
    sessions::{Going, insert},
    time::now,
    waiting::held,
};

/// A conversation that goes on in a chat, and what an answer adds to it until [`State::conclude`] stores both.
pub struct Talk {
    id: String,
    pen: Pen,
    /// Messages before those that the session was made of.
    skipped: usize,
    said: Mutex<Said>,
}

/// The session that goes on in a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Current {
    /// Its id.
    pub session: String,
    /// Whether its beginning was told.
    pub announced: bool,
    /// Whether nothing was said in it.
    pub is_empty: bool,
}

/// What would change.
#[derive(Default)]
struct Said {
    /// Messages of the file that stay.
    keep: usize,
    /// Whether there were more.
    cut: bool,
    messages: Vec<Message>,
    usage: Usage,
}

impl State {
    /// The conversation that goes on in a chat, or a new one: with as many of its last messages as a model may be shown by this many
    /// tokens. What is said in it is stored when the message is concluded that it answers.
    ///
    /// # Errors
    /// When it cannot be read or begun.
    pub fn talk(&self, channel: &str, chat: &str, tokens: u64) -> Result<(Session, Arc<Talk>), StateError> {
        let going = match self.read(|tx| self.talk_of(tx, channel, chat, tokens))? {
            Some(going) => going,
            None => self.write(|tx| self.begin_talk(tx, channel, chat))?,
        };
        let (id, messages, usage, announced) = (going.id.clone(), going.messages, going.usage, going.announced);
        let said = Mutex::new(Said { keep: going.length, ..Said::default() });
        let talk = Arc::new(Talk { id: going.id, pen: going.pen, skipped: going.length.saturating_sub(messages.len()), said });
        Ok((Session::kept(id, messages, usage, talk.clone()).announced(announced), talk))
    }

    /// The session that goes on in a chat, if there is one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn current(&self, channel: &str, chat: &str) -> Result<Option<Current>, StateError> {
        self.read(|tx| {
            let mut query = tx.prepare_cached(
                "SELECT id, announced OR length > 0, length = 0 FROM sessions
                 WHERE key = (SELECT session FROM chats WHERE channel = ?1 AND chat = ?2)",
            )?;
            let current = |row: &Row<'_>| Ok(Current { session: row.get(0)?, announced: row.get(1)?, is_empty: row.get(2)? });
            Ok(query.query_row([channel, chat], current).optional()?)
        })
    }

    fn begin_talk(&self, tx: &Transaction<'_>, channel: &str, chat: &str) -> Result<Going, Fault> {
        let (at, meta) = (now(), Meta::default().channel(channel).chat(chat));
        let id = self.free_id(tx, at)?;
        insert(tx, &id, &meta, at, self.writer())?;
        let key = tx.last_insert_rowid();
        tx.prepare_cached("INSERT OR REPLACE INTO chats (channel, chat, session) VALUES (?1, ?2, ?3)")?
            .execute(params![channel, chat, key])?;
        let pen = Pen::new(self.clone(), key, 0, meta, at);
        Ok(Going { id, messages: Vec::new(), length: 0, usage: Usage::default(), announced: false, pen })
    }
}

impl Talk {
    /// The id of the session.
    pub fn session(&self) -> &str {
        &self.id
    }

    /// Writes what was said. Answers with the revision that the session has then, for [`settle`](Self::settle).
    pub(super) fn write(&self, tx: &Transaction<'_>, by: Option<(&str, &str)>) -> Result<i64, Fault> {
        let said = held(&self.said);
        let mut revision = *self.pen.revision();
        let overtaken = || self.pen.overtaken(tx, &self.id);
        if said.cut {
            if !self.pen.cut(tx, revision, said.keep)? {
                return Err(overtaken()?.into());
            }
            revision += 1;
        }
        for (n, message) in said.messages.iter().enumerate() {
            // Each was looked at when it was said.
            let Ok(line) = Line::of(message) else { continue };
            if !self.pen.put(tx, &self.id, revision, said.keep + n, &line)? {
                return Err(overtaken()?.into());
            }
            revision += 1;
        }
        if said.usage != Usage::default() {
            self.pen.add(tx, said.usage)?;
        }
        if let Some((provider, model)) = by {
            tx.prepare_cached("UPDATE sessions SET provider = ?1, model = ?2 WHERE id = ?3")?.execute([provider, model, &self.id])?;
        }
        Ok(revision)
    }

    /// It is written.
    pub(super) fn settle(&self, revision: i64) {
        let mut said = held(&self.said);
        let keep = said.keep + said.messages.len();
        *said = Said { keep, ..Said::default() };
        *self.pen.revision() = revision;
    }
}

impl Journal for Talk {
    fn append(&self, _: &str, at: usize, message: &Message) -> Result<()> {
        Line::of(message)?;
        let mut said = held(&self.said);
        if self.skipped + at != said.keep + said.messages.len() {
            return Err(Error::internal("a message of a conversation was told out of its order"));
        }
        said.messages.push(message.clone());
        Ok(())
    }

    fn truncate(&self, _: &str, at: usize) -> Result<()> {
        let (mut said, at) = (held(&self.said), self.skipped + at);
        if at < said.keep {
            (said.keep, said.cut) = (at, true);
        }
        let left = at - said.keep;
        said.messages.truncate(left);
        Ok(())
    }

    /// At once: that it was told stays so, whatever becomes of the answer.
    fn announced(&self, _: &str) -> Result<()> {
        self.pen.announce()
    }

    fn spent(&self, _: &str, usage: Usage) -> Result<()> {
        let mut said = held(&self.said);
        said.usage = said.usage.plus(usage);
        Ok(())
    }
}

impl std::fmt::Debug for Talk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Talk").field("session", &self.id).finish_non_exhaustive()
    }
}
