//! Messages that came in: taken once, answered in the order in which they came, concluded with their answers.

use bespoke_plugin_api::{Inbound, Outbound, Timestamp};
use rusqlite::{OptionalExtension, Transaction, params};

use super::{
    Talk,
    outbox::{Letter, count},
    pack::{pack, unpack},
};
use crate::{
    State,
    error::StateError,
    file::Fault,
    time::{loaded, now, stored},
};

/// How long it is known that a message was taken.
const KNOWN_MICROS: i64 = 30 * 24 * 60 * 60 * 1_000_000;
/// After so many messages those are forgotten that are older.
const SWEEP_EVERY: i64 = 1_024;

/// A message whose answer is begun.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Taken {
    /// Its number.
    pub id: i64,
    /// The message; of one that cannot be read, its chat alone.
    pub message: Inbound,
    /// Why it cannot be read, if that is so: it is to be concluded with this as its [`Ending::aside`].
    pub damage: Option<String>,
    /// How often its answer was begun, this time included.
    pub attempts: u32,
    /// When it came.
    pub created: Timestamp,
}

/// How a message was answered.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Ending<'t> {
    /// The conversation, with what was said in it.
    pub talk: Option<&'t Talk>,
    /// Provider and model of the answer.
    pub by: Option<(&'t str, &'t str)>,
    /// Whether the next message begins a new conversation.
    pub renew: bool,
    /// What is said to the user, in this order. The first takes the place of the draft, if there is one.
    pub letters: Vec<Outbound>,
    /// Whether the caller sends the first of them at once, if nothing else is to be sent to the chat before it.
    pub direct: bool,
    /// Why the message itself is set aside as a dead letter, for somebody who may make something of it.
    pub aside: Option<&'t str>,
}

/// What became of it.
#[derive(Debug, PartialEq)]
#[non_exhaustive]
pub struct Concluded {
    /// The letter that is the caller's to send, as if [`State::next_letters`] had given it.
    pub letter: Option<Letter>,
    /// Whether another message of the chat waits.
    pub more: bool,
}

