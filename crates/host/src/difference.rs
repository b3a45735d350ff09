//! What a new configuration would change: the keys that have another value, and how each takes it. Nothing is changed here.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    Config, Host, PluginDefaults,
    candidate::Tier,
    plugin::{Applied, PluginCell},
};

/// Keys of the host in the table of a plugin, beside the one that switches it on, and how they take a new value.
pub(crate) const OF_HOST: &[(&str, ReloadClass)] = &[
    ("allow_native", ReloadClass::Restart),
    ("auto_install_deps", ReloadClass::Live),
    ("idle_stop_ms", ReloadClass::Live),
    ("limits", ReloadClass::Restart),
    ("path", ReloadClass::Fixed),
    ("sandbox", ReloadClass::Restart),
    ("start", ReloadClass::Live),
];

/// How a key of the configuration takes a new value; the schema says so in `x-reload`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReloadClass {
    /// At once, in what runs.
    Live,
    /// In a new instance, which takes the place of the old one. What a schema says nothing of is of this class.
    Restart,
    /// Only when the program starts.
    Fixed,
}

/// One key that has another value than before.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Change {
    /// The dotted key, such as `plugins.clock.time_zone`.
    pub key: String,
    /// The plugin whose key it is.
    pub plugin: Option<String>,
    /// The value before as it was written, references and all; `None` when there was none.
    pub old: Option<Value>,
    /// The value now as it is written.
    pub new: Option<Value>,
    /// How it takes effect.
    pub class: ReloadClass,
}

impl Host {
    /// What a configuration would change, against what runs now. `sections` are those that the program itself reads, with the
    /// text of their JSON Schemas.
    pub fn diff(&self, new: &Config, sections: &[(&str, &str)]) -> Vec<Change> {
        let mut changes = Vec::new();
        let old = self.config();
        let (before, now) = (old.get("config_version"), new.get("config_version"));
        if before.is_some() && now.is_some() && before != now {
            changes.push(Change { key: "config_version".into(), plugin: None, old: before, new: now, class: ReloadClass::Fixed });
        }
        for (name, schema) in sections {
            let schema = serde_json::from_str(schema).unwrap_or_default();
            let sides = (old.get(name).unwrap_or_else(|| json!({})), new.get(name).unwrap_or_else(|| json!({})));
            let walk = Walk { schema: &schema, written: (&sides.0, &sides.1), plugin: None, changes: &mut changes };
            walk.all(name, ReloadClass::Restart, (&sides.0, &sides.1));
        }
        let schema = serde_json::from_str(PluginDefaults::CONFIG_SCHEMA).unwrap_or_default();
        let sides = (scalars(&old, &schema), scalars(new, &schema));
        let walk = Walk { schema: &schema, written: (&sides.0, &sides.1), plugin: None, changes: &mut changes };
        // The host reads them when it needs them.
        walk.all("plugins", ReloadClass::Live, (&sides.0, &sides.1));
        for plugin in self.plugins().iter() {
            changes.extend(self.diff_of(plugin, &old, new));
        }
        for change in &mut changes {
            for value in [&mut change.old, &mut change.new].into_iter().flatten() {
                self.redactor().redact_value(value);
            }
        }
        changes
    }

    fn diff_of(&self, plugin: &PluginCell, old: &Config, new: &Config) -> Vec<Change> {
        let (id, mut changes) = (plugin.id(), Vec::new());
        let table = format!("plugins.{id}");
        let enabled = (plugin.is_enabled(), new.is_enabled(id));
        if enabled.0 != enabled.1 {
            changes.push(Change {
                key: format!("{table}.enabled"),
                plugin: Some(id.to_owned()),
                old: Some(enabled.0.into()),
                new: Some(enabled.1.into()),
                class: ReloadClass::Live,
            });
        }
        let read = |config: &Config| {
            let written = config.get(&table).unwrap_or_else(|| json!({}));
            let filled = config.plugin(id).unwrap_or_else(|_| without_enabled(&written));
            Applied { written, filled }
        };
        let (before, now) = (plugin.applied().unwrap_or_else(|| read(old)), read(new));
        changes.extend(OF_HOST.iter().filter_map(|(key, class)| {
            let (old, new) = (before.written.get(key).cloned(), now.written.get(key).cloned());
            // Part of the program, it has no wall to be changed.
            let counts = old != new && (*class == ReloadClass::Live || plugin.candidate.tier != Tier::Compiled);
            counts.then(|| Change { key: format!("{table}.{key}"), plugin: Some(id.to_owned()), old, new, class: *class })
        }));
        let walk = Walk { schema: &plugin.schema, written: (&before.written, &now.written), plugin: Some(id), changes: &mut changes };
        walk.all(&table, ReloadClass::Restart, (&before.filled, &now.filled));
        changes
    }
}

/// The scalars of `[plugins]`, as they are written.
fn scalars(config: &Config, schema: &Value) -> Value {
    let keys = schema["properties"].as_object().into_iter().flat_map(Map::keys);
    let written = keys.filter_map(|key| Some((key.clone(), config.get(&format!("plugins.{key}"))?)));
    Value::Object(written.collect())
}

