//! The section `[agent]` of bespoke.toml.

use serde::{Deserialize, Serialize};

/// How the agent answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct AgentConfig {
    /// Names of providers, tried in order until one answers; empty means all that there are but stand-ins for tests, by name.
    pub provider: Vec<String>,
    /// Model of the provider; its default one when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Instructions that stand before every conversation.
    pub system: String,
    /// Names of tools that the model may call; all that there are when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<String>>,
    /// Randomness, 0.0–2.0; the provider's default when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// Most tokens of one answer.
    pub max_tokens: u32,
    /// Most tokens of history that a request carries, by estimate; older turns are left out.
    pub history_tokens: u32,
    /// Most rounds of tool calls in one turn.
    pub max_tool_steps: u32,
}

impl Default for AgentConfig {
    fn default() -> Self {
        AgentConfig {
            provider: Vec::new(),
            model: None,
            system: "You are a helpful assistant. Answer in one or two short sentences.".into(),
            tools: None,
            temperature: None,
            max_tokens: 512,
            history_tokens: 3_000,
            max_tool_steps: 5,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_fresh() {
        let schema = schemars::schema_for!(AgentConfig).to_value();
        bespoke_plugin_testkit::check_config_schema(env!("CARGO_MANIFEST_DIR"), schema);
    }
}
