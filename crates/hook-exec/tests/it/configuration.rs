//! What a configuration that does not fit says, and where.

use bespoke_hook_exec::BESPOKE_PLUGIN;
use bespoke_plugin_api::{
    Contribution, Health, Hook, Kind, OnFailure,
    serde_json::{Value, json},
};
use bespoke_plugin_testkit::{TestHost, block_on};

fn fault(entry: Value) -> String {
    let hooks = json!({ "hooks": [entry] });
    let temp = tempfile::tempdir().unwrap();
    let cx = TestHost::new().context("exec").with_data_dir(temp.path().join("own"));
    let error = BESPOKE_PLUGIN.check(&hooks).err().unwrap_or_else(|| block_on(BESPOKE_PLUGIN.start(cx, hooks)).unwrap_err());
    assert_eq!(error.kind(), "INVALID_PARAMS");
    format!("{}: {}", error.data().unwrap()["path"].as_str().unwrap(), error.message())
}

#[test]
fn what_does_not_fit_is_told_with_its_key() {
    let with = |key: &str, value: Value| {
        let mut entry = json!({ "name": "guard", "hook": "before_agent_run", "command": ["true"] });
        entry[key] = value;
        fault(entry)
    };
    for (key, value, expected) in [
        (
            "hook",
            json!("before_tool_execut"),
            "hooks[0].hook: there is no hook \"before_tool_execut\"; did you mean `before_tool_execute`?",
        ),
        ("hook", json!("BeforeAgentRun"), "hooks[0].hook: there is no hook \"BeforeAgentRun\"; did you mean `before_agent_run`?"),
        ("hook", json!("on_event"), "hooks[0].topics: names no event; write topics = [\"step_*\"]"),
        ("topics", json!(["step_*"]), "hooks[0].topics: before_agent_run has no topics; leave them out, or the hook"),
        ("name", json!("a b"), "hooks[0].name: \"a b\" is no name: write up to 64 small letters, digits, `-` and `_`"),
        ("command", json!([]), "hooks[0].command: names no program"),
        ("command", json!(["bin/guard"]), "hooks[0].command: \"bin/guard\" is not absolute"),
        ("command", json!(["true", "a\0b"]), "hooks[0].command: holds a NUL byte, which no program can take"),
        ("env", json!(["A=B"]), "hooks[0].env: \"A=B\" is no name of a variable"),
        ("cwd", json!("here"), "hooks[0].cwd: \"here\" is not absolute"),
        ("timeout_ms", json!(0), "hooks[0].timeout_ms: `timeout_ms` is 0; it has to be from 10 to 3600000"),
        ("on_failure", json!("opne"), "hooks[0].on_failure: unknown variant `opne`, expected `open` or `closed`"),
    ] {
        assert_eq!(with(key, value), expected);
    }
    let neither = fault(json!({ "name": "guard", "command": ["true"] }));
    assert_eq!(neither, "hooks[0].hook: neither a hook nor topics; write hook = \"before_tool_execute\"");
}

#[test]
fn without_hooks_it_does_nothing_and_says_so() {
    let host = TestHost::new();
    let instance = block_on(BESPOKE_PLUGIN.start(host.context("exec"), json!({}))).unwrap();
    assert!(host.published().is_empty());
    assert!(matches!(instance.life.health(), Health::Degraded(why) if why.contains("plugins.exec.hooks")));
}

#[test]
fn what_is_written_is_what_is_subscribed() {
    let temp = tempfile::tempdir().unwrap();
    let host = TestHost::new();
    let cx = host.context("exec").with_data_dir(temp.path().join("own"));
    let hooks = json!({ "hooks": [
        { "name": "a", "hook": "before_tool_execute", "command": ["true"], "priority": 7, "on_failure": "closed", "timeout_ms": 100 },
        { "name": "b", "topics": ["workflow_*", "step_completed"], "command": ["true"], "observer": true },
    ] });
    let instance = block_on(BESPOKE_PLUGIN.start(cx, hooks)).unwrap();
    assert_eq!(instance.life.facts()["hooks"], "a (before_tool_execute), b (on_event)");
    let published = host.published();
    let [Contribution::Hook(a, _), Contribution::Hook(b, _)] = &published[..] else { panic!("{published:?}") };
    assert_eq!((a.hook, a.priority, a.on_failure, a.timeout_ms, a.observer), (Hook::BeforeToolExecute, 7, OnFailure::Closed, 100, false));
    assert_eq!((b.hook, b.on_failure, b.observer), (Hook::OnEvent, OnFailure::Open, true));
    assert_eq!(b.topics, ["workflow_", "step_completed"]);
    assert!(published.iter().all(|one| one.kind() == Kind::Hook));
}
