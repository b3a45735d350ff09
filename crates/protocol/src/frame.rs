//! The envelope: header, kinds, parsing and writing. Knows nothing of what stands inside a head.

use std::fmt;

use bespoke_plugin_api::{Code, Error};

use crate::data::put_samples;

/// Bytes of a header.
pub const HEADER_LEN: usize = 16;

/// Most bytes of a frame, header included. A longer one is refused by the sender, and ends the link at the receiver.
pub const MAX_FRAME: usize = 64 << 20;

/// What a frame is. A number and not an enum: a receiver passes over kinds that it does not know.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kind(pub u8);

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $value:literal),+ $(,)?) => {
        impl Kind {
            $($(#[$doc])* pub const $name: Kind = Kind($value);)+

            /// All that this side knows.
            pub const ALL: &'static [Kind] = &[$(Kind($value)),+];

            /// The name, or `UNKNOWN`.
            pub const fn name(self) -> &'static str {
                match self.0 { $($value => stringify!($name),)+ _ => "UNKNOWN" }
            }
        }
    };
}

kinds! {
    /// First frame each way: who speaks which protocol.
    HELLO = 1,
    /// The host calls a method.
    CALL = 2,
    /// The guest answers.
    REPLY = 3,
    /// The caller no longer wants the result; with [`flag::ABANDONED`] nobody waits for a reply.
    CANCEL = 4,
    /// How far a call is.
    PROGRESS = 5,
    /// A line of a running command.
    OUTPUT = 6,
    /// The host opens a stream. There is no reply: a stream that cannot be opened begins with its END.
    OPEN = 7,
    /// The host has dropped a stream.
    RESET = 8,
    /// Room for more.
    CREDIT = 9,
    /// The guest calls the host.
    HOST_CALL = 10,
    /// The host answers.
    HOST_REPLY = 11,
    /// A line for the log.
    LOG = 12,
    /// How the plugin does, without being asked.
    VITALS = 13,
    /// Are you there? Whoever moves the frames answers, not the plugin.
    PING = 14,
    /// Yes, with the id of the PING.
    PONG = 15,
    /// The last frame of a side that goes on purpose.
    GOODBYE = 16,
    /// A frame of a stream's input.
    DATA = 32,
    /// No more input.
    FINISH = 33,
    /// A stream's output.
    EVENT = 34,
    /// The last frame of a stream.
    END = 35,
}

/// Which queue a frame waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Goes first; short.
    Control,
    /// In order, under credit.
    Data,
}

impl Kind {
    /// The lane of this kind: data from 32 on.
    pub const fn lane(self) -> Lane {
        if self.0 >= 32 { Lane::Data } else { Lane::Control }
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.name(), self.0)
    }
}

/// Bits of the second byte.
pub mod flag {
    /// On CANCEL: the caller has dropped the call, so the guest drops it too and sends no reply.
    pub const ABANDONED: u8 = 1;
    /// On CREDIT from a guest: the id is that of a host call, not of a stream.
    pub const HOST_CALL: u8 = 2;
}

/// One frame, borrowed from the bytes that it was found in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is.
    pub kind: Kind,
    /// See [`flag`].
    pub flags: u8,
    /// Which call or stream it belongs to.
    pub id: u32,
    /// JSON, or nothing.
    pub head: &'a [u8],
    /// Raw bytes, or nothing.
    pub blob: &'a [u8],
}

impl Frame<'_> {
    /// The amount of a CREDIT; zero when the blob is no u32.
    pub fn credit(&self) -> u32 {
        self.blob.try_into().map_or(0, u32::from_le_bytes)
    }
}

/// Bytes that cannot be frames. The link is lost: there is no way to find the next frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Announces more than [`MAX_FRAME`].
    #[error("a {kind:?} frame announces {len} bytes, more than the {MAX_FRAME} that are allowed")]
    TooLong {
        /// What it says it is.
        kind: Kind,
        /// What it announces.
        len: u64,
    },
    /// No header: kind zero, or reserved bytes that are not zero.
    #[error("{found:02x?} is no frame header; does something else write to this stream?")]
    NoHeader {
        /// The first bytes.
        found: [u8; 4],
    },
}

impl From<FrameError> for Error {
    fn from(e: FrameError) -> Self {
        Error::new(Code::PARSE_ERROR, e.to_string())
    }
}

