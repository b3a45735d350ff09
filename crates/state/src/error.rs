//! What can go wrong with the file and what is in it, each with the next command.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use bespoke_plugin_api::{Code, Error, Timestamp};

use crate::time::iso;

/// Why something could not be kept or found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The operating system refused.
    #[error("{}: cannot {what}: {source}", .path.display())]
    Io {
        /// What was being done, as a verb.
        what: &'static str,
        /// To which path.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A newer program has changed the layout of the file.
    #[error("{}: a newer program wrote it (layout {found}; this program knows layouts up to {known})", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its layout.
        found: i64,
        /// The newest layout that this program knows.
        known: i64,
    },
    /// A database, but not ours.
    #[error("{}: it is a database of another program", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Not a database, cut off, or with contents that cannot be.
    #[error("{}: it is damaged: {detail}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// The file or its folder may not be written.
    #[error("{}: it cannot be written: {detail}", .path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        detail: String,
    },
    /// No room for more.
    #[error("{}: the disk is full", .path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// Another process holds the lock for too long.
    #[error("{}: another process has held it for {} s", .path.display(), .waited.as_secs())]
    Busy {
        /// The file.
        path: PathBuf,
        /// How long was waited.
        waited: Duration,
    },
    /// No session of that id.
    #[error("there is no session `{session}`")]
    Unknown {
        /// The id, or the part of one, that was asked for.
        session: String,
    },
    /// More than one session has an id like that.
    #[error("`{session}` may be {}", .matches.join(" or "))]
    Ambiguous {
        /// What was asked for.
        session: String,
        /// The first few ids that fit.
        matches: Vec<String>,
    },
    /// Somebody else has written to the session since it was resumed.
    #[error("the conversation {session} was continued elsewhere, by {by} at {}; resume it again", iso(*.at))]
    Continued {
        /// Its id.
        session: String,
        /// Who wrote last.
        by: String,
        /// When.
        at: Timestamp,
    },
    /// Somebody else has deleted the session since it was resumed.
    #[error("the conversation {session} was deleted elsewhere")]
    Gone {
        /// Its id.
        session: String,
    },
    /// No letter of that number waits or is dead.
    #[error("{}; nothing was changed", no_letters(ids))]
    NoLetter {
        /// Those that were asked for and are not there.
        ids: Vec<i64>,
    },
    /// It is too late to change what becomes of it.
    #[error("message {id} is being sent now; nothing was changed")]
    LetterLeaves {
        /// Its number.
        id: i64,
    },
    /// Nothing can be sent of a letter that cannot be read.
    #[error("message {id} cannot be read, so it cannot be sent; nothing was changed")]
    UnreadableLetter {
        /// Its number.
        id: i64,
    },
    /// A plugin wants to store more than it may.
    #[error("{plugin} may not store it: {what}")]
    TooLarge {
        /// The plugin.
        plugin: String,
        /// What is over which limit.
        what: String,
    },
    /// A text that is no exported session.
    #[error("it is no exported session: {0}")]
    Import(String),
    /// Anything else that SQLite says.
    #[error("{}: {source}", .path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StateError {
    /// The command that would help.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            StateError::Io { path, .. } | StateError::ReadOnly { path, .. } => format!("ls -ld {} {}", folder(path), word(path)),
            StateError::Newer { .. } => "use the newer program, or another folder: export BESPOKE_HOME=/a/folder".to_owned(),
            // Out of the way, with its log: the next run begins a new one.
            StateError::Foreign { path } | StateError::Damaged { path, .. } => {
                format!("mkdir -p {0}/broken && mv {1}* {0}/broken/", folder(path), word(path))
            }
            StateError::Full { path } => format!("df -h {}", folder(path)),
            StateError::Busy { path, .. } => format!("fuser {}", word(path)),
            StateError::Unknown { .. } | StateError::Ambiguous { .. } | StateError::Gone { .. } => "bespoke sessions list".to_owned(),
            StateError::Continued { session, .. } => format!("bespoke sessions show {session}"),
            StateError::NoLetter { .. } | StateError::LetterLeaves { .. } => "bespoke outbox list".to_owned(),
            StateError::UnreadableLetter { id } => format!("bespoke outbox drop {id}"),
            StateError::TooLarge { .. } | StateError::Import(_) | StateError::Database { .. } => return None,
        })
    }

    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, StateError::Busy { .. } | StateError::Full { .. })
    }
}

fn folder(path: &Path) -> String {
    word(path.parent().unwrap_or(path))
}

/// A path as a shell takes it.
fn word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@%".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

impl From<StateError> for Error {
    fn from(error: StateError) -> Self {
        let code = match &error {
            StateError::Continued { .. } | StateError::Gone { .. } | StateError::LetterLeaves { .. } => Code::CONFLICT,
            StateError::Unknown { .. } | StateError::Ambiguous { .. } | StateError::Import(_) => Code::INVALID_PARAMS,
            StateError::NoLetter { .. } | StateError::UnreadableLetter { .. } => Code::INVALID_PARAMS,
            StateError::TooLarge { .. } | StateError::Full { .. } | StateError::Busy { .. } => Code::RESOURCE_EXHAUSTED,
            _ => Code::INTERNAL_ERROR,
        };
        let told = Error::new(code, error.to_string());
        let told = if error.is_retryable() { told.retryable() } else { told };
        match error.help() {
            Some(help) => told.with_help(help),
            None => told,
        }
    }
}

fn no_letters(ids: &[i64]) -> String {
    match ids {
        [id] => format!("no message of number {id} is to leave"),
        ids => format!("no messages of numbers {} are to leave", ids.iter().map(i64::to_string).collect::<Vec<_>>().join(", ")),
    }
}
