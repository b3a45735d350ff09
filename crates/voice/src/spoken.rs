//! From an answer as models write it to what a voice should read: Markdown, links, code and emoji go. Numbers, dates and
//! abbreviations stay: how they sound is known to the engine.

/// Takes the marks out of one answer, piece by piece.
#[derive(Debug, Default)]
pub(crate) struct Markup {
    in_code: bool,
}

impl Markup {
    /// What should be read of a piece; nothing when no letter or digit is left.
    ///
    /// | written | read |
    /// |---|---|
    /// | `# Title`, `> quote`, `- item`, `* item` | the line without its mark |
    /// | `**bold**`, `_slanted_`, `` `code` ``, `~~struck~~` | the words |
    /// | `[text](url)`, `![text](url)` | the text |
    /// | `https://example.org/a/b` | `example.org` |
    /// | a fenced block of code, a rule, the line under a table's head | nothing |
    /// | `a \| b` | `a, b` |
    /// | emoji and pictures | nothing |
    pub(crate) fn spoken(&mut self, piece: &str) -> Option<String> {
        let mut out = String::with_capacity(piece.len());
        for line in piece.lines() {
            let line = line.trim();
            if line.starts_with("```") || line.starts_with("~~~") {
                self.in_code = !self.in_code;
            } else if !self.in_code && !is_rule(line) {
                let start = out.len();
                if start > 0 {
                    out.push('\n');
                }
                inline(without_mark(line), &mut out);
            }
        }
        let words: Vec<_> = out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        let text = words.join("\n").trim().to_owned();
        text.contains(char::is_alphanumeric).then_some(text)
    }
}

fn is_rule(line: &str) -> bool {
    line.len() >= 3 && line.chars().all(|c| matches!(c, '-' | '=' | '*' | '_' | '|' | ':' | ' '))
}

/// A line without the mark at its start.
fn without_mark(line: &str) -> &str {
    let line = line.trim_start_matches('>').trim_start();
    let title = line.trim_start_matches('#');
    if title.len() < line.len() && title.starts_with(' ') {
        return title;
    }
    let item = ["- ", "* ", "+ ", "• "].iter().find_map(|mark| line.strip_prefix(mark));
    item.map_or(line, |item| item.strip_prefix("[ ] ").or_else(|| item.strip_prefix("[x] ")).unwrap_or(item))
}

fn inline(line: &str, out: &mut String) {
    let mut rest = line;
    let mut previous = ' ';
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        let next = after.chars().next().unwrap_or(' ');
        if let Some(length) = url_length(rest).filter(|_| !previous.is_alphanumeric()) {
            out.push_str(host(&rest[..length]));
            rest = &rest[length..];
            previous = '/';
            continue;
        }
        if let Some((text, length)) = link(rest) {
            inline(text, out);
            rest = &rest[length..];
            previous = ')';
            continue;
        }
        match c {
            '`' => {}
            '~' if next == '~' || previous == '~' => {}
            // "2 * 3" and "2*3" are sums, "**this**" is not.
            '*' if (previous.is_whitespace() && next.is_whitespace()) || (previous.is_ascii_digit() && next.is_ascii_digit()) => {
                out.push(c)
            }
            '*' => {}
            '_' if previous.is_alphanumeric() && next.is_alphanumeric() => out.push(' '),
            '_' => {}
            '|' => {
                let blank = out.trim_end().is_empty() || out.trim_end().ends_with(',');
                out.truncate(out.trim_end().len());
                out.push_str(if blank || after.trim().is_empty() { " " } else { ", " });
            }
            _ if is_picture(c) => out.push(' '),
            // Joins the parts of an emoji; in scripts that need it, it follows a letter.
            '\u{200d}' if is_picture(previous) => {}
            _ => out.push(c),
        }
        previous = c;
        rest = after;
    }
}

/// The text of a Markdown link or image at the start, and the length of all of it.
fn link(text: &str) -> Option<(&str, usize)> {
    let open = text.strip_prefix('!').unwrap_or(text).strip_prefix('[')?;
    let (words, target) = open.split_once("](")?;
    // A second "[" means that the bracket found belongs to a later link.
    let end = target.find(')').filter(|_| !words.contains('['))?;
    let begun = text.len() - open.len();
    Some((words, begun + words.len() + 2 + end + 1))
}

/// The length of a web address at the start, without the punctuation after it.
fn url_length(text: &str) -> Option<usize> {
    ["https://", "http://"].iter().find(|scheme| text.starts_with(**scheme))?;
    let end = text.find(|c: char| c.is_whitespace() || matches!(c, '>' | ')' | ']' | '"')).unwrap_or(text.len());
    Some(text[..end].trim_end_matches(['.', ',', ';', ':', '!', '?', '*', '_', '\'']).len())
}

fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    host.strip_prefix("www.").unwrap_or(host)
}

/// Blocks of Unicode that hold pictures: technical signs, shapes, dingbats, emoji, their variants and tags. Arrows, letters
/// in circles and signs such as ° © € are not among them.
fn is_picture(c: char) -> bool {
    matches!(c,
        '\u{2300}'..='\u{23ff}' | '\u{25a0}'..='\u{27bf}' | '\u{2b00}'..='\u{2bff}' | '\u{1f000}'..='\u{1faff}'
        | '\u{fe0f}' | '\u{20e3}' | '\u{e0020}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spoken(text: &str) -> Option<String> {
        Markup::default().spoken(text)
    }

    #[test]
    fn marks_go_and_words_stay() {
        for (written, read) in [
            ("## The **answer** is `42`.", "The answer is 42."),
            ("- [ ] _Buy_ ~~tea~~ milk", "Buy tea milk"),
            ("> Quoted *words*", "Quoted words"),
            ("Call snake_case_name, or 2 * 3 = 6 and 2*3.", "Call snake case name, or 2 * 3 = 6 and 2*3."),
            ("See [the docs](https://example.org/a?b=c) and ![a cat](cat.png).", "See the docs and a cat."),
            ("Go to https://www.example.org/deep/path?x=1.", "Go to example.org."),
            ("(https://example.org)", "(example.org)"),
            ("Well done! 🎉👩‍🚀 It is 20 °C → warm ☀️, 5 € each.", "Well done! It is 20 °C → warm , 5 € each."),
            ("| City | People |", "City, People"),
            ("#hashtag stays", "#hashtag stays"),
            ("array[0] and [1]", "array[0] and [1]"),
            ("می‌خواهم", "می‌خواهم"),
        ] {
            assert_eq!(spoken(written).as_deref(), Some(read), "{written}");
        }
    }

    #[test]
    fn what_has_no_words_is_not_read() {
        for written in ["", "---", "|---|:--|", "🎉", "**", "…?!", "***"] {
            assert_eq!(spoken(written), None, "{written}");
        }
    }

    #[test]
    fn code_blocks_are_skipped_across_pieces() {
        let mut markup = Markup::default();
        assert_eq!(markup.spoken("Like this:\n```rust\nfn main() {").as_deref(), Some("Like this:"));
        assert_eq!(markup.spoken("    println!(\"hi\");\n"), None);
        assert_eq!(markup.spoken("}\n```\nThat is all.").as_deref(), Some("That is all."));
    }

    #[test]
    fn odd_text_ends() {
        for text in ["[".repeat(2_000), "[a](".repeat(500), "![".repeat(900), "http://".repeat(300), "|".repeat(900), "*_`~".repeat(500)] {
            spoken(&text);
        }
    }
}
