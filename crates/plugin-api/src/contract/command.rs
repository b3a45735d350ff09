//! Commands: verbs that a plugin adds to the command line.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::builder;
use crate::{CallCx, Result};

/// What the host is told of a command before it starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CommandSpec {
    /// The verb: `^[a-z][a-z0-9-]*$`.
    pub name: String,
    /// One line for the list of commands.
    pub about: String,
    /// How it is called, such as `weather CITY [--days N]`.
    pub usage: String,
    /// Whether only a user with a login may run it.
    pub require_auth: bool,
}

impl CommandSpec {
    /// A command that needs a login, which is the safe choice.
    pub fn new(name: impl Into<String>, about: impl Into<String>) -> Self {
        let name = name.into();
        CommandSpec { usage: name.clone(), name, about: about.into(), require_auth: true }
    }
}

builder!(CommandSpec {
    /// How it is called.
    usage: String => usage,
    /// Whether only a user with a login may run it.
    require_auth: bool => require_auth,
});

/// One run of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CommandRequest {
    /// The arguments after the verb, without control characters.
    pub args: Vec<String>,
    /// Who runs it: `local` for the user of this machine, else `CHANNEL:SENDER`.
    #[serde(default = "local")]
    pub user: String,
    /// Whether that user has a login, as [`CommandSpec::require_auth`] means it.
    #[serde(default)]
    pub authenticated: bool,
}

fn local() -> String {
    "local".into()
}

impl CommandRequest {
    /// A run with these arguments, by the user of this machine.
    pub fn new(args: Vec<String>) -> Self {
        CommandRequest { args, user: local(), authenticated: true }
    }
}

builder!(CommandRequest {
    /// Who runs it.
    user: String => user,
    /// Whether that user has a login.
    authenticated: bool => authenticated,
});

/// Where the lines of a command go.
pub trait OutputSink: Send + Sync {
    /// A line of data.
    fn line(&self, text: &str);
    /// A line for the person: progress, warnings.
    fn note(&self, text: &str);
}

/// A command's way to speak.
#[derive(Clone)]
pub struct Output(Arc<dyn OutputSink>);

impl Output {
    /// An output over a sink of the host.
    pub fn new(sink: Arc<dyn OutputSink>) -> Self {
        Output(sink)
    }

    /// Writes a line of data.
    pub fn line(&self, text: &str) {
        self.0.line(text);
    }

    /// Writes a line for the person.
    pub fn note(&self, text: &str) {
        self.0.note(text);
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Output")
    }
}

/// The contract of a command.
#[async_trait]
pub trait Command: Send + Sync {
    /// Runs it and returns the exit code, 0–255.
    async fn run(&self, cx: &CallCx, request: CommandRequest, out: Output) -> Result<i32>;
}
