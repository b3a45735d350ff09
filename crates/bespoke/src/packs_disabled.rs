//! A binary without the feature `runtimes` has no packs of native runtimes, and says which feature brings the one that is asked for.

use bespoke_host::{Config, RuntimeStore};
#[cfg(any(feature = "process", feature = "serve"))]
use bespoke_plugin_api::CancelToken;
use bespoke_plugin_api::{Code, Error, RuntimePack};
use serde_json::Value;

use crate::{
    cli::Packing,
    cmd::doctor::report::Report,
    cmd::licenses::Terms,
    exit::{Exit, Failure, Result},
    paths::Paths,
    setup::{Setup, build_with},
};

/// See the feature `runtimes`.
#[derive(Debug, Clone)]
pub(crate) struct Packs;

impl Packs {
    pub(crate) fn new(_paths: &Paths, _config: &Config) -> Self {
        Packs
    }
}

impl RuntimeStore for Packs {
    fn find(&self, spec: &str) -> bespoke_plugin_api::Result<RuntimePack> {
        let message = format!("{spec}: this binary was built without the feature `{}`", feature(spec));
        Err(Error::new(Code::DEPENDENCY_MISSING, message).with_help(build_with(&[feature(spec)])))
    }
}

/// The part before the colon carries a pack.
fn feature(spec: &str) -> &str {
    match spec.split(':').next().unwrap_or_default() {
        known @ ("xla" | "cuda") => known,
        _ => "onnx",
    }
}

fn refuse(name: Option<&str>) -> Result<()> {
    let (missing, feature) = match name {
        Some(name) => (format!("the feature `{}`", feature(name)), feature(name)),
        None => ("any of the features `onnx`, `xla` and `cuda`".into(), "onnx"),
    };
    let failure = Failure::new(Exit::NotFound, format!("this binary was built without {missing}, so it has no use for native runtimes"));
    Err(failure.help(build_with(&[feature])))
}

#[cfg(any(feature = "process", feature = "serve"))]
pub(crate) async fn arm(_setup: &Setup, _offline: bool, _stop: &CancelToken) {}

pub(crate) fn check(_report: &mut Report, _setup: &Setup) {}

pub(crate) fn bundled_terms() -> Result<Vec<Terms>> {
    Ok(Vec::new())
}

pub(crate) fn rows(_setup: &Setup) -> Vec<Value> {
    Vec::new()
}

pub(crate) fn table(_setup: &Setup, after: bool) -> Result<()> {
    // Beside the plugins nobody asked for them.
    if after { Ok(()) } else { refuse(None) }
}

pub(crate) fn info(_setup: &Setup, name: &str) -> Option<Result<()>> {
    name.contains(':').then(|| refuse(Some(name)))
}

pub(crate) async fn install(_setup: &Setup, names: &[String], _auto: bool, _how: &Packing) -> Result<()> {
    refuse(names.first().map(String::as_str))
}

pub(crate) async fn update(_setup: &Setup, names: &[String], _how: &Packing) -> Result<()> {
    refuse(names.first().map(String::as_str))
}

pub(crate) fn uninstall(_setup: &Setup, name: &str, _version: Option<&str>, _dry_run: bool) -> Result<()> {
    refuse(Some(name))
}

pub(crate) async fn verify(_setup: &Setup, names: &[String]) -> Result<()> {
    refuse(names.first().map(String::as_str))
}

pub(crate) fn rollback(_setup: &Setup, name: &str) -> Result<()> {
    refuse(Some(name))
}
