//! One plugin at a time, while everything runs: adding it, taking it out, letting another take its place, calling it by hand.

use bespoke_plugin_api::{CallCx, Error, Result};
use serde_json::Value;

use crate::{Candidate, Host};

impl Host {
    /// Adds a plugin and starts it. `config` stands for its table in the configuration, as if it had been written there.
    ///
    /// # Errors
    /// `ALREADY_LOADED` when there is one of this id; why it does not start, and then it is not there.
    pub async fn load(&self, _candidate: Candidate, _config: Option<Value>) -> Result<()> {
        Err(Error::unsupported("load"))
    }

    /// Stops a plugin, drained, and takes it out.
    ///
    /// # Errors
    /// `PLUGIN_NOT_FOUND`; `DEPENDENCY_MISSING` when others that run need it, naming them.
    pub async fn unload(&self, _id: &str) -> Result<()> {
        Err(Error::unsupported("unload"))
    }

    /// Gives a running plugin another table of its configuration than the file has, applied live or by a new instance, as its
    /// schema says.
    ///
    /// # Errors
    /// `PLUGIN_NOT_FOUND`; `INVALID_PARAMS` before the plugin sees what does not fit; as [`restart`](Self::restart).
    pub async fn configure(&self, _id: &str, _config: Value) -> Result<()> {
        Err(Error::unsupported("configure"))
    }

    /// Lets another plugin take the place of one that runs: `new` is started beside it, takes over its state where both have
    /// one, and answers under its names of the same kinds from then on; `old` is drained and stopped. Callers that hold slots
    /// of `old` go on with `new`. `old` stays known, switched off until it is started again.
    ///
    /// # Errors
    /// `PLUGIN_NOT_FOUND`; `CONTRACT_MISMATCH` when `new` offers nothing of a kind that `old` serves; `HOTSWAP_FAILED` when `old`
    /// goes on; `HOTSWAP_ROLLBACK_FAILED` when neither does.
    pub async fn swap(&self, _old: &str, _new: &str) -> Result<()> {
        Err(Error::unsupported("swap"))
    }

    /// Calls a method of a plugin by name, whatever its tier: one that the plugin itself has by that name, the name of a tool, or a
    /// method of a contract, alone (`synthesize`) or with the kind before it (`tts.synthesize`, `tts/synthesize`). Bytes travel as
    /// `{ "base64": "…" }`. Needs the plugin to run.
    ///
    /// # Errors
    /// `PLUGIN_NOT_FOUND`; `NOT_READY`; `METHOD_NOT_FOUND`, naming the methods that there are; what the call says.
    pub async fn invoke(&self, _cx: &CallCx, _id: &str, method: &str, _args: Value) -> Result<Value> {
        Err(Error::unsupported(method))
    }

    /// The methods that [`invoke`](Self::invoke) takes for a plugin, beside those of its own.
    pub fn methods(&self, _id: &str) -> Vec<String> {
        Vec::new()
    }
}
