//! Chooses the next token from the logits. Deterministic: equal options, seed and logits give equal tokens.

use std::hash::{BuildHasher, RandomState};

use crate::error::{Error, Result};
use crate::ops::exp;

/// How the next token is chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// 0.0 takes the likeliest token; up to 2.0 flattens the odds.
    pub temperature: f32,
    /// Only the so many likeliest tokens; 0 for all.
    pub top_k: usize,
    /// Only the likeliest tokens that together reach this probability, 0.0–1.0; 1.0 for all.
    pub top_p: f32,
    /// Only tokens at least so likely relative to the likeliest, 0.0–1.0; 0.0 for all.
    pub min_p: f32,
    /// Divides the odds of tokens that the answer already has, 1.0 (off) to 2.0. The prompt does not count: an answer
    /// must be free to name what was asked about.
    pub repeat_penalty: f32,
    /// How many of the last tokens of the answer the penalty looks at.
    pub repeat_window: usize,
    /// Makes sampling repeatable; a random one when absent. Without effect at temperature 0.
    pub seed: Option<u64>,
}

impl Default for Sampling {
    /// The likeliest token, with a penalty that stops loops and was measured to keep facts right.
    fn default() -> Self {
        Self { temperature: 0.0, top_k: 40, top_p: 0.95, min_p: 0.05, repeat_penalty: 1.1, repeat_window: 64, seed: None }
    }
}

impl Sampling {
    /// Checks that every option is in its range.
    ///
    /// # Errors
    /// [`Error::Option`] names the option, its value and the range.
    pub fn check(&self) -> Result<()> {
        let within = |option, value: f32, range: std::ops::RangeInclusive<f32>, text| {
            if range.contains(&value) { Ok(()) } else { Err(Error::Option { option, value: value.to_string(), range: text }) }
        };
        within("temperature", self.temperature, 0.0..=2.0, "0.0 to 2.0")?;
        within("top_p", self.top_p, 0.0..=1.0, "0.0 to 1.0")?;
        within("min_p", self.min_p, 0.0..=1.0, "0.0 to 1.0")?;
        within("repeat_penalty", self.repeat_penalty, 1.0..=2.0, "1.0 to 2.0")
    }
}

/// The sampler of one answer.
pub struct Sampler {
    sampling: Sampling,
    state: u64,
    odds: Vec<(f32, u32)>,
}

impl Sampler {
    /// A sampler at the start of its random sequence.
    pub fn new(sampling: Sampling) -> Self {
        let state = sampling.seed.unwrap_or_else(|| RandomState::new().hash_one(0));
        Self { sampling, state, odds: Vec::new() }
    }

    /// The next token behind `answer`, the tokens so far. Works on `logits` in place; they must not be empty.
    pub fn next(&mut self, logits: &mut [f32], answer: &[u32]) -> u32 {
        self.penalise(logits, answer);
        if self.sampling.temperature <= 0.0 {
            return likeliest(logits);
        }
        self.odds.clear();
        self.odds.extend(logits.iter().copied().zip(0..));
        let descending = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        let k = self.sampling.top_k;
        if (1..self.odds.len()).contains(&k) {
            self.odds.select_nth_unstable_by(k - 1, descending);
            self.odds.truncate(k);
        }
        self.odds.sort_unstable_by(descending);
        let largest = self.odds[0].0;
        let mut total = 0.0;
        for (odd, _) in &mut self.odds {
            *odd = exp((*odd - largest) / self.sampling.temperature);
            total += *odd;
        }
        let (mut kept, mut sum) = (0, 0.0);
        for (odd, _) in &self.odds {
            // The likeliest always stays; its odds are 1 before normalising.
            if kept > 0 && (*odd < self.sampling.min_p || sum >= self.sampling.top_p * total) {
                break;
            }
            sum += odd;
            kept += 1;
        }
        let mut left = self.random() * sum;
        for (odd, token) in &self.odds[..kept] {
            left -= odd;
            if left < 0.0 {
                return *token;
            }
        }
        self.odds[kept - 1].1
    }

