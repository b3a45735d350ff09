//! Secrets by reference: `${NAME}` of the environment, `${file:/path}`, and `${scheme:name}` of a store that the program brings,
//! such as `${keyring:service/name}`. A reference stands in a string; it is filled in where a value is handed out, never in what
//! is shown, and the redactor learns every value that came through one.

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::Read,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use bespoke_plugin_api::Error;
use serde_json::{Map, Value};

use super::{Config, error::Problem, join, read::Place, value_in};

/// Most bytes of a file that a reference names.
const LONGEST_FILE: u64 = 64 * 1024;

/// Variables that people put into paths and that are no secrets; without them in view, no path could be read.
const PLAIN_VARIABLES: &[&str] = &[
    "APPDATA",
    "HOME",
    "HOSTNAME",
    "LANG",
    "LOCALAPPDATA",
    "LOGNAME",
    "PATH",
    "PWD",
    "SHELL",
    "TMPDIR",
    "TZ",
    "USER",
    "USERNAME",
    "USERPROFILE",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
];

/// A store of secrets that the host does not know, such as the keyring of the operating system.
pub trait SecretSource: Send + Sync {
    /// What stands before the colon of a reference: `keyring` for `${keyring:service/name}`.
    fn scheme(&self) -> &str;

    /// The secret of a name; `None` when the store has none. May block, on a person too: it is asked when the value is first needed,
    /// and its answer is kept; after an error it is asked again.
    ///
    /// # Errors
    /// Why the store cannot be asked, in words for a person and without the secret.
    fn find(&self, name: &str) -> Result<Option<String>, String>;

    /// The command that stores a secret of this name.
    fn store_with(&self, name: &str) -> Option<String>;
}

/// What references of one configuration stand for: each is asked for until there is an answer.
#[derive(Clone, Default)]
pub(super) struct References {
    sources: Vec<Arc<dyn SecretSource>>,
    known: Arc<Mutex<BTreeMap<String, Result<String, Unmet>>>>,
}

/// Why a reference stands for nothing, and what to do.
#[derive(Debug, Clone)]
struct Unmet {
    message: String,
    fix: String,
}

impl fmt::Debug for References {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("References").finish_non_exhaustive()
    }
}

impl Config {
    /// With a store that references may name.
    #[must_use]
    pub fn with_source(mut self, source: Arc<dyn SecretSource>) -> Self {
        self.references.sources.push(source);
        self.references.forget();
        self
    }

    /// A plugin's secret: `[plugins.ID.secrets]`, else a variable of the environment, `ID_NAME` in capitals.
    ///
    /// # Errors
    /// `INVALID_PARAMS` when it is nowhere, or its reference stands for nothing; with the place, and what to do. When it is nowhere,
    /// its data is `{"unset": NAME}`.
    pub fn secret(&self, plugin: &str, name: &str) -> Result<String, Error> {
        if let Some(configured) = self.configured_secret(plugin, name) {
            return configured.map_err(|mut problem| {
                let fix = problem.fix.take().unwrap_or_default();
                Error::invalid_params(problem.to_string()).with_help(fix)
            });
        }
        let variable = Self::secret_variable(plugin, name);
        let value = self.env.get(&variable).filter(|value| !value.is_empty()).cloned();
        value.inspect(|value| self.redactor.learn(value.clone())).ok_or_else(|| {
            Error::invalid_params(format!("the secret `{name}` is not set: it is read from {variable}"))
                .with_help(self.secret_fix(plugin, name))
                .with_data(serde_json::json!({ "unset": name }))
        })
    }

    /// The variable of the environment that may hold a plugin's secret: `token` of `telegram` is `TELEGRAM_TOKEN`.
    pub fn secret_variable(plugin: &str, secret: &str) -> String {
        format!("{plugin}_{secret}").to_uppercase().replace('-', "_")
    }

    /// What `[plugins.ID.secrets]` says about a secret; `None` when it says nothing.
    fn configured_secret(&self, plugin: &str, name: &str) -> Option<Result<String, Problem>> {
        let key = format!("plugins.{plugin}.secrets.{name}");
        let Value::String(text) = self.value_at(&key)? else {
            return Some(Err(self.problem(&key, "must be a string", Some(self.secret_fix(plugin, name)))));
        };
        let mut problems = Vec::new();
        let secret = self.fill(text, &key, &mut problems);
        Some(match problems.into_iter().next() {
            Some(problem) => Err(problem),
            None if secret.is_empty() => Err(self.problem(&key, "is empty", Some(self.secret_fix(plugin, name)))),
            None => {
                self.redactor.learn(secret.clone());
                Ok(secret)
            }
        })
    }

