//! From bytes to frames. Copies only what is cut in the middle of a message, and what a head is put together from.

use std::borrow::Cow;

use base64::{Engine, prelude::BASE64_STANDARD};
use bespoke_plugin_api::Error;
use memchr::{memchr, memmem};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{BEGIN, DATA, NOTIFICATIONS, Side, scan::Scan, too_long, undelivered};
use crate::frame::{Frame, Kind, flag};

/// Most bytes of a line that is no message which are shown.
pub const STRAY_LIMIT: usize = 1024;

/// Capacity that a buffer keeps for the next message.
const KEEP: usize = 1 << 20;

/// What a reader found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// A message.
    Frame(Frame<'a>),
    /// A line that is none, or the first [`STRAY_LIMIT`] bytes of it: a `print` that went astray.
    Stray(&'a [u8]),
    /// A message that is longer than this side takes, and was skipped.
    TooLong(TooLong),
}

/// A message that was skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TooLong {
    /// What it was, as far as that can be told.
    pub kind: Option<Kind>,
    /// Which call or stream it belongs to.
    pub id: Option<u32>,
    /// How long it was, line and blob; a line without an end counts as far as it was read.
    pub bytes: usize,
    /// How long it might have been.
    pub limit: usize,
    from: Side,
}

impl TooLong {
    /// The error of whoever waits for it.
    pub fn error(&self) -> Error {
        let whose = match self.from {
            Side::Host => "the plugin takes",
            Side::Guest => "the host takes",
        };
        too_long(self.kind, self.bytes, self.limit, whose)
    }

    /// Frames that tell both ends, see [`undelivered`]. None when nobody knows whose message it was.
    pub fn tell(&self, to_sender: &mut Vec<u8>, to_receiver: &mut Vec<u8>) {
        if let (Some(kind), Some(id)) = (self.kind, self.id) {
            undelivered(self.from, kind, id, &self.error(), to_sender, to_receiver);
        }
    }
}

/// Reads what one side says, from bytes that are cut anywhere.
#[derive(Debug)]
pub struct LineReader {
    of: Side,
    limit: usize,
    state: State,
    /// The beginning of a message.
    rest: Vec<u8>,
    scratch: Scratch,
}

/// Where in the bytes a reader is. Positions count from the beginning of a message.
#[derive(Debug)]
enum State {
    /// In a line, of which so many bytes have no end.
    Line { seen: usize },
    /// Behind a line of `line` bytes that announces `blob` more.
    Blob { line: usize, blob: usize },
    /// In a line that is too long.
    Skip(Box<Skipped>),
    /// In a blob that is too long, or belongs to a line that was.
    SkipBlob { left: usize },
}

#[derive(Debug, Default)]
struct Skipped {
    scan: Scan,
    /// For the log, when it turns out to be no message.
    first: Vec<u8>,
}

/// Where heads are put together and base64 is decoded.
#[derive(Debug, Default)]
struct Scratch {
    head: Vec<u8>,
    blob: Vec<u8>,
}

impl LineReader {
    /// A reader of what that side says, message by message of at most `limit` bytes.
    pub fn new(of: Side, limit: usize) -> Self {
        LineReader { of, limit, state: State::Line { seen: 0 }, rest: Vec::new(), scratch: Scratch::default() }
    }

    /// Calls `each` for all that is complete now.
    pub fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(Incoming<'_>)) {
        if self.rest.is_empty() {
            let used = self.whole(bytes, &mut each);
            self.rest.extend_from_slice(&bytes[used..]);
        } else {
            self.rest.extend_from_slice(bytes);
            let mut rest = std::mem::take(&mut self.rest);
            let used = self.whole(&rest, &mut each);
            rest.drain(..used);
            self.rest = rest;
        }
        for buffer in [&mut self.rest, &mut self.scratch.head, &mut self.scratch.blob] {
            if buffer.capacity() > KEEP && buffer.len() <= KEEP {
                buffer.shrink_to(KEEP);
            }
        }
    }

