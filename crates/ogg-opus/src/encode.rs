//! From samples to the bytes of a file, as they come.

use opus_pure::{Application, MAX_PACKET_BYTES, OggOpusWriter, OpusEncoder, OpusHead};

use crate::{OggOpusError, check_rate, guarded};

/// Bits per second for speech: wideband up to 16 kHz, fullband above. Both are what messengers send.
const WIDE: i32 = 24_000;
const FULL: i32 = 32_000;
/// Ticks of a granule position, per second.
const TICKS: u64 = 48_000;
/// A frame is 20 ms.
const FRAMES_PER_S: usize = 50;

/// One voice note that is being written.
///
/// The file plays exactly as many samples as went in: the delay of the codec is skipped at its beginning (RFC 7845, section 4.2), and
/// what fills up its last frame is cut at its end (section 4.4).
pub struct Encoder {
    encoder: OpusEncoder,
    writer: OggOpusWriter<Vec<u8>>,
    rate: u32,
    pre_skip: u64,
    /// Samples that make no whole frame yet.
    rest: Vec<f32>,
    /// Samples that came in, and frames that were encoded.
    total: u64,
    frames: u64,
    /// The last packet: how long it plays is known when it is followed by another.
    held: Vec<u8>,
    packet: Vec<u8>,
}

impl Encoder {
    /// A note of one channel, out of samples at `rate` Hz.
    ///
    /// # Errors
    /// [`OggOpusError::Rate`].
    pub fn new(rate: u32) -> Result<Self, OggOpusError> {
        let known = check_rate(rate)?;
        let mut encoder = OpusEncoder::new(known, 1, Application::Voip).map_err(failed)?;
        encoder.bitrate_bps = if rate > 16_000 { FULL } else { WIDE };
        let head = OpusHead::for_encoder(&encoder, rate);
        let pre_skip = head.pre_skip.into();
        let writer = OggOpusWriter::new(Vec::new(), head).map_err(failed)?;
        let packet = vec![0; MAX_PACKET_BYTES];
        Ok(Encoder { encoder, writer, rate, pre_skip, rest: Vec::new(), total: 0, frames: 0, held: Vec::new(), packet })
    }

    /// Takes samples, any number of them.
    ///
    /// # Errors
    /// [`OggOpusError::Encoding`]; the note is of no use after it.
    pub fn push(&mut self, samples: &[f32]) -> Result<(), OggOpusError> {
        let frame = self.frame();
        self.total += samples.len() as u64;
        for chunk in samples.chunks(frame) {
            self.rest.extend(chunk.iter().map(|sample| if sample.is_finite() { sample.clamp(-1.0, 1.0) } else { 0.0 }));
            if self.rest.len() >= frame {
                self.encode_one()?;
            }
        }
        Ok(())
    }

    /// The file.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(mut self) -> Result<Vec<u8>, OggOpusError> {
        let plays = self.pre_skip + self.total * (TICKS / u64::from(self.rate));
        // The codec is behind by its delay: silence brings out the end.
        while self.frames * (TICKS / FRAMES_PER_S as u64) < plays {
            let frame = self.frame();
            self.rest.resize(self.rest.len().max(frame), 0.0);
            self.encode_one()?;
        }
        // At most a frame, since the one before it did not reach the end; the clock of the writer has counted those.
        let written = u64::try_from(self.writer.granule()).unwrap_or_default();
        let last = u32::try_from(plays.saturating_sub(written)).unwrap_or(u32::MAX);
        let Encoder { mut writer, held, .. } = self;
        guarded(|| {
            writer.write_packet_with_duration(&held, last).map_err(failed)?;
            writer.finish().map_err(failed)
        })
    }

    fn frame(&self) -> usize {
        self.rate as usize / FRAMES_PER_S
    }

    /// Encodes the first frame of the rest.
    fn encode_one(&mut self) -> Result<(), OggOpusError> {
        let frame = self.frame();
        guarded(|| {
            let size = self.encoder.encode(&self.rest[..frame], frame, &mut self.packet).map_err(failed)?;
            if !self.held.is_empty() {
                self.writer.write_packet(&self.held).map_err(failed)?;
            }
            self.held.clear();
            self.held.extend_from_slice(&self.packet[..size]);
            Ok(())
        })?;
        self.rest.drain(..frame);
        self.frames += 1;
        Ok(())
    }
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("rate", &self.rate).field("total", &self.total).finish_non_exhaustive()
    }
}

/// A whole note at once.
///
/// # Errors
/// As [`Encoder`].
pub fn encode(samples: &[f32], rate: u32) -> Result<Vec<u8>, OggOpusError> {
    let mut encoder = Encoder::new(rate)?;
    encoder.push(samples)?;
    encoder.finish()
}

fn failed(error: opus_pure::Error) -> OggOpusError {
    OggOpusError::Encoding(error.to_string())
}
