//! The arguments of the verbs that ask and talk: `ask`, `chat`. What each does is in `cmd`.

use clap::Args;

use super::Fetching;

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
