//! Commands of plugins as verbs: in `--help`, in completions, and run. What a command is and who may run it is the host's to know.

use std::{
    ffi::OsString,
    sync::{Arc, Mutex, PoisonError},
};

use bespoke_host::{Caller, CommandInfo, Host};
use bespoke_plugin_api::{CallCx, CancelToken, Output, OutputSink};
use bespoke_screen::plain;
use clap::{Arg, CommandFactory, FromArgMatches};
use serde_json::{Value, json};

use super::{chat, interruptible, plugin::server};
use crate::{
    cli::{Cli, Global},
    exit::{Exit, Failure, Result},
    output::Out,
    running::Running,
    setup::Setup,
};

/// The names that are the program's own: every verb, with its aliases and what stands below it, and the words of `chat`.
pub(crate) fn own_names() -> Vec<String> {
    fn collect(command: &clap::Command, names: &mut Vec<String>) {
        for verb in command.get_subcommands() {
            names.extend([verb.get_name()].into_iter().chain(verb.get_all_aliases()).map(str::to_owned));
            collect(verb, names);
        }
    }
    let mut names: Vec<String> = chat::words().map(str::to_owned).collect();
    collect(&Cli::command(), &mut names);
    names
}

/// A look at the plugins, without starting one: what the command line has to know before it is read.
pub(crate) struct Look {
    commands: Vec<CommandInfo>,
    /// Of the name that was typed, when it is declared and cannot be run.
    refused: Option<Failure>,
}

impl Look {
    /// With what is wrong with the set-up left to the verb, which says it.
    pub(crate) fn at(global: &Global, typed: Option<&str>) -> Self {
        let nothing = Look { commands: Vec::new(), refused: None };
        // The host needs a runtime, although nothing runs.
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() else { return nothing };
        let _inside = runtime.enter();
        // What there is to be noted is noted by the verb.
        let Ok(setup) = Setup::looking(&Global { quiet: true, ..global.clone() }) else { return nothing };
        let declared = |name: &&str| setup.host.provider_of(bespoke_plugin_api::Kind::Command, name).is_some();
        let refused = typed.filter(declared).and_then(|name| setup.host.command(name).err()).map(Failure::from);
        Look { commands: setup.host.commands(), refused }
    }

    /// The command line with the commands of plugins as verbs, for who lists them and for who mistypes one.
    pub(crate) fn beside(&self, command: clap::Command) -> clap::Command {
        command.subcommands(self.commands.iter().map(verb))
    }

    /// The command line with a section of its help for the commands of plugins.
    pub(crate) fn in_help_of(&self, command: clap::Command) -> clap::Command {
        if self.commands.is_empty() {
            return command;
        }
        let wide = self.commands.iter().map(|command| command.name.len()).max().unwrap_or(0);
        let lines = self.commands.iter().map(|command| format!("  {:<wide$}  {}", command.name, command.about).trim_end().to_owned());
        let after = command.get_after_help().map(|after| format!("\n\n{after}")).unwrap_or_default();
        let section = format!("Commands of plugins:\n{}{after}", lines.collect::<Vec<_>>().join("\n"));
        command.after_help(section)
    }

    /// What follows the name of a command, if one has this name.
    ///
    /// # Errors
    /// Why the command that has it cannot be run.
    pub(crate) fn find(self, name: &str) -> Result<Option<CommandInfo>> {
        match self.commands.into_iter().find(|command| command.name == name) {
            Some(command) => Ok(Some(command)),
            None => self.refused.map_or(Ok(None), Err),
        }
    }
}

/// The switches and the words of a command line that begins with no verb of ours.
pub(crate) fn read(command: &clap::Command) -> Option<(Global, Vec<OsString>)> {
    let matches = command.clone().allow_external_subcommands(true).try_get_matches().ok()?;
    let (name, rest) = matches.subcommand()?;
    // What clap does not know stands under no name.
    let rest = rest.try_get_many::<OsString>("").ok()?.into_iter().flatten().cloned();
    let words = std::iter::once(OsString::from(name)).chain(rest).collect();
    Some((Global::from_arg_matches(&matches).ok()?, words))
}

/// Whether help of the program itself is asked for, and not that of a verb: with the switches that were typed beside it.
pub(crate) fn asks_for_help_of_all(command: &clap::Command) -> Option<Global> {
    let lenient = command.clone().disable_help_flag(true).ignore_errors(true).arg_required_else_help(false);
    let matches = lenient.try_get_matches().ok().filter(|matches| matches.subcommand_name().is_none())?;
    Global::from_arg_matches(&matches).ok()
}

/// Help of one command, from its declaration.
pub(crate) fn help(program: &str, info: &CommandInfo) -> Result<()> {
    let mut command = verb(info).bin_name(format!("{program} {}", info.name)).override_usage(usage(program, info));
    let who = if info.require_auth { " It is for users with a login; whoever sits here has one." } else { "" };
    let after = format!("A command of the plugin {}.{who} What follows its name goes to the plugin as it is.", info.plugin);
    command = command.after_help(after);
    command.print_help().map_err(crate::output::closed)
}

