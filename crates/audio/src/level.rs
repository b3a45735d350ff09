//! Root mean square and decibels of a block of samples. No state, no smoothing.

/// The root mean square of `samples`, accumulated in `f64` so that no amplitude overflows.
///
/// Full scale is 1.0: a sine of amplitude `a` has an RMS of `a / √2`. Samples that are not finite
/// count as zero; an empty block has an RMS of 0.
pub fn rms(samples: &[f32]) -> f64 {
    if samples.is_empty() {
        return 0.0;
    }
    let sum: f64 = samples.iter().filter(|s| s.is_finite()).map(|&s| f64::from(s) * f64::from(s)).sum();
    (sum / samples.len() as f64).sqrt()
}

/// An RMS in decibels relative to full scale; 0 gives negative infinity.
pub fn dbfs(rms: f64) -> f64 {
    20.0 * rms.log10()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loud_sines_have_their_true_rms() {
        for amplitude in [10_000.0_f64, 20_000.0, 32_767.0] {
            let a = amplitude / 32_768.0;
            let sine: Vec<f32> =
                (0..16_000).map(|i| (a * (2.0 * std::f64::consts::PI * 200.0 * f64::from(i) / 16_000.0).sin()) as f32).collect();
            assert!((rms(&sine) - a / 2.0_f64.sqrt()).abs() < 1e-6, "{amplitude}");
        }
    }

    #[test]
    fn nothing_silence_and_broken_samples_are_numbers() {
        assert_eq!(rms(&[]), 0.0);
        assert_eq!(rms(&[0.0; 8]), 0.0);
        assert_eq!(rms(&[f32::NAN, f32::INFINITY, 1.0, 0.0]), 0.5);
        assert_eq!(dbfs(0.0), f64::NEG_INFINITY);
        assert_eq!(dbfs(0.1), -20.0);
    }
}
