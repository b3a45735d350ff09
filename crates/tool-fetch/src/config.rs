//! The table `[plugins.fetch]`.

use bespoke_plugin_api::{
    Error, Result,
    serde::{self, Deserialize},
};

use crate::hosts;

/// The table `[plugins.fetch]`. The host reads `allow` and `allow_private` at each request, as plugin.toml says.
#[derive(Debug, Clone, Deserialize)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize), schemars(extend("additionalProperties" = false)))]
pub struct Config {
    /// Hosts that may be asked at public addresses: `example.com`, `*.example.org` for all below it, `*` for all; on ports 80 and
    /// 443 unless one follows, as in `example.com:8443`. Empty: nothing may be asked.
    #[serde(deserialize_with = "hosts::entries")]
    #[cfg_attr(test, schemars(extend("x-reload" = "live")))]
    pub allow: Vec<String>,
    /// Hosts that may also be at loopback or private addresses, and ranges of such addresses: `localhost:8080`, `10.0.0.0/8`. A range
    /// holds for addresses, and for hosts that either list names; it names no host itself.
    #[serde(deserialize_with = "hosts::entries")]
    #[cfg_attr(test, schemars(extend("x-reload" = "live")))]
    pub allow_private: Vec<String>,
    /// Most bytes of an answer that are read, before anything is decoded. What is behind them is left out.
    #[cfg_attr(test, schemars(range(min = 1024, max = 16_777_216), extend("x-reload" = "live")))]
    pub max_bytes: u32,
    /// Most time for a page with all its redirects, in milliseconds.
    #[cfg_attr(test, schemars(range(min = 100, max = 600_000), extend("x-reload" = "live")))]
    pub timeout_ms: u32,
    /// Redirects that are followed, one after the other.
    #[cfg_attr(test, schemars(range(min = 0, max = 20), extend("x-reload" = "live")))]
    pub max_redirects: u32,
    /// Most characters of a page that the model is given; it may ask for fewer.
    #[cfg_attr(test, schemars(range(min = 200, max = 1_000_000), extend("x-reload" = "live")))]
    pub max_chars: u32,
    /// What servers are told of who asks.
    #[cfg_attr(test, schemars(length(min = 1, max = 200), extend("x-reload" = "live")))]
    pub user_agent: String,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            allow: Vec::new(),
            allow_private: Vec::new(),
            max_bytes: 1 << 20,
            timeout_ms: 15_000,
            max_redirects: 5,
            max_chars: 20_000,
            user_agent: concat!("bespoke-fetch/", env!("CARGO_PKG_VERSION")).into(),
        }
    }
}

impl Config {
    /// Whether no host is named, so that nothing can be fetched.
    pub(crate) fn is_off(&self) -> bool {
        self.allow.is_empty() && self.allow_private.is_empty()
    }

    /// # Errors
    /// `INVALID_PARAMS`, naming the key.
    pub(crate) fn check(&self) -> Result<()> {
        let within = |key: &str, value: u32, least: u32, most: u32| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            Err(Error::invalid_params(format!("{key} is {value}")).with_help(format!("write a number from {least} to {most}")))
        };
        within("max_bytes", self.max_bytes, 1024, 16 << 20)?;
        within("timeout_ms", self.timeout_ms, 100, 600_000)?;
        within("max_redirects", self.max_redirects, 0, 20)?;
        within("max_chars", self.max_chars, 200, 1_000_000)?;
        let agent = &self.user_agent;
        if agent.trim().is_empty() || agent.len() > 200 || agent.bytes().any(|b| !(b' '..=b'~').contains(&b)) {
            return Err(Error::invalid_params("user_agent is no header").with_help("write 1 to 200 letters, digits and signs of ASCII"));
        }
        Ok(())
    }
}
