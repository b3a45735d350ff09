//! The script: the table `[plugins.fake]`.

use std::collections::BTreeMap;

use bespoke_plugin_api::{
    serde::{self, Deserialize},
    serde_json::Value,
};

/// What the fakes do. All of it has a default that does something sensible.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize))]
pub struct Config {
    /// Answers of the provider, one per request, in order. After the last one it echoes the user.
    #[cfg_attr(test, schemars(extend("x-reload" = "live")))]
    pub replies: Vec<Vec<Step>>,
    /// Pause before each piece of text of the provider, in milliseconds.
    #[cfg_attr(test, schemars(extend("x-reload" = "live")))]
    pub piece_delay_ms: u64,
    /// Transcripts by the checksum of the audio, as `facts` or an unscripted transcript name it.
    #[cfg_attr(test, schemars(extend("x-reload" = "live")))]
    pub heard: BTreeMap<String, String>,
    /// Transcripts for audio that is not in `heard`, one per request, in order; the last one stays.
    #[cfg_attr(test, schemars(extend("x-reload" = "live")))]
    pub transcripts: Vec<String>,
    /// Messages that come in over the channel.
    #[cfg_attr(test, schemars(extend("x-reload" = "live")))]
    pub messages: Vec<Incoming>,
    /// What the hook does.
    #[cfg_attr(test, schemars(extend("x-reload" = "live")))]
    pub hook: HookScript,
    /// What a hook does with messages that come in; nothing hooks into them without it.
    pub received: Option<HookScript>,
    /// What a hook does with messages that leave; nothing hooks into them without it.
    pub sent: Option<HookScript>,
}

/// A step of an answer.
#[derive(Debug, Clone, Deserialize)]
#[serde(crate = "serde", rename_all = "snake_case", deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize))]
pub enum Step {
    /// Text; streamed word by word.
    Text(String),
    /// A wish to call a tool.
    Tool {
        /// The tool.
        name: String,
        /// The arguments.
        #[serde(default)]
        args: Value,
    },
    /// A pause, in milliseconds.
    DelayMs(u64),
    /// The answer fails here.
    Error {
        /// Its code.
        code: i32,
        /// Its message.
        message: String,
        /// Whether another try may succeed.
        #[serde(default)]
        retryable: bool,
    },
    /// The provider panics here.
    Panic(String),
}

/// A message that comes in.
#[derive(Debug, Clone, Deserialize)]
#[serde(crate = "serde", deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize))]
pub struct Incoming {
    /// The text.
    pub text: String,
    /// The conversation.
    #[serde(default = "someone")]
    pub chat: String,
    /// The person.
    #[serde(default = "someone")]
    pub sender: String,
}

fn someone() -> String {
    "someone".to_owned()
}

/// What the hook does with an event.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(crate = "serde", rename_all = "snake_case", deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize))]
pub enum HookScript {
    /// Goes on.
    #[default]
    Continue,
    /// Replaces the user's input, or the text of the message, by this text.
    Replace(String),
    /// Stops the turn or the message, for this reason.
    Veto(String),
    /// Fails with this message.
    Fail(String),
    /// Panics with this message.
    Panic(String),
    /// Takes so many milliseconds, then goes on.
    SlowMs(u64),
}
