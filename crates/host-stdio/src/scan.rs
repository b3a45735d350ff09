//! Reads the id of a request out of bytes that are not parsed: because they are too many, nested too deep, or no UTF-8. No parser:
//! what it cannot make out is no id.

use serde_json::{Map, Value};

/// The longest member of an object that may be the id; longer ones are something else.
const LONGEST_MEMBER: usize = 512;

/// Looks at the bytes of one message as they pass by, and remembers its id and how deep it is nested. Takes the same few bytes of
/// memory for any message.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    depth: usize,
    deepest: usize,
    in_string: bool,
    escaped: bool,
    is_object: bool,
    /// The member of the outermost object that is passing by, as far as it may be the id.
    member: Vec<u8>,
    id: Option<Value>,
}

impl Scan {
    /// A scan of a message that is here as a whole.
    pub(crate) fn of(message: &[u8]) -> Self {
        let mut scan = Scan::default();
        scan.feed(message);
        scan
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.step(byte);
        }
    }

    /// The id, if one passed by: the last one counts, as it does for a parser.
    pub(crate) fn id(&self) -> Option<&Value> {
        self.id.as_ref()
    }

    /// Brackets that were open at the same time.
    pub(crate) fn deepest(&self) -> usize {
        self.deepest
    }

    fn step(&mut self, byte: u8) {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return self.keep(byte);
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => {
                if self.depth == 0 {
                    self.is_object = byte == b'{';
                }
                self.depth += 1;
                self.deepest = self.deepest.max(self.depth);
                if self.depth == 1 {
                    return;
                }
            }
            b'}' | b']' => {
                if self.depth == 1 {
                    self.end_member();
                }
                self.depth = self.depth.saturating_sub(1);
            }
            b',' if self.depth == 1 => return self.end_member(),
            _ => {}
        }
        self.keep(byte);
    }

    fn keep(&mut self, byte: u8) {
        // One more than fits says that it did not.
        if self.is_object && self.depth >= 1 && self.member.len() <= LONGEST_MEMBER {
            self.member.push(byte);
        }
    }

    fn end_member(&mut self) {
        let member = std::mem::take(&mut self.member);
        if member.len() > LONGEST_MEMBER || !member.trim_ascii_start().starts_with(b"\"id\"") {
            return;
        }
        let object = [b"{".as_slice(), &member, b"}"].concat();
        let id = serde_json::from_slice::<Map<String, Value>>(&object).ok().and_then(|mut object| object.shift_remove("id"));
        if let Some(id) = id.filter(|id| id.is_string() || id.is_number()) {
            self.id = Some(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_id_is_read_wherever_it_stands_and_nothing_else_is_taken_for_it() {
        for (message, id) in [
            (r#"{"jsonrpc":"2.0","id":7,"method":"x"}"#, Some(json!(7))),
            (r#"{"params":{"id":1,"a":[{"id":2}]},"id" : "a,}\"b" }"#, Some(json!("a,}\"b"))),
            (r#"{"text":"\"id\":3,","id":4}"#, Some(json!(4))),
            (r#"{"id":1,"id":2}"#, Some(json!(2))),
            (r#"{"id":{"id":1}}"#, None),
            (r#"{"id":[1]}"#, None),
            (r#"[{"id":1}]"#, None),
            (r#""id":1"#, None),
            (r#"{"id":1"#, None),
            ("}}}}]]],,,", None),
            ("", None),
        ] {
            assert_eq!(Scan::of(message.as_bytes()).id().cloned(), id, "{message}");
            // It may come in pieces of any length.
            let mut scan = Scan::default();
            message.as_bytes().chunks(1).for_each(|byte| scan.feed(byte));
            assert_eq!(scan.id().cloned(), id, "{message}");
        }
    }

    #[test]
    fn a_long_message_takes_no_memory_and_keeps_its_id() {
        let mut scan = Scan::default();
        scan.feed(br#"{"params":""#);
        for _ in 0..1000 {
            scan.feed(&[b'x'; 4096]);
        }
        scan.feed(br#"","id":5}"#);
        assert_eq!(scan.id(), Some(&json!(5)));
        assert!(scan.member.capacity() <= 4 * LONGEST_MEMBER);
        let deep = Scan::of("[".repeat(100_000).as_bytes());
        assert_eq!((deep.deepest(), deep.id()), (100_000, None));
    }
}