/// The first frame of `bytes` and its length; `None` when more bytes are needed. Copies nothing, never panics.
///
/// # Errors
/// [`FrameError`] as soon as the header shows that no frame follows.
pub fn parse(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_LEN>() else {
        // Refuse what cannot become a header without waiting for the rest of it.
        let mut found = [0; 4];
        let n = bytes.len().min(4);
        found[..n].copy_from_slice(&bytes[..n]);
        let hopeless = n > 0 && found[0] == 0 || found[2] != 0 || found[3] != 0;
        return if hopeless { Err(FrameError::NoHeader { found }) } else { Ok(None) };
    };
    let [kind, flags, r0, r1, i0, i1, i2, i3, h0, h1, h2, h3, b0, b1, b2, b3] = *header;
    if kind == 0 || r0 != 0 || r1 != 0 {
        return Err(FrameError::NoHeader { found: [kind, flags, r0, r1] });
    }
    let kind = Kind(kind);
    let head_len = u32::from_le_bytes([h0, h1, h2, h3]) as usize;
    let blob_len = u32::from_le_bytes([b0, b1, b2, b3]) as usize;
    let len = HEADER_LEN as u64 + head_len as u64 + blob_len as u64;
    if len > MAX_FRAME as u64 {
        return Err(FrameError::TooLong { kind, len });
    }
    if rest.len() < head_len + blob_len {
        return Ok(None);
    }
    let (head, rest) = rest.split_at(head_len);
    let frame = Frame { kind, flags, id: u32::from_le_bytes([i0, i1, i2, i3]), head, blob: &rest[..blob_len] };
    Ok(Some((frame, HEADER_LEN + head_len + blob_len)))
}

/// Finds frames in bytes that arrive in any pieces. Copies only what is cut in the middle of a frame.
#[derive(Debug, Default)]
pub struct Reassembler {
    rest: Vec<u8>,
}

impl Reassembler {
    /// Without anything pending.
    pub fn new() -> Self {
        Self::default()
    }

    /// Calls `each` for every frame that is complete now.
    ///
    /// # Errors
    /// [`FrameError`], after which no byte of this peer can be trusted.
    pub fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(Frame<'_>)) -> Result<(), FrameError> {
        if !self.rest.is_empty() {
            self.rest.extend_from_slice(bytes);
            bytes = &[];
            let mut rest = std::mem::take(&mut self.rest);
            let used = Self::whole(&rest, &mut each)?;
            rest.drain(..used);
            if rest.is_empty() && rest.capacity() > 1 << 20 {
                rest = Vec::new();
            }
            self.rest = rest;
        }
        let used = Self::whole(bytes, &mut each)?;
        self.rest.extend_from_slice(&bytes[used..]);
        Ok(())
    }

    /// Whether what came so far ends with the end of a frame.
    pub fn is_between(&self) -> bool {
        self.rest.is_empty()
    }

