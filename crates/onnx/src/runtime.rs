//! The one loaded library and its environment. Looking for it is in `search`, choosing a device in
//! `provider`, running a model in `session`.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use ort::ep::ExecutionProvider as _;

use crate::provider::{NoCuda, Provider};
use crate::search::{self, Found, NotFound, Origin, Places};
use crate::session::Session;
use crate::telemetry::{Telemetry, telemetry};

/// Why ONNX Runtime, or a model in it, cannot be used. Every variant leaves the process able to try
/// again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// There is no library.
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// There is a file, and it is no usable ONNX Runtime.
    #[error("{path} cannot be loaded as ONNX Runtime 1.17 or later: {reason}", path = path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },
    /// Another library is loaded already; that cannot be undone within a process.
    #[error(
        "ONNX Runtime is already loaded from {loaded}; restart to use {asked}",
        loaded = loaded.display(), asked = asked.display()
    )]
    AlreadyLoaded {
        /// What is loaded.
        loaded: PathBuf,
        /// What was asked for.
        asked: PathBuf,
    },
    /// The library would report to its maker, or may be one that does, and nobody has said that it may.
    #[error(
        "{path} is a build of ONNX Runtime that reports to its maker, or its version cannot be told; set ORT_DISABLE_TELEMETRY=1 before the program starts (or 0 to let it)",
        path = path.display()
    )]
    Telemetry {
        /// The file.
        path: PathBuf,
    },
    /// The provider for CUDA did not come up.
    #[error("its provider does not come up: {0}")]
    Provider(String),
    /// CUDA was required and does not run.
    #[error("CUDA does not run: {0}")]
    Cuda(NoCuda),
    /// The model was refused.
    #[error("ONNX Runtime refused the model: {0}")]
    Model(String),
    /// A run failed.
    #[error("inference failed: {0}")]
    Run(String),
}

/// The ONNX Runtime of this process.
#[derive(Debug)]
pub struct Runtime {
    environment: ort::environment::Environment,
    path: PathBuf,
    origin: Origin,
    version: Option<String>,
}

/// The runtime of this process, for somebody who asked for one.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Current {
    /// It.
    pub runtime: &'static Runtime,
    /// The library that would be loaded had none been; it takes a restart to get it.
    pub after_restart: Option<PathBuf>,
}

static RUNTIME: OnceLock<Runtime> = OnceLock::new();
/// Held while loading, so that two first callers do not load twice.
static LOADING: Mutex<()> = Mutex::new(());

impl Runtime {
    /// The runtime, loaded on the first call; see [`find`](crate::find) for where it is looked for and
    /// what `cuda` means. With `cuda`, the libraries that its pack names are loaded before it.
    ///
    /// What others have loaded serves everybody, except whoever names another library.
    ///
    /// # Errors
    /// No library, one that cannot be loaded, or another one than the one already loaded.
    pub fn get(places: &Places, cuda: bool) -> Result<Current, OnnxError> {
        // A panic while loading leaves nothing behind that the lock protects.
        let _guard = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
        let found = search::find(places, cuda);
        let Some(runtime) = RUNTIME.get() else {
            let found = found?;
            preload(&found, cuda)?;
            let loaded = Self::load(found)?;
            return Ok(Current { runtime: RUNTIME.get_or_init(|| loaded), after_restart: None });
        };
        match found {
            Ok(found) if runtime.is(&found.path) => {
                preload(&found, cuda)?;
                Ok(Current { runtime, after_restart: None })
            }
            Ok(found) if found.origin == Origin::Explicit => {
                Err(OnnxError::AlreadyLoaded { loaded: runtime.path.clone(), asked: found.path })
            }
            Ok(found) => Ok(Current { runtime, after_restart: Some(found.path) }),
            Err(error) if places.explicit.is_some() => Err(error.into()),
            Err(_) => Ok(Current { runtime, after_restart: None }),
        }
    }

