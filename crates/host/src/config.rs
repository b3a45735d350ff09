//! One `bespoke.toml`: read with positions, `${ENV}` filled in where it is used, handed out section by section and plugin by
//! plugin. What a key means is known by whoever owns the section, not here.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use bespoke_manifest::closest;
use bespoke_plugin_api::Error;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use toml_edit::{Document, DocumentMut, Item, TableLike};

use crate::redact::Redactor;

/// The version of the configuration's layout that this program writes.
pub const CONFIG_VERSION: u64 = 1;

/// The longest limit that can be configured. Far more could not be added to a clock.
const LONGEST_MS: u64 = 24 * 60 * 60 * 1000;

/// A configuration as it stands in a file, or the empty one.
#[derive(Clone)]
pub struct Config {
    origin: String,
    path: Option<PathBuf>,
    text: String,
    /// As written: references are not filled in.
    root: Map<String, Value>,
    positions: BTreeMap<String, Position>,
    env: BTreeMap<String, String>,
}

/// A place in the text, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    line: usize,
    column: usize,
}

/// The scalars of `[plugins]`, which hold for all plugins.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct PluginDefaults {
    /// Whether what a plugin needs may be fetched without a question.
    pub auto_install: bool,
    /// Most time a plugin's start may take, in milliseconds.
    pub start_timeout_ms: u64,
    /// Most time that calls in flight may go on when a plugin stops, and again that its shutdown may take, in milliseconds.
    pub stop_timeout_ms: u64,
    /// Most time a request may take when its caller sets no deadline, in milliseconds.
    pub call_timeout_ms: u64,
    /// Threads that one request of a plugin may use, at least 1.
    pub cpu_budget: u16,
}

impl Default for PluginDefaults {
    fn default() -> Self {
        PluginDefaults { auto_install: false, start_timeout_ms: 10_000, stop_timeout_ms: 5_000, call_timeout_ms: 120_000, cpu_budget: 1 }
    }
}

/// What is wrong with a configuration: every problem with file, line, column and key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The problems, in the order of the file.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// File, line and column, such as `bespoke.toml:3:1`; only the file where no key is to blame.
    pub place: String,
    /// Dotted path of the key; empty for the file as a whole.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub fix: Option<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.problems.iter().enumerate() {
            let Problem { place, key, message, fix } = problem;
            let newline = if n == 0 { "" } else { "\n" };
            let key = if key.is_empty() { String::new() } else { format!("{key}: ") };
            let fix = fix.as_ref().map_or(String::new(), |fix| format!("; {fix}"));
            write!(f, "{newline}{place}: {key}{message}{fix}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> Self {
        ConfigError { problems: vec![problem] }
    }
}

impl fmt::Debug for Config {
    /// Without the values: the environment holds secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("origin", &self.origin).field("keys", &self.positions.len()).finish_non_exhaustive()
    }
}

impl Config {
    /// The configuration of a program that has no file.
    pub fn empty() -> Self {
        Config {
            origin: "(no bespoke.toml)".into(),
            path: None,
            text: String::new(),
            root: Map::new(),
            positions: BTreeMap::new(),
            env: environment(),
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, is no TOML, or was written by a newer program.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let origin = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|e| Problem {
            place: origin.clone(),
            key: String::new(),
            message: format!("cannot be read: {e}"),
            fix: None,
        })?;
        Ok(Config { path: Some(path.to_owned()), ..Self::parse(&origin, &text)? })
    }

    /// Reads a text; `origin` names it in messages.
    ///
    /// # Errors
    /// When it is no TOML, or was written by a newer program.
    pub fn parse(origin: &str, text: &str) -> Result<Self, ConfigError> {
        let lines = Lines::new(text);
        let document = Document::parse(text).map_err(|e| Problem {
            place: e.span().map_or(origin.to_owned(), |span| place(origin, Some(lines.position(span.start)))),
            key: String::new(),
            message: format!("is no TOML: {}", e.message().lines().next().unwrap_or_default()),
            fix: None,
        })?;
        let mut positions = BTreeMap::new();
        let root = table(document.as_table(), "", &lines, &mut positions);
        let config = Config { origin: origin.to_owned(), path: None, text: text.to_owned(), root, positions, env: environment() };
        match config.root.get("config_version") {
            None => {}
            Some(Value::Number(n)) if n.as_u64().is_some_and(|n| (1..=CONFIG_VERSION).contains(&n)) => {}
            Some(other) => {
                let message = format!("{other} is no version that this program knows; it writes {CONFIG_VERSION}");
                return Err(config
                    .problem("config_version", message, Some("use a newer program, or start with `config_version = 1`".into()))
                    .into());
            }
        }
        Ok(config)
    }

