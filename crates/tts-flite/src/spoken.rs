//! Text as it is written to text as flite can say it: plain ASCII words. Numbers, dates, money in dollars and
//! abbreviations stay as they are, because flite expands them itself.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// Longer runs without a space are broken up. flite recurses over the characters of a token, and 20,000 apostrophes in
/// a row overflow its stack.
const MAX_TOKEN: usize = 48;
/// A longer run of one punctuation character says no more than this many.
const MAX_REPEAT: usize = 3;

/// What flite should say for a clause, and whether that is all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Spoken {
    /// ASCII text; blank when there is nothing to say.
    pub(crate) text: String,
    /// Letters and digits of scripts that an English voice cannot say were left out.
    pub(crate) left_out: bool,
}

/// The spoken form of a clause. Accents are dropped, typographic quotes and dashes become plain ones, Markdown marks
/// vanish, symbols with an English word get it, and everything else that is not ASCII is left out.
pub(crate) fn spoken(written: &str) -> Spoken {
    let mut out = Writer::default();
    let mut rest = written.chars().peekable();
    let mut previous = ' ';
    while let Some(c) = rest.next() {
        let alone = previous.is_whitespace() && rest.peek().is_none_or(|next| next.is_whitespace());
        match c {
            '€' | '£' | '¥' => {
                let amount = number(&mut rest);
                let (one, many) = match c {
                    '€' => ("euro", "euros"),
                    '£' => ("pound", "pounds"),
                    _ => ("yen", "yen"),
                };
                out.text(&amount);
                out.word(if amount == "1" { one } else { many });
            }
            '+' if alone => out.word("plus"),
            '-' | '−' if alone && out.ends_with_digit() && next_is_digit(&rest) => out.word("minus"),
            '×' => out.word("times"),
            '÷' => out.word("divided by"),
            '±' => out.word("plus or minus"),
            '≈' => out.word("about"),
            '°' => out.word("degrees"),
            '’' | '‘' | '‚' | '′' | 'ʼ' => out.ascii('\''),
            '“' | '”' | '„' | '«' | '»' | '″' => out.ascii('"'),
            '−' | '‐' | '‑' => out.ascii('-'),
            '–' if previous.is_ascii_digit() && next_is_digit(&rest) => out.word("to"),
            // A dash is a pause, and so is an arrow or a bullet.
            '–' | '—' | '―' | '→' | '•' | '·' | '|' => out.text(", "),
            '…' => out.text("... "),
            '*' | '`' | '_' | '~' => out.ascii(' '),
            '#' if !next_is_digit(&rest) => out.ascii(' '),
            _ if c.is_ascii_control() => out.ascii(' '),
            _ if c.is_ascii() => out.ascii(c),
            _ => out.fold(c),
        }
        previous = c;
    }
    out.spoken
}

type Rest<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn next_is_digit(rest: &Rest<'_>) -> bool {
    rest.clone().find(|c| !c.is_whitespace()).is_some_and(|c| c.is_ascii_digit())
}

/// Takes the number that follows, without the punctuation after it.
fn number(rest: &mut Rest<'_>) -> String {
    let mut number = String::new();
    let mut ahead = rest.clone();
    while let Some(c) = ahead.next().filter(|c| c.is_ascii_digit() || matches!(c, '.' | ',')) {
        let inside = c.is_ascii_digit() || ahead.peek().is_some_and(char::is_ascii_digit);
        if !inside {
            break;
        }
        number.push(c);
        rest.next();
    }
    number
}

#[derive(Default)]
struct Writer {
    spoken: Spoken,
    token: usize,
    repeats: usize,
}

impl Writer {
    /// Appends an ASCII character, keeping tokens and repetitions short.
    fn ascii(&mut self, c: char) {
        let text = &mut self.spoken.text;
        if c.is_ascii_whitespace() {
            self.token = 0;
            self.repeats = 0;
            text.push(c);
            return;
        }
        self.repeats = if text.ends_with(c) { self.repeats + 1 } else { 1 };
        if c.is_ascii_punctuation() && self.repeats > MAX_REPEAT {
            return;
        }
        if self.token == MAX_TOKEN {
            self.token = 0;
            text.push(' ');
        }
        self.token += 1;
        text.push(c);
    }