    /// The bytes have ended: what is left is the beginning of something, and is no message.
    pub fn end(&mut self, mut each: impl FnMut(Incoming<'_>)) {
        let rest = std::mem::take(&mut self.rest);
        match std::mem::replace(&mut self.state, State::Line { seen: 0 }) {
            State::Skip(skipped) => self.skipped(*skipped, &mut each),
            State::SkipBlob { .. } => {}
            State::Line { .. } | State::Blob { .. } if rest.trim_ascii().is_empty() => {}
            State::Line { .. } | State::Blob { .. } => stray(&rest, &mut each),
        }
    }

    /// How many bytes were used.
    fn whole(&mut self, bytes: &[u8], each: &mut impl FnMut(Incoming<'_>)) -> usize {
        let mut used = 0;
        while used < bytes.len() {
            let piece = &bytes[used..];
            match &mut self.state {
                State::Line { seen } => {
                    let Some(end) = memchr(b'\n', &piece[*seen..]).map(|at| *seen + at) else {
                        if piece.len() <= self.limit {
                            *seen = piece.len();
                            break;
                        }
                        self.state = State::Skip(Box::default());
                        continue;
                    };
                    *seen = 0;
                    if end > self.limit {
                        let mut skipped = Skipped::default();
                        skipped.take(&piece[..end]);
                        used += end + 1;
                        self.skipped(skipped, each);
                        continue;
                    }
                    match self.message(&piece[..end], &piece[end + 1..], each) {
                        Found::Done { blob } => used += end + 1 + blob,
                        Found::Incomplete { blob } => self.state = State::Blob { line: end, blob },
                        Found::TooLong { blob } => {
                            self.state = State::SkipBlob { left: blob };
                            used += end + 1;
                        }
                    }
                }
                State::Blob { line, blob } => {
                    let line = *line;
                    if piece.len() < line + 1 + *blob {
                        break;
                    }
                    self.state = State::Line { seen: 0 };
                    match self.message(&piece[..line], &piece[line + 1..], each) {
                        Found::Done { blob } | Found::Incomplete { blob } | Found::TooLong { blob } => used += line + 1 + blob,
                    }
                }
                State::Skip(skipped) => match memchr(b'\n', piece) {
                    None => {
                        skipped.take(piece);
                        used = bytes.len();
                    }
                    Some(end) => {
                        skipped.take(&piece[..end]);
                        used += end + 1;
                        if let State::Skip(skipped) = std::mem::replace(&mut self.state, State::Line { seen: 0 }) {
                            self.skipped(*skipped, each);
                        }
                    }
                },
                State::SkipBlob { left } => {
                    let now = piece.len().min(*left);
                    *left -= now;
                    used += now;
                    if *left == 0 {
                        self.state = State::Line { seen: 0 };
                    }
                }
            }
        }
        used
    }

    /// One line, and what stands behind it.
    fn message(&mut self, line: &[u8], behind: &[u8], each: &mut impl FnMut(Incoming<'_>)) -> Found {
        if let Some((id, blob)) = data_line(line) {
            let frame = Frame { kind: Kind::DATA, flags: 0, id, head: &[], blob: &[] };
            return match self.blob_of(line.len(), blob, Some(Kind::DATA), Some(id), behind, each) {
                Ok(blob) => deliver(Frame { blob, ..frame }, each),
                Err(found) => found,
            };
        }
        let trimmed = line.trim_ascii();
        if trimmed.is_empty() {
            return Found::Done { blob: 0 };
        }
        let message = match Message::read(trimmed) {
            Some(message) => message,
            // A print without a line end stands before a message.
            None => match memmem::rfind(trimmed, BEGIN).filter(|at| *at > 0).and_then(|at| Some((at, Message::read(&trimmed[at..])?))) {
                Some((at, message)) => {
                    let announced = message.blob().is_some_and(|blob| blob > behind.len());
                    // With its blob, it comes here a second time.
                    if !announced || line.len() + message.blob().unwrap_or_default() > self.limit {
                        stray(trimmed[..at].trim_ascii_end(), each);
                    }
                    message
                }
                None => {
                    stray(trimmed, each);
                    return Found::Done { blob: 0 };
                }
            },
        };
        let mut head = std::mem::take(&mut self.scratch.head);
        head.clear();
        let frame = message.frame(self.of, &mut head);
        let found = match (message.blob(), frame) {
            (blob, Meant::Stray) => {
                stray(trimmed, each);
                // Its bytes are not read as lines, whatever it was.
                blob.map_or(Found::Done { blob: 0 }, |blob| Found::TooLong { blob })
            }
            (Some(blob), Meant::Nothing) => Found::TooLong { blob },
            (None, Meant::Nothing) => Found::Done { blob: 0 },
            (Some(blob), Meant::Frame(frame)) => {
                match self.blob_of(line.len(), blob, Some(frame.kind), Some(frame.id), behind, each) {
                    // The amount of a CREDIT is its blob.
                    Ok(blob) if frame.blob.is_empty() => deliver(Frame { blob, ..frame }, each),
                    Ok(blob) => {
                        each(Incoming::Frame(frame));
                        Found::Done { blob: blob.len() }
                    }
                    Err(found) => found,
                }
            }
            (None, Meant::Frame(frame)) => {
                let blob64 = message.blob64.filter(|_| frame.blob.is_empty());
                self.scratch.blob.clear();
                match blob64.map(|raw| BASE64_STANDARD.decode_vec(text(raw)?.as_bytes(), &mut self.scratch.blob).ok()) {
                    None => each(Incoming::Frame(frame)),
                    Some(Some(())) => each(Incoming::Frame(Frame { blob: &self.scratch.blob, ..frame })),
                    Some(None) => {
                        // Whoever waits for it is told in its own terms: without its bulk, it does not fit its type.
                        stray(trimmed, each);
                        each(Incoming::Frame(frame));
                    }
                }
                Found::Done { blob: 0 }
            }
        };
        self.scratch.head = head;
        found
    }

    /// The blob of a line, when it is here and not too long.
    fn blob_of<'a>(
        &self,
        line: usize,
        blob: usize,
        kind: Option<Kind>,
        id: Option<u32>,
        behind: &'a [u8],
        each: &mut impl FnMut(Incoming<'_>),
    ) -> Result<&'a [u8], Found> {
        let bytes = line.saturating_add(blob);
        if bytes > self.limit {
            each(Incoming::TooLong(TooLong { kind, id, bytes, limit: self.limit, from: self.of }));
            return Err(Found::TooLong { blob });
        }
        behind.get(..blob).ok_or(Found::Incomplete { blob })
    }

    /// The end of a line that was too long.
    fn skipped(&mut self, mut skipped: Skipped, each: &mut impl FnMut(Incoming<'_>)) {
        skipped.scan.end();
        let Scan { len, id, params_id, method, answers, blob, .. } = skipped.scan;
        if let Some(left) = blob.filter(|left| *left > 0) {
            self.state = State::SkipBlob { left };
        }
        let method = method.as_ref().map(|m| m.get());
        let (request, answer) = match self.of {
            Side::Host => (Kind::CALL, Kind::HOST_REPLY),
            Side::Guest => (Kind::HOST_CALL, Kind::REPLY),
        };
        let (kind, id) = match (method, id) {
            (Some(b"hello"), Some(0)) => (Some(Kind::HELLO), Some(0)),
            (Some(_), Some(id)) => (Some(request), Some(id)),
            (Some(name), None) => (NOTIFICATIONS.iter().find(|(n, _)| n.as_bytes() == name).map(|(_, kind)| *kind), params_id),
            (None, Some(0)) if answers && self.of == Side::Guest => (Some(Kind::HELLO), Some(0)),
            (None, Some(id)) if answers => (Some(answer), Some(id)),
            _ => return stray(&skipped.first, each),
        };
        each(Incoming::TooLong(TooLong { kind, id, bytes: len.saturating_add(blob.unwrap_or(0)), limit: self.limit, from: self.of }));
    }
}

impl Skipped {
    fn take(&mut self, bytes: &[u8]) {
        let room = STRAY_LIMIT.saturating_sub(self.first.len()).min(bytes.len());
        self.first.extend_from_slice(&bytes[..room]);
        self.scan.feed(bytes);
    }
}

/// What came of a line.
enum Found {
    /// It is over, and so many bytes behind it.
    Done { blob: usize },
    /// So many bytes have to be behind it.
    Incomplete { blob: usize },
    /// So many bytes behind it are nothing.
    TooLong { blob: usize },
}

fn deliver(frame: Frame<'_>, each: &mut impl FnMut(Incoming<'_>)) -> Found {
    each(Incoming::Frame(frame));
    Found::Done { blob: frame.blob.len() }
}

fn stray(line: &[u8], each: &mut impl FnMut(Incoming<'_>)) {
    each(Incoming::Stray(&line[..line.len().min(STRAY_LIMIT)]));
}

/// Stream and length of a line of the data lane, exactly as our own writer writes it.
fn data_line(line: &[u8]) -> Option<(u32, usize)> {
    let (id, rest) = number(line.strip_prefix(DATA)?)?;
    let (blob, rest) = number(rest.strip_prefix(b"},\"blob\":")?)?;
    (rest == b"}").then_some((id, blob as usize))
}

fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let end = bytes.iter().take(10).take_while(|b| b.is_ascii_digit()).count();
    let (digits, rest) = bytes.split_at(end);
    let number = digits.iter().try_fold(0_u32, |n, d| n.checked_mul(10)?.checked_add(u32::from(d - b'0')))?;
    (end > 0).then_some((number, rest))
}

/// What a message is to us.
enum Meant<'a> {
    Frame(Frame<'a>),
    /// A notification that a newer peer knows.
    Nothing,
    /// No message of this protocol.
    Stray,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    jsonrpc: Cow<'a, str>,
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Option<&'a RawValue>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    /// `null` is an answer.
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(default)]
    blob: Option<u32>,
    #[serde(borrow, default)]
    blob64: Option<&'a RawValue>,
}

/// The parameters of notifications. What is no number of the right size reads as nothing.
#[derive(Deserialize)]
struct Params<'a> {
    #[serde(default)]
    id: u32,
    #[serde(default)]
    amount: u32,
    #[serde(default)]
    abandoned: bool,
    #[serde(default)]
    host_call: bool,
    #[serde(borrow, default, deserialize_with = "present")]
    value: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    event: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    line: Option<&'a RawValue>,
    #[serde(borrow, default)]
    note: Option<&'a RawValue>,
}

