//! What every tier does alike, in libraries: the faults and the hooks of `every`.

use crate::{
    every::{self, Tier, actor_manifest, acts_manifest},
    kit::{World, example, replace},
};

const LIBRARY: &str = "[dylib]\nfile = \"plugin.so\"\n";
const TRUSTED: &str = "allow_native = true";

fn plugin(world: &World, id: &str, manifest: &str) -> bespoke_host::Candidate {
    let folder = world.path().join("plugins").join(id);
    std::fs::create_dir_all(&folder).unwrap();
    replace(&example(&format!("dylib_{id}")), &folder.join("plugin.so"));
    std::fs::write(folder.join("plugin.toml"), manifest).unwrap();
    world.candidate(&folder)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn faults() {
    let world = World::new();
    let acts = plugin(&world, "acts", &acts_manifest(Tier::Dylib, LIBRARY));
    let actor = plugin(&world, "actor", &actor_manifest("dylib", LIBRARY));
    every::faults::check(Tier::Dylib, world.path(), TRUSTED, acts, actor).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn hooks() {
    let world = World::new();
    let actor = plugin(&world, "actor", &actor_manifest("dylib", LIBRARY));
    every::hooks::check("dylib", world.path(), TRUSTED, actor, false).await;
}
