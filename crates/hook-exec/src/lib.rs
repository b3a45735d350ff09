//! A hook: here it puts a mark before each message that is about to be sent.

use std::sync::Arc;

use bespoke_plugin_api::{
    CallCx, Hook, HookEvent, HookHandler, HookReply, HookSpec, Plugin, PluginApi, PluginContext, Result, async_trait,
    serde::{self, Deserialize},
};

/// The table `[plugins.exec]`. Each field has a default, and says what may change while the plugin runs.
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
        Config { mark: "[exec] ".into() }
    }
}

/// One instance.
pub struct Exec {
    config: Config,
}

impl Plugin for Exec {
    type Config = Config;

    fn register(api: &mut PluginApi<Self>) {
        api.hook(HookSpec::new("exec", Hook::BeforeMessageSend), |plugin| Arc::new(Mark(plugin.clone())));
    }

    async fn start(_cx: PluginContext, config: Config) -> Result<Self> {
        Ok(Exec { config })
    }
}

bespoke_plugin_api::plugin!("exec", Exec);

struct Mark(Arc<Exec>);

#[async_trait]
impl HookHandler for Mark {
    async fn on(&self, _cx: &CallCx, event: &HookEvent) -> Result<HookReply> {
        let HookEvent::BeforeMessageSend { channel, message, .. } = event else { return Ok(HookReply::Continue) };
        let mut message = message.clone();
        message.text.insert_str(0, &self.0.config.mark);
        Ok(HookReply::replace(HookEvent::before_message_send(channel.clone(), message)))
    }
}

#[cfg(test)]
mod tests {
    use bespoke_plugin_api::{Contribution, Outbound, serde_json::json};
    use bespoke_plugin_testkit::{Conformance, TestHost, block_on, check_config_schema};

    use super::*;

    #[test]
    fn marks_a_message() {
        let instance = block_on(BESPOKE_PLUGIN.start(TestHost::new().context("exec"), json!({}))).unwrap();
        let [Contribution::Hook(_, hook)] = &instance.contributions[..] else { panic!("{instance:?}") };
        let event = HookEvent::before_message_send("line", Outbound::new("room", "hello"));
        let reply = block_on(hook.on(&CallCx::new(), &event)).unwrap();
        let HookReply::Replace { event, .. } = reply else { panic!("{reply:?}") };
        let HookEvent::BeforeMessageSend { message, .. } = *event else { panic!("{event:?}") };
        assert_eq!(message.text, "[exec] hello");
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
