//! Audio as the voice plugins need it: WAV files in and out, resampling, levels, and the segmenter
//! that turns a probability per window into speech events.
//!
//! Everywhere a sample is an `f32`, mono, full scale ±1.0 (s16 divided by 32768 exactly). This crate
//! knows nothing of plugins, of models, or of time: it counts samples.

mod level;
mod resample;
mod speech;
mod wav;

pub use level::{dbfs, rms};
pub use resample::{MAX_RATE, MIN_RATE, ResampleError, Resampler, resample};
pub use speech::{SpeechDetector, SpeechEdge, SpeechEvent, SpeechOptions, SpeechOptionsError, SpeechWindow};
pub use wav::{MAX_FRAMES, Truncation, Wav, WavError, decode_wav, read_wav, write_wav};
