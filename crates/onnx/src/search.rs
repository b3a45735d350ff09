//! Where the shared library of ONNX Runtime lies. It looks at names and folders only; nothing is
//! loaded here.

use std::fmt;
use std::path::{Path, PathBuf};

/// The environment variable that names the library, or the folder that holds it.
pub const LIBRARY_VAR: &str = "ORT_DYLIB_PATH";

/// The environment variable that names the folder of an unpacked release of ONNX Runtime.
pub const ROOT_VAR: &str = "ONNXRUNTIME_ROOT";

/// Where to look besides the environment and the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The library or its folder, named in a configuration. Nothing else is looked at then.
    pub explicit: Option<PathBuf>,
    /// The pack for the processor; else why there is none, in words that end with what would bring it.
    pub cpu: Result<Pack, String>,
    /// The pack for NVIDIA's devices; else why there is none, likewise.
    pub cuda: Result<Pack, String>,
}

impl Places {
    /// Without packs.
    pub fn new(explicit: Option<PathBuf>) -> Self {
        Self { explicit, cpu: Err("no pack for the processor".into()), cuda: Err("no pack with CUDA".into()) }
    }

    /// Whether somebody has named a library or installed one, so that not to run it is worth a word.
    pub fn any_named(&self) -> bool {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        self.explicit.is_some() || self.cpu.is_ok() || self.cuda.is_ok() || set(LIBRARY_VAR) || set(ROOT_VAR)
    }
}

/// A library that was installed for this program, with what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pack {
    /// The library.
    pub library: PathBuf,
    /// Its version.
    pub version: String,
    /// It came with the program and was not installed.
    pub bundled: bool,
    /// Libraries that CUDA needs, to be loaded first, in this order.
    pub preload: Vec<PathBuf>,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The library, by its absolute path.
    pub path: PathBuf,
    /// How it was found.
    pub origin: Origin,
    /// Its version, where a pack says it.
    pub version: Option<String>,
    /// It is the pack with CUDA; what is to be loaded first.
    pub cuda: Option<Vec<PathBuf>>,
}

/// How a library was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// The caller named it.
    Explicit,
    /// [`LIBRARY_VAR`] named it.
    Environment,
    /// It was installed as a pack.
    Installed,
    /// It came as a pack with the program.
    Bundled,
    /// [`ROOT_VAR`] named its folder.
    Root,
    /// It lies in one of the system's library folders.
    System,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Explicit => "configured path",
            Self::Environment => LIBRARY_VAR,
            Self::Installed => "installed pack",
            Self::Bundled => "bundled pack",
            Self::Root => ROOT_VAR,
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
    /// The library of a pack is gone.
    #[error("the {origin} has lost {path}; install it again", path = path.display())]
    Incomplete {
        /// Which pack.
        origin: Origin,
        /// The library.
        path: PathBuf,
    },
    /// Nothing was named and the system has none.
    #[error(
        "no ONNX Runtime library ({name}) in the system's library folders, {LIBRARY_VAR} and {ROOT_VAR} name none \
         (it would have to be 1.17 or later), and {pack}",
        name = FILE_NAMES[0]
    )]
    Nowhere {
        /// Why there is no pack.
        pack: String,
    },
}

/// Looks for the library: the explicit path, else [`LIBRARY_VAR`], else the packs, else [`ROOT_VAR`],
/// else the system's folders. With `cuda`, the pack with CUDA comes before the other one; without, it
/// is better than none, because its library runs on the processor as well.
///
/// A path may name the file, its folder, or the folder that has it in `lib`. A path that was named and holds nothing ends the search:
/// running something else than what the user asked for would hide the mistake.
///
/// # Errors
/// There is none, or what was named is none.
pub fn find(places: &Places, cuda: bool) -> Result<Found, NotFound> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    find_in(places, cuda, variable(LIBRARY_VAR), variable(ROOT_VAR), &system_folders())
}

fn find_in(places: &Places, cuda: bool, variable: Option<PathBuf>, root: Option<PathBuf>, folders: &[PathBuf]) -> Result<Found, NotFound> {
    let explicit = places.explicit.clone().map(|path| (path, Origin::Explicit));
    if let Some((path, origin)) = explicit.or_else(|| variable.map(|path| (path, Origin::Environment))) {
        return named(&path, origin);
    }
    if let Some((pack, with_cuda)) = pack(places, cuda) {
        let origin = if pack.bundled { Origin::Bundled } else { Origin::Installed };
        let path = pack.library.clone();
        if !path.is_file() {
            return Err(NotFound::Incomplete { origin, path });
        }
        return Ok(Found { path, origin, version: Some(pack.version.clone()), cuda: with_cuda.then(|| pack.preload.clone()) });
    }
    if let Some(path) = root {
        return named(&path, Origin::Root);
    }
    match folders.iter().filter(|folder| folder.is_absolute()).find_map(|folder| library_in(folder)) {
        Some(path) => Ok(Found { path, origin: Origin::System, version: None, cuda: None }),
        None => Err(NotFound::Nowhere { pack: places.cpu.as_ref().err().cloned().unwrap_or_default() }),
    }
}

