//! The only place that prints. Data goes to stdout, everything else to stderr; a closed pipe ends the program quietly.

use std::{
    borrow::Cow,
    io::{self, IsTerminal, Write},
};

use bespoke_agent::TurnEvent;
use bespoke_screen::{Page, harmless};
use serde::Serialize;
use serde_json::Value;

use crate::{
    exit::{Exit, Failure, Result},
    logs,
};

/// How a verb speaks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Out {
    pub(crate) json: bool,
    quiet: bool,
    /// Stdout is a terminal.
    terminal: bool,
    color: bool,
    width: usize,
}

/// Emphasis on a terminal.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Style {
    Bold,
    Dim,
    Green,
    Yellow,
    Red,
}

impl Out {
    pub(crate) fn new(json: bool) -> Self {
        Self::with(json, false)
    }

    /// Without notes if `quiet`.
    pub(crate) fn with(json: bool, quiet: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        let color = terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        let width = terminal_size::terminal_size().map_or(100, |(width, _)| usize::from(width.0));
        Out { json, quiet, terminal, color, width }
    }

    /// Columns of the terminal that stdout is; nothing in a pipe.
    pub(crate) fn columns(&self) -> Option<usize> {
        self.terminal.then_some(self.width)
    }

    /// A line of data.
    pub(crate) fn line(&self, text: impl AsRef<str>) -> Result<()> {
        self.text(&format!("{}\n", text.as_ref()))
    }

    /// A piece of data, shown at once, without secrets.
    pub(crate) fn text(&self, text: &str) -> Result<()> {
        self.raw(&logs::clean(text))
    }

    /// A piece of data that holds no secret, such as a path. A terminal gets nothing of it that it would obey, but for what
    /// [`paint`](Self::paint) adds; a file or a pipe gets it as it is.
    pub(crate) fn raw(&self, text: &str) -> Result<()> {
        let text = if self.terminal { shown(text, self.color) } else { Cow::Borrowed(text) };
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(closed)
    }

    /// One JSON value: a whole listing, or one line of a stream.
    pub(crate) fn json(&self, value: &impl Serialize, pretty: bool) -> Result<()> {
        let failed = |e: serde_json::Error| Failure::failed(format!("cannot be written as JSON: {e}"));
        let written = |value: &Value| if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
        let text = if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) }.map_err(failed)?;
        if matches!(logs::clean(&text), Cow::Borrowed(_)) {
            return self.raw(&(text + "\n"));
        }
        // Only strings are masked, so that it stays JSON: a secret may look like a number.
        let mut value: Value = serde_json::from_str(&text).map_err(failed)?;
        clean_strings(&mut value);
        self.raw(&(written(&value).map_err(failed)? + "\n"))
    }

    /// Whether nobody is told anything but errors.
    #[cfg_attr(not(feature = "build"), expect(dead_code, reason = "nothing is built"))]
    pub(crate) fn is_quiet(self) -> bool {
        self.quiet
    }

    /// A line for the person.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        self.put_note(text.as_ref(), false);
    }

    fn put_note(&self, text: &str, dim: bool) {
        if self.quiet {
            return;
        }
        let text = logs::clean(text);
        let on_terminal = io::stderr().is_terminal();
        let text = if on_terminal { broken(&text, self.width) } else { text.into_owned() };
        let color = dim && on_terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        let text = if color { format!("{DIM}{text}{PLAIN}") } else { text };
        // Nobody to tell when stderr is closed.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// What happens beside the text of a turn, for the person.
    pub(crate) fn told(&self, event: &TurnEvent) {
        match event {
            TurnEvent::ToolStarted(call) => self.put_note(&format!("[{} {}]", call.name, call.args), true),
            TurnEvent::ToolFinished { call, output } if output.is_error => {
                self.put_note(&format!("[{}: {}]", call.name, shortened(&output.to_text())), true);
            }
            TurnEvent::ProviderFailed { provider, reason, shown } => {
                let anew = if *shown { ", and begins anew" } else { "" };
                self.put_note(&format!("[{provider} failed, the next one is asked{anew}: {reason}]"), true);
            }
            _ => {}
        }
    }

    pub(crate) fn paint<'t>(&self, style: Style, text: &'t str) -> Cow<'t, str> {
        if !self.color || text.is_empty() {
            return Cow::Borrowed(text);
        }
        let code = match style {
            Style::Bold => BOLD,
            Style::Dim => DIM,
            Style::Green => GREEN,
            Style::Yellow => YELLOW,
            Style::Red => RED,
        };
        Cow::Owned(format!("{code}{text}{PLAIN}"))
    }

    /// A table: columns as wide as their widest cell. On a terminal the last one is wrapped into the room that is left; in a pipe
    /// a row is a line.
    pub(crate) fn table(&self, head: &[&str], rows: &[Vec<String>]) -> Result<()> {
        let lines = laid_out(head, rows, self.columns());
        let (head, rows) = lines.split_first().map_or(("", &[][..]), |(head, rows)| (head.as_str(), rows));
        self.line(self.paint(Style::Bold, head))?;
        rows.iter().try_for_each(|row| self.line(row))
    }
}

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const RED: &str = "\x1b[31m";
const PLAIN: &str = "\x1b[0m";

