//! Samples on the wire: f32, little endian, copied into an aligned buffer that its owner reuses. Never cast in place.

use bespoke_plugin_api::{Error, Result};

/// Appends samples as bytes.
pub fn put_samples(out: &mut Vec<u8>, samples: &[f32]) {
    let start = out.len();
    out.resize(start + samples.len() * 4, 0);
    for (bytes, sample) in out[start..].as_chunks_mut::<4>().0.iter_mut().zip(samples) {
        *bytes = sample.to_le_bytes();
    }
}

/// Replaces `samples` by those in `bytes`.
///
/// # Errors
/// `INVALID_PARAMS` when `bytes` is no whole number of samples.
pub fn read_samples(bytes: &[u8], samples: &mut Vec<f32>) -> Result<()> {
    let (whole, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(Error::invalid_params(format!("{} bytes are no whole number of f32 samples", bytes.len())));
    }
    samples.clear();
    samples.extend(whole.iter().map(|b| f32::from_le_bytes(*b)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_pattern_arrives() {
        let sent = [0.0, -0.0, 1.0, f32::MIN_POSITIVE / 2.0, f32::INFINITY, f32::from_bits(0x7fc0_1234), f32::MAX];
        let (mut bytes, mut got) = (vec![9], vec![5.0]);
        put_samples(&mut bytes, &sent);
        read_samples(&bytes[1..], &mut got).unwrap();
        assert_eq!(got.iter().map(|s| s.to_bits()).collect::<Vec<_>>(), sent.map(f32::to_bits));
    }

    #[test]
    fn half_a_sample_is_an_error() {
        assert!(read_samples(&[0; 5], &mut Vec::new()).unwrap_err().message().contains("5 bytes"));
    }
}
