//! Silero VAD: where in a stream of sound somebody speaks.
//!
//! Two engines compute the same probabilities from the same model file: ONNX Runtime where a library
//! is found, and our own forward pass, which needs none and is several times faster. The plugin
//! `silero` resamples what comes at another rate, cuts it into windows, and lets the segmenter of the
//! LiveKit plugin ([`bespoke_audio::SpeechDetector`], its options and defaults) decide.

mod config;
mod engine;
mod model;
mod plugin;
mod rate;
mod stream;

pub use config::{Config, DeviceChoice};
pub use engine::{Builtin, Engine, EngineChoice, EngineError, EngineKind, Engines, Network, Onnx, Simd, Wanted};
pub use model::{Model, ModelError, SHA256};
pub use plugin::{BESPOKE_PLUGIN, Silero};
pub use rate::Rate;
