//! The file itself: locked while it is changed, replaced as a whole, never half written.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use super::{Config, ConfigError, error::Problem, read};

/// How long another program may hold the file; it holds it for as long as a check of its plugins takes.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

/// A configuration file that is this program's alone until it is dropped. It need not be there yet.
///
/// **Invariant:** what was read before the lock was taken is worth nothing: read again with [`read`](Self::read).
#[derive(Debug)]
pub struct ConfigFile {
    path: PathBuf,
    /// Beside the file, which itself is replaced: a lock on it would be a lock on the old one.
    _lock: File,
}

impl ConfigFile {
    /// Waits, for seconds at most, until no other program changes the file. Makes its folder.
    ///
    /// # Errors
    /// When the folder cannot be written, or the other program does not end.
    pub fn lock(path: &Path) -> io::Result<Self> {
        // A link stays one: the file behind it is replaced.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        fs::create_dir_all(folder(&path))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let lock = folder(&path).join(format!(".{name}.lock"));
        let file = File::options().create(true).append(true).open(&lock)?;
        for _ in 0..(PATIENCE.as_millis() / PAUSE.as_millis()) {
            match file.try_lock() {
                Ok(()) => return Ok(ConfigFile { path, _lock: file }),
                Err(TryLockError::WouldBlock) => thread::sleep(PAUSE),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::WouldBlock, format!("another program has held {} for {} s", lock.display(), PATIENCE.as_secs())))
    }

    /// The configuration as it stands now; the empty one when there is no file.
    ///
    /// # Errors
    /// As [`Config::parse`].
    pub fn read(&self) -> Result<Config, ConfigError> {
        match fs::exists(&self.path) {
            Ok(false) => Ok(Config::empty()),
            // Not `Config::read`: that would wait for the lock that we hold.
            _ => Config::parse_beside(&self.path, &text(&self.path)?),
        }
    }

    /// Copies the file beside itself, with its rights: as `bespoke.toml.bak` for `bak`, else as `bespoke.toml.bak-2` and so on. The
    /// path of the copy.
    ///
    /// # Errors
    /// When there is no file, or its folder cannot be written.
    pub fn keep(&self, what: &str) -> io::Result<PathBuf> {
        let backup = beside(&self.path, what)?;
        copy_new(&self.path, &backup)?;
        Ok(backup)
    }

    /// Replaces the file: written beside, flushed to the disk, renamed into place. Its rights stay; a new one is the user's alone.
    ///
    /// # Errors
    /// When the folder cannot be written; the file is as it was.
    pub fn write(&self, text: &str) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder(&self.path))?;
        file.write_all(text.as_bytes())?;
        if let Ok(old) = fs::metadata(&self.path) {
            if old.permissions().readonly() {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is read-only"));
            }
            file.as_file().set_permissions(old.permissions())?;
        }
        file.as_file().sync_all()?;
        file.persist(&self.path).map_err(|e| e.error)?;
        // The new name is on the disk when the folder is; not every system lets a folder be flushed.
        let _ = File::open(folder(&self.path)).and_then(|folder| folder.sync_all());
        Ok(())
    }
}

/// The text of a configuration file.
pub(super) fn text(path: &Path) -> Result<String, ConfigError> {
    let origin = path.display().to_string();
    let bytes = fs::read(path).map_err(|e| {
        let fix = (e.kind() == io::ErrorKind::PermissionDenied).then(|| format!("ls -l {origin}"));
        Problem::of_file(&origin, format!("cannot be read: {e}"), fix)
    })?;
    Ok(read::text(&origin, bytes)?)
}

/// A name beside a file that nobody has yet: `bespoke.toml.v1.bak`, else `bespoke.toml.v1.bak-2` and so on.
pub(super) fn beside(path: &Path, what: &str) -> io::Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let candidates = (1..1000).map(|n| if n == 1 { format!("{name}.{what}") } else { format!("{name}.{what}-{n}") });
    let mut free = candidates.map(|name| folder(path).join(name)).filter(|path| fs::symlink_metadata(path).is_err());
    free.next().ok_or_else(|| io::Error::new(io::ErrorKind::AlreadyExists, format!("there are too many backups of {}", path.display())))
}

/// Copies into a file that is not there yet, with the rights of the first.
pub(super) fn copy_new(from: &Path, to: &Path) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(folder(to))?;
    file.write_all(&fs::read(from)?)?;
    file.as_file().set_permissions(fs::metadata(from)?.permissions())?;
    file.as_file().sync_all()?;
    file.persist_noclobber(to).map_err(|e| e.error)?;
    Ok(())
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
