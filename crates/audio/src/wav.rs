//! Reading and writing WAV files. Reading is forgiving about length and strict about everything
//! else; nothing is allocated, skipped or looped on the word of a header.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use hound::SampleFormat;

use crate::{MAX_RATE, MIN_RATE};

/// The longest recording read, in frames: 4.6 hours at 16 kHz, one GiB of memory.
pub const MAX_FRAMES: u64 = 1 << 28;

/// A recording, mixed down to mono.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Wav {
    /// The samples, full scale ±1.0: s16 is divided by 32768, u8 (less 128), s24 and s32 by
    /// 2^(bits−1), float is taken as it is except that values which are not finite become 0. Several channels are
    /// averaged.
    pub samples: Vec<f32>,
    /// Samples a second.
    pub rate: u32,
    /// How many channels the file had.
    pub channels: u16,
    /// Set when the file ended before its header said.
    pub truncated: Option<Truncation>,
}

/// A file that is shorter than its header claims; what is there was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truncation {
    /// Frames that the header promised.
    pub promised: u64,
    /// Whole frames that were there.
    pub found: u64,
}

/// Why a WAV file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WavError {
    /// The file could not be opened, read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not a regular file, so reading it might never end.
    #[error("{path}: not a regular file; give a WAV file", path = path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The file is empty.
    #[error("{path}: the file is empty (0 bytes)", path = path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file ends inside its header, or a chunk claims more bytes than there are.
    #[error("{path}: the file ends before its sound data begins (cut short, or a chunk length is wrong)", path = path.display())]
    NoData {
        /// The file.
        path: PathBuf,
    },
    /// A header that contradicts itself or is no WAV header at all.
    #[error("{path}: not a usable WAV file: {reason}", path = path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A valid header of a format that is not read here.
    #[error("{path}: unsupported WAV encoding: {reason}; convert it to 16-bit PCM", path = path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// Which encoding.
        reason: String,
    },
    /// More than [`MAX_FRAMES`].
    #[error("{path}: longer than {MAX_FRAMES} frames; split it into shorter files", path = path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
}

/// Reads a WAV file: PCM of 8, 16, 24 or 32 bits or float of 32 or 64 bits, plain or extensible.
///
/// A file that ends early is no error: what is there is returned and [`Wav::truncated`] is set.
///
/// # Errors
/// See [`WavError`]; each names the file and what is wrong with it.
pub fn read_wav(path: &Path) -> Result<Wav, WavError> {
    let io = |source| WavError::Io { path: path.to_owned(), source };
    let metadata = std::fs::metadata(path).map_err(io)?;
    if !metadata.is_file() {
        return Err(WavError::NotAFile { path: path.to_owned() });
    }
    if metadata.len() == 0 {
        return Err(WavError::Empty { path: path.to_owned() });
    }
    decode_wav(BufReader::new(File::open(path).map_err(io)?), path)
}

/// Reads WAV data from memory or any other reader; `name` stands in the errors.
///
/// # Errors
/// As [`read_wav`].
pub fn decode_wav(mut reader: impl Read, name: &Path) -> Result<Wav, WavError> {
    let (format, data_len) = read_header(&mut reader).map_err(|damage| damage.at(name))?;
    let frame = format.container * usize::from(format.channels);
    // A recorder that streams writes 0xFFFFFFFF for "unknown": read to the end, that is no damage.
    let open_ended = data_len == u32::MAX;
    let promised = if open_ended { u64::MAX } else { u64::from(data_len) / frame as u64 };

    // Memory grows with what is really there, never with what the header claims.
    let mut samples = Vec::new();
    let mut block = vec![0_u8; frame * 1024];
    let mut left = promised;
    loop {
        let wanted = frame * usize::try_from(left.min(1024)).unwrap_or(1024);
        let got = read_up_to(&mut reader, &mut block[..wanted]).map_err(|source| WavError::Io { path: name.to_owned(), source })?;
        let frames = got / frame;
        if samples.len() as u64 + frames as u64 > MAX_FRAMES {
            return Err(WavError::TooLong { path: name.to_owned() });
        }
        samples.extend(block[..frames * frame].chunks_exact(frame).map(|bytes| format.mix(bytes)));
        left -= frames as u64;
        if left == 0 || got < wanted {
            break;
        }
    }
    let found = samples.len() as u64;
    Ok(Wav {
        samples,
        rate: format.rate,
        channels: format.channels,
        truncated: (!open_ended && left > 0).then_some(Truncation { promised, found }),
    })
}

