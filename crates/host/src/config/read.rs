//! TOML into values, with the place of every key.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use toml_edit::{Document, Item, TableLike, TomlError};

use super::{error::Problem, join};

/// A place in a text, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    File(Position),
    /// A variable of the environment.
    Variable(String),
}

/// What stands in a text.
#[derive(Debug, Clone, Default)]
pub(super) struct Written {
    /// References are not filled in.
    pub(super) root: Map<String, Value>,
    pub(super) places: BTreeMap<String, Place>,
}

/// Reads a text; `origin` names it in messages.
pub(super) fn read(origin: &str, text: &str) -> Result<Written, Problem> {
    let lines = Lines::new(text);
    let document = Document::parse(text).map_err(|error| no_toml(origin, &lines, &error))?;
    let mut places = BTreeMap::new();
    let root = table(document.as_table(), "", &lines, &mut places);
    Ok(Written { root, places })
}

/// The text of bytes; TOML is UTF-8.
pub(super) fn text(origin: &str, bytes: Vec<u8>) -> Result<String, Problem> {
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(&error.as_bytes()[..valid]).into_owned();
        let Position { line, column } = Lines::new(&before).position(valid);
        let byte = error.as_bytes().get(valid).copied().unwrap_or_default();
        let fix = if error.as_bytes().starts_with(&[0xff, 0xfe]) || error.as_bytes().starts_with(&[0xfe, 0xff]) {
            "it looks like UTF-16; save it as UTF-8"
        } else {
            "save it as UTF-8"
        };
        Problem::of_file(format!("{origin}:{line}:{column}"), format!("is no UTF-8: there is a byte 0x{byte:02x}"), Some(fix.into()))
    })
}

fn no_toml(origin: &str, lines: &Lines<'_>, error: &TomlError) -> Problem {
    let position = error.span().map(|span| lines.position(span.start));
    let place = position.map_or(origin.to_owned(), |p| format!("{origin}:{}:{}", p.line, p.column));
    let said = error.message().lines().next().unwrap_or_default();
    let line = position.and_then(|p| lines.line(p.line)).unwrap_or_default();
    Problem { position, ..Problem::of_file(place, format!("is no TOML: {said}"), syntax_fix(said, line)) }
}

/// What to do about the parser's complaint, where the complaint alone does not say it.
fn syntax_fix(said: &str, line: &str) -> Option<String> {
    let key = line.split('=').next().unwrap_or_default().trim();
    let fix = if said.contains("duplicate key") {
        let header = line.trim_start().starts_with('[');
        if header { "merge the two tables into one".into() } else { format!("keep one `{key}` of this table and remove the other") }
    } else if said.contains("unexpected key or value") {
        "write one key on a line, and a `#` before a comment".into()
    } else if said.contains("must be quoted") {
        let value = line.split_once('=').map_or("", |(_, value)| value.trim());
        if value.is_empty() || value.starts_with('#') {
            format!("write a value: {key} = …")
        } else {
            format!("write {key} = \"{value}\"")
        }
    } else if said.contains("unclosed table") || said.contains("unclosed array table") {
        format!("write {}]", line.trim_end())
    } else if said.contains("invalid basic string") || said.contains("invalid literal string") || said.contains("invalid multi-line") {
        "close the quote where the text ends; for text of several lines use \"\"\"".into()
    } else if said.contains("escape") || said.contains("unicode") {
        "write `\\\\` for a backslash, or put the text between single quotes".into()
    } else if said.contains("leading zero") {
        "write the number without the zero, or as text between quotes".into()
    } else if said.contains("unclosed array") {
        "write `]` behind the last entry".into()
    } else if said.contains("inline table") {
        "write `}` behind the last key, or use a table with a [header] of its own".into()
    } else if said.contains("unquoted keys cannot be empty") || said.contains("expected key") {
        "write a key before the `=`".into()
    } else if said.contains("key with no value") {
        format!("write {key} = …")
    } else {
        return None;
    };
    Some(fix)
}

fn table(table: &dyn TableLike, path: &str, lines: &Lines<'_>, places: &mut BTreeMap<String, Place>) -> Map<String, Value> {
    let mut map = Map::new();
    for (name, item) in table.iter() {
        let key = join(path, name);
        let span = table.key(name).and_then(toml_edit::Key::span).or_else(|| item.span());
        if let Some(span) = span {
            places.insert(key.clone(), Place::File(lines.position(span.start)));
        }
        let value = match item {
            Item::None => continue,
            Item::Value(v) => self::value(v, &key, lines, places),
            Item::Table(t) => Value::Object(self::table(t, &key, lines, places)),
            Item::ArrayOfTables(tables) => {
                tables.iter().enumerate().map(|(n, t)| Value::Object(self::table(t, &format!("{key}[{n}]"), lines, places))).collect()
            }
        };
        map.insert(name.to_owned(), value);
    }
    map
}

fn value(value: &toml_edit::Value, key: &str, lines: &Lines<'_>, places: &mut BTreeMap<String, Place>) -> Value {
    match value {
        toml_edit::Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(n, item)| {
                let key = format!("{key}[{n}]");
                if let Some(span) = item.span() {
                    places.insert(key.clone(), Place::File(lines.position(span.start)));
                }
                self::value(item, &key, lines, places)
            })
            .collect(),
        toml_edit::Value::InlineTable(t) => Value::Object(table(t, key, lines, places)),
        scalar => plain(scalar),
    }
}

/// A value without places.
pub(super) fn plain(value: &toml_edit::Value) -> Value {
    match value {
        toml_edit::Value::String(v) => json!(v.value()),
        toml_edit::Value::Integer(v) => json!(v.value()),
        toml_edit::Value::Float(v) => json!(v.value()),
        toml_edit::Value::Boolean(v) => json!(v.value()),
        toml_edit::Value::Datetime(v) => json!(v.value().to_string()),
        toml_edit::Value::Array(items) => items.iter().map(plain).collect(),
        toml_edit::Value::InlineTable(t) => Value::Object(t.iter().map(|(name, v)| (name.to_owned(), plain(v))).collect()),
    }
}

/// A value as it is typed on a command line or into a variable: TOML, or a bare word that is taken as text.
pub(super) fn typed(text: &str) -> toml_edit::Value {
    text.parse::<toml_edit::Value>().unwrap_or_else(|_| text.into())
}

/// Turns bytes of a text into lines and columns.
pub(super) struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Lines { text, starts: std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect() }
    }

    pub(super) fn position(&self, byte: usize) -> Position {
        let line = self.starts.partition_point(|start| *start <= byte).max(1);
        let column = self.text.get(self.starts[line - 1]..byte).map_or(1, |before| before.chars().count() + 1);
        Position { line, column }
    }

    fn line(&self, line: usize) -> Option<&'t str> {
        self.text.lines().nth(line.checked_sub(1)?)
    }
}
