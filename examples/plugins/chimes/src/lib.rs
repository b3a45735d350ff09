//! A bell that counts, and a voice of bells: one plugin, built unmodified into all four tiers.
//!
//! It is portable: whatever it wants of the world, it asks its context for. `clippy.toml` says what that rules out.

mod bells;
mod strike;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bespoke_plugin_api::{
    Error, Plugin, PluginApi, PluginContext, Result, State,
    serde::{self, Deserialize},
};

/// The table `[plugins.chimes]`.
#[derive(Deserialize)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize), schemars(extend("additionalProperties" = false)))]
pub struct Config {
    /// How long the bell rings before it is struck again, in milliseconds.
    #[cfg_attr(test, schemars(range(max = 10_000), extend("x-reload" = "restart")))]
    pub pause_ms: u32,
}

impl Default for Config {
    fn default() -> Self {
        Config { pause_ms: 100 }
    }
}

/// One instance. What it remembers lives here and not in a static: a reload makes a second instance beside the first.
pub struct Chimes {
    cx: PluginContext,
    config: Config,
    /// How often the bell was struck, in all.
    struck: AtomicU64,
}

impl Plugin for Chimes {
    type Config = Config;

    /// What it contributes: the same as `[[provides]]` in plugin.toml.
    fn register(api: &mut PluginApi<Self>) {
        api.tool(strike::spec(), |chimes| Arc::new(strike::Strike(chimes.clone())));
        api.tts(bells::spec(), |_chimes| Arc::new(bells::Bells));
    }

    async fn start(cx: PluginContext, config: Config) -> Result<Self> {
        Ok(Chimes { cx, config, struck: AtomicU64::new(0) })
    }

    /// What the next instance goes on from: the count, in eight bytes.
    async fn capture_state(&self) -> Result<Option<State>> {
        let struck = self.struck.load(Ordering::Relaxed);
        Ok(Some(State::new(1, struck.to_le_bytes().to_vec())))
    }

    async fn restore_state(&self, state: State) -> Result<()> {
        let bytes = (state.version == 1).then(|| state.bytes.as_ref().try_into().ok()).flatten();
        let bytes = bytes.ok_or_else(|| Error::invalid_params(format!("a state of version {} is not known here", state.version)))?;
        self.struck.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
        Ok(())
    }
}

bespoke_plugin_api::plugin!("chimes", Chimes);

#[cfg(test)]
mod tests {
    use bespoke_plugin_api::serde_json::json;
    use bespoke_plugin_testkit::{Conformance, check_config_schema};

    use super::*;

    #[test]
    fn behaves_the_same_behind_the_wire() {
        Conformance::new(&BESPOKE_PLUGIN).tool("strike", json!({ "times": 3 })).check();
    }

    #[test]
    fn the_schema_is_fresh() {
        check_config_schema(env!("CARGO_MANIFEST_DIR"), schemars::schema_for!(Config));
    }
}
