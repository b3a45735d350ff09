//! Messages that are to leave: one after the other in each chat, again and again until they have left or are dead.

use std::time::Duration;

use bespoke_plugin_api::{Outbound, Timestamp};
use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::pack::{pack, unpack};
use crate::{
    State,
    error::StateError,
    file::Fault,
    time::{loaded, now, stored},
};

/// A message that is to be sent now.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Letter {
    /// Its number.
    pub id: i64,
    /// The message, with its key.
    pub message: Outbound,
    /// The message that shows its beginning, as the channel names it: it is to be edited.
    pub shown: Option<String>,
    /// Whether it may have been sent before without our knowing.
    pub unsure: bool,
    /// How often it was sent, this time included.
    pub attempts: u32,
    /// When it was written.
    pub created: Timestamp,
    /// The conversation that it belongs to, if it does.
    pub session: Option<String>,
}

impl Letter {
    /// How long ago it was written.
    pub fn age(&self) -> Duration {
        self.created.until(now())
    }
}

/// Letters that may be sent now.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Due {
    /// Those, the oldest first.
    pub letters: Vec<Letter>,
    /// Those that cannot be read, and are dead letters from now on.
    pub unreadable: Vec<Unreadable>,
}

/// A letter that cannot be read, and was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unreadable {
    /// Its number.
    pub id: i64,
    /// Its chat.
    pub chat: String,
    /// The conversation that it belongs to, if it does.
    pub session: Option<String>,
    /// Why.
    pub error: String,
}

/// Why a letter was not sent, and what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trouble {
    /// Why, for people.
    pub error: String,
    /// Whether it may have been sent all the same.
    pub unsure: bool,
    /// Whether this time counts.
    pub counts: bool,
    /// When it is tried again; `None`: not any more.
    pub again_in: Option<Duration>,
    /// Whether the message that showed its beginning is given up: it is sent as a new one, under a new key.
    pub unshow: bool,
}

impl Trouble {
    /// It was not sent, is tried again after a while, and this counts.
    pub fn again_in(error: impl Into<String>, pause: Duration) -> Self {
        Trouble { error: error.into(), unsure: false, counts: true, again_in: Some(pause), unshow: false }
    }

    /// It is not tried any more.
    pub fn dead(error: impl Into<String>) -> Self {
        Trouble { error: error.into(), unsure: false, counts: true, again_in: None, unshow: false }
    }
}

/// A letter as it is stored.
pub(super) struct Written {
    body: String,
    files: Option<Vec<u8>>,
    message: Outbound,
}

impl Written {
    pub(super) fn of(mut message: Outbound) -> Result<Self, StateError> {
        message.idempotency_key = None;
        let mut light = message.clone();
        let files = pack(&mut light.attachments);
        let body = serde_json::to_string(&light).map_err(|error| StateError::Import(error.to_string()))?;
        Ok(Written { body, files, message })
    }
}

/// What keeps a letter from leaving: an older one of its chat.
macro_rules! heads {
    () => {
        "NOT EXISTS (SELECT 1 FROM outbox p WHERE p.channel = o.channel AND p.chat = o.chat AND p.id < o.id AND p.state <> 'dead')"
    };
}

impl State {
    /// Finds out after a start what the program before was doing: what was being sent may have been sent, and will be sent again. Answers
    /// with how many those are.
    ///
    /// # Errors
    /// When that cannot be stored.
    pub fn recover_letters(&self) -> Result<usize, StateError> {
        self.write(|tx| Ok(tx.execute("UPDATE outbox SET state = 'waiting', unsure = 1, next = 0 WHERE state = 'sending'", [])?))
    }

    /// Letters of a channel that may be sent now, at most one of each chat; from here on they count as being sent, until
    /// [`sent`](Self::sent) or [`not_sent`](Self::not_sent).
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn next_letters(&self, channel: &str, most: usize) -> Result<Due, StateError> {
        self.write(|tx| {
            let mut query = tx.prepare_cached(concat!(
                "UPDATE outbox SET state = 'sending', attempts = attempts + 1 WHERE id IN (
                     SELECT id FROM outbox o WHERE channel = ?1 AND state = 'waiting' AND next <= ?2 AND ",
                heads!(),
                " ORDER BY id LIMIT ?3) RETURNING id, body, files, key, shown, unsure, attempts, created, session, chat"
            ))?;
            let mut rows = query.query(params![channel, stored(now()), most as i64])?;
            let mut due = Due::default();
            while let Some(row) = rows.next()? {
                match self.letter(row) {
                    Ok(letter) => due.letters.push(letter),
                    Err(_) => {
                        let (id, session, chat) = (row.get(0)?, row.get(8)?, row.get(9)?);
                        due.unreadable.push(Unreadable { id, chat, session, error: format!("letter {id} cannot be read") });
                    }
                }
            }
            drop(rows);
            // One that stayed would keep its chat waiting, and fail with each look.
            for Unreadable { id, error, .. } in &due.unreadable {
                let mut bury = tx.prepare_cached("UPDATE outbox SET state = 'dead', error = ?1, attempts = attempts - 1 WHERE id = ?2")?;
                bury.execute(params![error, id])?;
            }
            due.letters.sort_by_key(|letter| letter.id);
            Ok(due)
        })
    }

