//! A plugin that was started, wherever it runs, and the world that it was started in.

use std::sync::Arc;

use bespoke_plugin_api::{BoxFuture, Contribution, Facts, Instance, PluginContext, Result};
use serde_json::Value;

use crate::{host::TestHost, loopback::Probe};

/// A way to start a plugin: given a context over the host of a test and the configuration, it makes an instance.
///
/// Whoever has an artefact of a tier closes over it; the future is polled wherever the test runs, so one that needs a runtime must find
/// it entered.
pub type Start = dyn Fn(PluginContext, Value) -> BoxFuture<'static, Result<Instance>> + Send + Sync;

/// A started plugin and its world.
pub(crate) struct Running {
    pub(crate) instance: Instance,
    pub(crate) host: Arc<TestHost>,
    /// In the loopback only.
    pub(crate) probe: Option<Probe>,
    /// Names of facts that are not the plugin's, but its tier's.
    pub(crate) foreign: Vec<String>,
}

impl Running {
    /// What the plugin declares, and what it has published by now.
    pub(crate) fn contributions(&self) -> Vec<Contribution> {
        self.instance.contributions.iter().cloned().chain(self.host.published()).collect()
    }

    /// What the plugin says of itself, without what its tier adds.
    pub(crate) fn facts(&self) -> Facts {
        self.instance.life.facts().into_iter().filter(|(name, _)| !self.foreign.contains(name)).collect()
    }
}
