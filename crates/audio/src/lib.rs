//! Audio as the voice plugins need it: WAV files in and out, resampling, windows, levels, and the
//! segmenters that turn a probability per window into speech: the events of a conversation
//! ([`SpeechDetector`]), the ranges of a recording ([`speech_timestamps`]), the borders of a stream
//! ([`SpeechIterator`]).
//!
//! Everywhere a sample is an `f32`, mono, full scale ±1.0 (s16 divided by 32768 exactly). This crate
//! knows nothing of plugins, of models, or of time: it counts samples.

mod iterator;
mod level;
mod resample;
mod speech;
mod timestamps;
mod wav;
mod windows;

pub use iterator::{Border, IteratorOptions, SpeechIterator};
pub use level::{dbfs, rms};
pub use resample::{MAX_RATE, MIN_RATE, ResampleError, Resampler, resample};
pub use speech::{SpeechDetector, SpeechEdge, SpeechEvent, SpeechOptions, SpeechOptionsError, SpeechWindow};
pub use timestamps::{TimestampOptions, speech_timestamps};
pub use wav::{MAX_FRAMES, Truncation, Wav, WavError, decode_wav, read_wav, write_wav};
pub use windows::Windows;
