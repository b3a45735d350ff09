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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum VadEvent {
    /// One window was looked at.
    #[non_exhaustive]
    Window {
        /// End of the window.
        at: u64,
        /// How likely it is speech, 0.0–1.0.
        probability: f32,
        /// How long the detector took, in microseconds.
        elapsed_us: u32,
    },
    /// Somebody began to speak.
    #[non_exhaustive]
    SpeechStart {
        /// Where the decision fell.
        at: u64,
        /// Where the speech began, with the configured padding.
        from: u64,
    },
    /// They stopped.
    #[non_exhaustive]
    SpeechEnd {
        /// Where the decision fell.
        at: u64,
        /// Where the speech ended, before the trailing silence.
        to: u64,
    },
    /// Something that a newer peer says and this side does not know: passed over.
    #[serde(other)]
    Unknown,
}

impl VadEvent {
    /// One window that ends `at`, how likely it is speech (0.0–1.0), and how long the detector took in microseconds.
    pub fn window(at: u64, probability: f32, elapsed_us: u32) -> Self {
        VadEvent::Window { at, probability, elapsed_us }
    }

    /// Somebody began to speak at `from`, as was decided at `at`.
    pub fn speech_start(at: u64, from: u64) -> Self {
        VadEvent::SpeechStart { at, from }
    }

    /// They stopped at `to`, as was decided at `at`.
    pub fn speech_end(at: u64, to: u64) -> Self {
        VadEvent::SpeechEnd { at, to }
    }
}

/// The contract of a detector.
pub trait Vad: Send + Sync {
    /// A new stream with an empty state. `push` runs the detector in place: call it on a working thread.
    ///
    /// # Errors
    /// `STT_AUDIO_INVALID` for a rate that it cannot take.
    fn open(&self, options: &VadOptions) -> Result<Box<dyn Duplex<[f32], VadEvent>>>;
}
