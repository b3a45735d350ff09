//! A JSON Schema as the nodes that a text walks through. The part of JSON Schema that says what a text looks like is known;
//! what else stands in a schema is an error that names it, or is left to a later check.

use bespoke_plugin_api::serde_json::{Map, Value};

/// A compiled schema.
#[derive(Debug, Clone, PartialEq)]
pub struct Schema {
    pub(super) nodes: Vec<Node>,
    pub(super) literals: Vec<Box<[u8]>>,
    pub(super) root: u32,
    /// The shortest text of each node.
    pub(super) shortest: Vec<Box<[u8]>>,
}

/// What happens to a keyword that is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lenience {
    /// It is an error: nobody checks the text again.
    Strict,
    /// It is passed over: the host holds the text against the schema.
    Checked,
}

/// Why a schema cannot be kept to. Displays as the place and the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {what}")]
pub struct SchemaError {
    /// JSON Pointer of the schema, `#` for the whole.
    pub path: String,
    /// What is wrong there.
    pub what: String,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Literal(u32),
    /// Bounds of the number of characters.
    String {
        least: u32,
        most: u32,
    },
    Integer {
        least: i64,
        most: i64,
    },
    Number,
    Array {
        item: u32,
        least: u32,
        most: u32,
    },
    Object(Vec<Property>),
    Any(Vec<u32>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Property {
    /// The literals `"name":` and `,"name":`.
    pub(super) first: u32,
    pub(super) later: u32,
    pub(super) value: u32,
    pub(super) required: bool,
}

/// Integers that every reader of JSON holds exactly (RFC 8259, section 6).
const EXACT: i64 = (1 << 53) - 1;
/// Nodes of one schema. References are copied, so a small text could name very many.
const MOST_NODES: usize = 10_000;
/// Bytes of its literals and shortest texts.
const MOST_BYTES: usize = 16 << 20;
/// The longest least length; a text has to fit into the context.
const LONGEST_LEAST: u32 = 4096;
const DEEPEST: usize = 32;
/// Keywords that say nothing about what a text looks like.
const NOTES: [&str; 13] = [
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "format",
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "definitions",
];

impl Schema {
    /// Compiles a schema. Known are `type` (also several), `properties`, `required`, `additionalProperties` (no others are
    /// ever written), `items`, `minItems`, `maxItems`, `enum`, `const`, `minLength`, `maxLength`, `minimum` and `maximum` of
    /// integers, `anyOf`, `oneOf` whose alternatives differ in type, `allOf` of one, `$ref` into the same text, and notes.
    ///
    /// # Errors
    /// What is not known, with its place; a schema that no text fits; one that refers to itself.
    pub fn compile(schema: &Value, lenience: Lenience) -> Result<Self, SchemaError> {
        Self::compile_part(schema, schema, lenience)
    }

    /// Compiles a schema that stands inside of `whole`, to which its references point.
    ///
    /// # Errors
    /// As [`Self::compile`].
    pub fn compile_part(whole: &Value, schema: &Value, lenience: Lenience) -> Result<Self, SchemaError> {
        let mut compiler = Compiler { whole, lenience, nodes: Vec::new(), literals: Vec::new(), shortest: Vec::new(), bytes: 0 };
        let root = compiler.node(schema, "#", 0)?;
        let Compiler { nodes, literals, shortest, .. } = compiler;
        Ok(Self { nodes, literals, root, shortest })
    }

    /// The shortest text that fits.
    pub fn shortest(&self) -> &[u8] {
        &self.shortest[self.root as usize]
    }
}

struct Compiler<'a> {
    whole: &'a Value,
    lenience: Lenience,
    nodes: Vec<Node>,
    literals: Vec<Box<[u8]>>,
    shortest: Vec<Box<[u8]>>,
    bytes: usize,
}

type Compiled = Result<u32, SchemaError>;

impl Compiler<'_> {
    fn node(&mut self, schema: &Value, path: &str, depth: usize) -> Compiled {
        if depth > DEEPEST {
            return Err(error(path, "it nests deeper than 32 levels, or refers to itself"));
        }
        let keys = match schema {
            Value::Object(keys) => keys,
            Value::Bool(true) => return self.anything(),
            _ => return Err(error(path, "no text fits this schema; it must be an object")),
        };
        if let Some(target) = keys.get("$ref") {
            let target = target.as_str().unwrap_or_default();
            let found = target.strip_prefix('#').and_then(|pointer| self.whole.pointer(pointer)).cloned();
            let Some(found) = found else {
                return Err(error(path, format!("`$ref` names `{target}`, which is not in this schema")));
            };
            self.only(keys, &["$ref"], path)?;
            return self.node(&found, path, depth + 1);
        }
        if let Some(value) = keys.get("const") {
            self.only(keys, &["const", "type"], path)?;
            return self.literal_node(value);
        }
        if let Some(values) = keys.get("enum") {
            self.only(keys, &["enum", "type"], path)?;
            let values = values.as_array().filter(|v| !v.is_empty()).ok_or_else(|| error(path, "`enum` must be a list of values"))?;
            let nodes = values.iter().map(|value| self.literal_node(value)).collect::<Result<Vec<u32>, _>>()?;
            return self.any(nodes, path);
        }
        for keyword in ["anyOf", "oneOf", "allOf"] {
            let Some(all) = keys.get(keyword) else { continue };
            self.only(keys, &[keyword, "type"], path)?;
            let all =
                all.as_array().filter(|v| !v.is_empty()).ok_or_else(|| error(path, format!("`{keyword}` must be a list of schemas")))?;
            let checked = self.lenience == Lenience::Checked;
            if keyword == "allOf" && all.len() > 1 && !checked {
                return Err(error(path, "`allOf` of several schemas is not supported"));
            }
            if keyword == "oneOf" && !checked && !differ(all) {
                return Err(error(path, "`oneOf` is supported where its schemas differ in `type` or `const`; `anyOf` is, always"));
            }
            let all = if keyword == "allOf" { &all[..1] } else { &all[..] };
            let nodes: Result<Vec<u32>, _> =
                all.iter().enumerate().map(|(i, schema)| self.node(schema, &format!("{path}/{keyword}/{i}"), depth + 1)).collect();
            return self.any(nodes?, path);
        }
        match keys.get("type") {
            Some(Value::String(kind)) => self.typed(kind, keys, &[], path, depth),
            Some(Value::Array(kinds)) if !kinds.is_empty() => {
                let names: Vec<&str> = kinds.iter().filter_map(Value::as_str).collect();
                let nodes: Result<Vec<u32>, _> = names.iter().map(|kind| self.typed(kind, keys, &names, path, depth)).collect();
                self.any(nodes?, path)
            }
            None if keys.contains_key("properties") => self.typed("object", keys, &[], path, depth),
            None if self.lenience == Lenience::Checked => self.anything(),
            None => {
                self.only(keys, &[], path)?;
                Err(error(path, "it has no `type`, so any text would fit; name one"))
            }
            Some(_) => Err(error(path, "`type` must be a name or a list of names")),
        }
    }

