//! Where the socket is: its folder, the lock beside it, and another folder where the path is too long for a socket. No connection.

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::BindError;

/// The longest path of a socket that every system takes: 104 bytes with the end, on macOS.
const LONGEST_PATH: usize = 103;

/// A place that is ours until this is dropped, or the process ends.
#[derive(Debug)]
pub(crate) struct Place {
    /// Where the socket is.
    pub(crate) address: PathBuf,
    /// Locked. It holds our process, and the path of the socket.
    lock: File,
}

/// The user that this process runs as.
pub(crate) fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn failed(path: &Path) -> impl Fn(io::Error) -> BindError {
    move |source| BindError::Io { path: path.to_owned(), source }
}

impl Place {
    /// Takes the place that `wanted` names, unless another process has it. Whatever a killed one left there is gone.
    pub(crate) fn take(wanted: &Path) -> Result<Self, BindError> {
        let folder = wanted.parent().unwrap_or(Path::new("/"));
        private(folder)?;
        let lock_path = wanted.with_extension("lock");
        // The lock file stays for ever: if it were removed, two could hold a lock, each on a file of that name.
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&lock_path);
        let mut lock = opened.map_err(failed(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(BindError::Taken { pid: holder(&lock_path).map(|(pid, _)| pid) }),
            Err(TryLockError::Error(error)) => return Err(failed(&lock_path)(error)),
        }
        let address = match address(wanted) {
            address if address == wanted => address,
            address => {
                private(address.parent().unwrap_or(Path::new("/")))?;
                address
            }
        };
        match fs::symlink_metadata(&address) {
            // Nobody has it: whoever did would have the lock.
            Ok(found) if found.file_type().is_socket() => fs::remove_file(&address).map_err(failed(&address))?,
            Ok(_) => return Err(BindError::Unsafe { path: address, why: "is in the way, and is no socket".into() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(&address)(error)),
        }
        let mut words = format!("{}\n", std::process::id()).into_bytes();
        words.extend_from_slice(address.as_os_str().as_bytes());
        lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| lock.write_all(&words)).map_err(failed(&lock_path))?;
        Ok(Place { address, lock })
    }

    /// The socket is there: nobody else may open it.
    pub(crate) fn close_to_others(&self) -> Result<(), BindError> {
        fs::set_permissions(&self.address, Permissions::from_mode(0o600)).map_err(failed(&self.address))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // While the lock is held: the next one's socket is not removed. What cannot be removed, the next one replaces.
        let _ = fs::remove_file(&self.address);
        let _ = self.lock.set_len(0);
    }
}

/// The socket that a client tries for `wanted`.
pub(crate) fn to_try(wanted: &Path) -> PathBuf {
    match address(wanted) {
        address if address == wanted => address,
        // The folder of the server may not be ours: its environment was its own.
        address => holder(&wanted.with_extension("lock")).map_or(address, |(_, socket)| socket),
    }
}

/// What a lock file says: the process that has, or had, the lock, and its socket.
fn holder(lock: &Path) -> Option<(u32, PathBuf)> {
    const MOST: u64 = 8 << 10;
    let mut words = Vec::new();
    File::open(lock).ok()?.take(MOST).read_to_end(&mut words).ok()?;
    let end = words.iter().position(|byte| *byte == b'\n')?;
    let pid = std::str::from_utf8(&words[..end]).ok()?.parse().ok()?;
    Some((pid, PathBuf::from(OsStr::from_bytes(&words[end + 1..]))))
}

/// Where the socket for `wanted` is: there, or, where the path is longer than one of a socket may be, under a short name in the folder for
/// such things.
fn address(wanted: &Path) -> PathBuf {
    if wanted.as_os_str().len() <= LONGEST_PATH {
        return wanted.to_owned();
    }
    let digest = Sha256::digest(wanted.as_os_str().as_bytes());
    let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let folder = match runtime {
        Some(folder) if folder.is_absolute() => folder.join("bespoke"),
        _ => std::env::temp_dir().join(format!("bespoke-{}", user())),
    };
    folder.join(format!("{name}.sock"))
}

/// Makes a folder that nobody else can look into, or sees that it is one.
fn private(folder: &Path) -> Result<(), BindError> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed(folder))?;
    // Not through a link: somebody else may have put one into a folder that all can write.
    let found = fs::symlink_metadata(folder).map_err(failed(folder))?;
    let refused = |why: &str| Err(BindError::Unsafe { path: folder.to_owned(), why: why.into() });
    if !found.is_dir() {
        return refused("is no folder");
    }
    if found.uid() != user() {
        return refused("is somebody else's folder");
    }
    if found.mode() & 0o077 != 0 {
        fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(failed(folder))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_taken_once_and_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = folder.path().join("run/control.sock");
        let place = Place::take(&wanted).unwrap();
        assert_eq!(place.address, wanted);
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&folder.path().join("run")), mode(&folder.path().join("run/control.lock"))), (0o700, 0o600));
        match Place::take(&wanted) {
            Err(BindError::Taken { pid }) => assert_eq!(pid, Some(std::process::id())),
            other => panic!("{other:?}"),
        }
        drop(place);
        Place::take(&wanted).unwrap();
    }

    #[test]
    fn a_folder_that_others_can_see_is_closed_and_a_file_in_the_way_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        fs::create_dir(&run).unwrap();
        fs::set_permissions(&run, Permissions::from_mode(0o755)).unwrap();
        let wanted = run.join("control.sock");
        fs::write(&wanted, "mine").unwrap();
        let error = Place::take(&wanted).unwrap_err();
        assert!(matches!(&error, BindError::Unsafe { path, .. } if *path == wanted), "{error}");
        assert_eq!(fs::read(&wanted).unwrap(), b"mine");
        assert_eq!(fs::metadata(&run).unwrap().mode() & 0o777, 0o700);
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&run, &link).unwrap();
        assert!(Place::take(&link.join("control.sock")).is_err(), "a link is nobody's folder");
    }

    #[test]
    fn a_long_path_has_a_short_socket_that_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = folder.path().join("x".repeat(LONGEST_PATH)).join("control.sock");
        let place = Place::take(&wanted).unwrap();
        assert!(place.address.as_os_str().len() <= LONGEST_PATH, "{}", place.address.display());
        assert_eq!(to_try(&wanted), place.address);
        assert!(matches!(Place::take(&wanted), Err(BindError::Taken { .. })));
        let other = folder.path().join("y".repeat(LONGEST_PATH)).join("control.sock");
        assert_ne!(to_try(&other), place.address);
    }
}