/// Writes mono 16-bit PCM; samples beyond ±1.0 are clipped. A file written here and read again has
/// the same samples to within half a step (1/65536). An older file of that name is there until the
/// new one is complete.
///
/// # Errors
/// [`WavError::Io`] when the file cannot be written, [`WavError::Header`] when it would be larger
/// than a WAV file can be (4 GiB).
pub fn write_wav(path: &Path, samples: &[f32], rate: u32) -> Result<(), WavError> {
    let failed = |e| match e {
        hound::Error::IoError(source) => WavError::Io { path: path.to_owned(), source },
        other => WavError::Header { path: path.to_owned(), reason: other.to_string() },
    };
    let spec = hound::WavSpec { channels: 1, sample_rate: rate, bits_per_sample: 16, sample_format: SampleFormat::Int };
    if samples.len() > (u32::MAX as usize - 64) / 2 {
        return Err(WavError::Header { path: path.to_owned(), reason: "more than 4 GiB of sound".into() });
    }
    let write = |path: &Path| {
        let mut writer = hound::WavWriter::create(path, spec)?;
        for &sample in samples {
            // `as` saturates and turns NaN into 0.
            writer.write_sample((sample * 32_768.0).round() as i16)?;
        }
        writer.finalize()
    };
    // A device or a pipe has no name to be moved to.
    if path.metadata().is_ok_and(|there| !there.is_file()) {
        return write(path).map_err(failed);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let part = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
    let written = write(&part).and_then(|()| File::open(&part)?.sync_all().and_then(|()| std::fs::rename(&part, path)).map_err(Into::into));
    written.map_err(|error| {
        // Nothing is left of a file that could not be completed, if it was begun at all.
        let _ = std::fs::remove_file(&part);
        failed(error)
    })
}

/// How samples lie in the data chunk.
#[derive(Clone, Copy)]
struct Format {
    encoding: Encoding,
    channels: u16,
    rate: u32,
    /// Bytes of one sample; narrower samples are left-justified in it, as the format demands.
    container: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Encoding {
    Int,
    Float,
}

impl Format {
    /// The average of the channels of one frame.
    fn mix(self, frame: &[u8]) -> f32 {
        if self.channels == 1 {
            return self.sample(frame) as f32;
        }
        let sum: f64 = frame.chunks_exact(self.container).map(|bytes| self.sample(bytes)).sum();
        (sum / f64::from(self.channels)) as f32
    }

    /// One sample; `bytes` has the length of the container, which `parse_format` has checked.
    fn sample(self, bytes: &[u8]) -> f64 {
        let value = match (self.encoding, bytes) {
            (Encoding::Int, &[a]) => (f64::from(a) - 128.0) / 128.0,
            (Encoding::Int, &[a, b]) => f64::from(i16::from_le_bytes([a, b])) / 32_768.0,
            (Encoding::Int, &[a, b, c]) => f64::from(i32::from_le_bytes([0, a, b, c])) / 2_147_483_648.0,
            (Encoding::Int, &[a, b, c, d]) => f64::from(i32::from_le_bytes([a, b, c, d])) / 2_147_483_648.0,
            (Encoding::Float, &[a, b, c, d]) => f64::from(f32::from_le_bytes([a, b, c, d])),
            (Encoding::Float, &[a, b, c, d, e, f, g, h]) => f64::from_le_bytes([a, b, c, d, e, f, g, h]),
            _ => 0.0,
        };
        // A float file may hold anything; one NaN would poison every stage after this one.
        if value.is_finite() { value.clamp(-f64::from(f32::MAX), f64::from(f32::MAX)) } else { 0.0 }
    }
}

/// What is wrong with a header, before the file has a name.
enum Damage {
    Io(io::Error),
    Short,
    Header(String),
    Unsupported(String),
}

impl Damage {
    fn at(self, path: &Path) -> WavError {
        let path = path.to_owned();
        match self {
            Self::Io(source) => WavError::Io { path, source },
            Self::Short => WavError::NoData { path },
            Self::Header(reason) => WavError::Header { path, reason },
            Self::Unsupported(reason) => WavError::Unsupported { path, reason },
        }
    }
}

/// Reads up to and including the header of the data chunk; returns its claimed length in bytes.
fn read_header(reader: &mut impl Read) -> Result<(Format, u32), Damage> {
    let riff: [u8; 12] = take(reader)?;
    match &riff[..4] {
        b"RIFF" => {}
        b"RF64" | b"BW64" => {
            return Err(Damage::Unsupported("RF64, a WAV file beyond 4 GiB".into()));
        }
        _ => return Err(Damage::Header("it does not begin with RIFF".into())),
    }
    if &riff[8..] != b"WAVE" {
        return Err(Damage::Header("a RIFF file, but not of type WAVE".into()));
    }
    let mut format = None;
    loop {
        let head: [u8; 8] = take(reader)?;
        let len = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        match &head[..4] {
            b"fmt " => {
                // 40 bytes for the extensible form; anything much longer is damage.
                if !(16..=1024).contains(&len) {
                    return Err(Damage::Header(format!("a format chunk of {len} bytes")));
                }
                let mut chunk = vec![0; len as usize];
                if read_up_to(reader, &mut chunk).map_err(Damage::Io)? < chunk.len() {
                    return Err(Damage::Short);
                }
                format = Some(parse_format(&chunk)?);
            }
            b"data" => {
                let format = format.ok_or_else(|| Damage::Header("sound data before its format".into()))?;
                return Ok((format, len));
            }
            _ => {}
        }
        // Chunks are padded to even lengths; `copy` stops at the end of the file, whatever `len` says.
        let skip = if &head[..4] == b"fmt " { u64::from(len % 2) } else { u64::from(len) + u64::from(len % 2) };
        let skipped = io::copy(&mut reader.by_ref().take(skip), &mut io::sink()).map_err(Damage::Io)?;
        if skipped < skip {
            return Err(Damage::Short);
        }
    }
}

fn parse_format(chunk: &[u8]) -> Result<Format, Damage> {
    let u16_at = |i: usize| u16::from_le_bytes([chunk[i], chunk[i + 1]]);
    let u32_at = |i: usize| u32::from_le_bytes([chunk[i], chunk[i + 1], chunk[i + 2], chunk[i + 3]]);
    let (channels, rate, byte_rate, align, bits) = (u16_at(2), u32_at(4), u32_at(8), u16_at(12), u16_at(14));
    let tag = match u16_at(0) {
        // WAVE_FORMAT_EXTENSIBLE: the real tag opens the sub-format GUID.
        0xfffe if chunk.len() >= 40 => u16_at(24),
        tag => tag,
    };
    let encoding = match tag {
        1 => Encoding::Int,
        3 => Encoding::Float,
        other => return Err(Damage::Unsupported(format!("format tag {other:#06x}"))),
    };
    if !(MIN_RATE..=MAX_RATE).contains(&rate) {
        return Err(Damage::Header(format!("a sample rate of {rate} Hz (expected {MIN_RATE} to {MAX_RATE})")));
    }
    if channels == 0 || align == 0 || align % channels != 0 {
        return Err(Damage::Header(format!("{channels} channels in frames of {align} bytes")));
    }
    if u64::from(byte_rate) != u64::from(rate) * u64::from(align) {
        return Err(Damage::Header(format!("{byte_rate} bytes a second contradict {rate} Hz × {align} bytes")));
    }
    let container = usize::from(align / channels);
    let known = match encoding {
        Encoding::Int => (1..=4).contains(&container),
        Encoding::Float => container == 4 || container == 8,
    };
    if !known || bits == 0 || usize::from(bits) > container * 8 {
        return Err(Damage::Unsupported(format!("{bits} bits in samples of {container} bytes")));
    }
    Ok(Format { encoding, channels, rate, container })
}

/// Exactly `N` bytes.
fn take<const N: usize>(reader: &mut impl Read) -> Result<[u8; N], Damage> {
    let mut bytes = [0; N];
    if read_up_to(reader, &mut bytes).map_err(Damage::Io)? < N {
        return Err(Damage::Short);
    }
    Ok(bytes)
}

/// Fills `buffer` as far as the file goes.
fn read_up_to(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
