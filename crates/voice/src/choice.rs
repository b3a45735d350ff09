//! Which engine serves a stage: the first of the configured names that works. That a later one stands in is never silent.

use bespoke_host::{Host, Slot};
use bespoke_plugin_api::{CallCx, Contract, Error, Kind, Result};
use serde::Serialize;

/// The engine that serves a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Chosen {
    /// What it is: `vad`, `stt` or `tts`.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Id of the plugin.
    pub plugin: String,
    /// Why it is not the first of the list.
    pub degraded: Option<String>,
}

/// The names of one stage being tried, and what was wrong with those that did not work.
pub(crate) struct Choice<'a> {
    host: &'a Host,
    key: &'static str,
    names: std::slice::Iter<'a, String>,
    failures: Vec<(String, Error)>,
}

impl<'a> Choice<'a> {
    /// `key` is where the names stand in the configuration.
    pub(crate) fn new(host: &'a Host, key: &'static str, names: &'a [String]) -> Self {
        Choice { host, key, names: names.iter(), failures: Vec::new() }
    }

    /// The next engine that is ready. One that is just starting is waited for.
    ///
    /// # Errors
    /// When there is none left: what was wrong with each.
    pub(crate) async fn next<T: Contract + ?Sized + 'static>(&mut self, cx: &CallCx) -> Result<Slot<T>> {
        for name in self.names.by_ref() {
            match ready(self.host, cx, name).await {
                Ok(slot) => return Ok(slot),
                Err(error) => self.failures.push((name.clone(), error)),
            }
        }
        Err(self.exhausted())
    }

    /// The engine was tried and did not work.
    pub(crate) fn failed(&mut self, name: &str, error: Error) {
        tracing::warn!(engine = name, stage = self.key, %error, "does not work, the next one is tried");
        self.failures.push((name.to_owned(), error));
    }

    /// The engine serves.
    pub(crate) fn chosen<T: Contract + ?Sized>(&self, slot: &Slot<T>) -> Chosen {
        let degraded = self.failures.first().map(|(name, error)| reason(name, error));
        Chosen { kind: T::KIND, name: slot.name().to_owned(), plugin: slot.plugin().to_owned(), degraded }
    }

    fn exhausted(&self) -> Error {
        let Some((_, first)) = self.failures.first() else {
            return Error::invalid_params(format!("{} names no engine", self.key)).with_help("bespoke config show voice");
        };
        if self.failures.len() == 1 {
            return first.clone();
        }
        let reasons: Vec<_> = self.failures.iter().map(|(name, error)| reason(name, error)).collect();
        let error = Error::new(first.code(), format!("none of {} works: {}", self.key, reasons.join("; ")));
        match first.help() {
            Some(help) => error.with_help(help),
            None => error,
        }
    }
}

fn reason(name: &str, error: &Error) -> String {
    let help = error.help().map_or(String::new(), |help| format!(" ({help})"));
    format!("{name}: {}{help}", error.message())
}

async fn ready<T: Contract + ?Sized + 'static>(host: &Host, cx: &CallCx, name: &str) -> Result<Slot<T>> {
    let slot = host.find::<T>(name)?;
    slot.lease_ready(cx).await?;
    Ok(slot)
}