/// A text as a terminal may have it. With `color`, our own emphasis stays, and ends with the text: whoever else writes the same
/// sequences gets a colour, and nothing beyond its own text.
fn shown(text: &str, color: bool) -> Cow<'_, str> {
    if !color || !text.contains('\x1b') {
        return harmless(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut is_plain = true;
    for (n, piece) in text.split('\x1b').enumerate() {
        let of_ours = |code: &&&str| piece.starts_with(&code[1..]);
        let code = if n > 0 { [BOLD, DIM, GREEN, YELLOW, RED, PLAIN].iter().find(of_ours) } else { None };
        if let Some(code) = code {
            shown.push_str(code);
            is_plain = *code == PLAIN;
        }
        shown.push_str(&harmless(&piece[code.map_or(0, |code| code.len() - 1)..]));
    }
    if !is_plain {
        shown.push_str(PLAIN);
    }
    Cow::Owned(shown)
}

fn clean_strings(value: &mut Value) {
    match value {
        Value::String(text) => *text = logs::clean(text).into_owned(),
        Value::Array(items) => items.iter_mut().for_each(clean_strings),
        Value::Object(fields) => {
            let old = std::mem::take(fields);
            for (name, mut field) in old {
                clean_strings(&mut field);
                fields.insert(logs::clean(&name).into_owned(), field);
            }
        }
        _ => {}
    }
}

/// A text for a person, each line broken between words.
fn broken(text: &str, columns: usize) -> String {
    let mut page = Page::default();
    page.add(text, columns.max(20)) + &page.end(columns.max(20))
}

/// A line of an answer that may have many.
fn shortened(text: &str) -> String {
    const MOST: usize = 200;
    let line = text.lines().next().unwrap_or_default();
    if line.len() == text.len() && line.len() <= MOST { line.to_owned() } else { format!("{}…", &line[..line.floor_char_boundary(MOST)]) }
}

/// The least room in which a text is wrapped; with less, it goes below its row.
const LEAST_ROOM: usize = 24;
/// How far a text below its row is set in.
const INDENT: usize = 4;

/// The lines of a table; a line may only be wider than `width` where a column before the last one or a single word makes it so.
fn laid_out(head: &[&str], rows: &[Vec<String>], width: Option<usize>) -> Vec<String> {
    let mut widths: Vec<usize> = head.iter().map(|h| h.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let before: usize = widths.iter().take(head.len().saturating_sub(1)).map(|w| w + 2).sum();
    let mut lines = Vec::new();
    let mut lay = |cells: &[&str]| {
        let Some((last, first)) = cells.split_last() else { return };
        let mut line: String = first.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}  ")).collect();
        let (room, indent) = match width.map(|width| (width, width.saturating_sub(before))) {
            None => (usize::MAX, 0),
            Some((_, beside)) if beside >= LEAST_ROOM || last.chars().count() <= beside => (beside, before),
            Some((width, _)) => {
                if !last.is_empty() {
                    lines.push(line.trim_end().to_owned());
                    line = " ".repeat(INDENT);
                }
                (width.saturating_sub(INDENT), INDENT)
            }
        };
        for (n, piece) in wrapped(last, room).into_iter().enumerate() {
            if n > 0 {
                lines.push(std::mem::replace(&mut line, " ".repeat(indent)).trim_end().to_owned());
            }
            line.push_str(&piece);
        }
        lines.push(line.trim_end().to_owned());
    };
    lay(head);
    for row in rows {
        lay(&row.iter().map(String::as_str).collect::<Vec<_>>());
    }
    lines
}

/// A text in lines of at most `room` characters, broken at spaces; a longer word stays whole.
pub(crate) fn wrapped(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split_inclusive(' ') {
        let length = word.trim_end().chars().count();
        if used > 0 && used + length > room {
            lines.push(String::new());
            used = 0;
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(word);
        }
        used += word.chars().count();
    }
    lines
}

/// Whether somebody can be asked a question.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks a yes-or-no question on the terminal; no is the default.
pub(crate) fn ask(question: &str) -> Result<bool> {
    let mut stderr = io::stderr().lock();
    write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush())?;
    let mut answer = String::new();
    if io::stdin().read_line(&mut answer)? == 0 {
        // The next line begins a line.
        writeln!(stderr)?;
    }
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Asks for a line on the terminal; `None` at the end of the input. An empty line is the default.
pub(crate) fn ask_for(question: &str, default: &str) -> Result<Option<String>> {
    let mut stderr = io::stderr().lock();
    let shown = if default.is_empty() { String::new() } else { format!(" [{default}]") };
    write!(stderr, "{question}{shown}: ").and_then(|()| stderr.flush())?;
    let mut answer = String::new();
    if io::stdin().read_line(&mut answer)? == 0 {
        // The next line begins a line.
        writeln!(stderr)?;
        return Ok(None);
    }
    let answer = answer.trim();
    Ok(Some(if answer.is_empty() { default } else { answer }.to_owned()))
}

/// `1.2 MB`, in powers of ten, as disks and networks are counted.
pub(crate) fn bytes(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{:.0} kB", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.2} GB", n as f64 / 1e9),
    }
}

