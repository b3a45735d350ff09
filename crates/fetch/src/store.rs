//! Where pinned files lie: one folder that is written to, and others that are only read.
//!
//! Looking up never downloads and never writes, apart from stamps.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::{
    Pin,
    error::{Error, Failure},
    name, sink, stamp,
};

/// The folders of pinned files.
///
/// A file is looked for at `<root>/<sub>/<file>`, then for each search folder at `<dir>/<sub>/<file>` and
/// `<dir>/<file>`. It is accepted only with the pinned size and SHA-256; one with other bytes is passed over and named.
///
/// Reading 100 MB at every start to make sure of that would cost more than the start. So a verification is remembered
/// in `<root>/.verified/` and believed while size, modification time and, on Unix, change time, inode and device stay
/// the same, for seven days at most. A file that was edited, cut or replaced is therefore noticed at the next lookup; a
/// disk that silently returns other bits after at most seven days, or at once by [`Store::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// Files are placed at `<root>/<sub>/<file>`. Created when the first file is.
    pub root: PathBuf,
    /// Further folders, only read, in this order.
    pub search: Vec<PathBuf>,
}

/// A verified file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Located {
    /// Where it is.
    pub path: PathBuf,
    /// Files of its name with other bytes that were passed over before it was found.
    pub rejected: Vec<Rejected>,
}

/// A file that has a pinned name but other bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rejected {
    /// Where it is.
    pub path: PathBuf,
    /// What differs.
    pub why: String,
}

/// What a lookup saw.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Search {
    /// The verified file, if there is one.
    pub found: Option<PathBuf>,
    /// Files of its name with other bytes.
    pub rejected: Vec<Rejected>,
    /// Every path that was tried, in order.
    pub looked_in: Vec<PathBuf>,
}

impl Store {
    /// A store at `root`, without search folders.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), search: Vec::new() }
    }

    /// Adds folders to search, for example `std::env::split_paths` of `BESPOKE_MODEL_PATH`.
    #[must_use]
    pub fn with_search(mut self, folders: impl IntoIterator<Item = PathBuf>) -> Self {
        self.search.extend(folders.into_iter().filter(|folder| !folder.as_os_str().is_empty()));
        self
    }

    /// Where `pin` is placed.
    pub fn target(&self, sub: &str, pin: &Pin) -> PathBuf {
        self.root.join(sub).join(&pin.file)
    }

    /// The verified file of `pin`.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is nowhere, [`Error::Rejected`] when only files with other bytes are there,
    /// [`Error::InvalidPin`] when a name is not safe.
    pub fn find(&self, sub: &str, pin: &Pin) -> Result<Located, Error> {
        self.search(sub, pin)?.located(sub, pin)
    }

    /// As [`Store::find`], but every byte is read, whatever the stamps say.
    ///
    /// # Errors
    /// As [`Store::find`].
    pub fn verify(&self, sub: &str, pin: &Pin) -> Result<Located, Error> {
        self.look(sub, pin, Trust::Nothing)?.located(sub, pin)
    }

    /// As [`Store::find`], for callers to whom a missing file is no error.
    ///
    /// # Errors
    /// [`Error::InvalidPin`] when a name is not safe.
    pub fn search(&self, sub: &str, pin: &Pin) -> Result<Search, Error> {
        self.look(sub, pin, Trust::Stamps)
    }

    fn look(&self, sub: &str, pin: &Pin, trust: Trust) -> Result<Search, Error> {
        check_names(sub, pin)?;
        let mut search = Search { found: None, rejected: Vec::new(), looked_in: Vec::new() };
        let elsewhere = self.search.iter().flat_map(|folder| candidates(folder, sub, pin));
        for path in std::iter::once(self.target(sub, pin)).chain(elsewhere) {
            match self.examine(&path, pin, trust) {
                Verdict::Right => search.found = Some(path.clone()),
                Verdict::Wrong(why) => search.rejected.push(Rejected { path: path.clone(), why }),
                Verdict::Absent => {}
            }
            search.looked_in.push(path);
            if search.found.is_some() {
                break;
            }
        }
        Ok(search)
    }

    fn examine(&self, path: &Path, pin: &Pin, trust: Trust) -> Verdict {
        let metadata = match path.metadata() {
            Ok(metadata) => metadata,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Verdict::Absent,
            Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => return Verdict::Absent,
            Err(e) => return Verdict::Wrong(format!("cannot be read: {e}")),
        };
        // Asked before it is opened: opening a pipe would wait for its writer for ever.
        if !metadata.is_file() {
            return Verdict::Wrong("is not a regular file".to_owned());
        }
        if metadata.len() != pin.size {
            return Verdict::Wrong(Failure::Size { got: metadata.len(), size: pin.size }.to_string());
        }
        let stamps = self.stamps();
        if matches!(trust, Trust::Stamps) && stamp::holds(&stamps, path, &metadata, pin.sha256) {
            return Verdict::Right;
        }
        match sink::digest_of(path, pin.size) {
            Ok(got) if got == pin.sha256 => {
                stamp::put(&stamps, path, &metadata, pin.sha256);
                Verdict::Right
            }
            Ok(got) => {
                stamp::remove(&stamps, path);
                Verdict::Wrong(Failure::Digest { got, pinned: pin.sha256 }.to_string())
            }
            Err(e) => Verdict::Wrong(format!("cannot be read: {e}")),
        }
    }

    /// Remembers a file that was just verified and placed.
    pub(crate) fn stamp(&self, path: &Path, pin: &Pin) {
        if let Ok(metadata) = path.metadata() {
            stamp::put(&self.stamps(), path, &metadata, pin.sha256);
        }
    }

    fn stamps(&self) -> PathBuf {
        self.root.join(".verified")
    }
}

