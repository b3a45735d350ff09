//! `plugin …` with plugins in processes of their own: adding, allowing, calling, switching, replacing them. Each is a small folder of
//! Python, as a user would write it.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::program::{Ended, User, wait};

/// Longer than anything takes, even where two cores are shared by many.
const LIMIT: Duration = Duration::from_secs(120);

/// A plugin that speaks lines, and has one tool of its name that says what it is told; `die` and `fail` are told otherwise.
const SCRIPT: &str = r#"
import json, sys
ID, WORD = sys.argv[1], sys.argv[2]
spec = {"kind": "tool", "spec": {"name": ID.replace("-", "_"), "description": "Says a word.", "input_schema": {"type": "object"}}}
config = {}
def say(message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)
for line in sys.stdin:
    message = json.loads(line)
    method, number = message.get("method"), message.get("id")
    if WORD == "broken" and method != "hello":
        print("the last words of " + ID, file=sys.stderr, flush=True)
        sys.exit(3)
    if method == "hello":
        say({"id": 0, "result": {"protocol": 1, "oldest": 1, "plugin": ID, "version": "1.0.0", "specs": [spec], "features": []}})
    elif method == "plugin.start":
        config = message["params"]["args"].get("config") or {}
        say({"id": number, "result": {"health": {"status": "ok"}, "facts": {}}})
    elif method == "tool.call" and WORD == "fails":
        print("ERROR: Traceback of " + ID, file=sys.stderr, flush=True)
        say({"id": number, "error": {"code": -32060, "message": "it is unlucky"}})
    elif method == "tool.call":
        print("called", file=sys.stderr, flush=True)
        text = config["word"] if config.get("word", "none") != "none" else WORD
        say({"id": number, "result": {"content": [{"type": "text", "text": text}], "is_error": False}})
    elif method == "$/ping":
        say({"method": "$/pong", "params": message["params"]})
    elif method == "plugin.shutdown":
        say({"id": number, "result": None})
    elif number:
        say({"id": number, "error": {"code": -32601, "message": "no " + method}})
"#;

const SCHEMA: &str = r#"{"type":"object","properties":{"word":{"type":"string","description":"What it says.","default":"none"}},"additionalProperties":false}"#;

/// Writes a plugin into a folder of its own; `extra` stands at the end of its manifest.
pub(crate) fn plugin(folder: &Path, id: &str, word: &str, extra: &str) -> PathBuf {
    let folder = folder.join(id);
    fs::create_dir_all(&folder).unwrap();
    let tool = id.replace('-', "_");
    let manifest = format!(
        "id = \"{id}\"\nversion = \"1.0.0\"\nlicense = \"MIT\"\ndescription = \"Says a word.\"\nauthor = \"Somebody\"\nprotocol = \"1\"\n\
         tiers = [\"process\"]\n[[provides]]\nkind = \"tool\"\nname = \"{tool}\"\n\
         [process]\ncommand = [\"python3\", \"plugin.py\", \"{id}\", \"{word}\"]\n{extra}"
    );
    fs::write(folder.join("plugin.toml"), manifest).unwrap();
    fs::write(folder.join("plugin.py"), SCRIPT).unwrap();
    fs::write(folder.join("config.schema.json"), SCHEMA).unwrap();
    folder
}

