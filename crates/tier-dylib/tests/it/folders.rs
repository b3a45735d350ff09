//! Libraries in folders that are searched, as those of `BESPOKE_PLUGIN_PATH` are: each comes up or fails for itself.

use std::fs;

use bespoke_host::{State, discover};
use bespoke_plugin_api::serde_json::json;

use crate::kit::{LONG, World, act, act_in, example, row, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_of_libraries_is_searched_and_a_bad_one_stops_nobody() {
    let world = World::new();
    let package = bespoke_fake::BESPOKE_PLUGIN.package();
    let fake = world.folder("fake", &[], &example("dylib_fake"));
    let manifest = format!("version = \"1.0.0\"\nlicense = \"Apache-2.0\"\n{}\n[dylib]\nfile = \"plugin.so\"\n", package.manifest);
    fs::write(fake.join("plugin.toml"), manifest).unwrap();
    fs::write(fake.join("config.schema.json"), package.config_schema).unwrap();
    world.folder("faults", &[("tool", "faults")], &world.c_library("NOTHING", &[]));
    world.folder("faulty", &[("tool", "faulty"), ("tts", "faulty")], &world.marked("declare"));
    world.folder("twin", &[("tool", "twin")], &world.c_library("NOTHING", &[]));
    fs::write(world.folder("text", &[("tool", "text")], &world.c_library("NOTHING", &[])).join("plugin.so"), "no library").unwrap();
    let no_table = world.folder("bare", &[("tool", "bare")], &world.c_library("NOTHING", &[]));
    let manifest = fs::read_to_string(no_table.join("plugin.toml")).unwrap();
    fs::write(no_table.join("plugin.toml"), manifest.replace("[dylib]\nfile = \"plugin.so\"\n", "")).unwrap();

    let found = discover(&[world.path().join("plugins")], &world.grounds());
    let host = world.host(found).await;
    let states: Vec<_> = host.rows().into_iter().map(|row| (row.id, row.state)).collect();
    let up = |id: &str| states.iter().any(|(known, state)| known == id && *state == State::Ready);
    assert_eq!(states.len(), 6);
    assert!(up("fake") && up("faults") && states.iter().filter(|(_, state)| *state == State::Failed).count() == 4, "{states:?}");
    let why = |id: &str| row(&host, id).reason.unwrap();
    assert!(why("faulty").contains("panicked: in register"), "{}", why("faulty"));
    assert!(why("twin").contains("it is the plugin `faults`, and its folder says `twin`"), "{}", why("twin"));
    assert!(why("text").contains("it is no library of this system"), "{}", why("text"));
    assert!(why("bare").contains("does not say which library it is"), "{}", why("bare"));
    assert_eq!(act(&host, "faults", "").await.unwrap(), "a word");
    assert_eq!(act_in(&host, "fake_echo", json!({ "a": 1 }), LONG).await.unwrap(), r#"{"a":1}"#);
    within(host.shutdown()).await;
}
