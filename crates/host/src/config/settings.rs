//! What the host itself reads in the table of a plugin, and how it becomes the terms of a start. The plugin's own keys are not here, nor
//! are its secrets.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use bespoke_manifest::{HOST_KEYS, Limit, Manifest, Resources};
use bespoke_plugin_api::Error;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Map, Value, json};

use super::{Config, ConfigError};
use crate::{
    Sandbox, Terms,
    candidate::Tier,
    grants::{Blocked, Consent, Grants},
};

/// The keys of the host in the table of a plugin, beside `secrets`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct PluginSettings {
    /// Whether the plugin is started.
    pub enabled: bool,
    /// Its folder, where it lies in none of those that are searched. `~/` is the home folder; other relative paths begin at the folder of
    /// the configuration.
    pub path: Option<String>,
    /// How much of a wall it must have; what `[plugins]` says when it is not set.
    pub sandbox: Option<Sandbox>,
    /// Whether it may run as a dynamic library, which no wall can hold: it is code inside this program.
    pub allow_native: Native,
    /// When it is started.
    pub start: Start,
    /// After how many milliseconds without a call it is stopped, to be started with the next one; never when it is not set.
    pub idle_stop_ms: Option<u64>,
    /// Most milliseconds that a command of its may take; what `[plugins]` says when it is not set.
    pub command_timeout_ms: Option<u64>,
    /// Limits that go before those of its manifest.
    pub limits: Limits,
    /// Whether what it depends on may be installed without a question; what `[plugins]` says when it is not set.
    pub auto_install_deps: Option<bool>,
}

impl Default for PluginSettings {
    fn default() -> Self {
        PluginSettings {
            enabled: true,
            path: None,
            sandbox: None,
            allow_native: Native::Any(false),
            start: Start::Eager,
            idle_stop_ms: None,
            command_timeout_ms: None,
            limits: Limits::default(),
            auto_install_deps: None,
        }
    }
}

impl PluginSettings {
    /// Whether it is started with its first call.
    pub fn is_lazy(&self) -> bool {
        self.start == Start::Lazy
    }

    /// How long it may be without a call.
    pub fn idle_stop(&self) -> Option<Duration> {
        self.idle_stop_ms.map(Duration::from_millis)
    }

    /// JSON Schemas of the keys, by key.
    pub fn schemas() -> Map<String, Value> {
        let Value::Object(schemas) = json!({
            "enabled": { "type": "boolean", "default": true, "description": "Whether the plugin is started." },
            "path": { "type": "string", "minLength": 1, "description": "Its folder, where it lies in none of those that are searched." },
            "sandbox": {
                "enum": Sandbox::ALL.iter().map(|sandbox| sandbox.name()).collect::<Vec<_>>(),
                "description": "How much of a wall it must have.",
            },
            "allow_native": {
                "type": ["boolean", "string"], "minLength": 1, "default": false,
                "description": "Whether it may run as a dynamic library: code inside this program, which no wall can hold. A folder: that library only.",
            },
            "start": {
                "enum": Start::ALL.iter().map(|start| start.name()).collect::<Vec<_>>(),
                "default": "eager",
                "description": "Whether it is started with the program, or with its first call.",
            },
            "idle_stop_ms": {
                "type": "integer", "minimum": 1, "maximum": super::sections::LONGEST_MS,
                "description": "After how many milliseconds without a call it is stopped, to be started with the next one.",
            },
            "command_timeout_ms": {
                "type": "integer", "minimum": 1, "maximum": super::sections::LONGEST_MS,
                "description": "Most milliseconds that a command of its may take.",
            },
            "limits": Limits::schema(true),
            "auto_install_deps": { "type": "boolean", "description": "Whether what it depends on may be installed without a question." },
        }) else {
            return Map::new();
        };
        schemas
    }
}

/// Which library of a plugin's id may run inside this program.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Native {
    /// Whichever has the id, wherever it lies; or none.
    Any(bool),
    /// The one in this folder.
    In(String),
}

/// When a plugin is started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Start {
    /// With the program.
    #[default]
    Eager,
    /// With its first call.
    Lazy,
}

impl Start {
    /// All of them.
    pub const ALL: &[Start] = &[Start::Eager, Start::Lazy];

    /// The name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Start::Eager => "eager",
            Start::Lazy => "lazy",
        }
    }
}

