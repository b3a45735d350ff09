//! What a plugin asks for, through its life: it waits for consent, runs within it, waits again when it asks for more; and what it then
//! made use of is counted. Through the binary, with a plugin that really asks its host.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    path::Path,
    thread,
};

use serde_json::{Value, json};

use crate::program::User;

/// While it starts it asks its host for all that it has been told to ask for; its tool says how that went.
const SCRIPT: &str = r#"
import json, sys
WISHES = json.load(open("wishes.json"))
tool = {"kind": "tool", "spec": {"name": "asking", "description": "Says what it got.", "input_schema": {"type": "object"}}}
got = []
def say(message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)
def wish(number, method, args):
    say({"id": number, "method": method, "params": {"args": args}})
    for line in sys.stdin:
        answer = json.loads(line)
        if answer.get("id") == number and "method" not in answer:
            return "yes" if "result" in answer else answer["error"]["kind"]
for line in sys.stdin:
    message = json.loads(line)
    method, number = message.get("method"), message.get("id")
    if method == "hello":
        say({"id": 0, "result": {"protocol": 1, "oldest": 1, "plugin": "asking", "version": "1.0.0", "specs": [tool], "features": []}})
    elif method == "plugin.start":
        got = [wish(n + 1, method, args) for n, (method, args) in enumerate(WISHES)]
        say({"id": number, "result": {"health": {"status": "ok"}, "facts": {}}})
    elif method == "tool.call":
        say({"id": number, "result": {"content": [{"type": "text", "text": " ".join(got)}]}})
    elif method == "$/ping":
        say({"method": "$/pong", "params": message["params"]})
    elif method == "plugin.shutdown":
        say({"id": number, "result": None})
    elif number:
        say({"id": number, "error": {"code": -32601, "message": "no " + method}})
"#;

fn write(user: &User, version: &str, permissions: &str, wishes: &Value) {
    let folder = user.home().join("plugins/asking");
    fs::create_dir_all(&folder).unwrap();
    let manifest = format!(
        "id = \"asking\"\nversion = \"{version}\"\nlicense = \"MIT\"\ndescription = \"Asks.\"\nauthor = \"Somebody\"\nprotocol = \"1\"\n\
         tiers = [\"process\"]\n[[provides]]\nkind = \"tool\"\nname = \"asking\"\n[[requires]]\nplugin = \"clock\"\n\
         [process]\ncommand = [\"python3\", \"plugin.py\"]\n[permissions]\n{permissions}"
    );
    fs::write(folder.join("plugin.toml"), manifest).unwrap();
    fs::write(folder.join("plugin.py"), SCRIPT).unwrap();
    fs::write(folder.join("wishes.json"), wishes.to_string()).unwrap();
}

fn info(user: &User) -> Value {
    user.json(["plugin", "info", "asking", "--json"])
}

fn got(user: &User) -> String {
    user.run(["plugin", "call", "asking", "asking"]).ok().value()["content"][0]["text"].as_str().unwrap().to_owned()
}

/// Lines of `used`, without what an interpreter looks for at its start, which is the machine's affair.
fn used(info: &Value) -> Vec<String> {
    let line = |used: &Value| {
        let text = |key: &str| used[key].as_str().unwrap().to_owned();
        format!("{} {}: {} used, {} refused", text("permission"), text("item"), used["used"], used["refused"])
    };
    info["used"].as_array().unwrap().iter().filter(|used| used["permission"] != "read_files").map(line).collect()
}

