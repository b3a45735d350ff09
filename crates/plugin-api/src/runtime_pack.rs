//! The libraries of a native runtime, as a plugin gets them: where they lie, and what is loaded first. How they came there is not said.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The libraries of a native runtime, such as ONNX Runtime, on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RuntimePack {
    /// `runtime:device`, such as `onnx:cuda`.
    pub spec: String,
    /// Its version, such as `1.28.0`.
    pub version: String,
    /// `installed`, or `bundled` with the program.
    pub origin: String,
    /// The folder in which all of it lies.
    pub folder: PathBuf,
    /// The library to load, by its absolute path.
    pub library: PathBuf,
    /// Libraries to load before it, in this order, by their absolute paths: it asks for them by name only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preload: Vec<PathBuf>,
}

impl RuntimePack {
    /// A library that needs no other.
    pub fn new(
        spec: impl Into<String>,
        version: impl Into<String>,
        origin: impl Into<String>,
        folder: impl Into<PathBuf>,
        library: impl Into<PathBuf>,
    ) -> Self {
        RuntimePack {
            spec: spec.into(),
            version: version.into(),
            origin: origin.into(),
            folder: folder.into(),
            library: library.into(),
            preload: Vec::new(),
        }
    }

    /// With libraries to load first.
    #[must_use]
    pub fn preload(mut self, libraries: Vec<PathBuf>) -> Self {
        self.preload = libraries;
        self
    }
}
