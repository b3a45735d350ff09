//! The voice: each word is a bell, higher or lower by its letters. What it sings has the same bits on every machine and in every tier:
//! only sums and products of numbers that are written here, no sine of anybody's library.

use std::{
    collections::VecDeque,
    task::{Context, Poll, Waker},
};

use bespoke_plugin_api::{Audio, AudioChunk, CallCx, Code, Duplex, Error, Result, Tts, TtsOptions, TtsSpec, Voice, async_trait};

/// Rate of the audio, in Hz.
const RATE: u32 = 16_000;
/// One bell: a quarter of a second.
const BELL: usize = RATE as usize / 4;
/// Bells of a scale that sounds well in any order, in Hz.
const SCALE: [f32; 5] = [523.25, 587.33, 659.25, 783.99, 880.0];
/// The only voice.
const VOICE: &str = "tower";
/// One stream sings so many words: four minutes.
const WORDS: usize = 1000;

pub(crate) fn spec() -> TtsSpec {
    TtsSpec::new("chimes", RATE)
}

pub(crate) struct Bells;

#[async_trait]
impl Tts for Bells {
    async fn voices(&self, _cx: &CallCx) -> Result<Vec<Voice>> {
        Ok(vec![Voice::new(VOICE, "en")])
    }

    fn open(&self, options: &TtsOptions) -> Result<Box<dyn Duplex<str, AudioChunk>>> {
        match options.voice.as_deref() {
            None | Some(VOICE) => Ok(Box::new(Melody::default())),
            Some(voice) => {
                let error = Error::new(Code::TTS_VOICE_NOT_FOUND, format!("chimes has no voice `{voice}`"));
                Err(error.with_help(format!("use `{VOICE}`, or name no voice")))
            }
        }
    }
}

/// Text on its way to bells.
#[derive(Default)]
struct Melody {
    /// The bells of words that are complete.
    bells: VecDeque<f32>,
    /// How many there were.
    words: usize,
    /// The sum of the letters of the word that is being written; nothing between words.
    word: Option<u32>,
    finished: bool,
    /// Who waits for the next bell.
    waiting: Option<Waker>,
}

impl Melody {
    fn end_of_word(&mut self) {
        if let Some(letters) = self.word.take() {
            self.bells.push_back(SCALE[letters as usize % SCALE.len()]);
            self.words += 1;
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }
}

impl Duplex<str, AudioChunk> for Melody {
    fn push(&mut self, text: &str) -> Result<()> {
        if self.finished {
            return Err(Error::invalid_params("text after the end of the stream; open a new one"));
        }
        for c in text.chars() {
            if c.is_alphanumeric() {
                self.word = Some(self.word.unwrap_or(0).wrapping_add(c.into()));
            } else {
                self.end_of_word();
            }
        }
        self.wake();
        if self.words > WORDS {
            return Err(Error::new(Code::TTS_TEXT_TOO_LONG, format!("one stream takes {WORDS} words")));
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.finished = true;
        self.end_of_word();
        self.wake();
        Ok(())
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<AudioChunk>>> {
        match self.bells.pop_front() {
            Some(pitch) => Poll::Ready(Some(Ok(AudioChunk::new(Audio::new(bell(pitch), RATE))))),
            None if self.finished => Poll::Ready(None),
            None => {
                self.waiting = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// One bell: parabolas that look much like a sine, and fade.
fn bell(pitch: f32) -> Vec<f32> {
    let step = 2.0 * pitch / RATE as f32;
    let (mut phase, mut loud) = (0.0_f32, 0.4_f32);
    let samples = (0..BELL).map(|_| {
        let sample = loud * 4.0 * phase * (1.0 - phase.abs());
        phase += step;
        // From −1 to 1 and around again.
        if phase >= 1.0 {
            phase -= 2.0;
        }
        loud *= 0.999;
        sample
    });
    samples.collect()
}

#[cfg(test)]
mod tests {
    use bespoke_plugin_api::try_next;

    use super::*;

    #[test]
    fn each_word_is_a_bell() {
        let mut melody = Melody::default();
        melody.push("ding do").unwrap();
        melody.push("ng, ding!").unwrap();
        melody.finish().unwrap();
        let chunks: Vec<_> = std::iter::from_fn(|| try_next(&mut melody)).collect::<Result<_>>().unwrap();
        let [ding, dong, again] = &chunks[..] else { panic!("{} bells", chunks.len()) };
        assert_eq!(ding, again);
        assert_ne!(ding, dong);
        assert!(ding.audio.samples.iter().all(|sample| sample.abs() <= 0.4));
    }

    #[test]
    fn the_bits_of_a_bell_are_known() {
        // By FNV-1a: another bit is another bell.
        let bytes = bell(440.0).into_iter().flat_map(f32::to_le_bytes);
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        assert_eq!(format!("{hash:016x}"), "d56d3d0d5f2b800d");
    }
}
