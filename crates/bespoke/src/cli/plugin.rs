//! The arguments of `plugin …`. What each does is in `cmd::plugin` and `packs`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Fetching;

#[derive(Debug, Subcommand)]
pub(crate) enum Plugin {
    /// All plugins: in this binary, in plugin folders, and configured but missing
    ///
    /// Plugins of this binary are started, to see how they do, but for those that may load a heavy library. Others are not run to be
    /// listed: what is known of them without that is shown. Where a server runs, they are shown as they are there.
    #[command(
        after_help = "Examples:\n  bespoke plugin list\n  bespoke plugin list vad\n  bespoke plugin list --start\n  bespoke plugin list --json | jq '.[] | select(.state != \"ready\")'"
    )]
    List {
        /// Only those that provide this kind
        kind: Option<String>,
        /// Start all of them, to see how they do
        #[arg(long)]
        start: bool,
    },
    /// One plugin in detail: what it is, what it may, how it does
    #[command(after_help = "Example:\n  bespoke plugin info silero")]
    Info {
        /// Its id
        id: String,
    },
    /// Call a method of a plugin, and print what it returns
    #[command(
        after_help = "Examples:\n  bespoke plugin call clock clock\n  bespoke plugin call my-tts synthesize '{\"text\":\"Hello\"}'\n  bespoke plugin call files read_file @args.json\n  echo '{\"text\":\"Hello\"}' | bespoke plugin call my-tts synthesize -"
    )]
    Call {
        /// Its id
        id: String,
        /// A method that it has, a tool of its, or a method of a contract such as synthesize; plugin info lists them
        method: String,
        /// The arguments: JSON, @FILE that holds it, or - for stdin
        #[arg(default_value = "{}", hide_default_value = true)]
        args: String,
        /// Give up after so many milliseconds
        #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
        timeout_ms: Option<u64>,
    },
    /// Add a plugin from a folder: shows what it asks for, tries it, and keeps it
    ///
    /// Its folder goes into the configuration unless it lies where plugins are searched. With an id, a plugin that is found but
    /// waits for consent is let in. It is started once, to see that it works. The server that runs has it at once; a chat takes it
    /// in on /load.
    #[command(
        after_help = "Examples:\n  bespoke plugin load ./my_tts_plugin\n  bespoke plugin load ./my_tts_plugin --yes\n  bespoke plugin load my-tts"
    )]
    Load {
        /// The folder, or the id of a plugin that was found
        #[arg(value_name = "DIR|ID")]
        what: String,
        /// Grant what it asks for, and trust it if it is a library, without a question
        #[arg(long, short = 'y')]
        yes: bool,
        /// Install what it depends on, into an environment of its own
        #[arg(long)]
        auto_install_deps: bool,
    },
    /// Build a plugin's crate for a tier, as a folder that plugin load takes
    ///
    /// The crate is a library of Rust with a plugin.toml; what a tier wants to be exported is generated around it, below cargo's target
    /// folder. It is built by the Rust that is there; where something is missing, the command that brings it is said. For the tier compiled,
    /// a program comes out. Prints what was built: its path.
    #[command(
        after_help = "Examples:\n  bespoke plugin build ./my_plugin --tier wasm --release\n  bespoke plugin build --tier process\n  bespoke plugin load \"$(bespoke plugin build ./my_plugin --tier wasm)\"\n  bespoke plugin build ./my_plugin --tier compiled --features terminal,smol"
    )]
    Build(Building),
    /// Forget a plugin that was added from a folder, and the trust in it if it is a library; nothing is deleted
    #[command(after_help = "Example:\n  bespoke plugin unload my-tts")]
    Unload {
        /// Its id
        id: String,
    },
    /// Switch a plugin on
    #[command(after_help = "Example:\n  bespoke plugin enable clock")]
    Enable {
        /// Its id
        id: String,
    },
    /// Switch a plugin off: it never runs until it is switched on
    #[command(after_help = "Example:\n  bespoke plugin disable clock")]
    Disable {
        /// Its id
        id: String,
    },
    /// Switch a plugin on or off
    #[command(after_help = "Examples:\n  bespoke plugin toggle clock false\n  bespoke plugin toggle clock true")]
    Toggle {
        /// Its id
        id: String,
        /// true or false
        #[arg(action = clap::ArgAction::Set)]
        on: bool,
    },
    /// The configuration of a plugin: all of it, one value, or a new value
    #[command(
        after_help = "Examples:\n  bespoke plugin config silero\n  bespoke plugin config silero activation_threshold\n  bespoke plugin config silero activation_threshold 0.6"
    )]
    Config {
        /// Its id
        id: String,
        /// Dotted key below plugins.ID
        key: Option<String>,
        /// The new value: TOML; a bare word is taken as text
        #[arg(allow_hyphen_values = true)]
        value: Option<String>,
        /// Only print the file as it would be
        #[arg(long, requires = "value")]
        dry_run: bool,
    },
    /// How plugins do: starts them and asks. Exit code 1 when one does not do well
    #[command(after_help = "Examples:\n  bespoke plugin health\n  bespoke plugin health my-tts --json")]
    Health {
        /// Its id; all when absent
        id: Option<String>,
    },
    /// Let one plugin take the place of another: tried here first, then kept
    ///
    /// OLD is started, NEW beside it, and NEW takes over; when that fails, OLD goes on and nothing is changed. When it works, the
    /// configuration switches OLD off and NEW on. A chat that runs does the same to itself with /swap.
    #[command(after_help = "Examples:\n  bespoke plugin swap my-tts my-tts-2\n  bespoke plugin swap my-tts my-tts-2 --dry-run")]
    Swap {
        /// The one that serves now
        old: String,
        /// The one that is to serve
        new: String,
        /// Only try it
        #[arg(long)]
        dry_run: bool,
    },
    /// Replace a running plugin by a new instance of itself; with --watch, whenever its files change
    ///
    /// The server that runs does it to itself. Without one, and with --watch, the plugin runs in this program only: that shows whether it can
    /// be reloaded. A chat that runs does it to itself with /reload ID.
    #[command(after_help = "Examples:\n  bespoke plugin reload my-tts\n  bespoke plugin reload my-tts --watch     while you write it")]
    Reload {
        /// Its id
        id: String,
        /// Stay, and reload it when its files or its configuration change, until Ctrl-C
        #[arg(long)]
        watch: bool,
    },
    /// Hold a plugin against what it owes its host: a line for each rule. Exit code 1 when it breaks one
    ///
    /// For authors. It runs as it does for users, in its own tier, but in a world of the test: offline, without what was stored, with a clock
    /// by which no wait takes long. conformance.toml beside its manifest says what to start it with, and which calls must come to what;
    /// docs/testing.md has both.
    #[command(
        after_help = "Examples:\n  bespoke plugin test\n  bespoke plugin test ./my_tts_plugin\n  bespoke plugin test clock --json | jq '.checks[] | select(.outcome == \"failed\")'"
    )]
    Test {
        /// The folder, or the id of a plugin that was found; this folder when absent
        #[arg(value_name = "DIR|ID")]
        what: Option<String>,
        /// Take this file instead of the conformance.toml beside its manifest
        #[arg(long, value_name = "FILE")]
        cases: Option<PathBuf>,
        /// Let it have what it asks for, and run it if it is a library, for this test only
        #[arg(long, short = 'y')]
        yes: bool,
    },
    /// Have a plugin told of events; or list who is told, or try what the handlers of a hook would do
    ///
    /// NAME is a hook of on_event that the plugin registers, or a method that it has under that name: def NAME(self, event). It stands
    /// in the configuration under [[hooks]]. The other hooks, from before_agent_run to on_client_disconnect, are registered by plugins
    /// themselves.
    #[command(
        after_help = "Examples:\n  bespoke plugin hook my-monitor --events workflow_started,workflow_completed --callback on_workflow_event\n  bespoke plugin hook my-monitor --events 'plugin_*' --callback on_plugin\n  bespoke plugin hook --list\n  bespoke plugin hook my-monitor --remove on_plugin\n  bespoke plugin hook --dry-run before_agent_run --event '{\"session\":\"s\",\"input\":\"Hello\"}'"
    )]
    Hook(Hooking),
    /// Grant a plugin what it asks for; a library, which no wall holds, is asked about as code that you trust
    #[command(
        after_help = "Examples:\n  bespoke plugin grant my-tts              all that it asks for\n  bespoke plugin grant my-tts network_access"
    )]
    Grant {
        /// Its id
        id: String,
        /// Of its optional permissions, only these; what it requires is granted with any
        #[arg(value_name = "PERMISSION")]
        permissions: Vec<String>,
        /// Without a question
        #[arg(long, short = 'y')]
        yes: bool,
    },
    /// Take back what a plugin was granted, and the trust in a library: it asks again before it runs
    #[command(after_help = "Example:\n  bespoke plugin revoke my-tts")]
    Revoke {
        /// Its id
        id: String,
    },
    /// Install native runtimes: ONNX Runtime, XLA, NVIDIA's compiler
    ///
    /// Each is a pack of pinned files, whose size and SHA-256 are part of this program. Versions lie side by side, and the new one is
    /// used from its next start on. What is installed already is left alone.
    #[command(
        after_help = "Examples:\n  bespoke plugin install onnx:cpu\n  bespoke plugin install xla:cuda --dry-run\n  bespoke plugin install --auto               what the hardware of this machine calls for\n  bespoke plugin install onnx:cpu --from ./wheels --offline"
    )]
    Install {
        /// Runtime and device, such as onnx:cpu; plugin list shows all
        #[arg(value_name = "RUNTIME:DEVICE", required_unless_present = "auto")]
        packs: Vec<String>,
        /// Those that the hardware of this machine calls for, and that a plugin of this program can use
        #[arg(long, conflicts_with = "packs")]
        auto: bool,
        #[command(flatten)]
        how: Packing,
    },
    /// Install the newer pinned versions of runtimes that are installed
    #[command(after_help = "Examples:\n  bespoke plugin update\n  bespoke plugin update onnx:cpu --dry-run")]
    Update {
        /// Runtime and device; all that are installed when absent
        #[arg(value_name = "RUNTIME:DEVICE")]
        packs: Vec<String>,
        #[command(flatten)]
        how: Packing,
    },
    /// Remove a native runtime that is installed
    #[command(
        disable_version_flag = true,
        after_help = "Examples:\n  bespoke plugin uninstall xla:cpu\n  bespoke plugin uninstall onnx:cpu --version 1.26.0"
    )]
    Uninstall {
        /// Runtime and device
        #[arg(value_name = "RUNTIME:DEVICE")]
        pack: String,
        /// Only this version
        #[arg(long)]
        version: Option<String>,
        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
    },
    /// Hash every file of native runtimes again, and say which is not what was installed. Exit code 6 when one is not
    #[command(after_help = "Examples:\n  bespoke plugin verify\n  bespoke plugin verify onnx:cpu --json")]
    Verify {
        /// Runtime and device; all that are installed when absent
        #[arg(value_name = "RUNTIME:DEVICE")]
        packs: Vec<String>,
    },
    /// Use the version of a native runtime that was used before
    #[command(after_help = "Example:\n  bespoke plugin rollback onnx:cpu")]
    Rollback {
        /// Runtime and device
        #[arg(value_name = "RUNTIME:DEVICE")]
        pack: String,
    },
    /// Fetch the model files that plugins need
    ///
    /// Of plugins in this binary those files without which one cannot start; of plugins in folders all, as nothing of theirs is run
    /// for this. A file that cannot be had does not keep the others from coming: exit code 1 when one is still missing.
    #[command(
        after_help = "Examples:\n  bespoke plugin download-files\n  bespoke plugin download-files --dry-run\n  bespoke plugin download-files smol --from /media/stick --offline\n  bespoke plugin download-files --plugin silero --plugin my-tts\n  bespoke plugin download-files --all             all there is, before the machine goes off the network"
    )]
    DownloadFiles(DownloadFiles),
}