/// The pack that fits best, and whether it is the one with CUDA.
fn pack(places: &Places, cuda: bool) -> Option<(&Pack, bool)> {
    let with = places.cuda.as_ref().ok().map(|pack| (pack, true));
    let without = places.cpu.as_ref().ok().map(|pack| (pack, false));
    if cuda { with.or(without) } else { without.or(with) }
}

/// The library that `path` is, or that lies in it or in its folder `lib`.
fn named(path: &Path, origin: Origin) -> Result<Found, NotFound> {
    // Absolute, because the loader tries a relative path beside the executable first.
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let file = if path.is_dir() {
        library_in(&path).or_else(|| library_in(&path.join("lib")))
    } else {
        Some(path.clone()).filter(|path| path.is_file())
    };
    match file {
        Some(path) => Ok(Found { path, origin, version: None, cuda: None }),
        None => Err(NotFound::NoSuchFile { origin, path }),
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
        std::fs::create_dir_all(path.parent().expect("in a folder")).expect("made");
        std::fs::write(path, b"").expect("written");
    }

    /// Every place holds a library; taking the first away one after another shows the order.
    #[test]
    fn places_are_looked_at_in_their_order() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let library = |place: &str| {
            let path = folder.path().join(place).join("libonnxruntime.so.1.28.0");
            touch(&path);
            path
        };
        let pack = |place: &str, bundled| Pack { library: library(place), version: "1.28.0".into(), bundled, preload: vec!["a".into()] };
        let (explicit, variable, root, system) = (library("explicit"), library("variable"), library("root/lib"), library("system"));
        let (cpu, cuda) = (pack("cpu", false), pack("cuda", true));
        let all = Places { explicit: Some(explicit.clone()), cpu: Ok(cpu.clone()), cuda: Ok(cuda.clone()) };
        let unnamed = Places { explicit: None, ..all.clone() };
        let only_cuda = Places { cpu: Err("none".into()), ..unnamed.clone() };
        let bare = Places { cuda: Err("none".into()), ..only_cuda.clone() };
        let (v, r) = (Some(variable.clone()), Some(folder.path().join("root")));
        let preload = Some(cuda.preload.clone());
        let installed = |path: &Path| (path.to_owned(), Origin::Installed, None);
        let cases = [
            (&all, false, &v, &r, (explicit, Origin::Explicit, None)),
            (&unnamed, true, &v, &r, (variable, Origin::Environment, None)),
            (&unnamed, true, &None, &r, (cuda.library.clone(), Origin::Bundled, preload.clone())),
            (&unnamed, false, &None, &r, installed(&cpu.library)),
            (&only_cuda, false, &None, &r, (cuda.library.clone(), Origin::Bundled, preload)),
            (&bare, true, &None, &r, (root, Origin::Root, None)),
            (&bare, false, &None, &None, (system, Origin::System, None)),
        ];
        let folders = [folder.path().join("system")];
        for (places, cuda, variable, root, want) in cases {
            let found = find_in(places, cuda, variable.clone(), root.clone(), &folders).expect("found");
            assert_eq!((found.path, found.origin, found.cuda), want);
        }
        assert_eq!(find_in(&bare, false, None, None, &[]), Err(NotFound::Nowhere { pack: "none".into() }));
        assert_eq!(find_in(&bare, false, None, None, &["relative".into()]), Err(NotFound::Nowhere { pack: "none".into() }));
    }

    #[test]
    fn a_place_that_was_named_and_holds_nothing_is_not_passed_over() {
        let folder = tempfile::tempdir().expect("temporary folder");
        touch(&folder.path().join("libonnxruntime.so"));
        let folders = [folder.path().to_owned()];
        let wrong = PathBuf::from("/nowhere/libonnxruntime.so");
        let none = Places::new(None);
        let named = Places::new(Some(wrong.clone()));
        let lost =
            Places { cpu: Ok(Pack { library: wrong.clone(), version: "1".into(), bundled: false, preload: vec![] }), ..none.clone() };
        let missing = |origin| Err(NotFound::NoSuchFile { origin, path: wrong.clone() });
        let w = || Some(wrong.clone());
        assert_eq!(find_in(&named, false, None, None, &folders), missing(Origin::Explicit));
        assert_eq!(find_in(&none, false, w(), None, &folders), missing(Origin::Environment));
        assert_eq!(find_in(&none, false, None, w(), &folders), missing(Origin::Root));
        let incomplete = NotFound::Incomplete { origin: Origin::Installed, path: wrong.clone() };
        assert_eq!(find_in(&lost, false, None, None, &folders), Err(incomplete));
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
