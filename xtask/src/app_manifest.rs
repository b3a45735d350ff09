//! The Cargo.toml of the app: its features, and the two banks that a new plugin adds a line to.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, anyhow, ensure};
use toml_edit::{DocumentMut, Item};

/// Opens the bank of plugin features, and that of plugin dependencies.
const PLUGINS: &str = "# ---- plugins";
/// The group that holds every plugin.
pub(crate) const FULL: &str = "full";

/// The features of the app by what they are.
pub(crate) struct AppManifest {
    text: String,
    features: BTreeMap<String, Vec<String>>,
    /// Features that stand in the bank of plugins: what another feature switches on is a part of the app.
    plugin_bank: BTreeSet<String>,
}

/// What a feature is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Feature {
    /// It switches on the plugin in this package.
    Plugin { package: String },
    /// It switches on a feature of a plugin.
    Part { of: String },
    /// It switches on code of the app itself.
    App,
    /// It stands for others.
    Group,
}

impl AppManifest {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let document: DocumentMut = text.parse().context("crates/bespoke/Cargo.toml")?;
        let table = document.get("features").and_then(Item::as_table).ok_or_else(|| anyhow!("crates/bespoke/Cargo.toml: no [features]"))?;
        let mut features = BTreeMap::new();
        for (name, members) in table {
            let members = members.as_array().ok_or_else(|| anyhow!("crates/bespoke/Cargo.toml: features.{name} is no list"))?;
            features.insert(name.to_owned(), members.iter().filter_map(|m| m.as_str().map(str::to_owned)).collect());
        }
        let bank = text.lines().skip_while(|line| !line.starts_with(PLUGINS)).take_while(|line| !line.trim().is_empty());
        let keys = bank.filter_map(|line| Some(line.split_once('=')?.0.trim().to_owned()));
        let plugin_bank = keys.filter(|key| features.contains_key(key)).collect();
        Ok(AppManifest { text: text.to_owned(), features, plugin_bank })
    }

    /// All features but `default`.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.features.keys().map(String::as_str).filter(|name| *name != "default")
    }

    pub(crate) fn members(&self, name: &str) -> &[String] {
        self.features.get(name).map_or(&[], Vec::as_slice)
    }

    /// What a feature is, by what it switches on.
    pub(crate) fn what(&self, name: &str) -> Feature {
        let members = self.members(name);
        match members.iter().find_map(|m| m.strip_prefix("dep:")) {
            Some(package) if self.plugin_bank.contains(name) => return Feature::Plugin { package: package.to_owned() },
            None if !members.is_empty() => {}
            _ => return Feature::App,
        }
        match members.iter().find(|m| !m.contains('/')) {
            Some(of) if members.iter().any(|m| m.contains('/')) && self.plugin_bank.contains(of) => Feature::Part { of: of.clone() },
            // A part of the app that is switched on with another one.
            Some(_) if members.iter().any(|m| m.contains('/')) => Feature::App,
            _ => Feature::Group,
        }
    }

    /// Features that are plugins, with their packages.
    pub(crate) fn plugins(&self) -> BTreeMap<&str, String> {
        let plugin = |name| match self.what(name) {
            Feature::Plugin { package } => Some((name, package)),
            _ => None,
        };
        self.names().filter_map(plugin).collect()
    }

    /// Groups, in the order of their names.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &str> {
        self.names().filter(|name| self.what(name) == Feature::Group)
    }

    /// The plugins that these features switch on.
    pub(crate) fn reach(&self, features: &[String]) -> BTreeSet<String> {
        let mut seen = self.enabled(features);
        seen.retain(|name| matches!(self.what(name), Feature::Plugin { .. }));
        seen
    }

    /// All features that these switch on, themselves among them.
    pub(crate) fn enabled(&self, features: &[String]) -> BTreeSet<String> {
        let mut seen = BTreeSet::new();
        let mut open = features.to_vec();
        while let Some(name) = open.pop() {
            if seen.insert(name.clone()) {
                open.extend(self.members(&name).iter().filter(|m| self.features.contains_key(*m)).cloned());
            }
        }
        seen
    }

    /// The comment above a feature, as one line; empty if it has none.
    pub(crate) fn comment(&self, name: &str) -> String {
        let mut lines: Vec<&str> = Vec::new();
        for line in self.text.lines() {
            if line.split_once('=').is_some_and(|(key, _)| key.trim() == name) {
                return lines.join(" ");
            }
            match line.strip_prefix("# ").filter(|l| !l.starts_with("----")) {
                Some(comment) => lines.push(comment.trim()),
                None => lines.clear(),
            }
        }
        String::new()
    }

    /// The text with one more plugin: its feature, its dependency, and its place in `full`.
    pub(crate) fn with_plugin(&self, id: &str, package: &str, description: &str) -> Result<String> {
        ensure!(!self.features.contains_key(id), "crates/bespoke/Cargo.toml: there is a feature `{id}` already");
        let (features, dependencies) =
            self.text.split_once("\n[dependencies]").ok_or_else(|| anyhow!("crates/bespoke/Cargo.toml: no [dependencies]"))?;
        let features = insert(features, PLUGINS, &[&format!("# {description}")], &format!("{id} = [\"dep:{package}\"]"))?;
        let dependencies = insert(dependencies, PLUGINS, &[], &format!("{package} = {{ workspace = true, optional = true }}"))?;
        let mut document: DocumentMut = format!("{features}\n[dependencies]{dependencies}").parse()?;
        let full = document["features"][FULL].as_array_mut().ok_or_else(|| anyhow!("crates/bespoke/Cargo.toml: no feature `{FULL}`"))?;
        full.push(id);
        Ok(document.to_string())
    }
}

