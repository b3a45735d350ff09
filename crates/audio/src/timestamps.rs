//! Where speech is in a whole recording: silero-vad's `get_speech_timestamps`, from probabilities to
//! ranges of samples. No model and no stream.

use std::ops::Range;

/// How recordings are cut. [`Default`] is what silero-vad 6.2 uses.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct TimestampOptions {
    /// A window is speech from this probability on; default 0.5.
    pub threshold: f64,
    /// Below this one it is silence; `None` is threshold − 0.15, at least 0.01.
    pub neg_threshold: Option<f64>,
    /// Speech must be longer than this, in milliseconds; default 250.
    pub min_speech_ms: f64,
    /// Longer speech is cut at its longest silence, in seconds; default infinity.
    pub max_speech_s: f64,
    /// Shorter silence does not end speech, in milliseconds; default 100.
    pub min_silence_ms: f64,
    /// Added on either side, in milliseconds; default 30. A gap that is too short is shared.
    pub speech_pad_ms: f64,
    /// Where speech that is too long may be cut: silence longer than this, in milliseconds; default 98.
    pub min_silence_at_max_speech_ms: f64,
    /// Cut speech that is too long at its longest silence (default) instead of at its last one.
    pub use_longest_silence: bool,
}

impl Default for TimestampOptions {
    fn default() -> Self {
        Self {
            threshold: 0.5,
            neg_threshold: None,
            min_speech_ms: 250.0,
            max_speech_s: f64::INFINITY,
            min_silence_ms: 100.0,
            speech_pad_ms: 30.0,
            min_silence_at_max_speech_ms: 98.0,
            use_longest_silence: true,
        }
    }
}

/// The ranges of speech, in samples at `rate` Hz, of a recording of `length` samples with one
/// probability per `window` samples. They are in order and do not overlap.
pub fn speech_timestamps(probabilities: &[f32], length: u64, rate: u32, window: u32, options: &TimestampOptions) -> Vec<Range<u64>> {
    let mut cutter = Cutter::new(rate, window, options);
    for (index, &probability) in probabilities.iter().enumerate() {
        let sample = index as u64 * u64::from(window);
        cutter.window(sample, f64::from(probability));
    }
    let speeches = cutter.finish(length);
    pad(speeches, length, cutter.milliseconds(options.speech_pad_ms))
}

struct Cutter<'a> {
    options: &'a TimestampOptions,
    rate: f64,
    window: f64,
    neg_threshold: f64,
    speeches: Vec<Range<u64>>,
    /// Start of the speech going on.
    start: Option<u64>,
    /// Where the silence going on began; 0 is "none", as in the original.
    silence_from: u64,
    /// Where speech that is too long could be cut: the last silence, and where speech went on.
    previous_end: u64,
    next_start: u64,
    /// Silences within the speech going on: where and how long.
    silences: Vec<(u64, u64)>,
}

impl<'a> Cutter<'a> {
    fn new(rate: u32, window: u32, options: &'a TimestampOptions) -> Self {
        Self {
            options,
            rate: f64::from(rate),
            window: f64::from(window),
            neg_threshold: options.neg_threshold.unwrap_or_else(|| (options.threshold - 0.15).max(0.01)),
            speeches: Vec::new(),
            start: None,
            silence_from: 0,
            previous_end: 0,
            next_start: 0,
            silences: Vec::new(),
        }
    }

    fn milliseconds(&self, ms: f64) -> f64 {
        self.rate * ms / 1000.0
    }

    fn window(&mut self, sample: u64, probability: f64) {
        let is_speech = probability >= self.options.threshold;
        if is_speech && self.silence_from != 0 {
            let silence = sample - self.silence_from;
            if silence as f64 > self.milliseconds(self.options.min_silence_at_max_speech_ms) {
                self.silences.push((self.silence_from, silence));
            }
            self.silence_from = 0;
            if self.next_start < self.previous_end {
                self.next_start = sample;
            }
        }
        let Some(start) = self.start else {
            if is_speech {
                self.start = Some(sample);
            }
            return;
        };
        let max = self.rate * self.options.max_speech_s - self.window - 2.0 * self.milliseconds(self.options.speech_pad_ms);
        if (sample - start) as f64 > max && !self.cut(start, sample) {
            return;
        }
        if probability < self.neg_threshold && self.start.is_some() {
            self.silent(sample);
        }
    }

