//! One at a time: the lock of a root, and the folder for what is not complete. Readers take no lock; what they see is renamed into place.

use std::{
    cell::OnceCell,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{error::Error, files};

/// How often a lock held by someone else is tried again.
const RETRY: Duration = Duration::from_millis(50);
const INSTALLING: &str = ".installing";
/// Of the downloader, whose store lies at the same root.
const PARTIAL: &str = ".partial";

/// The right to change what is below a root. Ends when dropped, or with the process. What is not complete when it ends is removed.
pub(crate) struct Writing {
    installing: PathBuf,
    /// What this run has in it, once it has something.
    own: OnceCell<TempDir>,
    _lock: File,
}

impl Writing {
    /// Waits for the lock, and asks `go_on` each time. The caller has to look again afterwards: whoever held it may have done the work.
    pub(crate) fn begin(root: &Path, most: Duration, go_on: &mut dyn FnMut() -> Result<(), Error>) -> Result<Self, Error> {
        Self::begin_with(File::try_lock, root, most, go_on)
    }

    fn begin_with(
        try_lock: fn(&File) -> Result<(), TryLockError>,
        root: &Path,
        most: Duration,
        go_on: &mut dyn FnMut() -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let path = files::folder(root, &[".locks"])?.join("packs.lock");
        // Never deleted: a lock on a deleted file would let a second holder in beside the first.
        let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(Error::io("open", &path))?;
        let since = Instant::now();
        let alone = loop {
            match try_lock(&lock) {
                Ok(()) => break true,
                Err(TryLockError::WouldBlock) => {}
                // A file system without locks: two processes may both install. Each has a folder of its own for what is not complete,
                // and renames it into place, so that what is seen is whole; at worst one of them fails, and the next run repairs.
                Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => break false,
                Err(TryLockError::Error(e)) => return Err(Error::io("lock", &path)(e)),
            }
            if since.elapsed() > most {
                return Err(Error::Locked { lock: path, waited: since.elapsed() });
            }
            go_on()?;
            thread::sleep(RETRY);
        };
        let installing = files::inside(root, &[INSTALLING])?;
        if alone {
            // Whatever lies here is of a run that died. Without a lock, nobody can tell it from that of one at work.
            remove(&installing)?;
        }
        // The downloader writes and removes there, and knows nothing of links.
        files::inside(root, &[PARTIAL])?;
        Ok(Self { installing, own: OnceCell::new(), _lock: lock })
    }

    /// A new empty folder for what is not complete, on the disk of the root.
    pub(crate) fn scratch(&self) -> Result<PathBuf, Error> {
        let own = match self.own.get() {
            Some(own) => own.path(),
            None => {
                fs::create_dir_all(&self.installing).map_err(Error::io("create", &self.installing))?;
                let own = tempfile::Builder::new().prefix("run-").tempdir_in(&self.installing);
                let own = own.map_err(Error::io("create a folder in", &self.installing))?;
                self.own.get_or_init(|| own).path()
            }
        };
        let made = tempfile::Builder::new().prefix("new-").tempdir_in(own);
        let made = made.map_err(Error::io("create a folder in", own))?.keep();
        open_to_all(&made)?;
        Ok(made)
    }

    /// Makes a folder vanish at once; its files are removed after that.
    pub(crate) fn take_away(&self, folder: &Path) -> Result<(), Error> {
        let away = self.scratch()?.join("old");
        fs::rename(folder, &away).map_err(Error::io("remove", folder))?;
        files::sync(folder.parent().unwrap_or(folder)).map_err(Error::io("flush", folder))?;
        remove(&away)
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if let Some(own) = self.own.take() {
            // What is left is removed by the next run. The folder above goes if nobody else has something in it.
            let _ = own.close();
            let _ = fs::remove_dir(&self.installing);
        }
    }
}

/// Removes a folder if it is there. Links in it are removed, and not followed.
fn remove(folder: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", folder)(e)),
        _ => Ok(()),
    }
}

/// A folder that `tempfile` made is for its owner only; packs may be read by everybody.
fn open_to_all(folder: &Path) -> Result<(), Error> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).map_err(Error::io("set the permissions of", folder))?;
    }
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(root: &Path, try_lock: fn(&File) -> Result<(), TryLockError>) -> Writing {
        Writing::begin_with(try_lock, root, Duration::ZERO, &mut || Ok(())).unwrap()
    }

    #[test]
    fn where_there_are_no_locks_nobody_removes_what_another_is_at() {
        let unsupported = |_: &File| Err(TryLockError::Error(io::ErrorKind::Unsupported.into()));
        let root = tempfile::tempdir().unwrap();
        let (one, made) = (begin(root.path(), unsupported), root.path().join(INSTALLING));
        let folder = one.scratch().unwrap();
        let other = begin(root.path(), unsupported);
        other.scratch().unwrap();
        assert_eq!(fs::read_dir(&made).unwrap().count(), 2);
        drop(other);
        assert!(folder.is_dir());
        drop(one);
        assert!(!made.exists(), "the last one leaves nothing");
    }

    #[test]
    fn who_has_the_lock_removes_what_the_dead_left() {
        let root = tempfile::tempdir().unwrap();
        let left = root.path().join(INSTALLING).join("run-dead/new-dead/lib");
        fs::create_dir_all(&left).unwrap();
        let writing = begin(root.path(), File::try_lock);
        assert!(!left.exists());
        writing.scratch().unwrap();
        drop(writing);
        assert!(!root.path().join(INSTALLING).exists());
    }
}
