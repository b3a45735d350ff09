//! A channel: here it greets once as somebody who writes, and takes what it is told to send.

use std::sync::Arc;

use bespoke_plugin_api::{
    CallCx, Channel, ChannelSpec, Inbound, Inbox, MessageRef, Outbound, Plugin, PluginApi, PluginContext, Result, async_trait,
    serde::{self, Deserialize},
};

/// The table `[plugins.webhook]`. Each field has a default, and says what may change while the plugin runs.
#[derive(Deserialize)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize), schemars(extend("additionalProperties" = false)))]
pub struct Config {
    /// What the person at the other end writes.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub greeting: String,
}

impl Default for Config {
    fn default() -> Self {
        Config { greeting: "Hello".into() }
    }
}

/// One instance.
pub struct Webhook {
    config: Config,
}

impl Plugin for Webhook {
    type Config = Config;

    fn register(api: &mut PluginApi<Self>) {
        api.channel(ChannelSpec::new("webhook"), |plugin| Arc::new(Line(plugin.clone())));
    }

    async fn start(_cx: PluginContext, config: Config) -> Result<Self> {
        Ok(Webhook { config })
    }
}

bespoke_plugin_api::plugin!("webhook", Webhook);

struct Line(Arc<Webhook>);

#[async_trait]
impl Channel for Line {
    async fn run(&self, cx: &CallCx, inbox: Inbox) -> Result<()> {
        // A real channel listens here. What it acknowledges at its source must have been accepted before.
        inbox.accept(Inbound::new("webhook", "somebody", "1", &self.0.config.greeting)).await?;
        cx.cancelled().await;
        Ok(())
    }

    async fn send(&self, cx: &CallCx, message: Outbound) -> Result<MessageRef> {
        cx.check()?;
        Ok(MessageRef::new(message.chat, message.idempotency_key.unwrap_or_else(|| "1".into())))
    }
}

#[cfg(test)]
mod tests {
    use bespoke_plugin_api::{Contribution, serde_json::json};
    use bespoke_plugin_testkit::{Conformance, TestHost, block_on, check_config_schema};

    use super::*;

    #[test]
    fn takes_a_message() {
        let instance = block_on(BESPOKE_PLUGIN.start(TestHost::new().context("webhook"), json!({}))).unwrap();
        let [Contribution::Channel(_, channel)] = &instance.contributions[..] else { panic!("{instance:?}") };
        let message = Outbound::new("room", "hello").idempotency_key("key".into());
        let sent = block_on(channel.send(&CallCx::new(), message)).unwrap();
        assert_eq!(sent, MessageRef::new("room", "key"));
    }

    #[test]
    fn behaves_the_same_in_every_tier() {
        Conformance::new(&BESPOKE_PLUGIN).channel_messages(1).check();
    }

    #[test]
    fn the_schema_is_fresh() {
        check_config_schema(env!("CARGO_MANIFEST_DIR"), schemars::schema_for!(Config));
    }
}
