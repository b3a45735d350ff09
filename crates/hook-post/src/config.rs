//! The table `[plugins.post]`.

use bespoke_configured_hooks::{specs, wrong};
use bespoke_plugin_api::{
    HookSpec, Result,
    serde::{self, Deserialize},
};

/// The table `[plugins.post]`. The key that signs is no part of it: it is the secret `signing_key`, the variable `POST_SIGNING_KEY`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize), schemars(extend("additionalProperties" = false)))]
pub struct Config {
    /// The addresses, and what each is asked or told of. At most 64.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub hooks: Vec<Entry>,
}

bespoke_configured_hooks::entry! {
    /// One address.
    pub struct Entry {
        /// Where the event is sent: an absolute http or https URL. Put a secret in it into the environment and write `${NAME}`.
        pub url: String,
    }
}

impl Config {
    /// The subscriptions, in the order of the entries.
    pub(crate) fn specs(&self) -> Result<Vec<HookSpec>> {
        let specs = specs(&self.hooks)?;
        for (at, entry) in self.hooks.iter().enumerate() {
            bespoke_address::parse(&entry.url).map_err(|why| wrong(at, "url", format!("the address {why}")))?;
        }
        Ok(specs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_fresh() {
        bespoke_plugin_testkit::check_config_schema(env!("CARGO_MANIFEST_DIR"), schemars::schema_for!(Config));
    }
}
