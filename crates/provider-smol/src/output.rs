//! Turns the bytes of tokens into text that may be shown: whole characters only, and no part of a stop text.

/// Text on its way out. Holds back what could still become a stop text or is half a character.
pub(crate) struct Output {
    stops: Vec<String>,
    bytes: Vec<u8>,
    held: String,
    stopped: bool,
}

impl Output {
    /// An output that ends at the first of `stops`; empty ones are ignored.
    pub(crate) fn new(stops: &[String]) -> Self {
        let stops = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        Self { stops, bytes: Vec::new(), held: String::new(), stopped: false }
    }

    /// Whether a stop text has come.
    pub(crate) fn stopped(&self) -> bool {
        self.stopped
    }

    /// Takes the bytes of a token and returns what may be shown now.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> String {
        self.bytes.extend_from_slice(bytes);
        self.decode(false);
        self.release(false)
    }

    /// The rest, when no more tokens come. Half a character becomes U+FFFD.
    pub(crate) fn finish(&mut self) -> String {
        self.decode(true);
        self.release(true)
    }

    fn decode(&mut self, last: bool) {
        let mut rest = &self.bytes[..];
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    self.held.push_str(text);
                    rest = &[];
                    break;
                }
                Err(e) => {
                    let (text, bad) = rest.split_at(e.valid_up_to());
                    self.held.push_str(&String::from_utf8_lossy(text));
                    rest = match e.error_len() {
                        Some(len) => &bad[len..],
                        None if last => &[],
                        None => {
                            rest = bad;
                            break;
                        }
                    };
                    self.held.push(char::REPLACEMENT_CHARACTER);
                }
            }
        }
        self.bytes = rest.to_vec();
    }

    fn release(&mut self, last: bool) -> String {
        if self.stopped {
            return String::new();
        }
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.stopped = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let keep = if last { 0 } else { self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0) };
        let tail = self.held.split_off(self.held.len() - keep);
        std::mem::replace(&mut self.held, tail)
    }
}

/// Bytes of the longest end of `text` with which `stop` begins.
fn overlap(text: &str, stop: &str) -> usize {
    let starts = stop.char_indices().map(|(at, _)| at).skip(1);
    starts.filter(|at| text.ends_with(&stop[..*at])).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::Output;

    fn run(stops: &[&str], pieces: &[&[u8]]) -> (Vec<String>, bool) {
        let mut output = Output::new(&stops.iter().map(ToString::to_string).collect::<Vec<_>>());
        let mut shown = Vec::new();
        for piece in pieces {
            shown.push(output.push(piece));
        }
        shown.push(output.finish());
        (shown, output.stopped())
    }

    #[test]
    fn a_stop_text_over_token_borders_never_shows() {
        assert_eq!(run(&["STOP"], &[b"go S", b"TO", b"P on"]), (vec!["go ".into(), "".into(), "".into(), "".into()], true));
    }

    #[test]
    fn what_only_looked_like_a_stop_comes_later() {
        assert_eq!(run(&["STOP"], &[b"ST", b"OR", b"ST"]), (vec!["".into(), "STOR".into(), "".into(), "ST".into()], false));
        assert_eq!(run(&["aab"], &[b"aa", b"ab"]), (vec!["".into(), "a".into(), "".into()], true));
    }

    #[test]
    fn the_earliest_stop_wins_and_empty_ones_do_nothing() {
        assert_eq!(run(&["", "two", "one"], &[b"0 one two"]), (vec!["0 ".into(), "".into()], true));
        assert_eq!(run(&[""], &[b"x"]), (vec!["x".into(), "".into()], false));
    }

    #[test]
    fn characters_are_whole() {
        let euro = "\u{20ac}".as_bytes();
        assert_eq!(run(&[], &[&euro[..1], &euro[1..2], &euro[2..]]).0, ["", "", "\u{20ac}", ""]);
        assert_eq!(run(&[], &[&euro[..2]]).0, ["", "\u{fffd}"]);
        assert_eq!(run(&[], &[b"a\xffb"]).0, ["a\u{fffd}b", ""]);
        assert_eq!(run(&["\u{20ac}!"], &[&euro[..2], &euro[2..], b"!"]), (vec!["".into(); 4], true));
    }
}
