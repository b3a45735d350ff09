//! The writing side of a store: the lock of a file, the staging folder of a run, and the rename into place.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::{error::Error, progress::Watch};

/// How often a lock held by someone else is tried again.
const RETRY: Duration = Duration::from_millis(50);

/// The lock of one file. Ends when dropped, or with the process: a lock file that is left lying holds nobody up.
pub(crate) struct TargetLock(#[expect(dead_code, reason = "the open file is the lock")] File);

impl TargetLock {
    /// Waits for the lock. The caller must look again afterwards: whoever held it may have placed the file.
    pub(crate) fn acquire(root: &Path, sub: &str, file: &str, most: Duration, watch: &mut Watch<'_>) -> Result<Self, Error> {
        let path = root.join(".locks").join(sub).join(format!("{file}.lock"));
        make_parent(&path)?;
        // Never deleted: a lock on a deleted file would let a second holder in beside the first.
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(Error::io("open", &path))?;
        let since = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self(file)),
                Err(TryLockError::WouldBlock) => {}
                // A file system without locks: two processes may both download; the rename keeps the result whole.
                Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => return Ok(Self(file)),
                Err(TryLockError::Error(e)) => return Err(Error::io("lock", &path)(e)),
            }
            let waited = since.elapsed();
            if waited > most {
                return Err(Error::Locked { file: watch.file().to_owned(), lock: path, waited });
            }
            watch.wait()?;
            thread::sleep(RETRY);
        }
    }
}

/// A folder below the root for what must not be seen yet. Removed when dropped; if the process dies, by a later run.
pub(crate) struct Staging {
    // Before `folder`, so that it is closed when the folder is removed.
    _alive: File,
    folder: tempfile::TempDir,
}

impl Staging {
    pub(crate) fn open(root: &Path) -> Result<Self, Error> {
        let parent = root.join(".staging");
        fs::create_dir_all(&parent).map_err(Error::io("create", &parent))?;
        // Held while folders are created and swept, so that no one sweeps a folder between its creation and its lock.
        let gate = parent.join(".lock");
        let gate = File::options().create(true).truncate(false).write(true).open(&gate).map_err(Error::io("open", &gate))?;
        if enter(&gate) {
            sweep(&parent);
        }
        let folder = tempfile::Builder::new().prefix("run-").tempdir_in(&parent).map_err(Error::io("create a folder in", &parent))?;
        let alive = folder.path().join(ALIVE);
        let alive = File::create(&alive).map_err(Error::io("create", &alive))?;
        let _ = alive.try_lock();
        Ok(Self { _alive: alive, folder })
    }

    /// A new empty folder in it.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf, Error> {
        let made = tempfile::Builder::new().prefix(name).tempdir_in(self.folder.path());
        Ok(made.map_err(Error::io("create a folder in", self.folder.path()))?.keep())
    }
}

/// Renames a complete, flushed file into place, and makes the rename itself durable.
pub(crate) fn place(from: &Path, to: &Path) -> Result<(), Error> {
    make_parent(to)?;
    fs::rename(from, to).map_err(Error::io("write", to))?;
    #[cfg(unix)]
    if let Some(folder) = to.parent() {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::io("flush", folder))?;
    }
    Ok(())
}

/// Makes the names of `path` and of its folders, up to `top`, durable.
pub(crate) fn sync_folders(path: &Path, top: &Path) -> Result<(), Error> {
    #[cfg(unix)]
    for folder in path.ancestors().skip(1).take_while(|folder| folder.starts_with(top)) {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::io("flush", folder))?;
    }
    #[cfg(not(unix))]
    let _ = (path, top);
    Ok(())
}

/// Removes a file, and its folders below `top` that are empty without it.
pub(crate) fn remove(path: &Path, top: &Path) {
    let _ = fs::remove_file(path);
    for folder in path.ancestors().skip(1).take_while(|folder| folder.starts_with(top) && *folder != top) {
        if fs::remove_dir(folder).is_err() {
            return;
        }
    }
}

/// Creates the folder of `path`.
pub(crate) fn make_parent(path: &Path) -> Result<(), Error> {
    match path.parent() {
        Some(folder) => fs::create_dir_all(folder).map_err(Error::io("create", folder)),
        None => Ok(()),
    }
}

/// Takes the gate, but not at any price: without it only the sweep is left out.
fn enter(gate: &File) -> bool {
    for _ in 0..100 {
        match gate.try_lock() {
            Ok(()) => return true,
            Err(TryLockError::WouldBlock) => thread::sleep(RETRY),
            Err(TryLockError::Error(_)) => return false,
        }
    }
    false
}

const ALIVE: &str = ".alive";

/// Removes the staging folders of processes that are gone: their lock can be taken.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for folder in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
        let abandoned = match File::open(folder.join(ALIVE)) {
            Ok(file) => file.try_lock().is_ok(),
            Err(e) => e.kind() == io::ErrorKind::NotFound,
        };
        if abandoned {
            let _ = fs::remove_dir_all(&folder);
        }
    }
}
