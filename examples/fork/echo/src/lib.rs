//! A tool that says again what it is told: a plugin outside the workspace.

use std::sync::Arc;

use bespoke_plugin_api::{
    CallCx, Plugin, PluginApi, PluginContext, Result, Tool, ToolOutput, ToolRequest, ToolSpec, async_trait,
    serde::{self, Deserialize},
    serde_json::json,
};

/// The table `[plugins.echo]`.
#[derive(Deserialize)]
#[serde(crate = "serde", deny_unknown_fields, default)]
pub struct Config {
    /// How often it says it.
    pub times: u8,
}

impl Default for Config {
    fn default() -> Self {
        Config { times: 1 }
    }
}

/// One instance.
pub struct Echo {
    times: usize,
}

impl Plugin for Echo {
    type Config = Config;

    fn register(api: &mut PluginApi<Self>) {
        let schema = json!({
            "type": "object",
            "properties": { "text": { "type": "string", "description": "What to say" } },
            "required": ["text"],
            "additionalProperties": false
        });
        api.tool(ToolSpec::new("echo", "Says a text again.").input(schema), |echo| Arc::new(Say(echo.clone())));
    }

    async fn start(_cx: PluginContext, config: Config) -> Result<Self> {
        Ok(Echo { times: usize::from(config.times) })
    }
}

bespoke_plugin_api::plugin!("echo", Echo);

#[derive(Deserialize)]
#[serde(crate = "serde", deny_unknown_fields)]
struct Args {
    text: String,
}

struct Say(Arc<Echo>);

#[async_trait]
impl Tool for Say {
    async fn call(&self, cx: &CallCx, request: ToolRequest) -> Result<ToolOutput> {
        cx.check()?;
        let args: Args = request.parse()?;
        Ok(ToolOutput::text(vec![args.text; self.0.times].join(" ")))
    }
}
