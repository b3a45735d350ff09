//! What fetching would do, before it does it: what is missing, from where, how many bytes.

use std::{collections::HashSet, path::PathBuf};

use crate::{Pin, Source, store::Rejected};

/// What a command line shows and asks about before anything is downloaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// Files that are there and verified.
    pub present: Vec<PathBuf>,
    /// Files that would be fetched.
    pub missing: Vec<Needed>,
}

/// One file that would be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Needed {
    /// The pin's file.
    pub file: String,
    /// Bytes it will take on disk.
    pub size: u64,
    /// Its licence.
    pub license: String,
    /// Where it will be.
    pub target: PathBuf,
    /// A file or archive in a given folder that would be used, so that nothing is downloaded.
    pub local: Option<PathBuf>,
    /// Its sources as shown to people, in the order in which they are tried; empty when nothing may be downloaded.
    pub sources: Vec<String>,
    /// Wrong files that are passed over, or replaced.
    pub rejected: Vec<Rejected>,
    /// The archive behind the first source, for counting it once.
    pub(crate) download: Download,
}

/// The bytes that the first source costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Download {
    archive: Option<String>,
    bytes: u64,
    exact: bool,
}

impl Plan {
    /// Bytes to download if the first source of each file answers, and whether that is exact. An archive that serves
    /// several files counts once. Not exact when an archive's size is not pinned: then its files' sizes stand in.
    pub fn download(&self) -> (u64, bool) {
        let mut archives = HashSet::new();
        let mut total = (0, true);
        for needed in self.missing.iter().filter(|needed| needed.local.is_none()) {
            let Download { archive, bytes, exact } = &needed.download;
            let again = archive.as_ref().is_some_and(|archive| !archives.insert(archive.clone()));
            if !(again && *exact) {
                total.0 += bytes;
            }
            total.1 &= exact;
        }
        total
    }

    /// Bytes that the missing files will take on disk.
    pub fn size(&self) -> u64 {
        self.missing.iter().map(|needed| needed.size).sum()
    }
}

impl Download {
    pub(crate) fn of(pin: &Pin) -> Self {
        match pin.sources.first() {
            Some(Source::Pip(package) | Source::Npm(package)) => Self {
                archive: Some(package.spec.clone()),
                bytes: package.archive_size.unwrap_or(pin.size),
                exact: package.archive_size.is_some(),
            },
            Some(Source::Url { .. }) => Self { archive: None, bytes: pin.size, exact: true },
            None => Self { archive: None, bytes: 0, exact: true },
        }
    }
}
