//! A hook: here it puts a mark before each message that is about to be sent.

use std::sync::Arc;

use bespoke_plugin_api::{
    CallCx, Hook, HookEvent, HookHandler, HookReply, HookSpec, Plugin, PluginApi, PluginContext, Result, async_trait,
    serde::{self, Deserialize},
};

/// The table `[plugins.__ID__]`. Each field has a default, and says what may change while the plugin runs.
#[derive(Deserialize)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize), schemars(extend("additionalProperties" = false)))]
pub struct Config {
    /// Stands before each message.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub mark: String,
}

impl Default for Config {
    fn default() -> Self {
        Config { mark: "[__ID__] ".into() }
    }
}

/// One instance.
pub struct __TYPE__ {
    config: Config,
}

impl Plugin for __TYPE__ {
    type Config = Config;

    fn register(api: &mut PluginApi<Self>) {
        api.hook(HookSpec::new("__NAME__", Hook::BeforeMessageSend), |plugin| Arc::new(Mark(plugin.clone())));
    }

    async fn start(_cx: PluginContext, config: Config) -> Result<Self> {
        Ok(__TYPE__ { config })
    }
}

bespoke_plugin_api::plugin!("__ID__", __TYPE__);

struct Mark(Arc<__TYPE__>);

#[async_trait]
impl HookHandler for Mark {
    async fn on(&self, _cx: &CallCx, event: &HookEvent) -> Result<HookReply> {
        let HookEvent::BeforeMessageSend { channel, message } = event else { return Ok(HookReply::Continue) };
        let mut message = message.clone();
        message.text.insert_str(0, &self.0.config.mark);
        Ok(HookReply::Replace { event: Box::new(HookEvent::BeforeMessageSend { channel: channel.clone(), message }) })
    }
}