    /// How long it is until a letter of a channel may be sent; `None` when none waits for anything but another one.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn next_letter_in(&self, channel: &str) -> Result<Option<Duration>, StateError> {
        let next: Option<i64> = self.read(|tx| {
            let mut query = tx.prepare_cached(concat!(
                "SELECT next FROM outbox o WHERE channel = ?1 AND state = 'waiting' AND ",
                heads!(),
                " ORDER BY next LIMIT 1"
            ))?;
            Ok(query.query_row([channel], |row| row.get(0)).optional()?)
        })?;
        Ok(next.map(|next| now().until(loaded(next))))
    }

    /// A letter has left. Says whether another one of its chat waits.
    ///
    /// # Errors
    /// When that cannot be stored.
    pub fn sent(&self, id: i64, channel: &str, chat: &str) -> Result<bool, StateError> {
        self.write(|tx| {
            tx.prepare_cached("DELETE FROM outbox WHERE id = ?1")?.execute([id])?;
            Ok(tx
                .prepare_cached("SELECT 1 FROM outbox WHERE channel = ?1 AND chat = ?2 AND state <> 'dead' LIMIT 1")?
                .exists([channel, chat])?)
        })
    }

    /// A letter was not sent.
    ///
    /// # Errors
    /// When that cannot be stored.
    pub fn not_sent(&self, id: i64, trouble: &Trouble) -> Result<(), StateError> {
        let next = trouble.again_in.map(|pause| stored(now().plus(pause)));
        let state = if next.is_some() { "waiting" } else { "dead" };
        self.write(|tx| {
            tx.prepare_cached(
                "UPDATE outbox SET state = ?1, next = ?2, error = ?3, unsure = max(unsure, ?4), attempts = attempts - ?5,
                        shown = CASE WHEN ?6 THEN NULL ELSE shown END,
                        key = CASE WHEN ?6 THEN lower(hex(randomblob(12))) ELSE key END
                 WHERE id = ?7",
            )?
            .execute(params![state, next.unwrap_or(0), trouble.error, trouble.unsure, !trouble.counts, trouble.unshow, id])?;
            Ok(())
        })
    }

    /// A letter is shown by this message of its channel, which is to be edited from now on.
    ///
    /// # Errors
    /// When that cannot be stored.
    pub fn shown(&self, id: i64, message: &str) -> Result<(), StateError> {
        self.write(|tx| {
            tx.prepare_cached("UPDATE outbox SET shown = ?1, unsure = 0 WHERE id = ?2")?.execute(params![message, id])?;
            Ok(())
        })
    }

    /// The letter that shows the answer to a message while it is written; it is to be sent, unless it is shown already. `None` when older
    /// letters of the chat have not left. [`conclude`](Self::conclude) ends it.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub fn draft(&self, answers: i64, channel: &str, message: &Outbound) -> Result<Option<Letter>, StateError> {
        let written = Written::of(message.clone())?;
        self.write(|tx| {
            let mut known = tx.prepare_cached(
                "UPDATE outbox SET unsure = max(unsure, shown IS NULL AND attempts > 0), attempts = attempts + 1 WHERE answers = ?1
                 RETURNING id, body, files, key, shown, unsure, attempts, created, session",
            )?;
            let mut rows = known.query([answers])?;
            if let Some(row) = rows.next()? {
                let letter = self.letter(row)?;
                // To the end: a statement that returns rows has done its work after the last one.
                while rows.next()?.is_some() {}
                return Ok(Some(letter));
            }
            let before = tx
                .prepare_cached("SELECT 1 FROM outbox WHERE channel = ?1 AND chat = ?2 AND state <> 'dead' LIMIT 1")?
                .exists([channel, &message.chat])?;
            if before {
                return Ok(None);
            }
            let new = New { session: None, state: "draft", answers: Some(answers) };
            insert(tx, (channel, &message.chat), written, new).map(Some)
        })
    }

    /// The draft was not sent for sure: the next time is the first.
    ///
    /// # Errors
    /// When that cannot be stored.
    pub fn draft_failed(&self, id: i64) -> Result<(), StateError> {
        self.write(|tx| {
            tx.prepare_cached("UPDATE outbox SET attempts = 0 WHERE id = ?1 AND state = 'draft'")?.execute([id])?;
            Ok(())
        })
    }

    /// How many letters are to leave and how many are dead, over all channels.
    ///
    /// # Errors
    /// When they cannot be counted.
    pub fn outbox_length(&self) -> Result<(u64, u64), StateError> {
        self.read(|tx| {
            let mut query = tx.prepare_cached("SELECT count(*), coalesce(sum(state = 'dead'), 0) FROM outbox")?;
            let (all, dead) = query.query_row([], |row| Ok((count(row, 0)?, count(row, 1)?)))?;
            Ok((all.saturating_sub(dead), dead))
        })
    }

    /// What an answer says, after its draft if there is one. The first letter comes back where the caller sends it.
    pub(super) fn write_letters(
        &self,
        tx: &Transaction<'_>,
        answers: i64,
        session: Option<&str>,
        (channel, chat): (&str, &str),
        letters: Vec<Written>,
        direct: bool,
    ) -> Result<Option<Letter>, Fault> {
        let mut letters = letters.into_iter();
        let draft: Option<i64> =
            tx.prepare_cached("SELECT id FROM outbox WHERE answers = ?1")?.query_row([answers], |row| row.get(0)).optional()?;
        let mut first = None;
        if let Some(draft) = draft {
            match letters.next() {
                Some(Written { body, files, .. }) => {
                    let mut replace = tx.prepare_cached(
                        "UPDATE outbox SET body = ?1, files = ?2, answers = NULL, next = 0, state = ?3,
                                unsure = max(unsure, shown IS NULL AND attempts > 0), attempts = ?4, session = ?6
                         WHERE id = ?5 RETURNING id, body, files, key, shown, unsure, attempts, created, session",
                    )?;
                    // Nothing of its chat is older, or there were no draft.
                    let state = if direct { "sending" } else { "waiting" };
                    let mut rows = replace.query(params![body, files, state, direct, draft, session])?;
                    if let Some(row) = rows.next()? {
                        first = direct.then(|| self.letter(row)).transpose()?;
                    }
                    while rows.next()?.is_some() {}
                }
                None => _ = tx.prepare_cached("DELETE FROM outbox WHERE id = ?1")?.execute([draft])?,
            }
        }
        for written in letters {
            let free = direct
                && first.is_none()
                && !tx
                    .prepare_cached("SELECT 1 FROM outbox WHERE channel = ?1 AND chat = ?2 AND state <> 'dead' LIMIT 1")?
                    .exists([channel, chat])?;
            let new = New { session, state: if free { "sending" } else { "waiting" }, answers: None };
            let letter = insert(tx, (channel, chat), written, new)?;
            if free {
                first = Some(letter);
            }
        }
        Ok(first)
    }

    fn letter(&self, row: &Row<'_>) -> Result<Letter, Fault> {
        let (id, body): (i64, String) = (row.get(0)?, row.get(1)?);
        let mut message: Outbound = serde_json::from_str(&body).map_err(|_| self.unreadable(id))?;
        unpack(&mut message.attachments, row.get(2)?).ok_or_else(|| self.unreadable(id))?;
        message.idempotency_key = Some(row.get(3)?);
        let (shown, unsure, attempts, created) = (row.get(4)?, row.get(5)?, row.get(6)?, loaded(row.get(7)?));
        Ok(Letter { id, message, shown, unsure, attempts, created, session: row.get(8)? })
    }

    fn unreadable(&self, id: i64) -> StateError {
        self.damaged(format!("letter {id} cannot be read"))
    }
}

