//! What a schema says that nobody checks here, so that it can be told instead of being taken for checked.

use std::collections::BTreeSet;

use regex_lite::Regex;
use serde_json::Value;

use crate::check::resolve;

/// Keywords that constrain and are not checked.
const KEYWORDS: &[&str] =
    &["$dynamicRef", "dependentSchemas", "dependencies", "maxContains", "minContains", "unevaluatedItems", "unevaluatedProperties"];
/// Keywords whose value holds values, not schemas.
const VALUES: &[&str] = &["const", "default", "enum", "examples"];

/// Keywords of a schema that [`check`](crate::check) passes over, each once, by name: those that it does not know how to check,
/// references that lead nowhere or out of the document, and patterns that are no regular expressions here.
pub fn unchecked(schema: &Value) -> Vec<String> {
    let mut found = BTreeSet::new();
    collect(schema, schema, 0, &mut found);
    found.into_iter().collect()
}

fn collect(root: &Value, schema: &Value, depth: usize, found: &mut BTreeSet<String>) {
    if depth > 64 {
        found.insert("everything deeper than 64 levels".to_owned());
        return;
    }
    let Value::Object(schema) = schema else {
        if let Value::Array(list) = schema {
            list.iter().for_each(|item| collect(root, item, depth + 1, found));
        }
        return;
    };
    for (key, value) in schema {
        match (key.as_str(), value) {
            ("$ref", Value::String(target)) if resolve(root, target).is_none() => _ = found.insert(format!("$ref {target}")),
            ("pattern", Value::String(pattern)) if Regex::new(pattern).is_err() => _ = found.insert(format!("pattern {pattern}")),
            ("properties" | "$defs" | "definitions", Value::Object(named)) => {
                named.values().for_each(|schema| collect(root, schema, depth + 1, found));
            }
            ("patternProperties", Value::Object(named)) => {
                for (pattern, schema) in named {
                    if Regex::new(pattern).is_err() {
                        found.insert(format!("patternProperties {pattern}"));
                    }
                    collect(root, schema, depth + 1, found);
                }
            }
            (key, _) if KEYWORDS.contains(&key) => _ = found.insert(key.to_owned()),
            (key, _) if VALUES.contains(&key) => {}
            (_, value) => collect(root, value, depth + 1, found),
        }
    }
}
