//! Plugins that the configuration speaks of and nobody has, and the command that adds each.

use bespoke_host::{Host, Row, State};
use bespoke_plugin_api::Kind;

use crate::catalog::{CATALOG, Known};

/// As [`Setup::missing`]; `edit` is the command that mends a name that nobody knows.
pub(super) fn missing(host: &Host, edit: &str) -> Vec<Row> {
    missing_keys(host, edit).into_iter().map(|(_, row)| row).collect()
}

/// As [`missing`], each with the key that speaks of it first.
pub(crate) fn missing_keys(host: &Host, edit: &str) -> Vec<(String, Row)> {
    let here = host.rows();
    let config = host.config();
    // A table with nothing in it says nothing: it is what is left of one whose keys were removed.
    let says = |id: &String| config.get(&format!("plugins.{id}")).is_some_and(|table| table.as_object().is_none_or(|t| !t.is_empty()));
    let tables = config.plugin_ids().into_iter().filter(says).map(|id| (format!("plugins.{id}"), id, None));
    let mut named: Vec<(String, String, Option<Kind>)> = tables.collect();
    for (key, kind) in [
        ("agent.provider", Kind::Provider),
        ("agent.tools", Kind::Tool),
        ("voice.vad", Kind::Vad),
        ("voice.stt", Kind::Stt),
        ("voice.tts", Kind::Tts),
        ("serve.channels", Kind::Channel),
        ("serve.owners", Kind::Channel),
    ] {
        let mut names = config.get(key).and_then(|v| serde_json::from_value::<Vec<String>>(v).ok()).unwrap_or_default();
        if matches!(key, "agent.provider" | "serve.owners") {
            // What stands behind a colon is a model, or a person.
            names.iter_mut().for_each(|name| name.truncate(name.find(':').unwrap_or(name.len())));
        }
        let named_here = names.into_iter().enumerate().map(|(n, name)| (format!("{key}[{n}]"), name, Some(kind)));
        let is_here = |name: &str| {
            let has_tools = || kind == Kind::Tool && host.manifest(name).is_some_and(|m| m.kinds().contains(&kind));
            host.provider_of(kind, name).is_some() || has_tools()
        };
        named.extend(named_here.filter(|(_, name, _)| !is_here(name)));
    }
    let mut rows: Vec<(String, Row)> = Vec::new();
    for (key, name, kind) in named {
        let known = CATALOG.iter().find(|k| match kind {
            None => k.id == name,
            Some(kind) => is_named(k, kind, &name),
        });
        let id = known.map_or(name.as_str(), |k| k.id);
        if here.iter().chain(rows.iter().map(|(_, row)| row)).any(|row| row.id == id) {
            continue;
        }
        let row = match known {
            Some(known) => {
                let mut kinds: Vec<String> = known.provides.iter().map(|(kind, _)| kind.name().to_owned()).collect();
                kinds.dedup();
                let reason = format!("configured, but its crate {} is not in this binary", known.package);
                let mut row = Row::missing(id, kinds, reason, build_with(&[known.id]));
                row.description = known.description.to_owned();
                row
            }
            None => {
                let kinds = kind.map(|k| k.name().to_owned()).into_iter().collect();
                let close = bespoke_manifest::closest(&name, CATALOG.iter().map(|k| k.id));
                let reason = close.map_or("configured, but nobody knows it".to_owned(), |close| {
                    format!("configured, but nobody knows it; did you mean `{close}`?")
                });
                // All that is left of a library is that it was trusted.
                let left = config.get(&key).and_then(|table| Some(table.as_object()?.keys().eq(["allow_native"])));
                let fix = if left == Some(true) { format!("bespoke plugin revoke {id}") } else { edit.to_owned() };
                Row::missing(id, kinds, reason, fix)
            }
        };
        rows.push((key, row));
    }
    rows
}

/// Of plugins that are tried in order: if the first one failed, the one that serves instead is not what was asked for.
pub(super) fn degrade_stand_in(rows: &mut [Row], ids: &[String]) {
    let Some(first) = ids.first().and_then(|id| rows.iter().find(|row| row.id == *id && row.state == State::Failed)) else { return };
    let reason = format!("stands in for {}: {}", first.id, first.reason.as_deref().unwrap_or("it failed"));
    let serves = ids[1..].iter().find_map(|id| rows.iter().position(|row| row.id == *id && row.state == State::Ready));
    if let Some(row) = serves.map(|at| &mut rows[at]).filter(|row| row.health == "ok") {
        row.health = "degraded".to_owned();
        row.reason = Some(reason);
    }
}

/// Whether a name of the configuration means this plugin. Tools are also named by their plugin.
pub(super) fn is_named(known: &Known, kind: Kind, name: &str) -> bool {
    known.provides.iter().any(|(of, own)| *of == kind && (*own == name || kind == Kind::Tool && known.id == name))
}

/// Features that are no plugin and that no plugin brings along, and whether this binary has them.
const PARTS: &[(&str, bool)] = &[
    ("build", cfg!(feature = "build")),
    ("demo", cfg!(feature = "demo")),
    ("dylib", cfg!(feature = "dylib")),
    ("keyring", cfg!(feature = "keyring")),
    ("process", cfg!(feature = "process")),
    ("silero-bundled", cfg!(feature = "silero-bundled")),
    ("testkit", cfg!(feature = "testkit")),
    ("wasi", cfg!(feature = "wasi")),
    ("wasm", cfg!(feature = "wasm")),
    ("xla", cfg!(feature = "xla")),
];

