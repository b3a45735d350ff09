//! The command line: what can be typed, with examples. Words only; what a verb does is in `cmd`.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

mod config;
mod conversation;
mod models;
mod plugin;
pub(crate) mod runtime;
mod serve;
pub(crate) mod sessions;
mod setup;
mod voice;

pub(crate) use config::{Change, ConfigVerb};
pub(crate) use conversation::{Ask, Chat, Keeping};
pub(crate) use models::{Fetching, Licenses, Models, RemoveModels};
pub(crate) use plugin::{Building, DownloadFiles, Hooking, Packing, Plugin};
pub(crate) use runtime::RuntimeVerb;
pub(crate) use serve::{Events, Logs, Outbox, Serve};
pub(crate) use sessions::Sessions;
pub(crate) use setup::{Doctor, Init};
pub(crate) use voice::{Demo, Say, Speak, Transcribe, Vad, VadEngine, VadFormat};

/// AI agents cut to measure: this binary holds exactly the plugins it was built with.
#[derive(Debug, Parser)]
#[command(disable_help_subcommand = true, propagate_version = true, max_term_width = 110)]
#[command(after_help = "Examples:
  bespoke demo --yes                     two spoken turns through the whole chain
  bespoke say question.wav               answer a recording, aloud
  bespoke ask \"What is the capital of France?\"
  bespoke plugin list                    what is in this binary, and how it does

Exit codes: 0 ok, 1 failed, 2 usage or configuration, 3 not found, 4 consent missing, 5 conflict,
6 verification failed, 7 network, 10 differences found, 130 interrupted.")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Configuration file [default: ./bespoke.toml, else the one in BESPOKE_HOME]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// How much is told on stderr
    #[arg(long, global = true, value_enum, ignore_case = true, default_value_t = LogLevel::Error, value_name = "LEVEL")]
    pub(crate) log_level: LogLevel,
    /// Print data as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say nothing on stderr but errors
    #[arg(long, short = 'q', global = true)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LogLevel {
    Off,
    #[value(alias = "critical")]
    Error,
    #[value(alias = "warning")]
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    pub(crate) fn name(self) -> &'static str {
        match self {
            LogLevel::Off => "off",
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Two spoken turns through the whole chain: hear, think, answer
    #[command(
        after_help = "Examples:\n  bespoke demo --yes              fetch what is missing without a question\n  bespoke demo --out reply.wav"
    )]
    Demo(Demo),
    /// Answer a recording: WAV in, spoken answer out
    #[command(after_help = "Examples:\n  bespoke say question.wav\n  bespoke say question.wav --out answer.wav --json")]
    Say(Say),
    /// Ask one question
    #[command(
        after_help = "Examples:\n  bespoke ask \"What is the capital of France?\"\n  cat notes.txt | bespoke ask \"Sum this up\"\n  bespoke ask --provider smol --no-tools \"Who wrote Faust?\"\n  bespoke ask --continue \"And who wrote it down?\""
    )]
    Ask(Ask),
    /// Talk with the agent on this terminal
    #[command(
        after_help = "Examples:\n  bespoke chat\n  bespoke chat --continue                go on where the last one ended\n  printf 'What is the capital of Italy?\\nAnd of Spain?\\n' | bespoke chat\n  bespoke chat --json                    a message a line in, events a line out"
    )]
    Chat(Chat),
    /// Find speech in WAV files
    #[command(
        after_help = "Examples:\n  bespoke vad call.wav\n  bespoke vad *.wav --engine builtin --format jsonl\n  bespoke vad call.wav --format svg > call.svg"
    )]
    Vad(Vad),
    /// Write down what is said in WAV files
    #[command(after_help = "Examples:\n  bespoke transcribe talk.wav\n  bespoke transcribe *.wav --json")]
    Transcribe(Transcribe),
    /// Speak a text into a WAV file
    #[command(after_help = "Examples:\n  bespoke speak \"Hello there.\" --out hello.wav\n  echo Hello | bespoke speak --out hello.wav")]
    Speak(Speak),
    /// Plugins: what there is, how it does, what it needs; add, try, configure, switch off
    #[command(subcommand)]
    Plugin(Plugin),
    /// Serve plugins to another program: JSON-RPC 2.0, a line each way, on stdin and stdout
    ///
    /// The program loads, calls, swaps and unloads plugins; what it can ask is in docs/host.md. stdout carries the protocol and
    /// nothing else. Exit codes of this verb: 0 asked to end, 1 failed, 2 interrupted, 3 terminated, 4 end of the input.
    #[command(
        after_help = "Examples:\n  bespoke host --stdio\n  bespoke host --stdio --plugins-dir ./plugins --auto-load --log-level DEBUG\n  echo '{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"plugin/list\"}' | bespoke host --stdio"
    )]
    Host(HostArgs),
    /// Run the agent: take messages from the channels of the configuration, and answer them, until it is told to stop
    ///
    /// SIGTERM and Ctrl-C stop it in order: answers under way end, what is to leave stays in the database. A second one ends it at once.
    /// SIGHUP, bespoke reload and a change of the configuration file take over what is new. Exit codes of this verb: 0 stopped in order,
    /// 5 another one runs, 130 stopped at once; else as everywhere.
    #[command(
        after_help = "Examples:\n  bespoke serve\n  bespoke serve --drain 5\n  bespoke serve --json | jq -r .event\n  bespoke serve --no-watch --log-level info"
    )]
    Serve(Serve),
    /// How the server that runs does. Exit code 3 when none runs
    #[command(after_help = "Examples:\n  bespoke status\n  bespoke status --json | jq '.channels[] | select(.state != \"running\")'")]
    Status,
    /// Have the server that runs read the configuration again, and say what became of it
    #[command(after_help = "Example:\n  bespoke reload")]
    Reload,
    /// What was logged, by any program of this user
    #[command(
        after_help = "Examples:\n  bespoke logs --follow\n  bespoke logs --level warn -n 20\n  bespoke logs --plugin telegram --json"
    )]
    Logs(Logs),
    /// What happens: in the server that runs, and in those that ran
    #[command(subcommand)]
    Events(Events),
    /// Messages that have not left: look at them, send them now, forget them
    #[command(after_help = "Examples:\n  bespoke outbox\n  bespoke outbox resend 12\n  bespoke outbox drop --all")]
    Outbox {
        /// What is done; listed when absent
        #[command(subcommand)]
        verb: Option<Outbox>,
    },
    /// Conversations that are kept: look at them, take them along, delete them
    #[command(subcommand)]
    Sessions(Sessions),
    /// Model files: what plugins need, what is here; check them, delete them
    #[command(after_help = "Examples:\n  bespoke models\n  bespoke models verify\n  bespoke models remove --unused")]
    Models {
        /// What is done; listed when absent
        #[command(subcommand)]
        verb: Option<Models>,
    },
    /// Print the licence of this program, and the terms of what others made and it contains
    #[command(
        after_help = "Examples:\n  bespoke licenses | less\n  bespoke licenses silero-vad\n  bespoke licenses --crates\n  bespoke licenses --json | jq -r '.[].name'"
    )]
    Licenses(Licenses),
    /// Native runtimes at work: run a program on one, list its devices
    #[command(subcommand)]
    Runtime(RuntimeVerb),
    /// The configuration: check, show, change
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Write a configuration, with a few questions, and try it
    #[command(
        after_help = "Examples:\n  bespoke init\n  bespoke init --yes --provider smol\n  bespoke init --yes --provider openai:qwen3 --base-url http://127.0.0.1:8080/v1 --tools clock\n  bespoke init --yes --here --dry-run"
    )]
    Init(Init),
    /// Look for what is wrong with this machine and this set-up
    #[command(
        after_help = "Examples:\n  bespoke doctor\n  bespoke doctor --quiet                 only what is wrong\n  bespoke doctor --fix\n  bespoke doctor --json | jq '.[] | select(.verdict == \"problem\")'"
    )]
    Doctor(Doctor),
    /// Print completions for a shell
    #[command(after_help = "Example:\n  bespoke completions bash > ~/.local/share/bash-completion/completions/bespoke")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// What plugins were used for: calls, errors, times; and the tokens of today
    ///
    /// It is counted on this machine and sent nowhere; `[usage] enabled = false` counts nothing.
    #[command(after_help = "Examples:\n  bespoke usage\n  bespoke usage --json | jq '.plugins | map_values(.total.p99_ms)'")]
    Usage,
    /// A command of a plugin: its name, and what follows it
    #[command(skip)]
    Command(Vec<OsString>),
}

