//! A server that runs, and a user who changes things beside it: what is taken over, what is not, and what is said of that. How a server
//! begins and ends is `serve`.

use std::{fs, net::TcpListener, path::PathBuf};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    program::User,
    serve::{CONFIG, Runs, status},
    under_way::until,
};

fn write(user: &User, text: &str) {
    fs::write(user.config(), text).unwrap();
}

fn row(user: &User, id: &str) -> Value {
    let rows = user.json(["plugin", "list", "--json", "--quiet"]);
    rows.as_array().unwrap().iter().find(|row| row["id"] == id).cloned().unwrap_or_default()
}

#[test]
fn what_a_plugin_refuses_is_told_by_everybody_until_it_is_mended() {
    let user = User::new().configured(CONFIG);
    let server = Runs::serving(&user, &["--no-watch"]);
    write(&user, &format!("{CONFIG}piece_delay_ms = \"long\"\n"));
    let told = "fake goes on with its old values";
    let ended = user.run(["reload"]).code(1).says(told).says("bespoke.toml:9:").says("try: bespoke config check");
    assert!(ended.out.contains("plugins.fake.piece_delay_ms is new"), "{}", ended.out);
    let report = user.run(["reload", "--json"]).code(1).value();
    assert_eq!((&report["complete"], &report["not_taken"][0]["plugin"]), (&json!(false), &json!("fake")), "{report}");
    server.until("reloaded");
    server.until("reloaded");
    server.signal(Signal::HUP);
    let by_signal = server.until("reloaded");
    assert_eq!((&by_signal["why"], &by_signal["report"]["complete"]), (&json!("SIGHUP"), &json!(false)), "{by_signal}");
    let said = status(&user);
    assert_eq!((&said["not_taken"][0]["what"], &said["reloaded"]["complete"]), (&json!(told), &json!(false)), "{said}");
    assert_eq!(said["not_taken"][0]["fix"], "bespoke config check");
    assert!(user.run(["status"]).ok().out.contains(&format!("not taken {told}")));
    let warned = user.run(["logs", "--level", "warn", "--json"]).ok().out;
    assert!(warned.contains("SIGHUP") && warned.contains(told), "{warned}");
    let events = user.run(["events", "history", "--json", "--filter", "plugin_error"]).ok();
    assert!(events.lines().iter().any(|event| event["payload"]["what"] == "configuration_refused"), "{}", events.out);
    // The old table again is what runs.
    write(&user, CONFIG);
    user.run(["reload"]).ok();
    let said = status(&user);
    assert_eq!((&said["not_taken"], &said["reloaded"]["complete"]), (&json!([]), &json!(true)), "{said}");
    server.end();
}

#[test]
fn a_watched_file_that_a_plugin_refuses_is_told_too() {
    let user = User::new().configured(CONFIG);
    let server = Runs::serving(&user, &[]);
    write(&user, &format!("{CONFIG}piece_delay_ms = \"long\"\n"));
    assert_eq!(server.until("reloaded")["report"]["complete"], false);
    assert_eq!(status(&user)["not_taken"][0]["plugin"], "fake");
    write(&user, &format!("{CONFIG}piece_delay_ms = 7\n"));
    while server.until("reloaded")["report"]["complete"] == false {}
    assert_eq!(status(&user)["not_taken"], json!([]));
    // Whoever types it after the watcher learns what became of it, and when.
    let late = user.run(["reload"]).ok().says("nothing is new since").says("the file has changed");
    assert!(late.out.contains("plugin fake: applied"), "{}", late.out);
    let report = user.json(["reload", "--json"]);
    assert_eq!((&report["lines"], &report["last"]["why"]), (&json!([]), &json!("the file has changed")), "{report}");
    server.end();
}

