//! Shared libraries of others, such as ONNX Runtime, XLA and NVIDIA's: looked at before they are opened, and opened for good. What is in
//! them, and whether they are the right ones, is for those who call them.
//!
//! ```no_run
//! use bespoke_library::open;
//!
//! // What the library asks for by name only comes first.
//! open("/opt/runtime/lib/libneeded.so.1".as_ref())?;
//! let library = open("/opt/runtime/lib/libruntime.so".as_ref())?;
//! # let _ = library; Ok::<(), bespoke_library::LoadError>(())
//! ```

#![allow(unsafe_code, reason = "loads libraries")]

use std::path::{Path, PathBuf};

pub use libloading::Library;

mod whole;

pub use whole::check;

/// A file that is no library which can be loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} cannot be loaded: {reason}", .path.display())]
pub struct LoadError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it, or what the system's loader said.
    pub reason: String,
}

/// Opens a library for good: what runs inside of it, its threads and its clean-up at exit, has no end that could be waited for. Who asks
/// for it by name later gets this one.
///
/// Its initialisers run, so whoever names the file trusts it as the program itself.
///
/// # Errors
/// A path that is not absolute, which the loader would look up in places of its own; a file that is cut off, whose missing end would kill
/// the process; and what the loader says.
pub fn open(path: &Path) -> Result<&'static Library, LoadError> {
    // SAFETY: what a library does when it is loaded is its own; whoever named the file trusts it.
    opened(path, || unsafe { Library::new(path) })
}

/// As [`open`], with all that it needs of others looked up at once: one that lacks something is not opened, instead of ending the program
/// where it first calls that.
///
/// # Errors
/// As [`open`].
#[cfg(unix)]
pub fn open_bound(path: &Path) -> Result<&'static Library, LoadError> {
    use libloading::os::unix::{Library as Unix, RTLD_LOCAL, RTLD_NOW};
    // SAFETY: as for `open`.
    opened(path, || unsafe { Unix::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map(Library::from))
}

fn opened(path: &Path, load: impl FnOnce() -> Result<Library, libloading::Error>) -> Result<&'static Library, LoadError> {
    let failed = |reason: String| LoadError { path: path.to_owned(), reason };
    if !path.is_absolute() {
        return Err(failed("it is no absolute path".into()));
    }
    check(path).map_err(failed)?;
    match load() {
        Ok(library) => Ok(Box::leak(Box::new(library))),
        Err(error) => Err(failed(words(&error))),
    }
}

/// What the system's loader said, which errors of loading tell as their source only.
pub fn words(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_library_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().join("text.so");
        std::fs::write(&text, "no library").unwrap();
        let told = |path: &Path| open(path).unwrap_err().to_string();
        assert!(told(&text).starts_with(&format!("{} cannot be loaded: ", text.display())), "{}", told(&text));
        assert!(told(Path::new("/nowhere/lib.so")).contains("cannot be loaded"));
        assert!(told(Path::new("lib.so")).contains("no absolute path"));
    }
}
