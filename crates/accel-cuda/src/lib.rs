//! An accelerator: here the processor itself is the only device.

use std::sync::Arc;

use bespoke_plugin_api::{
    Accelerator, AcceleratorSpec, CallCx, Device, Plugin, PluginApi, PluginContext, Result, async_trait,
    serde::{self, Deserialize},
};

/// The table `[plugins.cuda]`. Each field has a default, and says what may change while the plugin runs.
#[derive(Deserialize)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize), schemars(extend("additionalProperties" = false)))]
pub struct Config {
    /// How the device is called.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub name: String,
}

impl Default for Config {
    fn default() -> Self {
        Config { name: "processor".into() }
    }
}

/// One instance.
pub struct Cuda {
    config: Config,
}

impl Plugin for Cuda {
    type Config = Config;

    fn register(api: &mut PluginApi<Self>) {
        api.accelerator(AcceleratorSpec::new("cuda"), |plugin| Arc::new(Devices(plugin.clone())));
    }

    async fn start(_cx: PluginContext, config: Config) -> Result<Self> {
        Ok(Cuda { config })
    }
}

bespoke_plugin_api::plugin!("cuda", Cuda);

struct Devices(Arc<Cuda>);

#[async_trait]
impl Accelerator for Devices {
    async fn devices(&self, cx: &CallCx) -> Result<Vec<Device>> {
        cx.check()?;
        Ok(vec![Device::new(0, &self.0.config.name)])
    }
}

#[cfg(test)]
mod tests {
    use bespoke_plugin_api::{Contribution, serde_json::json};
    use bespoke_plugin_testkit::{Conformance, TestHost, block_on, check_config_schema};

    use super::*;

    #[test]
    fn names_its_devices() {
        let instance = block_on(BESPOKE_PLUGIN.start(TestHost::new().context("cuda"), json!({}))).unwrap();
        let [Contribution::Accelerator(_, accelerator)] = &instance.contributions[..] else { panic!("{instance:?}") };
        let devices = block_on(accelerator.devices(&CallCx::new())).unwrap();
        assert_eq!(devices, [Device::new(0, "processor")]);
    }

    #[test]
    fn behaves_the_same_in_every_tier() {
        Conformance::new(&BESPOKE_PLUGIN).check();
    }

    #[test]
    fn the_schema_is_fresh() {
        check_config_schema(env!("CARGO_MANIFEST_DIR"), schemars::schema_for!(Config));
    }
}
