//! A command: here it writes its arguments.

use std::sync::Arc;

use bespoke_plugin_api::{
    CallCx, Command, CommandRequest, CommandSpec, Output, Plugin, PluginApi, PluginContext, Result, async_trait,
    serde::{self, Deserialize},
};

/// The table `[plugins.__ID__]`. Each field has a default, and says what may change while the plugin runs.
#[derive(Deserialize)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize), schemars(extend("additionalProperties" = false)))]
pub struct Config {
    /// Stands before each line.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub prefix: String,
}

impl Default for Config {
    fn default() -> Self {
        Config { prefix: "> ".into() }
    }
}

/// One instance.
pub struct __TYPE__ {
    config: Config,
}

impl Plugin for __TYPE__ {
    type Config = Config;

    fn register(api: &mut PluginApi<Self>) {
        let spec = CommandSpec::new("__NAME__", "Writes its arguments, one on a line").usage("__NAME__ TEXT…").require_auth(false);
        api.command(spec, |plugin| Arc::new(Write(plugin.clone())));
    }

    async fn start(_cx: PluginContext, config: Config) -> Result<Self> {
        Ok(__TYPE__ { config })
    }
}

bespoke_plugin_api::plugin!("__ID__", __TYPE__);

struct Write(Arc<__TYPE__>);

#[async_trait]
impl Command for Write {
    async fn run(&self, cx: &CallCx, request: CommandRequest, out: Output) -> Result<i32> {
        for arg in &request.args {
            cx.check()?;
            out.line(&format!("{}{arg}", self.0.config.prefix));
        }
        Ok(0)
    }
}
