//! From frames to lines. Knows how our own heads begin and end, and so parses none of them.

use base64::{Engine, prelude::BASE64_STANDARD};
use bespoke_plugin_api::{Error, Result};
use serde::Deserialize;

use super::{BEGIN, BLOB, DATA, NOTIFICATIONS, Side, too_long};
use crate::frame::{Frame, Kind, MAX_FRAME, flag};

/// Writes what one side says. Holds what the other side can read; before its hello that is the least that anybody can.
#[derive(Debug, Clone)]
pub struct LineWriter {
    of: Side,
    blobs: bool,
    limit: usize,
}

impl LineWriter {
    /// For a peer that has said nothing yet: no raw blobs, 64 MiB a message.
    pub const fn new(of: Side) -> Self {
        LineWriter { of, blobs: false, limit: MAX_FRAME }
    }

    /// Whether the peer reads raw bytes behind a line.
    #[must_use]
    pub const fn blobs(mut self, can: bool) -> Self {
        self.blobs = can;
        self
    }

    /// The longest message that the peer takes: line and blob together, without the line ends.
    #[must_use]
    pub const fn limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }

    /// Takes from the peer's HELLO what it can read. A frame of another kind, or a hello that cannot be read, changes nothing.
    pub fn meet(&mut self, hello: &Frame<'_>) {
        #[derive(Deserialize)]
        struct Abilities {
            #[serde(default)]
            features: Vec<String>,
            #[serde(default = "crate::head::default_payload")]
            max_payload: u64,
        }
        if hello.kind == Kind::HELLO
            && let Ok(peer) = serde_json::from_slice::<Abilities>(hello.head)
        {
            self.blobs = peer.features.iter().any(|f| f == BLOB);
            self.limit = usize::try_from(peer.max_payload).unwrap_or(usize::MAX);
        }
    }

    /// Appends a frame of this crate as a line. A kind that has no line is passed over.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` when it is longer than the peer takes, `INTERNAL_ERROR` for a head that this crate has not written;
    /// nothing is appended then. [`undelivered`](super::undelivered) says who is to be told.
    pub fn put(&self, frame: &Frame<'_>, out: &mut Vec<u8>) -> Result<()> {
        let start = out.len();
        let least = frame.head.len() + frame.blob.len();
        let put = if least > self.limit { Err(self.refused(frame, least)) } else { self.write(frame, out) };
        if put.is_err() {
            out.truncate(start);
        }
        put
    }

    fn write(&self, frame: &Frame<'_>, out: &mut Vec<u8>) -> Result<()> {
        let start = out.len();
        if frame.kind == Kind::DATA {
            out.extend_from_slice(DATA);
            put_number(out, frame.id);
            out.push(b'}');
        } else {
            out.extend_from_slice(BEGIN);
            if !self.members(frame, out)? {
                out.truncate(start);
                return Ok(());
            }
            // A line end in JSON is white space: inside a text it is written as \n.
            if memchr::memchr(b'\n', &out[start..]).is_some() {
                out[start..].iter_mut().filter(|b| **b == b'\n').for_each(|b| *b = b' ');
            }
        }
        // The amount of a CREDIT is no bulk.
        let blob = if frame.kind == Kind::CREDIT { &[] } else { frame.blob };
        let mut bytes = out.len() - start + 1;
        if blob.is_empty() {
            out.extend_from_slice(b"}\n");
        } else if self.blobs {
            out.extend_from_slice(b",\"blob\":");
            // A blob over 4 GiB is over every limit: frames are shorter.
            put_number(out, u32::try_from(blob.len()).unwrap_or(u32::MAX));
            bytes = out.len() - start + 1 + blob.len();
            if bytes <= self.limit {
                out.extend_from_slice(b"}\n");
                out.extend_from_slice(blob);
                out.push(b'\n');
            }
        } else {
            out.extend_from_slice(b",\"blob64\":\"");
            let at = out.len();
            out.resize(at + blob.len().div_ceil(3) * 4, 0);
            // The room is exactly what padded base64 takes.
            let _len = BASE64_STANDARD.encode_slice(blob, &mut out[at..]);
            out.extend_from_slice(b"\"}\n");
            bytes = out.len() - start - 1;
        }
        if bytes > self.limit { Err(self.refused(frame, bytes)) } else { Ok(()) }
    }

    /// What stands between the version and the blob; false for a kind that has no line.
    fn members(&self, frame: &Frame<'_>, out: &mut Vec<u8>) -> Result<bool> {
        let (id, head) = (frame.id, frame.head);
        match frame.kind {
            Kind::HELLO if self.of == Side::Host => pieces(out, &[b"\"id\":0,\"method\":\"hello\",\"params\":", head]),
            Kind::HELLO => pieces(out, &[b"\"id\":0,\"result\":", head]),
            Kind::CALL | Kind::HOST_CALL => {
                // `{"method":"…","name":…}`: names of methods are plain, so the second quote ends it.
                let rest = head.strip_prefix(b"{\"method\":\"").ok_or_else(|| foreign(frame))?;
                let end = memchr::memchr2(b'"', b'\\', rest).filter(|end| rest[*end] == b'"').ok_or_else(|| foreign(frame))?;
                let (method, rest) = rest.split_at(end + 1);
                pieces(out, &[b"\"id\":"]);
                put_number(out, id);
                pieces(out, &[b",\"method\":\"", method, b",\"params\":{", rest.strip_prefix(b",").unwrap_or(rest)]);
            }
            Kind::REPLY | Kind::HOST_REPLY => {
                let (name, rest) = match (head.strip_prefix(b"{\"ok\":"), head.strip_prefix(b"{\"err\":")) {
                    (Some(rest), _) => (b",\"result\":".as_slice(), rest),
                    (_, Some(rest)) => (b",\"error\":".as_slice(), rest),
                    _ => return Err(foreign(frame)),
                };
                pieces(out, &[b"\"id\":"]);
                put_number(out, id);
                pieces(out, &[name, rest.strip_suffix(b"}").ok_or_else(|| foreign(frame))?]);
            }
            kind => {
                let Some((name, _)) = NOTIFICATIONS.iter().find(|(_, k)| *k == kind) else { return Ok(false) };
                pieces(out, &[b"\"method\":\"", name.as_bytes(), b"\",\"params\":"]);
                match kind {
                    Kind::LOG | Kind::VITALS | Kind::GOODBYE => pieces(out, &[head]),
                    _ => {
                        pieces(out, &[b"{\"id\":"]);
                        put_number(out, id);
                        match kind {
                            Kind::OPEN | Kind::OUTPUT => pieces(out, &[b",", head.strip_prefix(b"{").ok_or_else(|| foreign(frame))?]),
                            Kind::CANCEL if frame.flags & flag::ABANDONED != 0 => pieces(out, &[b",\"abandoned\":true}"]),
                            Kind::PROGRESS => pieces(out, &[b",\"value\":", head, b"}"]),
                            Kind::EVENT => pieces(out, &[b",\"event\":", head, b"}"]),
                            Kind::END if !head.is_empty() => pieces(out, &[b",\"error\":", head, b"}"]),
                            Kind::CREDIT => {
                                pieces(out, &[b",\"amount\":"]);
                                put_number(out, frame.credit());
                                pieces(out, &[if frame.flags & flag::HOST_CALL != 0 { b",\"host_call\":true}" } else { b"}" }]);
                            }
                            _ => out.push(b'}'),
                        }
                    }
                }
            }
        }
        Ok(true)
    }

    fn refused(&self, frame: &Frame<'_>, bytes: usize) -> Error {
        let whose = match self.of {
            Side::Host => "the plugin takes",
            Side::Guest => "the host takes",
        };
        too_long(Some(frame.kind), bytes, self.limit, whose)
    }
}

fn pieces(out: &mut Vec<u8>, pieces: &[&[u8]]) {
    for piece in pieces {
        out.extend_from_slice(piece);
    }
}

/// Decimal digits, without the machinery of `fmt`: it is half of what a frame of audio costs.
fn put_number(out: &mut Vec<u8>, mut number: u32) {
    let mut digits = [0; 10];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn foreign(frame: &Frame<'_>) -> Error {
    Error::internal(format!("the head of this {} was not written by the protocol", frame.kind.name()))
}
