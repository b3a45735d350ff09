//! Voice notes: files that somebody recorded to be heard, and answers as such files. No conversation, no channel.

use std::{path::Path, sync::mpsc, time::Duration};

use bespoke_audio::{Resampler, decode_wav};
use bespoke_ogg_opus::{Encoder, OggOpusError, RATES, is_ogg_opus};
use bespoke_plugin_api::{Attachment, Audio, CallCx, Code, Error, Result};
use tokio::sync::oneshot;

use crate::{Voice, hearing::RATE, voice::thread};

/// The longest note that is heard. Somebody who wants more of it read sends a recording, not a note.
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// Bytes of the largest file that is opened: WAV of that length in the quality of a studio.
const MOST_BYTES: usize = 256 << 20;
/// What a channel that shows names calls an answer.
const NAME: &str = "answer.ogg";

/// Hears and speaks voice notes with the engines of a voice. Cheap to clone; holds no conversation.
#[derive(Debug, Clone)]
pub struct Notes(Voice);

impl Notes {
    /// Notes by the engines of this voice.
    pub fn new(voice: Voice) -> Self {
        Notes(voice)
    }

    /// The words of a note, Opus in Ogg or WAV, whatever its name and type say; empty when nobody speaks in it.
    ///
    /// # Errors
    /// `STT_AUDIO_INVALID` for what is no such file or too long; what stopped the detector or the transcription; `CANCELLED`.
    pub async fn hear(&self, cx: &CallCx, note: &Attachment) -> Result<String> {
        let data = note.data.clone();
        let sound = cx.unless_cancelled(apart("voice-note-in", move || open(&data))).await??;
        if sound.samples.is_empty() {
            return Ok(String::new());
        }
        let heard = self.0.transcribe(cx, sound, |_| {}).await?;
        Ok(heard.transcript.unwrap_or_default())
    }

    /// A text as a voice note, Opus in Ogg. What is spoken is encoded while the rest is still being spoken.
    ///
    /// # Errors
    /// What the engine said; `INVALID_PARAMS` for a text that has nothing to read aloud; `CANCELLED`.
    pub async fn speak(&self, cx: &CallCx, text: &str) -> Result<Attachment> {
        let (spoken, chunks) = mpsc::channel::<Audio>();
        let note = apart("voice-note-out", move || write(&chunks));
        // Where the thread has failed, nobody takes the rest; it says why.
        self.0.speak(cx, text, |chunk| _ = spoken.send(chunk.clone())).await?;
        drop(spoken);
        let file = cx.unless_cancelled(note).await??;
        let file = file.ok_or_else(|| Error::invalid_params("the text has nothing that can be read aloud"))?;
        Ok(Attachment::voice("audio/ogg", file).name(NAME.into()))
    }
}

/// Runs work that computes on a thread of its own, from now on.
fn apart<T: Send + 'static>(name: &str, work: impl FnOnce() -> Result<T> + Send + 'static) -> impl Future<Output = Result<T>> {
    let (done, result) = oneshot::channel();
    // Nobody waits any more when the call was cancelled.
    let begun = thread(name, move || _ = done.send(work()));
    async move {
        begun?;
        result.await.map_err(|_| Error::internal("the thread of a voice note ended without a result"))?
    }
}

fn open(data: &[u8]) -> Result<Audio> {
    let invalid = |why: String| Error::new(Code::STT_AUDIO_INVALID, why);
    if data.len() > MOST_BYTES {
        return Err(invalid(format!("the voice note has {} bytes, and {MOST_BYTES} are the most", data.len())));
    }
    if is_ogg_opus(data) {
        let samples = bespoke_ogg_opus::decode(data, RATE, LONGEST).map_err(|error| invalid(error.to_string()))?;
        return Ok(Audio::new(samples, RATE));
    }
    if data.starts_with(b"RIFF") {
        let wav = decode_wav(data, Path::new("voice note")).map_err(|error| invalid(error.to_string()))?;
        let longest = u64::from(wav.rate) * LONGEST.as_secs();
        if wav.samples.len() as u64 > longest {
            return Err(invalid(OggOpusError::TooLong(LONGEST.as_secs()).to_string()));
        }
        return Ok(Audio::new(wav.samples, wav.rate));
    }
    Err(invalid("the voice note is neither Opus in Ogg nor WAV".into()))
}

