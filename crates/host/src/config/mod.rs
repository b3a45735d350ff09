//! One `bespoke.toml`: read with positions, the environment laid over it, references filled in where a value is used, handed out
//! section by section and plugin by plugin. What a key means is known by whoever owns the section, not here.

mod edit;
mod error;
mod file;
mod listens;
mod migrate;
mod overrides;
mod read;
mod references;
mod sections;
mod settings;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use self::{
    read::{Place, Position},
    references::References,
};
use crate::redact::Redactor;

pub use self::{
    error::{ConfigError, Problem},
    file::ConfigFile,
    listens::UserHook,
    migrate::{CONFIG_VERSION, MIGRATIONS, Migration},
    references::SecretSource,
    sections::PluginDefaults,
    settings::{Limits, Native, NoTerms, PluginSettings, Start},
};

/// A configuration as it stands in a file, or the empty one, with the variables of the environment above it.
#[derive(Clone)]
pub struct Config {
    origin: String,
    path: Option<PathBuf>,
    text: String,
    written: read::Written,
    /// File and environment; references are not filled in.
    root: Map<String, Value>,
    places: BTreeMap<String, Place>,
    /// What is wrong with keys rather than with values.
    faults: Vec<Problem>,
    env: BTreeMap<String, String>,
    references: References,
    redactor: Redactor,
    notices: Vec<String>,
}

/// Where the value of a key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// File, line and column, such as `bespoke.toml:3:1`.
    File(String),
    /// The variable of the environment of this name.
    Environment(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(place) => f.write_str(place),
            Origin::Environment(name) => write!(f, "{name} (environment)"),
        }
    }
}

impl fmt::Debug for Config {
    /// Without the values: the environment holds secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("origin", &self.origin).field("keys", &self.places.len()).finish_non_exhaustive()
    }
}

impl Config {
    /// The configuration of a program that has no file.
    pub fn empty() -> Self {
        Self::of("(no bespoke.toml)", "", read::Written::default())
    }

