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
/// A day is longer than anybody waits.
const SILENCE_MS: RangeInclusive<u64> = 1..=86_400_000;

/// How the agent answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct AgentConfig {
    /// Names of providers, asked in order until one answers; all that there are, by name, when empty. `name:model` asks for that
    /// model of it. Stand-ins for tests are asked only if they are named, those that send requests to other machines only if they
    /// are named or have a table.
    #[cfg_attr(test, schemars(extend("x-reload" = "live")))]
    pub provider: Vec<String>,
    /// Model of the providers that name none; their default one when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(extend("x-reload" = "live")))]
    pub model: Option<String>,
    /// Instructions that stand before every conversation; none when empty.
    #[cfg_attr(test, schemars(extend("x-reload" = "live")))]
    pub system: String,
    /// Tools that the model may call, by their names or by the plugins that have them; all that there are when absent, as with
    /// providers, none when empty.
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
    /// Longest that a provider may say nothing, before its answer or within it, in milliseconds, 1–86 400 000. Then the next one is
    /// asked.
    #[cfg_attr(test, schemars(range(min = 1, max = 86_400_000), extend("x-reload" = "live")))]
    pub silence_ms: u64,
    /// Whether the next provider is asked also when some of an answer was shown already. It begins anew.
    #[cfg_attr(test, schemars(extend("x-reload" = "live")))]
    pub failover_after_text: bool,
    /// Most tokens that one turn may cost, read and written, by the provider's count or else by estimate; 0 is no limit. A request
    /// that has begun is not cut off.
    #[cfg_attr(test, schemars(extend("x-reload" = "live")))]
    pub turn_tokens: u64,
    /// Most tokens that one conversation may cost; 0 is no limit.
    #[cfg_attr(test, schemars(extend("x-reload" = "live")))]
    pub session_tokens: u64,
    /// Most tokens that all conversations of a day may cost together, those that are not kept too; 0 is no limit. A day is one of UTC. They
    /// are counted while there is a limit.
    #[cfg_attr(test, schemars(extend("x-reload" = "live")))]
    pub daily_tokens: u64,
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
            silence_ms: 60_000,
            failover_after_text: false,
            turn_tokens: 0,
            session_tokens: 0,
            daily_tokens: 0,
        }
    }
}

impl AgentConfig {
    /// The providers that it names, without their models.
    pub fn provider_names(&self) -> Vec<String> {
        self.provider.iter().map(|entry| split(entry).0.to_owned()).collect()
    }

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
        if !SILENCE_MS.contains(&self.silence_ms) {
            let (least, most) = (SILENCE_MS.start(), SILENCE_MS.end());
            return fault("silence_ms", format!("is {}; it has to be between {least} and {most}", self.silence_ms));
        }
        if let Some(entry) = self.provider.iter().find(|entry| entry.starts_with(':') || entry.ends_with(':')) {
            return fault("provider", format!("has `{entry}`; write `name` or `name:model`"));
        }
        Ok(())
    }
}

/// Name and model of an entry of `provider`. Names of models may hold colons, those of providers do not.
pub(crate) fn split(entry: &str) -> (&str, Option<&str>) {
    entry.split_once(':').map_or((entry, None), |(name, model)| (name, Some(model)))
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