/// The command that builds this binary with more features: those it has, and these.
pub(crate) fn build_with(features: &[&str]) -> String {
    let mut all: Vec<&str> =
        bespoke_plugin_api::compiled_in().iter().map(|d| d.id()).filter(|id| CATALOG.iter().any(|k| k.id == *id)).collect();
    all.extend(PARTS.iter().filter(|(_, enabled)| *enabled).map(|(part, _)| part));
    all.extend(features);
    all.sort_unstable();
    all.dedup();
    format!("cargo build --release --features {}", all.join(","))
}

#[cfg(test)]
mod tests {
    use bespoke_host::Config;

    use super::*;

    /// A program without plugins, whatever this one has.
    fn rows_of(text: &str) -> Vec<Row> {
        let config = Config::parse("bespoke.toml", text).unwrap();
        missing(&Host::builder().config(config).build().unwrap(), "edit bespoke.toml")
    }

    #[tokio::test]
    async fn a_known_plugin_that_is_not_here_has_the_command_that_adds_it() {
        let rows = rows_of("[voice]\nvad = [\"silero\"]\n[plugins.silero]\nengine = \"builtin\"\n[plugins]\nauto_install_deps = true\n");
        assert_eq!(rows.len(), 1, "{rows:?}");
        let row = &rows[0];
        assert_eq!(
            (row.id.as_str(), row.kinds.as_slice(), row.tier.name(), row.state.name()),
            ("silero", &["vad".to_owned()][..], "none", "missing")
        );
        assert!(row.reason.as_deref().is_some_and(|reason| reason.contains("bespoke-vad-silero")), "{row:?}");
        let fix = row.fix.clone().unwrap_or_default();
        let features = fix.strip_prefix("cargo build --release --features ").unwrap();
        assert!(features.split(',').any(|feature| feature == "silero"), "{fix}");
    }

    #[tokio::test]
    async fn a_name_is_known_by_its_kind_and_a_stranger_is_not() {
        // The provider `smol` is of the plugin `smol`; there is no tool of that name.
        let rows = rows_of("[agent]\nprovider = [\"smol\"]\ntools = [\"smoll\"]\n");
        let ids: Vec<_> = rows.iter().map(|row| row.id.as_str()).collect();
        assert_eq!(ids, ["smol", "smoll"]);
        assert!(rows[1].reason.as_deref().is_some_and(|reason| reason.contains("did you mean `smol`?")), "{rows:?}");
        assert_eq!(rows[1].fix.as_deref(), Some("edit bespoke.toml"));
    }

    #[tokio::test]
    async fn tools_are_named_by_their_names_and_by_their_plugin() {
        let rows = rows_of("[agent]\ntools = [\"files\", \"write_file\", \"run_program\"]\n[voice]\nstt = [\"files\"]\n");
        let shown: Vec<_> = rows.iter().map(|row| (row.id.as_str(), row.description.is_empty())).collect();
        // Once each; and the plugin stands for its tools, not for what it does not have.
        assert_eq!(shown, [("files", false), ("shell", false)]);
        let files = CATALOG.iter().find(|k| k.id == "files").unwrap();
        for (kind, name, means) in
            [(Kind::Tool, "files", true), (Kind::Tool, "write_file", true), (Kind::Tool, "shell", false), (Kind::Stt, "files", false)]
        {
            assert_eq!(is_named(files, kind, name), means, "{kind} {name}");
        }
    }

    /// The features of Cargo.toml, and what each switches on.
    fn features() -> Vec<(&'static str, Vec<&'static str>)> {
        let table = include_str!("../../Cargo.toml").lines().skip_while(|line| *line != "[features]").skip(1);
        let rows = table.take_while(|line| !line.starts_with("[")).filter(|line| !line.starts_with('#'));
        rows.filter_map(|row| Some((row.split_once(" = ")?.0, row.split('"').skip(1).step_by(2).collect()))).collect()
    }

    #[test]
    fn every_part_is_known_or_comes_with_a_plugin() {
        let features = features();
        let is_plugin = |name: &str| CATALOG.iter().any(|known| known.id == name);
        assert!(features.iter().any(|(name, on)| is_plugin(name) && on.contains(&"dep:bespoke-tool-clock")), "{features:?}");
        let mut parts = Vec::new();
        for (name, on) in &features {
            let is_group = on.iter().all(|member| features.iter().any(|(name, _)| name == member));
            let is_group = is_group && !on.is_empty() || *name == "default";
            let is_brought = features.iter().any(|(plugin, on)| is_plugin(plugin) && on.contains(name));
            if !is_plugin(name) && !is_group && !is_brought {
                parts.push(*name);
            }
        }
        parts.sort_unstable();
        assert_eq!(PARTS.iter().map(|(part, _)| *part).collect::<Vec<_>>(), parts);
    }

    #[test]
    fn the_build_command_keeps_what_this_binary_has() {
        let command = build_with(&["zzz"]);
        let (_, features) = command.rsplit_once(' ').unwrap();
        let features: Vec<_> = features.split(',').collect();
        for id in bespoke_plugin_api::compiled_in().iter().map(|d| d.id()).chain(["zzz"]) {
            assert!(features.contains(&id), "{id}: {command}");
        }
        assert!(PARTS.iter().all(|(part, enabled)| features.contains(part) == *enabled), "{command}");
    }
}
