//! Speech to text.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::builder;
use crate::{Audio, CallCx, Duplex, Error, Result};

/// What the host is told of an engine before it starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SttSpec {
    /// Name in `voice.stt`.
    pub name: String,
    /// Languages as BCP 47 tags; empty when it takes any.
    pub languages: Vec<String>,
    /// Whether [`Stt::open`] works.
    pub streaming: bool,
}

impl SttSpec {
    /// An engine for recordings in any language.
    pub fn new(name: impl Into<String>) -> Self {
        SttSpec { name: name.into(), languages: Vec::new(), streaming: false }
    }
}

builder!(SttSpec {
    /// Languages as BCP 47 tags.
    languages: Vec<String> => languages,
    /// Whether [`Stt::open`] works.
    streaming: bool => streaming,
});

/// A recording to be transcribed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SttRequest {
    /// The recording, at any rate.
    pub audio: Audio,
    /// Language as a BCP 47 tag; the engine's default, or its guess, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
}

impl SttRequest {
    /// A request in the engine's default language.
    pub fn new(audio: Audio) -> Self {
        SttRequest { audio, language: None }
    }
}

builder!(SttRequest {
    /// Language as a BCP 47 tag.
    language: String => Some(language),
});

/// How a stream is opened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SttOptions {
    /// Rate of the pushed samples in Hz.
    pub sample_rate: u32,
    /// Language as a BCP 47 tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
}

impl SttOptions {
    /// A stream of that rate.
    pub fn new(sample_rate: u32) -> Self {
        SttOptions { sample_rate, language: None }
    }
}

builder!(SttOptions {
    /// Language as a BCP 47 tag.
    language: String => Some(language),
});

/// What was said. Empty text means that nothing was.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Transcript {
    /// All of it.
    pub text: String,
    /// The language, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// The same in pieces, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<Segment>,
}

/// A piece of a transcript.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Segment {
    /// Where it begins, in milliseconds from the start of the audio.
    pub start_ms: u64,
    /// Where it ends.
    pub end_ms: u64,
    /// What was said there.
    pub text: String,
}

impl Transcript {
    /// A transcript of one text.
    pub fn new(text: impl Into<String>) -> Self {
        Transcript { text: text.into(), ..Self::default() }
    }
}

builder!(Transcript {
    /// The language.
    language: String => Some(language),
    /// The same in pieces.
    segments: Vec<Segment> => segments,
});

impl Segment {
    /// A piece, in milliseconds.
    pub fn new(start_ms: u64, end_ms: u64, text: impl Into<String>) -> Self {
        Segment { start_ms, end_ms, text: text.into() }
    }
}

/// What a stream says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum SttEvent {
    /// A guess at an utterance that still goes on; replaces the one before.
    #[non_exhaustive]
    Interim {
        /// Samples heard so far.
        at: u64,
        /// The guess.
        text: String,
    },
    /// An utterance is complete.
    #[non_exhaustive]
    Final {
        /// Samples heard so far.
        at: u64,
        /// What was said.
        transcript: Transcript,
    },
    /// Something that a newer peer says and this side does not know: passed over.
    #[serde(other)]
    Unknown,
}

impl SttEvent {
    /// A guess after `at` samples.
    pub fn interim(at: u64, text: impl Into<String>) -> Self {
        SttEvent::Interim { at, text: text.into() }
    }

    /// An utterance that was complete after `at` samples.
    pub fn finished(at: u64, transcript: Transcript) -> Self {
        SttEvent::Final { at, transcript }
    }
}

/// The contract of an engine.
#[async_trait]
pub trait Stt: Send + Sync {
    /// Transcribes a recording.
    ///
    /// # Errors
    /// `STT_AUDIO_INVALID`, `STT_LANGUAGE_NOT_SUPPORTED`, `STT_TRANSCRIPTION_FAILED`.
    async fn transcribe(&self, cx: &CallCx, request: SttRequest) -> Result<Transcript>;

    /// A live stream, for engines that hear while somebody speaks.
    fn open(&self, _options: &SttOptions) -> Result<Box<dyn Duplex<[f32], SttEvent>>> {
        Err(Error::unsupported("stt.open"))
    }
}
