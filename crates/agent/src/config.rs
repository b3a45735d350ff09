//! The section `[agent]` of bespoke.toml.

use std::ops::RangeInclusive;

use bespoke_plugin_api::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Temperatures that models are made for.
const TEMPERATURES: RangeInclusive<f32> = 0.0..=2.0;
/// No model writes more at once; a larger number is a slip.
const ANSWER_TOKENS: RangeInclusive<u32> = 1..=1_000_000;
/// No model reads more; a larger number is a slip.
const HISTORY_TOKENS: RangeInclusive<u32> = 0..=10_000_000;
/// Each round is a request; a model that needs more than these turns in a circle.
const TOOL_STEPS: RangeInclusive<u32> = 1..=100;

/// How the agent answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct AgentConfig {
    /// Names of providers, asked in order until one answers; all that there are, by name, when empty. Stand-ins for tests are
    /// asked only if they are named.
    #[cfg_attr(test, schemars(extend("x-reload" = "live")))]
    pub provider: Vec<String>,
    /// Model of the provider; its default one when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(extend("x-reload" = "live")))]
    pub model: Option<String>,
    /// Instructions that stand before every conversation; none when empty.
    #[cfg_attr(test, schemars(extend("x-reload" = "live")))]
    pub system: String,
    /// Names of tools that the model may call; all that there are when absent, none when empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(extend("x-reload" = "live")))]
    pub tools: Option<Vec<String>>,
    /// Randomness, 0.0–2.0; the provider's default when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(range(min = 0.0, max = 2.0), extend("x-reload" = "live")))]
    pub temperature: Option<f32>,
    /// Most tokens of one answer, 1–1 000 000.
    #[cfg_attr(test, schemars(range(min = 1, max = 1_000_000), extend("x-reload" = "live")))]
    pub max_tokens: u32,
    /// Most tokens of history that a request carries, 0–10 000 000, by estimate; older turns are left out. A model with a smaller
    /// window gets less. The turn at hand is always there, so 0 means that nothing before it is.
    #[cfg_attr(test, schemars(range(min = 0, max = 10_000_000), extend("x-reload" = "live")))]
    pub history_tokens: u32,
    /// Most rounds of tool calls in one turn, 1–100.
    #[cfg_attr(test, schemars(range(min = 1, max = 100), extend("x-reload" = "live")))]
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

impl AgentConfig {
    /// Whether every value is in its range.
    ///
    /// # Errors
    /// `INVALID_PARAMS`; `data.path` is the offending key.
    pub fn check(&self) -> Result<()> {
        let fault =
            |key: &str, message: String| Err(Error::invalid_params(format!("agent.{key} {message}")).with_data(json!({ "path": key })));
        for (key, names) in [("provider", self.provider.as_slice()), ("tools", self.tools.as_deref().unwrap_or_default())] {
            if let Some(twice) = names.iter().enumerate().find_map(|(at, name)| names[..at].contains(name).then_some(name)) {
                return fault(key, format!("names `{twice}` twice"));
            }
        }
        if let Some(temperature) = self.temperature.filter(|temperature| !TEMPERATURES.contains(temperature)) {
            let (least, most) = (TEMPERATURES.start(), TEMPERATURES.end());
            return fault("temperature", format!("is {temperature}; it has to be between {least} and {most}"));
        }
        for (key, value, range) in [
            ("max_tokens", self.max_tokens, ANSWER_TOKENS),
            ("history_tokens", self.history_tokens, HISTORY_TOKENS),
            ("max_tool_steps", self.max_tool_steps, TOOL_STEPS),
        ] {
            if !range.contains(&value) {
                return fault(key, format!("is {value}; it has to be between {} and {}", range.start(), range.end()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_fresh() {
        bespoke_plugin_testkit::check_config_schema(env!("CARGO_MANIFEST_DIR"), schemars::schema_for!(AgentConfig));
    }

    #[test]
    fn reads_its_keys_and_refuses_others() {
        let config: AgentConfig = serde_json::from_value(json!({ "provider": ["smol"], "temperature": 0.5 })).unwrap();
        assert_eq!(config, AgentConfig { provider: vec!["smol".into()], temperature: Some(0.5), ..AgentConfig::default() });
        assert_eq!(config.check(), Ok(()));
        assert!(serde_json::from_value::<AgentConfig>(json!({ "providers": [] })).is_err());
    }

    #[test]
    fn values_out_of_range_are_named() {
        let fault = |keys: serde_json::Value| {
            let error = serde_json::from_value::<AgentConfig>(keys).unwrap().check().unwrap_err();
            (error.data().unwrap()["path"].as_str().unwrap().to_owned(), error.message().to_owned())
        };
        for (keys, path, message) in [
            (json!({ "temperature": 2.5 }), "temperature", "agent.temperature is 2.5; it has to be between 0 and 2"),
            (json!({ "temperature": -0.5 }), "temperature", "agent.temperature is -0.5; it has to be between 0 and 2"),
            (json!({ "max_tokens": 0 }), "max_tokens", "agent.max_tokens is 0; it has to be between 1 and 1000000"),
            (
                json!({ "history_tokens": 4_000_000_000_u32 }),
                "history_tokens",
                "agent.history_tokens is 4000000000; it has to be between 0 and 10000000",
            ),
            (json!({ "max_tool_steps": 0 }), "max_tool_steps", "agent.max_tool_steps is 0; it has to be between 1 and 100"),
            (json!({ "provider": ["a", "b", "a"] }), "provider", "agent.provider names `a` twice"),
            (json!({ "tools": ["clock", "clock"] }), "tools", "agent.tools names `clock` twice"),
        ] {
            assert_eq!(fault(keys), (path.to_owned(), message.to_owned()));
        }
        assert!(AgentConfig { temperature: Some(f32::NAN), ..AgentConfig::default() }.check().is_err());
        let edges = json!({ "temperature": 2.0, "max_tokens": 1, "history_tokens": 0, "max_tool_steps": 1, "tools": [] });
        assert_eq!(serde_json::from_value::<AgentConfig>(edges).unwrap().check(), Ok(()));
    }
}
