//! Moonshine tiny: English speech to text in pure Rust, 27 million parameters, 50 to 90 times faster than speech
//! on one core.
//!
//! From the model outwards: [`engine`] (one stretch of speech to text, with [`vocabulary`]), [`pauses`] (long audio to
//! stretches), [`transcript`] (any recording to text), then the plugin with its live stream.

pub mod engine;
pub mod error;
pub mod pauses;
mod plugin;
mod stream;
pub mod transcript;
pub mod vocabulary;

pub use plugin::{BESPOKE_PLUGIN, Config, Moonshine};