    /// The variable that may hold a plugin's secret is no reference, but its value is as secret.
    pub(crate) fn learn_secret_variable(&self, plugin: &str, name: &str) {
        if let Some(value) = self.env.get(&Self::secret_variable(plugin, name)) {
            self.redactor.learn(value.clone());
        }
    }

    fn secret_fix(&self, plugin: &str, name: &str) -> String {
        let variable = Self::secret_variable(plugin, name);
        format!("export {variable}=…, or bespoke config set-secret plugins.{plugin}.secrets.{name} < FILE")
    }

    /// What is wrong with the table of a plugin's secrets, given those that its manifest asks for.
    pub(crate) fn check_secrets(&self, plugin: &str, declared: &[String]) -> Vec<Problem> {
        let key = format!("plugins.{plugin}.secrets");
        let table = match self.value_at(&key) {
            None => return Vec::new(),
            Some(Value::Object(table)) => table,
            Some(_) => return vec![self.problem(&key, "must be a table", Some(format!("write [{key}] above the secrets")))],
        };
        let known: Vec<&str> = declared.iter().map(String::as_str).collect();
        let mut problems = Vec::new();
        for name in table.keys() {
            let at = join(&key, name);
            if !known.contains(&name.as_str()) {
                let mut problem = self.unknown(&at, name, &known);
                problem.message = "is no secret that the plugin asks for".into();
                problem.fix = if known.is_empty() { Some("remove it: the plugin asks for no secret".into()) } else { problem.fix };
                problems.push(problem);
            } else {
                problems.extend(self.configured_secret(plugin, name).and_then(Result::err));
            }
        }
        problems
    }

    /// Learns the values of a table that its schema marks as secret, by `"x-secret": true` or `"format": "password"`, so that they
    /// are not shown either.
    pub fn learn_secrets(&self, table: &str, schema: &Value) {
        self.each_secret(table, schema, &mut |_, text| self.learn_literal(text));
        // What a variable of the environment hides still stands in the text of the file.
        if let Some(value) = value_in(&self.written.root, table) {
            walk_secrets(schema, schema, value, table, 0, &mut |_, text| self.learn_literal(text));
        }
    }

    /// Secrets that are typed into the file itself, where its schema says that they are secrets, and the command that moves each
    /// out.
    pub fn literal_secrets(&self, table: &str, schema: &Value) -> Vec<Problem> {
        let mut warnings = Vec::new();
        self.each_secret(table, schema, &mut |key, text| warnings.extend(self.warn_of_literal(key, text)));
        if let Some(Value::Object(secrets)) = self.value_at(&join(table, "secrets")).filter(|_| table.starts_with("plugins.")) {
            let key = join(table, "secrets");
            let literal = secrets.iter().filter_map(|(name, v)| Some((join(&key, name), v.as_str()?)));
            warnings.extend(literal.filter_map(|(key, text)| self.warn_of_literal(&key, text)));
        }
        warnings
    }

    fn warn_of_literal(&self, key: &str, text: &str) -> Option<Problem> {
        let in_file = matches!(self.place(key), Some(Place::File(_)));
        (in_file && !text.is_empty() && is_literal(text)).then(|| {
            let fix = match key.contains('[') {
                true => "write it into a file that only you can read, and '${file:/that/file}' here".to_owned(),
                false => format!("move it out: bespoke config set-secret {key} < FILE"),
            };
            self.problem(key, "a secret is typed into the configuration", Some(fix))
        })
    }

    /// What a reference stands for is learned where it is looked up; the reference itself is no secret.
    fn learn_literal(&self, text: &str) {
        if is_literal(text) {
            self.redactor.learn(text.to_owned());
        }
    }

    fn each_secret(&self, table: &str, schema: &Value, found: &mut dyn FnMut(&str, &str)) {
        if let Some(value) = self.value_at(table) {
            walk_secrets(schema, schema, value, table, 0, found);
        }
    }

    /// Files that references name and others can read.
    pub fn open_secret_files(&self) -> Vec<Problem> {
        let mut warnings = Vec::new();
        each_string(&Value::Object(self.root.clone()), "", &mut |key, text| {
            for piece in pieces(text) {
                if let Piece::Reference(reference) = piece
                    && let Some(path) = reference.strip_prefix("file:").and_then(|path| self.path_of(path))
                    && others_read(&path)
                {
                    let path = path.display();
                    warnings.push(self.problem(key, format!("others can read {path}"), Some(format!("chmod 600 {path}"))));
                }
            }
        });
        super::ConfigError::from(warnings).problems
    }

    /// Learns everything that is secret and can be known without asking a store: values behind variables and files, and what stands
    /// in tables of secrets.
    pub(super) fn learn_references(&self) {
        each_string(&Value::Object(self.written.root.clone()), "", &mut |key, text| {
            if is_secret_key(key) {
                self.learn_literal(text);
            }
        });
        each_string(&Value::Object(self.root.clone()), "", &mut |key, text| {
            if is_secret_key(key) {
                self.learn_literal(text);
            }
            for piece in pieces(text) {
                if let Piece::Reference(reference) = piece
                    && self.references.source_of(reference).is_none()
                {
                    // What it stands for is told where it is needed.
                    let _ = self.look_up(reference);
                }
            }
        });
    }

