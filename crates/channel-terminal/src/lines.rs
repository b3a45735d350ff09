//! Lines that the person types, with editing and recall on a terminal, plainly from a pipe.

use std::{
    io::{BufRead, IsTerminal},
    path::PathBuf,
};

use bespoke_plugin_api::{Error, Result};
use rustyline::{Config, DefaultEditor, error::ReadlineError, history::DefaultHistory};

/// What came in.
pub(crate) enum Line {
    Text(String),
    Empty,
    End,
}

/// Where lines come from.
pub(crate) enum Lines {
    Editor { editor: Box<DefaultEditor>, prompt: String, history: Option<PathBuf> },
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
        let mut editor = DefaultEditor::with_history(config, kept).map_err(failed)?;
        let history = history.filter(|_| most > 0);
        if let Some(path) = &history {
            // The first conversation has no history yet.
            let _ = editor.load_history(path);
        }
        Ok(Lines::Editor { editor: Box::new(editor), prompt, history })
    }

    /// Blocks until there is a line.
    pub(crate) fn read(&mut self) -> Result<Line> {
        let text = match self {
            Lines::Pipe => {
                let mut text = String::new();
                match std::io::stdin().lock().read_line(&mut text) {
                    Ok(0) => return Ok(Line::End),
                    Ok(_) => text,
                    Err(e) => return Err(Error::internal(format!("stdin: {e}"))),
                }
            }
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
        Ok(match text.trim() {
            "" => Line::Empty,
            "/quit" | "/exit" => Line::End,
            text => Line::Text(text.to_owned()),
        })
    }
}

fn keep(editor: &mut DefaultEditor, path: &PathBuf) {
    if let Some(folder) = path.parent() {
        // Not being able to keep a history is no reason to end a conversation.
        let _ = std::fs::create_dir_all(folder);
    }
    let _ = editor.append_history(path);
}
