//! Defaults of a schema, put where a value has none. What else the schema says is not looked at here.

use serde_json::Value;

/// How deep defaults are looked for: a schema may refer to itself.
const DEEPEST: usize = 32;

/// Gives every property that is missing and has a `default` that default, also inside of tables that are there. Follows `$ref` within the
/// document and `allOf`; which of several forms a value has is not decided, so `anyOf` and `oneOf` give nothing.
pub fn fill(schema: &Value, value: &mut Value) {
    into(schema, schema, value, 0);
}

fn into(root: &Value, schema: &Value, value: &mut Value, depth: usize) {
    if depth > DEEPEST {
        return;
    }
    if let Some(target) = schema.get("$ref").and_then(Value::as_str).and_then(|r| root.pointer(r.strip_prefix('#')?)) {
        into(root, target, value, depth + 1);
    }
    for part in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
        into(root, part, value, depth + 1);
    }
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    let Some(table) = value.as_object_mut() else { return };
    for (key, property) in properties {
        if let Some(default) = property.get("default") {
            table.entry(key).or_insert_with(|| default.clone());
        }
        if let Some(inner) = table.get_mut(key) {
            into(root, property, inner, depth + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_missing_gets_its_default_and_what_is_there_stays() {
        let schema = json!({
            "properties": {
                "voice": { "default": "anna" },
                "speed": { "default": 1.5 },
                "none": {},
                "inner": { "$ref": "#/$defs/Inner" },
                "made": { "default": { "a": 1 }, "$ref": "#/$defs/Inner" },
                "either": { "anyOf": [{ "properties": { "x": { "default": 1 } } }] },
            },
            "allOf": [{ "properties": { "also": { "default": null } } }],
            "$defs": { "Inner": { "properties": { "b": { "default": 2 }, "again": { "$ref": "#/$defs/Inner" } } } },
        });
        let mut value = json!({ "voice": "bert", "inner": { "again": { "b": 3 } }, "either": {}, "more": true });
        fill(&schema, &mut value);
        assert_eq!(
            value,
            json!({ "voice": "bert", "inner": { "again": { "b": 3 }, "b": 2 }, "either": {}, "more": true, "also": null, "speed": 1.5,
                "made": { "a": 1, "b": 2 } })
        );
    }

    #[test]
    fn a_schema_that_makes_itself_ends() {
        let schema = json!({ "$ref": "#", "properties": { "x": { "default": {}, "$ref": "#" } } });
        let mut value = json!({});
        fill(&schema, &mut value);
        assert!(value.to_string().len() < 1000);
        fill(&json!({ "properties": { "a": { "default": 1 } } }), &mut json!(7));
    }
}