#[derive(Debug, Args)]
pub(crate) struct Building {
    /// The folder with its Cargo.toml and plugin.toml
    #[arg(value_name = "DIR", default_value = ".", hide_default_value = true)]
    pub(crate) folder: PathBuf,
    /// How it is to ship
    #[arg(long, value_name = "TIER", value_parser = ["compiled", "process", "dylib", "wasm"])]
    pub(crate) tier: String,
    /// Optimised; takes longer
    #[arg(long)]
    pub(crate) release: bool,
    /// Where it goes; by default bespoke/TIER/ID in cargo's target folder
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// With --tier compiled: what else is in the program
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub(crate) features: Vec<String>,
}

/// How packs of native runtimes come here.
#[derive(Debug, Clone, Args)]
pub(crate) struct Packing {
    /// Only say what would be downloaded, and how large it is
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Take wheels from this file or folder
    #[arg(long, value_name = "FILE|DIR")]
    pub(crate) from: Option<PathBuf>,
    /// Download nothing
    #[arg(long)]
    pub(crate) offline: bool,
    /// The package index to download from, before that of the configuration and of the environment
    #[arg(long, value_name = "URL")]
    pub(crate) index_url: Option<String>,
    /// NVIDIA's libraries for this version of CUDA, instead of what the driver calls for
    #[arg(long, value_name = "12|13", value_parser = clap::value_parser!(u8).range(12..=13))]
    pub(crate) cuda: Option<u8>,
}

