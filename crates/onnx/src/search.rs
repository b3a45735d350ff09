//! Where the shared library of ONNX Runtime lies. It looks at names and folders only; nothing is
//! loaded here.

use std::fmt;
use std::path::{Path, PathBuf};

/// The environment variable that names the library, or the folder that holds it.
pub const LIBRARY_VAR: &str = "ORT_DYLIB_PATH";

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Search {
    /// A library, by its absolute path.
    Found {
        /// The file.
        path: PathBuf,
        /// How it was found.
        origin: Origin,
    },
    /// None, and why.
    NotFound(NotFound),
}

/// How a library was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// The caller named it.
    Explicit,
    /// [`LIBRARY_VAR`] named it.
    Environment,
    /// It lies in one of the system's library folders.
    System,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Explicit => "configured path",
            Self::Environment => LIBRARY_VAR,
            Self::System => "system library folder",
        })
    }
}

/// Why there is no library.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotFound {
    /// The path that was named does not hold a library.
    #[error("{origin} names {path}, where there is no ONNX Runtime library; correct it or remove it", path = path.display())]
    NoSuchFile {
        /// Who named it.
        origin: Origin,
        /// What was named.
        path: PathBuf,
    },
    /// Nothing was named and the system has none.
    #[error(
        "no ONNX Runtime library ({name}) in the system's library folders; \
         install one (version 1.17 or later) or set {LIBRARY_VAR} to its path",
        name = FILE_NAMES[0]
    )]
    Nowhere,
}

/// Looks for the library: the explicit path, else [`LIBRARY_VAR`], else the system's folders.
///
/// A path may name the file or its folder. A path that was named and holds nothing ends the search:
/// running something else than what the user asked for would hide the mistake.
pub fn find(explicit: Option<&Path>) -> Search {
    find_in(explicit, std::env::var_os(LIBRARY_VAR).map(PathBuf::from), &system_folders())
}

fn find_in(explicit: Option<&Path>, variable: Option<PathBuf>, folders: &[PathBuf]) -> Search {
    let named = explicit
        .map(|path| (path.to_owned(), Origin::Explicit))
        .or_else(|| variable.filter(|v| !v.as_os_str().is_empty()).map(|path| (path, Origin::Environment)));
    if let Some((path, origin)) = named {
        // Absolute, because the loader tries a relative path beside the executable first.
        let path = std::path::absolute(&path).unwrap_or(path);
        let file = if path.is_dir() { library_in(&path) } else { Some(path.clone()).filter(|p| p.is_file()) };
        return match file {
            Some(path) => Search::Found { path, origin },
            None => Search::NotFound(NotFound::NoSuchFile { origin, path }),
        };
    }
    match folders.iter().filter(|folder| folder.is_absolute()).find_map(|folder| library_in(folder)) {
        Some(path) => Search::Found { path, origin: Origin::System },
        None => Search::NotFound(NotFound::Nowhere),
    }
}

/// The plain names, the one that development packages and users install first.
const FILE_NAMES: &[&str] = if cfg!(windows) {
    &["onnxruntime.dll"]
} else if cfg!(target_vendor = "apple") {
    &["libonnxruntime.dylib"]
} else {
    &["libonnxruntime.so"]
};

/// The library of a folder: the plain name, else the versioned one (`libonnxruntime.so.1.28.0`,
/// `libonnxruntime.1.28.0.dylib`) with the highest version.
fn library_in(folder: &Path) -> Option<PathBuf> {
    if let Some(plain) = FILE_NAMES.iter().map(|name| folder.join(name)).find(|path| path.is_file()) {
        return Some(plain);
    }
    std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let version = version_of(path.file_name()?.to_str()?)?;
            path.is_file().then_some((version, path))
        })
        .max()
        .map(|(_, path)| path)
}

/// The numbers in a versioned file name; `None` for any other file.
fn version_of(name: &str) -> Option<Vec<u32>> {
    let numbers = if cfg!(target_vendor = "apple") {
        name.strip_prefix("libonnxruntime.")?.strip_suffix(".dylib")?
    } else {
        name.strip_prefix("libonnxruntime.so.")?
    };
    numbers.split('.').map(|number| number.parse().ok()).collect()
}

/// The folders where the dynamic loader of this system usually looks.
fn system_folders() -> Vec<PathBuf> {
    let variable = if cfg!(windows) {
        "PATH"
    } else if cfg!(target_vendor = "apple") {
        "DYLD_LIBRARY_PATH"
    } else {
        "LD_LIBRARY_PATH"
    };
    let mut folders: Vec<PathBuf> = std::env::var_os(variable).map(|paths| std::env::split_paths(&paths).collect()).unwrap_or_default();
    if cfg!(target_vendor = "apple") {
        folders.extend(["/opt/homebrew/lib", "/usr/local/lib", "/usr/lib"].map(PathBuf::from));
    } else if cfg!(unix) {
        let multiarch = format!("{}-linux-gnu", std::env::consts::ARCH);
        folders.push("/usr/local/lib".into());
        folders.extend(["/usr/lib", "/lib"].map(|base| Path::new(base).join(&multiarch)));
        folders.extend(["/usr/local/lib64", "/usr/lib64", "/lib64", "/usr/lib", "/lib"].map(PathBuf::from));
    }
    folders
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn touch(path: &Path) {
        std::fs::write(path, b"").expect("written");
    }

    #[test]
    fn the_named_path_wins_and_a_wrong_one_is_not_passed_over() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let library = folder.path().join("libonnxruntime.so.1.28.0");
        touch(&library);
        let folders = [folder.path().to_owned()];
        let found = |origin| Search::Found { path: library.clone(), origin };
        assert_eq!(find_in(Some(&library), None, &[]), found(Origin::Explicit));
        assert_eq!(find_in(Some(folder.path()), None, &[]), found(Origin::Explicit));
        assert_eq!(find_in(None, Some(library.clone()), &[]), found(Origin::Environment));
        assert_eq!(find_in(None, Some(PathBuf::new()), &folders), found(Origin::System));
        let wrong = PathBuf::from("/nowhere/libonnxruntime.so");
        for (explicit, variable, origin) in
            [(Some(wrong.as_path()), None, Origin::Explicit), (None, Some(wrong.clone()), Origin::Environment)]
        {
            let missing = NotFound::NoSuchFile { origin, path: wrong.clone() };
            assert_eq!(find_in(explicit, variable, &folders), Search::NotFound(missing));
        }
        assert_eq!(find_in(None, None, &[]), Search::NotFound(NotFound::Nowhere));
        assert_eq!(find_in(None, None, &[PathBuf::from("relative")]), Search::NotFound(NotFound::Nowhere));
    }

    #[test]
    fn the_plain_name_comes_first_then_the_highest_version() {
        let folder = tempfile::tempdir().expect("temporary folder");
        for name in ["libonnxruntime.so.1.9.0", "libonnxruntime.so.1.28.0", "libonnxruntime.so.1", "libonnxruntime.so.bak"] {
            touch(&folder.path().join(name));
        }
        assert_eq!(library_in(folder.path()), Some(folder.path().join("libonnxruntime.so.1.28.0")));
        touch(&folder.path().join("libonnxruntime.so"));
        assert_eq!(library_in(folder.path()), Some(folder.path().join("libonnxruntime.so")));
    }
}
