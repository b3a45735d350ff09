//! Where this tier joins the program: the driver in the host's slice.

use std::sync::Arc;

use bespoke_host::{Ability, Artifact, BESPOKE_TIERS_V1, Grounds, PluginFolder, Tier, TierDriver};
use bespoke_plugin_api::{Result, linkme};

use crate::{artifact::WasmPlugin, engine};

#[allow(unsafe_code, reason = "linkme places the element in a link section")]
#[linkme::distributed_slice(BESPOKE_TIERS_V1)]
#[linkme(crate = bespoke_plugin_api::linkme)]
static WASM: Option<TierDriver> = Some(TierDriver { tier: Tier::Wasm, open, abilities });

fn open(folder: &PluginFolder, grounds: &Grounds) -> Result<Arc<dyn Artifact>> {
    Ok(Arc::new(WasmPlugin::new(folder, grounds)?))
}

fn abilities() -> Vec<Ability> {
    let engine = engine::engine();
    let there = engine.is_ok();
    let or = |detail: &str| engine.as_ref().err().map_or_else(|| detail.to_owned(), |e| e.message().to_owned());
    vec![
        Ability::new("memory", there, or("linear memory of the instance, by wasmtime")),
        Ability::new("cpu", there, or("looked at every 10 ms while it computes, by wasmtime")),
        Ability::new("files", there, or("a component has none; with WASI, the folders that were granted")),
        Ability::new("network", there, or("through the host's client only")),
        Ability::new("cpu_percent", there, or("halted until its share has come together; it has one thread")),
    ]
}
