//! From one speech probability per window to start and end of speech: the state machine of the
//! LiveKit agents' Silero plugin (its options, defaults and arithmetic). No clock, no audio, no model.
//!
//! **Invariant:** the result depends on the sequence of probabilities alone.

use std::ops::Range;
use std::time::Duration;

/// When speech starts and ends. [`Default`] is what the LiveKit Silero plugin 1.8 uses.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct SpeechOptions {
    /// Speech must last this long before it starts; default 50 ms, which is two windows of 32 ms.
    pub min_speech: Duration,
    /// Silence must last this long before speech ends; default 550 ms.
    pub min_silence: Duration,
    /// How much sound before the speech belongs to it; default 500 ms.
    pub prefix_padding: Duration,
    /// The longest utterance kept, beside the prefix; default 60 s. What comes after is dropped.
    pub max_buffered_speech: Duration,
    /// A window is speech from this probability on; default 0.5.
    pub activation_threshold: f64,
    /// While speaking, a window stays speech above this probability; default activation − 0.15,
    /// at least 0.01.
    pub deactivation_threshold: f64,
    /// Weight of the past in the exponential filter over the probabilities, 0 (no filter) to below
    /// 1; default 0.35. The first probability is taken as it is.
    pub smoothing: f64,
}

impl Default for SpeechOptions {
    fn default() -> Self {
        Self {
            min_speech: Duration::from_millis(50),
            min_silence: Duration::from_millis(550),
            prefix_padding: Duration::from_millis(500),
            max_buffered_speech: Duration::from_secs(60),
            activation_threshold: 0.5,
            deactivation_threshold: Self::deactivation_for(0.5),
            smoothing: 0.35,
        }
    }
}

impl SpeechOptions {
    /// The deactivation threshold that goes with an activation threshold when none is given.
    pub fn deactivation_for(activation: f64) -> f64 {
        (activation - 0.15).max(0.01)
    }

    /// Whether every value is in its range.
    ///
    /// # Errors
    /// Names the first option that is not.
    pub fn check(&self) -> Result<(), SpeechOptionsError> {
        let ranges = [
            (
                "activation_threshold",
                self.activation_threshold,
                self.activation_threshold > 0.0 && self.activation_threshold <= 1.0,
                "above 0, at most 1",
            ),
            (
                "deactivation_threshold",
                self.deactivation_threshold,
                self.deactivation_threshold > 0.0 && self.deactivation_threshold <= self.activation_threshold,
                "above 0, at most the activation threshold",
            ),
            ("smoothing", self.smoothing, (0.0..1.0).contains(&self.smoothing), "from 0 to below 1"),
        ];
        match ranges.into_iter().find(|(_, _, ok, _)| !ok) {
            Some((option, value, _, range)) => Err(SpeechOptionsError { option, value, range }),
            None => Ok(()),
        }
    }
}

/// An option out of its range.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{option} = {value} is out of range; it must be {range}")]
pub struct SpeechOptionsError {
    /// Which option.
    pub option: &'static str,
    /// The value that was given.
    pub value: f64,
    /// What is allowed, in words.
    pub range: &'static str,
}

/// Which border of speech.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpeechEdge {
    /// Speech has started.
    Start,
    /// Speech has ended.
    End,
}

/// A border of speech. Samples count in the rate of the input, from the start of the stream.
#[derive(Debug, Clone, PartialEq)]
pub struct SpeechEvent {
    /// Start or end.
    pub edge: SpeechEdge,
    /// The end of the window that decided it.
    pub sample: u64,
    /// The same in seconds.
    pub timestamp: f64,
    /// Seconds of speech so far; at the end without the trailing silence.
    pub speech: f64,
    /// Seconds of silence that ended the speech; 0 at the start.
    pub silence: f64,
    /// Where the speech itself ended: the end of its last window above the threshold. At the start,
    /// the end of the window that started it, as `sample`.
    pub last_speech: u64,
    /// The sound that belongs to this speech: prefix, speech, and at the end the silence.
    pub span: Range<u64>,
    /// Whether the speech was longer than the buffer, so that `span` stops before `sample`.
    pub truncated: bool,
}

/// What one window did.
#[derive(Debug, Clone, PartialEq)]
pub struct SpeechWindow {
    /// End of this window in samples of the input.
    pub sample: u64,
    /// The smoothed probability that was decided on.
    pub probability: f64,
    /// Whether speech was going on before this window.
    pub was_speaking: bool,
    /// Seconds of the speech going on, 0 when there is none; counted before this window decides.
    pub speech: f64,
    /// Seconds of the silence going on; likewise.
    pub silence: f64,
    /// The border of speech that this window brought.
    pub event: Option<SpeechEvent>,
    /// Set once per utterance: [`SpeechOptions::max_buffered_speech`] is reached.
    pub overflowed: bool,
}

