//! `plugin hook`, as a user types it, with a plugin in Python that has nothing but a method for it.

use std::fs;

use serde_json::json;

use crate::{
    program::{User, files_below},
    serve::{CONFIG, Runs},
};

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
    let entry =
        json!({ "plugin": "ear", "callback": "on_workflow_event", "events": ["workflow_started", "workflow_completed"], "tripped": false });
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

/// The table of a hook before each turn, with what else is said of it.
fn guard(more: &str) -> String {
    format!("config_version = 1\n[agent]\nprovider = [\"fake\"]\n[plugins.exec]\nhooks = [{{ name = \"guard\", {more} }}]\n")
}

/// A word that is none, where a guard was meant.
const SLIP: &str = "hook = \"before_agent_run\", command = [\"true\"], on_failure = \"close\"";

#[test]
fn hooks_that_are_not_there_stop_what_they_might_have_stopped() {
    let user = User::new().configured(&guard(SLIP));
    for refused in [user.run(["ask", "--forget", "hi"]), user.run(["ask", "--json", "--forget", "hi"]), user.piped("hi\n", ["chat"])] {
        let refused = refused.says("refused by exec: exec does not run: ").says("on_failure").says("bespoke plugin disable exec");
        assert!(!refused.out.contains("hi\n"), "{}", refused.out);
    }
    user.run(["ask", "--forget", "hi"]).code(4);
    user.run(["config", "check"]).code(2).says("did you mean \"closed\"?");
    let checks = user.run(["doctor", "--json"]).out;
    assert!(checks.contains("whatever a hook can stop is refused"), "{checks}");
    user.run(["plugin", "disable", "exec"]).ok();
    assert_eq!(user.run(["ask", "--forget", "hi"]).ok().out, "hi\n");
    // Nobody counts on what nobody has configured.
    let user = User::new().configured("[agent]\nprovider = [\"fake\"]\n");
    user.run(["ask", "--forget", "hi"]).ok();
    // A table that makes no sense beyond its words is found where it is checked, too.
    let user = User::new().configured(&guard("hook = \"before_agent_run\", topics = [\"step_*\"], command = [\"true\"]"));
    user.run(["config", "check"]).code(2).says("before_agent_run has no topics");
    user.run(["ask", "--forget", "hi"]).code(4);
}

#[test]
fn a_program_that_is_not_there_is_the_failure_of_its_hook() {
    let missing =
        |more: &str| User::new().configured(&guard(&format!("hook = \"before_agent_run\", command = [\"/no/such/guard\"]{more}")));
    let user = missing("");
    assert_eq!(user.run(["ask", "--forget", "hi"]).ok().out, "hi\n");
    let checks = user.run(["doctor", "--json"]).out;
    assert!(checks.contains("`guard` cannot be asked: there is no program `/no/such/guard`"), "{checks}");
    let user = missing(", on_failure = \"closed\"");
    user.run(["ask", "--forget", "hi"]).code(4).says("could not decide and fails closed: there is no program `/no/such/guard`");
}

#[test]
fn what_a_server_leaves_alone_is_listed_so() {
    let door =
        format!("{CONFIG}[plugins.exec]\nhooks = [{{ name = \"door\", hook = \"on_client_connect\", command = [\"/no/such/door\"] }}]\n");
    let user = User::new().configured(&door);
    let server = Runs::serving(&user, &["--no-watch"]);
    let hook = || user.run(["plugin", "hook", "exec", "--list", "--json"]).ok().value()["handlers"][0].clone();
    // Whoever connects has it asked.
    for _ in 0..6 {
        user.run(["status"]).ok();
    }
    assert_eq!(hook()["tripped"], true);
    assert!(user.run(["plugin", "hook", "--list"]).ok().out.contains("left alone"));
    user.run(["plugin", "disable", "exec"]).ok();
    user.run(["plugin", "enable", "exec"]).ok();
    assert_eq!(hook()["tripped"], false, "it begins without a record");
    server.end();
}

#[test]
fn a_server_stops_what_hooks_stop_while_a_table_is_wrong_that_was_not_there_before() {
    let user = User::new().configured(CONFIG);
    let server = Runs::serving(&user, &["--no-watch"]);
    user.run(["status"]).ok();
    let broken = format!("{CONFIG}[plugins.exec]\nhooks = [{{ name = \"guard\", {SLIP} }}]\n");
    fs::write(user.config(), &broken).unwrap();
    user.run(["reload"]).says("whatever a hook can stop is refused");
    // Whoever has to mend it is let in, and told.
    let refused =
        |says: &str| user.run(["status"]).ok().out.contains(&format!("whatever a hook can stop is refused: exec does not run{says}: "));
    assert!(refused(" as it is configured"));
    user.run(["plugin", "disable", "exec"]).ok();
    assert!(!refused(" as it is configured"));
    server.end();
    // So it is with one that begins so.
    fs::write(user.config(), &broken).unwrap();
    let server = Runs::serving(&user, &["--no-watch"]);
    assert!(refused(""));
    user.run(["plugin", "disable", "exec"]).ok();
    assert!(!refused(""));
    server.end();
}