impl<'a> Message<'a> {
    fn read(line: &'a [u8]) -> Option<Self> {
        if line.first() != Some(&b'{') {
            return None;
        }
        let message: Message<'a> = serde_json::from_str(std::str::from_utf8(line).ok()?).ok()?;
        (message.jsonrpc == "2.0").then_some(message)
    }

    fn blob(&self) -> Option<usize> {
        self.blob.filter(|blob| *blob > 0).map(|blob| blob as usize)
    }

    /// The frame that it is; its head is a part of the line, or put together in `head`.
    fn frame<'h>(&self, of: Side, head: &'h mut Vec<u8>) -> Meant<'h>
    where
        'a: 'h,
    {
        let (request, answer) = match of {
            Side::Host => (Kind::CALL, Kind::HOST_REPLY),
            Side::Guest => (Kind::HOST_CALL, Kind::REPLY),
        };
        let params = self.params.map_or("{}", RawValue::get);
        let frame = |kind, id, head| Meant::Frame(Frame { kind, flags: 0, id, head, blob: &[] });
        let id = match self.id.map(|id| id.get().parse::<u32>()) {
            Some(Err(_)) => return Meant::Stray,
            Some(Ok(id)) => Some(id),
            None => None,
        };
        let method = match self.method.map(text) {
            Some(None) => return Meant::Stray,
            Some(method) => method,
            None => None,
        };
        match (method.as_deref(), id) {
            (Some("hello"), Some(0)) if of == Side::Host => frame(Kind::HELLO, 0, params.as_bytes()),
            (Some(_), Some(0)) => Meant::Stray,
            (Some(_), Some(id)) => {
                head.extend_from_slice(b"{\"method\":");
                head.extend_from_slice(self.method.map_or("", RawValue::get).as_bytes());
                match params.strip_prefix('{') {
                    Some(members) if members.trim_ascii_start() != "}" => {
                        head.push(b',');
                        head.extend_from_slice(members.as_bytes());
                    }
                    Some(_) => head.push(b'}'),
                    // Positions instead of names: for whoever reads the arguments, there are none.
                    None => {
                        head.extend_from_slice(b",\"params\":");
                        head.extend_from_slice(params.as_bytes());
                        head.push(b'}');
                    }
                }
                frame(request, id, head)
            }
            (Some(method), None) => self.notification(method, params, head),
            (None, Some(id)) => match (self.result, self.error) {
                (_, Some(error)) => {
                    wrap(head, "err", error);
                    frame(if id == 0 { Kind::REPLY } else { answer }, id, head)
                }
                (Some(hello), None) if id == 0 && of == Side::Guest => frame(Kind::HELLO, 0, hello.get().as_bytes()),
                (Some(result), None) if id != 0 => {
                    wrap(head, "ok", result);
                    frame(answer, id, head)
                }
                _ => Meant::Stray,
            },
            (None, None) => Meant::Stray,
        }
    }

    fn notification<'h>(&self, method: &str, params: &'a str, head: &'h mut Vec<u8>) -> Meant<'h>
    where
        'a: 'h,
    {
        let Some((_, kind)) = NOTIFICATIONS.iter().find(|(name, _)| *name == method) else { return Meant::Nothing };
        let kind = *kind;
        if let Kind::LOG | Kind::VITALS | Kind::GOODBYE = kind {
            return Meant::Frame(Frame { kind, flags: 0, id: 0, head: params.as_bytes(), blob: &[] });
        }
        // A list would be read by position.
        let read = params.starts_with('{').then(|| serde_json::from_str::<Params<'a>>(params));
        let Some(Ok(read)) = read else { return Meant::Stray };
        let mut frame = Frame { kind, flags: 0, id: read.id, head: &[], blob: &[] };
        match kind {
            Kind::OPEN => {
                // As our own writer writes it, the head is what it was; otherwise it has a member more, which nobody reads.
                let members = params.strip_prefix("{\"id\":").and_then(|rest| rest.split_once(','));
                frame.head = match members.filter(|(id, _)| id.parse() == Ok(read.id)) {
                    Some((_, members)) => {
                        head.push(b'{');
                        head.extend_from_slice(members.as_bytes());
                        head
                    }
                    None => params.as_bytes(),
                }
            }
            Kind::CANCEL if read.abandoned => frame.flags = flag::ABANDONED,
            Kind::PROGRESS => frame.head = read.value.map_or("null", RawValue::get).as_bytes(),
            Kind::EVENT => frame.head = read.event.map_or("null", RawValue::get).as_bytes(),
            Kind::END => frame.head = read.error.map_or("", RawValue::get).as_bytes(),
            Kind::OUTPUT => {
                match (read.line, read.note) {
                    (Some(line), _) => wrap(head, "line", line),
                    (None, Some(note)) => wrap(head, "note", note),
                    (None, None) => return Meant::Stray,
                }
                frame.head = head;
            }
            Kind::CREDIT => {
                head.extend_from_slice(&read.amount.to_le_bytes());
                frame.blob = head;
                if read.host_call {
                    frame.flags = flag::HOST_CALL;
                }
            }
            _ => {}
        }
        Meant::Frame(frame)
    }
}

/// A text; `None` for anything else. Copied only when something in it is escaped.
fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    let plain = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if memchr(b'\\', plain.as_bytes()).is_none() {
        return Some(Cow::Borrowed(plain));
    }
    serde_json::from_str::<String>(raw.get()).ok().map(Cow::Owned)
}

fn wrap(head: &mut Vec<u8>, name: &str, value: &RawValue) {
    for piece in ["{\"", name, "\":", value.get(), "}"] {
        head.extend_from_slice(piece.as_bytes());
    }
}

fn present<'de, D: Deserializer<'de>>(d: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(d).map(Some)
}
