//! The plugin's crate as its author wrote it: its manifest, its package, and where its `bespoke-plugin-api` comes from. Nothing is built.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use bespoke_manifest::{Inherited, Manifest, Tier};
use cargo_metadata::{Dependency, DependencyKind, Package};
use toml_edit::{DocumentMut, InlineTable, Item, TableLike, Value};

use crate::{cargo::Cargo, error::BuildError};

/// The crate that every plugin depends on, and that says where the others are.
const API: &str = "bespoke-plugin-api";

/// A plugin's crate.
#[derive(Debug)]
pub(crate) struct Source {
    /// Its folder, absolute.
    pub(crate) folder: PathBuf,
    /// The text of `plugin.toml`.
    pub(crate) text: String,
    pub(crate) manifest: Manifest,
    /// The file that its library begins with.
    pub(crate) code: PathBuf,
    /// Name of its package.
    pub(crate) package: String,
    /// The workspace that it is in, perhaps its own.
    pub(crate) workspace: PathBuf,
    /// Where cargo builds it.
    pub(crate) target: PathBuf,
    /// Licence of the package.
    pub(crate) license: String,
    pub(crate) origin: Origin,
}

/// Where `bespoke-plugin-api` comes from, and with it the other crates of Bespoke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A folder with the crates of Bespoke: `crates/`.
    Folder(PathBuf),
    /// A repository of git, and what of it.
    Git { url: String, what: Option<(String, String)> },
    /// A registry, by its index where it is not the usual one.
    Registry { version: String, index: Option<String> },
}

impl Source {
    pub(crate) fn read(cargo: &Cargo, folder: &Path) -> Result<Self, BuildError> {
        let folder = fs::canonicalize(folder).map_err(|e| BuildError::io(folder, e))?;
        let no_file = |file, what| BuildError::NoFile { folder: folder.clone(), file, what };
        let (cargo_toml, plugin_toml) = (folder.join("Cargo.toml"), folder.join("plugin.toml"));
        if !cargo_toml.is_file() {
            return Err(no_file("Cargo.toml", "what is built is a crate of Rust"));
        }
        if !plugin_toml.is_file() {
            return Err(no_file("plugin.toml", "the manifest says what the plugin is and in which tiers it ships"));
        }
        let text = fs::read_to_string(&plugin_toml).map_err(|e| BuildError::io(&plugin_toml, e))?;
        leads_somewhere(&folder, &cargo_toml)?;
        let metadata = cargo.packages(&cargo_toml)?;
        let no_plugin = |why: String| BuildError::NoPlugin { manifest: cargo_toml.clone(), why };
        let own = |package: &&Package| fs::canonicalize(&package.manifest_path).is_ok_and(|path| path == cargo_toml);
        let package = metadata.packages.iter().find(own).ok_or_else(|| no_plugin("it has no [package]".to_owned()))?;
        let Some(library) = package.targets.iter().find(|target| target.is_lib()) else {
            return Err(no_plugin("it is no library; a plugin is one, with its code in src/lib.rs".to_owned()));
        };
        let version = package.version.to_string();
        let license = package.license.clone().unwrap_or_default();
        let inherited = Inherited { version: &version, license: &license };
        let manifest = Manifest::parse(&plugin_toml.to_string_lossy(), &text, Some(inherited))?;
        let is_api = |d: &&Dependency| d.name == API && d.kind == DependencyKind::Normal;
        let api = package.dependencies.iter().find(is_api);
        let api = api.ok_or_else(|| no_plugin(format!("it does not depend on {API}, which a plugin is written against")))?;
        let origin = Origin::of(api).ok_or_else(|| no_plugin(format!("{API} comes from where the other crates are not found")))?;
        Ok(Source {
            text,
            manifest,
            code: library.src_path.clone().into_std_path_buf(),
            package: package.name.to_string(),
            workspace: metadata.workspace_root.clone().into_std_path_buf(),
            target: metadata.target_directory.clone().into_std_path_buf(),
            license,
            origin,
            folder,
        })
    }

    /// Whether its manifest lists the tier.
    pub(crate) fn ships_as(&self, tier: Tier) -> Result<(), BuildError> {
        if self.manifest.tiers.contains(&tier) {
            return Ok(());
        }
        Err(BuildError::NotListed {
            id: self.manifest.id.clone(),
            manifest: self.folder.join("plugin.toml"),
            line: self.manifest.position("tiers").map_or(1, |position| position.line),
            tier,
            listed: self.manifest.tiers.clone(),
        })
    }
}

