//! Plugins of this repository, built for a tier where builds go by default, so that whoever needs the same one finds it built.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bespoke_builder::{Request, Tier, build};
use bespoke_host::{Candidate, Grounds, Terms, open_folder};
use bespoke_plugin_api::{BoxFuture, Instance, PluginContext, Result, serde_json::Value};
use bespoke_tier_dylib as _;
use bespoke_tier_process as _;
use bespoke_tier_wasm as _;

/// The tiers that a folder ships in.
pub(crate) const TIERS: &[Tier] = &[Tier::Process, Tier::Dylib, Tier::Wasm];

/// What a tier says of a plugin beside what the plugin says.
const FACTS: &[&str] =
    &["component", "copies", "cpu", "library", "memory", "pid", "running", "sandbox", "tier", "toolchain", "trusted", "wall"];

/// A plugin of this repository, built.
pub(crate) fn built(plugin: &str, tier: Tier) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(plugin);
    let mut said = Vec::new();
    let built = build(&Request::new(folder, tier), &mut |line| said.push(line.to_owned()));
    built.unwrap_or_else(|e| panic!("{plugin} as {}: {e}\n{}", tier.name(), said.join("\n"))).path
}

/// The same, as the host finds it; `place` is for caches.
pub(crate) fn candidate(plugin: &str, tier: Tier, place: &Path) -> Candidate {
    let grounds = Grounds::new(place.join("cache")).program(env!("CARGO_BIN_EXE_bespoke").into());
    let candidate = open_folder(&built(plugin, tier), &grounds);
    assert!(candidate.manifest.is_ok(), "{:?}", candidate.manifest);
    assert_eq!(candidate.tier.name(), tier.name());
    candidate
}

/// A way to start it there, as the host does, for the suite.
pub(crate) fn starts(candidate: Candidate) -> impl Fn(PluginContext, Value) -> BoxFuture<'static, Result<Instance>> + Send + Sync {
    let candidate = Arc::new(candidate);
    move |cx, config| candidate.artifact.start(cx, config, Terms::default())
}

/// What the suite leaves out when it compares.
pub(crate) fn facts() -> &'static [&'static str] {
    FACTS
}

/// A runtime with the timers that tiers want.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}
