//! Text to speech.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::builder;
use crate::{Audio, CallCx, Duplex, Result};

/// What the host is told of an engine before it starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TtsSpec {
    /// Name in `voice.tts`.
    pub name: String,
    /// Rate of the audio it makes, in Hz.
    pub sample_rate: u32,
}

impl TtsSpec {
    /// An engine that speaks at that rate.
    pub fn new(name: impl Into<String>, sample_rate: u32) -> Self {
        TtsSpec { name: name.into(), sample_rate }
    }
}

/// A voice of an engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Voice {
    /// Id as [`TtsOptions`] names it.
    pub id: String,
    /// Language as a BCP 47 tag.
    pub language: String,
}

impl Voice {
    /// A voice.
    pub fn new(id: impl Into<String>, language: impl Into<String>) -> Self {
        Voice { id: id.into(), language: language.into() }
    }
}

/// How a stream is opened.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TtsOptions {
    /// The voice; the engine's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voice: Option<String>,
    /// Speed, 1.0 is normal, 0.5–2.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<f32>,
}

builder!(TtsOptions {
    /// The voice.
    voice: String => Some(voice),
    /// Speed, 0.5–2.0.
    speed: f32 => Some(speed),
});

/// A piece of speech.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AudioChunk {
    /// The samples.
    pub audio: Audio,
}

impl AudioChunk {
    /// A piece of speech.
    pub fn new(audio: Audio) -> Self {
        AudioChunk { audio }
    }
}

/// The contract of an engine.
#[async_trait]
pub trait Tts: Send + Sync {
    /// Its voices, the default one first.
    async fn voices(&self, cx: &CallCx) -> Result<Vec<Voice>>;

    /// A stream: text in any fragments goes in, audio comes out as soon as a clause is complete. Dropping it stops speech.
    /// `push` only takes the text; synthesis runs on a working thread of the host.
    ///
    /// # Errors
    /// `TTS_VOICE_NOT_FOUND`; from `push`, `TTS_TEXT_TOO_LONG`.
    fn open(&self, options: &TtsOptions) -> Result<Box<dyn Duplex<str, AudioChunk>>>;
}
