//! Voice activity detection: where in a stream of audio somebody speaks.

use serde::{Deserialize, Serialize};

use crate::{Duplex, Result};

/// What the host is told of a detector before it starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct VadSpec {
    /// Name in `voice.vad`.
    pub name: String,
}

impl VadSpec {
    /// A detector of that name.
    pub fn new(name: impl Into<String>) -> Self {
        VadSpec { name: name.into() }
    }
}

/// How a stream is opened. Thresholds and durations are the plugin's configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct VadOptions {
    /// Rate of the pushed samples in Hz; any that the detector accepts or can resample.
    pub sample_rate: u32,
}

impl VadOptions {
    /// A stream of that rate.
    pub fn new(sample_rate: u32) -> Self {
        VadOptions { sample_rate }
    }
}

/// What a detector found. `at` counts samples from the start of the stream, in the rate of the pushed audio.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum VadEvent {
    /// One window was looked at.
    Window {
        /// End of the window.
        at: u64,
        /// How likely it is speech, 0.0–1.0.
        probability: f32,
        /// How long the detector took, in microseconds.
        elapsed_us: u32,
    },
    /// Somebody began to speak.
    SpeechStart {
        /// Where the decision fell.
        at: u64,
        /// Where the speech began, with the configured padding.
        from: u64,
    },
    /// They stopped.
    SpeechEnd {
        /// Where the decision fell.
        at: u64,
        /// Where the speech ended, before the trailing silence.
        to: u64,
    },
}

/// The contract of a detector.
pub trait Vad: Send + Sync {
    /// A new stream with an empty state. `push` runs the detector in place: call it on a working thread.
    ///
    /// # Errors
    /// `STT_AUDIO_INVALID` for a rate that it cannot take.
    fn open(&self, options: &VadOptions) -> Result<Box<dyn Duplex<[f32], VadEvent>>>;
}
