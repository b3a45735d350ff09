//! One at a time: the lock of a root, and the folder for what is not complete. Readers take no lock; what they see is renamed into place.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::{error::Error, files};

/// How often a lock held by someone else is tried again.
const RETRY: Duration = Duration::from_millis(50);
const INSTALLING: &str = ".installing";
/// Of the downloader, whose store lies at the same root.
const PARTIAL: &str = ".partial";

/// The right to change what is below a root. Ends when dropped, or with the process. What is not complete when it ends is removed.
pub(crate) struct Writing {
    /// Empty when it was taken.
    installing: PathBuf,
    /// Downloads that broke off.
    partial: PathBuf,
    _lock: File,
}

impl Writing {
    /// Waits for the lock, and asks `go_on` each time. The caller has to look again afterwards: whoever held it may have done the work.
    pub(crate) fn begin(root: &Path, most: Duration, go_on: &mut dyn FnMut() -> Result<(), Error>) -> Result<Self, Error> {
        let path = files::folder(root, &[".locks"])?.join("packs.lock");
        // Never deleted: a lock on a deleted file would let a second holder in beside the first.
        let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(Error::io("open", &path))?;
        let since = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {}
                // A file system without locks: two processes may both install; the renames keep the result whole.
                Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => break,
                Err(TryLockError::Error(e)) => return Err(Error::io("lock", &path)(e)),
            }
            if since.elapsed() > most {
                return Err(Error::Locked { lock: path, waited: since.elapsed() });
            }
            go_on()?;
            thread::sleep(RETRY);
        }
        // Whatever lies here is of a run that died.
        let installing = files::inside(root, &[INSTALLING])?;
        remove(&installing)?;
        Ok(Self { installing, partial: files::inside(root, &[PARTIAL])?, _lock: lock })
    }

    /// A new empty folder for what is not complete, on the disk of the root.
    pub(crate) fn scratch(&self) -> Result<PathBuf, Error> {
        fs::create_dir_all(&self.installing).map_err(Error::io("create", &self.installing))?;
        let made = tempfile::Builder::new().prefix("new-").tempdir_in(&self.installing);
        let made = made.map_err(Error::io("create a folder in", &self.installing))?.keep();
        open_to_all(&made)?;
        Ok(made)
    }

    /// Gives up what could have been resumed.
    pub(crate) fn forget_downloads(&self) -> Result<(), Error> {
        remove(&self.partial)
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
        // What is left is removed by the next run.
        let _ = remove(&self.installing);
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
