//! Breaking text between words while it streams in.

use std::borrow::Cow;

use unicode_width::UnicodeWidthChar;

/// Breaks text that comes in pieces between words. Control characters are left out, but for the end of a line and the tab, which
/// becomes four blanks; so are those that change the direction of writing. Lines of a block of code, between two lines that begin
/// with three backticks, are not broken. The word at the end of a piece is held back until it is whole, so that
/// nothing that was shown moves.
#[derive(Debug, Default)]
pub struct Page {
    /// Columns that are taken on the line.
    column: usize,
    /// Blanks that stand before the word, shown only if the word fits behind them.
    blanks: String,
    word: String,
    /// Inside a block of code, whose lines stay as they are.
    in_code: bool,
    /// The line so far, as far as it takes to see whether it opens or closes a block of code.
    line: String,
}

impl Page {
    /// What can be shown of a further piece, on a page of so many columns, at least 1.
    pub fn add(&mut self, text: &str, columns: usize) -> String {
        let mut shown = String::with_capacity(text.len() + 8);
        for c in text.chars().filter(|c| !steers(*c)) {
            match c {
                '\n' => {
                    self.put_word(&mut shown, columns);
                    self.blanks.clear();
                    shown.push('\n');
                    self.column = 0;
                    if self.line.trim_start().starts_with("```") {
                        self.in_code = !self.in_code;
                    }
                    self.line.clear();
                }
                ' ' | '\t' => {
                    self.put_word(&mut shown, columns);
                    self.blanks.push_str(if c == '\t' { "    " } else { " " });
                    self.remember(' ');
                }
                c => {
                    self.word.push(c);
                    self.remember(c);
                }
            }
        }
        shown
    }

    /// What was held back.
    pub fn end(&mut self, columns: usize) -> String {
        let mut shown = String::new();
        self.put_word(&mut shown, columns);
        shown
    }

    fn remember(&mut self, c: char) {
        if self.line.len() < 16 {
            self.line.push(c);
        }
    }

    fn put_word(&mut self, shown: &mut String, columns: usize) {
        if self.word.is_empty() {
            return;
        }
        let (blanks, word) = (std::mem::take(&mut self.blanks), std::mem::take(&mut self.word));
        let wide = width(&word);
        if self.in_code || self.column + blanks.len() + wide <= columns || self.column == 0 && wide > columns {
            shown.push_str(&blanks);
            self.column += blanks.len();
        } else {
            shown.push('\n');
            self.column = 0;
        }
        shown.push_str(&word);
        // A word that is longer than a line is broken by the terminal.
        self.column = if self.in_code || columns == 0 { self.column + wide } else { (self.column + wide - 1) % columns + 1 };
    }
}

/// A text without what would steer a terminal, in the lines that it has.
pub fn harmless(text: &str) -> Cow<'_, str> {
    if text.contains(steers) { Cow::Owned(text.replace(steers, "")) } else { Cow::Borrowed(text) }
}

/// Control characters, but for the end of a line and the tab, and those that change the direction of writing.
fn steers(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\t') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn width(word: &str) -> usize {
    word.chars().map(|c| c.width().unwrap_or(0)).sum::<usize>().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A text in pieces of so many characters, on a page of 20 columns.
    fn page(text: &str, piece: usize) -> String {
        let mut page = Page::default();
        let chars: Vec<char> = text.chars().collect();
        let mut shown: String = chars.chunks(piece).map(|piece| page.add(&piece.iter().collect::<String>(), 20)).collect();
        shown += &page.end(20);
        shown
    }

    #[test]
    fn breaks_between_words_however_the_pieces_fall() {
        let text = "The capital of France is Paris, and that of Italy is Rome.\nNext line stays.";
        let expected = "The capital of\nFrance is Paris, and\nthat of Italy is\nRome.\nNext line stays.";
        for piece in [1, 2, 3, 7, 100] {
            assert_eq!(page(text, piece), expected, "{piece}");
        }
    }

    #[test]
    fn indentation_stays_and_blanks_at_a_break_go() {
        assert_eq!(page("- one\n  - two three four five", 4), "- one\n  - two three four\nfive");
        assert_eq!(page("12345678901234567890 x", 5), "12345678901234567890\nx");
    }

    #[test]
    fn wide_characters_count_twice_and_long_words_are_left_to_the_terminal() {
        assert_eq!(page("日本語日本語 日本語日本語", 3), "日本語日本語\n日本語日本語");
        let long = "x".repeat(45);
        assert_eq!(page(&format!("a {long} b"), 9), format!("a\n{long} b"));
    }

    #[test]
    fn code_stays_as_it_is() {
        let code = "```rust\nfn a_function_with_a_long_name(argument: u32) {}\n```\nand words that wrap again";
        assert_eq!(page(code, 6), "```rust\nfn a_function_with_a_long_name(argument: u32) {}\n```\nand words that wrap\nagain");
    }

    #[test]
    fn nothing_steers_the_terminal() {
        let text = "a\u{1b}[2Jb\r\u{7}c\u{9b}31m\u{202e}\u{2069}d\u{0}";
        assert_eq!(page(text, 3), "a[2Jbc31md");
        assert_eq!(harmless(text), "a[2Jbc31md");
        let plain = "one\n\ttwo  日本語 e\u{301} 👩\u{200d}👧";
        assert!(matches!(harmless(plain), Cow::Borrowed(text) if text == plain));
    }
}
