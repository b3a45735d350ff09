//! The section `[gateway]` of bespoke.toml.

use std::{net::SocketAddr, time::Duration};

use bespoke_plugin_api::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Where plugins are reached over HTTP, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct GatewayConfig {
    /// Address and port to listen at; port 0 takes a free one.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub listen: String,
    /// Whether an address that other machines reach may stand in `listen`. What listens speaks plain HTTP: put a proxy with TLS before
    /// it.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub public: bool,
    /// Most connections at once, 1–10 000; those beyond are told 503.
    #[cfg_attr(test, schemars(range(min = 1, max = 10_000), extend("x-reload" = "restart")))]
    pub max_connections: u32,
    /// Most requests that are being answered at once, 1–10 000; those beyond are told 503.
    #[cfg_attr(test, schemars(range(min = 1, max = 10_000), extend("x-reload" = "restart")))]
    pub max_requests: u32,
    /// Longest that a request may take to arrive, head and body each, and that a connection may be silent between two, in milliseconds,
    /// 10–600 000.
    #[cfg_attr(test, schemars(range(min = 10, max = 600_000), extend("x-reload" = "restart")))]
    pub read_timeout_ms: u64,
    /// Longest that a plugin may take to answer a request, in milliseconds, 10–600 000.
    #[cfg_attr(test, schemars(range(min = 10, max = 600_000), extend("x-reload" = "restart")))]
    pub answer_timeout_ms: u64,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        GatewayConfig {
            listen: "127.0.0.1:8790".into(),
            public: false,
            max_connections: 256,
            max_requests: 64,
            read_timeout_ms: 10_000,
            answer_timeout_ms: 30_000,
        }
    }
}

impl GatewayConfig {
    /// Whether every value is in its range.
    ///
    /// # Errors
    /// `INVALID_PARAMS`; `data.path` is the offending key.
    pub fn check(&self) -> Result<()> {
        self.address()?;
        let ranges = [
            ("max_connections", self.max_connections.into(), 1, 10_000),
            ("max_requests", self.max_requests.into(), 1, 10_000),
            ("read_timeout_ms", self.read_timeout_ms, 10, 600_000),
            ("answer_timeout_ms", self.answer_timeout_ms, 10, 600_000),
        ];
        for (key, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                return Err(fault(key, format!("is {value}; it has to be between {least} and {most}")));
            }
        }
        Ok(())
    }

    pub(crate) fn read_timeout(&self) -> Duration {
        Duration::from_millis(self.read_timeout_ms)
    }

    pub(crate) fn answer_timeout(&self) -> Duration {
        Duration::from_millis(self.answer_timeout_ms)
    }

    /// Where to listen.
    pub(crate) fn address(&self) -> Result<SocketAddr> {
        let address: SocketAddr = self.listen.parse().map_err(|_| {
            fault("listen", format!("is {:?}; write an address and a port, such as 127.0.0.1:8790 or [::1]:8790", self.listen))
        })?;
        if !address.ip().is_loopback() && !self.public {
            return Err(fault("listen", format!("is {address}, which other machines reach"))
                .with_help("choose 127.0.0.1, or say that this is meant: bespoke config set gateway.public true"));
        }
        Ok(address)
    }
}

fn fault(key: &str, message: String) -> Error {
    Error::invalid_params(format!("gateway.{key} {message}")).with_data(json!({ "path": key }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_fresh() {
        bespoke_plugin_testkit::check_config_schema(env!("CARGO_MANIFEST_DIR"), schemars::schema_for!(GatewayConfig));
    }

    #[test]
    fn only_this_machine_unless_it_is_meant() {
        let with = |listen: &str, public| GatewayConfig { listen: listen.into(), public, ..GatewayConfig::default() };
        for (listen, public, good) in [
            ("127.0.0.1:0", false, true),
            ("[::1]:8790", false, true),
            ("0.0.0.0:8790", false, false),
            ("0.0.0.0:8790", true, true),
            ("192.168.1.4:80", false, false),
            ("localhost:8790", true, false),
            ("127.0.0.1", true, false),
            ("", true, false),
        ] {
            let checked = with(listen, public).check();
            assert_eq!(checked.is_ok(), good, "{listen} {public}: {checked:?}");
            if let Err(error) = checked {
                assert_eq!(error.data().unwrap()["path"], "listen");
            }
        }
    }

    #[test]
    fn values_out_of_range_are_named() {
        let path = |config: GatewayConfig| config.check().unwrap_err().data().unwrap()["path"].clone();
        assert_eq!(path(GatewayConfig { max_connections: 0, ..GatewayConfig::default() }), "max_connections");
        assert_eq!(path(GatewayConfig { max_requests: 10_001, ..GatewayConfig::default() }), "max_requests");
        assert_eq!(path(GatewayConfig { read_timeout_ms: 9, ..GatewayConfig::default() }), "read_timeout_ms");
        assert_eq!(path(GatewayConfig { answer_timeout_ms: 600_001, ..GatewayConfig::default() }), "answer_timeout_ms");
    }
}
