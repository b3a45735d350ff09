//! Model files of plugins: where they are, and getting them after a question. A program whose plugins need none has no
//! downloader in it: the feature `models` comes with the plugins that do.

use std::path::{Path, PathBuf};

use bespoke_manifest::Model;

#[cfg(feature = "models")]
mod fetching;
#[cfg(not(feature = "models"))]
#[path = "fetching_disabled.rs"]
mod fetching;

pub(crate) use fetching::Models;

/// Which files a fetch may come from, and whether it may be asked about.
#[derive(Debug, Clone, Default)]
#[cfg_attr(not(feature = "models"), expect(dead_code, reason = "there is nothing to agree to"))]
pub(crate) struct Consent {
    /// The user said yes beforehand.
    pub(crate) yes: bool,
    /// A folder to copy from.
    pub(crate) from: Option<PathBuf>,
    /// Nothing may be downloaded.
    pub(crate) offline: bool,
    /// The package index, before that of the configuration and of the environment.
    pub(crate) index_url: Option<String>,
}

/// A model file, and where it is or would come from.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub(crate) model: Model,
    /// The verified file.
    pub(crate) path: Option<PathBuf>,
    /// Its first source, while it is not here.
    pub(crate) from: Option<String>,
}

/// What was read of one model file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Checked {
    /// Files with the pinned bytes, the one in use first.
    pub(crate) right: Vec<PathBuf>,
    /// Files of its name with other bytes, and what differs.
    pub(crate) wrong: Vec<(PathBuf, String)>,
}

/// The folder of a path, for messages.
pub(crate) fn folder(path: &Path) -> String {
    path.parent().unwrap_or(path).display().to_string()
}