fn without_enabled(table: &Value) -> Value {
    let mut table = table.clone();
    if let Some(table) = table.as_object_mut() {
        table.shift_remove("enabled");
    }
    table
}

/// A walk over two values of one table and its schema, side by side.
struct Walk<'w> {
    schema: &'w Value,
    /// The same two as they were written, for showing.
    written: (&'w Value, &'w Value),
    plugin: Option<&'w str>,
    changes: &'w mut Vec<Change>,
}

impl Walk<'_> {
    fn all(mut self, table: &str, class: ReloadClass, (old, new): (&Value, &Value)) {
        let schema = self.schema;
        self.fields(table, &mut Vec::new(), schema, class, (old, new));
    }

    fn fields(&mut self, table: &str, path: &mut Vec<String>, schema: &Value, class: ReloadClass, (old, new): (&Value, &Value)) {
        let keys = |value: &Value| value.as_object().into_iter().flat_map(Map::keys).cloned().collect::<BTreeSet<_>>();
        for key in keys(old).union(&keys(new)) {
            let of_key = property(self.schema, schema, key);
            let class = of_key.and_then(reload_class).unwrap_or(class);
            let (old, new) = (old.get(key), new.get(key));
            path.push(key.clone());
            match (old, new) {
                (Some(old @ Value::Object(_)), Some(new @ Value::Object(_))) => {
                    self.fields(table, path, of_key.unwrap_or(&Value::Null), class, (old, new));
                }
                _ => {
                    // A key that is absent has its default.
                    let default = of_key.and_then(|schema| schema.get("default"));
                    if old.or(default) != new.or(default) {
                        let shown = |side: &Value, is: bool| is.then(|| at(side, path).cloned()).flatten();
                        self.changes.push(Change {
                            key: format!("{table}.{}", path.join(".")),
                            plugin: self.plugin.map(str::to_owned),
                            old: shown(self.written.0, old.is_some()),
                            new: shown(self.written.1, new.is_some()),
                            class,
                        });
                    }
                }
            }
            path.pop();
        }
    }
}

fn at<'v>(value: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, key| value.get(key))
}

fn reload_class(schema: &Value) -> Option<ReloadClass> {
    match schema.get("x-reload")?.as_str()? {
        "live" => Some(ReloadClass::Live),
        "fixed" => Some(ReloadClass::Fixed),
        // What is not known is taken for what always works.
        _ => Some(ReloadClass::Restart),
    }
}

/// The schema of a key below another schema: through references, and through the forms of a value that may also be absent.
fn property<'s>(root: &'s Value, schema: &'s Value, key: &str) -> Option<&'s Value> {
    let schema = match schema.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix('#')) {
        Some(pointer) => root.pointer(pointer)?,
        None => schema,
    };
    let forms = ["anyOf", "oneOf", "allOf"].into_iter().filter_map(|word| schema.get(word)?.as_array()).flatten();
    let direct = schema.get("properties").and_then(|p| p.get(key));
    // One step into each form is as deep as generated schemas go, and cannot turn in a circle.
    let in_forms = || {
        forms.filter_map(|form| {
            let form = form.get("$ref").and_then(Value::as_str).and_then(|r| root.pointer(r.strip_prefix('#')?)).unwrap_or(form);
            form.get("properties").and_then(|p| p.get(key))
        })
    };
    direct.or_else(|| in_forms().next()).or_else(|| schema.get("additionalProperties").filter(|s| s.is_object()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_of_a_key_is_its_own_or_that_of_what_it_stands_in() {
        let schema = json!({
            "properties": {
                "live": { "x-reload": "live", "default": 1 },
                "plain": {},
                "fixed": { "x-reload": "fixed" },
                "odd": { "x-reload": "sometimes" },
                "inner": { "$ref": "#/$defs/Inner", "x-reload": "live" },
                "maybe": { "anyOf": [{ "$ref": "#/$defs/Inner" }, { "type": "null" }] },
                "map": { "additionalProperties": { "x-reload": "fixed" } },
            },
            "$defs": { "Inner": { "properties": { "a": {}, "b": { "x-reload": "fixed" } } } },
        });
        let old = json!({ "plain": 1, "fixed": 1, "odd": 1, "inner": { "a": 1, "b": 1 }, "maybe": { "a": 1, "b": 1 }, "map": { "x": 1 } });
        let new = json!({ "live": 1, "plain": 2, "fixed": 2, "odd": 2, "inner": { "a": 2, "b": 2 }, "maybe": { "a": 2, "b": 2 },
            "map": { "x": 2 }, "unknown": 1 });
        let mut changes = Vec::new();
        Walk { schema: &schema, written: (&old, &new), plugin: None, changes: &mut changes }.all("t", ReloadClass::Restart, (&old, &new));
        let said: Vec<_> = changes.iter().map(|c| format!("{} {:?}", c.key, c.class)).collect();
        assert_eq!(
            said,
            [
                "t.fixed Fixed",
                "t.inner.a Live",
                "t.inner.b Fixed",
                "t.map.x Fixed",
                "t.maybe.a Restart",
                "t.maybe.b Fixed",
                "t.odd Restart",
                "t.plain Restart",
                "t.unknown Restart",
            ]
        );
    }
}