#[test]
fn a_listener_that_cannot_open_is_told_and_the_old_one_stays() {
    let user = User::new().configured(CONFIG);
    let server = Runs::serving(&user, &["--no-watch"]);
    let before = status(&user)["listen"].clone();
    assert!(before.is_string(), "{before}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    write(&user, &CONFIG.replace("127.0.0.1:0", &address));
    user.run(["reload"]).code(1).says("plugins are reached at").says(&address).says("bespoke config set gateway.listen");
    let said = status(&user);
    assert_eq!((&said["listen"], said["not_taken"].as_array().unwrap().len()), (&before, 1), "{said}");
    assert!(said["listen_error"].as_str().unwrap().contains(&address), "{said}");
    drop(taken);
    user.run(["reload"]).ok();
    let said = status(&user);
    assert_eq!((&said["listen"], &said["listen_error"], &said["not_taken"]), (&json!(address), &Value::Null, &json!([])), "{said}");
    server.end();
}

#[test]
fn an_endpoint_that_comes_later_is_listened_for() {
    // Nobody needs the stand-in, which has one.
    let user = User::new().configured("config_version = 1\n[agent]\nprovider = [\"openai\"]\n[gateway]\nlisten = \"127.0.0.1:0\"\n");
    let server = Runs::serving(&user, &["--no-watch"]);
    assert_eq!(status(&user)["listen"], Value::Null);
    // What is not loaded is not started because somebody wants it anew.
    user.run(["plugin", "reload", "fake"]).code(5).says("fake is not loaded").says("try: bespoke plugin load fake");
    assert_eq!(row(&user, "fake")["state"], "unloaded");
    user.run(["plugin", "load", "fake"]).ok().says("the server that runs has it ready");
    let listening = server.until("listening");
    assert!(listening["listen"].is_string(), "{listening}");
    assert_eq!(status(&user)["listen"], listening["listen"]);
    server.end();
}

#[test]
fn what_is_switched_off_has_not_failed_and_what_is_not_well_says_why() {
    let user = User::new().configured(&CONFIG.replace("[plugins.fake]", "[plugins.exec]\n[plugins.fake]"));
    let server = Runs::serving(&user, &[]);
    let said = status(&user);
    let not_well = said["plugins"]["not_well"].as_array().unwrap();
    let exec = not_well.iter().find(|row| row["id"] == "exec").unwrap_or_else(|| panic!("{said}"));
    assert_eq!((&exec["health"], exec["reason"].is_string()), (&json!("degraded"), true), "{exec}");
    // Of what nobody asked for nothing is said.
    assert!(!not_well.iter().any(|row| row["id"] == "post"), "{said}");
    let shown = user.run(["status"]).ok().out;
    assert!(shown.contains("exec") && shown.contains(exec["reason"].as_str().unwrap()), "{shown}");
    user.run(["plugin", "disable", "fake"]).ok();
    let said = status(&user);
    let channel = &said["channels"][0];
    assert_eq!((&channel["state"], &channel["error"], &channel["again_in_ms"]), (&json!("disabled"), &Value::Null, &Value::Null), "{said}");
    assert_eq!(channel["failures"], 0, "{said}");
    assert_eq!(said["plugins"]["disabled"], json!(["fake"]), "{said}");
    let checks = user.run(["doctor", "--json"]).out;
    assert!(checks.contains("switched off: fake"), "{checks}");
    user.run(["plugin", "enable", "fake"]).ok();
    until("it listens again", || (status(&user)["channels"][0]["state"] == "running").then_some(()));
    server.end();
}

#[test]
fn a_channel_that_comes_to_nothing_is_not_said_to_be_served() {
    let config = CONFIG.replace("channels = [\"fake\"]", "channels = [\"fake\", \"telegram\"]");
    let user = User::new().configured(&format!("{config}[plugins.telegram]\ntoken = \"nonsense\"\n"));
    let server = Runs::begin(&user, &["serve", "--json", "--quiet", "--offline"]);
    let warned = until("it says so", || {
        let line = server.until("warning");
        let message = line["message"].as_str().unwrap_or_default().to_owned();
        message.contains("channel telegram").then_some(message)
    });
    assert!(warned.contains("is failed: plugins.telegram.token is no token") && warned.contains("try: @BotFather"), "{warned}");
    assert_eq!(server.until("ready")["channels"], json!(["fake"]));
    server.end();
}

#[test]
fn another_configuration_than_the_servers_is_refused() {
    let user = User::new().configured(CONFIG);
    let other = user.work("other.toml");
    fs::write(&other, CONFIG).unwrap();
    let other = other.to_str().unwrap();
    let server = Runs::serving(&user, &["--no-watch"]);
    let own = user.config().display().to_string();
    user.run(["--config", other, "reload"]).code(5).nothing().says(&own).says(&format!("try: bespoke --config {own} reload"));
    assert_eq!(status(&user)["reloaded"], Value::Null);
    user.run(["--config", &own, "reload"]).ok();
    server.end();
}

/// A tool in a process, which answers with nothing.
const SCRIPT: &str = r#"
import json, sys
tool = {"kind": "tool", "spec": {"name": "late", "description": "Comes late.", "input_schema": {"type": "object"}}}
def say(message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)
for line in sys.stdin:
    message = json.loads(line)
    method, number = message.get("method"), message.get("id")
    if method == "hello":
        version = [line.split('"')[1] for line in open("plugin.toml") if line.startswith("version")][0]
        say({"id": 0, "result": {"protocol": 1, "oldest": 1, "plugin": "late", "version": version, "specs": [tool], "features": []}})
    elif method == "plugin.start":
        say({"id": number, "result": {"health": {"status": "ok"}, "facts": {}}})
    elif method == "$/ping":
        say({"method": "$/pong", "params": message["params"]})
    elif method == "plugin.shutdown":
        say({"id": number, "result": None})
    elif number:
        say({"id": number, "error": {"code": -32601, "message": "no " + method}})
"#;

/// Writes the plugin, and how its manifest goes on.
fn late(folder: PathBuf, version: &str, more: &str) {
    fs::create_dir_all(&folder).unwrap();
    let manifest = format!(
        "id = \"late\"\nversion = \"{version}\"\nlicense = \"MIT\"\ndescription = \"Late.\"\nauthor = \"Somebody\"\nprotocol = \"1\"\n\
         tiers = [\"process\"]\n[[provides]]\nkind = \"tool\"\nname = \"late\"\n[process]\ncommand = [\"python3\", \"plugin.py\"]\n{more}"
    );
    fs::write(folder.join("plugin.py"), SCRIPT).unwrap();
    fs::write(folder.join("plugin.toml"), manifest).unwrap();
}

#[test]
fn a_folder_that_is_new_and_a_manifest_that_has_changed_are_seen() {
    let user = User::new().configured(CONFIG);
    let server = Runs::serving(&user, &["--no-watch"]);
    let folder = user.home().join("plugins/late");
    late(folder.clone(), "1.0.0", "");
    assert_eq!(row(&user, "late"), Value::Null);
    user.run(["plugin", "reload", "late"]).code(5).says("late is not loaded").says("try: bespoke plugin load late");
    user.run(["plugin", "load", "late"]).ok().says("the server that runs has it ready");
    let seen = row(&user, "late");
    assert_eq!((&seen["state"], &seen["version"]), (&json!("ready"), &json!("1.0.0")), "{seen}");
    // The same manifest is a new instance; another one is another plugin.
    assert_eq!(user.json(["plugin", "reload", "late", "--json"])["anew"], false);
    late(folder.clone(), "1.1.0", "");
    assert_eq!(user.json(["plugin", "reload", "late", "--json"])["anew"], true);
    assert_eq!(row(&user, "late")["version"], "1.1.0");
    late(folder.clone(), "1.2.0", "");
    user.run(["plugin", "load", "late"]).ok();
    assert_eq!(row(&user, "late")["version"], "1.2.0");
    // What cannot be read, or does not start, takes nobody's place.
    fs::write(folder.join("plugin.toml"), "id = ").unwrap();
    user.run(["plugin", "reload", "late"]).code(1);
    assert_eq!((&row(&user, "late")["state"], &row(&user, "late")["version"]), (&json!("ready"), &json!("1.2.0")));
    let pid = row(&user, "late")["facts"]["pid"].clone();
    assert!(!pid.is_null());
    let does_not_start = SCRIPT.replace("say({\"id\": number, \"result\": {\"health\"", "sys.exit(3) #");
    for (swap, script, more, same) in [
        ("overlap", SCRIPT, "[[provides]]\nkind = \"tool\"\nname = \"never\"\n", true),
        ("overlap", SCRIPT, "[[requires]]\nplugin = \"nobody\"\n", true),
        ("overlap", "import nothing_of_this_name\n", "", true),
        ("overlap", &does_not_start, "", true),
        ("exclusive", "import nothing_of_this_name\n", "", true),
        // Of this one no second instance is started beside the first, so that the first is over before it shows.
        ("exclusive", &does_not_start, "", false),
    ] {
        late(folder.clone(), "1.3.0", more);
        let manifest = fs::read_to_string(folder.join("plugin.toml")).unwrap();
        fs::write(folder.join("plugin.toml"), format!("swap = \"{swap}\"\n{manifest}")).unwrap();
        fs::write(folder.join("plugin.py"), script).unwrap();
        let told = user.run(["plugin", "reload", "late"]).code(1);
        if same {
            told.says("the one before goes on");
            let seen = row(&user, "late");
            assert_eq!((&seen["version"], &seen["facts"]["pid"]), (&json!("1.2.0"), &pid), "{swap} {more} {seen}");
        }
    }

    // One in a folder that the configuration names, and that is taken out again.
    let elsewhere = user.work("late");
    fs::rename(&folder, &elsewhere).unwrap();
    late(elsewhere.clone(), "2.0.0", "");
    server.end();
    let server = Runs::serving(&user, &["--no-watch"]);
    assert_eq!(row(&user, "late"), Value::Null);
    user.run(["plugin", "load", elsewhere.to_str().unwrap()]).ok().says("the server that runs has it ready");
    assert_eq!(row(&user, "late")["version"], "2.0.0");
    user.run(["plugin", "unload", "late"]).ok();
    assert_eq!(server.until("unloaded")["plugin"], "late");
    assert_eq!(row(&user, "late"), Value::Null);
    server.end();
}

#[test]
fn what_a_user_grants_and_takes_back_counts_at_once() {
    let user = User::new().configured(CONFIG);
    let folder = user.home().join("plugins/late");
    late(folder.clone(), "1.0.0", "[permissions]\nread_files = [\"/usr/share\"]\nreasons.read_files = \"reads words\"\n");
    let server = Runs::serving(&user, &["--no-watch"]);
    assert_eq!(row(&user, "late")["state"], "blocked");
    user.run(["plugin", "grant", "late", "--yes"]).ok().says("the server that runs has it ready");
    assert_eq!(row(&user, "late")["state"], "ready");
    user.run(["plugin", "revoke", "late"]).ok().says("the server that runs has it blocked");
    assert_eq!(row(&user, "late")["state"], "blocked");
    // Grants are the home's, whatever the configuration.
    let other = user.work("other.toml");
    fs::write(&other, CONFIG).unwrap();
    user.run(["--config", other.to_str().unwrap(), "plugin", "grant", "late", "--yes"]).ok();
    assert_eq!(row(&user, "late")["state"], "ready");
    // A manifest that asks for more waits for a yes; what runs goes on.
    late(folder, "1.1.0", "[permissions]\nread_files = [\"/usr/share\", \"/usr/lib\"]\nreasons.read_files = \"reads words\"\n");
    user.run(["plugin", "reload", "late"]).code(4).says("bespoke plugin grant late");
    assert_eq!((&row(&user, "late")["state"], &row(&user, "late")["version"]), (&json!("ready"), &json!("1.0.0")));
    let value = user.json(["plugin", "revoke", "late", "--json"]);
    assert_eq!(value["server"]["state"], "blocked", "{value}");
    server.end();
}

#[test]
fn what_is_taken_out_by_hand_is_gone_and_code_that_does_not_load_takes_nobodys_place() {
    let user = User::new().configured(CONFIG);
    let server = Runs::serving(&user, &["--no-watch"]);
    let folder = user.work("late");
    late(folder.clone(), "1.0.0", "");
    let manifest = fs::read_to_string(folder.join("plugin.toml")).unwrap();
    fs::write(folder.join("plugin.toml"), format!("swap = \"exclusive\"\n{manifest}")).unwrap();
    user.run(["plugin", "load", folder.to_str().unwrap()]).ok().says("the server that runs has it ready");
    fs::write(folder.join("plugin.py"), format!("x = (\n{SCRIPT}")).unwrap();
    user.run(["plugin", "reload", "late"]).code(1).says("goes on");
    assert_eq!(row(&user, "late")["state"], "ready");
    // Its table goes, and so does it; also where it was switched off before.
    let with_late = fs::read_to_string(user.config()).unwrap();
    write(&user, CONFIG);
    assert!(user.run(["reload"]).ok().out.contains("plugin late: stopped"));
    assert_eq!(row(&user, "late"), Value::Null);
    fs::write(folder.join("plugin.py"), SCRIPT).unwrap();
    write(&user, &with_late);
    user.run(["reload"]).ok();
    user.run(["plugin", "disable", "late"]).ok();
    write(&user, CONFIG);
    user.run(["reload"]).ok();
    assert_eq!(row(&user, "late"), Value::Null);
    // Who unloads it takes out what told it of events, too.
    write(&user, &format!("{with_late}\n[[hooks]]\nplugin = \"late\"\ncallback = \"told\"\nevents = [\"workflow_started\"]\n"));
    user.run(["plugin", "unload", "late"]).ok().says("told is not told of workflow_started any more");
    assert!(!fs::read_to_string(user.config()).unwrap().contains("[[hooks]]"));
    user.run(["config", "check"]).ok();
    server.end();
}

#[test]
fn names_of_nobody_are_told_by_a_reload() {
    let user = User::new().configured(CONFIG);
    let server = Runs::serving(&user, &["--no-watch"]);
    write(&user, &CONFIG.replace("provider = [\"fake\"]", "provider = [\"fake\", \"fakee\"]"));
    user.run(["reload"]).code(1).says("agent.provider[1]").says("fakee");
    assert_eq!(status(&user)["not_taken"].as_array().unwrap().len(), 1);
    write(&user, &CONFIG.replace("[serve]", "[serve]\nowners = [\"fake:ann\", \"telegrm:4711\"]"));
    user.run(["reload"]).code(1).says("serve.owners[1]").says("did you mean `telegram`");
    // A key that is wrong beside them: none of it counts, and everybody is told so.
    write(&user, &CONFIG.replace("[serve]", "[serve]\nowners = []\nchats = \"eight\""));
    user.run(["reload"]).code(2).nothing().says("serve.chats: must be a whole number, is \"eight\"; what ran before goes on");
    let shown = user.run(["status"]).ok().out;
    assert!(shown.contains("refused") && shown.contains("serve.chats"), "{shown}");
    write(&user, CONFIG);
    user.run(["reload"]).ok();
    assert_eq!(status(&user)["not_taken"], json!([]));
    server.end();
}
