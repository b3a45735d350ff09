//! One row per plugin: what `plugin list` shows.

use bespoke_plugin_api::{Facts, Health};
use serde::{Deserialize, Serialize};

use crate::{
    Redactor,
    candidate::{State, Tier},
    plugin::PluginCell,
};

/// A plugin as it is at this moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Row {
    /// Its id.
    pub id: String,
    /// Kinds that it provides.
    pub kinds: Vec<String>,
    /// What it provides, as `kind:name`.
    pub provides: Vec<String>,
    /// How it ships.
    pub tier: Tier,
    /// Its version; empty when it is not there.
    pub version: String,
    /// One line on what it is.
    pub description: String,
    /// Where it is in its life.
    pub state: State,
    /// `unknown`, `ok`, `degraded` or `failed`.
    pub health: String,
    /// Why it is so, where there is something to say.
    pub reason: Option<String>,
    /// The command that would help.
    pub fix: Option<String>,
    /// What it says of itself.
    pub facts: Facts,
    /// Calls that are inside it now.
    pub in_flight: usize,
    /// Calls so far, and how many of them failed.
    pub calls: u64,
    /// Failed calls so far.
    pub errors: u64,
    /// How long its start took, in milliseconds.
    pub started_ms: Option<u64>,
    /// How long its own check of its health took, in milliseconds, where it says so.
    pub latency_ms: Option<f64>,
    /// Its memory in millions of bytes: as it says itself, else as its tier measures it.
    pub memory_mb: Option<f64>,
}

impl Row {
    pub(crate) fn of(plugin: &PluginCell, redactor: &Redactor) -> Self {
        let clean = |text: &str| redactor.redact(text).into_owned();
        let status = plugin.status();
        let health = plugin.health_in(&status);
        let (calls, errors, _) = plugin.metrics().read();
        let manifest = plugin.manifest.as_deref();
        let facts = plugin.facts();
        let number = |name: &str| facts.get(name).and_then(|value| value.split_whitespace().next()?.parse::<f64>().ok());
        Row {
            id: plugin.id().to_owned(),
            kinds: manifest.map(|m| m.kinds().iter().map(|k| k.name().to_owned()).collect()).unwrap_or_default(),
            provides: manifest
                .map(|m| m.provides.iter().map(|p| format!("{}:{}", p.kind, p.name.as_deref().unwrap_or("*"))).collect())
                .unwrap_or_default(),
            tier: plugin.candidate.tier,
            version: manifest.map(|m| m.version.to_string()).unwrap_or_default(),
            description: manifest.map(|m| m.description.clone()).unwrap_or_default(),
            state: status.state,
            health: health.name().to_owned(),
            reason: health.reason().or(status.reason.as_deref()).map(clean).or_else(|| plugin.refused_commands().as_deref().map(clean)),
            fix: status.fix.as_deref().map(clean),
            latency_ms: number("latency_ms"),
            // A tier measures in MiB.
            memory_mb: number("memory_mb").or_else(|| number("memory").map(|mib| mib * 1.048_576)),
            facts: facts.into_iter().map(|(key, value)| (key, clean(&value))).collect(),
            in_flight: plugin.in_flight(),
            calls,
            errors,
            started_ms: status.started_in.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    /// The row of something that is configured but not there.
    pub fn missing(id: &str, kinds: Vec<String>, reason: impl Into<String>, fix: impl Into<String>) -> Self {
        let health = Health::Unknown;
        Row {
            id: id.to_owned(),
            kinds,
            provides: Vec::new(),
            tier: Tier::None,
            version: String::new(),
            description: String::new(),
            state: State::Missing,
            health: health.name().to_owned(),
            reason: Some(reason.into()),
            fix: Some(fix.into()),
            facts: Facts::new(),
            in_flight: 0,
            calls: 0,
            errors: 0,
            started_ms: None,
            latency_ms: None,
            memory_mb: None,
        }
    }
}
