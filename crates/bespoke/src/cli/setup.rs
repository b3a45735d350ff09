//! The arguments of the verbs about the set-up as a whole: `doctor`, `init`. What each does is in `cmd`.

use std::path::PathBuf;

use clap::Args;

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
