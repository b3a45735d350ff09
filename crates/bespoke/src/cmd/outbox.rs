//! `outbox`: messages that have not left. A server that runs is asked, and sends or forgets them itself; else they are read from the
//! database, and the next server sends them.

use std::time::Duration;

use bespoke_plugin_api::Outbound;
use bespoke_state::{KeptLetter, State, from_iso};
use serde_json::{Value, json};

use crate::{
    cli::{Global, Outbox},
    cmd::status::ago,
    exit::{Exit, Failure, Result},
    output::{self, Out},
    paths::Paths,
    running::Running,
    time::now,
};

/// Messages that are read at once.
const PAGE: u32 = 1000;
/// Characters of a message that a row shows.
const SHOWN: usize = 40;

pub(super) async fn run(global: &Global, verb: Outbox) -> Result<()> {
    let paths = Paths::of_server(global)?;
    let out = Out::with(global.json, global.quiet);
    match verb {
        Outbox::List => list(out, Where::of(&paths).await?).await,
        Outbox::Resend { ids, all } => {
            let meant = Meant::of("resend", &ids, all)?;
            resend(out, Where::of(&paths).await?, &meant).await
        }
        Outbox::Drop { ids, all, yes } => {
            let meant = Meant::of("drop", &ids, all)?;
            forget(out, Where::of(&paths).await?, &meant, yes).await
        }
    }
}

/// Who has the messages.
enum Where {
    Server(Running),
    File(State),
    /// Nothing was ever sent. A look does not make the file.
    Nowhere,
}

impl Where {
    async fn of(paths: &Paths) -> Result<Self> {
        let file = paths.state();
        Ok(match Running::find(paths).await? {
            Some(running) => Where::Server(running),
            None if file.exists() => Where::File(State::open(file)?),
            None => Where::Nowhere,
        })
    }

    /// All of them, as they are told in JSON.
    async fn letters(&mut self) -> Result<Vec<Value>> {
        let mut letters = Vec::new();
        match self {
            Where::Server(running) => _ = running.each("outbox.list", json!({}), |letter| letters.push(letter)).await?,
            Where::File(state) => {
                let mut last = 0;
                loop {
                    let page: Vec<KeptLetter> = state.letters(last, PAGE)?;
                    let Some(letter) = page.last() else { break };
                    last = letter.id;
                    for letter in page {
                        letters.push(serde_json::to_value(letter).map_err(|error| Failure::failed(error.to_string()))?);
                    }
                }
            }
            Where::Nowhere => {}
        }
        Ok(letters)
    }
}

/// The messages that are meant: all that there are, or those that are named, each of which has to be there.
struct Meant<'i>(Option<&'i [i64]>);

impl<'i> Meant<'i> {
    fn of(verb: &str, ids: &'i [i64], all: bool) -> Result<Self> {
        if ids.is_empty() && !all {
            let try_this = format!("bespoke outbox {verb} ID, or bespoke outbox {verb} --all; bespoke outbox list has the numbers");
            return Err(Failure::new(Exit::Usage, "which messages are meant?").help(try_this));
        }
        Ok(Meant((!all).then_some(ids)))
    }

    /// As it is typed.
    fn words(&self) -> String {
        self.0.map_or("--all".to_owned(), |ids| ids.iter().map(i64::to_string).collect::<Vec<_>>().join(" "))
    }

    /// Nothing is kept, so none of these is.
    fn nowhere(&self) -> Result<Vec<i64>> {
        self.refuse(self.0.unwrap_or_default().to_vec())?;
        Ok(Vec::new())
    }

    /// These are not there.
    fn refuse(&self, unknown: Vec<i64>) -> Result<()> {
        if unknown.is_empty() { Ok(()) } else { Err(bespoke_state::StateError::NoLetter { ids: unknown }.into()) }
    }
}

async fn list(out: Out, mut place: Where) -> Result<()> {
    let letters = place.letters().await?;
    if out.json {
        return out.json(&letters, true);
    }
    if letters.is_empty() {
        return out.line("every message has left");
    }
    out.table(&["ID", "STATE", "CHAT", "TRIED", "NEXT", "MESSAGE", "WHY"], &letters.iter().map(row).collect::<Vec<_>>())?;
    out.note("  try: bespoke outbox resend ID, or bespoke outbox drop ID");
    Ok(())
}

fn row(letter: &Value) -> Vec<String> {
    let next = next(letter).unwrap_or_default();
    let message = serde_json::from_value::<Outbound>(letter["message"].clone()).map_or("(cannot be read)".to_owned(), |m| shown(&m));
    let chat = format!("{}:{}", text(letter, "channel"), text(letter, "chat"));
    let (state, error) = (text(letter, "state").to_owned(), text(letter, "error").to_owned());
    vec![letter["id"].to_string(), state, chat, letter["attempts"].to_string(), next, message, error]
}

/// When a message leaves that waits.
fn next(letter: &Value) -> Option<String> {
    let behind = letter["behind"].as_i64().map(|id| format!("after {id}"));
    behind.or_else(|| letter["next"].as_str().and_then(from_iso).map(|at| due(now().until(at))))
}

fn due(left: Duration) -> String {
    if left.is_zero() { "now".to_owned() } else { format!("in {}", ago(left)) }
}

