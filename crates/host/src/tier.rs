//! How a tier joins the program: a driver in a slice, as plugins do in theirs. What a tier needs to know of the program, and what it
//! is told of each plugin that it starts. How a plugin is run, and behind which wall, is the tier's own.

use std::{ffi::OsString, path::PathBuf, process::ExitCode, sync::Arc};

use bespoke_manifest::{Manifest, Permissions, Resources};
use bespoke_plugin_api::{Result, linkme};
use serde::{Deserialize, Serialize};

use crate::{
    candidate::{Artifact, Tier},
    grants::Used,
};

/// A tier that is linked into this program.
#[derive(Debug)]
pub struct TierDriver {
    /// Which one.
    pub tier: Tier,
    /// Makes what lies in a folder something that can be started. Runs nothing of it.
    pub open: fn(&PluginFolder, &Grounds) -> Result<Arc<dyn Artifact>>,
    /// What of its wall this machine can enforce. Looks, and changes nothing.
    pub abilities: fn() -> Vec<Ability>,
}

/// Words before which the program does something that is no verb of its command line, such as becoming the parent of a plugin.
/// They begin with two underscores, and run before anything else of the program does.
#[derive(Debug)]
pub struct InnerVerb {
    /// The first argument, such as `__exec`.
    pub name: &'static str,
    /// Given the arguments after it.
    pub run: fn(&[OsString]) -> ExitCode,
}

/// The tiers that the program was linked with.
#[allow(unsafe_code, reason = "linkme places the elements in a link section")]
#[linkme::distributed_slice]
#[linkme(crate = bespoke_plugin_api::linkme)]
pub static BESPOKE_TIERS_V1: [Option<TierDriver>];

/// Keeps the slice from being empty, which crashes one linker.
#[allow(unsafe_code, reason = "linkme places the element in a link section")]
#[linkme::distributed_slice(BESPOKE_TIERS_V1)]
#[linkme(crate = bespoke_plugin_api::linkme)]
static NO_TIER: Option<TierDriver> = None;

/// What the program can become instead of running its command line.
#[allow(unsafe_code, reason = "linkme places the elements in a link section")]
#[linkme::distributed_slice]
#[linkme(crate = bespoke_plugin_api::linkme)]
pub static BESPOKE_INNER_VERBS_V1: [Option<InnerVerb>];

/// Keeps the slice from being empty, which crashes one linker.
#[allow(unsafe_code, reason = "linkme places the element in a link section")]
#[linkme::distributed_slice(BESPOKE_INNER_VERBS_V1)]
#[linkme(crate = bespoke_plugin_api::linkme)]
static NO_VERB: Option<InnerVerb> = None;

/// The tiers of this program beside the one that is compiled in, by name.
pub fn tiers() -> Vec<&'static TierDriver> {
    let mut all: Vec<_> = BESPOKE_TIERS_V1.iter().flatten().collect();
    all.sort_by_key(|driver| driver.tier.name());
    all
}

/// The inner verb of that name.
pub fn inner_verb(name: &str) -> Option<&'static InnerVerb> {
    BESPOKE_INNER_VERBS_V1.iter().flatten().find(|verb| verb.name == name)
}

/// A folder with a plugin in it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PluginFolder {
    /// Where it is; absolute.
    pub path: PathBuf,
    /// What it says of itself.
    pub manifest: Arc<Manifest>,
}

impl PluginFolder {
    /// A folder and its manifest, which was read already.
    pub fn new(path: PathBuf, manifest: Arc<Manifest>) -> Self {
        PluginFolder { path, manifest }
    }
}

/// What a tier may know of the program that it is part of.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Grounds {
    /// The folder for what can be made again: copies, caches, virtual environments.
    pub cache: PathBuf,
    /// The program itself, for tiers that start it again with an inner verb; not there in a program without them, such as a test.
    pub program: Option<PathBuf>,
    /// Whether dependencies of a plugin may be installed without a question.
    pub install_dependencies: bool,
    /// The command that builds the program with more features; its words are for the user.
    pub rebuild: Option<fn(&[&str]) -> String>,
}

impl Grounds {
    /// A place for caches; nothing else.
    pub fn new(cache: PathBuf) -> Self {
        Grounds { cache, program: None, install_dependencies: false, rebuild: None }
    }

    /// With the program that has the inner verbs.
    #[must_use]
    pub fn program(mut self, program: PathBuf) -> Self {
        self.program = Some(program);
        self
    }

    /// With the command that builds the program with more features.
    #[must_use]
    pub fn rebuild(mut self, rebuild: fn(&[&str]) -> String) -> Self {
        self.rebuild = Some(rebuild);
        self
    }

    /// What a user does to get more features.
    pub fn build_with(&self, features: &[&str]) -> String {
        let plain = || format!("build the program again with the feature `{}`", features.join("`, `"));
        self.rebuild.map_or_else(plain, |rebuild| rebuild(features))
    }

    /// With dependencies that are installed when they are missing.
    #[must_use]
    pub fn install_dependencies(mut self, install: bool) -> Self {
        self.install_dependencies = install;
        self
    }
}

/// One part of a wall, and whether this machine has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Ability {
    /// What it does, such as `files` or `memory`.
    pub name: &'static str,
    /// Whether it is enforced here.
    pub enforced: bool,
    /// By what, or why not.
    pub detail: String,
}

impl Ability {
    /// One that is there, or is not.
    pub fn new(name: &'static str, enforced: bool, detail: impl Into<String>) -> Self {
        Ability { name, enforced, detail: detail.into() }
    }
}

/// How much of a wall a plugin must have around it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Sandbox {
    /// As much as the machine can enforce.
    #[default]
    Auto,
    /// All of it: on a machine that lacks a part the plugin does not start.
    Required,
    /// None, but for what keeps processes from being left behind: for plugins that are being written, and trusted.
    Off,
}

impl Sandbox {
    /// All of them.
    pub const ALL: &[Sandbox] = &[Sandbox::Auto, Sandbox::Required, Sandbox::Off];

    /// The name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Sandbox::Auto => "auto",
            Sandbox::Required => "required",
            Sandbox::Off => "off",
        }
    }
}

/// What an instance may have and use.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Terms {
    /// What the user has granted of what the manifest asks for.
    pub granted: Permissions,
    /// The limits: what the manifest says, as the configuration tightens or widens it.
    pub limits: Resources,
    /// How much of a wall it must have.
    pub sandbox: Sandbox,
    /// Where a tier counts what its wall refused.
    pub used: Arc<Used>,
}
