//! Commands of plugins as a person types them: found, refused, mistyped, explained, run; and what is counted of it.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::program::User;

/// A plugin with a command.
const SCRIPT: &str = r#"
import json, sys
spec = {"kind": "command", "spec": {"name": "weather", "about": "Tells the weather.", "usage": "weather CITY [--code N]", "require_auth": True}}
def say(message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)
for line in sys.stdin:
    message = json.loads(line)
    method, number = message.get("method"), message.get("id")
    if method == "hello":
        say({"id": 0, "result": {"protocol": 1, "oldest": 1, "plugin": "weather", "version": "1.0.0", "specs": [spec], "features": []}})
    elif method == "plugin.start":
        say({"id": number, "result": {"health": {"status": "ok"}, "facts": {}}})
    elif method == "command.run":
        args = message["params"]["args"]["args"]
        say({"method": "$/output", "params": {"id": number, "note": "looking"}})
        for arg in args:
            say({"method": "$/output", "params": {"id": number, "line": "\u001b[31m" + arg}})
        say({"id": number, "result": int(args[-1]) if args[-1:] and args[-1].isdigit() else 0})
    elif method == "$/ping":
        say({"method": "$/pong", "params": message["params"]})
    elif method == "plugin.shutdown":
        say({"id": number, "result": None})
    elif number:
        say({"id": number, "error": {"code": -32601, "message": "no " + method}})
"#;

fn weather(folder: &Path) {
    let folder = folder.join("weather");
    fs::create_dir_all(&folder).unwrap();
    let manifest = "id = \"weather\"\nversion = \"1.0.0\"\nlicense = \"MIT\"\ndescription = \"Weather.\"\nauthor = \"Somebody\"\n\
         protocol = \"1\"\ntiers = [\"process\"]\n[[provides]]\nkind = \"command\"\nname = \"weather\"\nabout = \"Tells the weather.\"\n\
         usage = \"weather CITY [--code N]\"\n[process]\ncommand = [\"python3\", \"plugin.py\"]\n";
    fs::write(folder.join("plugin.toml"), manifest).unwrap();
    fs::write(folder.join("plugin.py"), SCRIPT).unwrap();
}

#[test]
fn a_command_runs_as_a_verb_and_its_number_is_the_exit_code() {
    let user = User::new();
    let ended = user.run(["fake", "0", "two words", "--help"]).ok();
    assert_eq!(ended.out, "0\ntwo words\n--help\n");
    ended.says("3 arguments");
    user.run(["fake", "7"]).code(7);
    user.run(["fake", "255"]).code(255);
    let lines = user.run(["--json", "fake", "3", "\u{1b}[31mx\u{202e}"]).code(3).lines();
    assert_eq!(lines, [json!({ "note": "2 arguments" }), json!({ "line": "3" }), json!({ "line": "x" }), json!({ "exit_code": 3 })]);
    let long = "x".repeat(4097);
    user.run(["fake", &long]).code(2).nothing().says("the arguments have 4097 bytes; a command takes 4096 at most");
    user.run(["plugin", "disable", "fake"]).ok();
    user.run(["fake"]).code(1).nothing().says("switched off").says("try: bespoke config set plugins.fake.enabled true");
}

#[test]
fn help_comes_from_the_declaration_and_a_slip_meets_the_commands_of_plugins() {
    let user = User::new();
    fs::create_dir_all(user.home().join("plugins")).unwrap();
    weather(&user.home().join("plugins"));
    let help = user.run(["weather", "--help"]).ok().out;
    for words in ["Tells the weather.", "Usage: bespoke weather CITY [--code N]", "A command of the plugin weather.", "login"] {
        assert!(help.contains(words), "{words}: {help}");
    }
    let all = user.run(["--help"]).ok().out;
    assert!(all.contains("Commands of plugins:") && all.contains("  weather  Tells the weather."), "{all}");
    assert!(!user.run(["ask", "--help"]).ok().out.contains("Commands of plugins"));
    user.run(["wether"]).code(2).nothing().says("'weather'");
    user.run(["pluggin", "list"]).code(2).nothing().says("'plugin'");
    user.run(["nonsense-of-somebody"]).code(2).nothing().says("unrecognized subcommand");
    let completions = user.run(["completions", "bash"]).ok().out;
    assert!(completions.contains("weather"));
    assert!(!user.home().join("logs/plugins.log").exists(), "nothing was started");
    let ended = user.run(["weather", "Rome", "4"]).code(4);
    assert_eq!(ended.out, "\u{1b}[31mRome\n\u{1b}[31m4\n", "in a pipe it stays as it is");
    ended.says("looking");
}

