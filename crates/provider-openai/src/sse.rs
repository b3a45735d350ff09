//! Server-sent events out of bytes that are cut anywhere. Knows nothing of what the events say.
//!
//! Own code, because the crates for it keep a line of any length: what a server sends is bounded here.

/// Most bytes of one line, and of the data of one event.
pub(crate) const MAX_EVENT: usize = 1 << 20;

/// A line or an event was longer than [`MAX_EVENT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLong;

/// Cuts bytes into the data of events. Comments and all fields but `data` are passed over.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// A line whose end is not here yet.
    line: Vec<u8>,
    /// Lines of data of the event under way, joined.
    data: Option<String>,
    /// The last byte was a carriage return: a line feed that follows belongs to it.
    after_return: bool,
    /// Something has come: a byte order mark can stand no more.
    begun: bool,
}

impl Events {
    /// Takes bytes and calls `event` with the data of each event that they complete.
    pub(crate) fn push(&mut self, mut bytes: &[u8], event: &mut impl FnMut(String)) -> Result<(), TooLong> {
        if bytes.is_empty() {
            return Ok(());
        }
        if std::mem::take(&mut self.after_return) && bytes[0] == b'\n' {
            bytes = &bytes[1..];
        }
        while let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            self.keep(&bytes[..end])?;
            let rest = &bytes[end + 1..];
            bytes = match (bytes[end], rest.first()) {
                (b'\r', Some(b'\n')) => &rest[1..],
                (b'\r', None) => {
                    self.after_return = true;
                    rest
                }
                _ => rest,
            };
            self.end_line(event)?;
        }
        self.keep(bytes)
    }

    /// The bytes are over. An event without the empty line at its end counts: servers that are in a hurry leave it out.
    pub(crate) fn finish(&mut self, event: &mut impl FnMut(String)) -> Result<(), TooLong> {
        if !self.line.is_empty() {
            self.end_line(event)?;
        }
        self.data.take().into_iter().for_each(event);
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        if self.line.len() + bytes.len() > MAX_EVENT {
            return Err(TooLong);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self, event: &mut impl FnMut(String)) -> Result<(), TooLong> {
        // Whole lines are decoded, so a character that was cut in two is whole again.
        let line = String::from_utf8_lossy(&self.line);
        let line = if self.begun { &line } else { line.trim_start_matches('\u{feff}') };
        self.begun = true;
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        if line.is_empty() {
            self.data.take().into_iter().for_each(event);
        } else if field == "data" {
            let value = value.strip_prefix(' ').unwrap_or(value);
            match &mut self.data {
                None => self.data = Some(value.to_owned()),
                Some(data) if data.len() + value.len() >= MAX_EVENT => return Err(TooLong),
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
            }
        }
        self.line.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pieces: &[&[u8]]) -> Vec<String> {
        let (mut events, mut found) = (Events::default(), Vec::new());
        for piece in pieces {
            events.push(piece, &mut |data| found.push(data)).unwrap();
        }
        events.finish(&mut |data| found.push(data)).unwrap();
        found
    }

    #[test]
    fn events_are_the_same_wherever_the_bytes_are_cut() {
        for (text, expected) in [
            ("data: a\n\ndata: b\n\n", &["a", "b"][..]),
            ("data: a\r\n\r\ndata: b\r\n\r\n", &["a", "b"]),
            ("data: a\r\rdata: b\r\r", &["a", "b"]),
            ("data: a\r\n\ndata:b\n\r\n", &["a", "b"]),
            ("\u{feff}data: a\n\n", &["a"]),
            (": ping\n\n: ping\n\ndata: a\n\n", &["a"]),
            ("event: x\nid: 7\nretry: 10\ndata: a\n\n", &["a"]),
            ("data: a\ndata: b\ndata\ndata:  c\n\n", &["a\nb\n\n c"]),
            ("data:\n\n", &[""]),
            ("data: {\"text\":\"naïve 😀 …\"}\n\n", &["{\"text\":\"naïve 😀 …\"}"]),
            ("data: no end", &["no end"]),
            ("data: one end\n", &["one end"]),
            ("databases: x\n\nno field at all\n\n", &[]),
            ("\n\n\n", &[]),
            ("", &[]),
        ] {
            let bytes = text.as_bytes();
            for first in 0..=bytes.len() {
                for second in first..=bytes.len() {
                    let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                    assert_eq!(cut(&pieces), expected, "{text:?} cut at {first} and {second}");
                }
            }
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(cut(&single), expected, "{text:?} byte by byte");
        }
    }

    #[test]
    fn what_is_no_utf8_is_replaced_and_harms_nothing_else() {
        assert_eq!(cut(&[b"data: a\xffb\n\ndata: c\n\n"]), ["a\u{fffd}b", "c"]);
    }

    #[test]
    fn a_line_or_an_event_without_end_is_refused_before_it_is_kept() {
        let piece = [b'x'; 4096];
        let mut events = Events::default();
        let refused = (0..).find(|_| events.push(&piece, &mut |_| ()).is_err()).unwrap();
        assert_eq!(refused * piece.len(), MAX_EVENT);
        assert!(events.line.len() <= MAX_EVENT);

        let mut events = Events::default();
        let line = format!("data: {}\n", "x".repeat(4090));
        let refused = (0..1000).find(|_| events.push(line.as_bytes(), &mut |_| ()).is_err()).unwrap();
        assert!(refused * 4091 <= MAX_EVENT && (refused + 2) * 4091 > MAX_EVENT, "{refused}");
    }
}
