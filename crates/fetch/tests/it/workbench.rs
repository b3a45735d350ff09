//! What every test works on: a root of its own, bytes that are easy to tell from others, and pins for them.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
    time::Duration,
};

use bespoke_fetch::{Error, Fetcher, Limits, Pin, Progress, Sha256, Source, Store};
use sha2::Digest as _;

/// A root and a second folder, both gone at the end.
pub(crate) struct Workbench {
    folder: tempfile::TempDir,
}

impl Workbench {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// A folder beside the root, created.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// Short limits, so that a failure to stop shows as a failed test within seconds.
    pub(crate) fn fetcher(&self) -> Fetcher {
        let mut fetcher = Fetcher::new(Store::new(self.root()));
        let second = Duration::from_secs(1);
        let backoff = Duration::from_millis(5);
        fetcher.limits = Limits { connect: 2 * second, stall: 5 * second, total: 20 * second, backoff, ..Limits::default() };
        fetcher
    }

    pub(crate) fn target(&self) -> PathBuf {
        self.root().join("sub/model.bin")
    }

    /// Every file below the root that is not a lock or a stamp, relative to it.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        list(&self.root(), &mut found);
        let inside = |path: &PathBuf| path.strip_prefix(self.root()).unwrap().to_str().unwrap().replace('\\', "/");
        let mut names: Vec<_> = found.iter().map(inside).collect();
        names.retain(|name| !name.starts_with(".locks/") && !name.starts_with(".verified/") && name != ".staging/.lock");
        names.sort();
        names
    }

    /// The interrupted download, if there is one.
    pub(crate) fn part(&self) -> Option<PathBuf> {
        let found = self.files().into_iter().find(|name| name.starts_with(".partial/"));
        found.map(|name| self.root().join(name))
    }
}

/// 300 kB that repeat nowhere near a chunk's length.
pub(crate) fn content() -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..300_000).map(|_| next()).collect()
}

/// A pin of `bytes` as `model.bin`.
pub(crate) fn pin(bytes: &[u8], sources: Vec<Source>) -> Pin {
    Pin { file: "model.bin".to_owned(), size: bytes.len() as u64, sha256: digest(bytes), license: "CC0-1.0".to_owned(), sources }
}

pub(crate) fn digest(bytes: &[u8]) -> Sha256 {
    Sha256(sha2::Sha256::digest(bytes).into())
}

/// One pin, nobody watching, nobody cancelling.
pub(crate) fn ensure(fetcher: &Fetcher, pin: &Pin) -> Result<PathBuf, Error> {
    watched(fetcher, pin, &mut |_| {})
}

pub(crate) fn watched(fetcher: &Fetcher, pin: &Pin, report: &mut dyn FnMut(Progress<'_>)) -> Result<PathBuf, Error> {
    let paths = fetcher.ensure("sub", std::slice::from_ref(pin), report, &AtomicBool::new(false))?;
    Ok(paths.into_iter().next().unwrap())
}

pub(crate) fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn list(folder: &Path, into: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() { list(&path, into) } else { into.push(path) }
    }
}
