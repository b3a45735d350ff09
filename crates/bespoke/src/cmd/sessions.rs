//! `sessions`: the conversations that are kept; listed, shown, exported, taken in, named, deleted.

use std::{
    fs,
    io::{self, Read},
    path::Path,
};

use bespoke_plugin_api::{Role, Timestamp};
use bespoke_state::{Filter, Format, Kept, State, StateError, Summary, iso};
use serde_json::{Value, json};

use crate::{
    cli::{Sessions, sessions::ExportFormat},
    exit::{Exit, Failure, Result},
    files,
    output::{self, Style},
    setup::Setup,
    time::{self, now},
};

/// Larger than any conversation; what is larger is something else.
const LONGEST_IMPORT: u64 = 256 << 20;

pub(crate) fn run(setup: &Setup, verb: Sessions) -> Result<()> {
    match verb {
        Sessions::List { limit } => list(setup, limit),
        Sessions::Show { id } => show(setup, &id),
        Sessions::Export { id, format, output, force } => export(setup, &id, format, output.as_deref(), force),
        Sessions::Import { file } => import(setup, &file),
        Sessions::Rename { id, title } => {
            let id = with(setup, &id)?.rename(&id, &title)?;
            setup.out.note(if title.trim().is_empty() { format!("{id} has no name any more") } else { format!("{id} is named") });
            Ok(())
        }
        Sessions::Delete { ids, all, older_than, yes, dry_run } => {
            let chosen = match (all, older_than) {
                (false, None) => Chosen::Ids(&ids),
                (_, days) => Chosen::OlderThan(days.unwrap_or(0)),
            };
            delete(setup, chosen, yes, dry_run)
        }
    }
}

fn list(setup: &Setup, limit: u32) -> Result<()> {
    let out = setup.out;
    // One more than is shown tells whether there are more.
    let mut sessions = match opened(setup)? {
        Some(state) => state.list(&Filter::default(), limit.saturating_add(1), 0)?,
        None => Vec::new(),
    };
    let more = sessions.len() > limit as usize;
    sessions.truncate(limit as usize);
    if out.json {
        out.json(&sessions, true)?;
    } else if sessions.is_empty() && !more {
        out.line("no conversation is kept yet")?;
        out.note("  try: bespoke chat");
    } else {
        let now = now();
        let row = |s: &Summary| {
            let tokens = s.usage.total();
            let tokens = if tokens == 0 { String::new() } else { tokens.to_string() };
            vec![s.id.clone(), ago(now, s.updated), s.length.to_string(), tokens, s.channel.clone().unwrap_or_default(), s.title.clone()]
        };
        let rows: Vec<_> = sessions.iter().map(row).collect();
        out.table(&["ID", "CHANGED", "MESSAGES", "TOKENS", "CHANNEL", "TITLE"], &rows)?;
    }
    if more {
        out.note(format!(
            "these are the latest {limit}; there are more\n  try: bespoke sessions list --limit {}",
            limit.saturating_mul(10).max(10)
        ));
    }
    Ok(())
}

