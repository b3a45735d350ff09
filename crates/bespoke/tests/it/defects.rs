//! What App Factory and LAO did wrong with plugins, each defect by its name and number, tried with the whole program and with plugins in
//! processes of their own. Those that need neither are tried where the code is: `host-stdio`, the SDK, `process`.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{host_stdio::Served, program::User};

/// A plugin as App Factory has them. It keeps a count, and does what a text tells it.
fn app_factory(plugins: &Path, name: &str, change: (&str, &str)) {
    const PLUGIN: &str = r#"
import os, sys, time
from contracts.tts_contract import TTSContract
from contracts.base import HealthStatus, PluginStatus

class Plugin(TTSContract):
    async def initialize(self, config: dict) -> bool:
        print("initialize", config, file=sys.stderr)
        self._count = config.get("count", 0)
        self._status = PluginStatus.READY
        return True

    async def shutdown(self) -> bool:
        return True

    def health_check(self) -> HealthStatus:
        return HealthStatus(status=self._status, message="")

    async def get_voices(self) -> list:
        return []

    async def synthesize(self, text: str, voice_id: str = None) -> bytes:
        if text == "die":
            os._exit(7)
        if text == "wait":
            open(os.path.join(os.environ["HOME"], "waiting"), "w").close()
            while not os.path.exists(os.path.join(os.environ["HOME"], "go on")):
                time.sleep(0.005)
        if text == "forge":
            for answer in ('{"jsonrpc":"2.0","id":1,"result":"forged"}', '{"jsonrpc":"2.0","id":2,"result":"forged"}', "x" * 100000):
                print(answer, flush=True)
        self._count += 1
        return ("%s NAME %d" % (text, self._count)).encode()

    def capture_state(self) -> dict:
        return {"count": self._count}

    def restore_state(self, state: dict) -> None:
        self._count = state["count"]
"#;
    let folder = plugins.join(name);
    fs::create_dir_all(&folder).unwrap();
    let manifest = json!({
        "name": name, "version": "1.0.0", "contract": "tts", "entry_point": "__init__", "display_name": name, "description": "Counts.",
        "author": "Somebody", "dependencies": [],
        "config_schema": { "type": "object", "properties": { "count": { "type": "integer", "minimum": 0 } }, "additionalProperties": false }
    });
    fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
    fs::write(folder.join("__init__.py"), PLUGIN.replace("NAME", name).replace(change.0, change.1)).unwrap();
}

const AS_IT_IS: (&str, &str) = ("initialize", "initialize");

fn serving(user: &User, load: &[&str]) -> Served {
    let mut host = Served::new(user, &["--plugins-dir", "plugins"]);
    for name in load {
        host.ok("plugin/load", json!({ "name": name }));
    }
    host
}

fn say(plugin: &str, text: &str) -> Value {
    json!({ "plugin": plugin, "method": "synthesize", "args": { "text": text } })
}

#[track_caller]
fn said(host: &mut Served, plugin: &str, text: &str) -> String {
    Served::spoken(&host.ok("plugin/call", say(plugin, text)))
}

/// The same, after it died.
fn said_again(host: &mut Served, plugin: &str, text: &str) -> String {
    Served::spoken(&host.again("plugin/call", &say(plugin, text)))
}

#[test]
fn app_factory_defect_5_what_a_plugin_prints_is_no_line_of_the_protocol() {
    let user = User::new();
    app_factory(&user.work("plugins"), "one", AS_IT_IS);
    let mut host = serving(&user, &["one"]);
    // `ok` reads each line that comes: one that is no answer, or somebody else's, would be the next.
    assert_eq!(said(&mut host, "one", "forge"), "forge one 1");
    assert_eq!(host.ok("ping", json!({})), "pong");
    assert_eq!(said(&mut host, "one", "on"), "on one 2");
    assert_eq!(host.end(), 4);
}

#[test]
fn app_factory_defect_14_a_plugin_that_dies_is_started_again() {
    let user = User::new();
    app_factory(&user.work("plugins"), "one", AS_IT_IS);
    app_factory(&user.work("plugins"), "two", AS_IT_IS);
    let mut host = serving(&user, &["one", "two"]);
    assert_eq!(said(&mut host, "two", "a"), "a two 1");
    for _ in 0..2 {
        let died = host.ask("plugin/call", say("one", "die"));
        let error = &died["error"];
        assert_eq!(json!([error["code"], error["retryable"], error["plugin"]]), json!([-32062, true, "one"]), "{died}");
        // Whoever asks next waits for the new one; whoever is so quick as to find the old one gone is told to try again.
        assert_eq!(said_again(&mut host, "one", "again"), "again one 1");
        let health = host.ok("plugin/health", json!({ "name": "one" }));
        assert_eq!(health["status"], "ready", "{health}");
    }
    assert_eq!(said(&mut host, "two", "b"), "b two 2", "the other one is the same all the while");
    assert_eq!(host.end(), 4);
}