/// A number of rows.
pub(super) fn count(row: &Row<'_>, at: usize) -> Result<u64, rusqlite::Error> {
    Ok(u64::try_from(row.get::<_, i64>(at)?).unwrap_or(0))
}

/// What a new letter is.
struct New<'n> {
    session: Option<&'n str>,
    /// One that waits has not been sent yet, any other one is.
    state: &'n str,
    /// The message of the inbox, while it is a draft.
    answers: Option<i64>,
}

fn insert(tx: &Transaction<'_>, (channel, chat): (&str, &str), written: Written, new: New<'_>) -> Result<Letter, Fault> {
    let (at, attempts) = (now(), u32::from(new.state != "waiting"));
    let Written { body, files, mut message } = written;
    let key: String = tx
        .prepare_cached(
            "INSERT INTO outbox (channel, chat, key, body, files, state, answers, attempts, created, session)
             VALUES (?1, ?2, lower(hex(randomblob(12))), ?3, ?4, ?5, ?6, ?7, ?8, ?9) RETURNING key",
        )?
        .query_row(params![channel, chat, body, files, new.state, new.answers, attempts, stored(at), new.session], |row| row.get(0))?;
    message.idempotency_key = Some(key);
    let session = new.session.map(str::to_owned);
    Ok(Letter { id: tx.last_insert_rowid(), message, shown: None, unsure: false, attempts, created: at, session })
}