/// Limits in a configuration: the keys of `[resources]` of a manifest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The limits.
    pub resources: Resources,
    /// Whether they may be wider than what the plugin's manifest says.
    pub widen: bool,
}

impl Limits {
    /// JSON Schema of a table of limits; with `widen` of that in the table of a plugin.
    pub fn schema(widen: bool) -> Value {
        let limit = |limit: &Limit| {
            let schema = json!({ "type": "integer", "minimum": limit.least, "maximum": limit.most, "description": sentence(limit.about) });
            (limit.key.to_owned(), schema)
        };
        let mut properties: Map<_, _> = Resources::LIMITS.iter().map(limit).collect();
        if widen {
            let about = "Whether these limits may be wider than what the plugin's manifest says.";
            properties.insert("widen".into(), json!({ "type": "boolean", "default": false, "description": about }));
        }
        json!({ "type": "object", "properties": properties, "additionalProperties": false, "description": "Limits of what it may use." })
    }
}

fn sentence(words: &str) -> String {
    let mut chars = words.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}

impl<'de> Deserialize<'de> for Limits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut limits = Limits::default();
        for (key, value) in Map::<String, Value>::deserialize(deserializer)? {
            match (Limit::named(&key), value) {
                (Some(limit), value) => {
                    let number = value.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| (limit.least..=limit.most).contains(n));
                    let number = number.ok_or_else(|| D::Error::custom(format!("{key} must be from {} to {}", limit.least, limit.most)))?;
                    limit.put(&mut limits.resources, number);
                }
                (None, Value::Bool(widen)) if key == "widen" => limits.widen = widen,
                _ => return Err(D::Error::custom(format!("{key} is no limit"))),
            }
        }
        Ok(limits)
    }
}

/// Why a plugin cannot be started on any terms.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum NoTerms {
    /// It waits for its user's consent.
    Blocked(Blocked),
    /// Its table in the configuration is wrong.
    Wrong(ConfigError),
}

impl NoTerms {
    /// The same as an error: `PERMISSION_DENIED` with the command that asks, or `INVALID_PARAMS`.
    pub fn error(&self, id: &str) -> Error {
        match self {
            NoTerms::Blocked(blocked) => blocked.error(id),
            NoTerms::Wrong(error) => Error::invalid_params(error.to_string()).with_help("bespoke config check"),
        }
    }
}

impl From<ConfigError> for NoTerms {
    fn from(error: ConfigError) -> Self {
        NoTerms::Wrong(error)
    }
}

impl Config {
    /// The keys of the host in the table of a plugin.
    ///
    /// # Errors
    /// With the place of every offending key.
    pub fn plugin_settings(&self, id: &str) -> Result<PluginSettings, ConfigError> {
        let table = format!("plugins.{id}");
        let mut own = self.plugin_table(id).cloned().unwrap_or_default();
        own.retain(|key, _| HOST_KEYS.contains(&key.as_str()) && key != "secrets");
        let mut problems = Vec::new();
        let value = self.filled(Value::Object(own), &table, &mut problems);
        let schema = json!({ "type": "object", "properties": PluginSettings::schemas() });
        let vague = self.add_faults(&table, &schema, &value, &mut problems);
        problems.extend(vague);
        if !problems.is_empty() {
            return Err(problems.into());
        }
        PluginSettings::deserialize(value).map_err(|e| self.explain(&table, "", &e.to_string()).into())
    }

    /// The folder of a plugin whose table names one.
    ///
    /// # Errors
    /// As [`plugin_settings`](Self::plugin_settings); and when the home folder is asked for and there is none.
    pub fn plugin_path(&self, id: &str) -> Result<Option<PathBuf>, ConfigError> {
        let Some(path) = self.plugin_settings(id)?.path else { return Ok(None) };
        self.place_of(&format!("plugins.{id}.path"), &path).map(Some)
    }

    /// The folder that `dir` of `[plugins]` names.
    ///
    /// # Errors
    /// As [`plugin_defaults`](Self::plugin_defaults); and when the home folder is asked for and there is none.
    pub fn plugin_dir(&self) -> Result<Option<PathBuf>, ConfigError> {
        let Some(dir) = self.plugin_defaults()?.dir else { return Ok(None) };
        self.place_of("plugins.dir", &dir).map(Some)
    }

    fn place_of(&self, key: &str, written: &str) -> Result<PathBuf, ConfigError> {
        let no_home = || self.problem(key, "there is no home folder", Some("write the whole path".into()));
        Ok(self.path_of(written).ok_or_else(no_home)?)
    }

