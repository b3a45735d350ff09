//! What LAO and LiveKit-Go did wrong with libraries, each defect by its number. That one bad library stops nobody (LiveKit-Go 5) is tried in
//! `folders` and `faults`, that the version of the interface is looked at (LAO 9) in `faults`, that other content is another copy (LAO 10)
//! in `copies`, and that a stream that is over tells nothing more (LiveKit-Go 9) in `alike`, for every tier.

use std::fs;

use bespoke_host::State;

use crate::kit::{World, act, cc, row, within};

/// The source of a library without a fault, changed.
fn library(world: &World, name: &str, from: &str, to: &str) -> std::path::PathBuf {
    let source = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guests/faults.c")).unwrap();
    assert!(source.contains(from), "{from}");
    let path = world.path().join(format!("{name}.c"));
    fs::write(&path, source.replacen(from, to, 1)).unwrap();
    let library = world.path().join(format!("{name}.so"));
    cc(&["-DFAULT=NOTHING", "-DIS_NOTHING"], &path, &library);
    library
}

/// LAO called what was a static, and read what was a function: both were the end of the program.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lao_defect_6_a_symbol_that_is_data_is_not_called() {
    let world = World::new();
    let from = "const bespoke_plugin_v1_descriptor *bespoke_plugin_v1(void) {";
    let to = "bespoke_plugin_v1_descriptor *bespoke_plugin_v1 = &descriptor;\nconst bespoke_plugin_v1_descriptor *another_symbol(void) {";
    // The header declares the function, so the symbol gets its name from the assembler.
    let to = to.replacen("*bespoke_plugin_v1 =", "*data __asm__(\"bespoke_plugin_v1\") =", 1);
    let library = library(&world, "data", from, &to);
    let host = world.host([world.candidate(&world.folder("faults", &[("tool", "faults")], &library))]).await;
    let failed = row(&host, "faults");
    assert_eq!(failed.state, State::Failed, "{failed:?}");
    assert!(failed.reason.unwrap().contains("its `bespoke_plugin_v1` is data, and should be the function"));
    within(host.shutdown()).await;
}

/// LAO read what a plugin gave it without a look at the pointer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lao_defect_8_nothing_is_no_output() {
    for (name, says) in [("nothing", "out->frames(out->context, NULL, 5);"), ("emptiness", "out->frames(out->context, NULL, 0);")] {
        let world = World::new();
        let from = "    default: break;\n    }\n    uint8_t byte;";
        let library = library(&world, name, from, &format!("    default: {says} break;\n    }}\n    uint8_t byte;"));
        let host = world.host([world.candidate(&world.folder("faults", &[("tool", "faults")], &library))]).await;
        // What is no output is nothing, or the end of the instance; the program goes on.
        if let Err(error) = act(&host, "faults", "").await {
            assert_eq!(error.code(), bespoke_plugin_api::Code::PLUGIN_CRASHED, "{name}: {error}");
        }
        within(host.shutdown()).await;
    }
}

/// LAO took text up to its first zero, and lost the rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lao_defect_8_a_zero_in_the_input_is_a_character() {
    let world = World::new();
    let host = world.host([crate::faults::neighbour(&world)]).await;
    let args = bespoke_plugin_api::serde_json::json!({ "text": "a\u{0}b" });
    let echo = crate::kit::act_in(&host, "fake_echo", args.clone(), crate::kit::LONG).await.unwrap();
    assert_eq!(echo, args.to_string());
    within(host.shutdown()).await;
}

/// Plugins of Go run only where the same compiler built both sides, to the last version. What is compared here is the interface.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn livekit_go_defect_6_another_toolchain_builds_a_plugin() {
    let world = World::new();
    let library = library(&world, "other", ".version =", ".toolchain = {\"a compiler of tomorrow\", 22}, .version =");
    let host = world.host([world.candidate(&world.folder("faults", &[("tool", "faults")], &library))]).await;
    assert_eq!(act(&host, "faults", "").await.unwrap(), "a word");
    assert_eq!(row(&host, "faults").facts["toolchain"], "a compiler of tomorrow");
    within(host.shutdown()).await;
}

/// LAO made names of files of what a user wrote. A copy lies where the id says, which is checked, and the library is one of the folder.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lao_defect_10_no_text_of_a_plugin_leads_out_of_a_folder() {
    let world = World::new();
    let library = world.c_library("NOTHING", &[]);
    let folder = world.folder("faults", &[("tool", "faults")], &library);
    let plain = fs::read_to_string(folder.join("plugin.toml")).unwrap();
    for (from, to) in [
        ("id = \"faults\"", "id = \"../../out\""),
        ("id = \"faults\"", "id = \"..\""),
        ("id = \"faults\"", "id = \"a/b\""),
        ("file = \"plugin.so\"", "file = \"../../NOTHING.so\""),
        ("file = \"plugin.so\"", "file = \"/lib/libc.so.6\""),
    ] {
        fs::write(folder.join("plugin.toml"), plain.replacen(from, to, 1)).unwrap();
        let candidate = bespoke_host::open_folder(&folder, &world.grounds());
        assert!(candidate.manifest.is_err(), "{to}");
        let host = world.host([candidate]).await;
        assert!(host.rows().iter().all(|row| row.state != State::Ready), "{to}");
        within(host.shutdown()).await;
    }
    let mut all: Vec<_> = fs::read_dir(world.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    all.retain(|name| !["plugins", "data", "grants.json", "NOTHING.so"].contains(&&**name));
    assert_eq!(all, [""; 0], "nothing was copied anywhere");
}
