//! The only place that prints. Data goes to stdout, everything else to stderr; a closed pipe ends the program quietly.

use std::{
    borrow::Cow,
    io::{self, IsTerminal, Write},
};

use serde::Serialize;

use crate::exit::{Exit, Failure, Result};

/// How a verb speaks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Out {
    pub(crate) json: bool,
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
        let color = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        let width = std::env::var("COLUMNS").ok().and_then(|v| v.parse().ok()).unwrap_or(100).clamp(60, 200);
        Out { json, color, width }
    }

    /// A line of data.
    pub(crate) fn line(&self, text: impl AsRef<str>) -> Result<()> {
        self.text(&format!("{}\n", text.as_ref()))
    }

    /// A piece of data, shown at once.
    pub(crate) fn text(&self, text: &str) -> Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(closed)
    }

    /// One JSON value: a whole listing, or one line of a stream.
    pub(crate) fn json(&self, value: &impl Serialize, pretty: bool) -> Result<()> {
        let text = if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
        self.line(text.map_err(|e| Failure::failed(format!("cannot be written as JSON: {e}")))?)
    }

    /// A line for the person.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        // Nobody to tell when stderr is closed.
        let _ = writeln!(io::stderr().lock(), "{}", text.as_ref());
    }

    pub(crate) fn paint<'t>(&self, style: Style, text: &'t str) -> Cow<'t, str> {
        if !self.color || text.is_empty() {
            return Cow::Borrowed(text);
        }
        let code = match style {
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Green => "32",
            Style::Yellow => "33",
            Style::Red => "31",
        };
        Cow::Owned(format!("\x1b[{code}m{text}\x1b[0m"))
    }

    /// A table: columns as wide as their widest cell, the last one cut to the width of the terminal, never in a pipe.
    pub(crate) fn table(&self, head: &[&str], rows: &[Vec<String>]) -> Result<()> {
        let columns = head.len();
        let mut widths: Vec<usize> = head.iter().map(|h| h.chars().count()).collect();
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let before: usize = widths.iter().take(columns.saturating_sub(1)).map(|w| w + 2).sum();
        let room = if io::stdout().is_terminal() { self.width.saturating_sub(before).max(20) } else { usize::MAX };
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let mut text = String::new();
            for (n, cell) in cells.enumerate() {
                if n + 1 == columns {
                    let cut: String = cell.chars().take(room).collect();
                    text.push_str(&cut);
                } else {
                    text.push_str(&format!("{cell:<width$}  ", width = widths[n]));
                }
            }
            text.trim_end().to_owned()
        };
        self.line(self.paint(Style::Bold, &line(&mut head.iter().copied())))?;
        rows.iter().try_for_each(|row| self.line(line(&mut row.iter().map(String::as_str))))
    }
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
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
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
fn closed(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe { Failure::new(Exit::Ok, "") } else { error.into() }
}
