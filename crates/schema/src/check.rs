//! The check itself: a walk over schema and value side by side.

use std::{borrow::Cow, cell::Cell, collections::HashSet, fmt::Write as _};

use regex_lite::Regex;
use serde_json::{Map, Value};

use crate::Fault;

/// How deep references and values may nest. A schema may refer to itself without end, a value comes from anywhere.
const DEEPEST: usize = 128;
/// Most steps of one check: forms within forms that refer to themselves multiply.
const MOST_STEPS: u32 = 200_000;
/// What is told then.
const TOO_MANY_STEPS: &str = "cannot be checked: it takes too many steps";
/// Most faults that are told: a reader mends the first ones and asks again.
const MOST_FAULTS: usize = 20;
/// Most bytes of a value that a message repeats.
const SHOWN: usize = 60;

/// What does not fit, in the order of the value; nothing when it fits. At most 20 faults are told.
pub fn check(schema: &Value, value: &Value) -> Vec<Fault> {
    let steps = Cell::new(0);
    let mut walk = Walk { root: schema, steps: &steps, faults: Vec::new() };
    walk.value(schema, value, "", 0);
    walk.faults.truncate(MOST_FAULTS);
    walk.faults
}

struct Walk<'s, 'c> {
    root: &'s Value,
    steps: &'c Cell<u32>,
    faults: Vec<Fault>,
}

