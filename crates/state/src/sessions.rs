//! Sessions: begun, resumed, listed, shown, named, deleted.

use std::{fmt::Display, sync::Arc};

use bespoke_agent::{Journal, Session};
use bespoke_plugin_api::{Error, Message, Role, Timestamp, Usage};
use rusqlite::{OptionalExtension, Row, Transaction, params};

use crate::{
    Deleted, Filter, Kept, Meta, State, Summary,
    error::StateError,
    file::Fault,
    journal::Pen,
    time::{digits, loaded, now, stored},
    title,
};

/// Ids of one second that are tried before we give up.
const TRIES: usize = 16;

/// A session in which nothing was said is forgotten after a day. Whoever holds it still begins it again with the first message.
const UNUSED_MICROS: i64 = 24 * 60 * 60 * 1_000_000;

/// Most ids that an ambiguous one is told to fit.
const TOLD: usize = 3;

/// Columns of a [`Summary`], in the order of [`summary`].
macro_rules! summaries {
    ($rest:literal) => {
        concat!(
            "SELECT key, revision, id, coalesce(name, title, ''), created, updated, channel, chat, agent, provider, model, length,
                    prompt_tokens, cached_tokens, completion_tokens, announced FROM sessions ",
            $rest
        )
    };
}

impl State {
    /// Begins a conversation. It is listed as soon as something is said in it.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub fn create(&self, meta: &Meta) -> Result<Session, StateError> {
        let at = now();
        let (id, key) = self.write(|tx| {
            tx.execute("DELETE FROM sessions WHERE length = 0 AND updated < ?1", [stored(at).saturating_sub(UNUSED_MICROS)])?;
            let id = self.free_id(tx, at)?;
            insert(tx, &id, meta, at, self.writer())?;
            Ok((id, tx.last_insert_rowid()))
        })?;
        let pen = Pen::new(self.clone(), key, 0, meta.clone(), at);
        Ok(Session::kept(id, Vec::new(), Usage::default(), Arc::new(pen)))
    }

    /// Continues a conversation, whose messages are stored from now on as they are completed. A call of a tool that was never
    /// answered is taken out of it.
    ///
    /// `id` is the whole id, or a beginning or an end of one that fits no other.
    ///
    /// # Errors
    /// `Unknown` and `Ambiguous`.
    pub fn resume(&self, id: &str) -> Result<Session, StateError> {
        let (row, messages) = self.read(|tx| {
            let row = self.find_row(tx, id)?;
            let messages = self.messages(tx, &row)?;
            Ok((row, messages))
        })?;
        let messages = messages.into_iter().map(|(_, message)| message).collect();
        let pen = row.pen(self);
        Ok(Session::kept(row.summary.id, messages, row.summary.usage, Arc::new(pen)).announced(row.announced))
    }

    /// Writes a session from where it stands now, for whoever holds its messages without a [`Session`].
    ///
    /// # Errors
    /// `Unknown` and `Ambiguous`.
    pub fn journal(&self, id: &str) -> Result<Arc<dyn Journal>, StateError> {
        let row = self.read(|tx| self.find_row(tx, id))?;
        Ok(Arc::new(row.pen(self)))
    }

    /// The session of a channel, or of one of its chats, in which something was said last.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn latest(&self, channel: &str, chat: Option<&str>) -> Result<Option<Summary>, StateError> {
        self.read(|tx| {
            let mut query = tx.prepare_cached(summaries!(
                "WHERE channel = ?1 AND (?2 IS NULL OR chat = ?2) AND length > 0 ORDER BY updated DESC, id DESC LIMIT 1"
            ))?;
            Ok(query.query_row(params![channel, chat], found).optional()?.map(|row| row.summary))
        })
    }

    /// A session by its id, or by a beginning or an end of it.
    ///
    /// # Errors
    /// `Unknown` and `Ambiguous`.
    pub fn find(&self, id: &str) -> Result<Summary, StateError> {
        self.read(|tx| Ok(self.find_row(tx, id)?.summary))
    }

    /// Sessions, the one that was changed last first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn list(&self, filter: &Filter, limit: u32, offset: u32) -> Result<Vec<Summary>, StateError> {
        self.read(|tx| {
            let mut query = tx.prepare_cached(summaries!(
                "WHERE (?1 IS NULL OR channel = ?1) AND (?2 IS NULL OR chat = ?2) AND (?3 IS NULL OR updated < ?3) AND (?4 OR length > 0)
                 ORDER BY updated DESC, id DESC LIMIT ?5 OFFSET ?6"
            ))?;
            let parameters = params![filter.channel, filter.chat, filter.before.map(stored), filter.unused, limit, offset];
            let rows = query.query_map(parameters, found)?.collect::<Result<Vec<_>, _>>()?;
            Ok(rows.into_iter().map(|row| row.summary).collect())
        })
    }

    /// A session with what was said.
    ///
    /// # Errors
    /// `Unknown` and `Ambiguous`.
    pub fn show(&self, id: &str) -> Result<Kept, StateError> {
        self.read(|tx| {
            let row = self.find_row(tx, id)?;
            let messages = self.messages(tx, &row)?;
            Ok(Kept { summary: row.summary, messages })
        })
    }

    /// Names a session; an empty name gives it its first words again. Answers with the whole id.
    ///
    /// # Errors
    /// `Unknown` and `Ambiguous`.
    pub fn rename(&self, id: &str, name: &str) -> Result<String, StateError> {
        let name = title::named(name);
        self.write(|tx| {
            let row = self.find_row(tx, id)?;
            tx.execute("UPDATE sessions SET name = ?1 WHERE key = ?2", params![name, row.key])?;
            Ok(row.summary.id)
        })
    }

    /// Notes who has answered last; what is `None` stays as it was.
    ///
    /// # Errors
    /// `Gone`.
    pub fn answered(&self, session: &str, provider: Option<&str>, model: Option<&str>) -> Result<(), StateError> {
        let changed = self.write(|tx| {
            let mut update =
                tx.prepare_cached("UPDATE sessions SET provider = coalesce(?1, provider), model = coalesce(?2, model) WHERE id = ?3")?;
            Ok(update.execute(params![provider, model, session])?)
        })?;
        if changed == 0 { Err(StateError::Gone { session: session.to_owned() }) } else { Ok(()) }
    }

    /// Deletes sessions by their whole ids, all at once; one that is gone already is no error. What was said in them is
    /// overwritten.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn delete(&self, ids: &[impl AsRef<str>]) -> Result<Deleted, StateError> {
        let sessions = self.write(|tx| {
            let mut delete = tx.prepare_cached("DELETE FROM sessions WHERE id = ?1")?;
            ids.iter().try_fold(0, |sum, id| Ok(sum + delete.execute([id.as_ref()])?))
        })?;
        Ok(Deleted { sessions, erased: self.erase_traces() })
    }

    /// An id that nobody has.
    pub(crate) fn free_id(&self, tx: &Transaction<'_>, at: Timestamp) -> Result<String, Fault> {
        for _ in 0..TRIES {
            let mut random = [0; 2];
            getrandom::fill(&mut random).map_err(|e| self.other(e))?;
            let id = format!("{}-{:04x}", digits(at), u16::from_be_bytes(random));
            if !taken(tx, &id)? {
                return Ok(id);
            }
        }
        Err(self.other("too many sessions begin in this second").into())
    }

    fn other(&self, source: impl Display) -> StateError {
        StateError::Database { path: self.path().to_owned(), source: source.to_string().into() }
    }

    fn find_row(&self, tx: &Transaction<'_>, id: &str) -> Result<Found, Fault> {
        let exact = tx.prepare_cached(summaries!("WHERE id = ?1"))?.query_row([id], found).optional()?;
        if let Some(row) = exact {
            return Ok(row);
        }
        let unknown = || StateError::Unknown { session: id.to_owned() };
        if id.is_empty() {
            return Err(unknown().into());
        }
        let mut query = tx.prepare_cached(summaries!(
            "WHERE substr(id, 1, length(?1)) = ?1 OR substr(id, -length(?1)) = ?1 ORDER BY updated DESC, id DESC LIMIT ?2"
        ))?;
        let mut rows = query.query_map(params![id, TOLD as i64], found)?.collect::<Result<Vec<_>, _>>()?;
        match (rows.pop(), rows.is_empty()) {
            (Some(row), true) => Ok(row),
            (Some(last), false) => {
                let matches = rows.into_iter().chain([last]).map(|row| row.summary.id).collect();
                Err(StateError::Ambiguous { session: id.to_owned(), matches }.into())
            }
            (None, _) => Err(unknown().into()),
        }
    }

    fn messages(&self, tx: &Transaction<'_>, session: &Found) -> Result<Vec<(Timestamp, Message)>, Fault> {
        let mut query =
            tx.prepare_cached("SELECT created, role, text, tool_calls, tool_call_id FROM messages WHERE session = ?1 ORDER BY seq")?;
        let mut rows = query.query([session.key])?;
        // No capacity from the file: a damaged one may claim anything.
        let mut messages = Vec::new();
        while let Some(row) = rows.next()? {
            messages.push((loaded(row.get(0)?), self.message(row, messages.len(), session)?));
        }
        if messages.len() as u64 != session.summary.length {
            let (there, length) = (messages.len(), session.summary.length);
            return Err(self.damaged(format!("session {} has {there} messages instead of {length}", session.summary.id)).into());
        }
        Ok(messages)
    }

    /// The last messages of a session, oldest first: as many whole turns as fit this many tokens, by the estimate of four bytes a token
    /// and four for each message, and one turn more.
    fn last_messages(&self, tx: &Transaction<'_>, session: &Found, tokens: u64) -> Result<Vec<Message>, Fault> {
        let mut query = tx.prepare_cached(
            "SELECT created, role, text, tool_calls, tool_call_id, seq FROM messages WHERE session = ?1 ORDER BY seq DESC",
        )?;
        let mut rows = query.query([session.key])?;
        let (mut messages, mut used) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            let at = usize::try_from(row.get::<_, i64>(5)?).unwrap_or(usize::MAX);
            let message = self.message(row, at, session)?;
            let calls: usize = message.tool_calls.iter().map(|call| call.name.len() + call.args.to_string().len()).sum();
            used += ((message.text.len() + calls) / 4 + 4) as u64;
            let begins = message.role == Role::User;
            messages.push(message);
            if begins && used > tokens {
                break;
            }
        }
        messages.reverse();
        Ok(messages)
    }

    /// The conversation that goes on in a chat, without what is older than a model is shown, and its pen; `None` when there is none.
    pub(crate) fn talk_of(&self, tx: &Transaction<'_>, channel: &str, chat: &str, tokens: u64) -> Result<Option<Going>, Fault> {
        let mut query = tx.prepare_cached(summaries!("WHERE key = (SELECT session FROM chats WHERE channel = ?1 AND chat = ?2)"))?;
        let Some(found) = query.query_row([channel, chat], found).optional()? else { return Ok(None) };
        let messages = self.last_messages(tx, &found, tokens)?;
        let (length, usage) = (usize::try_from(found.summary.length).unwrap_or(usize::MAX), found.summary.usage);
        let (pen, announced) = (found.pen(self), found.announced);
        Ok(Some(Going { id: found.summary.id, messages, length, usage, announced, pen }))
    }

    fn message(&self, row: &Row<'_>, at: usize, session: &Found) -> Result<Message, Fault> {
        let wrong = |what: &str| self.damaged(format!("message {at} of session {} {what}", session.summary.id));
        let role = row.get_ref(1)?.as_str().ok().and_then(role_of).ok_or_else(|| wrong("has no role that there is"))?;
        let mut message = Message::new(role, row.get::<_, String>(2)?);
        if let Some(calls) = row.get::<_, Option<String>>(3)? {
            message = message.tool_calls(serde_json::from_str(&calls).map_err(|_| wrong("has calls that cannot be read"))?);
        }
        message.tool_call_id = row.get(4)?;
        Ok(message)
    }
}

