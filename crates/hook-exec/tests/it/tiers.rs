//! The same answers compiled in and behind the wire.

use bespoke_hook_exec::BESPOKE_PLUGIN;
use bespoke_plugin_api::{CallCx, Contract, Event, HookEvent, HookHandler, HookReply, Timestamp, serde_json::json};
use bespoke_plugin_testkit::{Conformance, TestHost, block_on, block_on_for};

use crate::world::{LIMIT, program};

#[test]
fn behaves_the_same_in_every_tier() {
    let temp = tempfile::tempdir().unwrap();
    let program = program(&temp, r#"sed 's/^/{"reply":"replace","event":/; s/$/}/'"#);
    let hooks = json!({ "hooks": [{ "name": "echo", "hook": "before_agent_run", "command": [program], "cwd": temp.path() }] });
    Conformance::new(&BESPOKE_PLUGIN).config(hooks).check();
}

#[test]
fn behaves_the_same_while_it_is_off() {
    Conformance::new(&BESPOKE_PLUGIN).check();
}

#[test]
fn of_events_it_hears_those_of_its_topics() {
    let temp = tempfile::tempdir().unwrap();
    let hooks = json!({ "hooks": [
        { "name": "told", "topics": ["workflow_*", "step_completed"], "command": [program(&temp, "echo heard >&2; exit 2")] },
    ] });
    let host = TestHost::new();
    let _instance = block_on(BESPOKE_PLUGIN.start(host.context("exec").with_data_dir(temp.path().join("own")), hooks)).unwrap();
    let published = host.published();
    let (_, handler) = <dyn HookHandler>::of(&published[0]).unwrap();
    for (topic, heard) in
        [("workflow_started", true), ("step_completed", true), ("step_completed_not", false), ("step_started", false), ("workflow", false)]
    {
        let event = HookEvent::on_event(Event::new(topic, 1, Timestamp(0), None, json!({})));
        let reply = block_on_for(LIMIT, handler.on(&CallCx::new(), &event)).expect("it hangs").unwrap();
        assert_eq!(reply, if heard { HookReply::veto("heard") } else { HookReply::Continue }, "{topic}");
    }
}
