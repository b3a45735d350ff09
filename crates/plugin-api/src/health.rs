//! How well a running plugin does. Whether it runs at all is the host's lifecycle state, not this.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a plugin says of itself. A reason is one sentence for a person.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", content = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Health {
    /// Nobody has asked yet.
    #[default]
    Unknown,
    /// All of it works.
    Ok,
    /// Works, but not as configured: slower, less accurate, a part missing.
    Degraded(String),
    /// Does not work.
    Failed(String),
}

impl Health {
    /// `unknown`, `ok`, `degraded` or `failed`.
    pub fn name(&self) -> &'static str {
        match self {
            Health::Unknown => "unknown",
            Health::Ok => "ok",
            Health::Degraded(_) => "degraded",
            Health::Failed(_) => "failed",
        }
    }

    /// Why, where there is something to say.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Health::Degraded(reason) | Health::Failed(reason) => Some(reason),
            Health::Unknown | Health::Ok => None,
        }
    }
}

/// What a person may want to know of a running plugin: which engine runs, which device, which model file.
pub type Facts = BTreeMap<String, String>;