    /// Cuts speech that is too long; false when the window is used up by it.
    fn cut(&mut self, start: u64, sample: u64) -> bool {
        // The first of the longest, as Python's `max` picks it.
        let longest = self.silences.iter().copied().reduce(|a, b| if b.1 > a.1 { b } else { a });
        let (end, goes_on_at) = match longest {
            Some((end, silence)) if self.options.use_longest_silence => (end, Some(end + silence)),
            _ if self.previous_end != 0 => (self.previous_end, Some(self.next_start).filter(|&next| next >= self.previous_end)),
            _ => {
                self.speeches.push(start..sample);
                self.forget();
                return false;
            }
        };
        self.speeches.push(start..end);
        self.forget();
        self.start = goes_on_at;
        true
    }

    fn silent(&mut self, sample: u64) {
        if self.silence_from == 0 {
            self.silence_from = sample;
        }
        let silence = (sample - self.silence_from) as f64;
        if !self.options.use_longest_silence && silence > self.milliseconds(self.options.min_silence_at_max_speech_ms) {
            self.previous_end = self.silence_from;
        }
        if silence < self.milliseconds(self.options.min_silence_ms) {
            return;
        }
        let end = self.silence_from;
        if let Some(start) = self.start {
            self.keep(start, end);
        }
        self.forget();
    }

    fn finish(&mut self, length: u64) -> Vec<Range<u64>> {
        if let Some(start) = self.start {
            self.keep(start, length);
        }
        std::mem::take(&mut self.speeches)
    }

    fn keep(&mut self, start: u64, end: u64) {
        if end.saturating_sub(start) as f64 > self.milliseconds(self.options.min_speech_ms) {
            self.speeches.push(start..end);
        }
    }

    fn forget(&mut self) {
        self.start = None;
        self.silence_from = 0;
        self.previous_end = 0;
        self.next_start = 0;
        self.silences.clear();
    }
}

/// Widens every range by `padding` samples; two that would meet share the gap.
fn pad(mut speeches: Vec<Range<u64>>, length: u64, padding: f64) -> Vec<Range<u64>> {
    let back = |sample: u64| (sample as f64 - padding).max(0.0) as u64;
    let on = |sample: u64| (sample as f64 + padding).min(length as f64) as u64;
    if let Some(first) = speeches.first_mut() {
        first.start = back(first.start);
    }
    for i in 1..speeches.len() {
        let gap = speeches[i].start - speeches[i - 1].end;
        if (gap as f64) < 2.0 * padding {
            speeches[i - 1].end += gap / 2;
            speeches[i].start -= gap / 2;
        } else {
            speeches[i - 1].end = on(speeches[i - 1].end);
            speeches[i].start = back(speeches[i].start);
        }
    }
    if let Some(last) = speeches.last_mut() {
        last.end = on(last.end);
    }
    speeches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pattern: &[(f32, usize)], options: &TimestampOptions) -> Vec<Range<u64>> {
        let probabilities: Vec<f32> = pattern.iter().flat_map(|&(p, n)| std::iter::repeat_n(p, n)).collect();
        speech_timestamps(&probabilities, probabilities.len() as u64 * 512, 16_000, 512, options)
    }

    #[test]
    fn short_speech_is_dropped_and_short_silence_bridged() {
        let options = TimestampOptions::default();
        // 7 windows are 224 ms; the end is found where silence began.
        assert_eq!(cut(&[(0.0, 10), (1.0, 7), (0.0, 10)], &options), []);
        assert_eq!(cut(&[(0.0, 10), (1.0, 10), (0.0, 10)], &options), vec![10 * 512 - 480..20 * 512 + 480; 1]);
        assert_eq!(cut(&[(1.0, 10), (0.0, 3), (1.0, 10)], &options), vec![0..23 * 512; 1]);
        assert_eq!(cut(&[], &options), []);
    }

    // The expected ranges come from silero-vad 6.2.3 itself.
    #[test]
    fn long_speech_is_cut_as_the_original_cuts_it() {
        let pattern = [(1.0, 40), (0.0, 4), (1.0, 20), (0.0, 6), (1.0, 50), (0.2, 3), (1.0, 100)];
        let longest = TimestampOptions { max_speech_s: 2.0, min_silence_ms: 300.0, ..TimestampOptions::default() };
        assert_eq!(cut(&pattern, &longest), LONGEST);
        let last = TimestampOptions { use_longest_silence: false, ..longest };
        assert_eq!(cut(&pattern, &last), LAST);
    }

    const LONGEST: [Range<u64>; 5] = [0..20_960, 22_048..33_248, 35_360..66_816, 66_816..98_048, 98_048..114_176];
    const LAST: [Range<u64>; 5] = [0..30_976, 30_976..33_248, 35_360..66_816, 66_816..98_048, 98_048..114_176];
}
