//! Layouts of the file: `config_version`, and the steps from each to the next. A step works on the document, so that comments stay.

use std::path::Path;

use toml_edit::{DocumentMut, value};

use super::{
    ConfigError,
    edit::{as_written, take_head},
    error::Problem,
    file::{self, ConfigFile},
    read,
};

/// A step from one layout to the next.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// What it changes, in words that follow "now": `[voice] is called [speech]`.
    pub what: &'static str,
    /// Changes the document. `config_version` is set by the caller.
    ///
    /// # Errors
    /// Why this file cannot be changed, and what to do by hand.
    pub apply: fn(&mut DocumentMut) -> Result<(), String>,
}

/// The steps of this program: the first one leads from version 1 to version 2. There is one layout yet.
pub const MIGRATIONS: &[Migration] = &[];

/// The version of the configuration's layout that this program writes.
pub const CONFIG_VERSION: u64 = newest(MIGRATIONS);

const fn newest(steps: &[Migration]) -> u64 {
    1 + steps.len() as u64
}

/// The text in the newest layout, written back if that can be; and what a person should know.
pub(super) fn at_load(path: &Path, origin: &str, text: String, steps: &[Migration]) -> Result<(String, Vec<String>), ConfigError> {
    if version(origin, &text, steps)? == newest(steps) {
        return Ok((text, Vec::new()));
    }
    // Another program may be doing the same: what counts is what stands there once the file is ours.
    let locked = ConfigFile::lock(path);
    let text = file::text(path)?;
    let old = version(origin, &text, steps)?;
    if old == newest(steps) {
        return Ok((text, Vec::new()));
    }
    let (new, changes) = migrated(origin, &text, old, steps)?;
    let changes = format!("now {}", changes.join("; "));
    let written = locked.and_then(|locked| {
        let backup = file::beside(path, &format!("v{old}.bak"))?;
        file::copy_new(path, &backup)?;
        locked.write(&new)?;
        Ok(backup)
    });
    let notice = match written {
        Ok(backup) => format!("{origin}: brought from layout {old} to {}: {changes}; the old file is {}", newest(steps), backup.display()),
        Err(error) => {
            format!("{origin}: read as layout {} although it has {old}: {changes}; it cannot be rewritten: {error}", newest(steps))
        }
    };
    Ok((new, vec![notice]))
}

/// The text in the newest layout, and nothing written.
pub(super) fn in_memory(origin: &str, text: &str, steps: &[Migration]) -> Result<(String, Vec<String>), ConfigError> {
    let old = version(origin, text, steps)?;
    if old == newest(steps) {
        return Ok((text.to_owned(), Vec::new()));
    }
    let (new, changes) = migrated(origin, text, old, steps)?;
    Ok((new, vec![format!("{origin}: read as layout {} although it has {old}: now {}", newest(steps), changes.join("; "))]))
}

/// The version that a text has; one that says none is of the first.
fn version(origin: &str, text: &str, steps: &[Migration]) -> Result<u64, ConfigError> {
    let written = read::read(origin, text)?;
    let Some(said) = written.root.get("config_version") else {
        // A text without keys has no layout yet.
        return Ok(if written.root.is_empty() { newest(steps) } else { 1 });
    };
    let newest = newest(steps);
    match said.as_u64() {
        Some(n) if (1..=newest).contains(&n) => Ok(n),
        known => {
            let position = match written.places.get("config_version") {
                Some(read::Place::File(position)) => Some(*position),
                _ => None,
            };
            let place = position.map_or(origin.to_owned(), |p| format!("{origin}:{}:{}", p.line, p.column));
            let fix = match known {
                Some(n) if n > newest => {
                    format!("a newer program wrote it: use that one, or write `config_version = {newest}` and check the rest")
                }
                _ => format!("write `config_version = {newest}`"),
            };
            let message = format!("{said} is no version that this program knows; it writes {newest}");
            let problem = Problem { key: "config_version".into(), position, ..Problem::of_file(place, message, Some(fix)) };
            Err(problem.into())
        }
    }
}

fn migrated(origin: &str, text: &str, old: u64, steps: &[Migration]) -> Result<(String, Vec<&'static str>), ConfigError> {
    let refused = |message: String| ConfigError::from(Problem::of_file(origin, message, None));
    let mut document: DocumentMut = text.parse().map_err(|e: toml_edit::TomlError| refused(format!("is no TOML: {}", e.message())))?;
    let mut changes = Vec::new();
    for (from, step) in (1..).zip(steps).skip(usize::try_from(old - 1).unwrap_or(usize::MAX)) {
        (step.apply)(&mut document).map_err(|why| refused(format!("cannot be brought from layout {from} to {}: {why}", from + 1)))?;
        changes.push(step.what);
    }
    let head = set_version(&mut document, newest(steps));
    Ok((as_written(text, &format!("{head}{document}")), changes))
}

/// Sets the version, and keeps the comment on its line; the comments that stand before it where it is new.
fn set_version(document: &mut DocumentMut, version: u64) -> String {
    let number = i64::try_from(version).unwrap_or(i64::MAX);
    match document.get_mut("config_version").and_then(|item| item.as_value_mut()) {
        Some(old) => {
            let decor = old.decor().clone();
            *old = number.into();
            *old.decor_mut() = decor;
            String::new()
        }
        None => {
            let head = take_head(document);
            document.insert("config_version", value(number));
            head
        }
    }
}
