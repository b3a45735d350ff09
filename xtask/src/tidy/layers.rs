//! Arrows between crates point down only: an allow-list of edges. What is not listed is not allowed.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, Package, PackageId};

use crate::workspace::folder;

/// What a crate may know of the others, besides itself. Groups: `@plugins` are the plugin crates, `@support` the leaf
/// libraries, `@all` every crate.
const EDGES: &[(&str, &[&str])] = &[
    ("plugin-api", &[]),
    ("audio", &[]),
    ("fetch", &[]),
    ("library", &[]),
    ("onnx", &["library", "cuda"]),
    ("pjrt", &["library"]),
    ("cuda", &["library"]),
    ("runtimes", &["fetch", "cuda"]),
    ("schema", &[]),
    ("screen", &[]),
    ("sandbox", &[]),
    ("manifest", &["plugin-api"]),
    ("protocol", &["plugin-api"]),
    ("plugin-guest", &["plugin-api", "protocol"]),
    ("plugin-proxy", &["plugin-api", "protocol"]),
    ("plugin-testkit", &["plugin-api", "protocol", "plugin-guest", "plugin-proxy", "manifest", "schema"]),
    ("host", &["plugin-api", "protocol", "manifest", "plugin-proxy", "schema", "screen"]),
    ("guest-process", &["plugin-api", "protocol", "plugin-guest"]),
    ("guest-dylib", &["plugin-api", "protocol", "plugin-guest"]),
    ("guest-wasm", &["plugin-api", "protocol", "plugin-guest"]),
    ("tier", &["plugin-api", "protocol", "host"]),
    ("tier-process", &["plugin-api", "protocol", "manifest", "host", "plugin-proxy", "guest-process", "sandbox", "tier"]),
    ("tier-dylib", &["plugin-api", "protocol", "manifest", "host", "plugin-proxy", "library", "tier"]),
    ("tier-wasm", &["plugin-api", "protocol", "manifest", "host", "plugin-proxy", "tier"]),
    ("builder", &["manifest"]),
    ("host-stdio", &["plugin-api", "manifest", "host"]),
    ("http", &["plugin-api", "host"]),
    ("agent", &["plugin-api", "host"]),
    ("state", &["plugin-api", "host", "agent"]),
    ("voice", &["plugin-api", "host", "agent", "@support"]),
    ("serve", &["plugin-api", "host", "agent", "state", "voice"]),
    ("gateway", &["plugin-api", "host"]),
    ("control", &[]),
    ("multipart", &[]),
    ("ogg-opus", &[]),
    ("program", &[]),
    ("address", &[]),
    ("configured-hooks", &["plugin-api"]),
    ("signed", &[]),
    ("bespoke", &["@all"]),
    ("@plugins", &["plugin-api", "@support"]),
];

/// What tests and benches of a crate may know besides.
const DEV_EDGES: &[(&str, &[&str])] = &[
    ("@plugins", &["plugin-testkit", "manifest", "host", "http"]),
    ("plugin-testkit", &["@plugins"]),
    ("plugin-api", &["plugin-testkit"]),
    ("plugin-guest", &["plugin-testkit", "plugin-proxy"]),
    ("plugin-proxy", &["plugin-testkit", "plugin-guest"]),
    ("host", &["@plugins", "plugin-testkit"]),
    ("http", &["plugin-testkit", "manifest"]),
    ("state", &["@plugins", "plugin-testkit", "manifest"]),
    ("guest-process", &["@plugins", "plugin-testkit", "plugin-proxy"]),
    ("tier-process", &["@plugins", "plugin-testkit"]),
    ("tier-dylib", &["@plugins", "plugin-testkit", "guest-dylib"]),
    ("tier-wasm", &["@plugins", "plugin-testkit"]),
    ("host-stdio", &["@plugins", "plugin-testkit", "tier-process"]),
    ("agent", &["@plugins", "plugin-testkit", "manifest", "http"]),
    ("voice", &["@plugins", "plugin-testkit", "manifest"]),
    ("serve", &["@plugins", "plugin-testkit", "manifest"]),
    ("gateway", &["@plugins", "@support", "plugin-testkit", "manifest", "http"]),
];

const SUPPORT: &[&str] = &[
    "address",
    "audio",
    "configured-hooks",
    "control",
    "cuda",
    "fetch",
    "library",
    "multipart",
    "ogg-opus",
    "onnx",
    "pjrt",
    "program",
    "sandbox",
    "schema",
    "screen",
    "signed",
];

/// Crates of others that only some of ours may use: which, who, why.
const GUARDED: &[(&str, &[&str], &str)] = &[
    ("ort", &["onnx"], "one environment per process; see crates/onnx"),
    ("cudarc", &["cuda"], "it panics without a driver; crates/cuda asks first"),
    ("nvml-wrapper", &["cuda"], "one crate asks NVIDIA's libraries"),
    ("libloading", &["library"], "libraries of others are opened in one place, where no crate made for one opens it"),
    ("clap", &["bespoke"], "only the app has a command line"),
    ("anyhow", &["bespoke"], "libraries have one error enum per boundary"),
    ("opus-pure", &["ogg-opus"], "one codec for voice notes, behind limits for what comes from outside"),
    ("ureq", &["fetch"], "one HTTP client for files"),
    ("hyper", &["http", "gateway"], "one HTTP client for plugins, behind the host's checks, and one listener"),
    ("hyper-util", &["http", "gateway"], "one HTTP client for plugins, behind the host's checks, and one listener"),
    ("rusqlite", &["state"], "one database"),
    ("landlock", &["sandbox"], "one wall around processes"),
    ("libc", &["sandbox", "bespoke"], "one place with calls of the system that need `unsafe`; the app sets up its allocator"),
    ("include_dir", &["tier-process"], "only the Python SDK is a folder inside the binary"),
    ("wasmtime", &["tier-wasm", "benches"], "one engine, behind its limits; the benches hold it against a bare one"),
    ("wasmtime-wasi", &["tier-wasm"], "what plugins have of the system is said in one place"),
    ("notify", &["bespoke"], "only the app looks at files that change"),
    ("jsonschema", &["tier-process"], "2.8 MB that only foreign plugins need; crates/schema is for the rest"),
];

