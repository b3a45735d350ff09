//! A session that is being held: what it says goes into the file, unless somebody else has continued it.

use bespoke_agent::Journal;
use bespoke_plugin_api::{Message, Result, Role, Timestamp, Usage};
use parking_lot::{Mutex, MutexGuard};
use rusqlite::{OptionalExtension, Transaction, params};

use crate::{
    Meta, State,
    error::StateError,
    file::Fault,
    sessions::{role_name, taken},
    time::{self, loaded, now, stored},
    title,
    waiting::held,
};

/// Writes one session, from where it was when it was resumed.
pub(crate) struct Pen {
    state: State,
    key: i64,
    meta: Meta,
    created: Timestamp,
    /// The revision that this pen has seen or made. Any other one in the file is somebody else's.
    revision: Mutex<i64>,
}

impl Pen {
    pub(crate) fn new(state: State, key: i64, revision: i64, meta: Meta, created: Timestamp) -> Self {
        Pen { state, key, meta, created, revision: Mutex::new(revision) }
    }

    /// Changes the messages, if they are still as this pen left them.
    fn change(&self, session: &str, work: impl FnOnce(&Transaction<'_>, i64) -> std::result::Result<bool, Fault>) -> Result<()> {
        let mut revision = held(&self.revision);
        self.state.write(|tx| if work(tx, *revision)? { Ok(()) } else { Err(self.overtaken(tx, session)?.into()) })?;
        *revision += 1;
        Ok(())
    }

    /// Message number `at`, in a transaction of somebody else; `false` when the session is not as it was at this revision.
    pub(crate) fn put(
        &self,
        tx: &Transaction<'_>,
        session: &str,
        revision: i64,
        at: usize,
        line: &Line<'_>,
    ) -> std::result::Result<bool, Fault> {
        let (at, time) = (at as i64, stored(now()));
        let mut count = tx.prepare_cached(
            "UPDATE sessions SET length = length + 1, revision = revision + 1, updated = ?1, writer = ?2, title = coalesce(title, ?3)
             WHERE key = ?4 AND revision = ?5 AND length = ?6",
        )?;
        let parameters = params![time, self.state.writer(), line.title, self.key, revision, at];
        if count.execute(parameters)? == 0 {
            if at > 0 || !self.begin_again(tx, session, revision)? {
                return Ok(false);
            }
            count.execute(parameters)?;
        }
        let message = line.message;
        tx.prepare_cached(
            "INSERT INTO messages (session, seq, role, text, tool_calls, tool_call_id, created) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![self.key, at, line.role, message.text, line.calls, message.tool_call_id, time])?;
        Ok(true)
    }

    /// The messages from number `at` on never were, as [`put`](Self::put).
    pub(crate) fn cut(&self, tx: &Transaction<'_>, revision: i64, at: usize) -> std::result::Result<bool, Fault> {
        let at = at as i64;
        let changed = tx
            .prepare_cached(
                "UPDATE sessions SET length = min(length, ?1), revision = revision + 1, updated = ?2, writer = ?3,
                        title = CASE WHEN ?1 = 0 THEN NULL ELSE title END
                 WHERE key = ?4 AND revision = ?5",
            )?
            .execute(params![at, stored(time::now()), self.state.writer(), self.key, revision])?;
        if changed == 0 {
            return Ok(false);
        }
        tx.prepare_cached("DELETE FROM messages WHERE session = ?1 AND seq >= ?2")?.execute(params![self.key, at])?;
        Ok(true)
    }

    /// Counts what was spent; `false` when the session is gone.
    pub(crate) fn add(&self, tx: &Transaction<'_>, usage: Usage) -> std::result::Result<bool, Fault> {
        let mut add = tx.prepare_cached(
            "UPDATE sessions SET prompt_tokens = prompt_tokens + ?1, cached_tokens = cached_tokens + ?2,
                    completion_tokens = completion_tokens + ?3 WHERE key = ?4",
        )?;
        Ok(add.execute(params![usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens, self.key])? > 0)
    }

    /// It is told that it begins. Nothing that was said changes, so its revision does not.
    pub(crate) fn announce(&self) -> Result<()> {
        self.state.write(|tx| {
            tx.prepare_cached("UPDATE sessions SET announced = 1 WHERE key = ?1")?.execute([self.key])?;
            Ok(())
        })?;
        Ok(())
    }

    /// Where it stands.
    pub(crate) fn revision(&self) -> MutexGuard<'_, i64> {
        held(&self.revision)
    }

    /// Makes the row again of a session in which nothing was said, after it was forgotten. Nothing that was said comes back with it.
    fn begin_again(&self, tx: &Transaction<'_>, session: &str, revision: i64) -> std::result::Result<bool, Fault> {
        let there = tx.prepare_cached("SELECT 1 FROM sessions WHERE key = ?1")?.exists([self.key])?;
        if there || taken(tx, session)? {
            return Ok(false);
        }
        let created = stored(self.created);
        tx.execute(
            "INSERT INTO sessions (key, id, channel, chat, agent, created, updated, writer, revision)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7, ?8)",
            params![self.key, session, self.meta.channel, self.meta.chat, self.meta.agent, created, self.state.writer(), revision],
        )?;
        Ok(true)
    }

    pub(crate) fn overtaken(&self, tx: &Transaction<'_>, session: &str) -> std::result::Result<StateError, Fault> {
        let last = tx
            .query_row("SELECT writer, updated FROM sessions WHERE key = ?1", [self.key], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let session = session.to_owned();
        Ok(match last {
            Some((by, at)) => StateError::Continued { session, by, at: loaded(at) },
            None => StateError::Gone { session },
        })
    }
}

/// A message as it is stored.
pub(crate) struct Line<'m> {
    message: &'m Message,
    role: &'static str,
    calls: Option<String>,
    /// What a session would be called that begins with it.
    title: Option<String>,
}

impl<'m> Line<'m> {
    pub(crate) fn of(message: &'m Message) -> Result<Self> {
        Ok(Line {
            message,
            role: role_name(message.role)?,
            calls: if message.tool_calls.is_empty() { None } else { Some(serde_json::to_string(&message.tool_calls)?) },
            title: if message.role == Role::User { title::of(&message.text) } else { None },
        })
    }
}

impl Journal for Pen {
    fn append(&self, session: &str, at: usize, message: &Message) -> Result<()> {
        let line = Line::of(message)?;
        self.change(session, |tx, revision| self.put(tx, session, revision, at, &line))
    }

    fn truncate(&self, session: &str, at: usize) -> Result<()> {
        self.change(session, |tx, revision| self.cut(tx, revision, at))
    }

    fn announced(&self, _: &str) -> Result<()> {
        self.announce()
    }

    /// Tokens are spent, whoever has continued the conversation.
    fn spent(&self, session: &str, usage: Usage) -> Result<()> {
        if self.state.write(|tx| self.add(tx, usage))? { Ok(()) } else { Err(StateError::Gone { session: session.to_owned() }.into()) }
    }
}
