//! Hooks of the configuration that are requests. Without any in `[plugins.post]` it does nothing.

use bespoke_plugin_api::{
    Plugin, PluginApi, PluginContext, Result,
    serde::{self, Deserialize},
};

/// The table `[plugins.post]`.
#[derive(Deserialize, Default)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize), schemars(extend("additionalProperties" = false)))]
pub struct Config {}

/// One instance.
pub struct Post;

impl Plugin for Post {
    type Config = Config;

    fn register(_api: &mut PluginApi<Self>) {}

    async fn start(_cx: PluginContext, _config: Config) -> Result<Self> {
        Ok(Post)
    }
}

bespoke_plugin_api::plugin!("post", Post);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_fresh() {
        bespoke_plugin_testkit::check_config_schema(env!("CARGO_MANIFEST_DIR"), schemars::schema_for!(Config));
    }
}
