//! Files that are written whole or not at all, for the user alone. The configuration is the host's to write.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use tempfile::NamedTempFile;

/// Makes a file that is not there yet.
///
/// # Errors
/// [`AlreadyExists`](io::ErrorKind::AlreadyExists) when it is; when the folder is missing or cannot be written.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    beside(path, bytes)?.persist_noclobber(path).map(drop).map_err(|e| e.error)
}

/// Makes a file, or puts it in the place of one that is there.
///
/// # Errors
/// When the folder is missing or cannot be written; the file is as it was.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    beside(path, bytes)?.persist(path).map(drop).map_err(|e| e.error)
}

/// Makes a folder, and those above it that are missing. One that is there keeps its rights.
pub(crate) fn folder(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// On the disk, under another name. It is its owner's alone from its first byte on: that is how temporary files are made.
fn beside(path: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_only_where_that_is_wanted() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.json");
        create(&path, b"one").unwrap();
        assert_eq!(create(&path, b"two").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert!(replace(&home.path().join("no/a.json"), b"x").is_err());
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1, "nothing is left behind");
    }

    #[cfg(unix)]
    #[test]
    fn what_is_made_is_the_users_alone() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let (inner, file) = (home.path().join("a/b"), home.path().join("a/b/c"));
        folder(&inner).unwrap();
        folder(&inner).unwrap();
        create(&file, b"x").unwrap();
        assert_eq!([mode(&home.path().join("a")), mode(&inner), mode(&file)], [0o700, 0o700, 0o600]);
    }
}
