//! The file as a person reads it: what was chosen, and beside it, behind `#`, what else could be, with its default.
//!
//! What a key means and what its default is comes out of the schemas, so that it is true.
//!
//! **Invariant:** every line `# key = value` is a key that may stand there, with a value that is right.

use serde_json::{Value, json};

use super::plan::{Here, Key, Plan};
use crate::{
    exit::{Failure, Result},
    output::wrapped,
};

/// Lines of comments are at most so wide.
const WIDTH: usize = 96;
/// Keys of a plugin that are shown though they are not set.
const SHOWN: usize = 5;

pub(crate) fn of(plan: &Plan, here: &Here<'_>) -> Result<String> {
    let mut text = String::new();
    comment(&mut text, "A key behind # is not in use; what it shows is its default or an example. Take the # away to use it.");
    comment(&mut text, "What is wrong here: bespoke config check. Every key there is: bespoke config schema.");
    text += &format!("config_version = {}\n", bespoke_host::CONFIG_VERSION);

    let agent = parsed(bespoke_agent::CONFIG_SCHEMA)?;
    let provider: Vec<String> = plan.provider.iter().map(|provider| provider.entry()).collect();
    let mut set = vec![("provider", json!(provider)), ("tools", json!(plan.tools))];
    set.extend(plan.system.as_ref().map(|system| ("system", json!(system))));
    let keys = ["provider", "system", "tools", "temperature", "max_tokens", "history_tokens"];
    table(&mut text, "agent", "How the agent answers.", &agent, &keys, &set, &[("temperature", json!(0.7))]);

    if let Some([vad, stt, tts]) = &here.voice {
        let voice = parsed(bespoke_voice::CONFIG_SCHEMA)?;
        let set = [("vad", json!(vad)), ("stt", json!(stt)), ("tts", json!(tts))];
        // Not chosen, it is shown as what would hold: the same.
        let (set, shown) = if plan.voice { (&set[..], &[][..]) } else { (&[][..], &set[..]) };
        let examples: Vec<_> = shown.iter().cloned().chain([("speed", json!(1.0))]).collect();
        table(&mut text, "voice", "How it hears and speaks.", &voice, &["vad", "stt", "tts", "speed", "barge_in"], set, &examples);
    }

    let defaults = parsed(bespoke_host::PluginDefaults::CONFIG_SCHEMA)?;
    table(&mut text, "plugins", "What holds for every plugin.", &defaults, &["auto_install", "cpu_budget"], &[], &[]);

    let mut used: Vec<String> = plan.provider.iter().map(|provider| provider.plugin.clone()).collect();
    used.extend(here.tools.iter().filter(|id| plan.uses(here, id) && !used.contains(id)).cloned().collect::<Vec<_>>());
    for id in &used {
        plugin(&mut text, plan, here, id);
    }
    let others: Vec<String> =
        here.host.rows().into_iter().map(|row| row.id).filter(|id| !used.contains(id) && !here.host.is_stand_in(id)).collect();
    if !others.is_empty() {
        text.push('\n');
        comment(&mut text, &format!("Other plugins of this program, each with a table of its own: {}.", others.join(", ")));
        comment(&mut text, "What one of them is: bespoke plugin info ID.");
    }
    Ok(text)
}

