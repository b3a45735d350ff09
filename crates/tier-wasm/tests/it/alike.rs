//! What every tier does alike, in components: the faults and the hooks of `every`. A panic ends an instance here.

use std::fs;

use crate::{
    every::{self, Tier, actor_manifest, acts_manifest},
    kit::{World, actor, acts},
};

const COMPONENT: &str = "[wasm]\nfile = \"plugin.wasm\"\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn faults() {
    let world = World::new();
    let one = world.plugin("acts", &acts_manifest(Tier::Wasm, COMPONENT), &fs::read(acts()).unwrap());
    let other = world.plugin("actor", &actor_manifest("wasm", COMPONENT), &fs::read(actor()).unwrap());
    every::faults::check(Tier::Wasm, world.path(), "", one, other).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn hooks() {
    let world = World::new();
    let plugin = world.plugin("actor", &actor_manifest("wasm", COMPONENT), &fs::read(actor()).unwrap());
    every::hooks::check("wasm", world.path(), "", plugin, true).await;
}