    /// With these variables instead of the process's own.
    #[must_use]
    pub fn with_env(mut self, env: impl IntoIterator<Item = (String, String)>) -> Self {
        self.env = env.into_iter().collect();
        self
    }

    /// The file, when there is one.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The text as it stands in the file. It holds references, not secrets.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Checks that there are no other sections than these; `config_version` and `plugins` are always known.
    ///
    /// # Errors
    /// One problem per unknown section.
    pub fn check_sections(&self, known: &[&str]) -> Result<(), ConfigError> {
        let known: Vec<&str> = known.iter().copied().chain(["config_version", "plugins"]).collect();
        let unknown = self.root.keys().filter(|key| !known.contains(&key.as_str()));
        let problems: Vec<_> = unknown.map(|key| self.unknown(key, key, &known)).collect();
        if problems.is_empty() { Ok(()) } else { Err(ConfigError { problems }) }
    }

    /// A section as a type, with its defaults filled in.
    ///
    /// # Errors
    /// With the place of the offending key.
    pub fn section<T: DeserializeOwned>(&self, name: &str) -> Result<T, ConfigError> {
        let value = self.root.get(name).cloned().unwrap_or_else(|| json!({}));
        if !value.is_object() {
            // serde would take an array for the fields in order.
            return Err(self.problem(name, "must be a table", Some(format!("write [{name}] above its keys"))).into());
        }
        let value = self.filled(value, name)?;
        serde_path_to_error::deserialize(&value).map_err(|e| {
            let path = e.path().to_string();
            self.explain(name, &path, &e.into_inner().to_string()).into()
        })
    }

    /// What holds for all plugins.
    ///
    /// # Errors
    /// With the place of the offending key.
    pub fn plugin_defaults(&self) -> Result<PluginDefaults, ConfigError> {
        let at_hand = self.root.get("plugins");
        if at_hand.is_some_and(|plugins| !plugins.is_object()) {
            return Err(self.problem("plugins", "must be a table", Some("write [plugins] above its keys".into())).into());
        }
        if let Some((id, _)) = self.plugins().find(|(_, v)| v.is_array()) {
            let fix = format!("write [plugins.{id}] once, with single brackets");
            return Err(self.problem(&format!("plugins.{id}"), "must be a table, not an array", Some(fix)).into());
        }
        let scalars: Map<_, _> = self.plugins().filter(|(_, v)| !v.is_object()).map(|(k, v)| (k.clone(), v.clone())).collect();
        let value = self.filled(Value::Object(scalars), "plugins")?;
        let defaults: PluginDefaults = serde_path_to_error::deserialize(&value).map_err(|e| {
            let path = e.path().to_string();
            ConfigError::from(self.explain("plugins", &path, &e.into_inner().to_string()))
        })?;
        let limits = [
            ("start_timeout_ms", defaults.start_timeout_ms),
            ("stop_timeout_ms", defaults.stop_timeout_ms),
            ("call_timeout_ms", defaults.call_timeout_ms),
        ];
        match limits.into_iter().find(|(_, ms)| !(1..=LONGEST_MS).contains(ms)) {
            Some((key, ms)) => {
                let fix = format!("write milliseconds from 1 to {LONGEST_MS}, which is a day");
                Err(self.problem(&format!("plugins.{key}"), format!("{ms} is no limit"), Some(fix)).into())
            }
            None => Ok(defaults),
        }
    }