fn show(setup: &Setup, id: &str) -> Result<()> {
    let state = with(setup, id)?;
    let out = setup.out;
    if out.json {
        return out.json(&parsed(&state.export(id, Format::Json)?)?, true);
    }
    let Kept { summary: s, messages, .. } = state.show(id)?;
    let line = |key: &str, value: &str| if value.is_empty() { Ok(()) } else { out.line(format!("{key:<9} {value}")) };
    out.line(format!("{} {}", out.paint(Style::Bold, &s.id), s.title))?;
    line("begun", &second(s.created))?;
    line("changed", &format!("{} ({})", second(s.updated), ago(now(), s.updated)))?;
    line("over", &[s.channel.as_deref(), s.chat.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(" "))?;
    line("answered", &[s.provider.as_deref(), s.model.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(" "))?;
    if s.usage.total() > 0 {
        let u = s.usage;
        let most = setup.agent.session_tokens;
        let of = if most > 0 { format!(", {} of the {most} that agent.session_tokens allows", u.total()) } else { String::new() };
        line("tokens", &format!("{} read ({} of them cached), {} written{of}", u.prompt_tokens, u.cached_tokens, u.completion_tokens))?;
    }
    for (_, message) in &messages {
        let (who, style) = match message.role {
            Role::User => ("user", Style::Green),
            Role::Assistant => ("assistant", Style::Yellow),
            Role::Tool => ("tool", Style::Dim),
            _ => ("system", Style::Dim),
        };
        out.line("")?;
        out.line(out.paint(style, who))?;
        if !message.text.is_empty() {
            out.line(message.text.trim_end())?;
        }
        for call in &message.tool_calls {
            out.line(format!("→ {} {}", call.name, call.args))?;
        }
    }
    Ok(())
}

fn export(setup: &Setup, id: &str, format: ExportFormat, output: Option<&Path>, force: bool) -> Result<()> {
    let format = match format {
        ExportFormat::Json => Format::Json,
        ExportFormat::Jsonl => Format::Jsonl,
        ExportFormat::Markdown => Format::Markdown,
    };
    let text = with(setup, id)?.export(id, format)?;
    match output {
        None => setup.out.text(&text),
        Some(path) => {
            let again = format!("bespoke sessions export {id} --output {} --force", path.display());
            written(path, &text, force, &again)?;
            setup.out.note(format!("written to {}", path.display()));
            Ok(())
        }
    }
}

/// A whole file or none, for the user alone; one that is there stays unless it may be replaced, as `again` would.
fn written(path: &Path, text: &str, force: bool, again: &str) -> Result<()> {
    let failed = |e: io::Error| Failure::failed(format!("{}: {e}", path.display()));
    let taken = || Failure::new(Exit::Conflict, format!("{}: it is there already", path.display())).help(again);
    match if force { files::replace(path, text.as_bytes()) } else { files::create(path, text.as_bytes()) } {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(taken()),
        result => result.map_err(failed),
    }
}

fn import(setup: &Setup, path: &Path) -> Result<()> {
    let failed = |e: io::Error| {
        let exit = if e.kind() == io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Failed };
        Failure::new(exit, format!("{}: {e}", path.display()))
    };
    let mut text = String::new();
    fs::File::open(path).map_err(failed)?.take(LONGEST_IMPORT + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > LONGEST_IMPORT {
        return Err(Failure::failed(format!("{}: no conversation is larger than {}", path.display(), output::bytes(LONGEST_IMPORT))));
    }
    let id = State::open(setup.paths.state())?.import(&text).map_err(|error| match error {
        StateError::Import(_) => Failure::new(Exit::Usage, format!("{}: {error}", path.display())).help("bespoke sessions export --help"),
        other => other.into(),
    })?;
    if setup.out.json { setup.out.json(&json!({ "id": id }), true) } else { setup.out.line(id) }
}

/// Which sessions are to go.
enum Chosen<'a> {
    Ids(&'a [String]),
    /// Not changed for so many days; 0 means all.
    OlderThan(u32),
}

impl Chosen<'_> {
    /// As they were typed.
    fn words(&self) -> String {
        match self {
            Chosen::Ids(ids) => ids.join(" "),
            Chosen::OlderThan(0) => "--all".to_owned(),
            Chosen::OlderThan(days) => format!("--older-than {days}"),
        }
    }
}

fn delete(setup: &Setup, chosen: Chosen<'_>, yes: bool, dry_run: bool) -> Result<()> {
    let out = setup.out;
    let (state, found) = match (opened(setup)?, &chosen) {
        (Some(state), Chosen::Ids(ids)) => {
            let mut found = ids.iter().map(|id| state.find(id)).collect::<Result<Vec<_>, _>>()?;
            found.sort_by(|a, b| a.id.cmp(&b.id));
            found.dedup_by(|a, b| a.id == b.id);
            (Some(state), found)
        }
        (Some(state), Chosen::OlderThan(days)) => {
            let all = Filter::default().unused();
            let filter = if *days == 0 { all } else { all.before(before(*days)) };
            let found = state.list(&filter, u32::MAX, 0)?;
            (Some(state), found)
        }
        (None, Chosen::Ids(ids)) => return Err(unknown(ids.first().map_or("", String::as_str))),
        (None, Chosen::OlderThan(_)) => (None, Vec::new()),
    };
    let (ids, count) = (found.iter().map(|s| s.id.as_str()).collect::<Vec<_>>(), found.len());
    let conversations = if count == 1 { "1 conversation".to_owned() } else { format!("{count} conversations") };
    let (Some(state), false) = (state, dry_run || found.is_empty()) else {
        if out.json {
            return out.json(&json!({ "deleted": [], "would_delete": ids }), true);
        }
        for s in &found {
            out.line(format!("{}  {}", s.id, s.title))?;
        }
        out.note(if count == 0 { "there is nothing to delete".to_owned() } else { format!("{conversations} would be deleted") });
        return Ok(());
    };
    if !yes {
        if !output::can_ask() {
            let message = format!("{conversations} would be deleted for good, and nobody can be asked here");
            return Err(Failure::new(Exit::Consent, message).help(format!("bespoke sessions delete {} --yes", chosen.words())));
        }
        for s in &found {
            out.note(format!("{}  {}", s.id, s.title));
        }
        if !output::ask(&format!("Delete {conversations} for good?"))? {
            return Err(Failure::new(Exit::Consent, "nothing was deleted"));
        }
    }
    let deleted = state.delete(&ids)?;
    if out.json {
        out.json(&json!({ "deleted": ids, "erased": deleted.erased }), true)?;
    } else {
        out.note(format!("{conversations} deleted"));
    }
    if !deleted.erased {
        out.note("another program is reading: what was said goes from state.db-wal when it has ended");
    }
    Ok(())
}

/// What is kept; `None` while nothing is. A look does not make the file.
fn opened(setup: &Setup) -> Result<Option<State>> {
    let path = setup.paths.state();
    if fs::symlink_metadata(&path).is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
        return Ok(None);
    }
    Ok(Some(State::open(path)?))
}