    /// On what terms a plugin may be started: what the user granted of what it asks for, within the limits of its manifest as the
    /// configuration tightens or widens them. The limits of `[plugins]` hold for every plugin; those of its own table go before both.
    ///
    /// # Errors
    /// [`NoTerms`]: the consent is missing, or its table is wrong.
    pub fn terms(&self, manifest: &Manifest, tier: Tier, grants: &Grants) -> Result<Terms, NoTerms> {
        let settings = self.plugin_settings(&manifest.id)?;
        let defaults = self.plugin_defaults()?;
        let limits = self.resources(manifest)?;
        if tier == Tier::Dylib
            && let Some(blocked) = self.distrusts(manifest)?
        {
            return Err(NoTerms::Blocked(blocked));
        }
        match grants.consent(manifest, tier) {
            Consent::Granted(granted) => {
                Ok(Terms { granted, limits, sandbox: settings.sandbox.unwrap_or(defaults.sandbox), ..Terms::default() })
            }
            Consent::Blocked(blocked) => Err(NoTerms::Blocked(blocked)),
        }
    }

    /// Whether the library of a plugin may not run inside this program: nobody said that it may, or it lies in another folder than the one
    /// that was trusted, which are held against each other behind all links.
    ///
    /// # Errors
    /// As [`plugin_path`](Self::plugin_path).
    pub fn distrusts(&self, manifest: &Manifest) -> Result<Option<Blocked>, ConfigError> {
        let key = format!("plugins.{}.allow_native", manifest.id);
        let folder = match self.plugin_settings(&manifest.id)?.allow_native {
            Native::Any(true) => return Ok(None),
            Native::Any(false) => return Ok(Some(Blocked::native(None))),
            Native::In(folder) => self.place_of(&key, &folder)?,
        };
        let real = |folder: &Path| folder.canonicalize().ok();
        let own = Path::new(&manifest.path).parent().and_then(real);
        let is_meant = own.is_some() && own == real(&folder);
        Ok((!is_meant).then(|| Blocked::native(Some(format!("{key} is for {}", folder.display())))))
    }

    /// The limits that hold for a plugin: those of its manifest, as the configuration tightens or widens them.
    ///
    /// # Errors
    /// Its table, or `[plugins]`, is wrong, or widens without saying so.
    pub fn resources(&self, manifest: &Manifest) -> Result<Resources, ConfigError> {
        let (own, all) = (self.plugin_settings(&manifest.id)?.limits, self.plugin_defaults()?.limits.resources);
        let mut limits = manifest.resources.lowest(all);
        let mut problems = Vec::new();
        for (limit, value) in own.resources.set() {
            limit.put(&mut limits, value);
            if let Some(asked) = limit.of(&manifest.resources).filter(|asked| value > *asked && !own.widen) {
                let fix = format!("write {asked} or less, or add widen = true beside it");
                let message = format!("{value} is more than the {asked} that the plugin asks for");
                problems.push(self.problem(&format!("plugins.{}.limits.{}", manifest.id, limit.key), message, Some(fix)));
            }
        }
        ConfigError::unless_empty(problems, limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_the_host_are_those_that_schemas_of_plugins_must_leave_alone() {
        let mut keys: Vec<String> = PluginSettings::schemas().keys().cloned().chain(["secrets".to_owned()]).collect();
        let mut refused: Vec<String> = HOST_KEYS.iter().map(|key| (*key).to_owned()).collect();
        keys.sort();
        refused.sort();
        assert_eq!(keys, refused);
        // The struct reads what the schemas describe.
        for (key, value) in [
            ("enabled", json!(false)),
            ("path", json!("x")),
            ("allow_native", json!(true)),
            ("allow_native", json!("x")),
            ("sandbox", json!("required")),
            ("start", json!("lazy")),
            ("idle_stop_ms", json!(1)),
            ("limits", json!({ "memory_mb": 1, "widen": true })),
            ("auto_install_deps", json!(true)),
        ] {
            let schema = PluginSettings::schemas()[key].clone();
            assert_eq!(bespoke_schema::check(&schema, &value), [], "{key}");
            let read = PluginSettings::deserialize(json!({ key: value })).unwrap();
            assert_ne!(read, PluginSettings::default(), "{key}");
        }
    }
}
