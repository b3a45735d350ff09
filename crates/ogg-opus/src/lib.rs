//! Voice notes: Opus in Ogg, to samples and back. No files, no resampling beyond what Opus itself does.
//!
//! ```
//! use std::time::Duration;
//!
//! let tone: Vec<f32> = (0..16_000).map(|n| (n as f32 * 0.15).sin() * 0.3).collect();
//! let note = bespoke_ogg_opus::encode(&tone, 16_000)?;
//! assert!(bespoke_ogg_opus::is_ogg_opus(&note));
//! let heard = bespoke_ogg_opus::decode(&note, 16_000, Duration::from_secs(60))?;
//! assert_eq!(heard.len(), tone.len());
//! # Ok::<(), bespoke_ogg_opus::OggOpusError>(())
//! ```
//!
//! The codec is `opus-pure`. Bindings to libopus want cmake; this builds wherever Rust does, and a fault of it is a panic, which is
//! caught here, where one of C would be somebody else's memory.
//!
//! **Invariant:** whatever bytes come in, decoding ends with samples between -1 and 1 or with an error, after work that is bounded by
//! the bytes and by the longest duration that the caller allows.

mod decode;
mod encode;

pub use decode::{decode, is_ogg_opus};
pub use encode::{Encoder, encode};

/// Rates in Hz that Opus takes and gives.
pub const RATES: [u32; 5] = [8_000, 12_000, 16_000, 24_000, 48_000];

/// Why a note could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OggOpusError {
    /// Not one of [`RATES`].
    #[error("{0} Hz is no rate of Opus; it takes 8000, 12000, 16000, 24000 and 48000")]
    Rate(u32),
    /// Not a file of Opus in Ogg, or a broken one.
    #[error("no voice note that can be read: {0}")]
    Malformed(String),
    /// It plays longer than the caller allows.
    #[error("the voice note is longer than {0} s")]
    TooLong(u64),
    /// The codec failed on samples that it should take.
    #[error("the samples could not be encoded: {0}")]
    Encoding(String),
}

/// Runs the codec. It has read bytes of strangers or is about to: a panic in it is an error like any other.
fn guarded<T>(work: impl FnOnce() -> Result<T, OggOpusError>) -> Result<T, OggOpusError> {
    // What the work holds is dropped with it; nothing that a panic left half done is seen again.
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    caught.unwrap_or_else(|_| Err(OggOpusError::Malformed("the codec panicked".into())))
}

fn check_rate(rate: u32) -> Result<i32, OggOpusError> {
    match i32::try_from(rate) {
        Ok(known) if RATES.contains(&rate) => Ok(known),
        _ => Err(OggOpusError::Rate(rate)),
    }
}
