//! `plugin hook`, as a user types it, with a plugin in Python that has nothing but a method for it.

use std::fs;

use serde_json::json;

use crate::program::{User, files_below};

const EAR: &str = r#"
from contracts.tool_contract import ToolContract

class Ear(ToolContract):
    """Says nothing."""

    async def call(self) -> str:
        return "nothing"

    def on_workflow_event(self, event):
        with open(self.data_dir / "heard", "a") as heard:
            heard.write(f"{event['topic']} {event['payload']['kind']}\n")
"#;

const GUARD: &str = r#"
from contracts.hook_contract import HookContract, Veto, hook

class Guard(HookContract):
    @hook("before_agent_run", priority=5, on_failure="closed")
    async def check(self, event):
        return Veto("not that") if "secret" in event["input"] else None

    @hook("before_agent_run")
    async def shout(self, event):
        return {**event, "input": event["input"].upper()}
"#;

fn plugin(user: &User, id: &str, provides: &[(&str, &str)], code: &str) {
    let folder = user.home().join("plugins").join(id);
    fs::create_dir_all(&folder).unwrap();
    let provides: String = provides.iter().map(|(kind, name)| format!("[[provides]]\nkind = \"{kind}\"\nname = \"{name}\"\n")).collect();
    let manifest = format!(
        "id = \"{id}\"\nversion = \"1.0.0\"\nlicense = \"MIT\"\ndescription = \"A test.\"\nauthor = \"Somebody\"\nprotocol = \"1\"\n\
         tiers = [\"process\"]\n{provides}[process]\npython = \"plugin\"\n"
    );
    fs::write(folder.join("plugin.toml"), manifest).unwrap();
    fs::write(folder.join("plugin.py"), code).unwrap();
}

#[test]
fn a_method_of_a_plugin_is_told_of_turns_until_it_is_taken_out() {
    let user = User::new().configured("# mine\nconfig_version = 1\n[agent]\nprovider = [\"fake\"]\n# the end\n");
    plugin(&user, "ear", &[("tool", "ear")], EAR);
    let hook = |more: &[&str]| user.run(["plugin", "hook"].iter().chain(more));
    hook(&["ear", "--events", "workflow_startd", "--callback", "on_workflow_event"]).code(2).says("did you mean `workflow_started`?");
    hook(&["ear", "--events", "before_agent_run", "--callback", "on_workflow_event"]).code(2).says("plugins register for it themselves");
    hook(&["ear", "--events", "nobody.said", "--callback", "on_workflow_event"]).code(3).says("no plugin `nobody`");
    hook(&["ear", "--events", "workflow_started", "--callback", "on_workflw_event"]).code(3).says("did you mean `on_workflow_event`?");
    hook(&["nobody", "--events", "workflow_started", "--callback", "x"]).code(3);
    hook(&["ear", "--callback", "on_workflow_event"]).code(2);
    hook(&["ear", "--remove", "on_workflow_event"]).code(3);

    hook(&["ear", "--events", "workflow_started,workflow_completed", "--callback", "on_workflow_event"]).ok().says("is told of");
    let text = fs::read_to_string(user.config()).unwrap();
    assert!(text.starts_with("# mine\n") && text.contains("# the end\n"), "{text}");
    assert!(text.contains("[[hooks]]\nplugin = \"ear\"\ncallback = \"on_workflow_event\"\n"), "{text}");
    let listed = hook(&["--list", "--json"]).ok().value();
    let entry = json!({ "plugin": "ear", "callback": "on_workflow_event", "events": ["workflow_started", "workflow_completed"] });
    assert_eq!(listed["told"], json!([entry]));

    user.run(["ask", "hello", "--forget"]).ok();
    let heard = || {
        let file = files_below(&user.home()).into_iter().find(|path| path.file_name().is_some_and(|name| name == "heard"));
        fs::read_to_string(file.expect("it heard something")).unwrap()
    };
    assert_eq!(heard(), "workflow_started agent\nworkflow_completed agent\n");

    hook(&["ear", "--remove", "on_workflow_event"]).ok();
    user.run(["ask", "hello", "--forget"]).ok();
    assert_eq!(heard(), "workflow_started agent\nworkflow_completed agent\n");
    assert_eq!(hook(&["--list", "--json"]).ok().value()["told"], json!([]));
}

#[test]
fn a_dry_run_shows_what_each_handler_would_do_and_does_nothing() {
    let user = User::new().configured("[agent]\nprovider = [\"fake\"]\n");
    plugin(&user, "guard", &[("hook", "check"), ("hook", "shout")], GUARD);
    let tried = |input: &str| {
        let event = json!({ "session": "s", "input": input }).to_string();
        user.run(["plugin", "hook", "--dry-run", "before_agent_run", "--event", &event, "--json"]).ok().value()
    };
    let goes_on = tried("hello");
    assert_eq!(goes_on["outcome"]["event"]["input"], "HELLO", "{goes_on}");
    let answers = |tried: &serde_json::Value| tried["handlers"].as_array().unwrap().iter().map(|h| h["answer"].clone()).collect::<Vec<_>>();
    assert_eq!(answers(&goes_on), ["continue", "replace"]);
    let stopped = tried("a secret");
    assert_eq!(answers(&stopped), ["veto", "not_asked"]);
    assert_eq!((&stopped["outcome"]["plugin"], &stopped["outcome"]["reason"]), (&json!("guard"), &json!("not that")));
    user.run(["plugin", "hook", "--dry-run", "before_agent_rum"]).code(2).says("did you mean `before_agent_run`?");
    user.run(["plugin", "hook", "--dry-run", "before_agent_run", "--event", "{}"]).code(2).says("such as --event");
    user.run(["plugin", "hook", "--dry-run", "on_client_connect"]).ok().says("no plugin handles");
}

#[test]
fn hooks_that_are_not_there_are_told_by_whoever_goes_on_without_them() {
    let asked = |table: &str| {
        let user =
            User::new().configured(&format!("config_version = 1\n[agent]\nprovider = [\"fake\"]\n[plugins.exec]\nhooks = [{table}]\n"));
        user.run(["ask", "--forget", "hi"]).ok().err
    };
    let hook = |key: &str| format!("{{ name = \"guard\", hook = \"before_agent_run\", {key} }}");
    for key in ["command = [\"/no/such/guard\"]", "command = [\"true\"], on_failure = \"close\""] {
        let told = asked(&hook(key));
        assert!(told.contains("exec does not run, so its hooks stop and change nothing: "), "{key}: {told}");
    }
    let told = asked(&hook("command = [\"true\"]"));
    assert!(!told.contains("stop and change nothing"), "{told}");
}