/// A conversation that goes on.
pub(crate) struct Going {
    pub(crate) id: String,
    /// The last ones.
    pub(crate) messages: Vec<Message>,
    /// How many there are.
    pub(crate) length: usize,
    pub(crate) usage: Usage,
    pub(crate) announced: bool,
    pub(crate) pen: Pen,
}

/// A new row, without messages.
pub(crate) fn insert(tx: &Transaction<'_>, id: &str, meta: &Meta, at: Timestamp, writer: &str) -> Result<(), rusqlite::Error> {
    tx.prepare_cached("INSERT INTO sessions (id, channel, chat, agent, created, updated, writer) VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6)")?
        .execute(params![id, meta.channel, meta.chat, meta.agent, stored(at), writer])
        .map(drop)
}

pub(crate) fn taken(tx: &Transaction<'_>, id: &str) -> Result<bool, rusqlite::Error> {
    tx.prepare_cached("SELECT 1 FROM sessions WHERE id = ?1")?.exists([id])
}

/// How a role is stored.
pub(crate) fn role_name(role: Role) -> Result<&'static str, Error> {
    match role {
        Role::System => Ok("system"),
        Role::User => Ok("user"),
        Role::Assistant => Ok("assistant"),
        Role::Tool => Ok("tool"),
        other => Err(Error::internal(format!("a message of the role {other:?} cannot be stored"))),
    }
}

