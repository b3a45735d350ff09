//! What is written down beside the files: `pack.json` in a pack, `wheel.json` beside a shared wheel. Read again on every use, so
//! nothing in it is believed that leads elsewhere.

use std::path::Path;

use bespoke_fetch::Sha256;
use serde::{Deserialize, Serialize};

use crate::{
    error::Error,
    files,
    spec::{Set, Spec},
    table::{Pack, Pinned},
};

/// `pack.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PackRecord {
    pub(crate) spec: Spec,
    pub(crate) version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) set: Option<Set>,
    pub(crate) library: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) preload: Vec<String>,
    /// Seconds since 1970.
    pub(crate) installed: u64,
    pub(crate) wheels: Vec<WheelRecord>,
    pub(crate) files: Vec<FileRecord>,
}

/// A wheel, as it was pinned when the pack was installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WheelRecord {
    pub(crate) project: String,
    pub(crate) version: String,
    pub(crate) file: String,
    pub(crate) sha256: Sha256,
    pub(crate) license: String,
    pub(crate) redistribute: bool,
    /// Its files lie below `nvidia` and belong to several packs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) shared: bool,
}

/// A file, relative to the folder of the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileRecord {
    pub(crate) path: String,
    pub(crate) size: u64,
    pub(crate) sha256: Sha256,
    /// It belongs to a shared wheel, and is a link to its file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) shared: bool,
}

/// `wheel.json` beside the files of a shared wheel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SharedRecord {
    pub(crate) file: String,
    pub(crate) sha256: Sha256,
    pub(crate) files: Vec<FileRecord>,
}

impl PackRecord {
    /// The record in the folder of a pack; `None` when there is none.
    pub(crate) fn read(folder: &Path) -> Result<Option<Self>, Error> {
        files::read_json(&folder.join(files::PACK))
    }

    /// The first thing in it that cannot be right.
    pub(crate) fn problem(&self, spec: Spec, version: &str) -> Option<String> {
        if self.spec != spec || self.version != version {
            return Some(format!("{} says that it is {} {}", files::PACK, self.spec, self.version));
        }
        let listed = |path: &String| self.files.iter().any(|file| file.path == *path);
        let unlisted = std::iter::once(&self.library).chain(&self.preload).find(|path| !listed(path));
        if let Some(path) = unlisted {
            return Some(format!("{} does not list {path}", files::PACK));
        }
        let odd = self.files.iter().find(|file| !files::is_relative(&file.path))?;
        Some(format!("{} lists {:?}, which is no place in a pack", files::PACK, odd.path))
    }

    /// Bytes of all its files.
    pub(crate) fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

impl WheelRecord {
    pub(crate) fn of(pinned: &Pinned, shared: bool) -> Self {
        let wheel = &pinned.wheel;
        WheelRecord {
            project: wheel.project.clone(),
            version: wheel.version.clone(),
            file: wheel.file.clone(),
            sha256: wheel.sha256,
            license: pinned.license.clone(),
            redistribute: pinned.redistribute,
            shared,
        }
    }
}

impl SharedRecord {
    /// Whether these are the members of the wheel that is pinned.
    pub(crate) fn is_of(&self, pinned: &Pinned) -> bool {
        let members = &pinned.wheel.members;
        self.sha256 == pinned.wheel.sha256
            && self.files.len() == members.len()
            && members.iter().zip(&self.files).all(|(member, file)| member.to == file.path && member.size == file.size)
    }

    /// Its files, as they are called in a pack.
    pub(crate) fn linked(&self) -> impl Iterator<Item = FileRecord> {
        self.files.iter().map(|file| FileRecord { path: Pack::linked(&file.path), shared: true, ..file.clone() })
    }
}