    /// Fills references in strings; `$${` stands for a literal `${`. What cannot be filled in is a problem, and stays as it is.
    pub(super) fn filled(&self, value: Value, key: &str, problems: &mut Vec<Problem>) -> Value {
        match value {
            Value::String(text) => Value::String(self.fill(&text, key, problems)),
            Value::Array(items) => {
                items.into_iter().enumerate().map(|(n, item)| self.filled(item, &format!("{key}[{n}]"), problems)).collect()
            }
            Value::Object(fields) => {
                let filled: Map<_, _> =
                    fields.into_iter().map(|(name, v)| (name.clone(), self.filled(v, &join(key, &name), problems))).collect();
                Value::Object(filled)
            }
            other => other,
        }
    }

    fn fill(&self, text: &str, key: &str, problems: &mut Vec<Problem>) -> String {
        let mut out = String::with_capacity(text.len());
        for piece in pieces(text) {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Reference(reference) => match self.look_up(reference) {
                    Ok(value) => out.push_str(&value),
                    Err(Unmet { message, fix }) => problems.push(self.problem(key, message, Some(fix))),
                },
                Piece::Unclosed => {
                    problems.push(self.problem(key, "has a `${` without a `}`", Some("write `$${` for a literal `${`".into())));
                }
            }
        }
        out
    }

    /// What a reference stands for. No lock is held while a store is asked. That a store could not be asked is not kept: a keyring
    /// that was locked may be open the next time.
    fn look_up(&self, reference: &str) -> Result<String, Unmet> {
        if let Some(known) = self.references.known.lock().unwrap_or_else(PoisonError::into_inner).get(reference) {
            return known.clone();
        }
        let (value, kept) = match self.find(reference) {
            Ok(found) => (found, true),
            Err(unmet) => (Err(unmet), false),
        };
        if let Ok(value) = &value
            && !PLAIN_VARIABLES.contains(&reference)
        {
            self.redactor.learn(value.clone());
        }
        if kept {
            self.references.known.lock().unwrap_or_else(PoisonError::into_inner).insert(reference.to_owned(), value.clone());
        }
        value
    }

    /// What a reference stands for, or why for nothing.
    ///
    /// # Errors
    /// When the store could not be asked.
    fn find(&self, reference: &str) -> Result<Result<String, Unmet>, Unmet> {
        let unmet = |message: String, fix: String| Unmet { message, fix };
        if let Some((source, name)) = self.references.source_of(reference).filter(|_| !reference.starts_with("file:")) {
            let scheme = source.scheme();
            return match source.find(name) {
                Ok(Some(value)) => Ok(Ok(value)),
                Ok(None) => {
                    let fix = source.store_with(name).unwrap_or_else(|| format!("store it under {name}"));
                    Ok(Err(unmet(format!("refers to `{name}`, which the {scheme} does not hold"), fix)))
                }
                Err(why) => Err(unmet(
                    format!("the {scheme} cannot be asked for `{name}`: {why}"),
                    "write ${NAME} or ${file:/a/path} instead".into(),
                )),
            };
        }
        Ok(self.find_here(reference))
    }

    /// As [`find`](Self::find), where no store of the program's is asked.
    fn find_here(&self, reference: &str) -> Result<String, Unmet> {
        let unmet = |message: String, fix: String| Unmet { message, fix };
        if let Some(path) = reference.strip_prefix("file:") {
            let path = self
                .path_of(path)
                .ok_or_else(|| unmet(format!("`${{{reference}}}` names no file"), "write ${file:/a/path} or ${file:~/a/path}".into()))?;
            return read_file(&path).map_err(|(why, fix)| unmet(format!("refers to the file {}, which {why}", path.display()), fix));
        }
        if reference.starts_with("keyring:") {
            let fix = "build with the feature keyring, or write ${NAME} or ${file:/a/path} instead";
            return Err(unmet(format!("`${{{reference}}}`: this program reads no keyring"), fix.into()));
        }
        match self.env.get(reference) {
            Some(value) => Ok(value.clone()),
            None if reference.is_empty() || reference.contains(|c: char| !c.is_ascii_alphanumeric() && c != '_') => {
                let fix = "write ${NAME} with letters, digits and `_`, ${file:/a/path}, or `$${` for a literal `${`";
                Err(unmet(format!("`${{{reference}}}` names no variable"), fix.into()))
            }
            None => Err(unmet(format!("refers to ${{{reference}}}, which is not set"), format!("export {reference}=…"))),
        }
    }

    /// A file beside the configuration, or below the home folder, or as it is written.
    pub(super) fn path_of(&self, written: &str) -> Option<PathBuf> {
        if written.is_empty() {
            return None;
        }
        if let Some(below) = written.strip_prefix("~/") {
            let home = self.env.get("HOME").or_else(|| self.env.get("USERPROFILE"))?;
            return Some(Path::new(home).join(below));
        }
        let folder = self.path.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
        Some(folder.join(written))
    }
}