    /// Reads a file. One of an older layout is brought to this program's: the old file is kept beside the new one, and what was
    /// done is among the [`notices`](Self::notices).
    ///
    /// # Errors
    /// When it cannot be read, is no TOML, or was written by a newer program.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::read_with(path, MIGRATIONS)
    }

    /// As [`read`](Self::read), with other steps between layouts than this program's own.
    ///
    /// # Errors
    /// As [`read`](Self::read), and when a step refuses the file.
    pub fn read_with(path: &Path, steps: &[Migration]) -> Result<Self, ConfigError> {
        let origin = path.display().to_string();
        let text = file::text(path)?;
        let (text, notices) = migrate::at_load(path, &origin, text, steps)?;
        let mut config = Self::of(&origin, &text, read::read(&origin, &text)?);
        config.path = Some(path.to_owned());
        config.notices = notices;
        // A file that a reference names may stand beside the configuration.
        Ok(config.fresh())
    }

    /// Reads a text; `origin` names it in messages.
    ///
    /// # Errors
    /// When it is no TOML, or was written by a newer program.
    pub fn parse(origin: &str, text: &str) -> Result<Self, ConfigError> {
        let (text, notices) = migrate::in_memory(origin, text, MIGRATIONS)?;
        let mut config = Self::of(origin, &text, read::read(origin, &text)?);
        config.notices = notices;
        Ok(config)
    }

    /// Reads a text that stands in a file, or will: files that references name may lie beside it.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_beside(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let mut config = Self::parse(&path.display().to_string(), text)?;
        config.path = Some(path.to_owned());
        Ok(config.fresh())
    }

    /// With another table of a plugin than the one that is written. Its keys that are the host's stay as they are.
    #[must_use]
    pub fn with_plugin(&self, id: &str, table: Map<String, Value>) -> Self {
        let mut config = self.clone();
        let plugins = config.written.root.entry("plugins").or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(plugins) = plugins {
            let own = plugins.entry(id).or_insert_with(|| Value::Object(Map::new()));
            let mut new = table;
            for (key, value) in own.as_object().into_iter().flatten().filter(|(key, _)| bespoke_manifest::HOST_KEYS.contains(&key.as_str()))
            {
                new.entry(key).or_insert_with(|| value.clone());
            }
            *own = Value::Object(new);
        }
        let within = format!("plugins.{id}.");
        config.written.places.retain(|key, _| !key.starts_with(&within));
        config.fresh()
    }

    /// With these variables instead of the process's own.
    #[must_use]
    pub fn with_env(mut self, env: impl IntoIterator<Item = (String, String)>) -> Self {
        self.env = env.into_iter().collect();
        self.fresh()
    }

    /// The file, when there is one.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The text as it stands in the file. It holds references and perhaps literal secrets: show it through the
    /// [`redactor`](Self::redactor).
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What a person should know about how the file was read, such as a new layout.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// The value of a dotted key as it is in use: of the environment, else of the file; references are not filled in.
    pub fn get(&self, key: &str) -> Option<Value> {
        if key.is_empty() { Some(Value::Object(self.root.clone())) } else { self.value_at(key).cloned() }
    }

    /// Where the value of a dotted key comes from.
    pub fn origin(&self, key: &str) -> Origin {
        match self.places.get(key) {
            Some(Place::File(Position { line, column })) => Origin::File(format!("{}:{line}:{column}", self.origin)),
            Some(Place::Variable(name)) => Origin::Environment(name.clone()),
            None => Origin::Default,
        }
    }

    /// Keys that variables of the environment set, with the names of the variables, in the order of the keys.
    pub fn overrides(&self) -> Vec<(&str, &str)> {
        let variables = self.places.iter().filter_map(|(key, place)| match place {
            Place::Variable(name) => Some((key.as_str(), name.as_str())),
            Place::File(_) => None,
        });
        variables.filter(|(key, _)| self.value_at(key).is_some_and(|value| !value.is_object())).collect()
    }

    /// Knows every value that came through a reference or stands where secrets stand, so that none of them is shown. It goes on
    /// learning: all clones know what is looked up later.
    pub fn redactor(&self) -> Redactor {
        self.redactor.clone()
    }

    fn of(origin: &str, text: &str, written: read::Written) -> Self {
        Config {
            origin: origin.to_owned(),
            path: None,
            text: text.to_owned(),
            written,
            root: Map::new(),
            places: BTreeMap::new(),
            faults: Vec::new(),
            env: environment(),
            references: References::default(),
            redactor: Redactor::default(),
            notices: Vec::new(),
        }
        .fresh()
    }

    /// Puts file and environment together anew.
    fn fresh(mut self) -> Self {
        (self.root, self.places) = (self.written.root.clone(), self.written.places.clone());
        self.faults = self.faults_of_keys();
        self.references.forget();
        self.redactor = Redactor::default();
        self.override_from_environment();
        self.learn_references();
        self
    }

    fn value_at(&self, key: &str) -> Option<&Value> {
        value_in(&self.root, key)
    }

    /// Of a key, else of the nearest table around it: a key that is missing stands nowhere.
    fn place(&self, key: &str) -> Option<&Place> {
        let mut around = key;
        loop {
            match (self.places.get(around), around.rfind(['.', '['])) {
                (Some(place), _) => return Some(place),
                (None, Some(up)) => around = &around[..up],
                (None, None) => return None,
            }
        }
    }
}

fn value_in<'v>(root: &'v Map<String, Value>, key: &str) -> Option<&'v Value> {
    let mut parts = key.split('.').filter(|part| !part.is_empty());
    let first = root.get(parts.next()?)?;
    parts.try_fold(first, |value, part| value.get(part))
}

fn join(above: &str, key: &str) -> String {
    if above.is_empty() { key.to_owned() } else { format!("{above}.{key}") }
}

/// The process's own variables. One that is no Unicode cannot stand in a TOML text either.
fn environment() -> BTreeMap<String, String> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect()
}
