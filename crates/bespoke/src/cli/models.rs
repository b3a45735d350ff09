//! The arguments of the verbs about files of others: how they are fetched, `models`, `licenses`. What each does is in `cmd`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

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
