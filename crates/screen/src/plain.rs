//! Text without anything that a terminal would obey or a reader would not see.

use std::{borrow::Cow, iter::Peekable, str::Chars};

const ESCAPE: char = '\u{1b}';

/// A text without control characters, without whole escape sequences (CSI, OSC, DCS, SOS, PM, APC, SS2, SS3, in seven bits and in eight,
/// also such as are cut off), and without characters that cannot be seen: marks of the direction of writing, characters of no width, tags.
/// The end of a line and the tab stay, and so do the two joiners between characters beyond ASCII, where scripts and emoji need them.
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(|c: char| is_control(c) || is_unseen(c) || is_joiner(c)) {
        return Cow::Borrowed(text);
    }
    let mut seen = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ESCAPE => skip_escape(&mut chars),
            '\u{9b}' => skip_csi(&mut chars),
            '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => skip_string(&mut chars),
            '\u{8e}' | '\u{8f}' => skip_shifted(&mut chars),
            c if is_joiner(c) => {
                let joins = |c: Option<char>| c.is_some_and(|c| !c.is_ascii() && !is_control(c) && !is_unseen(c) && !is_joiner(c));
                if joins(seen.chars().next_back()) && joins(chars.peek().copied()) {
                    seen.push(c);
                }
            }
            c if is_control(c) || is_unseen(c) => {}
            c => seen.push(c),
        }
    }
    Cow::Owned(seen)
}

fn is_control(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\t')
}

fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}')
}

/// Formatting characters and fillers, by the lists of Unicode (Default_Ignorable_Code_Point) without the selectors of a glyph's variant.
fn is_unseen(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{61c}'
            | '\u{115f}'
            | '\u{1160}'
            | '\u{17b4}'
            | '\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// What follows an ESC, as ECMA-48 has it.
fn skip_escape(chars: &mut Peekable<Chars<'_>>) {
    match chars.peek().copied() {
        Some('[') => {
            chars.next();
            skip_csi(chars);
        }
        Some(']' | 'P' | 'X' | '^' | '_') => {
            chars.next();
            skip_string(chars);
        }
        Some('N' | 'O') => {
            chars.next();
            skip_shifted(chars);
        }
        _ => {
            while chars.next_if(|c| matches!(c, '\u{20}'..='\u{2f}')).is_some() {}
            chars.next_if(|c| matches!(c, '\u{30}'..='\u{7e}'));
        }
    }
}

/// Parameters, intermediates, and the byte that ends it. What does not belong to it, such as the end of a line, is text again.
fn skip_csi(chars: &mut Peekable<Chars<'_>>) {
    while chars.next_if(|c| matches!(c, '\u{30}'..='\u{3f}')).is_some() {}
    while chars.next_if(|c| matches!(c, '\u{20}'..='\u{2f}')).is_some() {}
    chars.next_if(|c| matches!(c, '\u{40}'..='\u{7e}'));
}

/// Up to its end: ST, or the BEL that xterm takes for one. Without an end, a terminal would swallow the rest, too.
fn skip_string(chars: &mut Peekable<Chars<'_>>) {
    while let Some(c) = chars.next() {
        match c {
            '\u{7}' | '\u{9c}' | '\u{18}' | '\u{1a}' => return,
            ESCAPE => {
                // An ST, or the beginning of something else, which ends the string as well.
                if chars.next_if_eq(&'\\').is_none() {
                    skip_escape(chars);
                }
                return;
            }
            _ => {}
        }
    }
}

/// The one character of another set.
fn skip_shifted(chars: &mut Peekable<Chars<'_>>) {
    chars.next_if(|c| matches!(c, '\u{20}'..='\u{7e}'));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_go_as_a_whole_and_text_stays() {
        for (text, expected) in [
            ("plain text, äöü 日本語\n\tnext", "plain text, äöü 日本語\n\tnext"),
            ("a\u{1b}[31mred\u{1b}[0m", "ared"),
            ("a\u{1b}[38;2;1;2;3mb", "ab"),
            ("a\u{1b}[?25lb\u{1b}[2 qc", "abc"),
            ("cut\u{1b}[38;5", "cut"),
            ("cut\u{1b}[", "cut"),
            ("cut\u{1b}", "cut"),
            ("a\u{1b}[31\nb", "a\nb"),
            ("a\u{1b}]0;title\u{7}b", "ab"),
            ("a\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{1b}\\b", "alinkb"),
            ("a\u{1b}]52;c;aGk", "a"),
            ("a\u{1b}]0;t\u{1b}[31mb", "ab"),
            ("a\u{1b}Pq#0;2\u{1b}\\b", "ab"),
            ("a\u{1b}_apc\u{9c}b\u{1b}^pm\u{1b}\\c\u{1b}Xsos\u{1b}\\d", "abcd"),
            ("a\u{1b}OPb\u{1b}Nxc", "abc"),
            ("a\u{1b}(Bb\u{1b}#8c\u{1b}7d\u{1b}cd", "abcdd"),
            ("a\u{9b}31mb\u{9d}0;t\u{9c}c\u{90}q\u{9c}d\u{8f}Pe\u{85}f", "abcdef"),
            ("a\r\u{7}\u{8}\u{0}\u{7f}\u{b}\u{c}b", "ab"),
            ("a\u{202e}b\u{200b}c\u{feff}d\u{2066}e\u{2069}f\u{ad}g\u{e0041}h\u{2028}i", "abcdefghi"),
            ("a\u{200d}b \u{200c}c", "ab c"),
            ("👩\u{200d}👧 می\u{200c}خواهم ❤\u{fe0f}", "👩\u{200d}👧 می\u{200c}خواهم ❤\u{fe0f}"),
            ("\u{1b}\u{1b}[31mx", "x"),
        ] {
            assert_eq!(plain(text), expected, "{text:?}");
            assert_eq!(plain(&plain(text)), plain(text), "{text:?}");
        }
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_put_together_by_taking_something_out() {
        let pieces = ["\u{1b}", "[", "]", "3", "1", "m", "\u{7}", "\u{9b}", "\\", "x", "\n", "\u{200b}", "é", "\u{200d}", "O", "P"];
        let mut seed = 7_u64;
        for _ in 0..20_000 {
            let mut text = String::new();
            for _ in 0..12 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text.push_str(pieces[(seed >> 40) as usize % pieces.len()]);
            }
            let clean = plain(&text).into_owned();
            assert!(!clean.contains(|c| is_control(c) || is_unseen(c)), "{text:?} → {clean:?}");
            assert_eq!(plain(&clean), clean, "{text:?}");
        }
    }
}
