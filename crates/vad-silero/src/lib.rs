//! Silero VAD: where in a stream of sound somebody speaks.
//!
//! Two engines compute the same probabilities from the same model file: ONNX Runtime where a library
//! is found, and our own forward pass, which needs none. Three segmenters turn probabilities into
//! speech: the LiveKit plugin's events ([`bespoke_audio::SpeechDetector`]), silero-vad's timestamps of
//! a whole recording, and its iterator. The plugin `silero` puts engine and events into the contract.

mod engine;
mod iterator;
mod model;
mod rate;
mod timestamps;

pub use engine::{Builtin, Engine, EngineChoice, EngineError, EngineKind, Engines, Network, Simd};
pub use iterator::{Border, IteratorOptions, SpeechIterator};
pub use model::{Model, ModelError, SHA256};
pub use rate::Rate;
pub use timestamps::{TimestampOptions, speech_timestamps};