    /// The runtime if one is loaded; loads nothing.
    pub fn loaded() -> Option<&'static Self> {
        RUNTIME.get()
    }

    /// The library.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How the library was found.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Its version such as `1.28.0`, where the library, its file name or its pack tells it.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Whether this library reports to its maker.
    pub fn telemetry(&self) -> Telemetry {
        telemetry(self.version.as_deref().and_then(minor))
    }

    /// Whether it was built with CUDA. That says nothing on whether CUDA runs here.
    pub fn built_with_cuda(&self) -> bool {
        ort::ep::CUDA::is_available().unwrap_or(false)
    }

    /// Makes a session of a model from its bytes: one thread of the processor, no spinning. With
    /// [`Provider::Cuda`] it fails where CUDA cannot be had, instead of running elsewhere.
    ///
    /// # Errors
    /// [`OnnxError::Model`] with what the runtime said.
    pub fn session(&self, model: &[u8], provider: Provider) -> Result<Session, OnnxError> {
        Session::new(&self.environment, model, provider)
    }

    fn is(&self, path: &Path) -> bool {
        self.path == path || self.path.canonicalize().is_ok_and(|own| path.canonicalize().is_ok_and(|other| own == other))
    }

    fn load(found: Found) -> Result<Self, OnnxError> {
        let Found { path, origin, version, .. } = found;
        // Looked at beforehand: what is loaded for good must be fit to run.
        bespoke_library::check(&path).map_err(|reason| OnnxError::Load { path: path.clone(), reason })?;
        // The probe opens the library to ask for its version, which runs its initialisers, and closes it again. What reports
        // starts with an environment, which is not made of such a library.
        if crate::telemetry::undecided() && crate::telemetry::built_in(ort::util::probe(&path)) {
            return Err(OnnxError::Telemetry { path });
        }
        let failed = |reason: String| OnnxError::Load { path: path.clone(), reason };
        // `init_from` reports a missing or foreign library; `ort::init` alone would panic.
        let environment = ort::init_from(&path)
            .map_err(|error| match &error {
                ort::LoadDynamicError::Dlopen { error, .. } => failed(bespoke_library::words(error)),
                _ => failed(error.to_string()),
            })?
            .with_name("bespoke")
            .with_telemetry(false)
            .build()
            .map_err(|error| failed(error.to_string()))?;
        let version = version_in_build_info(ort::info()).or_else(|| version_in_name(&path)).or(version);
        Ok(Self { environment, path, origin, version })
    }
}

/// Loads what CUDA needs by absolute path, so that the loader knows it when it is asked for by name only.
fn preload(found: &Found, cuda: bool) -> Result<(), OnnxError> {
    for path in found.cuda.iter().flatten().filter(|_| cuda) {
        bespoke_library::open(path).map_err(|error| OnnxError::Load { path: error.path, reason: error.reason })?;
    }
    Ok(())
}

/// `1.28.0` gives 28.
fn minor(version: &str) -> Option<u32> {
    version.split('.').nth(1)?.parse().ok()
}

/// `… git-branch=rel-1.28.0, …` gives `1.28.0`; distributions may say something else.
fn version_in_build_info(info: &str) -> Option<String> {
    let branch = info.split("git-branch=rel-").nth(1)?;
    let version: String = branch.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    (version.split('.').count() >= 2).then_some(version)
}

/// `libonnxruntime.so.1.28.0` gives `1.28.0`, through links as well.
fn version_in_name(path: &Path) -> Option<String> {
    let file = path.canonicalize().ok()?;
    let name = file.file_name()?.to_str()?;
    let name = name.strip_suffix(".dylib").unwrap_or(name);
    let version = &name[name.find(|c: char| c.is_ascii_digit())?..];
    (version.split('.').count() >= 2 && version.chars().all(|c| c.is_ascii_digit() || c == '.')).then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_where_they_stand() {
        let info = "ORT Build Info: git-branch=rel-1.28.0, git-commit-id=1234, build type=Release";
        assert_eq!(version_in_build_info(info).as_deref(), Some("1.28.0"));
        assert_eq!(version_in_build_info("ORT Build Info: git-branch=main"), None);
        let folder = tempfile::tempdir().expect("temporary folder");
        for (name, version) in
            [("libonnxruntime.so.1.23.2", Some("1.23.2")), ("libonnxruntime.1.20.1.dylib", Some("1.20.1")), ("libonnxruntime.so", None)]
        {
            let path = folder.path().join(name);
            std::fs::write(&path, b"").expect("written");
            assert_eq!(version_in_name(&path).as_deref(), version, "{name}");
        }
        assert_eq!((minor("1.28.0"), minor("1"), minor("1.x")), (Some(28), None, None));
    }
}