#[derive(Debug, Args)]
pub(crate) struct HostArgs {
    /// Speak over stdin and stdout; there is no other way yet
    #[arg(long, required = true)]
    pub(crate) stdio: bool,
    /// A folder of plugin folders, beside those of the configuration; may be repeated
    #[arg(long, value_name = "DIR")]
    pub(crate) plugins_dir: Vec<PathBuf>,
    /// Load every plugin that is found
    #[arg(long)]
    pub(crate) auto_load: bool,
    /// Download nothing, not even the native runtime that the hardware of this machine calls for
    #[arg(long)]
    pub(crate) offline: bool,
    /// Install what a plugin depends on, into an environment of its own, when it is loaded
    #[arg(long)]
    pub(crate) auto_install_deps: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn command() -> clap::Command {
        Cli::command().version("0")
    }

    /// Every command line in a text: what stands after `bespoke` on a line, up to a comment, a pipe or a redirection.
    fn examples(text: &str) -> Vec<Vec<String>> {
        let mut found = Vec::new();
        for line in text.lines().map(str::trim) {
            for part in line.split(" | ") {
                let part = part.trim();
                if !part.starts_with("bespoke ") {
                    continue;
                }
                // In help, two spaces stand between a command and its explanation; in a document, a #.
                let part = part.split("  ").next().unwrap_or_default();
                let part = part.split(" > ").next().unwrap_or_default();
                found.push(words(part.split(" #").next().unwrap_or_default()));
            }
        }
        found
    }

    /// As a shell takes a line apart, as far as our examples go.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
        for c in line.chars() {
            match (quote, c) {
                (Some(open), c) if c == open => quote = None,
                (None, '"' | '\'') => quote = Some(c),
                (None, ' ') => words.push(std::mem::take(&mut word)),
                (_, c) => word.push(c),
            }
        }
        words.push(word);
        words.retain(|word| !word.is_empty());
        words
    }

    fn help_of(command: &clap::Command, texts: &mut Vec<String>) {
        texts.extend(command.get_after_help().map(ToString::to_string));
        command.get_subcommands().for_each(|sub| help_of(sub, texts));
    }

    #[test]
    fn every_example_is_a_command_line_that_works() {
        let mut texts = Vec::new();
        help_of(&command(), &mut texts);
        assert!(texts.len() > 10, "few verbs have examples");
        texts.push(include_str!("../../../README.md").to_owned());
        for text in &texts {
            let examples = examples(text);
            assert!(!examples.is_empty(), "a text without an example: {text}");
            for example in examples {
                if let Err(error) = command().try_get_matches_from(&example) {
                    panic!("{example:?}: {error}");
                }
            }
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }
}