#[test]
fn chat_knows_them_by_a_slash() {
    let user = User::new().configured("config_version = 1\n[agent]\nprovider = [\"fake\"]\n[plugins.fake]\n");
    let ended = user.piped("/help\n/fake 5 \"two words\"\n/fak\n", ["chat"]).ok();
    for words in ["Commands of plugins:", "/fake [CODE] [ARG]…", "5\ntwo words\n[/fake ended with 5]"] {
        assert!(ended.out.contains(words), "{words}: {}", ended.out);
    }
    assert!((ended.out.clone() + &ended.err).contains("did you mean /fake?"), "{}{}", ended.out, ended.err);
}

#[test]
fn what_was_used_is_counted_over_runs_and_can_be_switched_off() {
    let user = User::new();
    weather(&user.home().join("plugins"));
    let of = |user: &User, id: &str| user.run(["usage", "--json"]).ok().value()["plugins"][id].clone();
    assert_eq!(of(&user, "fake"), Value::Null);
    assert!(!user.home().join("state.db").exists(), "looking makes no file");
    for code in ["0", "3", "0"] {
        user.run(["fake", code]);
    }
    user.run(["weather", "Rome"]).ok();
    let used = of(&user, "fake");
    assert_eq!((&used["total"]["calls"], &used["today"]["errors"]), (&json!(3), &json!(0)));
    assert!(used["total"]["p50_ms"].as_f64().unwrap() <= used["total"]["max_ms"].as_f64().unwrap());
    assert_eq!(used["total"]["cpu_ms"], Value::Null, "nobody knows it of what is part of the program");
    assert!(of(&user, "weather")["total"]["memory_mb"].as_f64().is_some_and(|mb| mb > 1.0));
    let info = user.run(["plugin", "info", "fake"]).ok().out;
    assert!(info.contains("3 calls") && info.contains("p99") && info.contains("last just now"), "{info}");
    let rows = user.run(["plugin", "list", "--json"]).ok().value();
    let fake = rows.as_array().unwrap().iter().find(|row| row["id"] == "fake").unwrap();
    assert_eq!(fake["usage"]["total"]["calls"], 3);
    assert!(user.run(["usage"]).ok().out.contains("fake"));
    let user = user.configured("config_version = 1\n[usage]\nenabled = false\n");
    user.run(["fake", "0"]).ok();
    let user = user.configured("config_version = 1\n");
    assert_eq!(of(&user, "fake")["total"]["calls"], 3);
    user.configured("config_version = 1\n[usage]\nkeep_days = 0\n").run(["config", "check"]).code(2);
}

#[test]
fn a_budget_of_a_day_stops_every_conversation() {
    let user = User::new().configured("config_version = 1\n[agent]\nprovider = [\"fake\"]\ndaily_tokens = 1\n[plugins.fake]\n");
    user.run(["ask", "hi"]).ok();
    user.run(["ask", "--forget", "hi"]).code(1).nothing().says("agent.daily_tokens allows 1; a new day begins in");
    let used = user.run(["usage", "--json"]).ok().value();
    assert_eq!(used["daily_tokens"], 1);
    assert!(used["tokens_today"].as_u64().unwrap() >= 1);
}

#[test]
fn aisopod_defect_14_a_tilde_is_the_home_folder() {
    let user = User::new();
    let home = user.work("house");
    weather(&home.join("my-plugins"));
    let user = user.with("HOME", &home).configured("config_version = 1\n[plugins]\ndir = \"~/my-plugins\"\n");
    assert_eq!(user.run(["weather", "Rome"]).ok().out, "\u{1b}[31mRome\n");
}
