//! What people see of the outbox, and do to it: letters that wait or are dead are looked at, sent now, forgotten. Sends nothing.

use bespoke_plugin_api::{Outbound, Timestamp};
use rusqlite::{OptionalExtension, Row, Transaction, params};
use serde::{Serialize, Serializer};

use crate::{
    State,
    error::StateError,
    file::Fault,
    time::{as_iso, iso, loaded, now, stored},
};

/// A letter that has not left. As JSON, times are ISO 8601 in UTC.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct KeptLetter {
    /// Its number.
    pub id: i64,
    /// What becomes of it.
    pub state: LetterState,
    /// Over which channel it is to leave.
    pub channel: String,
    /// In which chat.
    pub chat: String,
    /// The conversation that it belongs to, if it does.
    pub session: Option<String>,
    /// The message, its files without their bytes; `None` when it cannot be read.
    pub message: Option<Outbound>,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is sent, or tried again, if it waits for that; in the past, as soon as it can be.
    #[serde(serialize_with = "if_any")]
    pub next: Option<Timestamp>,
    /// The letter that has to leave first, if it waits for one: the oldest of its chat, which may still be written.
    pub behind: Option<i64>,
    /// Why it was not sent last.
    pub error: Option<String>,
    /// When it was written.
    #[serde(serialize_with = "as_iso")]
    pub created: Timestamp,
}

/// The oldest letter of the chat of `o` that is not dead.
macro_rules! head {
    () => {
        "(SELECT min(id) FROM outbox p WHERE p.channel = o.channel AND p.chat = o.chat AND p.state <> 'dead')"
    };
}

/// Letters as people see them.
macro_rules! kept {
    () => {
        concat!("SELECT id, state, channel, chat, session, body, attempts, next, error, created, ", head!(), " FROM outbox o")
    };
}

/// What becomes of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LetterState {
    /// It is to be sent.
    Waiting,
    /// It is being sent.
    Sending,
    /// It is not tried any more.
    Dead,
}

fn if_any<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(iso).serialize(serializer)
}

/// A letter as somebody means it.
struct Meant {
    id: i64,
    state: String,
    channel: String,
    chat: String,
    is_readable: bool,
}

impl State {
    /// Letters that have not left, by their numbers: at most so many after that one. An answer that is still written is none.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn letters(&self, after: i64, most: u32) -> Result<Vec<KeptLetter>, StateError> {
        self.read(|tx| {
            let mut query = tx.prepare_cached(concat!(kept!(), " WHERE id > ?1 AND state <> 'draft' ORDER BY id LIMIT ?2"))?;
            Ok(query.query_map(params![after, most], kept)?.collect::<Result<_, _>>()?)
        })
    }

    /// The letter of this number, if it has not left.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn kept_letter(&self, id: i64) -> Result<Option<KeptLetter>, StateError> {
        self.read(|tx| {
            let mut query = tx.prepare_cached(concat!(kept!(), " WHERE id = ?1 AND state <> 'draft'"))?;
            Ok(query.query_row([id], kept).optional()?)
        })
    }

    /// How many of these are being sent, or would be by now: they wait for no pause, and nor does the one that has to leave before them.
    ///
    /// # Errors
    /// When they cannot be counted.
    pub fn letters_under_way(&self, ids: &[i64]) -> Result<usize, StateError> {
        self.read(|tx| {
            let mut query = tx.prepare_cached(concat!(
                "SELECT 1 FROM outbox o WHERE id = ?1 AND state <> 'dead' AND EXISTS (SELECT 1 FROM outbox h WHERE h.id = ",
                head!(),
                " AND (h.state <> 'waiting' OR h.next <= ?2))"
            ))?;
            let (now, mut count) = (stored(now()), 0);
            for id in ids {
                count += usize::from(query.exists(params![id, now])?);
            }
            Ok(count)
        })
    }

    /// Has letters sent as soon as it can be: dead ones as if they had just been written, those that wait without their pause, and what
    /// stands before those in their chats. All that there are, or these, all or none. Answers with their numbers.
    ///
    /// # Errors
    /// `NoLetter` for a number that there is not, `LetterLeaves` for one that is being sent already, `UnreadableLetter`.
    pub fn resend_letters(&self, ids: Option<&[i64]>) -> Result<Vec<i64>, StateError> {
        self.write(|tx| {
            let mut sent = Vec::new();
            for letter in meant(tx, ids)? {
                if !letter.is_readable {
                    match ids {
                        Some(_) => return Err(StateError::UnreadableLetter { id: letter.id }.into()),
                        None => continue,
                    }
                }
                match letter.state.as_str() {
                    "dead" => tx
                        .prepare_cached("UPDATE outbox SET state = 'waiting', attempts = 0, next = 0, created = ?1 WHERE id = ?2")?
                        .execute(params![stored(now()), letter.id])?,
                    _ => tx
                        .prepare_cached("UPDATE outbox SET next = 0 WHERE channel = ?1 AND chat = ?2 AND id <= ?3 AND state = 'waiting'")?
                        .execute(params![letter.channel, letter.chat, letter.id])?,
                };
                sent.push(letter.id);
            }
            Ok(sent)
        })
    }

    /// Forgets letters, dead or waiting: they are never sent. All that there are, or these, all or none. Answers with their numbers.
    ///
    /// # Errors
    /// `NoLetter` for a number that there is not, `LetterLeaves` for one that is being sent.
    pub fn drop_letters(&self, ids: Option<&[i64]>) -> Result<Vec<i64>, StateError> {
        self.write(|tx| {
            let mut dropped = Vec::new();
            for letter in meant(tx, ids)? {
                tx.prepare_cached("DELETE FROM outbox WHERE id = ?1")?.execute([letter.id])?;
                dropped.push(letter.id);
            }
            Ok(dropped)
        })
    }

    /// Forgets dead letters that were written before. How many went.
    ///
    /// # Errors
    /// When that cannot be stored.
    pub fn forget_dead(&self, before: Timestamp) -> Result<u64, StateError> {
        let gone = self.write(|tx| {
            let mut forget = tx.prepare_cached("DELETE FROM outbox WHERE state = 'dead' AND created < ?1")?;
            Ok(forget.execute([stored(before)])?)
        })?;
        Ok(gone as u64)
    }
}

