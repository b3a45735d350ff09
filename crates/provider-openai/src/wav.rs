//! A WAV file in memory, as a transcription is asked with. Pure.

/// A WAV file of 16-bit samples; `None` when it would be longer than the format allows.
pub(crate) fn wav(samples: &[f32], rate: u32) -> Option<Vec<u8>> {
    let data = u32::try_from(samples.len()).ok()?.checked_mul(2)?;
    let mut file = Vec::with_capacity(44 + samples.len() * 2);
    file.extend_from_slice(b"RIFF");
    file.extend_from_slice(&data.checked_add(36)?.to_le_bytes());
    file.extend_from_slice(b"WAVEfmt ");
    // 16 bytes of format: PCM, one channel, rate, bytes per second, bytes per frame, bits per sample.
    file.extend_from_slice(&16u32.to_le_bytes());
    file.extend_from_slice(&[1, 0, 1, 0]);
    file.extend_from_slice(&rate.to_le_bytes());
    file.extend_from_slice(&rate.checked_mul(2)?.to_le_bytes());
    file.extend_from_slice(&[2, 0, 16, 0]);
    file.extend_from_slice(b"data");
    file.extend_from_slice(&data.to_le_bytes());
    for sample in samples {
        let scaled = (sample * 32_768.0).round().clamp(-32_768.0, 32_767.0) as i16;
        file.extend_from_slice(&scaled.to_le_bytes());
    }
    Some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wav_file_is_read_back_as_it_was() {
        let samples = [0.0, 0.5, -1.0, 1.0, 2.0, 1.0 / 32_768.0];
        let file = wav(&samples, 16_000).unwrap();
        let read = bespoke_audio::decode_wav(&file[..], std::path::Path::new("memory")).unwrap();
        assert_eq!(read.rate, 16_000);
        assert_eq!(read.samples, [0.0, 0.5, -1.0, 32_767.0 / 32_768.0, 32_767.0 / 32_768.0, 1.0 / 32_768.0]);
    }
}
