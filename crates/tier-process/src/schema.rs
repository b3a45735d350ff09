//! Holds a configuration against the JSON Schema that a plugin's author wrote, which may say anything that draft 2020-12 can.

use bespoke_plugin_api::{
    Code, Error, Result,
    serde_json::{Value, json},
};
use jsonschema::{Validator, paths::Location};

/// Problems that are told at once.
const MOST: usize = 32;

/// A schema, ready to be asked.
#[derive(Debug)]
pub(crate) struct Schema(Validator);

impl Schema {
    /// Reads one. References lead nowhere but into the schema itself.
    ///
    /// # Errors
    /// `MANIFEST_INVALID`.
    pub(crate) fn new(schema: &Value) -> Result<Self> {
        let made = jsonschema::draft202012::options().build(schema);
        made.map(Schema).map_err(|e| {
            let message = format!("config_schema{}: it is no JSON Schema: {}", shown(&dotted(e.instance_path())), e);
            Error::new(Code::MANIFEST_INVALID, message).with_help("mend the schema in the plugin's manifest")
        })
    }

    /// Whether a configuration fits. `data.path` is the first key that does not, `data.problems` are all of them.
    ///
    /// # Errors
    /// `INVALID_PARAMS`.
    pub(crate) fn check(&self, config: &Value) -> Result<()> {
        let problems: Vec<_> = self.0.iter_errors(config).take(MOST).map(|e| (dotted(e.instance_path()), e.to_string())).collect();
        let Some((path, message)) = problems.first() else { return Ok(()) };
        let rest = problems[1..]
            .iter()
            .map(|(path, message)| format!("; {}{message}", if path.is_empty() { path.clone() } else { format!("{path}: ") }));
        let text = std::iter::once(message.clone()).chain(rest).collect::<String>();
        let all: Vec<_> = problems.iter().map(|(path, message)| json!({ "path": path, "message": message })).collect();
        Err(Error::invalid_params(text).with_data(json!({ "path": path, "problems": all })))
    }
}

/// As keys are written in bespoke.toml: `voices[0].rate`.
fn dotted(location: &Location) -> String {
    let mut path = String::new();
    for segment in location {
        match segment {
            jsonschema::paths::LocationSegment::Property(name) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path += &name;
            }
            jsonschema::paths::LocationSegment::Index(index) => path += &format!("[{index}]"),
        }
    }
    path
}

fn shown(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!(".{path}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_wrong_is_told_with_its_key() {
        let schema = Schema::new(&json!({
            "type": "object",
            "properties": {
                "rate": { "type": "integer", "minimum": 8000 },
                "voices": { "type": "array", "items": { "properties": { "name": { "type": "string" } } } },
                "mode": { "enum": ["a", "b"] },
            },
            "required": ["mode"],
            "additionalProperties": false,
        }))
        .unwrap();
        assert!(schema.check(&json!({ "mode": "a", "rate": 16000 })).is_ok());
        let e = schema.check(&json!({ "rate": 1, "voices": [{}, { "name": 7 }], "x": 1 })).unwrap_err();
        assert_eq!(e.code(), Code::INVALID_PARAMS);
        let data = e.data().unwrap();
        let mut paths: Vec<_> = data["problems"].as_array().unwrap().iter().map(|p| p["path"].as_str().unwrap()).collect();
        paths.sort_unstable();
        assert_eq!(paths, ["", "", "rate", "voices[1].name"], "{e}");
        assert_eq!(data["path"], data["problems"][0]["path"]);
    }

    #[test]
    fn a_schema_that_is_none_is_the_manifests_fault() {
        let e = Schema::new(&json!({ "type": "strange" })).unwrap_err();
        assert_eq!(e.code(), Code::MANIFEST_INVALID, "{e}");
        // Nothing is fetched.
        let e = Schema::new(&json!({ "$ref": "https://example.com/schema.json" })).unwrap_err();
        assert_eq!(e.code(), Code::MANIFEST_INVALID, "{e}");
    }
}
