//! `outbox`: messages that could not be sent. They are read from the database, whether a server runs or not; one that runs sends them again
//! at once, else the next one does.

use bespoke_state::{DeadLetter, State};
use serde_json::{Value, json};

use crate::{
    cli::{Global, Outbox},
    exit::{Exit, Failure, Result},
    output::{self, Out},
    paths::Paths,
    running::Running,
};

pub(super) async fn run(global: &Global, verb: Outbox) -> Result<()> {
    let paths = Paths::of_server(global)?;
    let out = Out::with(global.json, global.quiet);
    match verb {
        Outbox::List => list(out, &paths),
        Outbox::Resend { ids, all } => resend(out, &paths, &ids, all).await,
        Outbox::Drop { ids, all, yes } => forget(out, &paths, &ids, all, yes),
    }
}

/// What is kept; `None` while nothing is. A look does not make the file.
fn opened(paths: &Paths) -> Result<Option<State>> {
    let path = paths.state();
    if path.exists() { Ok(Some(State::open(path)?)) } else { Ok(None) }
}

fn letters(paths: &Paths) -> Result<Vec<DeadLetter>> {
    Ok(opened(paths)?.map(|state| state.dead_letters()).transpose()?.unwrap_or_default())
}

fn list(out: Out, paths: &Paths) -> Result<()> {
    let letters = letters(paths)?;
    if out.json {
        return out.json(&letters, true);
    }
    if letters.is_empty() {
        return out.line("every message could be sent, or is still tried");
    }
    let row = |letter: &DeadLetter| {
        let chat = format!("{}:{}", letter.channel, letter.message.chat);
        vec![letter.id.to_string(), bespoke_state::iso(letter.created), chat, letter.attempts.to_string(), letter.error.clone()]
    };
    out.table(&["ID", "WRITTEN", "CHAT", "TRIED", "WHY"], &letters.iter().map(row).collect::<Vec<_>>())?;
    out.note("  try: bespoke outbox resend ID, or bespoke outbox drop ID");
    Ok(())
}

/// The letters that are meant: all that there are, or those that are named, each of which has to be there.
fn meant(paths: &Paths, ids: &[i64], all: bool) -> Result<Vec<i64>> {
    let known: Vec<i64> = letters(paths)?.into_iter().map(|letter| letter.id).collect();
    if all {
        return Ok(known);
    }
    match ids.iter().find(|id| !known.contains(id)) {
        Some(id) => Err(Failure::new(Exit::NotFound, format!("no message of number {id} was given up")).help("bespoke outbox list")),
        None => Ok(ids.to_vec()),
    }
}

async fn resend(out: Out, paths: &Paths, ids: &[i64], all: bool) -> Result<()> {
    let ids = meant(paths, ids, all)?;
    let by_server = match Running::find(paths).await? {
        Some(mut running) => Some(running.ask::<Value>("outbox.resend", json!({ "ids": ids })).await?),
        None => None,
    };
    if by_server.is_none()
        && let Some(state) = opened(paths)?
    {
        for id in &ids {
            state.resend_letter(*id)?;
        }
    }
    if out.json {
        return out.json(&json!({ "resent": ids, "by_server": by_server.is_some() }), true);
    }
    let when = if by_server.is_some() { "sent again now" } else { "sent again by the next bespoke serve" };
    out.note(format!("{}: {when}", messages(ids.len())));
    Ok(())
}

fn forget(out: Out, paths: &Paths, ids: &[i64], all: bool, yes: bool) -> Result<()> {
    let ids = meant(paths, ids, all)?;
    if !yes && !ids.is_empty() {
        let what = format!("{} would never be sent", messages(ids.len()));
        if !output::can_ask() {
            let words = if all { "--all".to_owned() } else { ids.iter().map(i64::to_string).collect::<Vec<_>>().join(" ") };
            return Err(Failure::new(Exit::Consent, format!("{what}, and nobody can be asked here"))
                .help(format!("bespoke outbox drop {words} --yes")));
        }
        if !output::ask(&format!("{what}. Forget it?"))? {
            return Err(Failure::new(Exit::Consent, "nothing was forgotten"));
        }
    }
    if let Some(state) = opened(paths)? {
        for id in &ids {
            state.forget_letter(*id)?;
        }
    }
    if out.json {
        return out.json(&json!({ "dropped": ids }), true);
    }
    out.note(format!("{} forgotten", messages(ids.len())));
    Ok(())
}

fn messages(count: usize) -> String {
    if count == 1 { "1 message".to_owned() } else { format!("{count} messages") }
}
