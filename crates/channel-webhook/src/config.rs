//! The table `[plugins.webhook]`.

use std::time::Duration;

use bespoke_plugin_api::{
    Error, Result,
    serde::{self, Deserialize},
    serde_json::json,
};

/// The table `[plugins.webhook]`. The key that signs is no part of it: it is the secret `signing_key`, the variable
/// `WEBHOOK_SIGNING_KEY`.
#[derive(Debug, Clone, Deserialize)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize), schemars(extend("additionalProperties" = false)))]
pub struct Config {
    /// Where answers are sent: an absolute http or https URL. Without it messages are taken, and answers cannot leave.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub url: Option<String>,
    /// Milliseconds after which the service has not taken an answer, which is then sent again.
    #[cfg_attr(test, schemars(range(min = 10, max = 600_000), extend("x-reload" = "restart")))]
    pub timeout_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config { url: None, timeout_ms: 10_000 }
    }
}

impl Config {
    /// Whether it makes sense. Which hosts may be asked, the host says.
    pub(crate) fn check(&self) -> Result<()> {
        let bad = |key: &str, message: String| Err(Error::invalid_params(message).with_data(json!({ "path": key })));
        if let Some(Err(why)) = self.url.as_ref().map(|url| bespoke_address::parse(url)) {
            return bad("url", format!("the address {why}"));
        }
        if !(10..=600_000).contains(&self.timeout_ms) {
            return bad("timeout_ms", format!("`timeout_ms` is {}; it has to be from 10 to 600000", self.timeout_ms));
        }
        Ok(())
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::Config;

    #[test]
    fn the_schema_is_fresh() {
        bespoke_plugin_testkit::check_config_schema(env!("CARGO_MANIFEST_DIR"), schemars::schema_for!(Config));
    }
}
