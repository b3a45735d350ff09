//! Sections and tables as types: what their owners ask for, and what is wrong with it.

use bespoke_manifest::{HOST_KEYS, PLUGIN_SETTINGS};
use bespoke_plugin_api::Error;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use super::{Config, ConfigError, Limits, Problem, join};
use crate::Sandbox;

/// The longest limit that can be configured. Far more could not be added to a clock.
pub(super) const LONGEST_MS: u64 = 24 * 60 * 60 * 1000;

/// The keys of `[plugins]` that hold for all plugins.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize))]
#[non_exhaustive]
pub struct PluginDefaults {
    /// Whether the native runtime that the hardware of this machine calls for is installed when the agent starts: only what was found,
    /// and only what a plugin of this program can use.
    pub auto_install: bool,
    /// Most time that may take, in milliseconds; the agent then starts without it.
    #[cfg_attr(test, schemars(range(min = 1, max = 86_400_000)))]
    pub auto_install_timeout_ms: u64,
    /// Whether what plugins need is fetched without a question: model files, and packages of Python plugins.
    pub auto_install_deps: bool,
    /// The package index that native runtimes and packages come from. When absent, BESPOKE_INDEX_URL, UV_DEFAULT_INDEX, UV_INDEX_URL, or
    /// PIP_INDEX_URL; without any of them, whatever pip uses.
    pub index_url: Option<String>,
    /// Most time a plugin's start may take, in milliseconds.
    #[cfg_attr(test, schemars(range(min = 1, max = 86_400_000)))]
    pub start_timeout_ms: u64,
    /// Most time that calls in flight may go on when a plugin stops, and again that its shutdown may take, in milliseconds.
    #[cfg_attr(test, schemars(range(min = 1, max = 86_400_000)))]
    pub stop_timeout_ms: u64,
    /// Most time that stopping all plugins may take, in milliseconds.
    #[cfg_attr(test, schemars(range(min = 1, max = 86_400_000)))]
    pub shutdown_timeout_ms: u64,
    /// Most time a request may take when its caller sets no deadline, in milliseconds.
    #[cfg_attr(test, schemars(range(min = 1, max = 86_400_000)))]
    pub call_timeout_ms: u64,
    /// Most time a command of a plugin may take, in milliseconds, unless the table of the plugin says otherwise.
    #[cfg_attr(test, schemars(range(min = 1, max = 86_400_000)))]
    pub command_timeout_ms: u64,
    /// Threads that one request of a plugin may use, at least 1.
    #[cfg_attr(test, schemars(range(min = 1)))]
    pub cpu_budget: u16,
    /// Where plugins live, each in a folder of its own, and native runtimes in its folder `runtimes`. `~/` is the home folder; other relative paths begin at the folder of the
    /// configuration.
    pub dir: Option<String>,
    /// How much of a wall a plugin must have that is not compiled in, unless its own table says otherwise.
    pub sandbox: Sandbox,
    /// What a plugin may use at most, whatever its manifest says.
    #[cfg_attr(test, schemars(schema_with = "limits_schema"), serde(skip_serializing))]
    pub limits: Limits,
}

impl Default for PluginDefaults {
    fn default() -> Self {
        PluginDefaults {
            auto_install: true,
            auto_install_timeout_ms: 1_800_000,
            auto_install_deps: false,
            index_url: None,
            start_timeout_ms: 10_000,
            stop_timeout_ms: 5_000,
            shutdown_timeout_ms: 30_000,
            call_timeout_ms: 120_000,
            command_timeout_ms: 120_000,
            cpu_budget: 1,
            dir: None,
            sandbox: Sandbox::Auto,
            limits: Limits::default(),
        }
    }
}

impl PluginDefaults {
    /// JSON Schema of the scalars of `[plugins]`.
    pub const CONFIG_SCHEMA: &'static str = include_str!("../../config.schema.json");
}

impl Config {
    /// Checks that there are no other sections than these, and that every key can be read; `config_version` and `plugins` are
    /// always known.
    ///
    /// # Errors
    /// One problem per unknown section, and per key or variable of the environment that names nothing.
    pub fn check_sections(&self, known: &[&str]) -> Result<(), ConfigError> {
        let known: Vec<&str> = known.iter().copied().chain(["config_version", "plugins"]).collect();
        let unknown = self.root.keys().filter(|key| !known.contains(&key.as_str()));
        let unknown = unknown.map(|key| self.unknown_section(key, &known));
        ConfigError::unless_empty(self.faults.iter().cloned().chain(unknown).collect(), ())
    }

    /// A section as a type, with its defaults filled in.
    ///
    /// # Errors
    /// With the place of the offending keys.
    pub fn section<T: DeserializeOwned>(&self, name: &str) -> Result<T, ConfigError> {
        self.section_of(name, &Value::Null)
    }