/// What a plugin says when it is called.
fn said(user: &User, id: &str) -> String {
    let tool = id.replace('-', "_");
    let answer = user.run(["plugin", "call", id, &tool]).ok().value();
    answer["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

fn row(user: &User, args: &[&str], id: &str) -> Value {
    let rows = user.json(["plugin", "list", "--json"].iter().chain(args));
    let rows = rows.as_array().unwrap();
    rows.iter().find(|row| row["id"] == id).unwrap_or_else(|| panic!("no row {id}")).clone()
}

#[test]
fn what_lies_in_plugin_folders_is_listed_and_not_run() {
    let user = User::new();
    plugin(&user.home().join("plugins"), "at-home", "x", "");
    plugin(&user.work("dir"), "in-dir", "x", "");
    plugin(&user.work("path"), "on-path", "x", "");
    let dir = user.work("dir");
    let user = user.configured(&format!("[plugins]\ndir = {}\n", json!(dir)));
    let path = user.work("path");
    let user = user.with("BESPOKE_PLUGIN_PATH", path);
    let rows = user.json(["plugin", "list", "--json"]);
    let rows = rows.as_array().unwrap();
    let keys = |row: &Value| row.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    for id in ["at-home", "in-dir", "on-path"] {
        let row = rows.iter().find(|row| row["id"] == id).unwrap_or_else(|| panic!("no {id}"));
        assert_eq!((&row["tier"], &row["state"], &row["health"]), (&json!("process"), &json!("unloaded"), &json!("unknown")), "{row}");
        assert_eq!(keys(row), keys(&rows[0]), "one schema for all");
    }
    assert!(!user.home().join("logs/plugins.log").is_file_with("called"));
    let row = row(&user, &["--start"], "at-home");
    assert_eq!((&row["state"], &row["health"]), (&json!("ready"), &json!("ok")), "{row}");
    assert_eq!(said(&user, "on-path"), "x");
}

trait Holds {
    fn is_file_with(&self, text: &str) -> bool;
}

impl Holds for PathBuf {
    fn is_file_with(&self, text: &str) -> bool {
        fs::read_to_string(self).is_ok_and(|all| all.contains(text))
    }
}

#[test]
fn a_plugin_is_added_from_a_folder_and_forgotten_again() {
    let user = User::new().configured("# mine\nconfig_version = 1\n");
    let folder = plugin(&user.work(""), "parrot", "hello", "");
    user.run(["plugin", "load", "nowhere"]).code(3).nothing();
    user.run(["plugin", "load", "./nowhere"]).code(3).nothing().says("no folder");
    user.run(["plugin", "load", "./parrot"]).ok().says("parrot 1.0.0 starts").says("try: bespoke plugin call parrot parrot");
    let text = fs::read_to_string(user.config()).unwrap();
    assert!(text.starts_with("# mine\n") && text.contains("[plugins.parrot]\npath = "), "{text}");
    assert_eq!(said(&user, "parrot"), "hello");
    user.run(["plugin", "load", "clock"]).code(5).says("part of this program");
    let info = user.json(["plugin", "info", "parrot", "--json"]);
    assert_eq!((&info["tier"], &info["state"], &info["folder"]), (&json!("process"), &json!("ready"), &json!(folder)), "{info}");
    assert_eq!(info["methods"][0]["method"], "parrot");
    assert!(info["wall"].as_array().is_some_and(|wall| !wall.is_empty()), "{info}");

    user.run(["plugin", "unload", "parrot"]).ok().says("is forgotten");
    assert!(folder.join("plugin.py").is_file(), "nothing is deleted");
    user.run(["plugin", "call", "parrot", "parrot"]).code(3).says("no plugin `parrot`");
    let text = fs::read_to_string(user.config()).unwrap();
    assert!(!text.contains("parrot"), "an empty table is left: {text}");
    user.run(["plugin", "unload", "parrot"]).code(3);
    assert!(!user.config().is_file_with("path"));
    user.run(["plugin", "unload", "clock"]).code(5).says("try: bespoke plugin disable clock");
    // One in the folder of plugins is not taken out by a word, and the word says so.
    plugin(&user.home().join("plugins"), "sitting", "x", "");
    user.run(["plugin", "unload", "sitting"]).code(5).says("plugins/sitting").says("try: bespoke plugin disable sitting");
}

#[test]
fn a_plugin_that_does_not_start_is_not_kept() {
    let user = User::new();
    plugin(&user.work(""), "broken", "broken", "[permissions]\nread_files = [\"/etc\"]\n[permissions.reasons]\nread_files = \"x\"\n");
    user.run(["plugin", "load", "./broken", "--yes"]).code(1).says("broken is ");
    assert!(!user.config().is_file_with("broken"));
    user.run(["plugin", "info", "broken"]).code(3);
    assert!(!user.home().join("grants.toml").is_file_with("broken"), "nothing is granted to what is not kept");
}

#[test]
fn one_that_starts_with_its_first_call_is_tried_all_the_same() {
    let user = User::new().configured("[plugins.broken]\nstart = \"lazy\"\n[plugins.parrot]\nstart = \"lazy\"\n");
    plugin(&user.work(""), "broken", "broken", "");
    let failed = user.run(["plugin", "load", "./broken"]).code(1).says("broken is failed").says("the last words of broken");
    // It is not kept, so it is not what one could ask about.
    failed.says("bespoke logs --plugin broken").says("or: bespoke plugin test ./broken");
    let logged = user.run(["logs", "--plugin", "broken"]).ok();
    assert!(logged.out.contains("the last words of broken"), "{}", logged.out);
    assert!(!user.config().is_file_with("path"));
    plugin(&user.work(""), "parrot", "hello", "");
    user.run(["plugin", "load", "./parrot"]).ok().says("parrot 1.0.0 starts in ");
    assert_eq!(row(&user, &["--start"], "parrot")["state"], "unloaded", "it still waits for its first call");
    assert_eq!(said(&user, "parrot"), "hello");
}

#[test]
fn what_a_plugin_says_is_in_its_log_and_on_the_terminal_when_somebody_asks() {
    let user = User::new();
    plugin(&user.home().join("plugins"), "unlucky", "fails", "");
    let log = user.home().join("logs/plugins.log");
    let call = ["plugin", "call", "unlucky", "unlucky"];
    let ended = user.run(call).code(1);
    let line = format!("bespoke: unlucky: it is unlucky; more in {}\n", log.display());
    assert_eq!((ended.out.as_str(), ended.err.as_str()), ("", line.as_str()));
    assert!(log.is_file_with("Traceback of unlucky"));
    for level in ["warn", "info"] {
        let ended = user.run(call.iter().chain(&["--log-level", level])).code(1).says("Traceback of unlucky");
        assert!(!ended.err.contains("more in"), "{ended:?}");
    }
    // What the host refuses, the plugin knows nothing of.
    let ended = user.run(["plugin", "call", "unlucky", "nonsense"]).code(3);
    assert!(!ended.err.contains("more in"), "{ended:?}");
}

#[test]
fn info_shows_the_limits_that_hold_and_how_tools_are_called() {
    let user = User::new().configured("[plugins.limits]\nmemory_mb = 200\n[plugins.parrot.limits]\nopen_files = 64\n");
    plugin(&user.home().join("plugins"), "parrot", "x", "[resources]\nmemory_mb = 300\nprocesses = 20\n");
    let info = user.json(["plugin", "info", "parrot", "--json"]);
    assert_eq!(info["limits"], json!({ "memory_mb": 200, "open_files": 64, "processes": 20 }), "{info}");
    let text = user.run(["plugin", "info", "parrot"]).ok().out;
    assert!(text.contains("memory_mb 200 (asks for 300)") && text.contains("open_files 64 (as configured)"), "{text}");
    let line = |key: &str| text.lines().filter(|line| line.split_whitespace().next() == Some(key)).count();
    assert_eq!((line("tier"), line("state"), line("status")), (1, 1, 0), "{text}");
    let text = user.run(["plugin", "info", "fake"]).ok().out;
    assert!(text.contains("fake_wait  {\"ms\":"), "{text}");
}

#[test]
fn packages_are_installed_before_the_start_and_that_is_told() {
    let user = User::new().with("PIP_NO_INDEX", "1");
    let folder = plugin(&user.work(""), "needy", "x", "");
    let manifest = fs::read_to_string(folder.join("plugin.toml")).unwrap();
    let python = manifest.split("command").next().unwrap().to_owned() + "python = \"plugin\"\nrequirements = [\"nobody-has-this>=1\"]\n";
    fs::write(folder.join("plugin.toml"), python).unwrap();
    user.run(["plugin", "load", "./needy"]).code(1).says("needs packages of Python that are not installed: nobody-has-this>=1");
    let tried = user.run(["plugin", "load", "./needy", "--auto-install-deps"]).code(1).says("they are installed now");
    let tried = tried.says("its packages could not be installed");
    assert!(!tried.err.contains("left behind"), "{tried:?}");
    assert!(!user.config().is_file_with("needy"));
}

#[test]
fn a_name_that_is_not_here_says_what_is() {
    let user = User::new().configured("[voice]\ntts = [\"nonesuch\"]\nstt = [\"nonesuch\"]\n");
    user.run(["speak", "Hello", "--out", "x.wav"]).code(3).says(r#"bespoke config set voice.tts '["flite"]'"#);
    let wrong = user.run(["ask", "x", "--provider", "nonesuch"]).code(3);
    wrong.says(r#"bespoke config set agent.provider '["smol"]'"#);
}

#[test]
fn consent_is_asked_kept_and_taken_back() {
    let user = User::new();
    let asks = "[permissions]\nread_files = [\"/usr/share\"]\nnetwork_access = [\"example.com\"]\noptional = [\"network_access\"]\n\
                [permissions.reasons]\nread_files = \"words to say\"\nnetwork_access = \"more words\"\n";
    plugin(&user.work(""), "asking", "granted", asks);
    let refused = user.run(["plugin", "load", "./asking"]).code(4).says("read_files: /usr/share — words to say");
    refused.says("no terminal").says("try: bespoke plugin load ./asking --yes");
    assert!(!user.config().exists());
    user.run(["plugin", "load", "./asking", "--yes"]).ok();
    assert_eq!(said(&user, "asking"), "granted");
    let info = user.json(["plugin", "info", "asking", "--json"]);
    assert_eq!(info["grant"]["granted"], json!(["network_access: example.com", "read_files: /usr/share"]), "{info}");

    user.run(["plugin", "revoke", "asking"]).ok().says("granted nothing any more");
    assert_eq!(row(&user, &["--start"], "asking")["state"], "blocked");
    user.run(["plugin", "call", "asking", "asking"]).code(4).says("try: bespoke plugin grant asking");
    user.run(["plugin", "grant", "asking"]).code(4).says("read_files: /usr/share").says("--yes");
    user.run(["plugin", "grant", "asking", "secrets", "--yes"]).code(2).says("does not ask for `secrets`");
    user.run(["plugin", "grant", "asking", "read_files", "--yes"]).ok().says("not granted: network_access: example.com");
    assert_eq!(said(&user, "asking"), "granted");
    // More is asked: it waits again.
    plugin(&user.work(""), "asking", "granted", &asks.replace("[\"/usr/share\"]", "[\"/usr/share\", \"/etc\"]"));
    user.run(["plugin", "call", "asking", "asking"]).code(4).says("asks for more than version 1.0.0 was granted");
    user.run(["plugin", "grant", "clock", "--yes"]).code(5);
}

#[test]
fn lao_toggle_works_both_ways_is_kept_and_what_is_off_never_runs() {
    let user = User::new().configured("# mine\n[plugins.parrot] # the bird\nword = \"hi\" # loud\n");
    plugin(&user.home().join("plugins"), "parrot", "x", "");
    user.run(["plugin", "toggle", "parrot"]).code(2);
    user.run(["plugin", "toggle", "parrot", "maybe"]).code(2);
    for (off, on) in
        [(&["toggle", "parrot", "false"][..], &["toggle", "parrot", "true"][..]), (&["disable", "parrot"], &["enable", "parrot"])]
    {
        user.run(["plugin"].iter().chain(off)).ok().says("parrot is switched off");
        user.run(["plugin"].iter().chain(off)).ok().says("switched off already");
        assert_eq!(row(&user, &["--start"], "parrot")["state"], "disabled");
        user.run(["plugin", "call", "parrot", "parrot"]).code(5).says("parrot is disabled");
        user.run(["plugin", "reload", "parrot"]).code(5);
        user.run(["plugin"].iter().chain(on)).ok().says("parrot is switched on");
        assert_eq!(said(&user, "parrot"), "hi");
    }
    assert_eq!(fs::read_to_string(user.config()).unwrap().matches("# the bird\nword = \"hi\" # loud").count(), 1);
    user.run(["plugin", "disable", "nonesuch"]).code(3).says("no plugin `nonesuch`");
}

#[test]
fn lao_names_never_lead_out_of_a_folder() {
    let user = User::new();
    let victim = user.work("victim");
    fs::create_dir_all(victim.join("inner")).unwrap();
    plugin(&user.home().join("plugins"), "parrot", "x", "");
    for id in ["../victim", "../../work/victim", "plugins/../../work/victim", ".", "..", "", "parrot/../parrot", "a.b"] {
        for verb in ["unload", "revoke", "enable", "disable", "info", "reload", "config", "grant", "health"] {
            let ended = user.run(["plugin", verb, id]);
            assert_eq!(ended.code, 3, "{verb} {id:?}: {ended:?}");
        }
        assert_eq!(user.run(["plugin", "call", id, "x"]).code, 3);
        assert_eq!(user.run(["plugin", "swap", id, "parrot"]).code, 3);
    }
    assert!(victim.join("inner").is_dir() && !user.config().exists());
}

#[test]
fn its_configuration_is_shown_set_and_refused() {
    let user = User::new().configured("# mine\n[plugins.energy] # by loudness\nsnr_db = 8.0 # quiet room\n");
    plugin(&user.home().join("plugins"), "parrot", "x", "");
    let rows = user.json(["plugin", "config", "parrot", "--json"]);
    let word = json!({ "key": "plugins.parrot.word", "value": null, "default": "none", "set": false, "reload": "restart", "description": "What it says." });
    assert_eq!(rows, json!([word]));
    assert_eq!(user.run(["plugin", "config", "parrot", "word"]).ok().out, "none\n");
    user.run(["plugin", "config", "parrot", "word", "polly"]).ok().says("restart: on /reload");
    assert_eq!((user.run(["plugin", "config", "parrot", "word"]).ok().out.as_str(), said(&user, "parrot").as_str()), ("polly\n", "polly"));
    user.run(["plugin", "config", "energy", "snr_db", "7"]).ok().says("live: what runs takes it");
    // The old value stays, and so does everything else.
    user.run(["plugin", "config", "parrot", "word", "7"]).code(2).says("plugins.parrot.word");
    user.run(["plugin", "config", "parrot", "wrod", "x"]).code(2).says("did you mean `word`?");
    user.run(["plugin", "config", "parrot", "wrod"]).code(3).says("did you mean `word`?");
    user.run(["plugin", "config", "energy", "snr_db", "loud"]).code(2);
    let text = fs::read_to_string(user.config()).unwrap();
    assert!(
        text.contains("# mine") && text.contains("# by loudness") && text.contains("snr_db = 7") && text.contains("# quiet room"),
        "{text}"
    );
    assert!(user.run(["plugin", "config", "parrot", "word", "later", "--dry-run"]).ok().out.contains("word = \"later\""));
    assert_eq!(user.run(["plugin", "config", "parrot", "word"]).ok().out, "polly\n");
}

#[test]
fn one_takes_the_place_of_another_or_nothing_changes() {
    let user = User::new();
    let plugins = user.home().join("plugins");
    for (id, word) in [("first", "one"), ("second", "two"), ("worse", "broken")] {
        plugin(&plugins, id, word, "");
    }
    user.run(["plugin", "swap", "first", "worse"]).code(1).says("`first` goes on").says("nothing is changed");
    user.run(["plugin", "swap", "first", "energy"]).code(1).says("offers no tool");
    assert!(!user.config().exists());
    let tried = user.run(["plugin", "swap", "first", "second", "--dry-run", "--json"]).ok().value();
    assert_eq!((&tried["success"], &tried["kept"]), (&json!(true), &json!(false)), "{tried}");
    assert!(!user.config().exists());
    user.run(["plugin", "swap", "first", "second"]).ok().says("second took the place of first");
    assert_eq!((&row(&user, &[], "first")["state"], &row(&user, &["--start"], "second")["state"]), (&json!("disabled"), &json!("ready")));
    let reloaded = user.run(["plugin", "reload", "second", "--json"]).ok().value();
    assert_eq!(reloaded["reloaded"], true);
}

#[test]
fn one_that_breaks_says_its_last_words_where_somebody_looks() {
    let user = User::new();
    plugin(&user.home().join("plugins"), "dying", "broken", "");
    let health = user.run(["plugin", "health", "dying", "--json"]).code(1).value();
    assert_eq!((&health[0]["state"], &health[0]["health"]), (&json!("failed"), &json!("failed")), "{health}");
    let info = user.run(["plugin", "info", "dying"]).ok().out;
    assert!(info.contains("last said") && info.contains("the last words of dying"), "{info}");
    let log = user.home().join("logs/plugins.log");
    assert!(log.is_file_with("the last words of dying plugin=\"dying\""), "{:?}", fs::read_to_string(&log));
    user.run(["plugin", "health", "clock"]).ok();
}

#[test]
fn arguments_come_from_the_line_a_file_or_a_pipe() {
    let user = User::new();
    let echo = |ended: Ended| ended.ok().value()["data"].clone();
    assert_eq!(echo(user.run(["plugin", "call", "fake", "fake_echo", r#"{"a":1}"#])), json!({ "a": 1 }));
    fs::write(user.work("args.json"), r#"{"a":2}"#).unwrap();
    assert_eq!(echo(user.run(["plugin", "call", "fake", "fake_echo", "@args.json"])), json!({ "a": 2 }));
    assert_eq!(echo(user.piped(r#"{"a":3}"#, ["plugin", "call", "fake", "fake_echo", "-"])), json!({ "a": 3 }));
    user.run(["plugin", "call", "fake", "fake_echo", "{a"]).code(2).says("no JSON");
    user.run(["plugin", "call", "fake", "fake_echo", "@nothing.json"]).code(3).says("nothing.json cannot be read").says("@args.json");
    user.run(["plugin", "call", "fake", "fake_echo", "@"]).code(2).says("behind @");
    user.run(["plugin", "call", "fake", "fake_echo", "@."]).code(2).says("is a folder");
    user.piped("{\"a\":\0}", ["plugin", "call", "fake", "fake_echo", "-"]).code(2).says("stdin: no JSON");
    user.run(["plugin", "call", "fake", "nonsense"]).code(3).says("tts.synthesize");
    user.run(["plugin", "call", "fake", "fake_wait", r#"{"ms":60000}"#, "--timeout-ms", "50"]).code(1);
}

#[test]
fn a_plugin_that_is_being_written_is_reloaded_at_every_save() {
    let user = User::new();
    let folder = plugin(&user.home().join("plugins"), "draft", "x", "");
    let mut child = user.command(["plugin", "reload", "draft", "--watch", "--json"]).spawn().unwrap();
    let (sender, lines) = mpsc::channel();
    let err = BufReader::new(child.stderr.take().unwrap());
    let watching = sender.clone();
    thread::spawn(move || {
        for line in err.lines().map_while(Result::ok) {
            _ = watching.send(line);
        }
    });
    let out = BufReader::new(child.stdout.take().unwrap());
    thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            _ = sender.send(line);
        }
    });
    let next = |what: &str| loop {
        let line = lines.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("no line with {what}"));
        if line.contains(what) {
            return line;
        }
    };
    next("watching ");
    fs::write(folder.join("plugin.py"), SCRIPT.replace("Says a word.", "Says another word.")).unwrap();
    let done: Value = serde_json::from_str(&next("\"changed\"")).unwrap();
    assert_eq!((&done["ok"], &done["what"], &done["changed"]), (&json!(true), &json!("reloaded"), &json!("plugin.py")), "{done}");
    // What does not work does not take the place of what works.
    fs::write(folder.join("plugin.py"), "import sys\nsys.exit('a mistake')\n").unwrap();
    let done: Value = serde_json::from_str(&next("\"changed\"")).unwrap();
    assert_eq!(done["ok"], false, "{done}");
    fs::write(folder.join("plugin.py"), SCRIPT).unwrap();
    let done: Value = serde_json::from_str(&next("\"changed\"")).unwrap();
    assert_eq!(done["ok"], true, "{done}");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(wait(child).code, 0);
}

#[test]
fn a_folder_that_another_takes_the_place_of_is_watched_on() {
    let user = User::new();
    let folder = plugin(&user.work("plugins"), "draft", "x", "");
    user.run(["plugin", "load", "plugins/draft"]).ok();
    let mut child = user.command(["plugin", "reload", "draft", "--watch", "--json"]).spawn().unwrap();
    let mut err = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(err.any(|line| line.starts_with("watching ")));
    let (sender, lines) = mpsc::channel();
    let out = BufReader::new(child.stdout.take().unwrap());
    thread::spawn(move || out.lines().map_while(Result::ok).for_each(|line| _ = sender.send(line)));
    // Between the two renames there is nothing, which may be told, too; and one change may be told in two lines.
    let told = |changed: &str, what: &str| loop {
        let line = lines.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("nobody says that {changed} is {what}"));
        let line: Value = serde_json::from_str(&line).unwrap();
        if line["what"] == what && line["changed"].as_str().is_some_and(|path| path.ends_with(changed)) {
            return;
        }
    };
    // As a build does it: made beside it, and renamed.
    for (round, (word, what)) in [("x", "reloaded"), ("y", "loaded anew"), ("y", "reloaded")].into_iter().enumerate() {
        let new = plugin(&user.work(&format!("new-{round}")), "draft", word, "");
        fs::rename(&folder, user.work(&format!("old-{round}"))).unwrap();
        fs::rename(new, &folder).unwrap();
        told("plugins/draft", what);
        fs::write(folder.join("plugin.py"), SCRIPT.replace("Says a word.", "Says another word.")).unwrap();
        told("plugin.py", "reloaded");
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(wait(child).code, 0);
}

#[test]
fn an_interrupt_ends_a_reload_under_way() {
    let user = User::new();
    let folder = plugin(&user.home().join("plugins"), "draft", "x", "");
    let mut child = user.command(["plugin", "reload", "draft", "--watch", "--json"]).spawn().unwrap();
    let mut err = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(err.any(|line| line.starts_with("watching ")));
    // The next one leaves a sign that it begins, where it may write, and then takes longer than a start may.
    let slow = "import os, time\nopen(os.environ['HOME'] + '/begun', 'w').close()\ntime.sleep(300)\n";
    fs::write(folder.join("plugin.py"), slow).unwrap();
    user.appears("begun");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(wait(child).code, 0);
}

#[test]
fn a_program_that_is_gone_since_it_began_still_starts_plugins() {
    let user = User::new();
    let folder = plugin(&user.home().join("plugins"), "draft", "x", "");
    let program = user.work("bespoke");
    // An upgrade takes the old program away.
    let built = env!("CARGO_BIN_EXE_bespoke");
    fs::hard_link(built, &program).or_else(|_| fs::copy(built, &program).map(drop)).unwrap();
    let of_user = user.command(["plugin", "reload", "draft", "--watch", "--json"]);
    let mut command = Command::new(&program);
    for (name, value) in of_user.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.args(of_user.get_args()).current_dir(user.work(""));
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut err = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(err.any(|line| line.starts_with("watching ")));
    fs::remove_file(&program).unwrap();
    fs::write(folder.join("plugin.py"), SCRIPT.replace("Says a word.", "Says another word.")).unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let done = out.next().unwrap_or_default();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert!(done.contains("\"ok\":true") && done.contains("\"what\":\"reloaded\""), "{done}");
    assert_eq!(wait(child).code, 0);
}

#[test]
fn doctor_says_what_the_wall_is_made_of_and_who_waits() {
    let user = User::new();
    let plugins = user.home().join("plugins");
    plugin(&plugins, "waiting", "x", "[permissions]\nread_files = [\"/etc\"]\n[permissions.reasons]\nread_files = \"x\"\n");
    let report = user.run(["doctor", "--json"]).value();
    let checks = report.as_array().unwrap();
    let named = |name: &str| checks.iter().filter(|check| check["name"].as_str().unwrap().starts_with(name)).collect::<Vec<_>>();
    assert!(named("wall: ").len() > 3, "{report}");
    assert_eq!(named("consent")[0]["verdict"], "warning");
    assert_eq!(named("consent")[0]["fix"], "bespoke plugin info waiting");
    assert!(named("python")[0]["message"].as_str().unwrap().contains("Python 3"), "{report}");
    let folder = format!("{}: 1 found", plugins.display());
    assert!(named("plugin folders").iter().any(|check| check["message"] == folder), "{report}");
}

#[test]
fn chat_works_on_the_plugins_that_run() {
    let user = User::new().configured("[agent]\nprovider = [\"fake\"]\ntools = [\"clock\"]\n");
    plugin(&user.work(""), "late", "x", "");
    plugin(&user.home().join("plugins"), "second", "x", "");
    plugin(&user.work(""), "asking", "x", "[permissions]\nread_files = [\"/etc\"]\n[permissions.reasons]\nread_files = \"x\"\n");
    let input = "/load ./nope\n/load ./asking\n/load ./late\n/plugins\n/reload late\n/swap late second\n/unload second\n/unload ../x\n/load late\n/swap one\n/quit\n";
    let ended = user.piped(input, ["chat", "--forget"]).ok();
    for part in [
        "late runs, after",
        "A new instance of late",
        "second took the place of late",
        "second is taken out.",
        "no plugin `../x`",
        "try: /plugins",
        "./nope is no folder",
        "try: bespoke plugin load ./asking, then /load ./asking",
        "write /swap OLD NEW",
    ] {
        assert!(ended.out.contains(part) || ended.err.contains(part), "`{part}` is not in:\n{}\n{}", ended.out, ended.err);
    }
}
