//! `state.db`: whether it opens and is whole, how large it is, how many conversations it has.

use std::fs;

use bespoke_state::{Filter, State};

use super::report::{Report, Verdict};
use crate::{output::bytes, paths::Paths};

/// Beyond this, reading all of it would take minutes.
const MOST_READ: u64 = 2 << 30;
/// A log that grew beyond this was not emptied: a program was cut off, or still reads.
const LARGE_LOG: u64 = 64 << 20;
/// Most conversations that are counted.
const MOST_COUNTED: u32 = 100_000;

pub(crate) fn check(report: &mut Report, paths: &Paths) {
    let path = paths.state();
    let size = |suffix: &str| fs::metadata(format!("{}{suffix}", path.display())).map_or(0, |found| found.len());
    // Opening it would make it.
    if !path.exists() && size("-wal") == 0 {
        report.skip("conversations", "none is kept yet");
        return report.skip("log of state.db", "there is none");
    }
    let state = match State::open(&path) {
        Ok(state) => state,
        Err(error) => {
            let fix = error.help().unwrap_or_else(|| format!("mv {0} {0}.old", path.display()));
            return report.add("conversations", Verdict::Problem, error.to_string(), Some(fix));
        }
    };
    let checked = if size("") > MOST_READ { None } else { Some(state.check()) };
    match (checked, state.list(&Filter::default(), MOST_COUNTED, 0)) {
        (Some(Err(error)), _) | (_, Err(error)) => {
            let fix = error.help().unwrap_or_else(|| format!("mv {0} {0}.old", path.display()));
            report.add("conversations", Verdict::Problem, error.to_string(), Some(fix));
        }
        (checked, Ok(sessions)) => {
            let whole = if checked.is_some() { "whole" } else { "too large to be read through" };
            let conversations = if sessions.len() == 1 { "conversation" } else { "conversations" };
            report.ok("conversations", format!("{} {conversations} in {}, {}, {whole}", sessions.len(), path.display(), bytes(size(""))));
        }
    }
    match size("-wal") {
        log @ 0..=LARGE_LOG => report.ok("log of state.db", bytes(log)),
        log => report.add(
            "log of state.db",
            Verdict::Warning,
            format!("{}; it is emptied when the last program that uses it ends", bytes(log)),
            Some("bespoke sessions list --limit 1".into()),
        ),
    }
}