/// The state machine; one per stream.
#[derive(Debug, Clone)]
pub struct SpeechDetector {
    options: SpeechOptions,
    input_rate: u32,
    model_rate: u32,
    window: u32,
    windows: u64,
    timestamp: f64,
    filtered: Option<f64>,
    speaking: bool,
    speech: f64,
    silence: f64,
    speech_run: f64,
    silence_run: f64,
    last_speech: u64,
    buffer: Buffer,
}

impl SpeechDetector {
    /// A detector for windows of `window` samples at `model_rate`, of an input at `input_rate`.
    ///
    /// Both rates and the window must not be zero; zero is taken as one.
    pub fn new(options: SpeechOptions, input_rate: u32, model_rate: u32, window: u32) -> Self {
        Self {
            options,
            input_rate: input_rate.max(1),
            model_rate: model_rate.max(1),
            window: window.max(1),
            windows: 0,
            timestamp: 0.0,
            filtered: None,
            speaking: false,
            speech: 0.0,
            silence: 0.0,
            speech_run: 0.0,
            silence_run: 0.0,
            last_speech: 0,
            buffer: Buffer::default(),
        }
    }

    /// The options in force.
    pub fn options(&self) -> &SpeechOptions {
        &self.options
    }

    /// Changes the options of a running stream; speech that is going on goes on.
    pub fn set_options(&mut self, options: SpeechOptions) {
        self.options = options;
    }

    /// Whether speech is going on.
    pub fn speaking(&self) -> bool {
        self.speaking
    }

    /// Forgets everything; the next window is the first.
    pub fn reset(&mut self) {
        *self = Self::new(self.options, self.input_rate, self.model_rate, self.window);
    }

    /// Takes the probability of the next window, 0 to 1; what is not a number counts as 0.
    pub fn push(&mut self, probability: f32) -> SpeechWindow {
        let raw = if probability.is_finite() { f64::from(probability) } else { 0.0 };
        let alpha = self.options.smoothing;
        let p = self.filtered.map_or(raw, |past| alpha * past + (1.0 - alpha) * raw);
        self.filtered = Some(p);

        let before = self.sample();
        self.windows += 1;
        let sample = self.sample();
        let seconds = f64::from(self.window) / f64::from(self.model_rate);
        self.timestamp += seconds;
        let capacity = self.samples(self.options.max_buffered_speech) + self.prefix();
        let overflowed = self.buffer.append(sample - before, capacity);

        let was_speaking = self.speaking;
        if was_speaking {
            self.speech += seconds;
        } else {
            self.silence += seconds;
        }
        let (speech, silence) = (self.speech, self.silence);

        let is_speech = p >= self.options.activation_threshold || (was_speaking && p > self.options.deactivation_threshold);
        let event = if is_speech { self.speech_window(sample, seconds) } else { self.silent_window(sample, seconds) };
        SpeechWindow { sample, probability: p, was_speaking, speech, silence, event, overflowed }
    }

    fn speech_window(&mut self, sample: u64, seconds: f64) -> Option<SpeechEvent> {
        self.speech_run += seconds;
        self.silence_run = 0.0;
        self.last_speech = sample;
        if self.speaking || self.speech_run < self.options.min_speech.as_secs_f64() {
            return None;
        }
        self.speaking = true;
        self.silence = 0.0;
        self.speech = self.speech_run;
        Some(self.event(SpeechEdge::Start, sample, self.speech))
    }

    fn silent_window(&mut self, sample: u64, seconds: f64) -> Option<SpeechEvent> {
        self.silence_run += seconds;
        self.speech_run = 0.0;
        let mut event = None;
        if self.speaking {
            if self.silence_run < self.options.min_silence.as_secs_f64() {
                return None;
            }
            self.speaking = false;
            self.silence = self.silence_run;
            event = Some(self.event(SpeechEdge::End, sample, (self.speech - self.silence_run).max(0.0)));
            self.speech = 0.0;
        }
        self.buffer.keep_last(sample, self.prefix());
        event
    }

    fn event(&self, edge: SpeechEdge, sample: u64, speech: f64) -> SpeechEvent {
        SpeechEvent {
            edge,
            sample,
            timestamp: self.timestamp,
            speech,
            silence: self.silence,
            last_speech: self.last_speech,
            span: self.buffer.start..self.buffer.start + self.buffer.len,
            truncated: self.buffer.full,
        }
    }

    /// Samples of the input that the windows so far stand for; whole numbers, so that a fractional
    /// ratio never drifts.
    fn sample(&self) -> u64 {
        let at_model = u128::from(self.windows) * u128::from(self.window);
        let at_input = at_model * u128::from(self.input_rate) / u128::from(self.model_rate);
        u64::try_from(at_input).unwrap_or(u64::MAX)
    }

    fn prefix(&self) -> u64 {
        self.samples(self.options.prefix_padding)
    }