    /// Ids of the plugins that have a table, in the order of the file.
    pub fn plugin_ids(&self) -> Vec<String> {
        self.plugins().filter(|(_, v)| v.is_object()).map(|(k, _)| k.clone()).collect()
    }

    /// Whether a plugin is switched on. It is, unless its table says `enabled = false`.
    pub fn is_enabled(&self, id: &str) -> bool {
        self.plugin_table(id).and_then(|t| t.get("enabled")) != Some(&Value::Bool(false))
    }

    /// The configuration of a plugin, without the keys that are the host's.
    ///
    /// # Errors
    /// When a reference cannot be filled in.
    pub fn plugin(&self, id: &str) -> Result<Value, ConfigError> {
        let mut own = self.plugin_table(id).cloned().unwrap_or_default();
        match own.shift_remove("enabled") {
            None | Some(Value::Bool(_)) => {}
            Some(_) => return Err(self.problem(&format!("plugins.{id}.enabled"), "must be true or false", None).into()),
        }
        self.filled(Value::Object(own), &format!("plugins.{id}"))
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

    /// The value of a dotted key as it is written, references and all.
    pub fn get(&self, key: &str) -> Option<Value> {
        let mut value = Value::Object(self.root.clone());
        for part in key.split('.').filter(|part| !part.is_empty()) {
            value = value.get_mut(part)?.take();
        }
        Some(value)
    }

    /// The text with one key set. Comments and order stay; `value` is TOML, or a bare word that is taken as a string.
    ///
    /// # Errors
    /// When the key is empty or stands below something that is no table.
    pub fn set(&self, key: &str, value: &str) -> Result<String, ConfigError> {
        let mut document: DocumentMut =
            self.text.parse().map_err(|e: toml_edit::TomlError| self.problem("", format!("is no TOML: {}", e.message()), None))?;
        let parts: Vec<&str> = key.split('.').collect();
        let Some((last, above)) = parts.split_last().filter(|_| parts.iter().all(|part| !part.is_empty())) else {
            return Err(self.problem(key, "is no key", Some("write it as section.key or plugins.id.key".into())).into());
        };
        let mut table: &mut dyn TableLike = document.as_table_mut();
        for (depth, part) in above.iter().enumerate() {
            let implicit = || {
                let mut new = toml_edit::Table::new();
                new.set_implicit(true);
                Item::Table(new)
            };
            table = table
                .entry(part)
                .or_insert_with(implicit)
                .as_table_like_mut()
                .ok_or_else(|| self.problem(&above[..=depth].join("."), format!("is no table, so `{key}` cannot be set"), None))?;
        }
        let value = value.parse::<toml_edit::Value>().unwrap_or_else(|_| value.into());
        if !value.is_inline_table() && table.get(last).is_some_and(|item| item.is_table_like() || item.is_array_of_tables()) {
            return Err(self.problem(key, "is a table", Some(format!("set one of its keys, such as {key}.NAME"))).into());
        }
        match table.get_mut(last).and_then(Item::as_value_mut) {
            // The old value's decoration holds the comment on its line.
            Some(old) => {
                let decor = old.decor().clone();
                *old = value;
                *old.decor_mut() = decor;
            }
            None => _ = table.insert(last, Item::Value(value)),
        }
        Ok(document.to_string())
    }

    /// This configuration with one key set, in memory only.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn with(&self, key: &str, value: &str) -> Result<Self, ConfigError> {
        let new = Self::parse(&self.origin, &self.set(key, value)?)?;
        Ok(Config { path: self.path.clone(), env: self.env.clone(), ..new })
    }

    /// Knows every value that came through a reference, so that none of them is shown.
    pub fn redactor(&self) -> Redactor {
        Redactor::new(self.referenced())
    }

    /// The values behind all references.
    pub(crate) fn referenced(&self) -> Vec<String> {
        let mut names = Vec::new();
        for value in self.root.values() {
            references(value, &mut names);
        }
        names.iter().filter_map(|name| self.env.get(name)).cloned().collect()
    }