/// Encodes what comes until nothing more does; none when nothing came.
fn write(chunks: &mpsc::Receiver<Audio>) -> Result<Option<Vec<u8>>> {
    let mut note: Option<Note> = None;
    for chunk in chunks {
        let note = match &mut note {
            Some(note) => note,
            none => none.insert(Note::new(chunk.rate)?),
        };
        note.push(&chunk)?;
    }
    note.map(Note::finish).transpose()
}

/// A file that is being written, out of chunks that each say their own rate.
struct Note {
    encoder: Encoder,
    /// The rate of the file.
    rate: u32,
    resampler: Resampler,
}

impl Note {
    /// At the rate of the sound or the next that Opus has.
    fn new(first: u32) -> Result<Self> {
        let rate = RATES.into_iter().find(|rate| *rate >= first).unwrap_or(RATES[RATES.len() - 1]);
        Ok(Note { encoder: Encoder::new(rate).map_err(failed)?, rate, resampler: Resampler::new(first, rate).map_err(failed)? })
    }

    fn push(&mut self, chunk: &Audio) -> Result<()> {
        if chunk.rate != self.resampler.from() {
            self.rest()?;
            self.resampler = Resampler::new(chunk.rate, self.rate).map_err(failed)?;
        }
        let mut blocks = Vec::new();
        self.resampler.push(&chunk.samples, |block| blocks.extend_from_slice(block)).map_err(failed)?;
        self.encoder.push(&blocks).map_err(failed)
    }

    /// What the resampler still holds.
    fn rest(&mut self) -> Result<()> {
        let mut blocks = Vec::new();
        self.resampler.finish(|block| blocks.extend_from_slice(block)).map_err(failed)?;
        self.encoder.push(&blocks).map_err(failed)
    }

    fn finish(mut self) -> Result<Vec<u8>> {
        self.rest()?;
        self.encoder.finish().map_err(failed)
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::new(Code::TTS_SYNTHESIS_FAILED, format!("the voice note could not be written: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(rate: u32, ms: usize) -> Audio {
        let samples: Vec<f32> = (0..rate as usize * ms / 1000).map(|n| (n as f32 * 900.0 / rate as f32).sin() * 0.3).collect();
        Audio::new(samples, rate)
    }

    fn written(chunks: &[Audio]) -> Result<Option<Vec<u8>>> {
        let (sender, receiver) = mpsc::channel();
        chunks.iter().for_each(|chunk| sender.send(chunk.clone()).unwrap());
        drop(sender);
        write(&receiver)
    }

    #[test]
    fn chunks_of_any_rate_become_one_note_of_their_length() {
        for rates in [&[16_000, 16_000][..], &[22_050, 22_050], &[44_100], &[96_000], &[8_000, 48_000, 11_025]] {
            let chunks: Vec<_> = rates.iter().map(|rate| tone(*rate, 500)).collect();
            let heard = open(&written(&chunks).unwrap().unwrap()).unwrap();
            let expected = RATE as usize * rates.len() / 2;
            assert!(heard.samples.len().abs_diff(expected) <= 2 * rates.len(), "{rates:?}: {} {expected}", heard.samples.len());
        }
        assert!(written(&[]).unwrap().is_none());
        assert_eq!(written(&[Audio::new([0.0], 0)]).unwrap_err().code(), Code::TTS_SYNTHESIS_FAILED);
    }

    #[test]
    fn what_is_no_note_is_refused() {
        let mut long =
            b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0\x01\0\xe8\x03\0\0\xe8\x03\0\0\x01\0\x08\0data\xff\xff\xff\xff".to_vec();
        long.resize(44 + 900_001, 0x80);
        for (data, expected) in [
            (&b""[..], "the voice note is neither Opus in Ogg nor WAV"),
            (b"ID3\x04music", "the voice note is neither Opus in Ogg nor WAV"),
            (b"RIFF", "voice note"),
            (&long, "the voice note is longer than 900 s"),
            (b"OggS\0\x02\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\x01\x13OpusHead", "no voice note that can be read"),
        ] {
            let error = open(data).unwrap_err();
            assert_eq!(error.code(), Code::STT_AUDIO_INVALID);
            assert!(error.message().contains(expected), "{error}");
        }
    }
}
