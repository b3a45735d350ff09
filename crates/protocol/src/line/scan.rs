//! What a line that is too long to be kept says of itself: its members are read as they pass by. No parser: it checks nothing.

/// Longest name or number that is of interest.
const TOKEN: usize = 24;

#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Bytes seen.
    pub(super) len: usize,
    pub(super) id: Option<u32>,
    pub(super) params_id: Option<u32>,
    pub(super) method: Option<Token>,
    pub(super) answers: bool,
    pub(super) blob: Option<usize>,
    depth: usize,
    in_text: bool,
    escaped: bool,
    token: Token,
    /// Names of the members that we are in, at the first two depths.
    names: [Token; 2],
}

/// A short text, or the beginning of a long one.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Token {
    bytes: [u8; TOKEN],
    /// One more than fits says that it was longer.
    len: usize,
}

impl Token {
    pub(super) fn get(&self) -> &[u8] {
        // What was longer equals no name that we look for.
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn extend(&mut self, bytes: &[u8]) {
        if self.len + bytes.len() <= TOKEN {
            self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
            self.len += bytes.len();
        } else {
            self.len = TOKEN + 1;
        }
    }

    fn number<T: std::str::FromStr>(&self) -> Option<T> {
        std::str::from_utf8(self.get()).ok()?.parse().ok()
    }
}

impl Scan {
    /// Takes the next bytes of the line.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        self.len += bytes.len();
        while let Some((&first, rest)) = bytes.split_first() {
            if self.in_text {
                bytes = self.text(bytes);
                continue;
            }
            bytes = rest;
            match first {
                b'"' => {
                    self.in_text = true;
                    self.token = Token::default();
                }
                b'{' | b'[' => {
                    self.depth += 1;
                    self.token = Token::default();
                }
                b'}' | b']' => {
                    self.value();
                    self.depth = self.depth.saturating_sub(1);
                }
                b',' => self.value(),
                b':' => {
                    let name = std::mem::take(&mut self.token);
                    if let Some(place) = self.depth.checked_sub(1).and_then(|at| self.names.get_mut(at)) {
                        *place = name;
                    }
                    self.answers |= self.depth == 1 && matches!(name.get(), b"result" | b"error");
                }
                b if b.is_ascii_whitespace() => {}
                b => self.token.extend(&[b]),
            }
        }
    }

    /// The line has ended.
    pub(super) fn end(&mut self) {
        self.value();
    }

    /// What is left behind the part of the text that `bytes` hold.
    fn text<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if std::mem::take(&mut self.escaped) {
            self.token.len = TOKEN + 1;
            return &bytes[1..];
        }
        let end = memchr::memchr2(b'"', b'\\', bytes).unwrap_or(bytes.len());
        self.token.extend(&bytes[..end]);
        match bytes.get(end) {
            Some(b'"') => self.in_text = false,
            Some(_) => self.escaped = true,
            None => return &[],
        }
        &bytes[end + 1..]
    }

    /// A member is complete.
    fn value(&mut self) {
        let value = std::mem::take(&mut self.token);
        match (self.depth, self.names[0].get(), self.names[1].get()) {
            (1, b"id", _) => self.id = self.id.or_else(|| value.number()),
            (1, b"blob", _) => self.blob = self.blob.or_else(|| value.number()),
            (1, b"method", _) => self.method = self.method.or(Some(value)),
            (2, b"params", b"id") => self.params_id = self.params_id.or_else(|| value.number()),
            _ => {}
        }
        if let Some(place) = self.depth.checked_sub(1).and_then(|at| self.names.get_mut(at)) {
            *place = Token::default();
        }
    }
}