/// Letters that wait or are dead: all, or these, each of which has to be there.
fn meant(tx: &Transaction<'_>, ids: Option<&[i64]>) -> Result<Vec<Meant>, Fault> {
    let found = |row: &Row<'_>| {
        let body: String = row.get(4)?;
        let is_readable = serde_json::from_str::<Outbound>(&body).is_ok();
        Ok(Meant { id: row.get(0)?, state: row.get(1)?, channel: row.get(2)?, chat: row.get(3)?, is_readable })
    };
    let Some(ids) = ids else {
        let mut all =
            tx.prepare_cached("SELECT id, state, channel, chat, body FROM outbox WHERE state IN ('waiting', 'dead') ORDER BY id")?;
        return Ok(all.query_map([], found)?.collect::<Result<_, _>>()?);
    };
    let mut one = tx.prepare_cached("SELECT id, state, channel, chat, body FROM outbox WHERE id = ?1 AND state <> 'draft'")?;
    let (mut letters, mut unknown) = (Vec::with_capacity(ids.len()), Vec::new());
    for id in ids {
        match one.query_row([id], found).optional()? {
            Some(letter) => letters.push(letter),
            None => unknown.push(*id),
        }
    }
    if !unknown.is_empty() {
        return Err(StateError::NoLetter { ids: unknown }.into());
    }
    match letters.iter().find(|letter| letter.state == "sending") {
        Some(letter) => Err(StateError::LetterLeaves { id: letter.id }.into()),
        None => Ok(letters),
    }
}

fn kept(row: &Row<'_>) -> Result<KeptLetter, rusqlite::Error> {
    let (state, body): (String, String) = (row.get(1)?, row.get(5)?);
    let state = match state.as_str() {
        "waiting" => LetterState::Waiting,
        "sending" => LetterState::Sending,
        _ => LetterState::Dead,
    };
    let (id, created): (i64, i64) = (row.get(0)?, row.get(9)?);
    let behind = row.get::<_, Option<i64>>(10)?.filter(|head| state == LetterState::Waiting && *head < id);
    let next = match state {
        // Without a pause it is due since it was written.
        LetterState::Waiting if behind.is_none() => Some(loaded(row.get::<_, i64>(7)?.max(created))),
        _ => None,
    };
    Ok(KeptLetter {
        id,
        state,
        channel: row.get(2)?,
        chat: row.get(3)?,
        session: row.get(4)?,
        message: serde_json::from_str(&body).ok(),
        attempts: row.get(6)?,
        next,
        behind,
        error: row.get(8)?,
        created: loaded(created),
    })
}
