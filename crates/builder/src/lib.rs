//! Builds a plugin's crate into an artefact of a tier: generates the shim that exports it, runs the toolchain that is there, and says what
//! is missing. It installs nothing, and changes nothing in the plugin's folder but below cargo's target folder.
//!
//! A plugin's crate is a plain library, so that many of them can be compiled into one program. What a tier wants to be exported stands in a
//! *shim*, a generated crate of a few lines with a workspace, a lock and a target folder of its own:
//!
//! | tier | the shim | what comes out |
//! |---|---|---|
//! | dylib | `bespoke_guest_dylib::export!(plugin::BESPOKE_PLUGIN);` | a folder with `plugin.so` |
//! | wasm | `bespoke_guest_wasm::export!(plugin::BESPOKE_PLUGIN);` | a folder with `plugin.wasm` |
//! | process | a `main` that calls `bespoke_guest_process::serve` | a folder with `plugin` |
//! | compiled | a `main` of ten lines, with the whole app | a program |
//!
//! The folder also has the manifest as it is for that tier alone, and the schema of the configuration: the host needs nothing else.

mod absent;
mod built;
mod cargo;
mod error;
mod portable;
mod shim;
mod source;
mod toolchain;

use std::{fs, path::PathBuf};

pub use bespoke_manifest::Tier;

pub use crate::error::{BuildError, Class};
use crate::{cargo::Cargo, shim::Shim, source::Source, toolchain::Toolchain};

/// What is to be built.
#[derive(Debug, Clone)]
pub struct Request {
    /// The plugin's folder, with `Cargo.toml` and `plugin.toml`.
    pub folder: PathBuf,
    /// For which tier.
    pub tier: Tier,
    /// Optimised, by the profile `release`; else by `dev`.
    pub release: bool,
    /// Where the result goes; by default `bespoke/TIER/ID` in cargo's target folder.
    pub out: Option<PathBuf>,
    /// Of a program (tier compiled): features of the app besides the plugin.
    pub features: Vec<String>,
}

impl Request {
    /// A build of the profile `dev`, to where builds go by default.
    pub fn new(folder: impl Into<PathBuf>, tier: Tier) -> Self {
        Request { folder: folder.into(), tier, release: false, out: None, features: Vec::new() }
    }
}

/// What was built.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Built {
    /// Id of the plugin.
    pub id: String,
    /// Its version.
    pub version: String,
    /// The tier.
    pub tier: Tier,
    /// What to load: the folder of the plugin; of the tier compiled, the program.
    pub path: PathBuf,
    /// Bytes of what was built: library, component or program.
    pub bytes: u64,
}

/// Builds a plugin. `tell` hears what cargo says meanwhile, line by line; of a component also where its code uses what there is none of.
///
/// # Errors
/// See [`BuildError`]: each says what would help. A former result stays as it was.
pub fn build(request: &Request, tell: &mut dyn FnMut(&str)) -> Result<Built, BuildError> {
    let cargo = Cargo::find(&request.folder)?;
    let source = Source::read(&cargo, &request.folder)?;
    source.ships_as(request.tier)?;
    let out = built::place(&source, request)?;
    let toolchain = Toolchain::find(&cargo, request.tier)?;
    let shim = Shim::write(&source, request, tell)?;
    let tree = match request.tier {
        Tier::Wasm => {
            let tree = cargo.tree(&shim.manifest())?;
            portable::check(&source, &tree)?;
            Some(tree)
        }
        _ => None,
    };
    let artefact = toolchain.build(&cargo, &shim, request, tell).map_err(|failure| match tree {
        Some(tree) => portable::explain(&source, &tree, failure),
        None => failure,
    })?;
    let path = built::put(&source, request.tier, &artefact, out)?;
    if request.tier == Tier::Wasm {
        // After all that cargo says, where they are seen.
        absent::warnings(&source.code).iter().for_each(|line| tell(line));
    }
    let bytes = fs::metadata(&artefact).map_err(|e| BuildError::io(&artefact, e))?.len();
    Ok(Built { id: source.manifest.id.clone(), version: source.manifest.version.to_string(), tier: request.tier, path, bytes })
}
