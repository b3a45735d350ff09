//! What can go wrong with packs: what, where, and the command that helps. What a source of wheels answered is told by the downloader.

use std::{io, path::PathBuf, time::Duration};

use bespoke_fetch::Class;

use crate::{
    spec::{Set, Spec},
    table::Platform,
};

/// Why a pack cannot be used, installed or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The program has nothing that could use it.
    #[error("{spec} needs a program with the feature {}; build one with `--features {}`", .spec.runtime(), .spec.runtime())]
    Feature {
        /// The pack.
        spec: Spec,
    },
    /// There are no wheels of it for this system.
    #[error("{spec} is not there for {}; {}", shown_platform(.platform), shown_platforms(.offered))]
    Platform {
        /// The pack.
        spec: Spec,
        /// This system; `None` when there are no packs at all for it.
        platform: Option<Platform>,
        /// The systems that it is there for.
        offered: Vec<Platform>,
    },
    /// It is not there for this generation of NVIDIA's libraries.
    #[error("{spec} is not there for {set} on this system")]
    Set {
        /// The pack.
        spec: Spec,
        /// What was asked for.
        set: Set,
    },
    /// It is neither installed nor bundled.
    #[error("{spec} is not installed; run `bespoke plugin install {spec}`")]
    NotInstalled {
        /// The pack.
        spec: Spec,
    },
    /// It came with the program, so nothing here changes it.
    #[error("{spec} is bundled with the program, in {}; that folder is not changed by this command", .folder.display())]
    Bundled {
        /// The pack.
        spec: Spec,
        /// Where it lies.
        folder: PathBuf,
    },
    /// This version of it is not installed.
    #[error("{spec} {version} is not installed; installed are {}", shown_versions(.installed))]
    NoVersion {
        /// The pack.
        spec: Spec,
        /// What was asked for.
        version: String,
        /// What is there.
        installed: Vec<String>,
    },
    /// There is no version to go back to.
    #[error("{spec} {} has no version before it to go back to", .version)]
    NoPrevious {
        /// The pack.
        spec: Spec,
        /// The version in use.
        version: String,
    },
    /// Updating would put an older version into use.
    #[error("{spec} {pinned}, which this program would install, is older than {version} in use{}; to go there all the same, run `bespoke plugin install {spec}{}`", shown_broken(.broken), shown_set(.set))]
    Older {
        /// The pack.
        spec: Spec,
        /// The version in use.
        version: String,
        /// What this program would install.
        pinned: String,
        /// For which generation of NVIDIA's libraries that is.
        set: Option<Set>,
        /// What is wrong with the version in use, if it cannot be used.
        broken: Option<String>,
    },
    /// Something of it is missing or wrong.
    #[error("{spec} {version} is broken: {why}; run `bespoke plugin install {spec}`, which repairs it")]
    Broken {
        /// The pack.
        spec: Spec,
        /// Its version.
        version: String,
        /// The first thing that is wrong.
        why: String,
    },
    /// The disk is too full.
    #[error("{spec} needs {} on the disk of {}, and {} are free; free some space, or set plugins.dir to a folder on another disk", bytes(*.needed), .path.display(), bytes(*.free))]
    Space {
        /// The pack.
        spec: Spec,
        /// Bytes that installing takes at its peak.
        needed: u64,
        /// Bytes that are free.
        free: u64,
        /// The folder.
        path: PathBuf,
    },
    /// Another process installs or removes for too long.
    #[error("another process installs or removes packs (lock {}, waited {} s); let it finish or end it, then try again", .lock.display(), .waited.as_secs())]
    Locked {
        /// The lock file. Deleting it does not help; the lock ends with the process that holds it.
        lock: PathBuf,
        /// How long was waited.
        waited: Duration,
    },
    /// The caller's flag was set.
    #[error("installing {spec} was cancelled; what came from an index is continued by the next run")]
    Cancelled {
        /// The pack.
        spec: Spec,
    },
    /// A link where a folder or a file has to be.
    #[error("{} is a link, or no folder; packs are not written or removed through it. Remove it, then try again", .path.display())]
    Link {
        /// What stands in the way.
        path: PathBuf,
    },
    /// The wheels could not be had.
    #[error(transparent)]
    Fetch(#[from] bespoke_fetch::Error),
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
    /// The table of packs is wrong: a defect of the program.
    #[error("the table of packs cannot be used: {0}")]
    Table(String),
}

impl Error {
    /// Which exit code a command line gives it.
    pub fn class(&self) -> Class {
        match self {
            Self::Feature { .. }
            | Self::Platform { .. }
            | Self::Set { .. }
            | Self::NotInstalled { .. }
            | Self::NoVersion { .. }
            | Self::NoPrevious { .. } => Class::NotFound,
            Self::Broken { .. } => Class::Verification,
            Self::Bundled { .. } | Self::Locked { .. } | Self::Older { .. } => Class::Conflict,
            Self::Cancelled { .. } => Class::Cancelled,
            Self::Fetch(error) => error.class(),
            Self::Space { .. } | Self::Link { .. } | Self::Io { .. } => Class::Local,
            Self::Table(_) => Class::Invalid,
        }
    }

    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }
}

fn shown_platform(platform: &Option<Platform>) -> String {
    let here = || format!("{} on {}", std::env::consts::OS, std::env::consts::ARCH);
    platform.map_or_else(here, |platform| platform.to_string())
}

fn shown_platforms(offered: &[Platform]) -> String {
    match offered {
        [] => "it is there for no system".to_owned(),
        _ => format!("it is there for {}", offered.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    }
}

fn shown_versions(versions: &[String]) -> String {
    if versions.is_empty() { "none".to_owned() } else { versions.join(", ") }
}

fn shown_broken(broken: &Option<String>) -> String {
    broken.as_ref().map_or_else(String::new, |why| format!(", which is broken: {why}"))
}

/// As an argument of the command.
fn shown_set(set: &Option<Set>) -> String {
    set.map_or_else(String::new, |set| format!(" --cuda {}", set.as_str().trim_start_matches("cu")))
}

fn bytes(count: u64) -> String {
    if count >= 1_000_000_000 { format!("{:.1} GB", count as f64 / 1e9) } else { format!("{:.1} MB", count as f64 / 1e6) }
}