/// A declared usage begins with the name of the command, or is taken to follow it.
fn usage(program: &str, info: &CommandInfo) -> String {
    let rest = info.usage.strip_prefix(&info.name).filter(|rest| rest.is_empty() || rest.starts_with(' '));
    let rest = rest.unwrap_or(&info.usage).trim();
    format!("{program} {} {rest}", info.name).trim_end().to_owned()
}

fn verb(info: &CommandInfo) -> clap::Command {
    let arguments = Arg::new("ARGUMENTS").num_args(0..).trailing_var_arg(true).allow_hyphen_values(true).hide(true);
    clap::Command::new(info.name.clone()).about(info.about.clone()).arg(arguments).disable_version_flag(true)
}

/// Whether the first word behind the name of a command asks for help.
pub(crate) fn is_help(words: &[OsString]) -> bool {
    words.get(1).is_some_and(|word| word == "--help" || word == "-h")
}

/// Runs a command as the owner of this home, who needs no other login.
pub(super) async fn run(setup: &Setup, words: Vec<OsString>) -> Result<()> {
    let no_text = |word: OsString| Failure::new(Exit::Usage, format!("{}: no UTF-8", word.to_string_lossy()));
    let words = words.into_iter().map(|word| word.into_string().map_err(no_text)).collect::<Result<Vec<_>>>()?;
    let Some((name, args)) = words.split_first() else { return Err(Failure::new(Exit::Usage, "there is no command")) };
    let cx = interruptible(&setup.host);
    let printed = Arc::new(Printed { out: setup.out, cancel: cx.cancel_token().clone(), wrote: Mutex::new(Ok(())) });
    let ran = match server::find(setup).await? {
        // There the plugin runs already, with all that it remembers.
        Some(running) => run_there(running, &cx, name, args, &printed).await,
        None => Ok(setup.host.run_command(&cx, name, args.to_vec(), Caller::local(), Output::new(printed.clone())).await?),
    };
    std::mem::replace(&mut *printed.wrote.lock().unwrap_or_else(PoisonError::into_inner), Ok(()))?;
    let code = u8::try_from(ran?).unwrap_or(1);
    if setup.out.json {
        setup.out.json(&json!({ "exit_code": code }), false)?;
    }
    if code == 0 { Ok(()) } else { Err(Failure::new(Exit::Of(code), "")) }
}

/// Has the server that runs do it. When this program goes, the server gives it up.
async fn run_there(mut running: Running, cx: &CallCx, name: &str, args: &[String], printed: &Printed) -> Result<i32> {
    let take = |item: Value| match (item["line"].as_str(), item["note"].as_str()) {
        (Some(line), _) => printed.line(line),
        (_, Some(note)) => printed.note(note),
        _ => {}
    };
    let asked = running.each("command.run", json!({ "name": name, "args": args }), take);
    let answer = tokio::select! {
        answer = asked => answer?,
        () = cx.cancelled() => return Err(Failure::new(Exit::Interrupted, "interrupted")),
    };
    Ok(answer["exit_code"].as_i64().and_then(|code| i32::try_from(code).ok()).unwrap_or(1))
}

/// Lines as they are said: data on stdout, the rest on stderr. A terminal gets nothing that it would obey.
struct Printed {
    out: Out,
    cancel: CancelToken,
    wrote: Mutex<Result<()>>,
}

impl OutputSink for Printed {
    fn line(&self, text: &str) {
        let out = self.out;
        let wrote = match (out.json, out.columns()) {
            (true, _) => out.json(&json!({ "line": text }), false),
            (false, Some(_)) => out.line(plain(text)),
            (false, None) => out.line(text),
        };
        if let Err(failure) = wrote {
            *self.wrote.lock().unwrap_or_else(PoisonError::into_inner) = Err(failure);
            // Nobody reads any more.
            self.cancel.cancel();
        }
    }

    fn note(&self, text: &str) {
        if !self.out.json {
            return self.out.note(plain(text));
        }
        if let Err(failure) = self.out.json(&json!({ "note": text }), false) {
            *self.wrote.lock().unwrap_or_else(PoisonError::into_inner) = Err(failure);
            self.cancel.cancel();
        }
    }
}

/// Runs a command for a conversation; what it says comes back as one text.
pub(super) async fn run_in_chat(cx: &CallCx, host: &Host, name: &str, argument: &str) -> Result<String> {
    let said = Arc::new(Said::default());
    let args = bespoke_host::split_arguments(argument);
    let code = host.run_command(cx, name, args, Caller::local(), Output::new(said.clone())).await?;
    let mut lines = std::mem::take(&mut *said.0.lock().unwrap_or_else(PoisonError::into_inner));
    if code != 0 {
        lines.push(format!("[/{name} ended with {code}]"));
    }
    Ok(lines.join("\n"))
}

/// Keeps what is said; the host bounds it.
#[derive(Default)]
struct Said(Mutex<Vec<String>>);

impl OutputSink for Said {
    fn line(&self, text: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(plain(text).into_owned());
    }

    fn note(&self, text: &str) {
        self.line(text);
    }
}