#[test]
fn a_plugin_waits_for_consent_runs_within_it_and_waits_again_when_it_asks_for_more() {
    let user = User::new();
    let asks = "read_files = [\"/usr/share\"]\nreasons.read_files = \"knows words\"\n";
    write(&user, "1.0.0", asks, &json!([]));

    // Not granted: it does not run, and says why and what helps, wherever one looks.
    user.run(["plugin", "call", "asking", "asking"]).code(4).nothing().says("read_files").says("try: bespoke plugin grant asking");
    let row = |args: &[&str]| {
        let rows = user.json(["plugin", "list", "--json"].iter().chain(args));
        rows.as_array().unwrap().iter().find(|row| row["id"] == "asking").unwrap().clone()
    };
    for args in [&[][..], &["--start"]] {
        let row = row(args);
        assert_eq!(
            (&row["state"], &row["reason"], &row["fix"]),
            (&json!("blocked"), &json!("waits for your consent to read_files"), &json!("bespoke plugin grant asking")),
            "{row}"
        );
    }
    let before = info(&user);
    assert_eq!((&before["state"], &before["grant"], &before["used"]), (&json!("blocked"), &Value::Null, &json!([])), "{before}");
    assert_eq!(before["asks"]["required"][0]["items"], json!(["/usr/share"]), "{before}");
    assert_eq!(before["asks"]["required"][0]["reason"], "knows words", "{before}");
    assert!(!user.home().join("grants.toml").exists());

    user.run(["plugin", "grant", "asking", "--yes"]).ok().says("read_files: /usr/share — knows words");
    assert_eq!(got(&user), "");
    let granted = info(&user);
    assert_eq!((&granted["state"], &granted["grant"]["granted"]), (&json!("ready"), &json!(["read_files: /usr/share"])), "{granted}");

    // An update that asks for the same, or gives another reason, is not asked about.
    write(&user, "1.1.0", &asks.replace("knows words", "knows many words"), &json!([]));
    assert_eq!(got(&user), "");
    // One that asks for more is, with what is new and nothing else.
    let more = "read_files = [\"/usr/share\", \"/srv\"]\nsystem_access = [\"git\"]\n\
                reasons.read_files = \"knows words\"\nreasons.system_access = \"has a history\"\n";
    write(&user, "2.0.0", more, &json!([]));
    let asked = user.run(["plugin", "call", "asking", "asking"]).code(4).nothing();
    asked.says("asks for more than version 1.0.0 was granted: read_files, system_access").says("try: bespoke plugin grant asking");
    assert_eq!(row(&["--start"])["state"], "blocked");
    let again = info(&user);
    assert_eq!(again["grant"]["granted"], json!(["read_files: /usr/share"]), "what was granted before is still shown: {again}");
    let shown = user.run(["plugin", "info", "asking"]).ok().out;
    for part in ["read_files: /usr/share; /srv", "system_access: git", "has a history", "granted", "(version 1.0.0)"] {
        assert!(shown.contains(part), "`{part}` is not in {shown}");
    }
    // Where the question is asked, only the difference is.
    let refused =
        user.run(["plugin", "load", "asking"]).code(4).says("asking 2.0.0 by Somebody asks for more than version 1.0.0 was granted");
    let question = refused.says("read_files: /srv — knows words").says("system_access: git — has a history");
    assert!(!question.err.contains("/usr/share"), "{}", question.err);
    user.run(["plugin", "grant", "asking", "--yes"]).ok();
    assert_eq!(got(&user), "");
}

#[test]
fn what_a_plugin_made_use_of_and_was_refused_is_counted() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
        }
    });
    let user = User::new().configured("[plugins.asking.secrets]\ntoken = \"hush-hush-hush\"\n");
    let url = format!("http://127.0.0.1:{port}/?key=hush");
    let request = |url: &str| json!({ "method": "GET", "url": url, "headers": [], "body": [] });
    let call = |name: &str, args: Value| json!({ "target": { "kind": "tool", "name": name }, "args": args });
    let wishes = json!([
        ["host.http", request(&url)],
        ["host.http", request(&url)],
        ["host.http", request("http://127.0.0.2:1/")],
        ["host.secret", "token"],
        ["host.secret", "password"],
        ["host.call", call("clock", json!({}))],
        ["host.call", call("fake_echo", json!({}))],
        ["host.emit", { "topic": "done", "payload": 1 }],
    ]);
    let asks = format!(
        "network_access = [{{ host = \"127.0.0.1:{port}\", private = true }}]\nplugin_communication = [\"tool:clock\"]\nsecrets = [\"token\"]\n\
         [permissions.reasons]\nnetwork_access = \"asks\"\nplugin_communication = \"asks\"\nsecrets = \"asks\"\n"
    );
    write(&user, "1.0.0", &asks, &wishes);
    user.run(["plugin", "grant", "asking", "--yes"]).ok();
    let info = info(&user);
    assert_eq!(info["state"], "ready", "{info}");
    assert_eq!(
        used(&info),
        [
            format!("network_access 127.0.0.1:{port}: 2 used, 0 refused"),
            "network_access 127.0.0.2:1: 0 used, 1 refused".to_owned(),
            "plugin_communication tool:clock: 1 used, 0 refused".to_owned(),
            "plugin_communication tool:fake_echo: 0 used, 1 refused".to_owned(),
            "secrets password: 0 used, 1 refused".to_owned(),
            "secrets token: 1 used, 0 refused".to_owned(),
        ],
        "{info}"
    );
    assert_eq!(got(&user), "yes yes PERMISSION_DENIED yes PERMISSION_DENIED yes PERMISSION_DENIED yes");
    let shown = user.run(["plugin", "info", "asking"]).ok().out;
    assert!(shown.contains("secrets: token (3 times)") && shown.contains("secrets: password (0 times, refused 3)"), "{shown}");
    for text in [shown, info.to_string(), log(&user.home())] {
        assert!(!text.contains("hush"), "a secret is shown: {text}");
    }
}

fn log(home: &Path) -> String {
    ["bespoke.log", "plugins.log"].map(|name| fs::read_to_string(home.join("logs").join(name)).unwrap_or_default()).concat()
}
