//! A recording of any rate and length to its text: resampled, cut at pauses, transcribed stretch by stretch. It blocks;
//! who calls it from where is decided elsewhere.

use std::borrow::Cow;
use std::ops::Range;

use crate::engine::{Engine, SAMPLE_RATE};
use crate::error::EngineError;
use crate::pauses::stretches;

/// What was said in a stretch of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Where, in samples of the recording itself.
    pub range: Range<usize>,
    /// What. Never blank.
    pub text: String,
}

/// Writes down a recording, mono at `rate` Hz. Silence and noise give nothing.
///
/// # Errors
///
/// A sample is not finite, the rate is none, the call was cancelled, or the model failed.
pub fn transcribe(engine: &Engine, audio: &[f32], rate: u32, cancelled: &dyn Fn() -> bool) -> Result<Vec<Heard>, EngineError> {
    if let Some(index) = audio.iter().position(|s| !s.is_finite()) {
        return Err(EngineError::NotFinite { index });
    }
    let audio = match rate {
        SAMPLE_RATE => Cow::Borrowed(audio),
        _ => Cow::Owned(bespoke_audio::resample(audio, rate, SAMPLE_RATE)?),
    };
    let mut heard = Vec::new();
    for stretch in stretches(&audio) {
        let text = engine.recognise(&loud_enough(&audio[stretch.clone()]), cancelled)?;
        if !text.is_empty() {
            heard.push(Heard { range: at_rate(stretch.start, rate)..at_rate(stretch.end, rate), text });
        }
    }
    Ok(heard)
}

/// All of it in one line.
pub fn joined(heard: &[Heard]) -> String {
    heard.iter().map(|h| h.text.as_str()).collect::<Vec<_>>().join(" ")
}

/// Speech far below full scale is raised: at a fiftieth of its level, telephone speech in office noise came back with
/// words that nobody said.
fn loud_enough(speech: &[f32]) -> Cow<'_, [f32]> {
    const QUIET: f32 = 0.1;
    const RAISED: f32 = 0.5;
    let peak = speech.iter().fold(0.0_f32, |peak, s| peak.max(s.abs()));
    if peak >= QUIET || peak == 0.0 {
        return Cow::Borrowed(speech);
    }
    speech.iter().map(|s| s * (RAISED / peak)).collect()
}

/// A sample number at the model's rate, counted at another.
fn at_rate(sample: usize, rate: u32) -> usize {
    (sample as u64 * u64::from(rate) / u64::from(SAMPLE_RATE)) as usize
}