/// Crates that must not be anywhere in the tree of plugin-api: its types name no runtime.
const NOT_IN_API: &[&str] = &["tokio", "futures-util", "schemars"];

pub(super) fn check(metadata: &Metadata) -> Vec<String> {
    let mut problems = Vec::new();
    let folders: BTreeMap<String, String> =
        metadata.workspace_packages().iter().filter_map(|p| Some((p.name.to_string(), folder(p)?))).collect();
    let listed: BTreeSet<&str> = EDGES.iter().map(|(name, _)| *name).collect();
    let plugins: BTreeSet<&str> = metadata
        .workspace_packages()
        .iter()
        .filter(|p| p.manifest_path.with_file_name("plugin.toml").exists())
        .filter_map(|p| folders.get(p.name.as_str()).map(String::as_str))
        .collect();
    for package in metadata.workspace_packages() {
        let Some(from) = folders.get(package.name.as_str()) else { continue };
        let expected = if from == "bespoke" { "bespoke".to_owned() } else { format!("bespoke-{from}") };
        if package.name != expected {
            problems.push(format!("crates/{from}: the package is `{}`; name it `{expected}`", package.name));
        }
        if package.description.is_none() {
            problems.push(format!("crates/{from}/Cargo.toml: no description; say in one line what the crate is"));
        }
        let cargo_toml = std::fs::read_to_string(&package.manifest_path).unwrap_or_default();
        if !cargo_toml.contains("[lints]\nworkspace = true") {
            problems.push(format!("crates/{from}/Cargo.toml: no [lints] workspace = true; every crate has the same lints"));
        }
        if !plugins.contains(from.as_str()) && !listed.contains(from.as_str()) {
            problems.push(format!(
                "crates/{from}: no layer; add it to EDGES in xtask/src/tidy/layers.rs, or, for a plugin, write its plugin.toml"
            ));
            continue;
        }
        problems.extend(edges(package, from, &folders, &plugins));
        problems.extend(guarded(package, from));
    }
    problems.extend(api_tree(metadata));
    problems
}

fn edges(package: &Package, from: &str, folders: &BTreeMap<String, String>, plugins: &BTreeSet<&str>) -> Vec<String> {
    let me = if plugins.contains(from) { "@plugins" } else { from };
    let rules = |table: &[(&str, &'static [&'static str])]| table.iter().find(|(name, _)| *name == me).map_or(&[][..], |(_, to)| to);
    let allowed = |to: &str, rules: &[&str]| {
        rules.iter().any(|rule| match *rule {
            "@all" => true,
            "@plugins" => plugins.contains(to),
            "@support" => SUPPORT.contains(&to),
            name => name == to,
        })
    };
    let mut problems = Vec::new();
    for dependency in &package.dependencies {
        let Some(to) = folders.get(&dependency.name).filter(|to| *to != from) else { continue };
        let dev = dependency.kind == DependencyKind::Development;
        let fits = allowed(to, rules(EDGES)) || dev && allowed(to, rules(DEV_EDGES));
        if !fits {
            let what = if dev { "its tests may not know" } else { "it may not know" };
            problems.push(format!("crates/{from}/Cargo.toml: {what} crates/{to}; arrows point down only (xtask/src/tidy/layers.rs)"));
        }
    }
    problems
}

fn guarded(package: &Package, from: &str) -> Vec<String> {
    let of = |name: &str| GUARDED.iter().find(|(guarded, _, _)| *guarded == name);
    let normal = package.dependencies.iter().filter(|d| d.kind == DependencyKind::Normal);
    normal
        .filter_map(|d| of(&d.name))
        .filter(|(_, who, _)| !who.contains(&from))
        .map(|(name, who, why)| format!("crates/{from}/Cargo.toml: only {} may use `{name}`: {why}", who.join(", ")))
        .collect()
}

/// What plugin-api brings along, over all edges that are no tests.
fn api_tree(metadata: &Metadata) -> Vec<String> {
    let Some(resolve) = &metadata.resolve else { return vec!["cargo metadata has no tree of dependencies".into()] };
    let names: BTreeMap<&PackageId, &str> = metadata.packages.iter().map(|p| (&p.id, p.name.as_str())).collect();
    let Some(api) = metadata.packages.iter().find(|p| p.name == "bespoke-plugin-api") else {
        return vec!["there is no package bespoke-plugin-api".into()];
    };
    let (mut seen, mut open) = (BTreeSet::new(), vec![&api.id]);
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        for dep in resolve.nodes.iter().filter(|n| n.id == *id).flat_map(|n| &n.deps) {
            if dep.dep_kinds.iter().any(|k| k.kind != DependencyKind::Development) {
                open.push(&dep.pkg);
            }
        }
    }
    let found = seen.iter().filter_map(|id| names.get(id)).filter(|name| NOT_IN_API.contains(name));
    found.map(|name| format!("crates/plugin-api: `{name}` is in its tree; its types name no runtime and stay few")).collect()
}