    /// A variable of the environment.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.env.get(name).map(String::as_str)
    }

    fn plugins(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.root.get("plugins").and_then(Value::as_object).into_iter().flatten()
    }

    fn plugin_table(&self, id: &str) -> Option<&Map<String, Value>> {
        self.root.get("plugins")?.get(id)?.as_object()
    }

    /// Fills `${NAME}` in strings; `$${` stands for a literal `${`.
    fn filled(&self, value: Value, key: &str) -> Result<Value, ConfigError> {
        Ok(match value {
            Value::String(text) => Value::String(self.fill(&text, key)?),
            Value::Array(items) => {
                let filled = items.into_iter().enumerate().map(|(n, item)| self.filled(item, &format!("{key}[{n}]")));
                Value::Array(filled.collect::<Result<_, _>>()?)
            }
            Value::Object(fields) => {
                let filled = fields.into_iter().map(|(name, v)| Ok((name.clone(), self.filled(v, &join(key, &name))?)));
                Value::Object(filled.collect::<Result<_, ConfigError>>()?)
            }
            other => other,
        })
    }

    fn fill(&self, text: &str, key: &str) -> Result<String, ConfigError> {
        let mut out = String::with_capacity(text.len());
        for piece in pieces(text) {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Reference(name) => match self.env.get(name) {
                    Some(value) => out.push_str(value),
                    None if name.is_empty() || name.contains(|c: char| !c.is_ascii_alphanumeric() && c != '_') => {
                        let fix = "write ${NAME} with letters, digits and `_`, or `$${` for a literal `${`";
                        return Err(self.problem(key, format!("`${{{name}}}` names no variable"), Some(fix.into())).into());
                    }
                    None => {
                        let fix = format!("export {name}=…");
                        return Err(self.problem(key, format!("refers to ${{{name}}}, which is not set"), Some(fix)).into());
                    }
                },
                Piece::Unclosed => {
                    return Err(self.problem(key, "has a `${` without a `}`", Some("write `$${` for a literal `${`".into())).into());
                }
            }
        }
        Ok(out)
    }

    /// A serde message about a key, as a sentence for a person.
    fn explain(&self, section: &str, path: &str, message: &str) -> Problem {
        let key = if path.is_empty() || path == "." { section.to_owned() } else { join(section, path) };
        match message.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`')) {
            Some((field, rest)) => {
                let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
                // The path may or may not end with the unknown key, depending on the format that was read.
                let key = if key.ends_with(&format!(".{field}")) { key } else { join(&key, field) };
                self.unknown(&key, field, &known)
            }
            None => self.problem(&key, in_words(&self.redactor().redact(message)), None),
        }
    }

    fn unknown(&self, key: &str, field: &str, known: &[&str]) -> Problem {
        let fix = match closest(field, known.iter().copied()) {
            Some(close) => format!("did you mean `{close}`?"),
            None if known.is_empty() => "remove it: there is nothing to configure".to_owned(),
            None => format!("known keys: {}", known.join(", ")),
        };
        self.problem(key, "unknown key", Some(fix))
    }

    fn problem(&self, key: &str, message: impl Into<String>, fix: Option<String>) -> Problem {
        // A key that is missing stands nowhere; the nearest table around it does.
        let mut around = key;
        let position = loop {
            match (self.positions.get(around), around.rfind(['.', '['])) {
                (Some(position), _) => break Some(*position),
                (None, Some(up)) => around = &around[..up],
                (None, None) => break None,
            }
        };
        Problem { place: place(&self.origin, position), key: key.to_owned(), message: message.into(), fix }
    }
}

fn place(origin: &str, position: Option<Position>) -> String {
    position.map_or(origin.to_owned(), |p| format!("{origin}:{}:{}", p.line, p.column))
}

fn join(above: &str, key: &str) -> String {
    if above.is_empty() { key.to_owned() } else { format!("{above}.{key}") }
}

/// serde speaks of Rust's types; a person wrote TOML.
fn in_words(message: &str) -> String {
    if let Some((found, known)) = message.strip_prefix("unknown variant `").and_then(|rest| rest.split_once('`')) {
        let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
        let fix = match closest(found, known.iter().copied()) {
            Some(close) => format!("did you mean `{close}`?"),
            None => format!("known values: {}", known.join(", ")),
        };
        return format!("`{found}` is not known here; {fix}");
    }
    let unfit = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    let Some((found, expected)) = unfit.and_then(|unfit| unfit.rsplit_once(", expected ")) else { return message.to_owned() };
    let found = match found {
        "map" => "a table",
        "sequence" => "a list",
        other => other,
    };
    let expected = match expected {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" | "u64" | "usize" => "a whole number, not negative",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a table",
        other if other.starts_with("struct ") => "a table",
        other => other,
    };
    format!("{found} does not fit here: expected {expected}")
}

