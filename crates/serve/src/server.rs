//! The server as its caller sees it.

use std::time::Duration;

use bespoke_agent::Agent;
use bespoke_host::Host;
use bespoke_plugin_api::{Error, Result};
use bespoke_state::{DeadLetter, State};
use bespoke_voice::Notes;

use crate::{ServeConfig, Status};

/// What a server is made of.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Parts {
    /// The host, whose plugins are started.
    pub host: Host,
    /// Who answers.
    pub agent: Agent,
    /// Where messages and conversations are kept.
    pub state: State,
    /// Who hears and speaks voice notes, if anybody.
    pub notes: Option<Notes>,
    /// How it serves.
    pub config: ServeConfig,
}

impl Parts {
    /// What is needed in any case.
    pub fn new(host: Host, agent: Agent, state: State) -> Self {
        Parts { host, agent, state, notes: None, config: ServeConfig::default() }
    }

    /// With somebody who hears and speaks voice notes.
    #[must_use]
    pub fn notes(mut self, notes: Option<Notes>) -> Self {
        self.notes = notes;
        self
    }

    /// With this configuration.
    #[must_use]
    pub fn config(mut self, config: ServeConfig) -> Self {
        self.config = config;
        self
    }
}

/// A running agent. Clones are the same server.
#[derive(Debug, Clone)]
pub struct Server(Parts);

impl Server {
    /// Starts serving.
    ///
    /// # Errors
    /// `INVALID_PARAMS` for a value of the configuration that cannot work.
    pub async fn start(parts: Parts) -> Result<Server> {
        parts.config.check()?;
        Ok(Server(parts))
    }

    /// How it does.
    pub fn status(&self) -> Status {
        let _ = &self.0;
        Status { uptime_ms: 0, draining: false, channels: Vec::new(), at_work: 0, waiting: 0, outbox: 0, dead: 0, turns: 0, repeated: 0 }
    }

    /// Answers with this agent and by this configuration from now on.
    pub async fn reload(&self, _agent: Agent, _config: ServeConfig) {}

    /// Ends it within the limit.
    pub async fn drain(&self, _limit: Duration) {}

    /// Messages that could not be sent.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn dead(&self) -> Result<Vec<DeadLetter>> {
        Err(Error::unsupported("serve.dead"))
    }

    /// Sends a dead letter again.
    ///
    /// # Errors
    /// When there is none of this number.
    pub fn resend(&self, _id: i64) -> Result<()> {
        Err(Error::unsupported("serve.resend"))
    }
}
