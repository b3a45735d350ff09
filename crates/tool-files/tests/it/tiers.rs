//! The same answers compiled in and behind the wire.

use bespoke_plugin_api::serde_json::json;
use bespoke_plugin_testkit::Conformance;
use bespoke_tool_files::BESPOKE_PLUGIN;

#[test]
fn behaves_the_same_in_every_tier() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::create_dir(temp.path().join("notes")).unwrap();
    std::fs::write(temp.path().join("notes/a.txt"), "a needle").unwrap();
    std::fs::write(temp.path().join("notes/b.txt"), "same").unwrap();
    Conformance::new(&BESPOKE_PLUGIN)
        .config(json!({ "root": temp.path(), "write": true }))
        .tool("list_files", json!({ "path": "notes" }))
        .tool("list_files", json!({ "path": "../" }))
        .tool("find_files", json!({ "text": "needle" }))
        .tool("write_file", json!({ "path": "notes/b.txt", "text": "same", "mode": "replace" }))
        .tool("write_file", json!({ "path": "notes/a.txt", "text": "no" }))
        .tool("read_file", json!({ "path": "notes/a.txt", "offset": 2 }))
        .tool("read_file", json!({ "path": "/etc/passwd" }))
        .check();
}

#[test]
fn behaves_the_same_where_nothing_may_be_written() {
    let temp = tempfile::tempdir().unwrap();
    Conformance::new(&BESPOKE_PLUGIN).config(json!({ "root": temp.path() })).tool("list_files", json!({})).check();
}

#[test]
fn behaves_the_same_without_a_folder() {
    Conformance::new(&BESPOKE_PLUGIN).tool("list_files", json!({})).tool("read_file", json!({ "path": "a" })).check();
}
