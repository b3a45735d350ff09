//! Arguments made from a schema, and audio made from nothing: what an examination asks with where the author has said nothing.

use bespoke_plugin_api::Audio;
use serde_json::{Map, Value, json};

/// How deep a value is made; a schema may refer to itself.
const DEEP: usize = 6;

/// Arguments that fit a schema, as short as they can be: what is required, each by its default, its first choice, an example, or a value
/// of its type.
pub(super) fn fitting(schema: &Value) -> Value {
    object(schema, schema, DEEP)
}

fn object(root: &Value, schema: &Value, deep: usize) -> Value {
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let made: Map<String, Value> =
        required.map(|name| (name.to_owned(), value(root, &schema["properties"][name], deep.saturating_sub(1)))).collect();
    Value::Object(made)
}

fn value(root: &Value, schema: &Value, deep: usize) -> Value {
    if deep == 0 {
        return Value::Null;
    }
    let given = ["default", "const"].iter().map(|key| &schema[key]).chain([&schema["enum"][0], &schema["examples"][0]]);
    if let Some(given) = given.into_iter().find(|given| !given.is_null()) {
        return given.clone();
    }
    if let Some(referred) = schema["$ref"].as_str().and_then(|to| to.strip_prefix('#')).and_then(|to| root.pointer(to)) {
        return value(root, referred, deep - 1);
    }
    if let Some(one) = ["anyOf", "oneOf", "allOf"].iter().find_map(|key| schema[key].get(0)) {
        return value(root, one, deep - 1);
    }
    let of = &schema["type"];
    match of.as_str().or_else(|| of[0].as_str()) {
        Some("integer" | "number") => ["minimum", "maximum"].iter().find_map(|key| schema.get(key)).cloned().unwrap_or_else(|| json!(1)),
        Some("boolean") => json!(false),
        Some("array") => {
            let least = schema["minItems"].as_u64().unwrap_or(0).min(8);
            Value::Array((0..least).map(|_| value(root, &schema["items"], deep - 1)).collect())
        }
        Some("object") => object(root, schema, deep),
        Some("null") => Value::Null,
        _ => {
            let least = usize::try_from(schema["minLength"].as_u64().unwrap_or(0)).unwrap_or(0).min(1024);
            let word = "hello";
            json!(word.repeat(least.div_ceil(word.len()).max(1)))
        }
    }
}

/// Arguments that no schema of a tool allows, or that few do: of another type, of names that there are not, and long ones.
pub(super) fn strange() -> Vec<Value> {
    vec![json!(42), Value::Null, json!([]), json!({ "no such argument": [0.1, -0.0, 1e300] }), json!({ "text": "x".repeat(1 << 20) })]
}

/// So many samples of silence.
pub(super) fn silence(samples: usize) -> Audio {
    Audio::new(vec![0.0; samples], 16_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_as_short_as_the_schema_allows() {
        for (schema, made) in [
            (json!({}), json!({})),
            (json!({ "properties": { "a": { "type": "string" } } }), json!({})),
            (json!({ "properties": { "a": { "type": "string" } }, "required": ["a"] }), json!({ "a": "hello" })),
            (json!({ "properties": { "a": { "type": "string", "minLength": 7 } }, "required": ["a"] }), json!({ "a": "hellohello" })),
            (json!({ "properties": { "a": { "enum": ["x", "y"] } }, "required": ["a"] }), json!({ "a": "x" })),
            (json!({ "properties": { "a": { "type": ["integer", "null"], "minimum": 3 } }, "required": ["a"] }), json!({ "a": 3 })),
            (
                json!({ "properties": { "a": { "type": "array", "minItems": 1, "items": { "$ref": "#/$defs/b" } } }, "required": ["a"],
                    "$defs": { "b": { "type": "object", "properties": { "c": { "type": "boolean" } }, "required": ["c"] } } }),
                json!({ "a": [{ "c": false }] }),
            ),
        ] {
            assert_eq!(fitting(&schema), made, "{schema}");
        }
    }

    #[test]
    fn a_schema_that_refers_to_itself_comes_to_an_end() {
        let schema = json!({ "properties": { "a": { "$ref": "#" } }, "required": ["a"], "type": "object" });
        assert!(fitting(&schema).is_object());
    }
}
