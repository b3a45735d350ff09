//! Conversations in a file: an append, a resume and a list, each against the same SQLite without what is around it.

use std::{hint::black_box, path::Path, sync::Arc, time::Duration};

use bespoke_agent::Journal;
use bespoke_benches::{Aim, Counting, Group};
use bespoke_plugin_api::{Message, ToolCall, serde_json::json};
use bespoke_state::{Filter, Meta, State};
use rusqlite::{Connection, TransactionBehavior, params};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Messages of a long conversation.
const MESSAGES: usize = 10_000;
/// Conversations of somebody who talks a lot.
const SESSIONS: usize = 1_000;
/// About as many bytes as a paragraph has.
const TEXT: usize = 400;

/// Writes a conversation message by message, from where it is.
struct Talk {
    id: String,
    journal: Arc<dyn Journal>,
    at: usize,
}

impl Talk {
    fn begin(state: &State) -> Self {
        let id = state.create(&Meta::default().channel("bench")).expect("it is stored").id().to_owned();
        Talk { journal: state.journal(&id).expect("it is there"), id, at: 0 }
    }

    fn say(&mut self, message: &Message) {
        self.journal.append(&self.id, self.at, message).expect("it is stored");
        self.at += 1;
    }
}

/// A database with the settings of ours, and one table for messages.
fn bare(path: &Path) -> Connection {
    let connection = Connection::open(path).expect("a database");
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON; PRAGMA secure_delete = ON;
             CREATE TABLE messages (
                 session INTEGER NOT NULL, seq INTEGER NOT NULL, role TEXT NOT NULL, text TEXT NOT NULL, tool_calls TEXT,
                 tool_call_id TEXT, created INTEGER NOT NULL, PRIMARY KEY (session, seq)
             ) STRICT;",
        )
        .expect("a table");
    connection
}

/// A turn with a tool, as often as it takes.
fn message(at: usize) -> Message {
    match at % 4 {
        0 => Message::user("u".repeat(TEXT)),
        1 => Message::assistant("").tool_calls(vec![ToolCall::new("call-1", "clock", json!({ "zone": "Europe/Paris" }))]),
        2 => Message::tool("call-1", "t".repeat(TEXT)),
        _ => Message::assistant("a".repeat(TEXT)),
    }
}

fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = State::open(folder.path().join("state.db")).expect("a new file");
    append(&state, &folder.path().join("bare.db"));
    resume(&state);
    list(&State::open(folder.path().join("many.db")).expect("a new file"));
}

fn append(state: &State, path: &Path) {
    let mut connection = bare(path);
    let text = "u".repeat(TEXT);
    let mut seq = 0_i64;
    let mut talk = Talk::begin(state);
    let said = Message::user(text.clone());
    Group::new(format!("append one message of {TEXT} bytes"))
        .turns(100, Duration::from_millis(5))
        .case("INSERT in a transaction of its own", |n| {
            for _ in 0..n {
                let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).expect("a transaction");
                transaction
                    .prepare_cached("INSERT INTO messages (session, seq, role, text, created) VALUES (1, ?1, 'user', ?2, ?3)")
                    .and_then(|mut insert| insert.execute(params![seq, text, seq]))
                    .expect("it is stored");
                transaction.commit().expect("it is stored");
                seq += 1;
            }
        })
        .case("Journal::append", |n| (0..n).for_each(|_| talk.say(&said)))
        .aim(Aim::Ratio(2.5))
        .aim(Aim::Within(Duration::from_millis(1)))
        .run();
}

fn resume(state: &State) {
    let mut talk = Talk::begin(state);
    (0..MESSAGES).for_each(|at| talk.say(&message(at)));
    let connection = Connection::open(state.path()).expect("the same file");
    let key: i64 = connection.query_row("SELECT key FROM sessions WHERE id = ?1", [&talk.id], |row| row.get(0)).expect("it is stored");
    Group::new(format!("resume a conversation of {MESSAGES} messages"))
        .turns(50, Duration::from_millis(1))
        .case("SELECT, each row read", |n| {
            for _ in 0..n {
                let mut query = connection
                    .prepare_cached("SELECT created, role, text, tool_calls, tool_call_id FROM messages WHERE session = ?1 ORDER BY seq")
                    .expect("a query");
                let rows = query.query_map([key], |row| {
                    let all: (i64, String, String, Option<String>, Option<String>) =
                        (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?);
                    Ok(all)
                });
                let rows: Vec<_> = rows.expect("rows").collect::<Result<_, _>>().expect("rows");
                assert_eq!(black_box(rows).len(), MESSAGES);
            }
        })
        .case("State::resume", |n| {
            for _ in 0..n {
                let session = state.resume(black_box(&talk.id)).expect("it is stored");
                assert_eq!(black_box(session).messages().len(), MESSAGES);
            }
        })
        .aim(Aim::Ratio(2.0))
        .aim(Aim::Within(Duration::from_millis(50)))
        .run();
}

fn list(state: &State) {
    for _ in 0..SESSIONS {
        let mut talk = Talk::begin(state);
        (0..4).for_each(|at| talk.say(&message(at)));
    }
    let connection = Connection::open(state.path()).expect("the same file");
    Group::new(format!("list {SESSIONS} conversations"))
        .turns(100, Duration::from_millis(1))
        .case("SELECT id, title, each row read", |n| {
            for _ in 0..n {
                let mut query = connection.prepare_cached("SELECT id, title FROM sessions ORDER BY updated DESC").expect("a query");
                let rows = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?)));
                let rows: Vec<_> = rows.expect("rows").collect::<Result<_, _>>().expect("rows");
                assert_eq!(black_box(rows).len(), SESSIONS);
            }
        })
        .case("State::list", |n| {
            for _ in 0..n {
                let sessions = state.list(&Filter::default(), u32::MAX, 0).expect("they are stored");
                assert_eq!(black_box(sessions).len(), SESSIONS);
            }
        })
        .aim(Aim::Within(Duration::from_millis(10)))
        .case("State::list, the latest 20", |n| {
            for _ in 0..n {
                assert_eq!(black_box(state.list(&Filter::default(), 20, 0).expect("they are stored")).len(), 20);
            }
        })
        .aim(Aim::Within(Duration::from_millis(5)))
        .run();
}
