//! Files, raw looks into them, and conversations.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bespoke_agent::Journal;
use bespoke_plugin_api::{Message, ToolCall, serde_json::json};
use bespoke_state::{Meta, State};
use tempfile::TempDir;

/// A folder that goes away, and the file in it.
pub(crate) fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    (folder, path)
}

pub(crate) fn opened() -> (TempDir, State) {
    let (folder, path) = place();
    let state = State::open(path).unwrap();
    (folder, state)
}

/// SQLite without us.
pub(crate) fn raw(path: &Path) -> rusqlite::Connection {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(60)).unwrap();
    connection
}

pub(crate) fn number(connection: &rusqlite::Connection, query: &str) -> i64 {
    connection.query_row(query, [], |row| row.get(0)).unwrap()
}

/// A conversation that a test writes message by message, as an agent does.
pub(crate) struct Talk {
    pub(crate) id: String,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) at: usize,
}

impl Talk {
    pub(crate) fn begin(state: &State, meta: &Meta) -> Self {
        let id = state.create(meta).unwrap().id().to_owned();
        Talk { journal: state.journal(&id).unwrap(), id, at: 0 }
    }

    pub(crate) fn say(&mut self, message: &Message) -> bespoke_plugin_api::Result<()> {
        self.journal.append(&self.id, self.at, message)?;
        self.at += 1;
        Ok(())
    }
}

/// A session in which these messages were said.
pub(crate) fn said(state: &State, meta: &Meta, messages: &[Message]) -> String {
    let mut talk = Talk::begin(state, meta);
    messages.iter().for_each(|message| talk.say(message).unwrap());
    talk.id
}

/// A turn with a call of a tool.
pub(crate) fn turn() -> Vec<Message> {
    let call = ToolCall::new("call-1", "clock", json!({ "zone": "Europe/Paris", "precise": 0.1 }));
    vec![
        Message::user("What time is it in Paris?"),
        Message::assistant("").tool_calls(vec![call]),
        Message::tool("call-1", "12:00\0 \"quoted\" ```fence``` \u{1F550}"),
        Message::assistant("It is noon."),
    ]
}

/// An error as a person sees it.
pub(crate) fn told(error: &bespoke_state::StateError, path: &Path) -> String {
    let help = error.help().map_or(String::new(), |help| format!("\n  try: {help}"));
    let folder = path.parent().unwrap().display().to_string();
    format!("{error}{help}\n").replace(&folder, "DIR")
}