/// What is kept, for whoever asks for a certain session.
fn with(setup: &Setup, id: &str) -> Result<State> {
    opened(setup)?.ok_or_else(|| unknown(id))
}

fn unknown(id: &str) -> Failure {
    Failure::new(Exit::NotFound, format!("there is no session `{id}`: no conversation is kept yet")).help("bespoke chat")
}

fn parsed(text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|e| Failure::failed(e.to_string()))
}

fn before(days: u32) -> Timestamp {
    const DAY_MICROS: u64 = 24 * 60 * 60 * 1_000_000;
    Timestamp(now().0.saturating_sub(u64::from(days) * DAY_MICROS))
}

/// A time as a person wants it: without the fraction.
fn second(at: Timestamp) -> String {
    iso(Timestamp(at.0 / 1_000_000 * 1_000_000))
}

/// `5 min ago`; after a month, the day.
fn ago(now: Timestamp, then: Timestamp) -> String {
    const MONTH: u64 = 2_592_000_000_000;
    if now.0.saturating_sub(then.0) < MONTH { time::ago(now, then) } else { iso(then).chars().take(10).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_by_how_long_ago_they_were() {
        let then = Timestamp(1_795_166_615_000_000);
        let after = |seconds: u64| ago(Timestamp(then.0 + seconds * 1_000_000), then);
        assert_eq!(
            [0, 59, 60, 3_599, 3_600, 86_399, 86_400, 172_800, 2_591_999, 2_592_000].map(after),
            [
                "just now",
                "just now",
                "1 min ago",
                "59 min ago",
                "1 h ago",
                "23 h ago",
                "yesterday",
                "2 days ago",
                "29 days ago",
                "2026-11-20"
            ]
        );
        assert_eq!(ago(Timestamp(0), then), "just now", "a clock that was set back");
    }
}