impl<'s> Walk<'s, '_> {
    fn fault(&mut self, path: &str, message: impl Into<String>) {
        self.faults.push(Fault { path: path.to_owned(), message: message.into() });
    }

    /// Whether a value fits, without saying why not.
    fn fits(&self, schema: &'s Value, value: &Value, depth: usize) -> bool {
        let mut probe = Walk { root: self.root, steps: self.steps, faults: Vec::new() };
        probe.value(schema, value, "", depth);
        probe.faults.is_empty()
    }

    fn value(&mut self, schema: &'s Value, value: &Value, path: &str, depth: usize) {
        if depth > DEEPEST {
            return self.fault(path, format!("nests deeper than {DEEPEST} levels"));
        }
        if self.faults.len() >= MOST_FAULTS {
            return;
        }
        self.steps.set(self.steps.get() + 1);
        if self.steps.get() > MOST_STEPS {
            return self.fault(path, TOO_MANY_STEPS);
        }
        let schema = match schema {
            Value::Bool(false) => return self.fault(path, "must not be there"),
            Value::Object(schema) => schema,
            _ => return,
        };
        if let Some(target) = schema.get("$ref").and_then(Value::as_str).and_then(|target| resolve(self.root, target)) {
            self.value(target, value, path, depth + 1);
        }
        if !self.kind(schema, value, path) {
            // Whatever else is wrong follows from it.
            return;
        }
        self.choices(schema, value, path);
        match value {
            Value::Number(number) => self.number(schema, number.as_f64().unwrap_or_default(), value, path),
            Value::String(text) => self.text(schema, text, path),
            Value::Array(items) => self.array(schema, items, path, depth),
            Value::Object(fields) => self.object(schema, fields, path, depth),
            Value::Null | Value::Bool(_) => {}
        }
        self.combined(schema, value, path, depth);
    }

    fn kind(&mut self, schema: &Map<String, Value>, value: &Value, path: &str) -> bool {
        let allowed: Vec<&str> = match schema.get("type") {
            Some(Value::String(kind)) => vec![kind],
            Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
            _ => return true,
        };
        if allowed.iter().any(|kind| is_of(kind, value)) {
            return true;
        }
        let wanted: Vec<_> = allowed.iter().map(|kind| with_article(kind)).collect();
        self.fault(path, format!("must be {}, is {}", wanted.join(" or "), shown(value)));
        false
    }

    fn choices(&mut self, schema: &Map<String, Value>, value: &Value, path: &str) {
        if let Some(only) = schema.get("const").filter(|only| !same(only, value)) {
            self.fault(path, format!("must be {}, is {}", shown(only), shown(value)));
        }
        if let Some(choices) = schema.get("enum").and_then(Value::as_array)
            && !choices.iter().any(|choice| same(choice, value))
        {
            let close = value.as_str().and_then(|said| closest(said, choices.iter().filter_map(Value::as_str)));
            let close = close.map_or(String::new(), |close| format!("; did you mean \"{close}\"?"));
            let list: Vec<_> = choices.iter().take(20).map(shown).collect();
            self.fault(path, format!("must be one of {}, is {}{close}", list.join(", "), shown(value)));
        }
    }

    fn number(&mut self, schema: &Map<String, Value>, n: f64, value: &Value, path: &str) {
        let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
        let below = bound("minimum").is_some_and(|least| n < least) || bound("exclusiveMinimum").is_some_and(|least| n <= least);
        let above = bound("maximum").is_some_and(|most| n > most) || bound("exclusiveMaximum").is_some_and(|most| n >= most);
        if below || above {
            let written = |key: &str| schema.get(key).map(Value::to_string);
            let least =
                written("minimum").map(|n| format!("at least {n}")).or(written("exclusiveMinimum").map(|n| format!("more than {n}")));
            let most = written("maximum").map(|n| format!("at most {n}")).or(written("exclusiveMaximum").map(|n| format!("less than {n}")));
            let range = match (written("minimum"), written("maximum")) {
                (Some(least), Some(most)) => format!("from {least} to {most}"),
                _ => [least, most].into_iter().flatten().collect::<Vec<_>>().join(" and "),
            };
            self.fault(path, format!("{value} is out of range; it has to be {range}"));
        }
        if let Some(step) = bound("multipleOf").filter(|step| *step > 0.0) {
            let steps = n / step;
            // As decimal fractions have no exact form, a little less than a whole step is one.
            if (steps - steps.round()).abs() > 1e-9 * steps.abs().max(1.0) {
                self.fault(path, format!("{value} is no multiple of {step}"));
            }
        }
    }

    fn text(&mut self, schema: &Map<String, Value>, text: &str, path: &str) {
        // JSON Schema counts characters.
        let length = || text.chars().count() as u64;
        if let Some(least) = size(schema, "minLength").filter(|least| length() < *least) {
            let message = if text.is_empty() {
                "must not be empty".to_owned()
            } else {
                format!("must have at least {least} characters, has {}", length())
            };
            self.fault(path, message);
        }
        if let Some(most) = size(schema, "maxLength").filter(|most| length() > *most) {
            self.fault(path, format!("must have at most {most} characters, has {}", length()));
        }
        if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
            && Regex::new(pattern).is_ok_and(|regex| !regex.is_match(text))
        {
            self.fault(path, format!("must match {pattern}, is {}", shown(&Value::from(text))));
        }
    }

    fn array(&mut self, schema: &'s Map<String, Value>, items: &[Value], path: &str, depth: usize) {
        if let Some(least) = size(schema, "minItems").filter(|least| (items.len() as u64) < *least) {
            self.fault(path, format!("must have at least {}, has {}", entries(least), items.len()));
        }
        if let Some(most) = size(schema, "maxItems").filter(|most| items.len() as u64 > *most) {
            self.fault(path, format!("must have at most {}, has {}", entries(most), items.len()));
        }
        if schema.get("uniqueItems") == Some(&Value::Bool(true))
            && let Some(at) = self.repeated(items)
        {
            self.fault(&format!("{path}[{at}]"), format!("{} is there twice", shown(&items[at])));
        }
        if self.steps.get() > MOST_STEPS {
            return self.fault(path, TOO_MANY_STEPS);
        }
        let first = schema.get("prefixItems").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        for (n, item) in items.iter().enumerate() {
            if let Some(schema) = first.get(n).or_else(|| schema.get("items")) {
                self.value(schema, item, &format!("{path}[{n}]"), depth + 1);
            }
        }
        if let Some(wanted) = schema.get("contains")
            && !items.iter().any(|item| self.fits(wanted, item, depth + 1))
        {
            self.fault(path, "has no entry of the kind that must be there");
        }
    }

    /// The first item that equals one before it. Each value inside costs a step.
    fn repeated(&self, items: &[Value]) -> Option<usize> {
        let mut seen = HashSet::with_capacity(items.len());
        items.iter().position(|item| {
            let mut form = String::new();
            self.write_form(item, &mut form) && !seen.insert(form)
        })
    }

    /// Writes a value so that two are written alike when they are the [`same`]; false when that takes too many steps.
    fn write_form(&self, value: &Value, form: &mut String) -> bool {
        self.steps.set(self.steps.get().saturating_add(1));
        if self.steps.get() > MOST_STEPS {
            return false;
        }
        match value {
            // Writing into a String cannot fail. Adding 0 makes one number of both zeros.
            Value::Number(number) => _ = write!(form, "{:e}", number.as_f64().unwrap_or_default() + 0.0),
            Value::Array(items) => {
                form.push('[');
                for item in items {
                    if !self.write_form(item, form) {
                        return false;
                    }
                    form.push(',');
                }
                form.push(']');
            }
            Value::Object(fields) => {
                let mut fields: Vec<_> = fields.iter().collect();
                fields.sort_unstable_by_key(|(name, _)| *name);
                form.push('{');
                for (name, field) in fields {
                    _ = write!(form, "{}:", Value::from(name.as_str()));
                    if !self.write_form(field, form) {
                        return false;
                    }
                    form.push(',');
                }
                form.push('}');
            }
            other => _ = write!(form, "{other}"),
        }
        true
    }

    fn object(&mut self, schema: &'s Map<String, Value>, fields: &Map<String, Value>, path: &str, depth: usize) {
        let properties = schema.get("properties").and_then(Value::as_object);
        let patterns: Vec<(Regex, &Value)> = schema
            .get("patternProperties")
            .and_then(Value::as_object)
            .map(|patterns| patterns.iter().filter_map(|(pattern, schema)| Some((Regex::new(pattern).ok()?, schema))).collect())
            .unwrap_or_default();
        for (name, field) in fields {
            let at = join(path, name);
            let own = properties.and_then(|properties| properties.get(name));
            let mut known = own.is_some();
            if let Some(own) = own {
                self.value(own, field, &at, depth + 1);
            }
            for (pattern, schema) in &patterns {
                if pattern.is_match(name) {
                    known = true;
                    self.value(schema, field, &at, depth + 1);
                }
            }
            match schema.get("additionalProperties").filter(|_| !known) {
                Some(Value::Bool(false)) => {
                    let names = properties.into_iter().flat_map(Map::keys).map(String::as_str);
                    let message = match closest(name, names.clone()) {
                        Some(close) => format!("is unknown; did you mean `{close}`?"),
                        None => match names.collect::<Vec<_>>()[..] {
                            [] => "is unknown; there are no keys".to_owned(),
                            ref names => format!("is unknown; there is {}", names.join(", ")),
                        },
                    };
                    self.fault(&at, message);
                }
                Some(other) => self.value(other, field, &at, depth + 1),
                None => {}
            }
            if let Some(names) = schema.get("propertyNames")
                && !self.fits(names, &Value::from(name.as_str()), depth + 1)
            {
                self.fault(&at, "is no name that may stand here");
            }
        }
        for name in strings(schema.get("required")).filter(|name| !fields.contains_key(*name)) {
            self.fault(&join(path, name), "is missing");
        }
        for (name, needed) in schema.get("dependentRequired").and_then(Value::as_object).into_iter().flatten() {
            for needed in strings(Some(needed)).filter(|needed| fields.contains_key(name) && !fields.contains_key(*needed)) {
                self.fault(&join(path, needed), format!("is missing; `{name}` needs it"));
            }
        }
        if let Some(least) = size(schema, "minProperties").filter(|least| (fields.len() as u64) < *least) {
            self.fault(path, format!("must have at least {}, has {}", entries(least), fields.len()));
        }
        if let Some(most) = size(schema, "maxProperties").filter(|most| fields.len() as u64 > *most) {
            self.fault(path, format!("must have at most {}, has {}", entries(most), fields.len()));
        }
    }

    fn combined(&mut self, schema: &'s Map<String, Value>, value: &Value, path: &str, depth: usize) {
        let list = |key: &str| schema.get(key).and_then(Value::as_array);
        for part in list("allOf").into_iter().flatten() {
            self.value(part, value, path, depth + 1);
        }
        if let Some(choices) = list("anyOf")
            && !choices.iter().any(|choice| self.fits(choice, value, depth + 1))
        {
            self.none_fits(choices, value, path, depth);
        }
        if let Some(choices) = list("oneOf") {
            match choices.iter().filter(|choice| self.fits(choice, value, depth + 1)).count() {
                1 => {}
                0 => self.none_fits(choices, value, path, depth),
                n => self.fault(path, format!("fits {n} of the forms that exclude each other")),
            }
        }
        if let Some(not) = schema.get("not")
            && self.fits(not, value, depth + 1)
        {
            self.fault(path, format!("must not be {}", shown(value)));
        }
        if let Some(condition) = schema.get("if") {
            let branch = if self.fits(condition, value, depth + 1) { "then" } else { "else" };
            if let Some(branch) = schema.get(branch) {
                self.value(branch, value, path, depth + 1);
            }
        }
    }

    /// The faults of the form that was meant most likely: the only one, or the only one of the value's type.
    fn none_fits(&mut self, choices: &'s [Value], value: &Value, path: &str, depth: usize) {
        let mut meant = choices.iter().filter(|choice| match choice.get("type") {
            Some(Value::String(kind)) => is_of(kind, value),
            _ => true,
        });
        match (meant.next(), meant.next()) {
            (Some(only), None) => self.value(only, value, path, depth + 1),
            _ => self.fault(path, format!("{} fits none of the {} forms that may stand here", shown(value), choices.len())),
        }
    }
}

