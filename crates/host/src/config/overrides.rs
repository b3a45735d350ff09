//! Variables of the environment that stand above the file: `BESPOKE_AGENT__MAX_TOKENS=100` is `agent.max_tokens = 100`.
//!
//! A variable is an override when two underscores stand in its name behind `BESPOKE_`; they part the key. Every part is the key
//! in capitals. Only the id of a plugin may hold a `-`: in its place, and nowhere else, `_` means `-`, unless the file has a table of that id
//! with `_`.

use serde_json::{Map, Value};

use super::{
    Config,
    error::Problem,
    join,
    read::{Place, plain, typed},
};

const PREFIX: &str = "BESPOKE_";
const BETWEEN: &str = "__";

/// The key that a variable overrides; `None` for a variable that is no override.
fn key_of(variable: &str) -> Option<Vec<String>> {
    let name = variable.strip_prefix(PREFIX).filter(|name| name.contains(BETWEEN))?;
    let mut parts: Vec<String> = name.split(BETWEEN).map(str::to_lowercase).collect();
    if parts[0] == "plugins" && parts.len() > 2 {
        parts[1] = parts[1].replace('_', "-");
    }
    Some(parts)
}

/// The variable that overrides a key; `None` where no variable can: the key has characters that no name of a variable has.
pub(super) fn variable_of(key: &str) -> Option<String> {
    let parts: Vec<&str> = key.split('.').collect();
    let mut names: Vec<String> = parts.iter().map(|part| part.to_uppercase()).collect();
    if parts[0] == "plugins" && parts.len() > 2 {
        names[1] = names[1].replace('-', "_");
    }
    let name = format!("{PREFIX}{}", names.join(BETWEEN));
    let back = key_of(&name)?;
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    (plain && back == parts).then_some(name)
}

/// A variable with the last part of `key`, a key that it names or one above that, replaced by another name.
pub(super) fn renamed(variable: &str, key: &str, name: &str) -> String {
    let mut parts: Vec<String> = variable.strip_prefix(PREFIX).unwrap_or(variable).split(BETWEEN).map(str::to_owned).collect();
    if let Some(part) = parts.get_mut(key.split('.').count() - 1) {
        *part = name.to_uppercase().replace('-', "_");
    }
    format!("{PREFIX}{}", parts.join(BETWEEN))
}

impl Config {
    /// Puts the variables above what the file says, in the order of their names.
    pub(super) fn override_from_environment(&mut self) {
        let read = |(name, value): (&String, &String)| Some((name.clone(), self.of_file(key_of(name)?), plain(&typed(value))));
        let overrides: Vec<(String, Vec<String>, Value)> = self.env.iter().filter_map(read).collect();
        for (name, parts, value) in overrides {
            if let Err((message, fix)) = self.lay_over(&name, &parts, value) {
                self.faults.push(Problem {
                    place: format!("{name} (environment)"),
                    key: String::new(),
                    message,
                    fix: Some(fix),
                    position: None,
                });
            }
        }
    }

    /// The key with the id of a plugin as the file writes it: some have a `_`, which a variable cannot tell from a `-`.
    fn of_file(&self, mut parts: Vec<String>) -> Vec<String> {
        if let [plugins, id, _, ..] = &mut parts[..]
            && plugins == "plugins"
        {
            let tables = self.root.get("plugins").and_then(Value::as_object);
            let is_meant = |known: &&String| known.replace('_', "-") == *id;
            if let Some(known) = tables.filter(|tables| !tables.contains_key(id)).and_then(|tables| tables.keys().find(is_meant)) {
                id.clone_from(known);
            }
        }
        parts
    }

    fn lay_over(&mut self, name: &str, parts: &[String], value: Value) -> Result<(), (String, String)> {
        if parts.iter().any(String::is_empty) {
            return Err(("names no key".into(), "write BESPOKE_SECTION__KEY or BESPOKE_PLUGINS__ID__KEY".into()));
        }
        let key = parts.join(".");
        if value.is_object() && (self.value_at(&key).is_some_and(Value::is_object) || parts.len() == 2 && parts[0] == "plugins") {
            return Err((format!("sets one key, and `{key}` is a table"), format!("write {name}__KEY")));
        }
        let Some((last, above)) = parts.split_last() else { return Ok(()) };
        let mut path = String::new();
        let mut table: &mut Map<String, Value> = &mut self.root;
        for part in above {
            path = join(&path, part);
            let entry = table.entry(part.clone()).or_insert_with(|| Value::Object(Map::new()));
            self.places.entry(path.clone()).or_insert_with(|| Place::Variable(name.to_owned()));
            match entry {
                Value::Object(fields) => table = fields,
                _ => {
                    let fix = format!("unset {name}");
                    return Err((format!("sets `{key}`, but `{path}` is no table"), fix));
                }
            }
        }
        if table.get(last).is_some_and(Value::is_object) {
            return Err((format!("sets one key, and `{key}` is a table"), format!("write {name}__KEY")));
        }
        table.insert(last.clone(), value);
        // Whatever stood below the key in the file is not in use.
        self.places.retain(|at, _| !at.strip_prefix(&key).is_some_and(|rest| rest.starts_with(['.', '['])));
        self.places.insert(key, Place::Variable(name.to_owned()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_and_its_key_name_each_other() {
        for (key, name) in [
            ("agent.max_tokens", "BESPOKE_AGENT__MAX_TOKENS"),
            ("plugins.cpu_budget", "BESPOKE_PLUGINS__CPU_BUDGET"),
            ("plugins.my-plugin.base_url", "BESPOKE_PLUGINS__MY_PLUGIN__BASE_URL"),
            ("plugins.openai.secrets.api_key", "BESPOKE_PLUGINS__OPENAI__SECRETS__API_KEY"),
        ] {
            assert_eq!(variable_of(key).as_deref(), Some(name));
            assert_eq!(key_of(name).unwrap().join("."), key);
        }
        // These have no variable: another key would answer to the same name, or no name can say it.
        for key in ["agent.Max", "agent.a-b", "agent.a__b", "plugins.a_b.c", "agent", "agent.x[0]", "plugins.fake.heard.a b"] {
            assert_eq!(variable_of(key), None, "{key}");
        }
        for name in ["BESPOKE_HOME", "BESPOKE_MODEL_PATH", "OTHER__KEY", "BESPOKE"] {
            assert_eq!(key_of(name), None, "{name}");
        }
    }
}
