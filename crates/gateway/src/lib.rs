//! What plugins serve over HTTP, behind one listener. It mounts endpoints; it knows no channel and no agent.

use std::net::SocketAddr;

use bespoke_host::Host;
use bespoke_plugin_api::{CancelToken, Error, Result};

mod config;

pub use config::GatewayConfig;

/// JSON Schema of the section `[gateway]`.
pub const CONFIG_SCHEMA: &str = include_str!("../config.schema.json");

/// A listener that is open, and takes nobody before [`serve`](Gateway::serve).
pub struct Gateway {
    address: SocketAddr,
}

impl Gateway {
    /// Opens the listener.
    ///
    /// # Errors
    /// `INVALID_PARAMS`, as [`GatewayConfig::check`]; `CONFLICT` where somebody else listens.
    pub async fn bind(_host: Host, config: GatewayConfig) -> Result<Self> {
        config.check()?;
        Err(Error::unsupported("gateway"))
    }

    /// Where it listens, with the port that was taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop` is cancelled, and then what was asked before.
    pub async fn serve(self, _stop: CancelToken) {}
}