    /// As [`section`](Self::section), held against its JSON Schema too, which finds all that is wrong instead of the first.
    ///
    /// # Errors
    /// With the place of every offending key.
    pub fn section_of<T: DeserializeOwned>(&self, name: &str, schema: &Value) -> Result<T, ConfigError> {
        let value = self.root.get(name).cloned().unwrap_or_else(|| json!({}));
        if !value.is_object() {
            // serde would take an array for the fields in order.
            return Err(self.problem(name, "must be a table", Some(format!("write [{name}] above its keys"))).into());
        }
        let mut problems = Vec::new();
        let value = self.filled(value, name, &mut problems);
        let vague = self.add_faults(name, schema, &value, &mut problems);
        let read = serde_path_to_error::deserialize(&value);
        match read {
            Ok(section) => {
                problems.extend(vague.into_iter().filter(|_| problems.is_empty()).collect::<Vec<_>>());
                ConfigError::unless_empty(problems, section)
            }
            Err(e) => {
                let path = e.path().to_string();
                add(&mut problems, self.explain(name, &path, &e.into_inner().to_string()));
                Err(problems.into())
            }
        }
    }

    /// What holds for all plugins.
    ///
    /// # Errors
    /// With the place of the offending keys.
    pub fn plugin_defaults(&self) -> Result<PluginDefaults, ConfigError> {
        if self.root.get("plugins").is_some_and(|plugins| !plugins.is_object()) {
            return Err(self.problem("plugins", "must be a table", Some("write [plugins] above its keys".into())).into());
        }
        let mut problems: Vec<Problem> = self
            .plugins()
            .filter(|(_, v)| v.is_array())
            .map(|(id, _)| {
                let fix = format!("write [plugins.{id}] once, with single brackets");
                self.problem(&format!("plugins.{id}"), "must be a table, not an array", Some(fix))
            })
            .collect();
        let settings = self.plugins().filter(|(k, v)| if v.is_object() { is_setting(k) } else { !v.is_array() });
        let settings: Map<_, _> = settings.map(|(k, v)| (k.clone(), v.clone())).collect();
        // Each key alone, so that one that is wrong does not hide the next.
        let mut right = Map::new();
        for (key, value) in settings {
            let value = self.filled(value, &format!("plugins.{key}"), &mut problems);
            if key == "limits" {
                let before = problems.len();
                let vague = self.add_faults("plugins.limits", &Limits::schema(false), &value, &mut problems);
                problems.extend(vague);
                if problems.len() > before {
                    continue;
                }
            }
            match PluginDefaults::deserialize(json!({ key.as_str(): value })) {
                Ok(_) => _ = right.insert(key, value),
                // serde_path_to_error cannot see into one field of several; the path is the key.
                Err(e) => add(&mut problems, self.explain("plugins", &key, &e.to_string())),
            }
        }
        let defaults = PluginDefaults::deserialize(Value::Object(right))
            .map_err(|e| ConfigError::from(self.explain("plugins", "", &e.to_string())))?;
        for (key, ms) in [
            ("auto_install_timeout_ms", defaults.auto_install_timeout_ms),
            ("start_timeout_ms", defaults.start_timeout_ms),
            ("stop_timeout_ms", defaults.stop_timeout_ms),
            ("shutdown_timeout_ms", defaults.shutdown_timeout_ms),
            ("call_timeout_ms", defaults.call_timeout_ms),
            ("command_timeout_ms", defaults.command_timeout_ms),
        ] {
            if !(1..=LONGEST_MS).contains(&ms) {
                let fix = format!("write milliseconds from 1 to {LONGEST_MS}, which is a day");
                problems.push(self.problem(&format!("plugins.{key}"), format!("{ms} is no limit"), Some(fix)));
            }
        }
        if defaults.cpu_budget == 0 {
            problems.push(self.problem("plugins.cpu_budget", "0 threads compute nothing", Some("write 1 or more".into())));
        }
        ConfigError::unless_empty(problems, defaults)
    }

    /// The same without the settings of all plugins, for a program that goes on although they are wrong.
    #[must_use]
    pub fn without_plugin_defaults(&self) -> Self {
        let mut new = self.clone();
        match new.root.get_mut("plugins") {
            Some(Value::Object(plugins)) => plugins.retain(|key, value| value.is_object() && !is_setting(key)),
            Some(other) => *other = json!({}),
            None => {}
        }
        new
    }

    /// Ids of the plugins that have a table, in the order of the file.
    pub fn plugin_ids(&self) -> Vec<String> {
        self.plugins().filter(|(k, v)| v.is_object() && !is_setting(k)).map(|(k, _)| k.clone()).collect()
    }

    /// Whether a plugin is switched on. It is, unless its table says `enabled = false`.
    pub fn is_enabled(&self, id: &str) -> bool {
        self.plugin_table(id).and_then(|t| t.get("enabled")) != Some(&Value::Bool(false))
    }

