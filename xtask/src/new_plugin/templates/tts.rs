//! Text to speech: here each letter is a tone.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bespoke_plugin_api::{
    Audio, AudioChunk, CallCx, Code, Duplex, Error, Plugin, PluginApi, PluginContext, Result, Tts, TtsOptions, TtsSpec, Voice, async_trait,
    serde::{self, Deserialize},
};

/// The table `[plugins.__ID__]`. Each field has a default, and says what may change while the plugin runs.
#[derive(Deserialize)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize), schemars(extend("additionalProperties" = false)))]
pub struct Config {
    /// The tone of the letter a, in Hz.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub pitch_hz: f32,
}

impl Default for Config {
    fn default() -> Self {
        Config { pitch_hz: 220.0 }
    }
}

/// One instance.
pub struct __TYPE__ {
    config: Config,
}

impl Plugin for __TYPE__ {
    type Config = Config;

    fn register(api: &mut PluginApi<Self>) {
        api.tts(TtsSpec::new("__NAME__", RATE), |plugin| Arc::new(Speech(plugin.clone())));
    }

    async fn start(_cx: PluginContext, config: Config) -> Result<Self> {
        Ok(__TYPE__ { config })
    }
}

bespoke_plugin_api::plugin!("__ID__", __TYPE__);

/// Rate of the audio, in Hz.
const RATE: u32 = 16_000;
/// Length of one letter: 50 ms.
const LETTER: usize = RATE as usize / 20;
/// The only voice.
const VOICE: &str = "tones";

struct Speech(Arc<__TYPE__>);

#[async_trait]
impl Tts for Speech {
    async fn voices(&self, _cx: &CallCx) -> Result<Vec<Voice>> {
        Ok(vec![Voice::new(VOICE, "en")])
    }

    fn open(&self, options: &TtsOptions) -> Result<Box<dyn Duplex<str, AudioChunk>>> {
        if let Some(voice) = options.voice.as_deref().filter(|voice| *voice != VOICE) {
            return Err(Error::new(Code::TTS_VOICE_NOT_FOUND, format!("there is no voice `{voice}`")).with_help(format!("use `{VOICE}`")));
        }
        Ok(Box::new(Stream { pitch_hz: self.0.config.pitch_hz, letters: VecDeque::new(), finished: false, waiting: None }))
    }
}

/// Letters that are still to be spoken. An engine that computes does so on a working thread; see `bespoke_plugin_api::feed`.
struct Stream {
    pitch_hz: f32,
    letters: VecDeque<char>,
    finished: bool,
    /// Who waits for the next event; `push` and `finish` wake it.
    waiting: Option<Waker>,
}

impl Stream {
    fn wake(&mut self) {
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }
}

impl Duplex<str, AudioChunk> for Stream {
    fn push(&mut self, text: &str) -> Result<()> {
        if self.finished {
            return Err(Error::invalid_params("text after the end"));
        }
        self.letters.extend(text.chars().filter(|c| c.is_ascii_alphabetic()).map(|c| c.to_ascii_lowercase()));
        self.wake();
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.finished = true;
        self.wake();
        Ok(())
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<AudioChunk>>> {
        let Some(letter) = self.letters.pop_front() else {
            if self.finished {
                return Poll::Ready(None);
            }
            self.waiting = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let semitones = f32::from(letter as u8 - b'a');
        let step = std::f32::consts::TAU * self.pitch_hz * (semitones / 12.0).exp2() / RATE as f32;
        let samples: Vec<f32> = (0..LETTER).map(|n| 0.3 * (step * n as f32).sin()).collect();
        Poll::Ready(Some(Ok(AudioChunk::new(Audio::new(samples, RATE)))))
    }
}

#[cfg(test)]
mod tests {
    use bespoke_plugin_api::{Contribution, serde_json::json, try_next};
    use bespoke_plugin_testkit::{Conformance, TestHost, block_on, check_config_schema};

    use super::*;

    #[test]
    fn speaks_each_letter() {
        let instance = block_on(BESPOKE_PLUGIN.start(TestHost::new().context("__ID__"), json!({}))).unwrap();
        let [Contribution::Tts(_, tts)] = &instance.contributions[..] else { panic!("{instance:?}") };
        let mut speech = tts.open(&TtsOptions::default()).unwrap();
        speech.push("A b!").unwrap();
        speech.finish().unwrap();
        let chunks: Vec<_> = std::iter::from_fn(|| try_next(&mut *speech)).collect::<Result<_>>().unwrap();
        assert_eq!(chunks.len(), 2);
        assert!(chunks.iter().all(|c| c.audio.rate == RATE && c.audio.samples.len() == LETTER));
    }

    #[test]
    fn behaves_the_same_in_every_tier() {
        Conformance::new(&BESPOKE_PLUGIN).check();
    }

    #[test]
    fn the_schema_is_fresh() {
        check_config_schema(env!("CARGO_MANIFEST_DIR"), schemars::schema_for!(Config));
    }
}
