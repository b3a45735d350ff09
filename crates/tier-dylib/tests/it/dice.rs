//! The example in C, built as it says, through the real host.

use std::{fs, path::Path};

use bespoke_host::State;
use bespoke_plugin_api::{Code, serde_json::json};

use crate::kit::{LONG, World, act_in, cc, row, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_in_c_is_a_plugin() {
    let world = World::new();
    let source = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/plugins/dice-c"));
    let folder = world.path().join("dice-c");
    fs::create_dir(&folder).unwrap();
    fs::copy(source.join("plugin.toml"), folder.join("plugin.toml")).unwrap();
    cc(&["-Wextra", "-O2"], &source.join("dice.c"), &folder.join("plugin.so"));
    let host = world.host([world.candidate(&folder)]).await;
    let row_of = row(&host, "dice-c");
    assert_eq!((row_of.state, row_of.health.as_str()), (State::Ready, "ok"), "{row_of:?}");
    assert_eq!((row_of.facts["tier"].as_str(), row_of.facts["toolchain"].as_str()), ("dylib", "C"));
    for sides in [2, 6, 1000] {
        let thrown: u32 = act_in(&host, "dice_c", json!({ "sides": sides }), LONG).await.unwrap().parse().unwrap();
        assert!((1..=sides).contains(&thrown), "{thrown} of {sides}");
    }
    let refused = act_in(&host, "dice_c", json!({ "sides": 1 }), LONG).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::INVALID_PARAMS, "sides: a die has 2 to 1000"));
    within(host.shutdown()).await;
    assert_eq!(row(&host, "dice-c").state, State::Stopped);
}
