//! Sessions as text that leaves the program, and back.

use std::fmt::Write as _;

use bespoke_plugin_api::{Message, Role, Timestamp, ToolCall, Usage};
use rusqlite::params;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    Kept, Meta, State,
    error::StateError,
    sessions::{insert, role_name, taken},
    time::{iso, now, parse, stored},
    title,
};

/// What an exported session says that it is.
const KIND: &str = "bespoke.session";
/// The version of its form.
const VERSION: u32 = 1;

/// How a session is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// One JSON object with everything; it can be imported again.
    Json,
    /// A JSON object per message and line.
    Jsonl,
    /// To be read.
    Markdown,
}

impl State {
    /// A session as text.
    ///
    /// # Errors
    /// `Unknown` and `Ambiguous`.
    pub fn export(&self, id: &str, format: Format) -> Result<String, StateError> {
        let kept = self.show(id)?;
        let other = |e: serde_json::Error| StateError::Database { path: self.path().to_owned(), source: Box::new(e) };
        match format {
            Format::Json => Ok(serde_json::to_string_pretty(&Exported::of(kept)).map_err(other)? + "\n"),
            Format::Jsonl => {
                let mut text = String::new();
                for message in Exported::of(kept).messages {
                    text += &serde_json::to_string(&message).map_err(other)?;
                    text.push('\n');
                }
                Ok(text)
            }
            Format::Markdown => Ok(markdown(&kept)),
        }
    }

    /// Takes in a session that was exported as [`Format::Json`]. It keeps its id if nobody has it. Answers with the id.
    ///
    /// # Errors
    /// `Import`, saying where the text is wrong; nothing is stored then.
    pub fn import(&self, text: &str) -> Result<String, StateError> {
        let exported: Exported = serde_json::from_str(text).map_err(|e| StateError::Import(e.to_string()))?;
        let wrong = |what: String| StateError::Import(what);
        if exported.format != KIND || exported.version != VERSION {
            return Err(wrong(format!("it is `{}` version {}, not `{KIND}` version {VERSION}", exported.format, exported.version)));
        }
        let time = |text: &str| parse(text).ok_or_else(|| wrong(format!("`{text}` is no time")));
        let (created, updated) = (time(&exported.created)?, time(&exported.updated)?);
        let mut messages = Vec::with_capacity(exported.messages.len());
        for (at, message) in exported.messages.iter().enumerate() {
            let calls = (!message.tool_calls.is_empty()).then(|| serde_json::to_string(&message.tool_calls)).transpose();
            let calls = calls.map_err(|e| wrong(format!("message {at}: {e}")))?;
            let role = role_name(message.role).map_err(|e| wrong(format!("message {at}: {}", e.message())))?;
            messages.push((at as i64, role, calls, stored(time(&message.at)?), message));
        }
        self.write(|tx| {
            let id = if is_id(&exported.id) && !taken(tx, &exported.id)? { exported.id.clone() } else { self.free_id(tx, now())? };
            let meta = Meta { channel: exported.channel.clone(), chat: exported.chat.clone(), agent: exported.agent.clone() };
            insert(tx, &id, &meta, created, self.writer())?;
            let key = tx.last_insert_rowid();
            tx.execute(
                "UPDATE sessions SET name = ?1, updated = ?2, provider = ?3, model = ?4, length = ?5, prompt_tokens = ?6,
                        cached_tokens = ?7, completion_tokens = ?8 WHERE key = ?9",
                params![
                    title::named(&exported.title),
                    stored(updated),
                    exported.provider,
                    exported.model,
                    messages.len() as i64,
                    exported.usage.prompt_tokens,
                    exported.usage.cached_tokens,
                    exported.usage.completion_tokens,
                    key
                ],
            )?;
            let mut insert = tx.prepare_cached(
                "INSERT INTO messages (session, seq, role, text, tool_calls, tool_call_id, created) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?;
            for (at, role, calls, created, message) in &messages {
                insert.execute(params![key, at, role, message.text, calls, message.tool_call_id, created])?;
            }
            Ok(id)
        })
    }
}

/// A session as it leaves the program.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exported {
    format: String,
    version: u32,
    id: String,
    title: String,
    created: String,
    updated: String,
    channel: Option<String>,
    chat: Option<String>,
    agent: Option<String>,
    provider: Option<String>,
    model: Option<String>,
    usage: Usage,
    messages: Vec<Said>,
}

/// A message as it leaves the program.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    at: String,
    role: Role,
    text: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCall>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<String>,
}

impl Exported {
    fn of(kept: Kept) -> Self {
        let s = kept.summary;
        Exported {
            format: KIND.to_owned(),
            version: VERSION,
            id: s.id,
            title: s.title,
            created: iso(s.created),
            updated: iso(s.updated),
            channel: s.channel,
            chat: s.chat,
            agent: s.agent,
            provider: s.provider,
            model: s.model,
            usage: s.usage,
            messages: kept.messages.into_iter().map(Said::of).collect(),
        }
    }
}

impl Said {
    fn of((at, message): (Timestamp, Message)) -> Self {
        let Message { role, text, tool_calls, tool_call_id, .. } = message;
        Said { at: iso(at), role, text, tool_calls, tool_call_id }
    }
}

/// Whether a text is shaped like one of our ids.
fn is_id(text: &str) -> bool {
    let form: Vec<usize> = text.split('-').map(str::len).collect();
    form == [8, 6, 4] && text.chars().all(|c| c == '-' || c.is_ascii_digit() || matches!(c, 'a'..='f'))
}

fn markdown(kept: &Kept) -> String {
    let s = &kept.summary;
    let mut text = format!("# {}\n\n{}, {} messages", if s.title.is_empty() { &s.id } else { &s.title }, s.id, s.length);
    // Names, but an imported session may call anything a name.
    for part in [&s.channel, &s.provider, &s.model].into_iter().flatten().filter_map(|part| title::named(part)) {
        let _ = write!(text, ", {part}");
    }
    text.push('\n');
    for (at, message) in &kept.messages {
        let who = match message.role {
            Role::User => "User",
            Role::Assistant => "Assistant",
            Role::Tool => "Tool",
            _ => "System",
        };
        let _ = write!(text, "\n## {who} · {}\n", iso(*at));
        // What anybody says may look like the next message.
        if !message.text.is_empty() {
            let _ = write!(text, "\n{}", fenced("text", &message.text));
        }
        for call in &message.tool_calls {
            let call = json!({ call.name.as_str(): call.args });
            let _ = write!(text, "\nCalls:\n\n{}", fenced("json", &format!("{call:#}")));
        }
    }
    text
}

/// A code block whose fence is longer than any in it.
fn fenced(language: &str, text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}{language}\n{}\n{fence}\n", text.trim_end_matches('\n'))
}
