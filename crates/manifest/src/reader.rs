//! Walks a document with positions and collects every problem on the way. It knows tables and lists, not manifests.
//!
//! **Invariant:** every read of a table goes through [`Fields`], so that what was never asked for is reported as unknown.

use std::{cell::RefCell, collections::BTreeMap};

use crate::{
    Position, Problem,
    name::{closest, list, shown},
    tree::{Item, Key, Table, Value},
};

/// What was found so far: problems, and where each key stands.
pub(crate) struct Report<'i> {
    text: &'i str,
    /// Whether the text is JSON, whose tables are objects.
    is_json: bool,
    line_starts: Vec<usize>,
    found: RefCell<Found>,
}

#[derive(Default)]
struct Found {
    problems: Vec<Problem>,
    positions: BTreeMap<String, Position>,
}

impl<'i> Report<'i> {
    pub(crate) fn new(text: &'i str, is_json: bool) -> Self {
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Report { text, is_json, line_starts, found: RefCell::default() }
    }

    /// The position of a byte of the text.
    pub(crate) fn position(&self, byte: usize) -> Position {
        let line = self.line_starts.partition_point(|start| *start <= byte).max(1);
        // `line` is between 1 and the number of lines, and line starts are character boundaries within the text.
        let before = self.text.get(self.line_starts[line - 1]..byte).unwrap_or("");
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Position { line: count(line), column: count(before.chars().count().saturating_add(1)) }
    }

    pub(crate) fn add(&self, at: Position, key: &str, message: impl Into<String>, fix: impl Into<String>) {
        let problem = Problem { position: at, key: key.to_owned(), message: message.into(), fix: fix.into() };
        self.found.borrow_mut().problems.push(problem);
    }

    fn a_type(&self, value: &Value) -> &'static str {
        match value {
            Value::Null => "null",
            Value::Boolean(_) => "a boolean",
            Value::Integer(..) => "an integer",
            Value::Float(_) => "a float",
            Value::String(_) => "a string",
            Value::Datetime(_) => "a datetime",
            Value::Array(_) => "an array",
            Value::Table(_) if self.is_json => "an object",
            Value::Table(_) => "a table",
        }
    }

    fn mark(&self, key: &str, at: Position) {
        self.found.borrow_mut().positions.insert(key.to_owned(), at);
    }

    pub(crate) fn finish(self) -> (Vec<Problem>, BTreeMap<String, Position>) {
        let Found { problems, positions } = self.found.into_inner();
        (problems, positions)
    }
}

/// One value, with the path and the position of its key.
pub(crate) struct Node<'r, 'i> {
    report: &'r Report<'i>,
    pub(crate) path: String,
    pub(crate) at: Position,
    value: Value,
}

impl<'r, 'i> Node<'r, 'i> {
    pub(crate) fn report(&self) -> &'r Report<'i> {
        self.report
    }

    /// Reports this value.
    pub(crate) fn refuse(&self, message: impl Into<String>, fix: impl Into<String>) {
        self.report.add(self.at, &self.path, message, fix);
    }

    pub(crate) fn string(&self) -> Option<String> {
        match &self.value {
            Value::String(text) => Some(text.clone()),
            other => {
                self.refuse(format!("it is {}", self.report.a_type(other)), "write a string in quotes");
                None
            }
        }
    }

    pub(crate) fn is_table(&self) -> bool {
        matches!(self.value, Value::Table(_))
    }

    pub(crate) fn boolean(&self) -> Option<bool> {
        match &self.value {
            Value::Boolean(value) => Some(*value),
            other => {
                self.refuse(format!("it is {}", self.report.a_type(other)), "write true or false");
                None
            }
        }
    }

    /// A whole number between `least` and `most`.
    pub(crate) fn number(&self, least: u64, most: u64) -> Option<u64> {
        let fix = format!("write a whole number from {least} to {most}");
        let Value::Integer(written, number) = &self.value else {
            self.refuse(format!("it is {}", self.report.a_type(&self.value)), fix);
            return None;
        };
        let value = number.and_then(|n| u64::try_from(n).ok()).filter(|n| (least..=most).contains(n));
        if value.is_none() {
            self.refuse(format!("{} is out of range", shown(written)), fix);
        }
        value
    }

