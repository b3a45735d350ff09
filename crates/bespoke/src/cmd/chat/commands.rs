//! What begins with a slash: words to the program, not to the model.

use std::{io::ErrorKind, path::Path};

use bespoke_host::CommandInfo;
use bespoke_plugin_api::{CallCx, Role};

use super::plugins;
use crate::{
    cmd::commands::run_in_chat,
    conversation::Conversation,
    exit::{Exit, Failure, Result},
    files,
};

/// One command: its name, what follows it, and what it does.
struct Entry {
    name: &'static str,
    argument: &'static str,
    help: &'static str,
}

/// All of them, in the order of `/help`. The terminal itself knows `/quit`.
const COMMANDS: &[Entry] = &[
    Entry { name: "help", argument: "", help: "these lines" },
    Entry { name: "new", argument: "", help: "begin a new conversation; this one is kept" },
    Entry { name: "sessions", argument: "", help: "conversations that are kept" },
    Entry { name: "resume", argument: "ID", help: "go on with one of them" },
    Entry { name: "title", argument: "TEXT", help: "name this one" },
    Entry { name: "history", argument: "", help: "what was said in this one" },
    Entry { name: "undo", argument: "", help: "forget the last question and its answer" },
    Entry { name: "retry", argument: "", help: "ask the last question again" },
    Entry { name: "save", argument: "FILE", help: "write this conversation down as Markdown" },
    Entry { name: "tools", argument: "", help: "what the model may call" },
    Entry { name: "model", argument: "[NAME[:MODEL]]", help: "who answers; or ask this provider from now on" },
    Entry { name: "system", argument: "[TEXT]", help: "the instructions; or new ones from now on" },
    Entry { name: "usage", argument: "", help: "tokens that this conversation has cost" },
    Entry { name: "reload", argument: "[ID]", help: "read bespoke.toml again; or replace a plugin by a new instance of it" },
    Entry { name: "plugins", argument: "", help: "plugins, and how they do" },
    Entry { name: "load", argument: "DIR|ID", help: "add a plugin, until the end of this program" },
    Entry { name: "unload", argument: "ID", help: "take a plugin out, until the end of this program" },
    Entry { name: "swap", argument: "OLD NEW", help: "let a plugin take the place of another, until the end of this program" },
    Entry { name: "quit", argument: "", help: "end; Ctrl-D does, too" },
];

/// Their names.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().map(|entry| entry.name)
}

/// What a line is.
pub(super) enum Said<'l> {
    /// To the program.
    Command(Command<'l>),
    /// To the model.
    Message(&'l str),
}

/// A command as it was typed.
pub(super) struct Command<'l> {
    name: &'l str,
    argument: &'l str,
}

/// A line that begins with a slash is a command, with two slashes a message that begins with one. A path is no command.
pub(super) fn read(line: &str) -> Said<'_> {
    let Some(rest) = line.strip_prefix('/') else { return Said::Message(line) };
    if rest.starts_with('/') {
        return Said::Message(rest);
    }
    let (name, argument) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
        return Said::Message(line);
    }
    Said::Command(Command { name, argument: argument.trim() })
}

impl Command<'_> {
    /// Does it, and says what there is to say.
    pub(super) async fn run(&self, cx: &CallCx, conversation: &mut Conversation<'_>) -> Result<String> {
        let argument = self.argument;
        match self.name {
            "help" => Ok(help(&conversation.setup().host.commands())),
            "new" => {
                conversation.renew().await?;
                Ok("A new conversation.".into())
            }
            "sessions" => conversation.list(),
            "resume" => {
                let id = needed(argument, "resume ID", "/sessions")?;
                conversation.resume(id).await
            }
            "title" => {
                conversation.rename(needed(argument, "title TEXT", "/title Plans for the garden")?)?;
                Ok(format!("This conversation is called {argument:?}."))
            }
            "history" => Ok(history(conversation)),
            "undo" => Ok(match conversation.session.undo()? {
                Some(input) => format!("Forgotten: {}", first_line(&input)),
                None => "Nothing was said yet.".into(),
            }),
            "retry" if conversation.session.before_last().is_none() => Ok("Nothing was said yet.".into()),
            "retry" => {
                conversation.retry = true;
                Ok(String::new())
            }
            "save" => save(conversation, needed(argument, "save FILE", "/save talk.md")?),
            "tools" => Ok(conversation.tools()),
            "model" if argument.is_empty() => conversation.models().await,
            "model" => conversation.ask_from_now_on(argument),
            "system" if argument.is_empty() => Ok(match conversation.agent.config().system.as_str() {
                "" => "There are no instructions.".into(),
                system => system.to_owned(),
            }),
            "system" => {
                conversation.instruct(argument)?;
                Ok("New instructions from now on.".into())
            }
            "usage" => Ok(usage(conversation)),
            "reload" if argument.is_empty() => conversation.reload().await,
            "reload" => plugins::reload(conversation.setup(), argument).await,
            "plugins" => Ok(plugins::list(conversation.setup())),
            "load" => plugins::load(conversation.setup(), needed(argument, "load DIR or /load ID", "/load ./my_plugin")?).await,
            "unload" => plugins::unload(conversation.setup(), needed(argument, "unload ID", "/plugins")?).await,
            "swap" => match argument.split_whitespace().collect::<Vec<_>>()[..] {
                [old, new] => plugins::swap(conversation.setup(), old, new).await,
                _ => Err(Failure::new(Exit::Usage, "write /swap OLD NEW").help("/plugins")),
            },
            other => {
                let host = &conversation.setup().host;
                let of_plugins = host.commands();
                if of_plugins.iter().any(|command| command.name == other) {
                    return run_in_chat(cx, host, other, argument).await;
                }
                let mut known: Vec<&str> = names().collect();
                known.extend(of_plugins.iter().map(|c| c.name.as_str()));
                let close = bespoke_manifest::closest(other, known);
                let meant = close.map_or(String::new(), |close| format!("; did you mean /{close}?"));
                Err(Failure::new(Exit::Usage, format!("there is no command /{other}{meant}"))
                    .help("/help, or begin with // to say it to the model"))
            }
        }
    }
}

