//! bespoke.toml: every mistake with file, line, column and key; references, secrets, edits; one plugin's mistake its own.

use bespoke_host::{Config, ConfigError, ConfigFile, Host, Migration, PluginDefaults, SecretSource, Selection};
use bespoke_plugin_api::{Descriptor, Package, Plugin, PluginApi, PluginContext, Result, serde::Deserialize, serde_json::json};
use expect_test::{Expect, expect};

use crate::kit::{Plug, call, says, table};
mod edits;
mod layouts;
mod plugins;
mod read;
mod references;
mod variables;

fn parse(text: &str) -> Config {
    let env = [("TOKEN", "t0k3n-t0k3n"), ("EMPTY", "")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    Config::parse("bespoke.toml", text).unwrap().with_env(env)
}

fn with_env(text: &str, env: &[(&str, &str)]) -> Config {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::parse("bespoke.toml", text).unwrap().with_env(env)
}

fn refused(result: std::result::Result<impl std::fmt::Debug, ConfigError>, told: Expect) {
    told.assert_eq(&format!("{}\n", result.unwrap_err()));
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(crate = "bespoke_plugin_api::serde", deny_unknown_fields, default)]
struct Section {
    system: String,
    limit: u8,
    tools: Vec<String>,
    inner: Inner,
    mode: Mode,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(crate = "bespoke_plugin_api::serde", deny_unknown_fields, default)]
struct Inner {
    depth: u32,
    more: Vec<Leaf>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(crate = "bespoke_plugin_api::serde", deny_unknown_fields)]
struct Leaf {
    name: String,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(crate = "bespoke_plugin_api::serde", rename_all = "snake_case")]
enum Mode {
    #[default]
    Fast,
    Slow,
}