/// The beginning of a message, in one line, and how many files go with it.
fn shown(message: &Outbound) -> String {
    let line = message.text.split_whitespace().collect::<Vec<_>>().join(" ");
    let cut: String = line.chars().take(SHOWN).collect();
    let more = if cut.len() < line.len() { "…" } else { "" };
    match message.attachments.len() {
        0 => cut + more,
        1 => format!("{cut}{more} [1 file]"),
        files => format!("{cut}{more} [{files} files]"),
    }
}

async fn resend(out: Out, place: Where, meant: &Meant<'_>) -> Result<()> {
    let mut left = Vec::new();
    let (ids, by_server) = match place {
        Where::Server(mut running) => {
            let answer = running.each("outbox.resend", json!({ "ids": meant.0 }), |letter| left.push(letter)).await?;
            (numbers(&answer["resent"]), true)
        }
        Where::File(state) => (state.resend_letters(meant.0)?, false),
        Where::Nowhere => (meant.nowhere()?, false),
    };
    let failed = left.iter().filter(|letter| !is_under_way(letter)).count();
    if out.json {
        out.json(&json!({ "resent": ids, "by_server": by_server, "left": left }), true)?;
        return if failed == 0 { Ok(()) } else { Err(Failure::failed("")) };
    }
    if !by_server {
        out.note(format!("{}: sent by the next bespoke serve", messages(ids.len())));
        return Ok(());
    }
    left.iter().for_each(|letter| out.note(fate(letter)));
    let gone = ids.len().saturating_sub(left.len());
    if gone > 0 || left.is_empty() {
        out.note(format!("{} sent", messages(gone)));
    }
    match failed {
        0 => Ok(()),
        _ => Err(Failure::failed(format!("{} not sent", messages(failed))).help("bespoke outbox list")),
    }
}

/// Whether nothing is known yet of the new try.
fn is_under_way(letter: &Value) -> bool {
    let is_due = letter["next"].as_str().and_then(from_iso).is_some_and(|at| now().until(at).is_zero());
    letter["state"] == "sending" || letter["state"] == "waiting" && letter["behind"].is_null() && is_due
}

/// What has become of a message that has not left.
fn fate(letter: &Value) -> String {
    let who = format!("message {} to {}:{}", letter["id"], text(letter, "channel"), text(letter, "chat"));
    let why = letter["error"].as_str().map_or(String::new(), |error| format!(": {error}"));
    match (next(letter), is_under_way(letter)) {
        (_, true) => format!("{who} is on its way; bespoke outbox list tells whether it has left"),
        (Some(next), _) => format!("{who} waits, and is sent {next}{why}"),
        (None, _) => format!("{who} could not be sent{why}"),
    }
}

fn text<'l>(letter: &'l Value, key: &str) -> &'l str {
    letter[key].as_str().unwrap_or_default()
}

async fn forget(out: Out, mut place: Where, meant: &Meant<'_>, yes: bool) -> Result<()> {
    if !yes {
        // Those that are not there are told before anybody is asked.
        let known = place.letters().await?;
        let is_there = |id: &i64| known.iter().any(|letter| letter["id"] == *id);
        meant.refuse(meant.0.into_iter().flatten().filter(|id| !is_there(id)).copied().collect())?;
        let count = meant.0.map_or(known.len(), <[i64]>::len);
        consent(meant, count)?;
    }
    let ids = match place {
        Where::Server(mut running) => numbers(&running.ask::<Value>("outbox.drop", json!({ "ids": meant.0 })).await?["dropped"]),
        Where::File(state) => state.drop_letters(meant.0)?,
        Where::Nowhere => meant.nowhere()?,
    };
    if out.json {
        return out.json(&json!({ "dropped": ids }), true);
    }
    out.note(format!("{} forgotten", messages(ids.len())));
    Ok(())
}

fn consent(meant: &Meant<'_>, count: usize) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let what = format!("{} would never be sent", messages(count));
    if !output::can_ask() {
        let message = format!("{what}, and nobody can be asked here");
        return Err(Failure::new(Exit::Consent, message).help(format!("bespoke outbox drop {} --yes", meant.words())));
    }
    if output::ask(&format!("{what}. Forget it?"))? { Ok(()) } else { Err(Failure::new(Exit::Consent, "nothing was forgotten")) }
}

fn numbers(value: &Value) -> Vec<i64> {
    value.as_array().into_iter().flatten().filter_map(Value::as_i64).collect()
}

fn messages(count: usize) -> String {
    if count == 1 { "1 message".to_owned() } else { format!("{count} messages") }
}

#[cfg(test)]
mod tests {
    use bespoke_plugin_api::Attachment;

    use super::*;

    #[test]
    fn a_message_is_shown_by_its_beginning() {
        let files = |n: usize| vec![Attachment::new("text/plain", vec![1]); n];
        for (text, n, row) in [
            ("Hello\n  there.", 0, "Hello there."),
            ("", 1, " [1 file]"),
            ("äöü", 2, "äöü [2 files]"),
            (&"x".repeat(SHOWN + 1), 0, &format!("{}…", "x".repeat(SHOWN))),
        ] {
            assert_eq!(shown(&Outbound::new("a", text).attachments(files(n))), row);
        }
        assert_eq!((due(Duration::ZERO), due(Duration::from_secs(61))), ("now".into(), "in 1 min 1 s".into()));
    }
}