impl References {
    /// Files and variables may have changed.
    pub(super) fn forget(&mut self) {
        self.known = Arc::default();
    }

    fn source_of<'r>(&self, reference: &'r str) -> Option<(&Arc<dyn SecretSource>, &'r str)> {
        let (scheme, name) = reference.split_once(':')?;
        Some((self.sources.iter().find(|source| source.scheme() == scheme)?, name))
    }
}

/// Whether a key stands in the table of a plugin's secrets.
fn is_secret_key(key: &str) -> bool {
    let mut parts = key.split('.');
    parts.next() == Some("plugins") && parts.nth(1) == Some("secrets")
}

/// The text of a file of a secret, without the line end that editors put there; else why not, and what to do.
fn read_file(path: &Path) -> Result<String, (String, String)> {
    let fix = |text: &str| text.to_owned();
    let shown = path.display();
    let metadata = fs::metadata(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => ("is not there".to_owned(), format!("write the secret into {shown}")),
        _ => (format!("cannot be read: {e}"), format!("ls -l {shown}")),
    })?;
    // A device or a pipe could make the program wait for ever.
    if !metadata.is_file() {
        return Err(("is no plain file".into(), fix("name the file that holds the secret")));
    }
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(LONGEST_FILE + 1).read_to_end(&mut bytes));
    read.map_err(|e| (format!("cannot be read: {e}"), format!("ls -l {shown}")))?;
    if bytes.len() as u64 > LONGEST_FILE {
        return Err((format!("is longer than {} KiB", LONGEST_FILE / 1024), fix("name a file that holds the secret alone")));
    }
    let mut text = String::from_utf8(bytes).map_err(|_| ("is no UTF-8".to_owned(), fix("name a text file that holds the secret alone")))?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() { Err(("is empty".into(), format!("write the secret into {shown}"))) } else { Ok(text) }
}

#[cfg(unix)]
fn others_read(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn others_read(_: &Path) -> bool {
    false
}

/// A part of a string.
pub(super) enum Piece<'t> {
    Text(&'t str),
    /// What stands between `${` and `}`.
    Reference(&'t str),
    /// A `${` without a `}`, with which the text ends.
    Unclosed,
}

pub(super) fn pieces(text: &str) -> Vec<Piece<'_>> {
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

/// Whether a string holds no reference.
fn is_literal(text: &str) -> bool {
    pieces(text).iter().all(|piece| matches!(piece, Piece::Text(_)))
}

/// Every string with its key.
fn each_string(value: &Value, key: &str, found: &mut dyn FnMut(&str, &str)) {
    match value {
        Value::String(text) => found(key, text),
        Value::Array(items) => items.iter().enumerate().for_each(|(n, item)| each_string(item, &format!("{key}[{n}]"), found)),
        Value::Object(fields) => fields.iter().for_each(|(name, field)| each_string(field, &join(key, name), found)),
        _ => {}
    }
}

/// How deep schemas are followed; a schema may refer to itself.
const DEEPEST: usize = 64;

fn walk_secrets(root: &Value, schema: &Value, value: &Value, key: &str, depth: usize, found: &mut dyn FnMut(&str, &str)) {
    if depth > DEEPEST {
        return;
    }
    let target = schema.get("$ref").and_then(Value::as_str).and_then(|target| root.pointer(target.strip_prefix('#')?));
    if let Some(target) = target {
        walk_secrets(root, target, value, key, depth + 1, found);
    }
    let marked = schema.get("x-secret") == Some(&Value::Bool(true)) || schema.get("format").and_then(Value::as_str) == Some("password");
    if marked {
        return each_string(value, key, found);
    }
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let of_field = schema.get("properties").and_then(|p| p.get(name)).or_else(|| schema.get("additionalProperties"));
                if let Some(schema) = of_field {
                    walk_secrets(root, schema, field, &join(key, name), depth + 1, found);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                for (n, item) in items.iter().enumerate() {
                    walk_secrets(root, schema, item, &format!("{key}[{n}]"), depth + 1, found);
                }
            }
        }
        _ => {}
    }
    for part in ["anyOf", "oneOf", "allOf"].iter().filter_map(|k| schema.get(k)).filter_map(Value::as_array).flatten() {
        walk_secrets(root, part, value, key, depth + 1, found);
    }
}
