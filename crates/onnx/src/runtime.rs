//! The one loaded library and its environment. Looking for it is in `search`, running a model in
//! `session`.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::search::{self, NotFound, Origin, Search};
use crate::session::Session;
use crate::telemetry::telemetry_disabled;

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

static RUNTIME: OnceLock<Runtime> = OnceLock::new();
/// Held while loading, so that two first callers do not load twice.
static LOADING: Mutex<()> = Mutex::new(());

impl Runtime {
    /// The runtime, loaded on the first call. `explicit` names the library or its folder; see
    /// [`find`](crate::find) for where else it is looked for.
    ///
    /// # Errors
    /// No library, one that cannot be loaded, or another one than the one already loaded.
    pub fn get(explicit: Option<&Path>) -> Result<&'static Self, OnnxError> {
        // A panic while loading leaves nothing behind that the lock protects.
        let _guard = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
        if explicit.is_none()
            && let Some(runtime) = RUNTIME.get()
        {
            return Ok(runtime);
        }
        let (path, origin) = match search::find(explicit) {
            Search::Found { path, origin } => (path, origin),
            Search::NotFound(reason) => return Err(reason.into()),
        };
        if let Some(runtime) = RUNTIME.get() {
            let same = runtime.path == path || runtime.path.canonicalize().ok() == path.canonicalize().ok();
            return if same { Ok(runtime) } else { Err(OnnxError::AlreadyLoaded { loaded: runtime.path.clone(), asked: path }) };
        }
        let runtime = Self::load(path, origin)?;
        Ok(RUNTIME.get_or_init(|| runtime))
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

    /// Its version such as `1.28.0`, where the library or its file name tells it.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Whether this library may report to its maker: it is 1.29 or later, or of unknown version, and
    /// [`NO_TELEMETRY`](crate::NO_TELEMETRY) was not set.
    pub fn may_report_home(&self) -> bool {
        let minor = self.version.as_deref().and_then(|v| v.split('.').nth(1)).and_then(|m| m.parse::<u32>().ok());
        !telemetry_disabled() && minor.is_none_or(|minor| minor >= 29)
    }

    /// Makes a session of a model from its bytes: one thread, no spinning.
    ///
    /// # Errors
    /// [`OnnxError::Model`] with what the runtime said.
    pub fn session(&self, model: &[u8]) -> Result<Session, OnnxError> {
        Session::new(&self.environment, model)
    }

    fn load(path: PathBuf, origin: Origin) -> Result<Self, OnnxError> {
        let failed = |reason: String| OnnxError::Load { path: path.clone(), reason };
        // `init_from` reports a missing or foreign library; `ort::init` alone would panic.
        let environment = ort::init_from(&path)
            .map_err(|error| failed(error.to_string()))?
            .with_name("bespoke")
            .with_telemetry(false)
            .build()
            .map_err(|error| failed(error.to_string()))?;
        let version = version_in_build_info(ort::info()).or_else(|| version_in_name(&path));
        Ok(Self { environment, path, origin, version })
    }
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
    let name = file.file_name()?.to_str()?.strip_suffix(".dylib").unwrap_or(file.file_name()?.to_str()?).to_owned();
    let start = name.find(|c: char| c.is_ascii_digit())?;
    let version = &name[start..];
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
    }
}
