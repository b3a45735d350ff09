//! An accelerator: here the processor itself is the only device.

use std::sync::Arc;

use bespoke_plugin_api::{
    Accelerator, AcceleratorSpec, CallCx, Device, Plugin, PluginApi, PluginContext, Result, async_trait,
    serde::{self, Deserialize},
};

/// The table `[plugins.__ID__]`. Each field has a default, and says what may change while the plugin runs.
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
pub struct __TYPE__ {
    config: Config,
}

impl Plugin for __TYPE__ {
    type Config = Config;

    fn register(api: &mut PluginApi<Self>) {
        api.accelerator(AcceleratorSpec::new("__NAME__"), |plugin| Arc::new(Devices(plugin.clone())));
    }

    async fn start(_cx: PluginContext, config: Config) -> Result<Self> {
        Ok(__TYPE__ { config })
    }
}

bespoke_plugin_api::plugin!("__ID__", __TYPE__);

struct Devices(Arc<__TYPE__>);

#[async_trait]
impl Accelerator for Devices {
    async fn devices(&self, cx: &CallCx) -> Result<Vec<Device>> {
        cx.check()?;
        Ok(vec![Device::new(0, &self.0.config.name)])
    }
}
