//! Markdown as models write it, to plain text and the places in it that look different. Pure; it knows nothing of messages.
//!
//! Nothing is marked up in the text itself, so there is nothing to escape and nothing that a cut could break.

use std::ops::Range;

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

use crate::table;

/// Text, and what of it looks different.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rich {
    pub(crate) text: String,
    /// Sorted by start, the longer one first; two of them lie within each other or apart.
    pub(crate) spans: Vec<Span>,
}

/// A piece of text that looks different; bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) range: Range<usize>,
    pub(crate) style: Style,
}

/// How it looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Style {
    Bold,
    Italic,
    Strike,
    Code,
    Pre(Option<String>),
    Link(String),
    Quote,
}

impl Style {
    /// Which of two that hold the same text is the outer one.
    fn depth(&self) -> u8 {
        match self {
            Style::Quote => 0,
            Style::Link(_) => 1,
            Style::Bold | Style::Italic | Style::Strike => 2,
            Style::Code | Style::Pre(_) => 3,
        }
    }

    /// Whether it is made of whole lines, so that it may be cut between two of them.
    pub(crate) fn is_block(&self) -> bool {
        matches!(self, Style::Pre(_) | Style::Quote)
    }
}

/// Reads Markdown.
pub(crate) fn read(markdown: &str) -> Rich {
    let options = Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TABLES | Options::ENABLE_TASKLISTS;
    let mut writer = Writer::default();
    for event in Parser::new_ext(markdown, options) {
        writer.event(event);
    }
    writer.finish()
}

#[derive(Default)]
struct Writer {
    text: String,
    spans: Vec<Span>,
    /// Styles of what is written now, outermost first: each style once.
    open: Vec<Open>,
    /// For each tag that is open and can look different, whether it opened a style, or what its link is.
    tags: Vec<Opened>,
    /// Line ends that there have to be before the next text.
    gap: usize,
    /// Number of the next item of each list; `None` has bullets.
    lists: Vec<Option<u64>>,
    /// The mark of an item was the last that was written.
    marked: bool,
    quotes: usize,
    code: Option<(Option<String>, String)>,
    table: Option<Vec<Vec<String>>>,
}

struct Open {
    style: Style,
    start: Option<usize>,
}

enum Opened {
    /// It is part of one that is open already.
    Nothing,
    Style,
    /// A link that cannot be one: it is written behind its text, which begins there.
    Plain(String, usize),
}

