//! Voice notes: files that somebody recorded to be heard, and answers as such files. No conversation, no channel.

use bespoke_plugin_api::{Attachment, CallCx, Error, Result};

use crate::Voice;

/// Hears and speaks voice notes with the engines of a voice. Cheap to clone; holds no conversation.
#[derive(Debug, Clone)]
pub struct Notes(Voice);

impl Notes {
    /// Notes by the engines of this voice.
    pub fn new(voice: Voice) -> Self {
        Notes(voice)
    }

    /// The words of a note, Opus in Ogg or WAV; empty when nobody speaks in it.
    ///
    /// # Errors
    /// `STT_AUDIO_INVALID` for what is no such file or too long; what stopped the detector or the transcription; `CANCELLED`.
    pub async fn hear(&self, _cx: &CallCx, _note: &Attachment) -> Result<String> {
        let _ = &self.0;
        Err(Error::unsupported("notes.hear"))
    }

    /// A text as a voice note, Opus in Ogg.
    ///
    /// # Errors
    /// What the engine said; `INVALID_PARAMS` for a text that has nothing to read aloud; `CANCELLED`.
    pub async fn speak(&self, _cx: &CallCx, _text: &str) -> Result<Attachment> {
        Err(Error::unsupported("notes.speak"))
    }
}
