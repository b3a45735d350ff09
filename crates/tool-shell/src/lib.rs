//! A tool for the model: here it says again what it is told.

use std::sync::Arc;

use bespoke_plugin_api::{
    CallCx, Plugin, PluginApi, PluginContext, Result, Tool, ToolOutput, ToolRequest, ToolSpec, async_trait,
    serde::{self, Deserialize},
    serde_json::json,
};

/// The table `[plugins.shell]`. Each field has a default, and says what may change while the plugin runs.
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
pub struct Shell {
    config: Config,
}

impl Plugin for Shell {
    type Config = Config;

    fn register(api: &mut PluginApi<Self>) {
        let spec = ToolSpec::new("shell", "Says a text again. Tell the model here when to call the tool.").input(json!({
            "type": "object",
            "properties": { "text": { "type": "string", "description": "What to say" } },
            "required": ["text"],
            "additionalProperties": false
        }));
        api.tool(spec, |plugin| Arc::new(Say(plugin.clone())));
    }

    async fn start(_cx: PluginContext, config: Config) -> Result<Self> {
        Ok(Shell { config })
    }
}

bespoke_plugin_api::plugin!("shell", Shell);

#[derive(Deserialize)]
#[serde(crate = "serde", deny_unknown_fields)]
struct Args {
    text: String,
}

struct Say(Arc<Shell>);

#[async_trait]
impl Tool for Say {
    async fn call(&self, cx: &CallCx, request: ToolRequest) -> Result<ToolOutput> {
        cx.check()?;
        let args: Args = request.parse()?;
        let answer = format!("{}{}", self.0.config.prefix, args.text);
        Ok(ToolOutput::text(answer.clone()).with_data(json!({ "answer": answer })))
    }
}

#[cfg(test)]
mod tests {
    use bespoke_plugin_api::Contribution;
    use bespoke_plugin_testkit::{Conformance, TestHost, block_on, check_config_schema};

    use super::*;

    #[test]
    fn says_it_again() {
        let instance = block_on(BESPOKE_PLUGIN.start(TestHost::new().context("shell"), json!({}))).unwrap();
        let [Contribution::Tool(_, tool)] = &instance.contributions[..] else { panic!("{instance:?}") };
        let request = ToolRequest::new(json!({ "text": "hello" }));
        let output = block_on(tool.call(&CallCx::new(), request)).unwrap();
        assert_eq!(output.to_text(), "You said: hello");
    }

    #[test]
    fn behaves_the_same_in_every_tier() {
        Conformance::new(&BESPOKE_PLUGIN).tool("shell", json!({ "text": "hello" })).check();
    }

    #[test]
    fn the_schema_is_fresh() {
        check_config_schema(env!("CARGO_MANIFEST_DIR"), schemars::schema_for!(Config));
    }
}
