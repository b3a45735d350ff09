//! Where the real model lies. Nothing is skipped when it does not: the test says how to get it.

use std::path::PathBuf;
use std::sync::OnceLock;

use bespoke_provider_smol::engine::{Engine, EngineOptions};

pub(crate) const FILE: &str = "smollm2-135m-instruct-q4_1.gguf";

/// The folder of this plugin's files in `BESPOKE_MODEL_PATH`.
pub(crate) fn folder() -> PathBuf {
    let path = std::env::var_os("BESPOKE_MODEL_PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path).map(|folder| folder.join("smol"));
    folders
        .find(|folder| folder.join(FILE).is_file())
        .unwrap_or_else(|| panic!("no smol/{FILE} in BESPOKE_MODEL_PATH ({path:?}): run `cargo xtask test`, which fetches it"))
}

/// One engine for all tests.
pub(crate) fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::load(&folder().join(FILE), &EngineOptions::default()).unwrap())
}
