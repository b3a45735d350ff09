//! Speech in a stream the way silero-vad's `VADIterator` reports it: a start or an end per window, at
//! most. A pure state machine over probabilities.

/// How the stream is cut. [`Default`] is what silero-vad 6.2 uses.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct IteratorOptions {
    /// A window is speech from this probability on, silence from 0.15 below it; default 0.5.
    pub threshold: f64,
    /// Shorter silence does not end speech, in milliseconds; default 100.
    pub min_silence_ms: f64,
    /// Added on either side, in milliseconds; default 30.
    pub speech_pad_ms: f64,
}

impl Default for IteratorOptions {
    fn default() -> Self {
        Self { threshold: 0.5, min_silence_ms: 100.0, speech_pad_ms: 30.0 }
    }
}

/// A border of speech, in samples from the start of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Border {
    /// Speech starts at this sample.
    Start(u64),
    /// Speech ended at this sample.
    End(u64),
}

/// The state machine; one per stream.
#[derive(Debug, Clone)]
pub struct SpeechIterator {
    options: IteratorOptions,
    rate: u32,
    window: u32,
    /// End of the last window.
    sample: u64,
    speaking: bool,
    /// End of the first silent window of the silence going on.
    silence_from: Option<u64>,
}

impl SpeechIterator {
    /// A stream of windows of `window` samples at `rate` Hz.
    pub fn new(rate: u32, window: u32, options: IteratorOptions) -> Self {
        Self { options, rate, window, sample: 0, speaking: false, silence_from: None }
    }

    /// End of the last window, in samples.
    pub fn sample(&self) -> u64 {
        self.sample
    }

    /// Takes the probability of the next window.
    pub fn push(&mut self, probability: f32) -> Option<Border> {
        let probability = f64::from(probability);
        let window = f64::from(self.window);
        let samples = |ms: f64| f64::from(self.rate) * ms / 1000.0;
        let padding = samples(self.options.speech_pad_ms);
        self.sample += u64::from(self.window);
        if probability >= self.options.threshold {
            self.silence_from = None;
            if self.speaking {
                return None;
            }
            self.speaking = true;
            return Some(Border::Start((self.sample as f64 - padding - window).max(0.0) as u64));
        }
        // No floor of 0.01 here, unlike the function for whole recordings; the original differs so too.
        if !self.speaking || probability >= self.options.threshold - 0.15 {
            return None;
        }
        let from = *self.silence_from.get_or_insert(self.sample);
        if ((self.sample - from) as f64) < samples(self.options.min_silence_ms) {
            return None;
        }
        self.silence_from = None;
        self.speaking = false;
        Some(Border::End((from as f64 + padding - window).max(0.0) as u64))
    }
}