#[test]
fn app_factory_defect_15_a_configuration_is_checked_before_the_plugin_sees_it() {
    let user = User::new();
    app_factory(&user.work("plugins"), "one", AS_IT_IS);
    let mut host = Served::new(&user, &["--plugins-dir", "plugins"]);
    for config in [json!({ "count": "many" }), json!({ "count": -1 }), json!({ "cuont": 1 })] {
        let error = host.ask("plugin/load", json!({ "name": "one", "config": config }))["error"].clone();
        assert_eq!((&error["code"], &error["plugin"]), (&json!(-32602), &json!("one")), "{config}: {error}");
    }
    let log = || fs::read_to_string(user.home().join("logs/plugins.log")).unwrap_or_default();
    assert!(!log().contains("initialize"), "{}", log());
    host.ok("plugin/load", json!({ "name": "one", "config": { "count": 40 } }));
    assert_eq!(host.ask("plugin/load", json!({ "name": "one", "config": { "count": -1 } }))["error"]["code"], -32602);
    assert_eq!(said(&mut host, "one", "a"), "a one 41");
    assert_eq!(host.end(), 4);
    assert_eq!(log().matches("initialize").count(), 1, "{}", log());
}

#[test]
fn app_factory_defect_16_a_swap_drains_hands_over_state_and_goes_back() {
    let user = User::new();
    let plugins = user.work("plugins");
    app_factory(&plugins, "old", AS_IT_IS);
    app_factory(&plugins, "new", AS_IT_IS);
    app_factory(&plugins, "picky", ("self._count = state[\"count\"]", "raise ValueError(\"this state is not mine\")"));
    app_factory(&plugins, "broken", ("self._status = PluginStatus.READY", "raise RuntimeError(\"no engine\")"));
    let mut host = serving(&user, &["old"]);
    assert_eq!(said(&mut host, "old", "a"), "a old 1");

    // One that does not come up, or does not take the state, does not take the place: nothing of the old one is lost.
    for (name, why) in [("broken", "no engine"), ("picky", "this state is not mine")] {
        let answer = host.ask("plugin/swap", json!({ "old": "old", "new": name }));
        assert!(answer.to_string().contains(why) && answer["result"]["success"] != json!(true), "{answer}");
    }
    assert_eq!(said(&mut host, "old", "b"), "b old 2");

    // A call that is inside is answered by the one that it is inside of, and those that come meanwhile by the next.
    let inside = host.request("plugin/call", say("old", "wait"));
    let home = user.home().join("data/old");
    let begun = std::time::Instant::now();
    while !home.join("waiting").exists() {
        assert!(begun.elapsed().as_secs() < 60, "{home:?}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let swap = host.request("plugin/swap", json!({ "old": "old", "new": "new" }));
    let meanwhile = host.request("tts/synthesize", json!({ "text": "c" }));
    fs::write(home.join("go on"), "").unwrap();
    let mut answers = [host.line(), host.line(), host.line()];
    answers.sort_by_key(|answer| answer["id"].as_u64());
    assert_eq!(json!([answers[0]["id"], answers[1]["id"], answers[2]["id"]]), json!([inside, swap, meanwhile]), "{answers:?}");
    assert_eq!(Served::spoken(&answers[0]["result"]), "wait old 3");
    assert_eq!((&answers[1]["result"]["success"], &answers[1]["result"]["new_plugin"]), (&json!(true), &json!("new")), "{answers:?}");
    // The count goes on where it was.
    assert_eq!(Served::spoken(&answers[2]["result"]), "c new 4");
    assert_eq!(said(&mut host, "new", "d"), "d new 5");
    assert_eq!(host.end(), 4);
}

/// A plugin of our own that notes each of its starts in its data, and prints where it should not.
fn noting(user: &User, word: &str) {
    const PLUGIN: &str = r#"
import json, os, sys
tool = {"kind": "tool", "spec": {"name": "noting", "description": "Says it.", "input_schema": {"type": "object"}}}
config = {}
def say(message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)
print("debug: loading", flush=True)
for line in sys.stdin:
    message = json.loads(line)
    method, number = message.get("method"), message.get("id")
    if method == "hello":
        say({"id": 0, "result": {"protocol": 1, "oldest": 1, "plugin": "noting", "version": "1.0.0", "specs": [tool], "features": []}})
    elif method == "plugin.start":
        config = message["params"]["args"].get("config") or {}
        with open(os.path.join(os.environ["HOME"], "starts"), "a") as starts:
            starts.write("WORD\n")
        say({"id": number, "result": {"health": {"status": "ok"}, "facts": {}}})
    elif method == "tool.call":
        print("debug: called", flush=True)
        args = message["params"]["args"]["args"]
        text = args["say"] if "say" in args else "WORD " + config.get("more", "")
        say({"id": number, "result": {"content": [{"type": "text", "text": text}]}})
    elif method == "$/ping":
        say({"method": "$/pong", "params": message["params"]})
    elif method == "plugin.shutdown":
        say({"id": number, "result": None})
    elif number:
        say({"id": number, "error": {"code": -32601, "message": "no " + method}})
"#;
    let folder = user.home().join("plugins/noting");
    fs::create_dir_all(&folder).unwrap();
    let manifest = "id = \"noting\"\nversion = \"1.0.0\"\nlicense = \"MIT\"\ndescription = \"Notes.\"\nauthor = \"Somebody\"\nprotocol = \"1\"\n\
                    tiers = [\"process\"]\n[[provides]]\nkind = \"tool\"\nname = \"noting\"\n[process]\ncommand = [\"python3\", \"plugin.py\"]\n";
    fs::write(folder.join("plugin.toml"), manifest).unwrap();
    fs::write(folder.join("plugin.py"), PLUGIN.replace("WORD", word)).unwrap();
    let schema = r#"{"type":"object","properties":{"more":{"type":"string","description":"What it adds."}},"additionalProperties":false}"#;
    fs::write(folder.join("config.schema.json"), schema).unwrap();
}

fn starts(user: &User) -> Vec<String> {
    let text = fs::read_to_string(user.home().join("data/noting/starts")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn noted(user: &User, args: Value) -> String {
    let answer = user.run(["plugin", "call", "noting", "noting", &args.to_string()]).ok().value();
    answer["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

#[test]
fn lao_defect_1_what_says_that_it_was_done_was_done() {
    let user = User::new();
    noting(&user, "one");
    assert_eq!(noted(&user, json!({})), "one ");
    assert_eq!(starts(&user), ["one"]);
    // A reload starts one and another in its place.
    user.run(["plugin", "reload", "noting"]).ok();
    assert_eq!(starts(&user), ["one"; 3]);
    noting(&user, "two");
    assert_eq!(noted(&user, json!({})), "two ");
    // A value is what the plugin has next.
    user.run(["plugin", "config", "noting", "more", "or less"]).ok();
    assert_eq!(noted(&user, json!({})), "two or less");
    user.run(["plugin", "config", "noting", "more", "never", "--dry-run"]).ok();
    assert_eq!(noted(&user, json!({})), "two or less", "what was tried is not kept");
    // What is off does not run, whatever is said about it; and what fails does not say that it was done.
    user.run(["plugin", "toggle", "noting", "false"]).ok();
    let before = starts(&user).len();
    for args in [&["call", "noting", "noting"][..], &["reload", "noting"], &["health", "noting"], &["info", "noting"], &["list", "--start"]]
    {
        user.run(["plugin"].iter().chain(args));
    }
    user.run(["plugin", "call", "noting", "noting"]).code(5);
    user.run(["plugin", "reload", "noting"]).code(5);
    assert_eq!(starts(&user).len(), before);
    user.run(["plugin", "toggle", "noting", "true"]).ok();
    assert_eq!(noted(&user, json!({})), "two or less");
    fs::write(user.home().join("plugins/noting/plugin.py"), "raise SystemExit('broken')\n").unwrap();
    for args in [&["reload", "noting"][..], &["health", "noting"], &["call", "noting", "noting"], &["load", "noting"]] {
        let ended = user.run(["plugin"].iter().chain(args));
        assert_ne!(ended.code, 0, "{args:?}: {ended:?}");
    }
}

#[test]
fn lao_defect_7_a_text_about_an_error_is_no_error() {
    let user = User::new();
    noting(&user, "one");
    let text = "error: an article about error handling, failed attempts and panics";
    assert_eq!(noted(&user, json!({ "say": text })), text);
}

#[test]
fn lao_defect_8_a_nul_in_the_input_is_a_character() {
    let user = User::new();
    noting(&user, "one");
    let text = "a\0b";
    assert_eq!(noted(&user, json!({ "say": text })), text);
    fs::write(user.work("args.json"), json!({ "say": text }).to_string()).unwrap();
    for (input, args) in [("", "@args.json"), (&*json!({ "say": text }).to_string(), "-")] {
        let answer = user.piped(input, ["plugin", "call", "noting", "noting", args]).ok().value();
        assert_eq!(answer["content"][0]["text"], text);
    }
    // A bare one is no JSON.
    user.piped("{\"say\":\"a\0b\"}", ["plugin", "call", "noting", "noting", "-"]).code(2).nothing();
    user.piped("\0", ["plugin", "call", "noting", "noting", "-"]).code(2).nothing();
    fs::write(user.work("args.json"), "\0\0").unwrap();
    user.run(["plugin", "call", "noting", "noting", "@args.json"]).code(2).nothing();

    let mut host = Served::new(&user, &[]);
    host.ok("plugin/load", json!({ "name": "noting" }));
    let call = json!({ "plugin": "noting", "method": "noting", "args": { "say": text } });
    assert_eq!(host.ok("plugin/call", call)["content"][0]["text"], text);
    host.send("{\"jsonrpc\":\"2.0\",\"id\":99,\"method\":\"pi\0ng\"}");
    assert_eq!(host.line()["error"]["code"], -32700);
    let unknown = host.ask("plugin/load", json!({ "name": "not\0ing" }));
    assert_eq!(unknown["error"]["code"], -32000, "{unknown}");
    assert_eq!(host.ok("ping", json!({})), "pong");
    assert_eq!(host.end(), 4);
}

#[test]
fn lao_defect_12_stdout_carries_data_and_nothing_else() {
    let user = User::new();
    noting(&user, "one");
    for args in [
        &["list", "--start", "--json"][..],
        &["info", "noting", "--json"],
        &["call", "noting", "noting"],
        &["call", "noting", "noting", "--json"],
        &["health", "noting", "--json"],
        &["reload", "noting", "--json"],
        &["config", "noting", "--json"],
    ] {
        // All of it is one value; what the plugin prints is in the log.
        user.run(["--log-level", "debug", "plugin"].iter().chain(args)).ok().value();
    }
    for args in [&["disable", "noting"][..], &["enable", "noting"], &["toggle", "noting", "true"], &["config", "noting", "more", "x"]] {
        user.run(["plugin"].iter().chain(args)).ok().nothing();
    }
    let log = fs::read_to_string(user.home().join("logs/plugins.log")).unwrap();
    assert!(log.contains("debug: called"), "{log}");
}

#[test]
fn lao_defect_3_what_was_taken_out_is_gone() {
    let user = User::new();
    noting(&user, "one");
    assert_eq!(noted(&user, json!({})), "one ");
    fs::remove_dir_all(user.home().join("plugins/noting")).unwrap();
    // Nothing that was kept of it brings it back.
    let rows = user.json(["plugin", "list", "--json"]);
    assert!(!rows.as_array().unwrap().iter().any(|row| row["id"] == "noting"), "{rows}");
    let ended = user.run(["plugin", "call", "noting", "noting"]);
    assert_ne!(ended.code, 0, "{ended:?}");
    assert_eq!(starts(&user), ["one"]);
}

#[test]
fn lao_defect_11_what_is_named_and_not_there_is_an_error() {
    let user = User::new().configured("[plugins.nothing]\nmore = 1\n");
    noting(&user, "one");
    let rows = user.json(["plugin", "list", "--json"]);
    let row = rows.as_array().unwrap().iter().find(|row| row["id"] == "nothing").unwrap_or_else(|| panic!("{rows}"));
    assert_eq!(row["state"], "missing", "{row}");
    // A method that a plugin does not have, and a plugin that is not there.
    for args in [["call", "noting", "conjure"], ["call", "nothing", "noting"], ["call", "nobody", "noting"]] {
        let ended = user.run(["plugin"].iter().chain(&args));
        assert_ne!(ended.code, 0, "{args:?}: {ended:?}");
    }
}

#[test]
fn lao_defect_14_versions_of_what_a_plugin_needs_are_compared() {
    let user = User::new();
    noting(&user, "one");
    let folder = user.home().join("plugins/leaning");
    fs::create_dir_all(&folder).unwrap();
    let source = fs::read_to_string(user.home().join("plugins/noting/plugin.py")).unwrap();
    fs::write(folder.join("plugin.py"), source.replace("noting", "leaning")).unwrap();
    let manifest = fs::read_to_string(user.home().join("plugins/noting/plugin.toml")).unwrap().replace("noting", "leaning");
    for (version, fits) in [(">=1.0, <2.0", true), (">=2.0", false), ("<1.0", false)] {
        let requires = format!("[[requires]]\nplugin = \"noting\"\nversion = \"{version}\"\n");
        fs::write(folder.join("plugin.toml"), format!("{manifest}{requires}")).unwrap();
        let rows = user.json(["plugin", "list", "--start", "--json"]);
        let row = rows.as_array().unwrap().iter().find(|row| row["id"] == "leaning").unwrap_or_else(|| panic!("{rows}"));
        assert_eq!(row["state"] == "ready", fits, "{version}: {row}");
        assert!(fits || row["reason"].as_str().is_some_and(|why| why.contains("noting") && why.contains("1.0.0")), "{version}: {row}");
    }
}