    fn text(&mut self, text: &str) {
        text.chars().for_each(|c| self.ascii(c));
    }

    /// A word of our own, apart from its neighbours.
    fn word(&mut self, word: &str) {
        self.ascii(' ');
        self.text(word);
        self.ascii(' ');
    }

    /// A character beyond ASCII: its plain letters, or nothing.
    fn fold(&mut self, c: char) {
        if let Some(plain) = plain_letters(c) {
            return self.text(plain);
        }
        let mut said = false;
        for part in std::iter::once(c).nfkd() {
            if part.is_ascii() {
                self.ascii(part);
                said = true;
            } else if part == '\u{2044}' {
                self.ascii('/'); // the slash inside ½
            }
        }
        if !said {
            self.spoken.left_out |= c.is_alphanumeric();
            if !is_combining_mark(c) {
                self.ascii(' ');
            }
        }
    }

    fn ends_with_digit(&self) -> bool {
        self.spoken.text.trim_end().ends_with(|c: char| c.is_ascii_digit())
    }
}

/// Latin letters that have no decomposition in Unicode.
fn plain_letters(c: char) -> Option<&'static str> {
    Some(match c {
        'ß' => "ss",
        'æ' => "ae",
        'Æ' => "Ae",
        'œ' => "oe",
        'Œ' => "Oe",
        'ø' => "o",
        'Ø' => "O",
        'ł' => "l",
        'Ł' => "L",
        'đ' | 'ð' => "d",
        'Đ' | 'Ð' => "D",
        'þ' => "th",
        'Þ' => "Th",
        'ı' => "i",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typography_becomes_plain() {
        for (written, said) in [
            ("It’s “fine” – really…", "It's \"fine\" ,  really... "),
            ("naïve café, Æsop, Łódź, Straße", "naive cafe, Aesop, Lodz, Strasse"),
            ("e\u{301}te\u{301}", "ete"),
            ("ﬁn ① ½", "fin 1 1/2"),
            ("**Paris** is `big`", "  Paris   is  big "),
            ("# Title #1", "  Title #1"),
        ] {
            assert_eq!(spoken(written), Spoken { text: said.into(), left_out: false });
        }
    }

    #[test]
    fn symbols_get_their_words() {
        for (written, said) in [
            ("€5.20, £1. ¥", " 5.20 euros , 1 pound . yen"),
            ("5 + 3 - 1 × 2", "5 plus 3 minus 1 times 2"),
            ("20 °C", "20 degrees C"),
            ("1990–1995", "1990 to 1995"),
            ("well - yes", "well - yes"),
            ("$5, 50%, 3.14 & C++", "$5, 50%, 3.14 & C++"),
        ] {
            let text = spoken(written).text;
            assert_eq!(text.split_whitespace().collect::<Vec<_>>().join(" "), said.trim(), "{written}");
        }
    }

    #[test]
    fn what_cannot_be_said_is_left_out_and_told() {
        assert_eq!(spoken("👍"), Spoken { text: " ".into(), left_out: false });
        let mixed = spoken("Tokyo 東京.");
        assert_eq!((mixed.text.trim(), mixed.left_out), ("Tokyo   .", true));
        assert_eq!(spoken("\u{0}\u{7}\u{fffd}").text.trim(), "");
    }

    #[test]
    fn no_token_is_long_enough_to_hurt() {
        for c in ['a', '9', '\'', '(', '$', '“', 'é'] {
            let text = spoken(&c.to_string().repeat(20_000)).text;
            assert!(text.split(' ').all(|token| token.len() <= MAX_TOKEN), "{c}");
        }
        assert_eq!(spoken("wait......... what").text, "wait... what");
    }
}
