//! A plugin's names agree everywhere: folder, package, id in plugin.toml and in `plugin!`, feature, line in plugins.rs.

use std::{collections::BTreeSet, fs};

use anyhow::Result;
use serde_json::Value;

use crate::{
    app_manifest::{AppManifest, FULL, Feature},
    workspace::{Plugin, Workspace, folder_of},
};

pub(super) fn check(workspace: &Workspace, plugins: &[Plugin]) -> Result<Vec<String>> {
    let app = workspace.app()?;
    let mut problems = features(&app, plugins);
    problems.extend(lines(&workspace.read("crates/bespoke/src/plugins.rs")?, &app));
    for plugin in plugins {
        problems.extend(names(plugin));
        problems.extend(literal(workspace, plugin)?);
        problems.extend(schema(workspace, plugin));
    }
    Ok(problems)
}

/// Features of the app against plugin crates, both ways.
fn features(app: &AppManifest, plugins: &[Plugin]) -> Vec<String> {
    let mut problems = Vec::new();
    let features = app.plugins();
    for plugin in plugins {
        let (id, package) = (&plugin.manifest.id, &plugin.package);
        match features.get(id.as_str()) {
            Some(of) if of == package => {}
            Some(of) => problems.push(format!("crates/bespoke/Cargo.toml: feature `{id}` switches on {of}; it is the id of {package}")),
            None => problems.push(format!("crates/bespoke/Cargo.toml: no feature `{id}` for {package}; add {id} = [\"dep:{package}\"]")),
        }
    }
    for (feature, package) in &features {
        if !plugins.iter().any(|p| p.package == *package) {
            problems.push(format!("crates/bespoke/Cargo.toml: feature `{feature}` switches on {package}, which has no plugin.toml"));
        }
    }
    let full = app.reach(&[FULL.to_owned()]);
    for feature in features.keys().filter(|f| !full.contains(**f)) {
        problems.push(format!("crates/bespoke/Cargo.toml: `{FULL}` lacks `{feature}`"));
    }
    if app.reach(&["local".to_owned()]).contains("fake") {
        problems.push("crates/bespoke/Cargo.toml: `local` holds `fake`; stand-ins are never part of what people run".into());
    }
    if !app.members("default").is_empty() {
        problems.push("crates/bespoke/Cargo.toml: default is not empty; what is named is what ships".into());
    }
    for name in app.names() {
        if app.comment(name).is_empty() {
            problems.push(format!("crates/bespoke/Cargo.toml: feature `{name}` has no comment above it; say what it is"));
        }
        if let Feature::Part { of } = app.what(name)
            && !features.contains_key(of.as_str())
        {
            problems.push(format!("crates/bespoke/Cargo.toml: `{name}` is a part of `{of}`, which is no plugin"));
        }
    }
    problems
}

/// plugins.rs holds one `use` per plugin feature, and nothing else.
fn lines(text: &str, app: &AppManifest) -> Vec<String> {
    const FILE: &str = "crates/bespoke/src/plugins.rs";
    let mut problems = Vec::new();
    let mut wanted: BTreeSet<String> =
        app.plugins().iter().map(|(id, package)| format!("#[cfg(feature = \"{id}\")] use {} as _;", package.replace('-', "_"))).collect();
    let mut rows = text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty() && !l.starts_with("//!"));
    while let Some((n, row)) = rows.next() {
        let whole = match row.ends_with(']').then(|| rows.next()).flatten() {
            Some((_, next)) => format!("{} {}", row.trim(), next.trim()),
            None => row.trim().to_owned(),
        };
        if !wanted.remove(&whole) {
            problems.push(format!("{FILE}:{}: `{whole}` is no line of a plugin feature, or stands here twice; remove it", n + 1));
        }
    }
    problems.extend(wanted.iter().map(|line| format!("{FILE}: no line `{line}`; add it")));
    problems
}

