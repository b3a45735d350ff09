//! Where the model and the recordings lie. Nothing is skipped when they do not: the test says how to get them.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bespoke_stt_moonshine::engine::{Engine, ModelFiles};

/// The folder of this plugin's files in `BESPOKE_MODEL_PATH`.
pub(crate) fn folder() -> PathBuf {
    let path = std::env::var_os("BESPOKE_MODEL_PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path).map(|folder| folder.join("moonshine"));
    folders.find(|folder| folder.join("encoder_model.onnx").is_file()).unwrap_or_else(|| {
        panic!("no moonshine/encoder_model.onnx in BESPOKE_MODEL_PATH ({path:?}): run `cargo xtask test`, which fetches it")
    })
}

/// One engine for all tests: loading takes longer than most of them.
pub(crate) fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::load(&ModelFiles::in_folder(&folder()), 1).unwrap())
}

/// A recording of 10 s that comes with the model.
pub(crate) fn beckett() -> (Vec<f32>, u32) {
    recording(&folder().join("beckett.wav"))
}

/// A LibriVox recording (public domain) among the fixtures of vad-silero.
pub(crate) fn librivox(name: &str) -> (Vec<f32>, u32) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vad-silero/tests/fixtures/audio");
    recording(&fixtures.join(name))
}

fn recording(path: &Path) -> (Vec<f32>, u32) {
    let wav = bespoke_audio::read_wav(path).unwrap_or_else(|e| panic!("{e}: run `cargo xtask test`"));
    (wav.samples, wav.rate)
}
