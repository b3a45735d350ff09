//! How likely a window is speech, from how far it stands out of the noise. It decides nothing; the
//! segmenter does, with its hysteresis.

use bespoke_audio::{dbfs, rms};

/// The noise floor at the start and the one it falls to at most and rises to at most, in dBFS. It
/// stays below −30 dBFS, so that a loud voice never becomes noise however long it lasts.
const FIRST_FLOOR: f64 = -55.0;
const LOWEST_FLOOR: f64 = -70.0;
const HIGHEST_FLOOR: f64 = -30.0;

/// Of the way down to a quieter window, the floor goes this far at once.
const FALL: f64 = 0.3;

/// The floor rises by at most so many dB a window: 3 dB a second in what sounds like noise, 0.3 dB in
/// what stands out of it.
const RISE: f64 = 0.1;
const SLOW_RISE: f64 = 0.01;

/// dB over which the probability goes from 0.27 to 0.73.
const STEEPNESS: f64 = 2.0;

/// The state: a noise floor that follows the sound.
#[derive(Debug, Clone)]
pub struct LoudnessDetector {
    snr: f64,
    floor: f64,
}

impl LoudnessDetector {
    /// A detector for which a window `snr` dB above the noise is speech with a probability of 0.5.
    pub fn new(snr: f64) -> Self {
        Self { snr, floor: FIRST_FLOOR }
    }

    /// The noise floor in dBFS.
    pub fn floor(&self) -> f64 {
        self.floor
    }

    /// Changes how far speech stands out.
    pub fn set_snr(&mut self, snr: f64) {
        self.snr = snr;
    }

    /// The probability, 0 to 1, that the next window holds speech; 0 for digital silence.
    pub fn window(&mut self, samples: &[f32]) -> f32 {
        let rms = rms(samples);
        if rms == 0.0 {
            // A muted microphone says nothing of the noise in the room.
            return 0.0;
        }
        let level = dbfs(rms);
        let above = level - self.floor;
        self.floor += if above < 0.0 {
            above * FALL
        } else if above < self.snr {
            above.min(RISE)
        } else {
            SLOW_RISE
        };
        self.floor = self.floor.clamp(LOWEST_FLOOR, HIGHEST_FLOOR);
        (1.0 / (1.0 + (-(above - self.snr) / STEEPNESS).exp())) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(amplitude: f32) -> Vec<f32> {
        (0..512).map(|i| amplitude * (i as f32 * 0.0785).sin()).collect()
    }

    #[test]
    fn the_floor_follows_noise_up_and_down_and_not_loud_speech() {
        let mut d = LoudnessDetector::new(9.0);
        let noise = sine(0.004);
        let first = d.window(&noise);
        assert!(first < 0.5, "{first}");
        for _ in 0..1_000 {
            d.window(&noise);
        }
        assert!((d.floor() - dbfs(rms(&noise))).abs() < 1.0, "{}", d.floor());
        let before = d.floor();
        for _ in 0..100 {
            assert!(d.window(&sine(0.3)) > 0.99);
        }
        assert!(d.floor() - before < 1.1);
        for _ in 0..30 {
            d.window(&sine(0.0005));
        }
        assert!(d.floor() < -65.0, "{}", d.floor());
        for _ in 0..100_000 {
            assert!(d.window(&sine(0.5)) > 0.9, "a loud voice stays a voice");
        }
    }

    #[test]
    fn digital_silence_is_zero_and_leaves_the_floor() {
        let mut d = LoudnessDetector::new(9.0);
        for _ in 0..1_000 {
            assert_eq!(d.window(&[0.0; 512]), 0.0);
        }
        assert_eq!(d.floor(), FIRST_FLOOR);
        assert_eq!(d.window(&[]), 0.0);
    }
}
