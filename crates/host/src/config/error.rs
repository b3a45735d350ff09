//! What is wrong with a configuration, in words for the person who wrote it: where, which key, what, and what to do.

use std::fmt;

use bespoke_manifest::closest;
use serde_json::Value;

use super::{
    Config, join,
    overrides::renamed,
    read::{Place, Position},
};

/// What is wrong with a configuration: every problem with file, line, column and key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The problems, in the order of the file; what the environment did comes last.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// File, line and column, such as `bespoke.toml:3:1`, or the variable of the environment that holds the value; only the file
    /// where no key is to blame.
    pub place: String,
    /// Dotted path of the key; empty for the file as a whole.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub fix: Option<String>,
    pub(super) position: Option<Position>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { place, key, message, fix, .. } = self;
        write!(f, "{place}: ")?;
        if !key.is_empty() {
            write!(f, "{key}: ")?;
        }
        f.write_str(message)?;
        fix.as_ref().map_or(Ok(()), |fix| write!(f, "; {fix}"))
    }
}

impl Problem {
    /// Of a file as a whole.
    pub(super) fn of_file(place: impl Into<String>, message: impl Into<String>, fix: Option<String>) -> Self {
        Problem { place: place.into(), key: String::new(), message: message.into(), fix, position: None }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.problems.iter().enumerate() {
            let newline = if n == 0 { "" } else { "\n" };
            write!(f, "{newline}{problem}")?;
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

impl From<Vec<Problem>> for ConfigError {
    /// In the order of the file, each once.
    fn from(mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| (problem.position.is_none(), problem.position));
        problems.dedup();
        ConfigError { problems }
    }
}

impl ConfigError {
    /// `Ok` when there are no problems.
    pub(super) fn unless_empty<T>(problems: Vec<Problem>, value: T) -> Result<T, ConfigError> {
        if problems.is_empty() { Ok(value) } else { Err(problems.into()) }
    }
}

impl Config {
    /// A problem of a key, in its place.
    pub fn problem(&self, key: &str, message: impl Into<String>, fix: Option<String>) -> Problem {
        let place = self.place(key);
        let position = match place {
            Some(Place::File(position)) => Some(*position),
            _ => None,
        };
        let place = match place {
            Some(Place::File(Position { line, column })) => format!("{}:{line}:{column}", self.origin),
            Some(Place::Variable(name)) => format!("{name} (environment)"),
            None => self.origin.clone(),
        };
        Problem { place, key: key.to_owned(), message: message.into(), fix, position }
    }

    /// A key that nobody knows, and the known one that was probably meant.
    pub(super) fn unknown(&self, key: &str, field: &str, known: &[&str]) -> Problem {
        let close = closest(field, known.iter().copied());
        let fix = match (close, self.place(key)) {
            (Some(close), Some(Place::Variable(name))) => Some(format!("did you mean {}?", renamed(name, key, close))),
            (close, _) => close.map(|close| format!("did you mean `{close}`?")),
        };
        let fix = fix.unwrap_or_else(|| match known {
            [] => "remove it: there is nothing to configure".to_owned(),
            known => format!("known keys: {}", known.join(", ")),
        });
        self.problem(key, "unknown key", Some(fix))
    }

    /// serde's message about a key of a table, as a sentence for a person.
    pub(super) fn explain(&self, table: &str, path: &str, message: &str) -> Problem {
        let key = if path.is_empty() || path == "." { table.to_owned() } else { join(table, path) };
        if let Some((field, rest)) = message.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`')) {
            let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
            // The path may or may not end with the unknown key, depending on the format that was read.
            let key = if key.ends_with(&format!(".{field}")) { key } else { join(&key, field) };
            return self.unknown(&key, field, &known);
        }
        if let Some(field) = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
            return self.problem(&join(&key, field), "is missing", Some("add it".into()));
        }
        let message = in_words(&self.redactor.redact(message));
        let fix = self.quoted(&key, &message);
        self.problem(&key, message, fix)
    }

    /// What a schema says about a value of a table, as a problem of the file.
    pub(super) fn explain_fault(&self, table: &str, values: &Value, schema: &Value, fault: &bespoke_schema::Fault) -> Problem {
        let key = if fault.path.is_empty() { table.to_owned() } else { join(table, &fault.path) };
        if fault.message.starts_with("is unknown") {
            let field = fault.path.rsplit('.').next().unwrap_or_default();
            let known = known_keys(schema, &fault.path);
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            return self.unknown(&key, field, &known);
        }
        if fault.message.starts_with("is missing") {
            return self.problem(&key, fault.message.clone(), Some("add it".into()));
        }
        let value = at(values, &fault.path);
        if fault.message.contains("fits none of")
            && let (Some(words), Some(Value::String(said))) = (known_words(schema, &fault.path), value)
        {
            let close = closest(said, words.iter().map(String::as_str)).map(|close| format!("did you mean \"{close}\"?"));
            let words: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
            let said = Value::from(&**said).to_string();
            let message = self.redactor.redact(&format!("must be one of {}, is {said}", words.join(", "))).into_owned();
            return self.problem(&key, message, close);
        }
        let message = self.without_secret(value, &fault.message);
        let message = match message.strip_prefix("must be ") {
            Some(rest) => {
                let (wanted, is) = rest.rsplit_once(", is ").unwrap_or((rest, ""));
                let wanted = wanted.replace("an object", "a table").replace("an array", "a list").replace("an integer", "a whole number");
                let is = is.replace("an object of", "a table of").replace("an array of", "a list of");
                let is = if is.is_empty() { String::new() } else { format!(", is {is}") };
                format!("must be {}{is}", wanted.replace(" or null", ""))
            }
            None => message,
        };
        // What was probably meant stands behind the last semicolon, like every fix.
        let (message, fix) = match message.rsplit_once("; did you mean ") {
            Some((message, meant)) => (message.to_owned(), Some(format!("did you mean {meant}"))),
            None => (message, None),
        };
        let fix = fix.or_else(|| self.quoted(&key, &message));
        self.problem(&key, message, fix)
    }

    /// A value of the environment is read as TOML: a number is no text there unless it is quoted.
    fn quoted(&self, key: &str, message: &str) -> Option<String> {
        let wants_text = message.starts_with("must be a string") || message.ends_with("expected a string");
        match self.place(key) {
            Some(Place::Variable(name)) if wants_text => Some(format!("quote it twice: export {name}='\"…\"'")),
            _ => None,
        }
    }

    /// A message quotes the value, perhaps cut short, where replacing the whole secret would miss it.
    fn without_secret(&self, value: Option<&Value>, message: &str) -> String {
        let secret = value.is_some_and(|value| {
            let text = value.to_string();
            *self.redactor.redact(&text) != *text
        });
        match (secret, message.split_once(", is ")) {
            (false, _) => self.redactor.redact(message).into_owned(),
            (true, Some((wanted, _))) => format!("{wanted}, is ***"),
            (true, None) => "*** does not fit here".to_owned(),
        }
    }
}

/// The value behind a path such as `steps[2].name`.
fn at<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    path.split(['.', '[']).filter(|part| !part.is_empty()).try_fold(value, |value, part| match part.strip_suffix(']') {
        Some(n) => value.get(n.parse::<usize>().ok()?),
        None => value.get(part),
    })
}

/// Names that a schema knows beside the last part of a path.
fn known_keys(schema: &Value, path: &str) -> Vec<String> {
    let above = &path[..path.rfind(['.', '[']).unwrap_or_default()];
    let node = node(schema, above).unwrap_or_default();
    node.get("properties").and_then(Value::as_object).map(|p| p.keys().cloned().collect()).unwrap_or_default()
}

/// The words that may stand at a path, where a schema lists them one by one, each with a description.
fn known_words(schema: &Value, path: &str) -> Option<Vec<String>> {
    let node = node(schema, path)?;
    let forms = node.get("oneOf").or_else(|| node.get("anyOf"))?.as_array()?.clone();
    let mut words = Vec::new();
    for form in forms {
        let form =
            form.get("$ref").and_then(Value::as_str).and_then(|target| schema.pointer(target.strip_prefix('#')?)).cloned().unwrap_or(form);
        match (form.get("const"), form.get("enum").and_then(Value::as_array), form.get("type").and_then(Value::as_str)) {
            (Some(Value::String(word)), _, _) => words.push(word.clone()),
            (_, Some(list), _) => words.extend(list.iter().filter_map(Value::as_str).map(str::to_owned)),
            (_, _, Some("null")) => {}
            _ => return None,
        }
    }
    Some(words)
}

/// The schema of what stands at a path.
fn node(schema: &Value, path: &str) -> Option<Value> {
    let target = |at: &Value| -> Option<Value> {
        let target = at.get("$ref").and_then(Value::as_str)?;
        schema.pointer(target.strip_prefix('#')?).cloned()
    };
    let mut at = schema.clone();
    for part in path.split(['.', '[']).filter(|part| !part.is_empty()) {
        at = target(&at).unwrap_or(at);
        let next = if part.ends_with(']') { at.get("items") } else { at.get("properties").and_then(|p| p.get(part)) };
        at = next.or_else(|| at.get("additionalProperties"))?.clone();
    }
    Some(target(&at).unwrap_or(at))
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
