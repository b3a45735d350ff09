//! Stamps that remember a verification, so that a second start does not hash a hundred megabytes again.
//!
//! A stamp holds the digest together with everything the file system says about the file without reading it: size,
//! modification time and, on Unix, change time, inode and device. Any write, truncation or replacement changes one of
//! them (a program can set the modification time back, but not the change time), and the file is hashed again. What
//! leaves no trace there, a disk that returns other bits, is caught because a stamp is believed for [`BELIEVED`] only,
//! and by [`crate::Store::verify`], which always reads the file.

use std::{
    fs::{self, Metadata},
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use sha2::Digest as _;

use crate::Sha256;

/// After this long a file is read again, unchanged or not. Hashing costs about 0.1 s for 100 MB.
const BELIEVED: Duration = Duration::from_secs(7 * 24 * 3600);

/// Whether `path` was verified to have `digest` and looks untouched since.
pub(crate) fn holds(folder: &Path, path: &Path, metadata: &Metadata, digest: Sha256) -> bool {
    let Ok(text) = fs::read_to_string(place(folder, path)) else { return false };
    let Some((seen, checked)) = text.trim_end().rsplit_once(' ') else { return false };
    let Ok(checked) = checked.parse() else { return false };
    // A stamp from the future is a clock that was set back: not believed.
    let age = SystemTime::now().duration_since(UNIX_EPOCH + Duration::from_secs(checked));
    seen == facts(metadata, digest) && age.is_ok_and(|age| age < BELIEVED)
}

/// Remembers that `path` has `digest`. A store that cannot be written to is hashed at each start instead.
pub(crate) fn put(folder: &Path, path: &Path, metadata: &Metadata, digest: Sha256) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let text = format!("{} {now}\n", facts(metadata, digest));
    let written = fs::create_dir_all(folder)
        .and_then(|()| tempfile::NamedTempFile::new_in(folder))
        .and_then(|mut file| file.write_all(text.as_bytes()).map(|()| file));
    if let Ok(file) = written {
        let _ = file.persist(place(folder, path));
    }
}

/// Forgets `path`.
pub(crate) fn remove(folder: &Path, path: &Path) {
    let _ = fs::remove_file(place(folder, path));
}

fn place(folder: &Path, path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let digest = sha2::Sha256::digest(path.as_os_str().as_encoded_bytes());
    folder.join(Sha256(digest.into()).to_string())
}

fn facts(metadata: &Metadata, digest: Sha256) -> String {
    let modified = metadata.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    format!("1 {digest} {} {}{}", metadata.len(), modified.as_nanos(), unix_facts(metadata))
}

#[cfg(unix)]
fn unix_facts(metadata: &Metadata) -> String {
    use std::os::unix::fs::MetadataExt as _;
    let m = metadata;
    format!(" {}.{:09} {} {}", m.ctime(), m.ctime_nsec(), m.ino(), m.dev())
}

#[cfg(not(unix))]
fn unix_facts(_: &Metadata) -> String {
    String::new()
}
