//! Which folder is meant, and what a configuration that does not fit says.

use bespoke_plugin_api::{
    CallCx, Health,
    serde_json::{Value, json},
};
use bespoke_plugin_testkit::{TestHost, block_on};
use bespoke_tool_files::BESPOKE_PLUGIN;

use crate::world::{call, refused};

#[test]
fn without_a_configuration_the_folder_is_the_plugins_own() {
    let temp = tempfile::tempdir().unwrap();
    let own = temp.path().join("data/files");
    let host = TestHost::new();
    let files = block_on(BESPOKE_PLUGIN.start(host.context("files").with_data_dir(own.clone()), json!({}))).unwrap();
    assert_eq!(files.life.health(), Health::Ok);
    assert_eq!(files.life.facts()["folder"], own.canonicalize().unwrap().display().to_string());
    assert_eq!(files.life.facts()["access"], "read");
    assert_eq!(call(&host, &files, &CallCx::new(), "list_files", json!({})).unwrap().to_text(), "the folder is empty");
}

#[test]
fn without_any_folder_the_tools_say_how_to_choose_one() {
    let host = TestHost::new();
    let files = block_on(BESPOKE_PLUGIN.start(host.context("files"), json!({}))).unwrap();
    assert!(files.life.health().reason().unwrap().contains("bespoke config set plugins.files.root ~/notes"));
    let output = call(&host, &files, &CallCx::new(), "list_files", json!({})).unwrap();
    assert_eq!(refused(&output), "no_root");
    assert!(output.to_text().contains("bespoke config set plugins.files.root ~/notes"));
}

#[test]
fn what_does_not_fit_is_told_with_its_key() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("file.txt");
    std::fs::write(&file, "").unwrap();
    for (config, key, says) in [
        (json!({ "root": temp.path().join("missing") }), "root", "missing"),
        (json!({ "root": file }), "root", "file.txt"),
        (json!({ "root": "notes" }), "root", "not absolute"),
        (json!({ "root": "~notes" }), "root", "not absolute"),
        (json!({ "max_depth": 0 }), "max_depth", "from 1 to 64"),
        (json!({ "max_read_bytes": 10 }), "max_read_bytes", "from 256"),
        (json!({ "max_entries": 0 }), "max_entries", "from 1"),
        (json!({ "max_write_bytes": 1u64 << 40 }), "max_write_bytes", "to 16777216"),
    ] {
        let error = start(config).unwrap_err();
        assert!(error.message().contains(says), "{error}");
        assert_eq!(error.data().unwrap()["path"], key);
    }
    let help = start(json!({ "root": "notes" })).unwrap_err();
    assert!(help.help().unwrap().contains("bespoke config set plugins.files.root"));
}

#[test]
fn a_tilde_is_the_home_folder() {
    let Some(home) = std::env::home_dir().filter(|home| home.is_dir()) else { return };
    let files = start(json!({ "root": "~/" })).unwrap();
    assert_eq!(files.life.facts()["folder"], home.canonicalize().unwrap().display().to_string());
}

fn start(config: Value) -> bespoke_plugin_api::Result<bespoke_plugin_api::Instance> {
    block_on(BESPOKE_PLUGIN.start(TestHost::new().context("files"), config))
}
