//! Cuts text into the pieces inside which BPE may merge: single digits first, then GPT-2's words.
//!
//! The rule is `Digits(individual_digits)` followed by GPT-2's expression
//! `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+` on what lies between the digits. It is
//! written out by hand because the look-ahead needs a backtracking engine and nothing else does.

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

/// The pieces of `text`, in order; together they are the whole text.
pub(crate) fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, left) = rest.split_at(piece_len(rest));
        rest = left;
        Some(piece)
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Number,
    Space,
    Other,
}

fn class(c: char) -> Class {
    if c.is_ascii_alphabetic() {
        return Class::Letter;
    }
    if c.is_whitespace() {
        return Class::Space;
    }
    match c.general_category_group() {
        GeneralCategoryGroup::Letter => Class::Letter,
        GeneralCategoryGroup::Number => Class::Number,
        _ => Class::Other,
    }
}

/// Bytes of the first piece of a text that is not empty.
fn piece_len(text: &str) -> usize {
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return 0 };
    let kind = class(first);
    match kind {
        Class::Number => first.len_utf8(),
        Class::Letter => run(text, kind),
        Class::Other => contraction(text).unwrap_or_else(|| run(text, kind)),
        Class::Space => {
            // A plain space belongs to the word or the signs behind it.
            if let (' ', Some(next)) = (first, chars.next())
                && let next @ (Class::Letter | Class::Other) = class(next)
            {
                return 1 + run(&text[1..], next);
            }
            let spaces = run(text, kind);
            let last = text[..spaces].chars().next_back().map_or(0, char::len_utf8);
            // A run gives its last space to the word behind it; before a digit or the end, which are borders of
            // their own, and if it is only one, it keeps it.
            match text[spaces..].chars().next().map(class) {
                Some(Class::Letter | Class::Other) if spaces > last => spaces - last,
                _ => spaces,
            }
        }
    }
}

fn run(text: &str, kind: Class) -> usize {
    text.char_indices().find(|(_, c)| class(*c) != kind).map_or(text.len(), |(at, _)| at)
}

fn contraction(text: &str) -> Option<usize> {
    ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"].iter().find(|end| text.starts_with(**end)).map(|end| end.len())
}

#[cfg(test)]
mod tests {
    use super::pieces;

    #[test]
    fn pieces_follow_the_expression() {
        for (text, expected) in [
            ("Hello world", &["Hello", " world"][..]),
            ("a  b", &["a", " ", " b"]),
            ("a  1", &["a", "  ", "1"]),
            ("1984 was", &["1", "9", "8", "4", " was"]),
            ("it's we'll '", &["it", "'s", " we", "'ll", " '"]),
            ("tabs\t\tx \n", &["tabs", "\t", "\t", "x", " \n"]),
            ("...'s", &["...'", "s"]),
            ("!?\u{e9}t\u{e9}", &["!?", "\u{e9}t\u{e9}"]),
        ] {
            assert_eq!(pieces(text).collect::<Vec<_>>(), expected, "{text:?}");
        }
    }
}