    /// The configuration of a plugin, without the keys that are the host's.
    ///
    /// # Errors
    /// When references cannot be filled in.
    pub fn plugin(&self, id: &str) -> Result<Value, ConfigError> {
        let mut own = self.plugin_table(id).cloned().unwrap_or_default();
        own.retain(|key, _| !HOST_KEYS.contains(&key.as_str()));
        let mut problems = Vec::new();
        if let Err(error) = self.plugin_settings(id) {
            problems.extend(error.problems);
        }
        let value = self.filled(Value::Object(own), &format!("plugins.{id}"), &mut problems);
        ConfigError::unless_empty(problems, value)
    }

    /// All that is wrong with the configuration of a plugin: `schema` is that of its table, `secrets` are those that its manifest
    /// asks for, and `check` is the plugin's own word.
    ///
    /// # Errors
    /// With the place of every offending key.
    pub(crate) fn checked_plugin(
        &self,
        id: &str,
        schema: &Value,
        secrets: &[String],
        check: impl FnOnce(&Value) -> Result<(), Error>,
    ) -> Result<Value, ConfigError> {
        let table = format!("plugins.{id}");
        let (value, mut problems) = match self.plugin(id) {
            Ok(value) => (Some(value), Vec::new()),
            Err(error) => (None, error.problems),
        };
        problems.extend(self.check_secrets(id, secrets));
        let Some(value) = value else { return Err(problems.into()) };
        let vague = self.add_faults(&table, schema, &value, &mut problems);
        if let Err(error) = check(&value) {
            self.locate(&table, &error).problems.into_iter().for_each(|problem| add(&mut problems, problem));
        }
        if problems.is_empty() {
            problems = vague;
        }
        ConfigError::unless_empty(problems, value)
    }

    /// Puts the error of a check into its place in the file: of a section, or of a plugin's table, `plugins.<id>`. The error's
    /// `data.path` is the key below `table`. A value that came through a reference is taken out of the message: serde repeats
    /// what it does not like.
    pub fn locate(&self, table: &str, error: &Error) -> ConfigError {
        let path = error.data().and_then(|d| d.get("path")).and_then(Value::as_str).unwrap_or_default();
        // A check that also speaks without a file begins with the key, which stands in front here anyway.
        let said = error.message();
        let message = said.strip_prefix(&format!("{} ", join(table, path))).unwrap_or(said);
        let mut problem = self.explain(table, path, message);
        problem.fix = problem.fix.or_else(|| error.help().map(str::to_owned));
        problem.into()
    }

    /// Adds what a schema finds in a table. What it can only call unfit is handed back: whoever reads the value says more.
    pub(super) fn add_faults(&self, table: &str, schema: &Value, value: &Value, problems: &mut Vec<Problem>) -> Vec<Problem> {
        let mut vague = Vec::new();
        if schema.is_object() {
            for fault in bespoke_schema::check(schema, value) {
                let problem = self.explain_fault(table, value, schema, &fault);
                if problem.message.contains("fits none of") { vague.push(problem) } else { add(problems, problem) }
            }
        }
        vague
    }

    /// A section that nobody knows may be the table of a plugin that was written without `plugins.`.
    fn unknown_section(&self, key: &str, known: &[&str]) -> Problem {
        let mut problem = self.unknown(key, key, known);
        let guessed = problem.fix.as_ref().is_some_and(|fix| fix.starts_with("did you mean"));
        // Elsewhere `plugins_dir` is a common name for it.
        let setting = key.strip_prefix("plugins_").filter(|setting| is_setting(setting));
        if let Some(setting) = setting {
            problem.fix = Some(format!("write {setting} = … in [plugins]"));
        } else if !guessed && self.root.get(key).is_some_and(Value::is_object) {
            let sections: Vec<&str> = known.iter().copied().filter(|name| *name != "config_version").collect();
            problem.fix = Some(format!("sections are {}; the table of a plugin is [plugins.{key}]", sections.join(", ")));
        }
        problem
    }

    /// Keys that hold a reference: those are filled in nowhere.
    pub(super) fn faults_of_keys(&self) -> Vec<Problem> {
        let refers = self.places.keys().filter(|key| key.rsplit('.').next().is_some_and(|last| last.contains("${")));
        refers.map(|key| self.problem(key, "a reference cannot stand in a key", Some("write the key itself".into()))).collect()
    }

    fn plugins(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.root.get("plugins").and_then(Value::as_object).into_iter().flatten()
    }

    pub(super) fn plugin_table(&self, id: &str) -> Option<&Map<String, Value>> {
        self.root.get("plugins")?.get(id)?.as_object()
    }
}

/// Whether a key of `[plugins]` is a setting of all plugins, and so the id of none.
fn is_setting(key: &str) -> bool {
    PLUGIN_SETTINGS.contains(&key)
}

#[cfg(test)]
fn limits_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::Schema::try_from(Limits::schema(false)).unwrap()
}

/// Adds a problem unless its key has one already: the first says it best.
fn add(problems: &mut Vec<Problem>, problem: Problem) {
    if !problems.iter().any(|known| known.key == problem.key) {
        problems.push(problem);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_fresh() {
        bespoke_plugin_testkit::check_config_schema(env!("CARGO_MANIFEST_DIR"), schemars::schema_for!(PluginDefaults));
    }
}
