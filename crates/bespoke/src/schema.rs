//! The JSON Schema of the whole bespoke.toml, put together from those of its sections and plugins, which their config structs made.
//! It checks nothing: the host does, where the values are read.

use bespoke_host::{CONFIG_VERSION, Host, PluginDefaults, PluginSettings};
use serde_json::{Map, Value, json};

use crate::{
    exit::{Failure, Result},
    sections::SECTIONS,
};

/// The schema of the file: its sections, and the tables of all plugins in this binary.
pub(crate) fn of_file(host: &Host) -> Result<Value> {
    let mut all = part(PluginDefaults::CONFIG_SCHEMA, "plugins", "/properties/plugins")?;
    let mut plugins = all["properties"].as_object().cloned().unwrap_or_default();
    for row in host.rows() {
        let Some(text) = host.config_schema(&row.id).filter(|text| !text.is_empty()) else { continue };
        let mut schema = part(&text, &row.id, &format!("/properties/plugins/properties/{}", row.id))?;
        let secrets = host.manifest(&row.id).map(|m| m.permissions.secrets.clone()).unwrap_or_default();
        add_keys_of_host(&mut schema, &secrets);
        plugins.insert(row.id, schema);
    }
    all["properties"] = Value::Object(plugins);
    // Tables of plugins that are not in this binary may stand in the file.
    all["additionalProperties"] = json!({ "type": "object" });
    let mut properties = Map::new();
    properties.insert("config_version".into(), json!({ "type": "integer", "const": CONFIG_VERSION, "default": CONFIG_VERSION }));
    for (name, schema) in SECTIONS {
        // One of a part that is not in this binary may stand in the file.
        let schema = schema.map_or_else(|| Ok(json!({ "type": "object" })), |text| part(text, name, &format!("/properties/{name}")))?;
        properties.insert((*name).into(), schema);
    }
    properties.insert("plugins".into(), all);
    Ok(json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "bespoke.toml",
        "type": "object",
        "properties": properties,
        "additionalProperties": false
    }))
}

/// The schema of a dotted key.
pub(crate) fn of_key<'s>(schema: &'s Value, key: &str) -> Option<&'s Value> {
    key.split('.').try_fold(schema, |schema, part| schema.get("properties")?.get(part))
}

/// What a plugin's table holds besides the plugin's own keys.
fn add_keys_of_host(schema: &mut Value, secrets: &[String]) {
    let Some(schema) = schema.as_object_mut() else { return };
    let Some(properties) = schema.entry("properties").or_insert_with(|| json!({})).as_object_mut() else { return };
    properties.extend(PluginSettings::schemas());
    if !secrets.is_empty() {
        let secret = json!({ "type": "string", "x-secret": true });
        let secrets: Map<_, _> = secrets.iter().map(|name| (name.clone(), secret.clone())).collect();
        let description = "The plugin's secrets; best as references: ${NAME} or ${file:/a/path}.";
        properties.insert(
            "secrets".into(),
            json!({ "type": "object", "properties": secrets, "additionalProperties": false, "description": description }),
        );
    }
}

/// Makes references of a schema right where it stands in a larger one.
fn rebase(schema: &mut Value, at: &str) {
    match schema {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(target) if name == "$ref" && target.starts_with("#/") => target.insert_str(1, at),
                    Value::String(target) if name == "$ref" && target == "#" => target.push_str(at),
                    field => rebase(field, at),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rebase(item, at)),
        _ => {}
    }
}

/// A schema as a part of the file's own.
fn part(text: &str, what: &str, at: &str) -> Result<Value> {
    let mut schema = parse(text, what)?;
    if let Some(schema) = schema.as_object_mut() {
        schema.remove("$schema");
    }
    rebase(&mut schema, at);
    Ok(schema)
}

fn parse(text: &str, what: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|e| Failure::failed(format!("the schema of {what}: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_reference_of_the_whole_leads_somewhere() {
        let host = Host::builder().plugins(bespoke_plugin_api::compiled_in()).build().unwrap();
        let schema = of_file(&host).unwrap();
        let mut targets = Vec::new();
        fn collect(value: &Value, targets: &mut Vec<String>) {
            match value {
                Value::Object(fields) => {
                    targets.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                    fields.values().for_each(|field| collect(field, targets));
                }
                Value::Array(items) => items.iter().for_each(|item| collect(item, targets)),
                _ => {}
            }
        }
        collect(&schema, &mut targets);
        for target in targets {
            assert!(target.strip_prefix('#').is_some_and(|at| schema.pointer(at).is_some()), "{target}");
        }
        let mut nested = json!({ "items": [{ "$ref": "#/$defs/Step" }], "$ref": "#" });
        rebase(&mut nested, "/properties/x");
        assert_eq!(nested, json!({ "items": [{ "$ref": "#/properties/x/$defs/Step" }], "$ref": "#/properties/x" }));
    }

    #[test]
    fn a_dotted_key_finds_its_schema() {
        let schema = json!({ "properties": { "a": { "properties": { "b": { "default": 1 } } } } });
        assert_eq!(of_key(&schema, "a.b"), Some(&json!({ "default": 1 })));
        assert_eq!(of_key(&schema, "a.c"), None);
    }
}