impl Writer {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) | Event::InlineMath(text) | Event::DisplayMath(text) => self.push(&text),
            Event::Code(text) => self.code(&text),
            Event::Html(html) | Event::InlineHtml(html) => match html.trim() {
                "<br>" | "<br/>" | "<br />" => self.push("\n"),
                _ => self.push(&html),
            },
            Event::FootnoteReference(name) => self.push(&format!("[{name}]")),
            Event::SoftBreak | Event::HardBreak => self.push("\n"),
            Event::Rule => {
                self.block();
                self.push("———");
                self.after();
            }
            Event::TaskListMarker(done) => self.push(if done { "☑ " } else { "☐ " }),
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Paragraph | Tag::HtmlBlock => self.block(),
            Tag::Heading { .. } => {
                self.block();
                self.open(Style::Bold);
            }
            Tag::BlockQuote(_) => {
                self.block();
                self.quotes += 1;
                if self.quotes == 1 {
                    self.open.insert(0, Open { style: Style::Quote, start: None });
                }
            }
            Tag::CodeBlock(kind) => {
                self.block();
                // On a line of its own, in an item too.
                self.gap = self.gap.max(usize::from(self.marked));
                let language = match &kind {
                    CodeBlockKind::Fenced(info) => info.split_whitespace().next().and_then(language),
                    CodeBlockKind::Indented => None,
                };
                self.code = Some((language, String::new()));
            }
            Tag::List(first) => {
                self.block();
                self.lists.push(first);
            }
            Tag::Item => self.item(),
            Tag::Table(_) => {
                self.block();
                self.table = Some(Vec::new());
            }
            Tag::TableHead | Tag::TableRow => {
                if let Some(rows) = &mut self.table {
                    rows.push(Vec::new());
                }
            }
            Tag::TableCell => {
                if let Some(row) = self.table.as_mut().and_then(|rows| rows.last_mut()) {
                    row.push(String::new());
                }
            }
            Tag::Emphasis => self.open(Style::Italic),
            Tag::Strong => self.open(Style::Bold),
            Tag::Strikethrough => self.open(Style::Strike),
            Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. } => self.link(&dest_url),
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Paragraph | TagEnd::HtmlBlock => self.after(),
            TagEnd::Heading(_) => {
                self.close();
                self.after();
            }
            TagEnd::BlockQuote(_) => {
                self.quotes = self.quotes.saturating_sub(1);
                if self.quotes == 0 && self.open.first().is_some_and(|open| open.style == Style::Quote) {
                    let quote = self.open.remove(0);
                    self.span(quote);
                }
                self.after();
            }
            TagEnd::CodeBlock => {
                if let Some((language, text)) = self.code.take() {
                    self.alone(text.trim_end_matches('\n'), Style::Pre(language));
                }
                self.after();
            }
            TagEnd::List(_) => {
                self.lists.pop();
                self.marked = false;
                self.after();
            }
            TagEnd::Item => self.gap = self.gap.max(1),
            TagEnd::Table => {
                if let Some(rows) = self.table.take() {
                    self.alone(&table::text(&rows), Style::Pre(None));
                }
                self.after();
            }
            TagEnd::Emphasis | TagEnd::Strong | TagEnd::Strikethrough | TagEnd::Link | TagEnd::Image => self.close(),
            _ => {}
        }
    }

    /// A block begins: not on the line of another, but on that of the mark of its item.
    fn block(&mut self) {
        if !self.marked {
            self.gap = self.gap.max(1);
        }
    }

    /// A block ended: the next one stands apart from it, within a list only by a line.
    fn after(&mut self) {
        self.gap = self.gap.max(if self.lists.is_empty() { 2 } else { 1 });
    }

    fn item(&mut self) {
        self.marked = false;
        self.gap = self.gap.max(1);
        let indent = "  ".repeat(self.lists.len().saturating_sub(1).min(8));
        let mark = match self.lists.last_mut() {
            Some(Some(number)) => {
                let mark = format!("{indent}{number}. ");
                *number = number.saturating_add(1);
                mark
            }
            _ => format!("{indent}• "),
        };
        self.push(&mark);
        self.marked = true;
    }

    fn link(&mut self, url: &str) {
        let schemes = ["http://", "https://", "mailto:", "tel:", "tg://"];
        let good = schemes.iter().any(|scheme| url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
        if good && !url.chars().any(|c| c.is_whitespace() || c.is_control()) && self.table.is_none() {
            self.open(Style::Link(url.to_owned()));
        } else {
            self.tags.push(Opened::Plain(url.to_owned(), self.written()));
        }
    }

    fn open(&mut self, style: Style) {
        let same = |open: &Open| std::mem::discriminant(&open.style) == std::mem::discriminant(&style);
        if self.open.iter().any(same) {
            self.tags.push(Opened::Nothing);
        } else {
            self.open.push(Open { style, start: None });
            self.tags.push(Opened::Style);
        }
    }

    fn close(&mut self) {
        match self.tags.pop() {
            Some(Opened::Style) => {
                if let Some(open) = self.open.pop() {
                    self.span(open);
                }
            }
            Some(Opened::Plain(url, start)) => {
                let text = self.table.as_ref().map_or(self.text.get(start..), |_| None);
                if !url.is_empty() && text.is_none_or(|text| text != url) {
                    self.push(&format!(" ({url})"));
                }
            }
            Some(Opened::Nothing) | None => {}
        }
    }

    /// What was written under a style so far.
    fn span(&mut self, open: Open) {
        let Some(start) = open.start else { return };
        let end = self.text.len();
        if let Style::Link(url) = &open.style {
            // An address that is its own text is found by whoever shows it.
            let text = &self.text[start..end];
            if text == url || url.strip_prefix("mailto:") == Some(text) {
                return;
            }
        }
        if start < end {
            self.spans.push(Span { range: start..end, style: open.style });
        }
    }

    fn written(&self) -> usize {
        self.text.len()
    }

    fn push(&mut self, text: &str) {
        if let Some((_, code)) = &mut self.code {
            code.extend(text.chars().filter(|c| shown(*c)));
            return;
        }
        if let Some(rows) = &mut self.table {
            if let Some(cell) = rows.last_mut().and_then(|row| row.last_mut()) {
                cell.extend(text.chars().map(|c| if c.is_control() { ' ' } else { c }));
            }
            return;
        }
        // Of what stands between words nothing is styled before there are words.
        if text.is_empty() || (text.trim().is_empty() && (self.text.is_empty() || self.gap > 0)) {
            return;
        }
        self.fill_gap();
        self.marked = false;
        let start = self.text.len();
        for open in &mut self.open {
            open.start.get_or_insert(start);
        }
        self.text.extend(text.chars().filter(|c| shown(*c)));
    }

    fn code(&mut self, text: &str) {
        // A link shows all of its text alike.
        if self.table.is_some() || self.open.iter().any(|open| matches!(open.style, Style::Link(_))) {
            return self.push(text);
        }
        self.alone(text, Style::Code);
    }

    /// Writes text of a style that no other one, but a quotation, may surround: those that are open end before it and go on after it.
    fn alone(&mut self, text: &str, style: Style) {
        let text: String = text.chars().filter(|c| shown(*c)).collect();
        if text.trim().is_empty() {
            return;
        }
        let mut ended = Vec::new();
        for open in self.open.iter_mut().filter(|open| open.style != Style::Quote) {
            if let Some(start) = open.start.take() {
                ended.push(Open { style: open.style.clone(), start: Some(start) });
            }
        }
        for open in ended {
            self.span(open);
        }
        self.fill_gap();
        self.marked = false;
        let start = self.text.len();
        for open in self.open.iter_mut().filter(|open| open.style == Style::Quote) {
            open.start.get_or_insert(start);
        }
        self.text.push_str(&text);
        self.spans.push(Span { range: start..self.text.len(), style });
    }

    fn fill_gap(&mut self) {
        let gap = std::mem::take(&mut self.gap);
        if !self.text.is_empty() {
            let there = self.text.bytes().rev().take_while(|b| *b == b'\n').count();
            self.text.extend(std::iter::repeat_n('\n', gap.saturating_sub(there)));
        }
    }

    fn finish(mut self) -> Rich {
        let end = self.text.trim_end().len();
        self.text.truncate(end);
        for span in &mut self.spans {
            span.range.end = span.range.end.min(end);
        }
        self.spans.retain(|span| span.range.start < span.range.end);
        self.spans.sort_by_key(|span| (span.range.start, std::cmp::Reverse(span.range.end), span.style.depth()));
        Rich { text: self.text, spans: self.spans }
    }
}

/// What a message may hold: Telegram takes other control characters away, and then every place behind them is wrong.
fn shown(c: char) -> bool {
    !c.is_control() || matches!(c, '\n' | '\t')
}

/// The language of a block of code, where it is the name of one.
fn language(word: &str) -> Option<String> {
    let good = word.len() <= 32 && word.chars().all(|c| c.is_ascii_alphanumeric() || "+-#_.".contains(c));
    good.then(|| word.to_owned())
}

#[cfg(test)]
#[path = "markdown_tests.rs"]
pub(crate) mod tests;
