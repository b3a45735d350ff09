//! The little of `plugin.toml` that the suite looks at. Checking manifests is the work of the host's own crate.

use serde::Deserialize;

#[derive(Deserialize)]
pub(crate) struct Manifest {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) provides: Vec<Provides>,
    #[serde(default)]
    pub(crate) models: Vec<Model>,
    #[serde(default)]
    pub(crate) runtimes: Vec<String>,
}

#[derive(Deserialize)]
pub(crate) struct Provides {
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) name: Option<String>,
    #[serde(default)]
    pub(crate) dynamic: bool,
}

#[derive(Deserialize)]
pub(crate) struct Model {
    pub(crate) file: String,
}

impl Manifest {
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|e| format!("plugin.toml: {e}"))
    }
}
