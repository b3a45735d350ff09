//! Where a text is cut that is longer than a message may be, and what of it each message shows. Pure.
//!
//! Telegram counts in units of UTF-16, in lengths and in places.

use std::ops::Range;

use bespoke_plugin_api::serde_json::{Value, json};
use unicode_segmentation::GraphemeCursor;

use crate::markdown::{Rich, Span, Style};

/// Most units of one message.
pub(crate) const LONGEST: usize = 4096;
/// Most places of one message that look different; Telegram shows further ones plainly.
const MOST_ENTITIES: usize = 100;

/// A message: its text, and the places of it that look different, as Telegram takes them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Part {
    pub(crate) text: String,
    pub(crate) entities: Vec<Value>,
}

/// The messages that a text becomes; none when there is nothing to see.
pub(crate) fn parts(rich: &Rich) -> Vec<Part> {
    cuts(rich, LONGEST).into_iter().filter_map(|range| part(rich, range)).collect()
}

/// Ranges of at most `longest` units, which together are the text.
pub(crate) fn cuts(rich: &Rich, longest: usize) -> Vec<Range<usize>> {
    let mut cuts = Vec::new();
    let mut start = 0;
    while start < rich.text.len() {
        let end = next(rich, start, longest);
        cuts.push(start..end);
        start = end;
    }
    cuts
}

/// Where the message ends that begins at `start`: behind the best place to break that is in reach.
fn next(rich: &Rich, start: usize, longest: usize) -> usize {
    let text = &rich.text;
    let reach = reach(rich, start, longest);
    if reach == text.len() {
        return reach;
    }
    let spans: Vec<&Span> = rich.spans.iter().filter(|span| span.range.start < reach && span.range.end > start).collect();
    // Behind the middle any place is better than a worse one that is further on; before it only what has no other.
    let middle = start + (reach - start) / 2;
    let mut best: Option<((bool, Breaks), usize)> = None;
    for (at, breaks) in breaks(&text[start..reach]).map(|(at, breaks)| (start + at, breaks)) {
        let inside = |block: bool| spans.iter().any(|s| s.style.is_block() == block && s.range.start < at && at < s.range.end);
        let breaks = match breaks {
            _ if inside(false) => Breaks::InStyle,
            Breaks::Paragraph if inside(true) => Breaks::Line,
            breaks => breaks,
        };
        let rank = (at >= middle, breaks);
        if best.is_none_or(|(other, _)| rank >= other) {
            best = Some((rank, at));
        }
    }
    best.map_or_else(|| hard(text, start, reach), |(_, at)| at)
}

/// How good a place to break is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Breaks {
    InStyle,
    Word,
    Sentence,
    Line,
    Paragraph,
}

/// The places behind white space, in order.
fn breaks(text: &str) -> impl Iterator<Item = (usize, Breaks)> {
    text.char_indices().filter(|(_, c)| c.is_whitespace()).filter_map(move |(at, c)| {
        let (before, end) = (&text[..at], at + c.len_utf8());
        // The last of several in a row: the next message does not begin with them.
        if text[end..].starts_with(|c: char| c == '\n' || (c.is_whitespace() && !before.ends_with('\n') && text[at..].starts_with(' '))) {
            return None;
        }
        let breaks = match c {
            '\n' if before.ends_with('\n') => Breaks::Paragraph,
            '\n' => Breaks::Line,
            _ if before.ends_with(['.', '!', '?', '…', ':', ';']) => Breaks::Sentence,
            _ => Breaks::Word,
        };
        Some((end, breaks))
    })
}

/// The furthest place that a message from `start` may end at.
fn reach(rich: &Rich, start: usize, longest: usize) -> usize {
    let mut units = 0;
    let mut end = rich.text.len();
    for (at, c) in rich.text[start..].char_indices() {
        units += c.len_utf16();
        // At least one character goes into each.
        if units > longest && at > 0 {
            end = start + at;
            break;
        }
    }
    // Of what is too much the first begins the next message, unless that would leave nothing for this one.
    let too_much = rich.spans.iter().filter(|span| span.range.end > start).nth(MOST_ENTITIES).map_or(end, |span| span.range.start);
    if too_much > start { end.min(too_much) } else { end }
}

/// Where to break what has no place for it: between two characters as people see them, unless one is longer than a message.
fn hard(text: &str, start: usize, reach: usize) -> usize {
    let mut cursor = GraphemeCursor::new(reach, text.len(), true);
    if cursor.is_boundary(text, 0) == Ok(true) {
        return reach;
    }
    cursor.prev_boundary(text, 0).ok().flatten().filter(|at| *at > start).unwrap_or(reach)
}

/// A message of a piece of text, without the white space at its ends.
fn part(rich: &Rich, range: Range<usize>) -> Option<Part> {
    let piece = &rich.text[range.clone()];
    let kept = piece.trim_end();
    // What a line is indented by says something, in code.
    let lead: usize = kept.split_inclusive('\n').take_while(|line| line.trim().is_empty()).map(str::len).sum();
    let (start, end) = (range.start + lead, range.start + kept.len());
    if start >= end {
        return None;
    }
    let text = &rich.text[start..end];
    let mut units = Units { text, at: 0, units: 0 };
    let mut entities = Vec::new();
    for span in &rich.spans {
        let (from, to) = (span.range.start.max(start), span.range.end.min(end));
        if from < to && entities.len() < MOST_ENTITIES && !rich.text[from..to].trim().is_empty() {
            let offset = units.of(from - start);
            let length = text[from - start..to - start].encode_utf16().count();
            entities.push(entity(&span.style, offset, length));
        }
    }
    Some(Part { text: text.to_owned(), entities })
}

/// Counts on from the last place that was asked for, as spans are sorted.
struct Units<'a> {
    text: &'a str,
    at: usize,
    units: usize,
}

impl Units<'_> {
    fn of(&mut self, at: usize) -> usize {
        self.units += self.text[self.at..at].encode_utf16().count();
        self.at = at;
        self.units
    }
}

fn entity(style: &Style, offset: usize, length: usize) -> Value {
    let entity = |kind: &str| json!({ "type": kind, "offset": offset, "length": length });
    match style {
        Style::Bold => entity("bold"),
        Style::Italic => entity("italic"),
        Style::Strike => entity("strikethrough"),
        Style::Code => entity("code"),
        Style::Quote => entity("blockquote"),
        Style::Pre(None) => entity("pre"),
        Style::Pre(Some(language)) => json!({ "type": "pre", "offset": offset, "length": length, "language": language }),
        Style::Link(url) => json!({ "type": "text_link", "offset": offset, "length": length, "url": url }),
    }
}

#[cfg(test)]
#[path = "split_tests.rs"]
mod tests;
