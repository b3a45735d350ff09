//! From the bytes of a file to samples, within limits.

use std::time::Duration;

use opus_pure::{MAX_PACKET_SAMPLES, OggOpusReader, OggPacket, Trim};

use crate::{OggOpusError, check_rate, guarded};

/// What is decoded beyond the longest duration before the file is given up: what a header may have skipped at the beginning.
const SLACK: Duration = Duration::from_secs(2);

/// Whether the bytes begin as a file of Opus in Ogg does.
pub fn is_ogg_opus(bytes: &[u8]) -> bool {
    // A page with one packet, whose header has 27 bytes and one segment.
    bytes.starts_with(b"OggS") && bytes.get(28..36) == Some(b"OpusHead")
}

/// The samples of a file, at `rate` Hz, in one channel: two are mixed.
///
/// # Errors
/// [`OggOpusError::Malformed`] for what is no such file, is cut off, holds several streams, or has more than two channels;
/// [`OggOpusError::TooLong`] as soon as more than `longest` was decoded; [`OggOpusError::Rate`].
pub fn decode(bytes: &[u8], rate: u32, longest: Duration) -> Result<Vec<f32>, OggOpusError> {
    let known = check_rate(rate)?;
    guarded(|| read(bytes, rate, known, longest))
}

fn read(bytes: &[u8], rate: u32, known: i32, longest: Duration) -> Result<Vec<f32>, OggOpusError> {
    let samples = |time: Duration| time.as_nanos().saturating_mul(rate.into()) / 1_000_000_000;
    let (most, most_decoded) = (samples(longest), samples(longest.saturating_add(SLACK)));
    let mut reader = OggOpusReader::new(bytes).map_err(malformed)?;
    let channels = usize::from(reader.head().channel_count);
    let mut decoder = reader.head().decoder(known).map_err(malformed)?;
    let mut trim = Trim::new(reader.head(), known, channels).map_err(malformed)?;
    let mut packet = OggPacket::default();
    let mut block = vec![0.0; MAX_PACKET_SAMPLES * channels];
    let (mut heard, mut decoded) = (Vec::new(), 0_u128);
    while reader.read_packet_into(&mut packet).map_err(malformed)? {
        let count = decoder.decode(&packet.data, MAX_PACKET_SAMPLES, &mut block).map_err(malformed)?;
        // Counted before trimming: a header may say that none of it is to be heard.
        decoded += count as u128;
        let kept = trim.keep(&packet, &block[..count * channels]);
        heard.extend(kept.chunks_exact(channels).map(|frame| sound(frame.iter().sum::<f32>() / channels as f32)));
        if decoded > most_decoded || heard.len() as u128 > most {
            return Err(OggOpusError::TooLong(longest.as_secs()));
        }
    }
    Ok(heard)
}

/// Loudness that a header asks for may be anything.
fn sound(sample: f32) -> f32 {
    if sample.is_finite() { sample.clamp(-1.0, 1.0) } else { 0.0 }
}

fn malformed(error: opus_pure::Error) -> OggOpusError {
    OggOpusError::Malformed(error.to_string())
}
