//! The arguments of `serve`, and of the verbs that look at what runs: `status`, `reload`, `logs`, `events`, `outbox`. What each does is in
//! `cmd`.

use clap::{Args, Subcommand};

use super::LogLevel;

#[derive(Debug, Clone, Args)]
pub(crate) struct Serve {
    /// How long answers under way may take to end when it is told to stop, in seconds [default: serve.drain_ms]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=604_800))]
    pub(crate) drain: Option<u64>,
    /// Do not look at the configuration file for changes; SIGHUP and bespoke reload still do
    #[arg(long)]
    pub(crate) no_watch: bool,
    /// Download nothing, not even the native runtime that the hardware of this machine calls for
    #[arg(long)]
    pub(crate) offline: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Logs {
    /// Go on as more is logged, until Ctrl-C
    #[arg(long, short = 'f')]
    pub(crate) follow: bool,
    /// Only from this level on
    #[arg(long, value_enum, ignore_case = true, value_name = "LEVEL")]
    pub(crate) level: Option<LogLevel>,
    /// Only what this plugin says
    #[arg(long, value_name = "ID")]
    pub(crate) plugin: Option<String>,
    /// At most so many lines, the last ones
    #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = 100)]
    pub(crate) lines: usize,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Events {
    /// What happens in the server that runs, as it happens; without --follow, what happened last
    #[command(
        after_help = "Examples:\n  bespoke events tail --follow\n  bespoke events tail --filter plugin_\n  bespoke events tail --follow --json | jq -c 'select(.topic == \"step_completed\")'"
    )]
    Tail {
        /// Stay, until Ctrl-C
        #[arg(long, short = 'f')]
        follow: bool,
        /// Only topics that begin with this
        #[arg(long, value_name = "PREFIX", default_value = "", hide_default_value = true)]
        filter: String,
        /// At most so many of those that happened before
        #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = 20)]
        lines: usize,
    },
    /// What happened, in this run and in those before, as far as it is kept; no server has to run
    #[command(
        after_help = "Examples:\n  bespoke events history --filter workflow_\n  bespoke events history --since 2h -n 1000\n  bespoke events history --since 2026-11-20T09:00:00Z --json"
    )]
    History {
        /// Only topics that begin with this
        #[arg(long, value_name = "PREFIX", default_value = "", hide_default_value = true)]
        filter: String,
        /// Only of this plugin
        #[arg(long, value_name = "ID")]
        plugin: Option<String>,
        /// Only from then on: a time such as 2026-11-20T09:00:00Z, a day such as 2026-11-20, both in UTC, or how long ago, such as 90s, 15m, 2h, 3d
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// At most so many, the last ones
        #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        lines: u32,
    },
    /// Tell something to everybody who listens in the server that runs
    #[command(after_help = "Examples:\n  bespoke events emit deployed '{\"version\":\"1.2\"}'\n  bespoke events emit door_opened")]
    Emit {
        /// What happened: letters, digits, dots, dashes and underscores; custom. is put before it
        name: String,
        /// What there is to say of it
        #[arg(value_name = "JSON", default_value = "{}")]
        payload: String,
    },
    /// How often what happened, who listens to the server that runs, and what was lost
    #[command(after_help = "Examples:\n  bespoke events stats\n  bespoke events stats --json")]
    Stats,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Outbox {
    /// Messages that wait to be sent, and those that could not be and are not tried any more
    #[command(after_help = "Examples:\n  bespoke outbox list\n  bespoke outbox list --json | jq '.[] | select(.state == \"dead\") | .id'")]
    List,
    /// Send some now, or all: also those that wait for their next try
    #[command(after_help = "Examples:\n  bespoke outbox resend 12 13\n  bespoke outbox resend --all")]
    Resend {
        /// Their numbers
        #[arg(value_name = "ID", conflicts_with = "all")]
        ids: Vec<i64>,
        /// All of them
        #[arg(long)]
        all: bool,
    },
    /// Forget some, or all: they are never sent
    #[command(after_help = "Examples:\n  bespoke outbox drop 12\n  bespoke outbox drop --all --yes")]
    Drop {
        /// Their numbers
        #[arg(value_name = "ID", conflicts_with = "all")]
        ids: Vec<i64>,
        /// All of them
        #[arg(long)]
        all: bool,
        /// Without a question
        #[arg(long, short = 'y')]
        yes: bool,
    },
}
