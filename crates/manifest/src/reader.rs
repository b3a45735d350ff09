//! Walks a TOML document with positions and collects every problem on the way. It knows TOML, not manifests.
//!
//! **Invariant:** every read of a table goes through [`Fields`], so that what was never asked for is reported as unknown.

use std::{cell::RefCell, collections::BTreeMap};

use toml::{
    Spanned,
    de::{DeInteger, DeTable, DeValue},
};

use crate::{
    Position, Problem,
    name::{closest, list, shown},
};

/// What was found so far: problems, and where each key stands.
pub(crate) struct Report<'i> {
    text: &'i str,
    line_starts: Vec<usize>,
    found: RefCell<Found>,
}

#[derive(Default)]
struct Found {
    problems: Vec<Problem>,
    positions: BTreeMap<String, Position>,
}

impl<'i> Report<'i> {
    pub(crate) fn new(text: &'i str) -> Self {
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Report { text, line_starts, found: RefCell::default() }
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
    value: DeValue<'i>,
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
            DeValue::String(text) => Some(text.clone().into_owned()),
            other => {
                self.refuse(format!("it is {}", a_type(other)), "write a string in quotes");
                None
            }
        }
    }

    pub(crate) fn is_table(&self) -> bool {
        matches!(self.value, DeValue::Table(_))
    }

    pub(crate) fn boolean(&self) -> Option<bool> {
        match &self.value {
            DeValue::Boolean(value) => Some(*value),
            other => {
                self.refuse(format!("it is {}", a_type(other)), "write true or false");
                None
            }
        }
    }

    /// A whole number between `least` and `most`.
    pub(crate) fn number(&self, least: u64, most: u64) -> Option<u64> {
        let fix = format!("write a whole number from {least} to {most}");
        let DeValue::Integer(number) = &self.value else {
            self.refuse(format!("it is {}", a_type(&self.value)), fix);
            return None;
        };
        let value = whole(number).filter(|n| (least..=most).contains(n));
        if value.is_none() {
            self.refuse(format!("{} is out of range", shown(number.as_str())), fix);
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
            DeValue::Array(items) => {
                let nodes = items.into_iter().enumerate().map(|(n, item)| {
                    let at = report.position(item.span().start);
                    let node = Node { report, path: format!("{path}[{n}]"), at, value: item.into_inner() };
                    report.mark(&node.path, node.at);
                    node
                });
                Some(nodes.collect())
            }
            DeValue::Table(_) => {
                report.add(at, &path, "it is one table", format!("write [[{path}]] in double brackets, or a list"));
                None
            }
            other => {
                report.add(at, &path, format!("it is {}", a_type(&other)), "write a list");
                None
            }
        }
    }

    pub(crate) fn fields(self) -> Option<Fields<'r, 'i>> {
        let Node { report, path, at, value } = self;
        match value {
            DeValue::Table(table) => Some(Fields { report, path, at, table, known: Vec::new() }),
            other => {
                report.add(at, &path, format!("it is {}", a_type(&other)), "write a table of keys and values");
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
    table: DeTable<'i>,
    known: Vec<&'static str>,
}

impl<'r, 'i> Fields<'r, 'i> {
    pub(crate) fn root(report: &'r Report<'i>, table: Spanned<DeTable<'i>>) -> Self {
        Fields { report, path: String::new(), at: Position { line: 1, column: 1 }, table: table.into_inner(), known: Vec::new() }
    }

    pub(crate) fn take(&mut self, key: &'static str) -> Option<Node<'r, 'i>> {
        self.known.push(key);
        let (spanned, value) = self.table.remove_entry(key)?;
        let node =
            Node { report: self.report, path: self.key(key), at: self.report.position(spanned.span().start), value: value.into_inner() };
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

    /// Reports what nobody took.
    pub(crate) fn finish(self) {
        for (key, _) in &self.table {
            let at = self.report.position(key.span().start);
            let word = key.get_ref();
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

fn whole(number: &DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

fn a_type(value: &DeValue<'_>) -> String {
    let name = value.type_str();
    format!("{} {name}", if name.starts_with(['a', 'i']) { "an" } else { "a" })
}