/// What a `$ref` within the document points at.
fn resolve<'s>(root: &'s Value, target: &str) -> Option<&'s Value> {
    let pointer = target.strip_prefix('#')?;
    root.pointer(&decoded(pointer))
}

/// A pointer in a fragment may be percent-encoded.
fn decoded(pointer: &str) -> Cow<'_, str> {
    if !pointer.contains('%') {
        return pointer.into();
    }
    let bytes = pointer.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| pointer.get(at + 1..at + 3)).flatten().and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(hex.unwrap_or(bytes[at]));
        at += if hex.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned().into()
}

fn is_of(kind: &str, value: &Value) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "number" => value.is_number(),
        // 2.0 is an integer in JSON Schema.
        "integer" => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|n| n.fract() == 0.0),
        // A type that nobody knows forbids nothing.
        _ => true,
    }
}

/// Equality of JSON Schema: 1 and 1.0 are the same number.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => x == y || x.as_f64() == y.as_f64(),
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(x, y)),
        (Value::Object(x), Value::Object(y)) => x.len() == y.len() && x.iter().all(|(k, x)| y.get(k).is_some_and(|y| same(x, y))),
        _ => a == b,
    }
}

fn with_article(kind: &str) -> String {
    match kind {
        "null" => "null".to_owned(),
        "boolean" => "true or false".to_owned(),
        "integer" | "array" | "object" => format!("an {kind}"),
        other => format!("a {other}"),
    }
}

fn shown(value: &Value) -> String {
    let mut text = match value {
        Value::Array(items) => format!("an array of {}", entries(items.len() as u64)),
        Value::Object(fields) => format!("an object of {}", entries(fields.len() as u64)),
        other => other.to_string(),
    };
    if text.len() > SHOWN {
        text.truncate(text.floor_char_boundary(SHOWN));
        text.push('…');
    }
    text
}

fn entries(n: u64) -> String {
    let mut text = n.to_string();
    // Writing into a String cannot fail.
    let _ = write!(text, " {}", if n == 1 { "entry" } else { "entries" });
    text
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn size(schema: &Map<String, Value>, key: &str) -> Option<u64> {
    schema.get(key).and_then(Value::as_u64)
}

fn strings(list: Option<&Value>) -> impl Iterator<Item = &str> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// The candidate that was probably meant.
fn closest<'c>(said: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    let near = |a: &str, b: &str| strsim::damerau_levenshtein(a, b) <= (a.chars().count().max(b.chars().count()) / 3).max(1);
    candidates.filter(|c| c.len() <= 64 && said.len() <= 64 && near(said, c)).min_by_key(|c| strsim::damerau_levenshtein(said, c))
}
