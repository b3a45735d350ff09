//! Folders and files below a root: names that are safe, paths without links on them, writing that survives a crash. It knows nothing
//! of packs.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use bespoke_fetch::Sha256;
use serde::{Serialize, de::DeserializeOwned};
use sha2::Digest as _;

use crate::error::Error;

/// What a pack consists of.
pub(crate) const PACK: &str = "pack.json";
/// What was found wrong with a pack.
pub(crate) const WRONG: &str = "wrong.json";
/// More than any of our own files has; a larger one is not read.
const MOST_JSON: u64 = 4 << 20;

/// Whether `name` can be the name of one folder everywhere.
pub(crate) fn is_name(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    !name.is_empty() && name.len() <= 100 && name.chars().all(good) && !name.starts_with('.') && !name.ends_with('.')
}

/// Whether `path` is a relative path of plain names, with slashes between them.
pub(crate) fn is_relative(path: &str) -> bool {
    let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', ':', '\0']);
    path.len() <= 1000 && path.split('/').all(plain)
}

/// `root` with the names below it, none of which is a link, and none but the last a file. What is not there yet is no fault.
pub(crate) fn inside(root: &Path, names: &[&str]) -> Result<PathBuf, Error> {
    let mut path = root.to_owned();
    for (at, name) in names.iter().enumerate() {
        path.push(name);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() || (metadata.is_file() && at + 1 == names.len()) => {}
            Ok(_) => return Err(Error::Link { path }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io("look at", path)(e)),
        }
    }
    Ok(path)
}

/// [`inside`], as a folder that exists afterwards.
pub(crate) fn folder(root: &Path, names: &[&str]) -> Result<PathBuf, Error> {
    let path = inside(root, names)?;
    fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
    Ok(path)
}

/// The names of the folders in `folder`, sorted; links and hidden ones are none. A folder that is not there has none.
pub(crate) fn folders(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let real = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut names: Vec<String> = real.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| is_name(name)).collect();
    names.sort();
    names
}

/// Reads one of our own files; `None` when it is not there.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let text = match File::open(path) {
        Ok(file) => io::read_to_string(file.take(MOST_JSON)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => Err(e),
    };
    let text = text.map_err(Error::io("read", path))?;
    let read = serde_json::from_str(&text).map_err(|e| Error::io("read", path)(io::Error::new(io::ErrorKind::InvalidData, e)))?;
    Ok(Some(read))
}

/// Writes one of our own files: complete or not at all, and on the disk when this returns.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(path);
    let mut text = serde_json::to_string_pretty(value).map_err(|e| Error::io("write", path)(io::Error::other(e)))?;
    text.push('\n');
    let write = || -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
        file.write_all(text.as_bytes())?;
        readable(file.as_file())?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|e| e.error)?;
        sync(folder)
    };
    write().map_err(Error::io("write", path))
}

/// Makes names in a folder durable.
pub(crate) fn sync(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Makes all that is in a folder durable. Links are not followed.
pub(crate) fn sync_all(folder: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let entry = entry.map_err(Error::io("read", folder))?;
        let kind = entry.file_type().map_err(Error::io("look at", entry.path()))?;
        if kind.is_dir() {
            sync_all(&entry.path())?;
        } else if kind.is_file() {
            File::open(entry.path()).and_then(|file| file.sync_all()).map_err(Error::io("flush", entry.path()))?;
        }
    }
    sync(folder).map_err(Error::io("flush", folder))
}

/// All files of a folder, relative to it, with slashes; links are files. Sorted.
pub(crate) fn list(folder: &Path) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    list_into(folder, "", &mut found)?;
    found.sort();
    Ok(found)
}

fn list_into(folder: &Path, prefix: &str, found: &mut Vec<String>) -> Result<(), Error> {
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let entry = entry.map_err(Error::io("read", folder))?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type().map_err(Error::io("look at", entry.path()))?.is_dir() {
            list_into(&entry.path(), &format!("{name}/"), found)?;
        } else {
            found.push(name);
        }
    }
    Ok(())
}

/// Size and SHA-256 of a file.
pub(crate) fn digest(path: &Path) -> io::Result<(u64, Sha256)> {
    let mut file = File::open(path)?;
    let (mut hash, mut size, mut buffer) = (sha2::Sha256::new(), 0, vec![0; 1 << 18]);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((size, Sha256(hash.finalize().into())));
        }
        hash.update(&buffer[..read]);
        size += read as u64;
    }
}

/// The same file under a second name: a hard link, or where there are none a symbolic link to `relative`.
pub(crate) fn link(from: &Path, to: &Path, hard: bool, relative: &Path) -> Result<(), Error> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    }
    // A file system without them answers in many ways; where the disk is at fault, the symbolic link fails, too.
    if hard && fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    symlink(relative, to).map_err(Error::io("link", to))
}

/// Bytes that are free on the disk of `path`, or of the nearest folder above it that exists; `None` where nobody says.
pub(crate) fn free_space(path: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let absolute = std::path::absolute(path).ok()?;
        let there = absolute.ancestors().find(|path| path.exists())?;
        let disk = rustix::fs::statvfs(there).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}

/// A file that `tempfile` made is for its owner only; packs may be read by everybody.
fn readable(file: &File) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
    }
    #[cfg(not(unix))]
    let _ = file;
    Ok(())
}

/// What is in `bin` is run by others.
pub(crate) fn make_executable(path: &Path) -> Result<(), Error> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(Error::io("set the permissions of", path))?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

#[cfg(unix)]
fn symlink(from: &Path, to: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(from, to)
}

#[cfg(not(unix))]
fn symlink(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
