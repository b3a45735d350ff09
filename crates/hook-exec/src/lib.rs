//! Hooks of the configuration that are programs. Without any in `[plugins.exec]` it does nothing.

use bespoke_plugin_api::{
    Plugin, PluginApi, PluginContext, Result,
    serde::{self, Deserialize},
};

/// The table `[plugins.exec]`.
#[derive(Deserialize, Default)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize), schemars(extend("additionalProperties" = false)))]
pub struct Config {}

/// One instance.
pub struct Exec;

impl Plugin for Exec {
    type Config = Config;

    fn register(_api: &mut PluginApi<Self>) {}

    async fn start(_cx: PluginContext, _config: Config) -> Result<Self> {
        Ok(Exec)
    }
}

bespoke_plugin_api::plugin!("exec", Exec);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_fresh() {
        bespoke_plugin_testkit::check_config_schema(env!("CARGO_MANIFEST_DIR"), schemars::schema_for!(Config));
    }
}
