//! `[[hooks]]`: which methods of plugins the user wants to have told of which events, read and changed. Who tells them is the host's.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use toml_edit::{Array, ArrayOfTables, Document, DocumentMut, Item, Table};

use super::{Config, ConfigError, Problem};

/// Name of the section.
const SECTION: &str = "hooks";
/// The keys of an entry.
const KEYS: &[&str] = &["plugin", "callback", "events"];

/// An entry of `[[hooks]]`: a method of a plugin is told of events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserHook {
    /// Id of the plugin.
    pub plugin: String,
    /// A hook of `on_event` that it registers, or a method that it has under this name.
    pub callback: String,
    /// Names of events; one that ends in `*` means all that begin so.
    pub events: Vec<String>,
}

impl Config {
    /// JSON Schema of the section.
    pub const HOOKS_SCHEMA: &'static str = include_str!("../../hooks.schema.json");

    /// The methods that the user wants to have told of events.
    ///
    /// # Errors
    /// With the place of every entry that cannot be read.
    pub fn hooks(&self) -> Result<Vec<UserHook>, ConfigError> {
        let Some(value) = self.root.get(SECTION) else { return Ok(Vec::new()) };
        let Some(entries) = value.as_array() else {
            let fix = format!("write [[{SECTION}]] above its keys, with two brackets");
            return Err(self.problem(SECTION, "must be a list of tables", Some(fix)).into());
        };
        let mut problems = Vec::new();
        let mut hooks: Vec<UserHook> = Vec::new();
        for (n, entry) in entries.iter().enumerate() {
            match self.hook(&format!("{SECTION}[{n}]"), entry) {
                Ok(hook) if hooks.iter().any(|known| (&known.plugin, &known.callback) == (&hook.plugin, &hook.callback)) => {
                    let message = format!("`{}` of `{}` has an entry already", hook.callback, hook.plugin);
                    problems.push(self.problem(&format!("{SECTION}[{n}].callback"), message, Some("put the events into one list".into())));
                }
                Ok(hook) => hooks.push(hook),
                Err(found) => problems.extend(found),
            }
        }
        ConfigError::unless_empty(problems, hooks)
    }

    fn hook(&self, at: &str, entry: &Value) -> Result<UserHook, Vec<Problem>> {
        let Some(table) = entry.as_object() else {
            return Err(vec![self.problem(at, "must be a table", Some(format!("write [[{SECTION}]] above its keys")))]);
        };
        let unknown = table.keys().filter(|key| !KEYS.contains(&key.as_str()));
        let mut problems: Vec<_> = unknown.map(|key| self.unknown(&format!("{at}.{key}"), key, KEYS)).collect();
        let mut filled = |value: &Value| self.filled(value.clone(), at, &mut problems);
        let text = |value: Option<Value>| value.as_ref().and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
        let (plugin, callback) = (text(table.get("plugin").map(&mut filled)), text(table.get("callback").map(&mut filled)));
        let events = table.get("events").map(&mut filled).and_then(|events| {
            events.as_array().filter(|list| !list.is_empty())?.iter().map(|name| text(Some(name.clone()))).collect::<Option<Vec<_>>>()
        });
        let absent = [
            ("plugin", plugin.is_none(), "write plugin = \"ID\""),
            ("callback", callback.is_none(), "write callback = \"NAME\""),
            ("events", events.is_none(), "write events = [\"workflow_completed\"]"),
        ];
        for (key, wrong, fix) in absent {
            if wrong {
                problems.push(self.problem(&format!("{at}.{key}"), "must be there, and say something", Some(fix.into())));
            }
        }
        match (plugin, callback, events) {
            (Some(plugin), Some(callback), Some(events)) if problems.is_empty() => Ok(UserHook { plugin, callback, events }),
            _ => Err(problems),
        }
    }

    /// The text with an entry more, or with other events where there is one of this plugin and callback. Everything else stays.
    ///
    /// # Errors
    /// When the section is no list of tables.
    pub fn with_hook(&self, hook: &UserHook) -> Result<String, ConfigError> {
        let mut document = self.document()?;
        let events: Array = hook.events.iter().collect();
        if let Some(table) =
            self.entries(&mut document)?.and_then(|list| list.iter_mut().find(|table| is(table, &hook.plugin, &hook.callback)))
        {
            table["events"] = toml_edit::value(events);
            return Ok(document.to_string());
        }
        // At the end, as text: comments that end the file are the last table's, and stay with it.
        let mut new = Table::new();
        new["plugin"] = toml_edit::value(&hook.plugin);
        new["callback"] = toml_edit::value(&hook.callback);
        new["events"] = toml_edit::value(events);
        let text = self.text.trim_end();
        let newline = newline(&self.text);
        let new = format!("[[{SECTION}]]\n{new}").replace('\n', newline);
        Ok(if text.is_empty() { new } else { format!("{text}{newline}{newline}{new}") })
    }