fn role_of(name: &str) -> Option<Role> {
    [Role::System, Role::User, Role::Assistant, Role::Tool].into_iter().find(|role| role_name(*role) == Ok(name))
}

/// A row of `sessions`.
struct Found {
    key: i64,
    revision: i64,
    announced: bool,
    summary: Summary,
}

impl Found {
    /// Continues it.
    fn pen(&self, state: &State) -> Pen {
        let s = &self.summary;
        let meta = Meta { channel: s.channel.clone(), chat: s.chat.clone(), agent: s.agent.clone() };
        Pen::new(state.clone(), self.key, self.revision, meta, s.created)
    }
}

fn found(row: &Row<'_>) -> Result<Found, rusqlite::Error> {
    let tokens = |at: usize| Ok::<u32, rusqlite::Error>(u32::try_from(row.get::<_, i64>(at)?.max(0)).unwrap_or(u32::MAX));
    let usage = Usage::new(tokens(12)?, tokens(14)?).cached_tokens(tokens(13)?);
    Ok(Found {
        key: row.get(0)?,
        revision: row.get(1)?,
        announced: row.get(15)?,
        summary: Summary {
            id: row.get(2)?,
            title: row.get(3)?,
            created: loaded(row.get(4)?),
            updated: loaded(row.get(5)?),
            channel: row.get(6)?,
            chat: row.get(7)?,
            agent: row.get(8)?,
            provider: row.get(9)?,
            model: row.get(10)?,
            length: u64::try_from(row.get::<_, i64>(11)?).unwrap_or(0),
            usage,
        },
    })
}