/// The folder is the id, or a kind that the plugin provides and the id.
fn names(plugin: &Plugin) -> Vec<String> {
    let (folder, m) = (&plugin.folder, &plugin.manifest);
    let fits = *folder == m.id || m.kinds().iter().any(|kind| *folder == folder_of(kind.name(), &m.id));
    if fits {
        return Vec::new();
    }
    let wanted = m.kinds().first().map_or_else(|| m.id.clone(), |kind| folder_of(kind.name(), &m.id));
    vec![format!("crates/{folder}: plugin.toml says `{}`; name the folder `{wanted}`", m.id)]
}

/// `plugin!("id", …)` stands once in the crate, with the id of plugin.toml.
fn literal(workspace: &Workspace, plugin: &Plugin) -> Result<Vec<String>> {
    let (folder, id) = (&plugin.folder, &plugin.manifest.id);
    let mut found = Vec::new();
    for path in super::texts::rust_files(&workspace.path(&format!("crates/{folder}/src")))? {
        let text = fs::read_to_string(&path)?;
        let calls = text.lines().filter(|l| !l.trim_start().starts_with("//")).filter_map(|l| l.split_once("plugin!(\""));
        found.extend(calls.filter_map(|(_, rest)| rest.split_once('"')).map(|(id, _)| id.to_owned()));
    }
    Ok(match &found[..] {
        [one] if one == id => Vec::new(),
        [one] => vec![format!("crates/{folder}: plugin!(\"{one}\", …) and id = \"{id}\" in plugin.toml differ; write the same")],
        [] => vec![format!("crates/{folder}: no plugin!(\"{id}\", …) on one line; without it the plugin is not linked")],
        _ => vec![format!("crates/{folder}: plugin!(…) stands {} times; a crate has one plugin", found.len())],
    })
}

/// The schema is there and says what an object may hold. That it is fresh is a test of the plugin's own crate.
fn schema(workspace: &Workspace, plugin: &Plugin) -> Vec<String> {
    let path = format!("crates/{}/config.schema.json", plugin.folder);
    let value: Value = match workspace.read(&path).map(|text| serde_json::from_str(&text)) {
        Ok(Ok(value)) => value,
        Ok(Err(error)) => return vec![format!("{path}: this is not JSON: {error}; run `cargo xtask codegen`")],
        Err(_) => return vec![format!("{path} is missing; run `cargo xtask codegen`")],
    };
    let mut problems = Vec::new();
    if value.get("type").and_then(Value::as_str) != Some("object") || value.get("additionalProperties") != Some(&Value::Bool(false)) {
        problems.push(format!("{path}: a configuration is an object without additionalProperties; see crates/tool-clock"));
    }
    for (key, property) in value.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let class = property.get("x-reload").and_then(Value::as_str).unwrap_or("restart");
        if !["live", "restart", "fixed"].contains(&class) {
            problems.push(format!("{path}: {key}: x-reload is `{class}`; use live, restart or fixed"));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn plugins_rs_has_one_line_per_feature() {
        let app = AppManifest::parse(
            "[features]\n# ---- plugins\nclock = [\"dep:bespoke-tool-clock\"]\nsilero = [\"dep:bespoke-vad-silero\"]\n\n[dependencies]\n",
        )
        .unwrap();
        let good = "//! Doc.\n\n#[cfg(feature = \"clock\")]\nuse bespoke_tool_clock as _;\n#[cfg(feature = \"silero\")]\nuse bespoke_vad_silero as _;\n";
        assert_eq!(lines(good, &app), [""; 0]);
        let bad = "//! Doc.\nuse std::fs;\n#[cfg(feature = \"clock\")]\nuse bespoke_vad_silero as _;\n";
        expect![[r#"
            crates/bespoke/src/plugins.rs:2: `use std::fs;` is no line of a plugin feature, or stands here twice; remove it
            crates/bespoke/src/plugins.rs:3: `#[cfg(feature = "clock")] use bespoke_vad_silero as _;` is no line of a plugin feature, or stands here twice; remove it
            crates/bespoke/src/plugins.rs: no line `#[cfg(feature = "clock")] use bespoke_tool_clock as _;`; add it
            crates/bespoke/src/plugins.rs: no line `#[cfg(feature = "silero")] use bespoke_vad_silero as _;`; add it"#]].assert_eq(&lines(bad, &app).join("\n"));
    }
}
