//! What a turn or a live session tells while it runs. Data only.

use std::{fmt, time::Duration};

use bespoke_agent::{Turn, TurnEvent};
use bespoke_plugin_api::{Audio, Error};
use serde::Serialize;

use crate::{Chosen, Timeline};

/// Something that happened. The order is that of the list; a turn without words ends after its transcript.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum VoiceEvent {
    /// An engine was chosen for a stage; live, told again only when it changes.
    Engine(Chosen),
    /// Somebody began to speak.
    SpeechStart {
        /// Where in the sound, with the detector's padding.
        from: Duration,
    },
    /// They stopped.
    SpeechEnd {
        /// Where they spoke.
        span: Span,
        /// Whether it is left unanswered: too short to stop the reply into which it fell, or replies are not to be stopped.
        ignored: bool,
    },
    /// What was said. Empty when the sound held no words; then no reply follows.
    Transcript {
        /// The words.
        text: String,
    },
    /// Tools and providers at work; text comes as [`ReplyText`](Self::ReplyText).
    Agent(TurnEvent),
    /// More of the answer, as it was written.
    ReplyText {
        /// A piece of it.
        text: String,
    },
    /// More of the answer, spoken.
    ReplyAudio {
        /// A piece of it, at the rate of the engine.
        audio: Audio,
    },
    /// The answer is complete; what was handed out may still be playing.
    ReplyEnd {
        /// The agent's turn.
        turn: Turn,
    },
    /// Somebody spoke into the reply: stop playing now. No audio of that reply follows. Comes after
    /// [`ReplyEnd`](Self::ReplyEnd) when only the playing was interrupted.
    Interrupted,
    /// A stage failed. Without the voice the answer goes on as text; any other failure ends the turn.
    Error {
        /// Which.
        stage: Stage,
        /// Why.
        error: Error,
    },
    /// A turn is over, and how long each stage took.
    Metrics(Timeline),
}

/// A stage of the voice turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Stage {
    /// Finding speech.
    Vad,
    /// Speech to text.
    Stt,
    /// The answer.
    Agent,
    /// Text to speech.
    Tts,
}

impl Stage {
    /// `vad`, `stt`, `agent` or `tts`.
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Vad => "vad",
            Stage::Stt => "stt",
            Stage::Agent => "agent",
            Stage::Tts => "tts",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Where somebody spoke, counted in samples from the start of the sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Span {
    /// Where it begins, with the detector's padding.
    pub from: Duration,
    /// Where it ends, without the silence after it.
    pub to: Duration,
    /// Whether it was cut off at the longest utterance, so that speech went on after `to`.
    pub truncated: bool,
}

/// How likely one window of the detector is speech; many of them make a picture.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct VadWindow {
    /// End of the window.
    pub at: Duration,
    /// 0.0–1.0.
    pub probability: f32,
}
