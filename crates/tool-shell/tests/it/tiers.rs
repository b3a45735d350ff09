//! The same answers compiled in and behind the wire.

use bespoke_plugin_api::serde_json::json;
use bespoke_plugin_testkit::Conformance;
use bespoke_tool_shell::BESPOKE_PLUGIN;

#[test]
fn behaves_the_same_in_every_tier() {
    let temp = tempfile::tempdir().unwrap();
    Conformance::new(&BESPOKE_PLUGIN)
        .config(json!({ "allow": ["printf", "cat", "sleep"], "cwd": temp.path() }))
        .tool("run_program", json!({ "program": "printf", "args": ["%s", "two words"] }))
        .tool("run_program", json!({ "program": "cat", "stdin": "hello" }))
        .tool("run_program", json!({ "program": "cat", "args": ["no-such-file"] }))
        .tool("run_program", json!({ "program": "ls" }))
        .tool("run_program", json!({ "program": "/bin/sh" }))
        .slow_tool("run_program", json!({ "program": "sleep", "args": ["1000"] }))
        .check();
}

#[test]
fn behaves_the_same_while_it_is_off() {
    Conformance::new(&BESPOKE_PLUGIN).check();
}