    /// The text without an entry; `None` when there is none of this plugin and callback.
    ///
    /// # Errors
    /// When the section is no list of tables.
    pub fn without_hook(&self, plugin: &str, callback: &str) -> Result<Option<String>, ConfigError> {
        let Some(list) = self.entries(&mut self.document()?)?.map(|list| list.clone()) else { return Ok(None) };
        let Some(at) = list.iter().position(|table| is(table, plugin, callback)) else { return Ok(None) };
        // By its lines: comments above it are another's, or the file's, and the editor of documents would take them along.
        let lines = Document::parse(self.text.as_str()).ok().and_then(|document| {
            let table = document.get(SECTION)?.as_array_of_tables()?.get(at)?;
            let last = table.iter().filter_map(|(_, item)| item.span()).map(|span| span.end).chain([table.span()?.end]).max()?;
            let begin = self.text[..table.span()?.start].rfind('\n').map_or(0, |at| at + 1);
            Some((begin, self.text[last..].find('\n').map_or(self.text.len(), |more| last + more + 1)))
        });
        let Some((begin, end)) = lines else {
            return Err(self.problem(&format!("{SECTION}[{at}]"), "cannot be found in the file", Some("remove it by hand".into())).into());
        };
        let (before, after) = (self.text[..begin].trim_end(), &self.text[end..]);
        let blank = if before.is_empty() { "" } else { newline(&self.text) };
        Ok(Some(if after.trim().is_empty() { format!("{before}{blank}") } else { format!("{before}{blank}{blank}{}", after.trim_start()) }))
    }

    fn entries<'d>(&self, document: &'d mut DocumentMut) -> Result<Option<&'d mut ArrayOfTables>, ConfigError> {
        match document.get_mut(SECTION) {
            None => Ok(None),
            Some(Item::ArrayOfTables(list)) => Ok(Some(list)),
            Some(_) => {
                let fix = format!("write each entry as a table below [[{SECTION}]]");
                Err(self.problem(SECTION, "is written in one line, and is not changed so", Some(fix)).into())
            }
        }
    }
}

fn newline(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

fn is(table: &Table, plugin: &str, callback: &str) -> bool {
    let says = |key: &str, text: &str| table.get(key).and_then(Item::as_str) == Some(text);
    says("plugin", plugin) && says("callback", callback)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# mine\nconfig_version = 1\n\n[[hooks]] # first\nplugin = \"a\"\ncallback = \"on_it\"\nevents = [\"x\"] # these\n\n[agent]\n# the end\n";

    fn read(text: &str) -> Config {
        Config::parse("bespoke.toml", text).unwrap()
    }

    fn hook(plugin: &str, callback: &str, events: &[&str]) -> UserHook {
        UserHook { plugin: plugin.into(), callback: callback.into(), events: events.iter().map(|e| (*e).to_owned()).collect() }
    }

    #[test]
    fn an_entry_comes_changes_and_goes_and_the_rest_stays() {
        let one = read(FILE);
        assert_eq!(one.hooks().unwrap(), [hook("a", "on_it", &["x"])]);
        let two = one.with_hook(&hook("b", "on_that", &["plugin_*", "b.c"])).unwrap();
        assert_eq!(two, format!("{FILE}\n[[hooks]]\nplugin = \"b\"\ncallback = \"on_that\"\nevents = [\"plugin_*\", \"b.c\"]\n"));
        let two = read(&two);
        assert_eq!(two.hooks().unwrap().len(), 2);
        let other = two.with_hook(&hook("a", "on_it", &["y"])).unwrap();
        assert!(other.contains("[[hooks]] # first\n") && other.contains("events = [\"y\"]") && other.contains("# the end"), "{other}");
        let back = two.without_hook("b", "on_that").unwrap().unwrap();
        assert_eq!(back, FILE);
        assert_eq!(two.without_hook("b", "on_it").unwrap(), None);
        let none = one.without_hook("a", "on_it").unwrap().unwrap();
        assert_eq!(none, "# mine\nconfig_version = 1\n\n[agent]\n# the end\n");
        assert_eq!(
            Config::empty().with_hook(&hook("a", "b", &["c"])).unwrap(),
            "[[hooks]]\nplugin = \"a\"\ncallback = \"b\"\nevents = [\"c\"]\n"
        );
    }

    #[test]
    fn an_entry_that_cannot_be_read_is_told_with_its_place() {
        let told = |text: &str| read(text).hooks().unwrap_err().to_string();
        expect_test::expect![[r#"
            bespoke.toml:1:1: hooks: must be a list of tables; write [[hooks]] above its keys, with two brackets
            bespoke.toml:1:2: hooks: must be a list of tables; write [[hooks]] above its keys, with two brackets
            bespoke.toml:3:1: hooks[0].callback: must be there, and say something; write callback = "NAME"
            bespoke.toml:4:1: hooks[0].events: must be there, and say something; write events = ["workflow_completed"]
            bespoke.toml:1:3: hooks[0].callback: must be there, and say something; write callback = "NAME"
            bespoke.toml:3:1: hooks[0].calback: unknown key; did you mean `callback`?
            bespoke.toml:4:1: hooks[0].events: must be there, and say something; write events = ["workflow_completed"]
            bespoke.toml:7:1: hooks[1].callback: `b` of `a` has an entry already; put the events into one list
        "#]].assert_eq(
            &[
                "hooks = 1\n",
                "[hooks]\nplugin = \"a\"\n",
                "[[hooks]]\nplugin = \"a\"\ncallback = 7\nevents = []\n",
                "[[hooks]]\nplugin = \"a\"\ncalback = \"b\"\nevents = [\"x\", 1]\n",
                "[[hooks]]\nplugin = \"a\"\ncallback = \"b\"\nevents = [\"x\"]\n[[hooks]]\nplugin = \"a\"\ncallback = \"b\"\nevents = [\"y\"]\n",
            ]
            .map(|text| told(text) + "\n")
            .concat(),
        );
    }
}
