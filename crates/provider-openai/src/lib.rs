//! A language model: here it says again what the user said.

use std::sync::Arc;

use bespoke_plugin_api::{
    BoxStream, CallCx, ChatDelta, ChatRequest, FinishReason, ModelInfo, Plugin, PluginApi, PluginContext, Provider, ProviderSpec, Result,
    Role, async_trait, feed,
    serde::{self, Deserialize},
};

/// The table `[plugins.openai]`. Each field has a default, and says what may change while the plugin runs.
#[derive(Deserialize)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize), schemars(extend("additionalProperties" = false)))]
pub struct Config {
    /// Stands before each answer.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub prefix: String,
}

impl Default for Config {
    fn default() -> Self {
        Config { prefix: "You said: ".into() }
    }
}

/// One instance.
pub struct Openai {
    config: Config,
}

impl Plugin for Openai {
    type Config = Config;

    fn register(api: &mut PluginApi<Self>) {
        api.provider(ProviderSpec::new("openai"), |plugin| Arc::new(Model(plugin.clone())));
    }

    async fn start(_cx: PluginContext, config: Config) -> Result<Self> {
        Ok(Openai { config })
    }
}

bespoke_plugin_api::plugin!("openai", Openai);

struct Model(Arc<Openai>);

#[async_trait]
impl Provider for Model {
    async fn models(&self, _cx: &CallCx) -> Result<Vec<ModelInfo>> {
        Ok(vec![ModelInfo::new("openai", 4096)])
    }

    async fn chat(&self, cx: &CallCx, request: ChatRequest) -> Result<BoxStream<ChatDelta>> {
        cx.check()?;
        let said = request.messages.iter().rev().find(|m| m.role == Role::User).map_or("", |m| m.text.as_str());
        // A model that computes does so on a working thread (`PluginContext::blocking`) and sends from there.
        let (sender, answer) = feed(3);
        let deltas = [ChatDelta::text(&self.0.config.prefix), ChatDelta::text(said), ChatDelta::finish(FinishReason::Stop, None)];
        for delta in deltas {
            // Only fails when nobody listens any more.
            let _ = sender.send(Ok(delta));
        }
        Ok(Box::pin(answer))
    }
}

#[cfg(test)]
mod tests {
    use bespoke_plugin_api::{Contribution, Message, serde_json::json};
    use bespoke_plugin_testkit::{Conformance, TestHost, block_on, check_config_schema};

    use super::*;

    #[test]
    fn answers_a_conversation() {
        let instance = block_on(BESPOKE_PLUGIN.start(TestHost::new().context("openai"), json!({}))).unwrap();
        let [Contribution::Provider(_, provider)] = &instance.contributions[..] else { panic!("{instance:?}") };
        let request = ChatRequest::new(vec![Message::user("hello")]);
        let mut answer = block_on(provider.chat(&CallCx::new(), request)).unwrap();
        let mut text = String::new();
        while let Some(delta) = block_on(std::future::poll_fn(|cx| answer.as_mut().poll_next(cx))) {
            if let ChatDelta::Text { text: more, .. } = delta.unwrap() {
                text += &more;
            }
        }
        assert_eq!(text, "You said: hello");
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