    /// A node of one type. `together` are the types beside it, whose keywords stand in the same schema.
    fn typed(&mut self, kind: &str, keys: &Map<String, Value>, together: &[&str], path: &str, depth: usize) -> Compiled {
        let known = |kind: &str| -> &'static [&'static str] {
            match kind {
                "object" => &["properties", "required", "additionalProperties"],
                "array" => &["items", "minItems", "maxItems"],
                "string" => &["minLength", "maxLength"],
                "integer" => &["minimum", "maximum"],
                _ => &[],
            }
        };
        let mut allowed = vec!["type"];
        for kind in together.iter().copied().chain([kind]) {
            allowed.extend(known(kind));
        }
        self.only(keys, &allowed, path)?;
        let count = |key: &str, otherwise: u32| match keys.get(key) {
            None => Ok(otherwise),
            Some(value) => match value.as_u64() {
                Some(count) => Ok(u32::try_from(count).unwrap_or(u32::MAX)),
                None => Err(error(path, format!("`{key}` must be a whole number, 0 or more"))),
            },
        };
        match kind {
            "null" => self.literal_node(&Value::Null),
            "boolean" => {
                let nodes = vec![self.literal_node(&Value::Bool(true))?, self.literal_node(&Value::Bool(false))?];
                self.any(nodes, path)
            }
            "string" => {
                let (least, most) = (count("minLength", 0)?, count("maxLength", u32::MAX)?);
                self.bounded(least, most, path)?;
                self.add(Node::String { least, most }, quoted(least), path)
            }
            "integer" => {
                let bound = |key: &str, otherwise: i64, whole: fn(f64) -> f64| match keys.get(key) {
                    None => Ok(otherwise),
                    // A bound beyond what is exact is the same as none.
                    Some(value) => value
                        .as_f64()
                        .map(|bound| whole(bound) as i64)
                        .map(|bound| bound.clamp(-EXACT - 1, EXACT + 1))
                        .ok_or_else(|| error(path, format!("`{key}` must be a number"))),
                };
                let (least, most) = (bound("minimum", -EXACT, f64::ceil)?, bound("maximum", EXACT, f64::floor)?);
                let (least, most) = (least.max(-EXACT), most.min(EXACT));
                if least > most {
                    return Err(error(path, "no integer is within `minimum` and `maximum`"));
                }
                let shortest = 0i64.clamp(least, most).to_string().into_bytes();
                self.add(Node::Integer { least, most }, shortest, path)
            }
            "number" => self.add(Node::Number, b"0".to_vec(), path),
            "array" => {
                let (least, most) = (count("minItems", 0)?, count("maxItems", u32::MAX)?);
                self.bounded(least, most, path)?;
                let item = match keys.get("items") {
                    Some(items) => self.node(items, &format!("{path}/items"), depth + 1)?,
                    None if self.lenience == Lenience::Checked => self.anything()?,
                    None if most == 0 => self.literal_node(&Value::Null)?,
                    None => return Err(error(path, "an array needs `items`")),
                };
                if self.shortest[item as usize].len() * least as usize > MOST_BYTES {
                    return Err(error(path, "the schema is too large"));
                }
                let items = vec![&self.shortest[item as usize][..]; least as usize].join(&b","[..]);
                let shortest = [&b"["[..], &items, b"]"].concat();
                self.add(Node::Array { item, least, most }, shortest, path)
            }
            "object" => self.object(keys, path, depth),
            other => Err(error(path, format!("there is no type `{other}`"))),
        }
    }

    fn object(&mut self, keys: &Map<String, Value>, path: &str, depth: usize) -> Compiled {
        let none = Map::new();
        let properties = match keys.get("properties") {
            None => &none,
            Some(properties) => properties.as_object().ok_or_else(|| error(path, "`properties` must be an object"))?,
        };
        let required: Vec<&str> = match keys.get("required") {
            None => Vec::new(),
            Some(names) => match names.as_array() {
                Some(names) => names.iter().filter_map(Value::as_str).collect(),
                None => return Err(error(path, "`required` must be a list of names")),
            },
        };
        if let Some(unknown) = required.iter().find(|name| !properties.contains_key(**name)) {
            return Err(error(path, format!("`required` names `{unknown}`, which `properties` does not describe")));
        }
        let (mut all, mut shortest) = (Vec::new(), b"{".to_vec());
        for (name, schema) in properties {
            let value = self.node(schema, &format!("{path}/properties/{name}"), depth + 1)?;
            let key = format!("{}:", Value::from(name.as_str()));
            let required = required.contains(&name.as_str());
            if required {
                let comma = if shortest.len() > 1 { "," } else { "" };
                shortest.extend_from_slice(format!("{comma}{key}").as_bytes());
                shortest.extend_from_slice(&self.shortest[value as usize]);
            }
            let (first, later) = (self.literal(key.as_bytes()), self.literal(format!(",{key}").as_bytes()));
            all.push(Property { first, later, value, required });
        }
        shortest.push(b'}');
        self.add(Node::Object(all), shortest, path)
    }

    /// Any flat value: what is left when nothing says what it must be, and a later check will.
    fn anything(&mut self) -> Compiled {
        let mut nodes =
            vec![self.add(Node::String { least: 0, most: u32::MAX }, quoted(0), "#")?, self.add(Node::Number, b"0".to_vec(), "#")?];
        for value in [Value::Bool(true), Value::Bool(false), Value::Null] {
            nodes.push(self.literal_node(&value)?);
        }
        self.any(nodes, "#")
    }

    fn any(&mut self, nodes: Vec<u32>, path: &str) -> Compiled {
        let shortest = nodes.iter().map(|node| &self.shortest[*node as usize]).min_by_key(|text| text.len());
        let shortest = shortest.ok_or_else(|| error(path, "no text fits: there is nothing to choose from"))?.to_vec();
        self.add(Node::Any(nodes), shortest, path)
    }

    fn literal_node(&mut self, value: &Value) -> Compiled {
        let text = value.to_string().into_bytes();
        self.bytes += text.len();
        let literal = self.literal(&text);
        self.add(Node::Literal(literal), text, "#")
    }

    fn literal(&mut self, text: &[u8]) -> u32 {
        self.literals.push(text.into());
        self.literals.len() as u32 - 1
    }

    fn add(&mut self, node: Node, shortest: Vec<u8>, path: &str) -> Compiled {
        self.bytes += shortest.len();
        if self.nodes.len() >= MOST_NODES || self.bytes > MOST_BYTES {
            return Err(error(path, "the schema is too large"));
        }
        self.nodes.push(node);
        self.shortest.push(shortest.into());
        Ok(self.nodes.len() as u32 - 1)
    }

    fn bounded(&self, least: u32, most: u32, path: &str) -> Result<(), SchemaError> {
        if least > most {
            return Err(error(path, "no text fits: the least length is above the most"));
        }
        if least > LONGEST_LEAST {
            return Err(error(path, format!("a least length above {LONGEST_LEAST} is not supported")));
        }
        Ok(())
    }

    /// Refuses keywords other than `known` and notes.
    fn only(&self, keys: &Map<String, Value>, known: &[&str], path: &str) -> Result<(), SchemaError> {
        let unknown = |key: &&String| !known.contains(&key.as_str()) && !NOTES.contains(&key.as_str()) && !key.starts_with("x-");
        match keys.keys().find(unknown).filter(|_| self.lenience == Lenience::Strict) {
            None => Ok(()),
            Some(key) => Err(error(path, format!("`{key}` is not supported here"))),
        }
    }
}

/// Whether no text can fit two of these schemas: each has a type or a constant of its own.
fn differ(schemas: &[Value]) -> bool {
    let marks: Vec<_> = schemas.iter().map(|s| s.get("const").or_else(|| s.get("type")).map(Value::to_string)).collect();
    let numbers = marks.iter().flatten().filter(|m| matches!(m.as_str(), "\"integer\"" | "\"number\"")).count();
    let consts = schemas.iter().filter(|s| s.get("const").is_some()).count();
    (consts == 0 || consts == schemas.len()) && numbers < 2 && marks.iter().enumerate().all(|(i, m)| m.is_some() && !marks[..i].contains(m))
}

fn quoted(least: u32) -> Vec<u8> {
    [&b"\""[..], &vec![super::text::FILLER; least as usize], b"\""].concat()
}

fn error(path: &str, what: impl Into<String>) -> SchemaError {
    SchemaError { path: path.to_owned(), what: what.into() }
}