    /// As [`number`](Self::number), for a language that also writes `50.0`: a part of one counts as one.
    pub(crate) fn rounded(&self, least: u64, most: u64) -> Option<u64> {
        let Value::Float(number) = self.value else { return self.number(least, most) };
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "held against the range")]
        let value = (number.ceil() >= least as f64 && number.ceil() <= most as f64).then_some(number.ceil() as u64);
        if value.is_none() {
            self.refuse(format!("{number} is out of range"), format!("write a number from {least} to {most}"));
        }
        value
    }

    /// The value as JSON.
    pub(crate) fn json(&self) -> Option<serde_json::Value> {
        let value = to_json(&self.value);
        if value.is_none() {
            self.refuse("it holds a number that JSON cannot say", "write a finite number of at most 64 bits");
        }
        value
    }

    /// The word of a fixed set that this is.
    pub(crate) fn one_of<T: Copy>(&self, what: &str, all: &[T], name: fn(T) -> &'static str) -> Option<T> {
        let word = self.string()?;
        let found = all.iter().copied().find(|v| name(*v) == word);
        if found.is_none() {
            let names = || all.iter().map(|v| name(*v));
            let fix = match closest(&word, names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("use one of {}", list(names())),
            };
            self.refuse(format!("`{}` is no {what}", shown(&word)), fix);
        }
        found
    }

    /// The values of a list; `None` if it is none.
    pub(crate) fn items(self) -> Option<Vec<Node<'r, 'i>>> {
        let Node { report, path, at, value } = self;
        match value {
            Value::Array(items) => {
                let nodes = items.into_iter().enumerate().map(|(n, Item { at, value })| {
                    let node = Node { report, path: format!("{path}[{n}]"), at: report.position(at), value };
                    report.mark(&node.path, node.at);
                    node
                });
                Some(nodes.collect())
            }
            Value::Table(_) if report.is_json => {
                report.add(at, &path, "it is an object", "write a list");
                None
            }
            Value::Table(_) => {
                report.add(at, &path, "it is one table", format!("write [[{path}]] in double brackets, or a list"));
                None
            }
            other => {
                report.add(at, &path, format!("it is {}", report.a_type(&other)), "write a list");
                None
            }
        }
    }

    pub(crate) fn fields(self) -> Option<Fields<'r, 'i>> {
        let Node { report, path, at, value } = self;
        match value {
            Value::Table(table) => Some(Fields { report, path, at, table, known: Vec::new() }),
            other => {
                let fix = if report.is_json { "write an object" } else { "write a table of keys and values" };
                report.add(at, &path, format!("it is {}", report.a_type(&other)), fix);
                None
            }
        }
    }
}

/// A table whose keys are taken one by one; [`Fields::finish`] reports the rest as unknown.
pub(crate) struct Fields<'r, 'i> {
    report: &'r Report<'i>,
    path: String,
    at: Position,
    table: Table,
    known: Vec<&'static str>,
}

impl<'r, 'i> Fields<'r, 'i> {
    pub(crate) fn root(report: &'r Report<'i>, table: Table) -> Self {
        Fields { report, path: String::new(), at: Position { line: 1, column: 1 }, table, known: Vec::new() }
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.iter().any(|(known, _)| known.name == key)
    }

    /// Keys that are known, and mean nothing here.
    pub(crate) fn skip(&mut self, keys: &[&'static str]) {
        self.known.extend(keys);
        self.table.retain(|(key, _)| !keys.contains(&key.name.as_str()));
    }

    pub(crate) fn take(&mut self, key: &'static str) -> Option<Node<'r, 'i>> {
        self.known.push(key);
        let found = self.table.iter().position(|(known, _)| known.name == key)?;
        let (Key { at, .. }, Item { value, .. }) = self.table.remove(found);
        let node = Node { report: self.report, path: self.key(key), at: self.report.position(at), value };
        self.report.mark(&node.path, node.at);
        Some(node)
    }

    /// A key that must be there.
    pub(crate) fn need(&mut self, key: &'static str, fix: &str) -> Option<Node<'r, 'i>> {
        let node = self.take(key);
        if node.is_none() {
            self.refuse(key, "it is missing", fix);
        }
        node
    }

    /// Reports a key of this table that is not there; an empty `key` means the table itself.
    pub(crate) fn refuse(&self, key: &str, message: &str, fix: &str) {
        self.report.add(self.at, &self.key(key), message, fix);
    }

    /// The strings of a list; empty when absent.
    pub(crate) fn strings(&mut self, key: &'static str) -> Vec<(String, Node<'r, 'i>)> {
        let items = self.take(key).and_then(Node::items).unwrap_or_default();
        items.into_iter().filter_map(|node| Some((node.string()?, node))).collect()
    }

    /// The tables of a list; empty when absent.
    pub(crate) fn tables(&mut self, key: &'static str) -> Vec<Fields<'r, 'i>> {
        let items = self.take(key).and_then(Node::items).unwrap_or_default();
        items.into_iter().filter_map(Node::fields).collect()
    }

    /// Reports what nobody took; the table is done.
    pub(crate) fn finish(self) {
        self.report_unknown();
    }

    /// Reports what nobody took, of a table that is somebody else's.
    pub(crate) fn report_unknown(&self) {
        for (key, _) in &self.table {
            let at = self.report.position(key.at);
            let word = key.name.as_str();
            let fix = match closest(word, self.known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the keys here are {}", list(self.known.iter().copied())),
            };
            self.report.add(at, &self.key(&shown(word)), "there is no such key", fix);
        }
    }

    fn key(&self, key: &str) -> String {
        match (self.path.as_str(), key) {
            ("", key) => key.to_owned(),
            (path, "") => path.to_owned(),
            (path, key) => format!("{path}.{key}"),
        }
    }
}

fn to_json(value: &Value) -> Option<serde_json::Value> {
    Some(match value {
        Value::Null => serde_json::Value::Null,
        Value::Boolean(value) => (*value).into(),
        Value::Integer(_, number) => {
            let number = (*number)?;
            i64::try_from(number).map(Into::into).or_else(|_| u64::try_from(number).map(Into::into)).ok()?
        }
        Value::Float(number) => serde_json::Number::from_f64(*number)?.into(),
        Value::String(text) | Value::Datetime(text) => text.as_str().into(),
        Value::Array(items) => items.iter().map(|item| to_json(&item.value)).collect::<Option<Vec<_>>>()?.into(),
        Value::Table(table) => {
            let fields = table.iter().map(|(key, item)| Some((key.name.clone(), to_json(&item.value)?)));
            serde_json::Value::Object(fields.collect::<Option<_>>()?)
        }
    })
}