/// The process's own variables. One that is no Unicode cannot stand in a TOML text either.
fn environment() -> BTreeMap<String, String> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect()
}

/// A part of a string.
enum Piece<'t> {
    Text(&'t str),
    /// `${NAME}`.
    Reference(&'t str),
    /// A `${` without a `}`, with which the text ends.
    Unclosed,
}

fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        if before.ends_with('$') {
            // `$${` is a literal `${`: one `$` stands in `before` already.
            pieces.extend([Piece::Text(before), Piece::Text("{")]);
            rest = &from[2..];
            continue;
        }
        pieces.push(Piece::Text(before));
        let Some((name, after)) = from[2..].split_once('}') else {
            pieces.push(Piece::Unclosed);
            return pieces;
        };
        pieces.push(Piece::Reference(name));
        rest = after;
    }
    pieces.push(Piece::Text(rest));
    pieces
}

fn references(value: &Value, names: &mut Vec<String>) {
    match value {
        Value::String(text) => {
            names.extend(
                pieces(text).iter().filter_map(|piece| if let Piece::Reference(name) = piece { Some((*name).to_owned()) } else { None }),
            );
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, names)),
        Value::Object(fields) => fields.values().for_each(|field| references(field, names)),
        _ => {}
    }
}

fn table(table: &dyn TableLike, path: &str, lines: &Lines<'_>, positions: &mut BTreeMap<String, Position>) -> Map<String, Value> {
    let mut map = Map::new();
    for (name, item) in table.iter() {
        let key = join(path, name);
        let span = table.key(name).and_then(toml_edit::Key::span).or_else(|| item.span());
        if let Some(span) = span {
            positions.insert(key.clone(), lines.position(span.start));
        }
        let value = match item {
            Item::None => continue,
            Item::Value(v) => self::value(v, &key, lines, positions),
            Item::Table(t) => Value::Object(self::table(t, &key, lines, positions)),
            Item::ArrayOfTables(tables) => {
                tables.iter().enumerate().map(|(n, t)| Value::Object(self::table(t, &format!("{key}[{n}]"), lines, positions))).collect()
            }
        };
        map.insert(name.to_owned(), value);
    }
    map
}

fn value(value: &toml_edit::Value, key: &str, lines: &Lines<'_>, positions: &mut BTreeMap<String, Position>) -> Value {
    match value {
        toml_edit::Value::String(v) => json!(v.value()),
        toml_edit::Value::Integer(v) => json!(v.value()),
        toml_edit::Value::Float(v) => json!(v.value()),
        toml_edit::Value::Boolean(v) => json!(v.value()),
        toml_edit::Value::Datetime(v) => json!(v.value().to_string()),
        toml_edit::Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(n, item)| {
                let key = format!("{key}[{n}]");
                if let Some(span) = item.span() {
                    positions.insert(key.clone(), lines.position(span.start));
                }
                self::value(item, &key, lines, positions)
            })
            .collect(),
        toml_edit::Value::InlineTable(t) => Value::Object(table(t, key, lines, positions)),
    }
}

/// Turns bytes of a text into lines and columns.
struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn new(text: &'t str) -> Self {
        Lines { text, starts: std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect() }
    }

    fn position(&self, byte: usize) -> Position {
        let line = self.starts.partition_point(|start| *start <= byte).max(1);
        let column = self.text.get(self.starts[line - 1]..byte).map_or(1, |before| before.chars().count() + 1);
        Position { line, column }
    }
}
