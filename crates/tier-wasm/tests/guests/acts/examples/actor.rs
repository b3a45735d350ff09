//! The plugin with a handler for every hook, as a component.

#[path = "../../../../../tier/tests/every/actor.rs"]
mod actor;

use bespoke_plugin_api::{Descriptor, Package};

static ACTOR: Descriptor = Descriptor::of::<actor::Actor>(
    "actor",
    Package { name: "actor", version: "1.0.0", license: "Apache-2.0", manifest: "", config_schema: "{}" },
);

bespoke_guest_wasm::export!(ACTOR);