    fn penalise(&self, logits: &mut [f32], answer: &[u32]) {
        let window = &answer[answer.len().saturating_sub(self.sampling.repeat_window)..];
        for (i, token) in window.iter().enumerate() {
            let seen = window[..i].contains(token);
            if let Some(logit) = logits.get_mut(*token as usize).filter(|_| !seen) {
                let p = self.sampling.repeat_penalty;
                *logit = if *logit > 0.0 { *logit / p } else { *logit * p };
            }
        }
    }

    /// Uniform in 0.0..1.0: SplitMix64 (Steele, Lea, Flood 2014).
    fn random(&mut self) -> f32 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32
    }
}

fn likeliest(logits: &[f32]) -> u32 {
    let mut best = (f32::NEG_INFINITY, 0);
    for (logit, token) in logits.iter().copied().zip(0..) {
        if logit > best.0 {
            best = (logit, token);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(sampling: &Sampling, count: usize) -> Vec<u32> {
        let mut sampler = Sampler::new(sampling.clone());
        (0..count).map(|_| sampler.next(&mut [1.0, 3.0, 2.0, -1.0, 2.5], &[])).collect()
    }

    #[test]
    fn zero_temperature_takes_the_likeliest_and_ties_take_the_first() {
        assert_eq!(draw(&Sampling::default(), 3), [1, 1, 1]);
        assert_eq!(likeliest(&[0.5, 2.0, 2.0]), 1);
        assert_eq!(likeliest(&[f32::NAN, 1.0]), 1);
    }

    #[test]
    fn a_seed_repeats_and_another_seed_differs() {
        let seeded = |seed| Sampling { temperature: 1.5, min_p: 0.0, top_p: 1.0, seed: Some(seed), ..Sampling::default() };
        assert_eq!(draw(&seeded(7), 50), draw(&seeded(7), 50));
        assert_ne!(draw(&seeded(7), 50), draw(&seeded(8), 50));
    }

    #[test]
    fn each_filter_keeps_what_it_says() {
        let hot = Sampling { temperature: 2.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: Some(1), ..Sampling::default() };
        let kinds = |sampling: &Sampling| {
            let mut all = draw(sampling, 400);
            all.sort_unstable();
            all.dedup();
            all
        };
        assert_eq!(kinds(&hot), [0, 1, 2, 3, 4]);
        assert_eq!(kinds(&Sampling { top_k: 2, ..hot.clone() }), [1, 4]);
        assert_eq!(kinds(&Sampling { top_p: 0.3, ..hot.clone() }), [1]);
        // Relative to the likeliest at temperature 2: 1, 0.78, 0.61, 0.37, 0.14.
        assert_eq!(kinds(&Sampling { min_p: 0.5, ..hot }), [1, 2, 4]);
    }

    #[test]
    fn the_penalty_moves_the_choice_only_inside_its_window() {
        let sampling = Sampling { repeat_penalty: 2.0, repeat_window: 2, ..Sampling::default() };
        let mut sampler = Sampler::new(sampling);
        assert_eq!(sampler.next(&mut [3.0, 2.0], &[0]), 1);
        assert_eq!(sampler.next(&mut [3.0, 2.0], &[0, 0]), 1);
        assert_eq!(sampler.next(&mut [3.0, 2.0, 0.0], &[0, 2, 2]), 0);
    }

    #[test]
    fn options_out_of_range_are_named() {
        let error = Sampling { temperature: f32::NAN, ..Sampling::default() }.check().unwrap_err();
        assert_eq!(error.to_string(), "temperature = NaN is out of range: 0.0 to 2.0");
        assert!(Sampling { repeat_penalty: 0.5, ..Sampling::default() }.check().is_err());
        assert!(Sampling::default().check().is_ok());
    }
}
