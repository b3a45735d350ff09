//! The section `[gateway]` in a binary without a listener: it may stand in the file.

use bespoke_plugin_api::Error;
use serde::Deserialize;

pub(crate) const CONFIG_SCHEMA: Option<&str> = None;

/// Nothing of it is read.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct GatewayConfig {}

impl GatewayConfig {
    pub(crate) fn check(&self) -> Result<(), Error> {
        Ok(())
    }
}
