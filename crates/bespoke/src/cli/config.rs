//! The arguments of `config`. What each verb does is in `cmd`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

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