/// Puts an entry into the bank that `marker` opens, before the first entry that sorts after it. An entry is a line
/// `key = …` with the comments right above it; a bank ends at an empty line or at the end of the text.
pub(crate) fn insert(text: &str, marker: &str, comments: &[&str], line: &str) -> Result<String> {
    let key = |line: &str| line.split(" = ").next().unwrap_or(line).to_owned();
    let lines: Vec<&str> = text.lines().collect();
    let bank = lines.iter().position(|l| l.starts_with(marker)).ok_or_else(|| anyhow!("no line that begins with `{marker}`"))? + 1;
    let mut at = bank;
    let mut entry = bank;
    for (n, text) in lines.iter().enumerate().skip(bank) {
        if text.trim().is_empty() {
            break;
        }
        if text.starts_with('#') {
            continue;
        }
        if key(text) > key(line) {
            at = entry;
            break;
        }
        entry = n + 1;
        at = entry;
    }
    let mut out: Vec<&str> = lines[..at].to_vec();
    out.extend(comments);
    out.push(line);
    out.extend(&lines[at..]);
    Ok(out.join("\n") + if text.ends_with('\n') { "\n" } else { "" })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    const TEXT: &str = r#"[features]
default = []

# ---- plugins: …
# Tells the time.
clock = ["dep:bespoke-tool-clock"]
# Finds speech.
silero = ["dep:bespoke-vad-silero"]

# ---- parts
# Inside.
silero-bundled = ["silero", "bespoke-vad-silero/bundled"]

# Sounds.
demo = []
models = ["dep:bespoke-fetch"]

# Everything.
full = ["clock", "silero-bundled"]

[dependencies]
anyhow = "1"

# ---- plugins: …
bespoke-tool-clock = { workspace = true, optional = true }
bespoke-vad-silero = { workspace = true, optional = true }
"#;

    #[test]
    fn features_are_known_by_what_they_switch_on() {
        let app = AppManifest::parse(TEXT).unwrap();
        assert_eq!(app.what("clock"), Feature::Plugin { package: "bespoke-tool-clock".into() });
        assert_eq!(app.what("silero-bundled"), Feature::Part { of: "silero".into() });
        assert_eq!(app.what("demo"), Feature::App);
        assert_eq!(app.what("models"), Feature::App);
        assert_eq!(app.what("full"), Feature::Group);
        assert_eq!(app.comment("clock"), "Tells the time.");
        assert_eq!(app.comment("default"), "");
        assert_eq!(app.reach(&["full".into()]).into_iter().collect::<Vec<_>>(), ["clock", "silero"]);
        assert_eq!(app.reach(&["nothing".into()]).len(), 0);
    }

    #[test]
    fn a_new_plugin_stands_in_its_place() {
        let app = AppManifest::parse(TEXT).unwrap();
        let text = app.with_plugin("echo", "bespoke-tool-echo", "Says it again.").unwrap();
        expect![[r#"
            [features]
            default = []

            # ---- plugins: …
            # Tells the time.
            clock = ["dep:bespoke-tool-clock"]
            # Says it again.
            echo = ["dep:bespoke-tool-echo"]
            # Finds speech.
            silero = ["dep:bespoke-vad-silero"]

            # ---- parts
            # Inside.
            silero-bundled = ["silero", "bespoke-vad-silero/bundled"]

            # Sounds.
            demo = []
            models = ["dep:bespoke-fetch"]

            # Everything.
            full = ["clock", "silero-bundled", "echo"]

            [dependencies]
            anyhow = "1"

            # ---- plugins: …
            bespoke-tool-clock = { workspace = true, optional = true }
            bespoke-tool-echo = { workspace = true, optional = true }
            bespoke-vad-silero = { workspace = true, optional = true }
        "#]]
        .assert_eq(&text);
        assert!(app.with_plugin("clock", "x", "").is_err());
        let last = AppManifest::parse(&text).unwrap().with_plugin("zoo", "bespoke-vad-zoo", "Animals.").unwrap();
        assert!(last.contains("bespoke-vad-silero\"]\n# Animals.\nzoo = [\"dep:bespoke-vad-zoo\"]\n\n"), "{last}");
        assert!(last.ends_with("bespoke-vad-zoo = { workspace = true, optional = true }\n"), "{last}");
    }
}