#[derive(Debug, Args)]
pub(crate) struct Hooking {
    /// Id of the plugin
    #[arg(required_unless_present_any = ["list", "dry_run"])]
    pub(crate) id: Option<String>,
    /// Names of events; one that ends in * means all that begin so
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', requires = "callback", conflicts_with_all = ["list", "remove", "dry_run"])]
    pub(crate) events: Vec<String>,
    /// What is told of them
    #[arg(long, value_name = "NAME", requires = "events")]
    pub(crate) callback: Option<String>,
    /// All handlers of hooks, and who is told of which events
    #[arg(long, conflicts_with_all = ["remove", "dry_run"])]
    pub(crate) list: bool,
    /// Have this one told of nothing any more
    #[arg(long, value_name = "NAME", conflicts_with = "dry_run")]
    pub(crate) remove: Option<String>,
    /// Ask the handlers of a hook what they would do, without doing it
    #[arg(long, value_name = "HOOK", conflicts_with = "id")]
    pub(crate) dry_run: Option<String>,
    /// What happens, as JSON; an example when absent
    #[arg(long, value_name = "JSON", requires = "dry_run")]
    pub(crate) event: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DownloadFiles {
    /// Plugins, all files of which are fetched; those of all plugins that need some when absent
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<String>,
    /// The same, by a name; may be repeated
    #[arg(long = "plugin", value_name = "ID")]
    pub(crate) plugins: Vec<String>,
    /// Also what plugins have but do without now, and what those need that are switched off
    #[arg(long, conflicts_with_all = ["ids", "plugins"])]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) fetching: Fetching,
    /// Only list what would be fetched: name, version, size, licence, source
    #[arg(long)]
    pub(crate) dry_run: bool,
}
