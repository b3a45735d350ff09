//! What the person types: lines with editing and recall on a terminal, plainly from a pipe, and several lines as one message.

use std::{
    io::{BufRead, IsTerminal},
    path::PathBuf,
};

use bespoke_plugin_api::{Error, Result};
use rustyline::{
    Cmd, Completer, Config, Editor, EventHandler, Helper, Highlighter, Hinter, KeyCode, KeyEvent, Modifiers, error::ReadlineError,
    history::DefaultHistory, validate,
};

/// What opens and closes a message of several lines, on lines of its own.
const FENCE: &str = "\"\"\"";
/// Most bytes of one message. A pipe may have no end of line at all.
const LONGEST: u64 = 1 << 20;

/// What came in.
pub(crate) enum Line {
    Text(String),
    Empty,
    End,
}

/// Where lines come from.
pub(crate) enum Lines {
    Editor { editor: Box<Editor<Multiline, DefaultHistory>>, prompt: String, history: Option<PathBuf> },
    Pipe,
}

impl Lines {
    pub(crate) fn open(prompt: String, history: Option<PathBuf>, most: u32) -> Result<Self> {
        if !std::io::stdin().is_terminal() {
            return Ok(Lines::Pipe);
        }
        let failed = |e: ReadlineError| Error::internal(format!("the terminal cannot be used: {e}"));
        let config = Config::builder().max_history_size(most as usize).map_err(failed)?.auto_add_history(true).build();
        let kept = DefaultHistory::with_config(&config);
        let mut editor = Editor::with_history(config, kept).map_err(failed)?;
        editor.set_helper(Some(Multiline));
        for modifier in [Modifiers::ALT, Modifiers::SHIFT] {
            editor.bind_sequence(KeyEvent(KeyCode::Enter, modifier), EventHandler::Simple(Cmd::Newline));
        }
        let history = history.filter(|_| most > 0);
        if let Some(path) = &history {
            // The first conversation has no history yet.
            let _ = editor.load_history(path);
        }
        Ok(Lines::Editor { editor: Box::new(editor), prompt, history })
    }

    /// Blocks until there is a message.
    pub(crate) fn read(&mut self) -> Result<Line> {
        let text = match self {
            Lines::Pipe => match piped(&mut std::io::stdin().lock())? {
                Some(text) => text,
                None => return Ok(Line::End),
            },
            Lines::Editor { editor, prompt, history } => match editor.readline(prompt) {
                Ok(text) => {
                    if let Some(path) = history {
                        keep(editor, path);
                    }
                    text
                }
                // Ctrl-C gives up the line, not the conversation; Ctrl-D ends it.
                Err(ReadlineError::Interrupted) => return Ok(Line::Empty),
                Err(ReadlineError::Eof) => return Ok(Line::End),
                Err(e) => return Err(Error::internal(format!("the terminal: {e}"))),
            },
        };
        let text = joined(&text);
        Ok(match text.trim() {
            "" => Line::Empty,
            "/quit" | "/exit" => Line::End,
            text => Line::Text(text.to_owned()),
        })
    }
}

/// A message of a pipe: a line, or several of them as on a terminal; nothing at the end.
fn piped(from: &mut impl BufRead) -> Result<Option<String>> {
    let mut text = String::new();
    loop {
        let room = LONGEST.saturating_sub(text.len() as u64) + 1;
        let read = std::io::Read::take(&mut *from, room).read_line(&mut text).map_err(|e| Error::internal(format!("stdin: {e}")))?;
        if text.len() as u64 > LONGEST {
            return Err(Error::invalid_params("stdin: a message longer than 1 MiB; no model reads that much"));
        }
        match read {
            0 if text.is_empty() => return Ok(None),
            // What was begun ends with the input.
            0 => return Ok(Some(text)),
            _ if is_open(text.trim_end_matches('\n')) => {}
            _ => return Ok(Some(text)),
        }
    }
}

/// Whether a message goes on after this line: its last line ends with a backslash, or a fence is not closed.
fn is_open(text: &str) -> bool {
    if text.trim_start().starts_with(FENCE) {
        let fences = text.lines().filter(|line| line.trim() == FENCE).count();
        // The opening fence may have text behind it on its line.
        let opened_with_text = usize::from(text.trim_start().lines().next().is_some_and(|first| first.trim() != FENCE));
        return fences + opened_with_text < 2;
    }
    text.ends_with('\\')
}

/// The message without what joined its lines.
fn joined(text: &str) -> String {
    let text = text.strip_suffix('\n').unwrap_or(text);
    match text.trim_start().strip_prefix(FENCE) {
        Some(inside) => {
            let inside = inside.trim_end();
            inside.strip_suffix(FENCE).unwrap_or(inside).trim_matches('\n').to_owned()
        }
        None => text.replace("\\\n", "\n"),
    }
}

/// Says to the line editor whether Enter ends the message.
#[derive(Completer, Helper, Highlighter, Hinter)]
pub(crate) struct Multiline;

impl validate::Validator for Multiline {
    fn validate(&self, cx: &mut validate::ValidationContext<'_>) -> rustyline::Result<validate::ValidationResult> {
        Ok(if is_open(cx.input()) { validate::ValidationResult::Incomplete } else { validate::ValidationResult::Valid(None) })
    }
}

fn keep(editor: &mut Editor<Multiline, DefaultHistory>, path: &PathBuf) {
    if let Some(folder) = path.parent() {
        // Not being able to keep a history is no reason to end a conversation.
        let _ = std::fs::create_dir_all(folder);
    }
    let _ = editor.append_history(path);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(input: &str) -> Vec<String> {
        let mut from = input.as_bytes();
        std::iter::from_fn(|| piped(&mut from).unwrap()).map(|text| joined(&text)).collect()
    }

    #[test]
    fn a_line_is_a_message_unless_it_says_that_it_goes_on() {
        assert_eq!(messages("one\ntwo"), ["one", "two"]);
        assert_eq!(messages("one\\\ntwo\nthree\n"), ["one\ntwo", "three"]);
        assert_eq!(messages("\"\"\"\none\n\ntwo\n\"\"\"\nthree\n"), ["one\n\ntwo", "three"]);
        assert_eq!(messages("\"\"\"one\ntwo\n\"\"\"\nthree"), ["one\ntwo", "three"]);
        // The end of the input ends what was begun.
        assert_eq!(messages("\"\"\"\none"), ["one"]);
        assert_eq!(messages("one\\"), ["one\\"]);
        assert_eq!(messages("\n\n"), ["", ""]);
    }

    #[test]
    fn a_pipe_without_an_end_of_line_is_refused_before_it_fills_the_memory() {
        let mut endless = std::io::BufReader::new(std::io::repeat(b'x'));
        assert!(piped(&mut endless).unwrap_err().message().contains("1 MiB"));
    }
}
