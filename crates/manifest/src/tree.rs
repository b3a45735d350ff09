//! One tree for the two languages of manifests, with the place of every key and value. Parsing is left to `toml` and `serde_json`; what
//! a key means is not known here.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;
use toml::de::{DeTable, DeValue};

/// A value, and the byte of the text at which it begins.
pub(crate) struct Item {
    pub(crate) at: usize,
    pub(crate) value: Value,
}

/// What TOML and JSON can say.
pub(crate) enum Value {
    Null,
    Boolean(bool),
    /// As it is written, and as a number where one can hold it.
    Integer(String, Option<i128>),
    Float(f64),
    String(String),
    /// Only in TOML; as it is written.
    Datetime(String),
    Array(Vec<Item>),
    Table(Table),
}

/// Keys and values, in the order of the text where the parser keeps it.
pub(crate) type Table = Vec<(Key, Item)>;

/// A key, and the byte of the text at which it begins.
pub(crate) struct Key {
    pub(crate) at: usize,
    pub(crate) name: String,
}

/// What is no TOML or JSON: where, and why.
pub(crate) struct Syntax {
    pub(crate) at: usize,
    pub(crate) message: String,
}

/// The root of a TOML text.
pub(crate) fn toml(text: &str) -> Result<Table, Vec<Syntax>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(of_table(table.into_inner()));
    }
    let syntax = |e: toml::de::Error| Syntax { at: e.span().map_or(0, |s| s.start), message: e.message().to_owned() };
    Err(errors.into_iter().map(syntax).collect())
}

/// The root of a JSON text, which is an object.
pub(crate) fn json(text: &str) -> Result<Table, Vec<Syntax>> {
    let broken = |e: &serde_json::Error| {
        let line_start: usize = text.split_inclusive('\n').take(e.line().saturating_sub(1)).map(str::len).sum();
        let said = e.to_string();
        let message = said.rfind(" at line ").map_or(&*said, |end| &said[..end]).to_owned();
        Syntax { at: line_start + e.column().saturating_sub(1), message }
    };
    // The whole text first: this bounds how deep the walk below goes, and finds every error of syntax.
    let whole = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Err(error) = serde_json::from_str::<serde_json::Value>(whole) {
        return Err(vec![broken(&error)]);
    }
    let raw: &RawValue = serde_json::from_str(whole).map_err(|e| vec![broken(&e)])?;
    let mut repeated = Vec::new();
    let item = of_json(text, raw, &mut repeated);
    match item.value {
        _ if !repeated.is_empty() => Err(repeated),
        Value::Table(table) => Ok(table),
        _ => Err(vec![Syntax { at: item.at, message: "the text is no object".into() }]),
    }
}

fn of_table(table: DeTable<'_>) -> Table {
    let entry = |(key, value): (toml::Spanned<std::borrow::Cow<'_, str>>, toml::Spanned<DeValue<'_>>)| {
        let at = key.span().start;
        (Key { at, name: key.into_inner().into_owned() }, of_toml(value))
    };
    table.into_iter().map(entry).collect()
}

fn of_toml(item: toml::Spanned<DeValue<'_>>) -> Item {
    let at = item.span().start;
    let value = match item.into_inner() {
        DeValue::String(text) => Value::String(text.into_owned()),
        DeValue::Integer(number) => Value::Integer(number.as_str().to_owned(), i128::from_str_radix(number.as_str(), number.radix()).ok()),
        DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(value) => Value::Boolean(value),
        DeValue::Datetime(time) => Value::Datetime(time.to_string()),
        DeValue::Array(items) => Value::Array(items.into_iter().map(of_toml).collect()),
        DeValue::Table(table) => Value::Table(of_table(table)),
    };
    Item { at, value }
}

/// `raw` is a part of `text`. What is in it was parsed before, so that no part of it is refused.
fn of_json(text: &str, raw: &RawValue, repeated: &mut Vec<Syntax>) -> Item {
    let at = offset(text, raw);
    let broken = |what: &str| Value::String(format!("a broken {what}"));
    let value = match raw.get().as_bytes().first() {
        Some(b'{') => match serde_json::from_str::<Members<'_>>(raw.get()) {
            Ok(Members(members)) => {
                let mut table: Table = Vec::with_capacity(members.len());
                for (key, value) in members {
                    let (at, name) = (offset(text, key), serde_json::from_str::<String>(key.get()).unwrap_or_default());
                    if table.iter().any(|(known, _)| known.name == name) {
                        repeated.push(Syntax { at, message: "duplicate key".into() });
                    }
                    table.push((Key { at, name }, of_json(text, value, repeated)));
                }
                Value::Table(table)
            }
            Err(_) => broken("object"),
        },
        Some(b'[') => match serde_json::from_str::<Vec<&RawValue>>(raw.get()) {
            Ok(items) => Value::Array(items.into_iter().map(|item| of_json(text, item, repeated)).collect()),
            Err(_) => broken("array"),
        },
        Some(b'"') => Value::String(serde_json::from_str(raw.get()).unwrap_or_default()),
        Some(b't') => Value::Boolean(true),
        Some(b'f') => Value::Boolean(false),
        Some(b'n') => Value::Null,
        _ if raw.get().contains(['.', 'e', 'E']) => Value::Float(raw.get().parse().unwrap_or(f64::NAN)),
        _ => Value::Integer(raw.get().to_owned(), raw.get().parse().ok()),
    };
    Item { at, value }
}

/// The place of a part in the text that it is borrowed from.
fn offset(text: &str, part: &RawValue) -> usize {
    (part.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize)
}

/// The members of an object, as they are written.
struct Members<'t>(Vec<(&'t RawValue, &'t RawValue)>);

impl<'de: 't, 't> Deserialize<'de> for Members<'t> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Walk;
        impl<'de> Visitor<'de> for Walk {
            type Value = Vec<(&'de RawValue, &'de RawValue)>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Walk).map(Members)
    }
}
