//! A mouth that beeps: one triangle wave per word, its pitch from the word. No libm, so the samples are the same everywhere.

use std::{
    collections::VecDeque,
    task::{Context, Poll},
};

use bespoke_plugin_api::{Audio, AudioChunk, CallCx, Code, Duplex, Error, Result, Tts, TtsOptions, Voice, async_trait};

use crate::checksum;

/// Samples per second.
pub(crate) const RATE: u32 = 16_000;

/// Samples of a word at normal speed: 100 ms, and 20 ms of silence after it.
const WORD: f32 = 1_600.0;
const GAP: f32 = 320.0;

/// Bytes that one stream takes.
const TEXT_LIMIT: usize = 1 << 20;

pub(crate) struct Mouth;

#[async_trait]
impl Tts for Mouth {
    async fn voices(&self, _cx: &CallCx) -> Result<Vec<Voice>> {
        Ok(vec![Voice::new("beep", "en")])
    }

    fn open(&self, options: &TtsOptions) -> Result<Box<dyn Duplex<str, AudioChunk>>> {
        if let Some(voice) = options.voice.as_deref().filter(|v| *v != "beep") {
            return Err(Error::new(Code::TTS_VOICE_NOT_FOUND, format!("there is no voice `{voice}`, only `beep`")));
        }
        let speed = options.speed.unwrap_or(1.0);
        if !(0.5..=2.0).contains(&speed) {
            return Err(Error::invalid_params(format!("a speed of {speed}; it is 0.5 to 2.0")));
        }
        Ok(Box::new(Beeping { speed, text: String::new(), taken: 0, chunks: VecDeque::new(), finished: false }))
    }
}

struct Beeping {
    speed: f32,
    /// What no clause has ended yet.
    text: String,
    taken: usize,
    chunks: VecDeque<AudioChunk>,
    finished: bool,
}

impl Beeping {
    fn speak(&mut self, clause: &str) {
        let mut samples = Vec::new();
        for word in clause.split_whitespace().filter(|w| w.chars().any(char::is_alphanumeric)) {
            // 20 to 83 samples a period: 190 to 800 Hz.
            let period = 20 + (checksum(word.bytes()) & 63) as usize;
            let wave = (0..(WORD / self.speed) as usize).map(|n| {
                let phase = (n % period) as f32 / period as f32;
                0.5 - (phase - 0.5).abs() * 2.0
            });
            samples.extend(wave);
            samples.resize(samples.len() + (GAP / self.speed) as usize, 0.0);
        }
        if !samples.is_empty() {
            self.chunks.push_back(AudioChunk::new(Audio::new(samples, RATE)));
        }
    }
}

impl Duplex<str, AudioChunk> for Beeping {
    fn push(&mut self, text: &str) -> Result<()> {
        if self.finished {
            return Err(Error::invalid_params("push after finish"));
        }
        self.taken += text.len();
        if self.taken > TEXT_LIMIT {
            return Err(Error::new(Code::TTS_TEXT_TOO_LONG, format!("more than {TEXT_LIMIT} bytes of text")));
        }
        self.text.push_str(text);
        while let Some(end) = self.text.find(['.', ',', ';', ':', '!', '?', '\n']) {
            let rest = self.text.split_off(end + 1);
            let clause = std::mem::replace(&mut self.text, rest);
            self.speak(&clause);
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.finished = true;
        let rest = std::mem::take(&mut self.text);
        self.speak(&rest);
        Ok(())
    }

    fn poll_next(&mut self, _cx: &mut Context<'_>) -> Poll<Option<Result<AudioChunk>>> {
        match self.chunks.pop_front() {
            Some(chunk) => Poll::Ready(Some(Ok(chunk))),
            None if self.finished => Poll::Ready(None),
            // Nobody is woken: chunks come from pushes alone.
            None => Poll::Pending,
        }
    }
}