impl State {
    /// Takes a message; `false` when one of its id came from its chat before. It is stored when this returns.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub fn take_in(&self, channel: &str, message: &Inbound) -> Result<bool, StateError> {
        let mut light = message.clone();
        let files = pack(&mut light.attachments);
        let body = serde_json::to_string(&light).map_err(|error| StateError::Import(error.to_string()))?;
        let at = stored(now());
        self.write(|tx| {
            let mut taken = tx.prepare_cached("INSERT OR IGNORE INTO taken (channel, chat, message, created) VALUES (?1, ?2, ?3, ?4)")?;
            if taken.execute(params![channel, message.chat, message.id, at])? == 0 {
                return Ok(false);
            }
            tx.prepare_cached("INSERT INTO inbox (channel, chat, body, files, created) VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(params![
                channel,
                message.chat,
                body,
                files,
                at
            ])?;
            if tx.last_insert_rowid() % SWEEP_EVERY == 0 {
                tx.execute("DELETE FROM taken WHERE created < ?1", [at.saturating_sub(KNOWN_MICROS)])?;
            }
            Ok(true)
        })
    }

    /// Chats of a channel in which messages wait, the one that waits longest first.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn chats_waiting(&self, channel: &str) -> Result<Vec<String>, StateError> {
        self.read(|tx| {
            let mut query = tx.prepare_cached("SELECT chat FROM inbox WHERE channel = ?1 GROUP BY chat ORDER BY min(id)")?;
            Ok(query.query_map([channel], |row| row.get(0))?.collect::<Result<_, _>>()?)
        })
    }

    /// How many messages wait, over all channels.
    ///
    /// # Errors
    /// When they cannot be counted.
    pub fn inbox_length(&self) -> Result<u64, StateError> {
        self.read(|tx| Ok(tx.prepare_cached("SELECT count(*) FROM inbox")?.query_row([], |row| count(row, 0))?))
    }

    /// Begins to answer the oldest message of a chat. One that cannot be read is begun, too: those after it wait for its end.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn begin(&self, channel: &str, chat: &str) -> Result<Option<Taken>, StateError> {
        self.write(|tx| {
            let mut begin = tx.prepare_cached(
                "UPDATE inbox SET attempts = attempts + 1
                 WHERE id = (SELECT id FROM inbox WHERE channel = ?1 AND chat = ?2 ORDER BY id LIMIT 1)
                 RETURNING id, body, files, attempts, created",
            )?;
            let row =
                begin.query_row([channel, chat], |row| Ok((row.get(0)?, row.get::<_, String>(1)?, row.get(2)?, row.get(3)?, row.get(4)?)));
            let Some((id, body, files, attempts, created)) = row.optional()? else { return Ok(None) };
            let read = || {
                let mut message: Inbound = serde_json::from_str(&body).ok()?;
                unpack(&mut message.attachments, files)?;
                Some(message)
            };
            let (message, damage) = match read() {
                Some(message) => (message, None),
                // Without what the parser says: it shows what was written.
                None => (Inbound::new(chat, "", "", ""), Some(format!("message {id} came in and cannot be read"))),
            };
            Ok(Some(Taken { id, message, damage, attempts, created: loaded(created) }))
        })
    }

    /// The answer was stopped and will be begun again: this time does not count.
    ///
    /// # Errors
    /// When that cannot be stored.
    pub fn release(&self, id: i64) -> Result<(), StateError> {
        self.write(|tx| {
            tx.prepare_cached("UPDATE inbox SET attempts = max(attempts - 1, 0) WHERE id = ?1")?.execute([id])?;
            Ok(())
        })
    }

    /// A message is answered: all of it, or nothing where this fails.
    ///
    /// # Errors
    /// `Continued` and `Gone` when somebody else has written to the conversation meanwhile; then the answer is to be begun again.
    pub fn conclude(&self, id: i64, channel: &str, chat: &str, ending: Ending<'_>) -> Result<Concluded, StateError> {
        let letters = ending.letters.into_iter().map(super::outbox::Written::of).collect::<Result<Vec<_>, _>>()?;
        let mut revision = None;
        let concluded = self.write(|tx| {
            if let Some(why) = ending.aside {
                set_aside(tx, id, why)?;
            }
            if tx.prepare_cached("DELETE FROM inbox WHERE id = ?1")?.execute([id])? == 0 {
                // It is answered already.
                return Ok(Concluded { letter: None, more: waits(tx, channel, chat)? });
            }
            if let Some(talk) = ending.talk {
                revision = Some(talk.write(tx, ending.by)?);
            }
            if ending.renew {
                tx.prepare_cached("UPDATE chats SET session = NULL WHERE channel = ?1 AND chat = ?2")?.execute([channel, chat])?;
            }
            let session = ending.talk.map(Talk::session);
            let letter = self.write_letters(tx, id, session, (channel, chat), letters, ending.direct)?;
            let more = waits(tx, channel, chat)?;
            Ok(Concluded { letter, more })
        })?;
        if let (Some(talk), Some(revision)) = (ending.talk, revision) {
            talk.settle(revision);
        }
        Ok(concluded)
    }
}

/// Keeps a message as a dead letter: as text in JSON, so that nobody takes it for one that could be sent.
fn set_aside(tx: &Transaction<'_>, id: i64, why: &str) -> Result<(), Fault> {
    tx.execute(
        "INSERT INTO outbox (channel, chat, key, body, files, state, error, attempts, created)
         SELECT channel, chat, lower(hex(randomblob(12))), json_quote(body), files, 'dead', ?2, attempts, created FROM inbox WHERE id = ?1",
        params![id, why],
    )?;
    Ok(())
}

fn waits(tx: &Transaction<'_>, channel: &str, chat: &str) -> Result<bool, Fault> {
    Ok(tx.prepare_cached("SELECT 1 FROM inbox WHERE channel = ?1 AND chat = ?2 LIMIT 1")?.exists([channel, chat])?)
}