    fn samples(&self, duration: Duration) -> u64 {
        (duration.as_secs_f64() * f64::from(self.input_rate)) as u64
    }
}

/// What the buffer of the utterance would hold, as sample numbers; the sound itself is the caller's.
#[derive(Debug, Clone, Default)]
struct Buffer {
    start: u64,
    len: u64,
    full: bool,
}

impl Buffer {
    /// Appends one window; true when this is the first that did not fit.
    fn append(&mut self, samples: u64, capacity: u64) -> bool {
        let fitting = samples.min(capacity.saturating_sub(self.len));
        // Once full, later windows must not be appended behind the gap.
        let fitting = if self.full { 0 } else { fitting };
        self.len += fitting;
        let overflowed = fitting < samples && !self.full;
        self.full |= overflowed;
        overflowed
    }

    /// Keeps what the next speech may need: the last `prefix` samples before `sample`.
    fn keep_last(&mut self, sample: u64, prefix: u64) {
        if self.len > prefix || self.full {
            *self = Self { start: sample.saturating_sub(prefix), len: prefix.min(sample), full: false };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detector(options: SpeechOptions) -> SpeechDetector {
        SpeechDetector::new(options, 16_000, 16_000, 512)
    }

    fn events(detector: &mut SpeechDetector, probabilities: impl IntoIterator<Item = f32>) -> Vec<SpeechEvent> {
        probabilities.into_iter().filter_map(|p| detector.push(p).event).collect()
    }

    #[test]
    fn two_windows_start_and_eighteen_end() {
        let mut d = detector(SpeechOptions::default());
        let found = events(&mut d, [0.0; 40].into_iter().chain([1.0; 30]).chain([0.0; 40]));
        assert_eq!(found.len(), 2);
        // One window for the filter to pass 0.5 (0.65), the second makes 64 ms ≥ 50 ms.
        assert_eq!((found[0].edge, found[0].sample), (SpeechEdge::Start, 42 * 512));
        assert_eq!(found[0].speech, 0.064);
        // The prefix of 8000 samples and the two windows: 9024, as the LiveKit plugin sends.
        assert_eq!(found[0].span, 42 * 512 - 9_024..42 * 512);
        // The filter falls to 0.35 (exclusive) in the first silent window, and 18 × 32 ms ≥ 550 ms.
        assert_eq!((found[1].edge, found[1].sample), (SpeechEdge::End, 88 * 512));
        assert_eq!(found[1].last_speech, 70 * 512);
        assert!((found[1].silence - 0.576).abs() < 1e-9);
        assert!(!found[1].truncated);
    }

    #[test]
    fn speech_open_at_the_end_has_no_end_event() {
        let mut d = detector(SpeechOptions::default());
        assert_eq!(events(&mut d, [1.0; 20]).len(), 1);
        assert!(d.speaking());
        d.reset();
        assert!(!d.speaking());
    }

    #[test]
    fn nothing_comes_from_silence_or_from_no_numbers() {
        let mut d = detector(SpeechOptions::default());
        assert!(events(&mut d, [0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY].into_iter().cycle().take(400)).is_empty());
        assert!(d.push(0.1).probability.is_finite());
    }

    #[test]
    fn sample_numbers_of_odd_rates_do_not_drift() {
        let mut d = SpeechDetector::new(SpeechOptions::default(), 44_100, 16_000, 512);
        let mut last = 0;
        for _ in 0..100_000 {
            let window = d.push(0.0);
            assert!((1_411..=1_412).contains(&(window.sample - last)));
            last = window.sample;
        }
        assert_eq!(last, 100_000 * 512 * 441 / 160);
    }

    #[test]
    fn a_full_buffer_says_so_once_and_recovers() {
        let options = SpeechOptions { max_buffered_speech: Duration::from_secs(1), ..SpeechOptions::default() };
        let mut d = detector(options);
        let overflows = (0..100).filter(|_| d.push(1.0).overflowed).count();
        assert_eq!(overflows, 1);
        let end = events(&mut d, [0.0; 20]).pop().expect("speech ends");
        assert!(end.truncated);
        assert_eq!(end.span, 0..24_000);
        let next = events(&mut d, [1.0; 2]).pop().expect("speech starts again");
        assert!(!next.truncated);
        assert_eq!(next.span.end, next.sample);
    }

    #[test]
    fn options_out_of_range_are_named() {
        let bad = SpeechOptions { deactivation_threshold: 0.0, ..SpeechOptions::default() };
        assert_eq!(bad.check().expect_err("zero").option, "deactivation_threshold");
        let bad = SpeechOptions { activation_threshold: f64::NAN, ..SpeechOptions::default() };
        assert_eq!(bad.check().expect_err("nan").option, "activation_threshold");
        assert_eq!(SpeechOptions::default().check(), Ok(()));
    }
}