/// `head` closed our pipe: that is how it says that it has enough.
pub(crate) fn closed(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe { Failure::new(Exit::Ok, "") } else { error.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(width: Option<usize>) -> Vec<String> {
        let rows = [vec!["a".into(), "it is missing and nobody knows why".into()], vec!["longer".into(), String::new()]];
        laid_out(&["ID", "WHY"], &rows, width)
    }

    #[test]
    fn a_row_in_a_pipe_is_a_line() {
        assert_eq!(table(None), ["ID      WHY", "a       it is missing and nobody knows why", "longer"]);
    }

    #[test]
    fn a_text_is_wrapped_beside_its_row_or_below_it_and_never_cut() {
        assert_eq!(table(Some(34)), ["ID      WHY", "a       it is missing and nobody", "        knows why", "longer"]);
        assert_eq!(table(Some(20)), ["ID      WHY", "a", "    it is missing", "    and nobody knows", "    why", "longer"]);
    }

    #[test]
    fn a_terminal_gets_our_emphasis_and_nothing_else_that_it_obeys() {
        for (text, colored, plain) in [
            ("a\x1b[2Jb\r\x07\u{9b}2J\u{202e}\tc\n", "a[2Jb2J\tc\n", "a[2Jb2J\tc\n"),
            ("\x1b[32mok\x1b[0m fine\n", "\x1b[32mok\x1b[0m fine\n", "[32mok[0m fine\n"),
            ("\x1b]0;title\x07\x1b[1;31mx", "]0;title[1;31mx", "]0;title[1;31mx"),
            // A colour that somebody else began ends with the text.
            ("\x1b[31mred", "\x1b[31mred\x1b[0m", "[31mred"),
            ("\x1b\x1b[31\x1b", "[31", "[31"),
        ] {
            assert_eq!((&*shown(text, true), &*shown(text, false)), (colored, plain), "{text:?}");
        }
    }

    #[test]
    fn bytes_are_told_in_powers_of_ten() {
        assert_eq!(
            [0, 999, 1_000, 2_327_524, 98_362_432, 1_500_000_000].map(bytes),
            ["0 B", "999 B", "1 kB", "2.3 MB", "98.4 MB", "1.50 GB"]
        );
    }
}