impl Search {
    fn located(self, sub: &str, pin: &Pin) -> Result<Located, Error> {
        match self.found {
            Some(path) => Ok(Located { path, rejected: self.rejected }),
            None => Err(absent(sub.to_owned(), pin.file.clone(), self.rejected, self.looked_in)),
        }
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.path.display(), self.why)
    }
}

/// The error for a file that is nowhere and may not be fetched.
pub(crate) fn absent(sub: String, file: String, rejected: Vec<Rejected>, looked_in: Vec<PathBuf>) -> Error {
    if rejected.is_empty() { Error::NotFound { sub, file, looked_in } } else { Error::Rejected { sub, file, rejected } }
}

/// Where a file can lie in a folder that a user names.
pub(crate) fn candidates(folder: &Path, sub: &str, pin: &Pin) -> [PathBuf; 2] {
    [folder.join(sub).join(&pin.file), folder.join(&pin.file)]
}

/// **Invariant:** called before a pin's or a caller's name is joined to a path.
pub(crate) fn check_names(sub: &str, pin: &Pin) -> Result<(), Error> {
    if let Some(why) = name::path_problem(sub) {
        return Err(Error::InvalidPin { file: sub.to_owned(), why: format!("folder {sub:?} {why}") });
    }
    match pin.problem() {
        Some(why) => Err(Error::InvalidPin { file: pin.file.clone(), why }),
        None => Ok(()),
    }
}

#[derive(Clone, Copy)]
enum Trust {
    Stamps,
    Nothing,
}

enum Verdict {
    Right,
    Wrong(String),
    Absent,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamped_file_is_not_read_again_unless_asked() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path());
        let pin = Pin { file: "m".to_owned(), size: 3, sha256: crate::Sha256([1; 32]), license: String::new(), sources: Vec::new() };
        let path = store.target("sub", &pin);
        std::fs::create_dir_all(root.path().join("sub")).unwrap();
        std::fs::write(&path, "abc").unwrap();
        assert!(matches!(store.find("sub", &pin), Err(Error::Rejected { .. })));
        // A stamp for bytes that are not there: who believes it has not read the file.
        store.stamp(&path, &pin);
        assert_eq!(store.find("sub", &pin).unwrap().path, path);
        assert!(matches!(store.verify("sub", &pin), Err(Error::Rejected { .. })));
        // The false stamp is gone with it.
        assert!(matches!(store.find("sub", &pin), Err(Error::Rejected { .. })));
    }
}