fn plugin(text: &mut String, plan: &Plan, here: &Here<'_>, id: &str) {
    let schema = here.schema(id);
    let provider = plan.provider.as_ref().filter(|provider| provider.plugin == id);
    let mut set: Vec<(&str, Value)> = Vec::new();
    if let Some(url) = provider.and_then(|provider| provider.base_url.as_ref()) {
        set.push(("base_url", json!(url)));
    }
    if let (Some(root), "files") = (&plan.files_root, id) {
        // What a folder is called is no reference.
        set.push(("root", json!(root.replace("${", "$${"))));
    }
    if let (false, "fetch") = (plan.hosts.is_empty(), id) {
        set.push(("allow", json!(plan.hosts)));
    }
    let mut keys: Vec<&str> = Vec::new();
    for (key, of) in schema["properties"].as_object().into_iter().flatten() {
        let is_set = set.iter().any(|(name, _)| name == key);
        let plain = of.get("default").is_some_and(|default| default.is_string() || default.is_number() || default.is_boolean());
        // A list of names; one of tables has its own form.
        let names = of["default"].is_array() && of["items"]["type"] == "string";
        if is_set || (plain || names) && keys.len() < SHOWN {
            keys.push(key);
        }
    }
    table(text, &format!("plugins.{id}"), &here.description(id), &schema, &keys, &set, &[]);
    if let Some((secret, key)) = provider.and_then(|provider| provider.key.as_ref()) {
        text.push_str(&format!("\n[plugins.{id}.secrets]\n"));
        comment(text, "Where its key comes from. The key itself does not belong here.");
        match key {
            Key::Variable(name) => {
                let set = std::env::var_os(name).is_some_and(|value| !value.is_empty());
                // A reference to what is not there would be wrong.
                text.push_str(&format!("{}{secret} = \"${{{name}}}\"\n", if set { "" } else { "# " }));
            }
            Key::Keyring => text.push_str(&format!("# {secret} = \"${{keyring:bespoke/plugins.{id}.secrets.{secret}}}\"\n")),
        }
    }
}

/// A table: its keys in this order, those that are set as they are, the others behind `#` with an example or their default.
fn table(text: &mut String, name: &str, what: &str, schema: &Value, keys: &[&str], set: &[(&str, Value)], examples: &[(&str, Value)]) {
    text.push('\n');
    comment(text, what);
    text.push_str(&format!("[{name}]\n"));
    for key in keys {
        let of = &schema["properties"][*key];
        let value = |from: &[(&str, Value)]| from.iter().find(|(name, _)| name == key).map(|(_, value)| toml(value));
        let (mark, value) = match (value(set), value(examples), of.get("default").filter(|default| !default.is_null())) {
            (Some(value), _, _) => ("", value),
            (None, Some(value), _) => ("# ", value),
            (None, None, Some(default)) => ("# ", toml(default)),
            (None, None, None) => continue,
        };
        comment(text, &first_sentence(of["description"].as_str().unwrap_or_default()));
        text.push_str(&format!("{mark}{key} = {value}\n"));
    }
}

fn comment(text: &mut String, words: &str) {
    for line in wrapped(words, WIDTH).iter().filter(|line| !line.trim().is_empty()) {
        text.push_str(&format!("# {}\n", line.trim_end()));
    }
}

/// The first sentence of a description, on one line.
fn first_sentence(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.find(". ") {
        Some(end) => line[..=end].to_owned(),
        None => line,
    }
}

/// Strings, numbers and truths are written alike in JSON and TOML.
fn toml(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", ")),
        // The one character that JSON leaves as it is, and TOML does not.
        Value::String(text) => json!(text).to_string().replace('\u{7f}', "\\u007f"),
        value => value.to_string(),
    }
}

fn parsed(schema: &str) -> Result<Value> {
    serde_json::from_str(schema).map_err(|e| Failure::failed(format!("a schema of this program: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_toml() {
        for (value, text) in [
            (json!("a \"b\"\n\u{7f}\u{1}"), r#""a \"b\"\n\u007f\u0001""#),
            (json!(["a", "b"]), r#"["a", "b"]"#),
            (json!([]), "[]"),
            (json!(1.0), "1.0"),
            (json!(true), "true"),
        ] {
            assert_eq!(toml(&value), text);
        }
    }

    #[test]
    fn a_comment_is_one_sentence() {
        assert_eq!(first_sentence("Hosts: `a.b`, all\nbelow it. Empty: none."), "Hosts: `a.b`, all below it.");
        assert_eq!(first_sentence("No end"), "No end");
    }
}
