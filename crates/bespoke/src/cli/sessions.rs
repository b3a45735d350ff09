//! The arguments of `sessions`. What each verb does is in `cmd`.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

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
