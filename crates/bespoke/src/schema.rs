//! The JSON Schema of the whole bespoke.toml, put together from its sections, and what it says beyond types. It is no validator:
//! types and unknown keys are checked where the values are read.

use bespoke_host::{CONFIG_VERSION, Host, PluginDefaults, Problem};
use bespoke_plugin_api::Error;
use serde_json::{Map, Value, json};

use crate::exit::{Failure, Result};

/// The schema of the file: its sections, and the tables of all plugins in this binary.
pub(crate) fn of_file(host: &Host) -> Result<Value> {
    let mut plugins = of_all_plugins();
    for row in host.rows() {
        if let Some(mut schema) = of_plugin(host, &row.id)? {
            if let Some(properties) = schema.as_object_mut().map(|s| s.entry("properties").or_insert_with(|| json!({}))) {
                properties["enabled"] = json!({ "type": "boolean", "default": true, "description": "Whether the plugin is started." });
            }
            plugins.insert(row.id, schema);
        }
    }
    Ok(json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "bespoke.toml",
        "type": "object",
        "properties": {
            "config_version": { "type": "integer", "const": CONFIG_VERSION, "default": CONFIG_VERSION },
            "agent": parse(bespoke_agent::CONFIG_SCHEMA, "agent")?,
            "voice": parse(bespoke_voice::CONFIG_SCHEMA, "voice")?,
            "plugins": { "type": "object", "properties": plugins }
        },
        "additionalProperties": false
    }))
}

/// The schema of a dotted key.
pub(crate) fn of_key<'s>(schema: &'s Value, key: &str) -> Option<&'s Value> {
    key.split('.').try_fold(schema, |schema, part| schema.get("properties")?.get(part))
}

/// Numbers in the tables of plugins that are outside the range that the plugin's schema gives for them.
pub(crate) fn out_of_range(host: &Host) -> Result<Vec<Problem>> {
    let config = host.config();
    let mut problems = Vec::new();
    for row in host.rows() {
        // A reference that cannot be filled in is told by whoever fills it in.
        let (Some(schema), Ok(values)) = (of_plugin(host, &row.id)?, config.plugin(&row.id)) else { continue };
        let mut found = Vec::new();
        walk(&schema, &schema, &values, String::new(), &mut found);
        problems.extend(found.into_iter().flat_map(|(path, message)| {
            config.locate(&format!("plugins.{}", row.id), &Error::invalid_params(message).with_data(json!({ "path": path }))).problems
        }));
    }
    Ok(problems)
}

fn walk(root: &Value, schema: &Value, value: &Value, path: String, found: &mut Vec<(String, String)>) {
    let schema = schema.get("$ref").and_then(Value::as_str).and_then(|r| root.pointer(r.strip_prefix('#')?)).unwrap_or(schema);
    match value {
        Value::Number(number) => {
            let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
            let (least, most) = (bound("minimum"), bound("maximum"));
            let n = number.as_f64().unwrap_or_default();
            if least.is_some_and(|least| n < least) || most.is_some_and(|most| n > most) {
                let range = match (least, most) {
                    (Some(least), Some(most)) => format!("from {least} to {most}"),
                    (Some(least), None) => format!("at least {least}"),
                    (None, most) => format!("at most {}", most.unwrap_or_default()),
                };
                found.push((path, format!("{number} is out of range; it has to be {range}")));
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                if let Some(schema) = schema.get("properties").and_then(|p| p.get(name)) {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    walk(root, schema, field, path, found);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                items.iter().enumerate().for_each(|(n, item)| walk(root, schema, item, format!("{path}[{n}]"), found));
            }
        }
        _ => {}
    }
}

/// The keys of `[plugins]` itself.
fn of_all_plugins() -> Map<String, Value> {
    let PluginDefaults { auto_install, start_timeout_ms, stop_timeout_ms, call_timeout_ms, cpu_budget, .. } = PluginDefaults::default();
    let count =
        |default: u64, description: &str| json!({ "type": "integer", "minimum": 1, "default": default, "description": description });
    let what_is_needed = "Whether what a plugin needs may be fetched without a question.";
    let auto_install = json!({ "type": "boolean", "default": auto_install, "description": what_is_needed });
    [
        ("auto_install", auto_install),
        ("start_timeout_ms", count(start_timeout_ms, "Most time that a plugin's start may take, in milliseconds.")),
        (
            "stop_timeout_ms",
            count(stop_timeout_ms, "Most time that a plugin's calls in flight and its shutdown may take, in milliseconds."),
        ),
        ("call_timeout_ms", count(call_timeout_ms, "Most time that a request may take when its caller sets no deadline, in milliseconds.")),
        ("cpu_budget", count(cpu_budget.into(), "Threads that one request of a plugin may use.")),
    ]
    .into_iter()
    .map(|(key, schema)| (key.to_owned(), schema))
    .collect()
}

fn of_plugin(host: &Host, id: &str) -> Result<Option<Value>> {
    host.config_schema(id).filter(|text| !text.is_empty()).map(|text| parse(text, id)).transpose()
}

fn parse(text: &str, what: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|e| Failure::failed(format!("the schema of {what}: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out_of(schema: &Value, value: Value) -> Vec<(String, String)> {
        let mut found = Vec::new();
        walk(schema, schema, &value, String::new(), &mut found);
        found
    }

    #[test]
    fn numbers_outside_their_range_are_named_wherever_they_stand() {
        let schema = json!({
            "properties": {
                "a": { "minimum": 0.0, "maximum": 1.0 },
                "list": { "items": { "$ref": "#/$defs/Step" } },
            },
            "$defs": { "Step": { "properties": { "n": { "minimum": 1 } } } },
        });
        assert_eq!(out_of(&schema, json!({ "a": 1, "list": [{ "n": 1 }], "other": 99 })), []);
        assert_eq!(
            out_of(&schema, json!({ "a": 1.5, "list": [{ "n": 2 }, { "n": 0 }] })),
            [
                ("a".to_owned(), "1.5 is out of range; it has to be from 0 to 1".to_owned()),
                ("list[1].n".to_owned(), "0 is out of range; it has to be at least 1".to_owned()),
            ]
        );
    }

    #[test]
    fn a_dotted_key_finds_its_schema() {
        let schema = json!({ "properties": { "a": { "properties": { "b": { "default": 1 } } } } });
        assert_eq!(of_key(&schema, "a.b"), Some(&json!({ "default": 1 })));
        assert_eq!(of_key(&schema, "a.c"), None);
    }
}