/// Whether each path among the dependencies leads to a crate: those of a folder that was copied elsewhere do not. What only its tests depend
/// on matters where cargo looks for members of a workspace. Asked before cargo is, which has other words for some of it.
fn leads_somewhere(folder: &Path, manifest: &Path) -> Result<(), BuildError> {
    let text = fs::read_to_string(manifest).map_err(|e| BuildError::io(manifest, e))?;
    // What is no TOML, cargo tells.
    let Ok(document) = text.parse::<DocumentMut>() else { return Ok(()) };
    let root: &dyn TableLike = document.as_table();
    let kinds = ["dependencies", "build-dependencies", "dev-dependencies"];
    let kinds = if root.contains_key("workspace") { &kinds[..] } else { &kinds[..2] };
    let targets = root.get("target").and_then(Item::as_table_like).into_iter().flat_map(|targets| targets.iter());
    let tables = std::iter::once(root).chain(targets.filter_map(|(_, target)| target.as_table_like()));
    let named = tables.flat_map(|table| kinds.iter().filter_map(|kind| table.get(kind)?.as_table_like()));
    for (name, dependency) in named.flat_map(|dependencies| dependencies.iter()) {
        let path = dependency.as_table_like().and_then(|dependency| dependency.get("path")).and_then(Item::as_str);
        let Some(path) = path.map(|path| folder.join(path)).filter(|path| !path.join("Cargo.toml").is_file()) else { continue };
        // As a key, or in the name of a table.
        let is_named = |line: &str| {
            let key = line.trim_start().split(['=', '.', ' ']).next().unwrap_or_default();
            key.trim_matches('"') == name || line.trim_end().ends_with(&format!(".{name}]"))
        };
        let line = text.lines().position(is_named).map_or(1, |at| at + 1);
        return Err(BuildError::LeadsNowhere { manifest: manifest.to_owned(), line, name: name.to_owned(), path: plain(&path) });
    }
    Ok(())
}

/// Without `..`, as far as that goes by the name alone: there is nothing there that could be a link.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut plain, part| {
        match part {
            Component::ParentDir => _ = plain.pop(),
            part => plain.push(part),
        }
        plain
    })
}

impl Origin {
    fn of(api: &Dependency) -> Option<Self> {
        if let Some(path) = &api.path {
            return Some(Origin::Folder(path.parent()?.to_path_buf().into_std_path_buf()));
        }
        let source = api.source.as_ref()?.repr.as_str();
        if let Some(git) = source.strip_prefix("git+") {
            let git = git.split('#').next().unwrap_or(git);
            let (url, query) = git.split_once('?').map_or((git, None), |(url, query)| (url, Some(query)));
            let what = query.and_then(|query| query.split_once('=')).map(|(key, value)| (key.to_owned(), value.to_owned()));
            return Some(Origin::Git { url: url.to_owned(), what });
        }
        Some(Origin::Registry { version: api.req.to_string(), index: api.registry.clone() })
    }

    /// A crate of Bespoke, as a dependency of a Cargo.toml.
    pub(crate) fn dependency(&self, package: &str, features: &[String]) -> Value {
        let mut table = InlineTable::new();
        match self {
            Origin::Folder(crates) => {
                let folder = package.strip_prefix("bespoke-").unwrap_or(package);
                table.insert("path", crates.join(folder).to_string_lossy().into_owned().into());
            }
            Origin::Git { url, what } => {
                table.insert("git", url.into());
                if let Some((key, value)) = what {
                    table.insert(key, value.into());
                }
            }
            Origin::Registry { version, index } => {
                table.insert("version", version.into());
                if let Some(index) = index {
                    table.insert("registry-index", index.into());
                }
            }
        }
        if !features.is_empty() {
            table.insert("features", Value::Array(features.iter().collect()));
        }
        Value::InlineTable(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The dependency as `cargo metadata` writes it.
    fn dependency(more: &str) -> Dependency {
        let text = format!(
            r#"{{"name":"bespoke-plugin-api","source":null,"req":"*","kind":null,"rename":null,"optional":false,
                "uses_default_features":true,"features":[],"target":null,"registry":null{more}}}"#
        );
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        serde_json::from_value(value).unwrap()
    }

    fn written(more: &str) -> String {
        Origin::of(&dependency(more)).unwrap().dependency("bespoke-guest-wasm", &[]).to_string()
    }

    #[test]
    fn the_other_crates_come_from_where_the_api_comes_from() {
        assert_eq!(written(r#","path":"/b/crates/plugin-api""#), r#"{ path = "/b/crates/guest-wasm" }"#);
        assert_eq!(written(r#","source":"git+https://host.example/b""#), r#"{ git = "https://host.example/b" }"#);
        assert_eq!(
            written(r#","source":"git+ssh://git@host.example/b.git?branch=next""#),
            r#"{ git = "ssh://git@host.example/b.git", branch = "next" }"#
        );
        assert_eq!(written(r#","source":"registry+https://host.example/index","req":"^0.1""#), r#"{ version = "^0.1" }"#);
        assert_eq!(
            written(r#","source":"registry+https://host.example/index","req":"^0.1","registry":"https://host.example/index""#),
            r#"{ version = "^0.1", registry-index = "https://host.example/index" }"#
        );
    }
}
