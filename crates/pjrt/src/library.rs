//! One loaded PJRT plugin: opened once per file and process, checked before its first call, never closed. What runs on it is in
//! `client`.

use std::{
    collections::HashMap,
    ffi::c_void,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    error::PjrtError,
    sys::{Attributes, Functions, Nothing, Unusable},
    value::{self, Value},
};

/// The variable of the environment by which users name a PJRT plugin.
pub const LIBRARY_VAR: &str = "PJRT_PLUGIN_LIBRARY_PATH";

/// The variable that keeps libtpu from asking the cloud's metadata service, where it waits for minutes when there is none.
pub const SKIP_TPU_METADATA: &str = "TPU_SKIP_MDS_QUERY";

/// Sets [`SKIP_TPU_METADATA`] for this process and its children, unless it is set. For machines without a TPU: one that has a TPU may
/// need the answer.
///
/// # Safety
/// The environment of a process must not change while another thread may read it, so this is called first thing in `main`, before any
/// thread is started.
#[allow(unsafe_code, reason = "changing the environment is unsafe since edition 2024")]
pub unsafe fn skip_tpu_metadata() {
    if std::env::var_os(SKIP_TPU_METADATA).is_none() {
        // SAFETY: the caller promises that no other thread exists.
        unsafe { std::env::set_var(SKIP_TPU_METADATA, "1") };
    }
}

/// A PJRT plugin that was loaded and is ready.
pub struct Library {
    path: PathBuf,
    pub(crate) functions: Functions,
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Library").field("path", &self.path).field("api_version", &self.api_version()).finish()
    }
}

/// What is loaded, or being loaded, by file. Each has a lock of its own: a plugin may take minutes to begin, and others do not wait for
/// it.
static LIBRARIES: Mutex<Option<HashMap<PathBuf, Place>>> = Mutex::new(None);

type Place = Arc<Mutex<Option<&'static Library>>>;

impl Library {
    /// Loads the plugin in this file; `preload` before it, in order: libraries that it asks for by name only. A file that is loaded is
    /// not loaded again.
    ///
    /// This runs what the files hold: they have to be trusted. It can take seconds.
    ///
    /// # Errors
    /// A file that is not there or cannot be loaded, is no PJRT plugin, or one of another API; and what the plugin says when it is
    /// told to begin.
    pub fn load(path: &Path, preload: &[PathBuf]) -> Result<&'static Self, PjrtError> {
        // Absolute, because the loader looks for a bare name in the system's folders; not canonical, because the plugin finds its
        // neighbours from where it seems to lie.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let file = path.canonicalize().map_err(|error| PjrtError::Load { path: path.clone(), reason: error.to_string() })?;
        let place = {
            // A panic leaves nothing half-done that this lock protects.
            let mut libraries = LIBRARIES.lock().unwrap_or_else(PoisonError::into_inner);
            libraries.get_or_insert_default().entry(file).or_default().clone()
        };
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(library) = *place {
            return Ok(library);
        }
        preload.iter().try_for_each(|library| open(library).map(drop))?;
        let library: &'static Self = Box::leak(Box::new(Self::begin(path)?));
        Ok(place.insert(library))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Major and minor version of its API.
    pub fn api_version(&self) -> (i32, i32) {
        self.functions.version
    }

    /// What it tells of itself, such as the versions of StableHLO that it takes; nothing where it does not.
    ///
    /// # Errors
    /// What the plugin says.
    #[allow(unsafe_code, reason = "calls a C interface")]
    pub fn attributes(&self) -> Result<Vec<(String, Value)>, PjrtError> {
        let Some(function) = &self.functions.plugin_attributes else { return Ok(Vec::new()) };
        // SAFETY: nothing is handed in, and the attributes that come back live as long as the process.
        unsafe {
            let told = function.call(&self.functions, Attributes { first: std::ptr::null(), count: 0 })?;
            value::from_c(function.name, told.first, told.count)
        }
    }

    #[allow(unsafe_code, reason = "calls a C interface")]
    fn begin(path: PathBuf) -> Result<Self, PjrtError> {
        let library = open(&path)?;
        // SAFETY: a PJRT plugin has this function with this type, and a library that has another one of this name claims to be one.
        let found = unsafe { library.get::<unsafe extern "C" fn() -> *const c_void>(b"GetPjrtApi\0") };
        let Ok(table) = found else {
            return Err(PjrtError::NoPlugin { path, reason: "it has no function GetPjrtApi".into() });
        };
        // SAFETY: the function takes nothing; the table that it returns lives as long as the library, which is never closed.
        let functions = match unsafe { Functions::read(table()) } {
            Ok(functions) => functions,
            Err(Unusable::NoTable(reason)) => return Err(PjrtError::NoPlugin { path, reason }),
            Err(Unusable::Version { major, minor, reason }) => {
                return Err(PjrtError::Version { path, major, minor, reason });
            }
        };
        // SAFETY: the first call, as the interface demands; it takes nothing.
        unsafe { functions.plugin_initialize.call(&functions, Nothing {}) }?;
        Ok(Library { path, functions })
    }
}

fn open(path: &Path) -> Result<&'static bespoke_library::Library, PjrtError> {
    bespoke_library::open(path).map_err(|error| PjrtError::Load { path: error.path, reason: error.reason })
}
