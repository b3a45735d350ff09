//! What begins with a slash: commands of plugins, and the few that every chat has.

use std::sync::{Arc, Mutex, PoisonError};

use bespoke_host::split_arguments;
use bespoke_plugin_api::{Code, Output, OutputSink, Result};

use crate::{
    news::Failed,
    turn::{Asked, Reply},
};

/// Most bytes of what a command says in a chat.
const SAID: usize = 32 << 10;

/// Name and arguments of a text that is a command: `/name`, or `/name@agent` as groups have it.
pub(crate) fn command(text: &str) -> Option<(&str, &str)> {
    let (word, rest) = text.trim().strip_prefix('/')?.split_once(char::is_whitespace).unwrap_or((text.trim().strip_prefix('/')?, ""));
    let name = word.split_once('@').map_or(word, |(name, _)| name);
    let is_name =
        name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    // A path or a fraction is no command.
    is_name.then_some((name, rest.trim()))
}

/// What a command says.
///
/// # Errors
/// Only when the program is about to stop, or its file does not work.
pub(crate) async fn run(asked: &Asked<'_>, name: &str, args: &str) -> Result<Reply> {
    match name {
        "new" => renew(asked).await,
        "help" | "start" => Ok(asked.says(help(asked))),
        _ => plugin(asked, name, args).await,
    }
}

async fn renew(asked: &Asked<'_>) -> Result<Reply> {
    let text = if asked.end_session().await? {
        "A new conversation begins."
    } else {
        "A new conversation begins; nothing was said in this one yet."
    };
    Ok(Reply { renew: true, ..asked.says(text) })
}

fn help(asked: &Asked<'_>) -> String {
    let mut lines = vec!["/new begins a new conversation".to_owned(), "/help shows this".to_owned()];
    let caller = asked.caller();
    for command in asked.core.host.commands() {
        if command.require_auth && !caller.authenticated {
            continue;
        }
        let about = if command.about.is_empty() { String::new() } else { format!(": {}", command.about) };
        lines.push(format!("/{}{about}", command.usage));
    }
    lines.join("\n")
}

async fn plugin(asked: &Asked<'_>, name: &str, args: &str) -> Result<Reply> {
    let host = &asked.core.host;
    let commands = host.commands();
    // Some services know no dashes in the names of commands.
    let dashed = name.replace('_', "-");
    let Some(command) = commands.iter().find(|command| [name, dashed.as_str()].contains(&command.name.as_str())) else {
        return Ok(asked.says(format!("There is no command /{name}. /help shows those that there are.")));
    };
    if asked.taken.attempts > 1 {
        let text = format!("/{} was cut short when the program ended. Send it again if it has not done its work.", command.name);
        return Ok(asked.says(text));
    }
    let said = Arc::new(Said::default());
    let caller = asked.caller();
    let shut_out = command.require_auth && !caller.authenticated;
    let result = host.run_command(&asked.cx, &command.name, split_arguments(args), caller, Output::new(said.clone())).await;
    let mut text = said.take();
    match result {
        Ok(0) if text.is_empty() => text = format!("/{} is done.", command.name),
        Ok(0) => {}
        Ok(code) => text.push_str(&format!("\n/{} ended with the code {code}.", command.name)),
        Err(_) if shut_out => text = format!("/{} is for people who have a login here.", command.name),
        // Stopped by the end of the program: it does not run a second time.
        Err(error) => {
            asked.failed(None, Failed::Answered, error.kind(), &format!("/{}: {}", command.name, asked.told(&error)));
            let usage = format!("It is used so: /{}", command.usage);
            let hint = if error.code() == Code::INVALID_PARAMS { &usage } else { "" };
            text.push_str(&format!("\n{}", asked.sorry(&format!("/{} failed", command.name), hint, &error)));
        }
    }
    Ok(asked.says(text.trim_start().to_owned()))
}

/// What a command says, as far as it fits into a message.
#[derive(Default)]
struct Said(Mutex<String>);

impl Said {
    fn take(&self) -> String {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl OutputSink for Said {
    fn line(&self, text: &str) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = SAID.saturating_sub(said.len());
        if room == 0 {
            return;
        }
        if !said.is_empty() {
            said.push('\n');
        }
        said.push_str(&text[..text.floor_char_boundary(room)]);
        if text.len() > room {
            said.push_str("\n…");
        }
    }

    fn note(&self, text: &str) {
        self.line(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_after_a_slash_are_commands() {
        for (text, found) in [
            ("/help", Some(("help", ""))),
            ("  /weather@my_bot  Paris  now ", Some(("weather", "Paris  now"))),
            ("/a-b_c\nnext line", Some(("a-b_c", "next line"))),
            ("/", None),
            ("/usr/bin/env", None),
            ("/ help", None),
            ("/7 of them", None),
            ("what does /help do", None),
            ("", None),
        ] {
            assert_eq!(command(text), found, "{text:?}");
        }
    }
}
