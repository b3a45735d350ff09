//! Plugins in Python whose code blocks and never comes back: their callers are answered in time, what is stuck is named, and a process that
//! serves nobody any more makes room for another.

use std::{fs, sync::Arc};

use bespoke_host::{Caller, Host, State};
use bespoke_plugin_api::{
    CallCx, Code, Output, OutputSink, Result,
    serde_json::{Value, json},
};

use crate::kit::{World, act, lives, row, until, within};

/// A verb that blocks the loop, and a method that blocks a thread.
const PLUGIN: &str = r#"
import time
from contracts.command_contract import CommandContract


class Wedge(CommandContract):
    name = "wedge"

    async def run(self, args, out):
        while "loop" in args:
            time.sleep(0.1)
        return 7

    def block(self):
        while True:
            time.sleep(0.1)
"#;

const CONFIG: &str = "[plugins]\ncall_timeout_ms = 1500\ncommand_timeout_ms = 1500\n";

async fn wedge(world: &World) -> Host {
    let folder = world.path().join("plugins/wedge");
    fs::create_dir_all(&folder).unwrap();
    let manifest = "id = \"wedge\"\nversion = \"1.0.0\"\nlicense = \"Apache-2.0\"\ndescription = \"A test.\"\nauthor = \"Tests\"\n\
                    protocol = \">=1\"\ntiers = [\"process\"]\n[[provides]]\nkind = \"command\"\nname = \"wedge\"\n[process]\npython = \"plugin\"\n";
    fs::write(folder.join("plugin.toml"), manifest).unwrap();
    fs::write(folder.join("plugin.py"), PLUGIN).unwrap();
    let host = world.host_with(CONFIG, [bespoke_host::open_folder(&folder, &world.grounds())]).await;
    assert_eq!(row(&host, "wedge").state, State::Ready, "{:?}", row(&host, "wedge").reason);
    host
}

struct Nowhere;

impl OutputSink for Nowhere {
    fn line(&self, _: &str) {}
    fn note(&self, _: &str) {}
}

async fn run(host: &Host, args: &[&str]) -> Result<i32> {
    let args = args.iter().map(|arg| (*arg).to_owned()).collect();
    within(host.run_command(&CallCx::new(), "wedge", args, Caller::local(), Output::new(Arc::new(Nowhere)))).await
}

fn told(host: &Host, topic: &str) -> Vec<Value> {
    host.events().history(topic, 0).into_iter().map(|event| event.payload).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_blocks_is_late_and_seen_and_its_process_is_replaced() {
    let world = World::new();
    let host = wedge(&world).await;
    assert_eq!(run(&host, &[]).await.unwrap(), 7);
    let pid = row(&host, "wedge").facts["pid"].clone();
    let late = run(&host, &["loop"]).await.unwrap_err();
    assert_eq!((late.code(), late.plugin()), (Code::EXECUTION_TIMEOUT, Some("wedge")), "{late}");
    until("it is seen", || row(&host, "wedge").facts.get("stuck").is_some_and(|stuck| stuck.starts_with("command wedge for "))).await;
    let seen = row(&host, "wedge");
    assert_eq!(seen.health, "degraded", "{seen:?}");
    assert!(seen.reason.as_ref().is_some_and(|why| why.contains("plugin.py:11)")), "{seen:?}");
    until("its process is replaced", || told(&host, "plugin_error").iter().any(|event| event["what"] == "ended")).await;
    let ended = told(&host, "plugin_error").remove(0);
    let why = ended["reason"].as_str().unwrap();
    assert!(why.contains("exit code 75") && why.contains("command wedge for") && why.contains("plugin.py:11"), "{why}");
    assert_eq!(run(&host, &[]).await.unwrap(), 7);
    assert_ne!(row(&host, "wedge").facts["pid"], pid);
    assert!(!lives(&pid));
    within(host.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_block_threads_are_counted_and_named_while_others_are_answered() {
    let world = World::new();
    let host = wedge(&world).await;
    for stuck in 1..=2 {
        let late = within(host.invoke(&CallCx::new(), "wedge", "block", json!({}))).await.unwrap_err();
        assert_eq!(late.code(), Code::EXECUTION_TIMEOUT, "{late}");
        let named = || row(&host, "wedge").facts.get("stuck").map_or(0, |all| all.matches("method block for ").count());
        until("it is counted", || named() == stuck).await;
        assert_eq!(run(&host, &[]).await.unwrap(), 7);
    }
    let seen = row(&host, "wedge");
    assert_eq!((seen.state, seen.health.as_str()), (State::Ready, "degraded"));
    assert!(seen.reason.as_ref().is_some_and(|why| why.starts_with("2 calls go on although nobody waits")), "{seen:?}");
    // A process that is stuck ends like any other.
    let pid = seen.facts["pid"].clone();
    within(host.shutdown()).await;
    assert!(!lives(&pid));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_does_not_say_how_it_does_is_not_well() {
    let world = World::new();
    let host = world.host([world.plugin("mute", "mute")]).await;
    assert_eq!(act(&host, "mute", json!({ "value": 1 })).await.unwrap(), "1");
    until("that is told", || row(&host, "mute").reason.is_some_and(|why| why.contains("has not said how it does for"))).await;
    assert_eq!(row(&host, "mute").health, "degraded");
    within(host.shutdown()).await;
}