fn help(of_plugins: &[CommandInfo]) -> String {
    let wide = COMMANDS.iter().map(|c| c.name.len() + c.argument.len() + 2).max().unwrap_or(0);
    let lines = COMMANDS.iter().map(|Entry { name, argument, help }| format!("{:<wide$}  {help}", format!("/{name} {argument}")));
    let mut lines: Vec<_> = lines.collect();
    if !of_plugins.is_empty() {
        lines.extend([String::new(), "Commands of plugins:".into()]);
        lines.extend(of_plugins.iter().map(|c| format!("{:<wide$}  {}", format!("/{}", c.usage), c.about)));
    }
    format!(
        "{}\n\nSeveral lines: end a line with \\, or put the message between lines of \"\"\". A line that begins with // is said to the \
         model with one slash. Ctrl-C stops an answer; what was said until then is kept.",
        lines.join("\n")
    )
}

fn needed<'a>(argument: &'a str, usage: &str, example: &str) -> Result<&'a str> {
    if argument.is_empty() { Err(Failure::new(Exit::Usage, format!("write /{usage}")).help(example)) } else { Ok(argument) }
}

fn history(conversation: &Conversation<'_>) -> String {
    let told = conversation.session.messages().iter().flat_map(|message| {
        let who = match message.role {
            Role::User => "you",
            Role::Tool => "tool",
            _ => "agent",
        };
        let calls = message.tool_calls.iter().map(|call| format!("agent calls {} {}", call.name, call.args));
        let text = (!message.text.is_empty()).then(|| format!("{who}: {}", message.text));
        text.into_iter().chain(calls).collect::<Vec<_>>()
    });
    let told: Vec<_> = told.collect();
    if told.is_empty() { "Nothing was said yet.".into() } else { told.join("\n") }
}

fn usage(conversation: &Conversation<'_>) -> String {
    let usage = conversation.session.usage();
    let most = conversation.agent.config().session_tokens;
    let of = if most > 0 { format!(" of {most}") } else { String::new() };
    let cached = if usage.cached_tokens > 0 { format!(", {} of them cached", usage.cached_tokens) } else { String::new() };
    let most = conversation.agent.config().daily_tokens;
    let today = match conversation.agent.host().tokens_today() {
        Ok((tokens, _)) if most > 0 => format!(" Today, all conversations: {tokens} of {most}."),
        _ => String::new(),
    };
    format!("{}{of} tokens: {} read{cached}, {} written.{today}", usage.total(), usage.prompt_tokens, usage.completion_tokens)
}

fn save(conversation: &Conversation<'_>, file: &str) -> Result<String> {
    match files::create(Path::new(file), conversation.markdown()?.as_bytes()) {
        Ok(()) => Ok(format!("Written to {file}.")),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Err(Failure::new(Exit::Conflict, format!("{file} exists")).help("/save another name"))
        }
        Err(error) => Err(Failure::failed(format!("{file} cannot be written: {error}"))),
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_is_a_command_two_are_a_message_and_a_path_is_none() {
        let command = |line| match read(line) {
            Said::Command(Command { name, argument }) => format!("{name} [{argument}]"),
            Said::Message(text) => text.to_owned(),
        };
        assert_eq!(command("/help"), "help []");
        assert_eq!(command("/resume  7f3a "), "resume [7f3a]");
        assert_eq!(command("//help"), "/help");
        assert_eq!(command("/etc/hosts is what?"), "/etc/hosts is what?");
        assert_eq!(command("/"), "/");
        assert_eq!(command("/ help"), "/ help");
        assert_eq!(command("1/2"), "1/2");
    }
}
