//! What a tier hands to the host: a plugin that was found, before anything of it runs, and the words for how it ships and where it is in
//! its life.

use std::{fmt, sync::Arc};

use bespoke_manifest::{Inherited, Manifest};
use bespoke_plugin_api::{BoxFuture, Descriptor, Error, Instance, PluginContext, Result, Spec};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::tier::Terms;

/// How a plugin ships.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Tier {
    /// Part of this program.
    Compiled,
    /// A dynamic library.
    Dylib,
    /// A wasm component.
    Wasm,
    /// A child process.
    Process,
    /// Configured, but not there.
    None,
}

impl Tier {
    /// The name in listings.
    pub const fn name(self) -> &'static str {
        match self {
            Tier::Compiled => "compiled",
            Tier::Dylib => "dylib",
            Tier::Wasm => "wasm",
            Tier::Process => "process",
            Tier::None => "none",
        }
    }
}

/// Where a plugin is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum State {
    /// Configured, but neither in this binary nor installed.
    Missing,
    /// Switched off in the configuration.
    Disabled,
    /// Waits for the user's consent.
    Blocked,
    /// Known, not started.
    Unloaded,
    /// `start` runs.
    Starting,
    /// Serves.
    Ready,
    /// Takes no new calls; the last ones run out.
    Draining,
    /// Stopped in order.
    Stopped,
    /// Could not start, or broke.
    Failed,
    /// Broke too often; not tried again by itself.
    Quarantined,
}

impl State {
    /// The name in listings.
    pub const fn name(self) -> &'static str {
        match self {
            State::Missing => "missing",
            State::Disabled => "disabled",
            State::Blocked => "blocked",
            State::Unloaded => "unloaded",
            State::Starting => "starting",
            State::Ready => "ready",
            State::Draining => "draining",
            State::Stopped => "stopped",
            State::Failed => "failed",
            State::Quarantined => "quarantined",
        }
    }

    /// Whether nothing more will happen by itself.
    pub const fn is_settled(self) -> bool {
        !matches!(self, State::Unloaded | State::Starting | State::Draining)
    }
}

/// What a tier hands to the host: a plugin that could be started. Everything that runs plugin code is called by the host on a
/// thread it can do without.
pub trait Artifact: Send + Sync {
    /// Why nothing of it can ever run in this program, and the state that says so: `Missing` where another build of the program could run
    /// it, else `Failed`. Such a plugin is listed with its manifest, and never asked or started.
    fn refusal(&self) -> Option<(State, Error)> {
        None
    }
    /// Whether the file that it runs from is there, and of the sort that it should be, as far as its first bytes say. Asked where
    /// something else is wrong as well, so that this is said first. Runs nothing.
    ///
    /// # Errors
    /// `LOAD_FAILED`.
    fn look(&self) -> Result<()> {
        Ok(())
    }
    /// Makes what it needs before it can start and what is not there, such as packages, if that may be done without a question; else, and
    /// when nothing is missing, it does nothing. `tell` gets a line for people before something takes long. It may take minutes: it comes
    /// before a start, and has a limit of its own.
    ///
    /// # Errors
    /// `DEPENDENCY_MISSING`.
    fn prepare(&self, tell: &dyn Fn(&str)) -> Result<()> {
        let _ = tell;
        Ok(())
    }
    /// What it says it contributes. May ask the plugin itself, in its own process or store, on these terms or stricter ones.
    ///
    /// # Errors
    /// `LOAD_FAILED` and whatever else keeps it from being asked.
    fn declare(&self, terms: &Terms) -> Result<Vec<Spec>>;
    /// Whether a configuration fits; the error's `data.path` names the key.
    fn check(&self, config: &Value) -> Result<()>;
    /// Whether it could use a runtime of its manifest with a configuration.
    fn uses_runtime(&self, _config: &Value, _runtime: &str) -> bool {
        true
    }
    /// Makes an instance, which may have and use what the terms say.
    fn start(&self, cx: PluginContext, config: Value, terms: Terms) -> BoxFuture<'static, Result<Instance>>;
}

impl Artifact for &'static Descriptor {
    fn declare(&self, _: &Terms) -> Result<Vec<Spec>> {
        Ok(Descriptor::declare(self))
    }

    fn check(&self, config: &Value) -> Result<()> {
        Descriptor::check(self, config)
    }

    fn uses_runtime(&self, config: &Value, runtime: &str) -> bool {
        Descriptor::uses_runtime(self, config, runtime)
    }

    /// The terms of a plugin inside the program are advice.
    fn start(&self, cx: PluginContext, config: Value, _: Terms) -> BoxFuture<'static, Result<Instance>> {
        Descriptor::start(self, cx, config)
    }
}

/// A plugin that was found, before anything of it ran.
#[derive(Clone)]
pub struct Candidate {
    /// Its id.
    pub id: String,
    /// How it ships.
    pub tier: Tier,
    /// Where it comes from, for messages: a crate, a file.
    pub origin: String,
    /// What it says of itself, or why that cannot be read.
    pub manifest: Result<Arc<Manifest>>,
    /// Text of config.schema.json.
    pub config_schema: String,
    /// What can be started.
    pub artifact: Arc<dyn Artifact>,
}

impl From<&'static Descriptor> for Candidate {
    fn from(descriptor: &'static Descriptor) -> Self {
        let package = descriptor.package();
        let path = format!("{}/plugin.toml", package.name);
        // Only a compiled-in plugin has a crate whose version and licence it can inherit.
        let inherited = Inherited { version: package.version, license: package.license };
        let manifest = Manifest::parse(&path, package.manifest, Some(inherited));
        Candidate {
            id: descriptor.id().to_owned(),
            tier: Tier::Compiled,
            origin: package.name.to_owned(),
            manifest: manifest.map(Arc::new).map_err(Error::from),
            config_schema: package.config_schema.to_owned(),
            artifact: Arc::new(descriptor),
        }
    }
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {})", self.id, self.tier.name(), self.origin)
    }
}
