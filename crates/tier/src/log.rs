//! What a plugin may put into a log, however it gets there: text, in lines of a bounded length, so many a second. Where they go is the
//! host's.

use std::{fmt::Write as _, time::Instant};

use crate::Rate;

/// Most bytes of a line that are kept; the rest is counted.
pub const MOST_LINE: usize = 4096;
/// Lines that pass at once, and then a second.
const BURST: u32 = 400;
const PER_SECOND: u32 = 100;

/// How many lines of one plugin pass.
pub fn rate(now: Instant) -> Rate {
    Rate::new(BURST, PER_SECOND, now)
}

/// What is said of so many lines that did not pass.
pub fn left_out(held: u64) -> Option<String> {
    let lines = match held {
        0 => return None,
        1 => "1 line was".to_owned(),
        _ => format!("{held} lines were"),
    };
    Some(format!("{lines} left out: it writes more than {PER_SECOND} a second"))
}

/// A text as a line of a log: nothing that a terminal obeys, and not without end.
pub fn line(text: &str) -> String {
    let kept = &text[..text.floor_char_boundary(MOST_LINE)];
    plain(kept, text.len() - kept.len())
}

/// The same of a text that was cut before, by so many bytes.
pub fn plain(text: &str, more: usize) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.trim_end_matches('\r').chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\t' => plain.push('\t'),
            '\n' => plain.push(' '),
            '\u{1b}' if rest.peek() == Some(&'[') => {
                // Colours: parameters, then one letter.
                rest.next();
                while rest.next_if(|c| matches!(c, ' '..='?')).is_some() {}
                rest.next_if(|c| matches!(c, '@'..='~'));
            }
            c if c.is_control() => {}
            c => plain.push(c),
        }
    }
    if more > 0 {
        // Writing to a String cannot fail.
        let _ = write!(plain, "… ({more} bytes more)");
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_text_and_has_an_end() {
        assert_eq!(line("a\u{1b}[31mb\u{1b}[0m\nc\td\u{7}\r"), "ab c\td");
        assert_eq!(line(&"ä".repeat(3000)), format!("{}… (1904 bytes more)", "ä".repeat(2048)));
        assert_eq!(plain("\u{1b}[1;31mred\u{1b}[", 3), "red… (3 bytes more)");
    }

    #[test]
    fn what_did_not_pass_is_told_in_words() {
        assert_eq!(left_out(0), None);
        assert_eq!(left_out(1).unwrap(), "1 line was left out: it writes more than 100 a second");
        assert_eq!(left_out(7).unwrap(), "7 lines were left out: it writes more than 100 a second");
    }
}