    fn whole(bytes: &[u8], each: &mut impl FnMut(Frame<'_>)) -> Result<usize, FrameError> {
        let mut used = 0;
        while let Some((frame, len)) = parse(&bytes[used..])? {
            used += len;
            each(frame);
        }
        Ok(used)
    }
}

/// Appends a frame without head and blob.
pub fn put_plain(out: &mut Vec<u8>, kind: Kind, flags: u8, id: u32) {
    put_header(out, kind, flags, id, 0, 0);
}

/// Appends a frame that was found in other bytes.
pub fn put_frame(out: &mut Vec<u8>, frame: &Frame<'_>) {
    // What was a frame fits into one.
    let len = |part: &[u8]| u32::try_from(part.len()).unwrap_or(u32::MAX);
    put_header(out, frame.kind, frame.flags, frame.id, len(frame.head), len(frame.blob));
    out.extend_from_slice(frame.head);
    out.extend_from_slice(frame.blob);
}

/// Appends a CREDIT of `amount`.
pub fn put_credit(out: &mut Vec<u8>, flags: u8, id: u32, amount: u32) {
    put_header(out, Kind::CREDIT, flags, id, 0, 4);
    out.extend_from_slice(&amount.to_le_bytes());
}

/// Appends a DATA frame of samples. Allocates nothing once `out` is large enough.
///
/// # Errors
/// `RESOURCE_EXHAUSTED` when they do not fit into one frame; nothing is appended then.
pub fn put_samples_frame(out: &mut Vec<u8>, id: u32, samples: &[f32]) -> bespoke_plugin_api::Result<()> {
    let len = samples.len().saturating_mul(4);
    let blob_len = fits(Kind::DATA, 0, len)?.1;
    put_header(out, Kind::DATA, 0, id, 0, blob_len);
    put_samples(out, samples);
    Ok(())
}

/// Appends a DATA frame of bytes: text.
///
/// # Errors
/// As [`put_samples_frame`].
pub fn put_bytes_frame(out: &mut Vec<u8>, id: u32, bytes: &[u8]) -> bespoke_plugin_api::Result<()> {
    let blob_len = fits(Kind::DATA, 0, bytes.len())?.1;
    put_header(out, Kind::DATA, 0, id, 0, blob_len);
    out.extend_from_slice(bytes);
    Ok(())
}

/// Appends a frame whose head and blob are written in place; nothing stays appended on an error.
pub(crate) fn put_with(
    out: &mut Vec<u8>,
    kind: Kind,
    id: u32,
    head: impl FnOnce(&mut Vec<u8>) -> bespoke_plugin_api::Result<()>,
    blob: impl FnOnce(&mut Vec<u8>),
) -> bespoke_plugin_api::Result<()> {
    let start = out.len();
    put_header(out, kind, 0, id, 0, 0);
    let written = head(out).and_then(|()| {
        let head_len = out.len() - start - HEADER_LEN;
        blob(out);
        fits(kind, head_len, out.len() - start - HEADER_LEN - head_len)
    });
    match written {
        Ok((head_len, blob_len)) => {
            out[start + 8..start + 12].copy_from_slice(&head_len.to_le_bytes());
            out[start + 12..start + 16].copy_from_slice(&blob_len.to_le_bytes());
            Ok(())
        }
        Err(e) => {
            out.truncate(start);
            Err(e)
        }
    }
}

fn fits(kind: Kind, head: usize, blob: usize) -> bespoke_plugin_api::Result<(u32, u32)> {
    let len = head.saturating_add(blob).saturating_add(HEADER_LEN);
    match (u32::try_from(head), u32::try_from(blob)) {
        (Ok(head), Ok(blob)) if len <= MAX_FRAME => Ok((head, blob)),
        _ => Err(Error::new(
            Code::RESOURCE_EXHAUSTED,
            format!("a {} of {len} bytes is over the {MAX_FRAME} bytes of one frame: send it in pieces", kind.name()),
        )),
    }
}

fn put_header(out: &mut Vec<u8>, kind: Kind, flags: u8, id: u32, head_len: u32, blob_len: u32) {
    let mut header = [0; HEADER_LEN];
    header[0] = kind.0;
    header[1] = flags;
    header[4..8].copy_from_slice(&id.to_le_bytes());
    header[8..12].copy_from_slice(&head_len.to_le_bytes());
    header[12..16].copy_from_slice(&blob_len.to_le_bytes());
    out.extend_from_slice(&header);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Vec<u8> {
        let mut out = Vec::new();
        put_plain(&mut out, Kind::CANCEL, flag::ABANDONED, 7);
        put_samples_frame(&mut out, 8, &[0.5, -1.0]).unwrap();
        put_credit(&mut out, 0, 9, 1000);
        out
    }

    #[test]
    fn the_bytes_are_pinned() {
        let bytes = three();
        assert_eq!(bytes[..16], [4, 1, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[16..40], [32, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0x3f, 0, 0, 0x80, 0xbf]);
        assert_eq!(bytes[40..], [9, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0xe8, 3, 0, 0]);
    }

    #[test]
    fn any_cut_gives_the_same_frames() {
        let bytes = three();
        for cut in 0..=bytes.len() {
            let mut seen = Vec::new();
            let mut from = Reassembler::new();
            for piece in [&bytes[..cut], &bytes[cut..]] {
                from.feed(piece, |f| seen.push((f.kind, f.id, f.blob.len(), f.credit()))).unwrap();
            }
            assert_eq!(seen, [(Kind::CANCEL, 7, 0, 0), (Kind::DATA, 8, 8, 0), (Kind::CREDIT, 9, 4, 1000)]);
            assert!(from.rest.is_empty());
        }
    }

    #[test]
    fn garbage_is_an_error_at_once_and_never_a_panic() {
        assert!(matches!(parse(b"{\"jsonrpc\":\"2.0\"}"), Err(FrameError::NoHeader { .. })));
        assert!(matches!(parse(b"Tra"), Err(FrameError::NoHeader { .. })));
        let mut long = three()[..16].to_vec();
        long[8..16].fill(0xff);
        assert_eq!(parse(&long), Err(FrameError::TooLong { kind: Kind::CANCEL, len: 16 + 2 * u64::from(u32::MAX) }));

        // A cheap generator instead of a dependency: what matters is that no bytes at all make the parser fall over.
        let mut state = 1_u64;
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..40)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    if state >> 62 == 0 { (state >> 33) as u8 } else { 0 }
                })
                .collect();
            if let Ok(Some((frame, len))) = parse(&bytes) {
                assert!(len <= bytes.len() && frame.head.len() + frame.blob.len() + HEADER_LEN == len);
            }
        }
    }

    #[test]
    fn an_unknown_kind_is_a_frame_like_any_other() {
        let mut bytes = three();
        bytes[0] = 200;
        let (frame, _) = parse(&bytes).unwrap().unwrap();
        assert_eq!((frame.kind.name(), frame.kind.lane()), ("UNKNOWN", Lane::Data));
    }

    #[test]
    fn what_does_not_fit_leaves_nothing_behind() {
        let mut out = vec![1];
        let e = put_with(&mut out, Kind::CALL, 1, |_| Ok(()), |b| b.resize(MAX_FRAME + 2, 0)).unwrap_err();
        assert_eq!(e.code(), Code::RESOURCE_EXHAUSTED);
        assert_eq!(out, [1]);
    }
}
