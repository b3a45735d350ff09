//! `serve` and the verbs that ask it, as a user has them: a process with signals, a file that changes, a socket.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use bespoke_plugin_api::{Inbound, Outbound};
use bespoke_state::{Ending, State, Trouble};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::program::{Ended, User, terminal, wait};

/// Longer than anything takes, even where two cores are shared by many.
const LIMIT: Duration = Duration::from_secs(120);

/// A stand-in answers over a stand-in.
pub(crate) const CONFIG: &str = "config_version = 1\n[agent]\nprovider = [\"fake\"]\n[serve]\nchannels = [\"fake\"]\n[gateway]\nlisten = \"127.0.0.1:0\"\n[plugins.fake]\n";

/// A program that runs until somebody ends it, and what it prints, a JSON value a line. None outlives its test.
pub(crate) struct Runs {
    child: Option<Child>,
    lines: Receiver<Value>,
}

impl Drop for Runs {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            _ = child.kill();
            _ = child.wait();
        }
    }
}

impl Runs {
    pub(crate) fn begin(user: &User, args: &[&str]) -> Self {
        Self::begin_from(user, args, Stdio::null())
    }

    fn begin_from(user: &User, args: &[&str], stdin: Stdio) -> Self {
        let mut child = user.command(args).stdin(stdin).stderr(Stdio::inherit()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
                _ = sender.send(value);
            }
        });
        Runs { child: Some(child), lines }
    }

    /// A server that serves.
    pub(crate) fn serving(user: &User, args: &[&str]) -> Self {
        Self::serving_from(user, args, Stdio::null())
    }

    fn serving_from(user: &User, args: &[&str], stdin: Stdio) -> Self {
        let all: Vec<&str> = ["serve", "--json", "--quiet", "--offline"].iter().chain(args).copied().collect();
        let server = Runs::begin_from(user, &all, stdin);
        let ready = server.until("ready");
        assert_eq!(ready["pid"], server.id(), "{ready}");
        server
    }

    pub(crate) fn line(&self) -> Value {
        self.lines.recv_timeout(LIMIT).expect("it says nothing more")
    }

    /// The next line of this event; what comes before is passed over.
    pub(crate) fn until(&self, event: &str) -> Value {
        loop {
            let line = self.line();
            if line["event"] == event {
                return line;
            }
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.child.as_ref().unwrap()), signal).unwrap();
    }

    /// Ends it in order.
    pub(crate) fn end(self) {
        self.signal(Signal::TERM);
        self.until("stopped");
        self.ended().code(0);
    }

    pub(crate) fn ended(mut self) -> Ended {
        wait(self.child.take().unwrap())
    }

    fn id(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }
}

pub(crate) fn status(user: &User) -> Value {
    user.json(["status", "--json"])
}

#[test]
fn it_serves_until_it_is_told_to_stop_and_there_is_one() {
    let user = User::new().configured(CONFIG);
    user.run(["status"]).code(3).nothing().says("try: bespoke serve");
    assert_eq!(user.run(["status", "--json"]).code(3).value()["state"], "stopped");
    user.run(["reload"]).code(3).says("no server runs");
    let server = Runs::serving(&user, &[]);
    let socket = user.home().join("run/control.sock");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&socket), mode(&user.home().join("run"))), (0o600, 0o700));
    let said = status(&user);
    assert_eq!((&said["state"], &said["pid"], &said["socket"]), (&json!("serving"), &json!(server.id()), &json!(socket)), "{said}");
    assert_eq!((&said["channels"][0]["name"], &said["config"]), (&json!("fake"), &json!(user.config())), "{said}");
    assert!(said["plugins"]["ready"].as_array().unwrap().contains(&json!("fake")), "{said}");
    let words = user.run(["status"]).ok();
    assert!(words.out.starts_with("serving for ") && words.out.contains("CHANNEL"), "{}", words.out);
    // A second one does nothing, and harms nothing.
    user.run(["serve", "--offline"]).code(5).nothing().says(&format!("process {}", server.id())).says("try: bespoke status");
    assert_eq!(status(&user)["pid"], server.id());
    server.signal(Signal::TERM);
    assert_eq!(server.until("draining")["signal"], "SIGTERM");
    server.until("stopped");
    server.ended().code(0);
    assert!(!socket.exists());
    user.run(["status"]).code(3);
    // Another home is another server's.
    let server = Runs::serving(&user, &[]);
    let other = User::new().configured(CONFIG);
    Runs::serving(&other, &[]).end();
    server.signal(Signal::INT);
    assert_eq!(server.until("draining")["signal"], "SIGINT");
    server.until("stopped");
    server.ended().code(0);
}

/// A message that comes in at once, and an answer that takes longer than any test.
fn busy(user: User) -> User {
    let script = "messages = [{ text = \"hello\" }]\nreplies = [[{ delay_ms = 600000 }, { text = \"late\" }]]\n";
    user.configured(&format!("{CONFIG}{script}"))
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let user = busy(User::new());
    let server = Runs::serving(&user, &["--drain", "600"]);
    // It is at work when an event says that a model is asked.
    let events = Runs::begin(&user, &["events", "tail", "--follow", "--json", "--filter", "step_started", "-n", "100"]);
    assert_eq!(events.line()["topic"], "step_started");
    drop(events);
    assert_eq!(status(&user)["at_work"], 1);
    server.signal(Signal::TERM);
    server.until("draining");
    let ends = status(&user);
    assert_eq!((&ends["state"], &ends["draining"]["limit_ms"]), (&json!("draining"), &json!(600_000)), "it can be asked while it ends");
    assert!(user.run(["status"]).ok().out.contains("waits     for 1 answer under way"));
    server.signal(Signal::TERM);
    server.ended().code(130);
}

#[test]
fn a_terminal_that_is_closed_stops_it() {
    let user = User::new().configured(CONFIG);
    let (ours, theirs) = terminal();
    let server = Runs::serving_from(&user, &[], theirs.into());
    server.signal(Signal::HUP);
    assert_eq!(server.until("reloaded")["why"], "SIGHUP", "as long as it is there");
    drop(ours);
    server.signal(Signal::HUP);
    assert_eq!(server.until("draining")["signal"], "SIGHUP");
    // The kernel and the terminal may both say so.
    server.signal(Signal::HUP);
    server.until("stopped");
    server.ended().code(0);
}

#[test]
fn an_answer_has_so_long_to_end() {
    let user = busy(User::new());
    let server = Runs::serving(&user, &["--drain", "0"]);
    server.end();
    // What was not answered is there when it starts again.
    let server = Runs::serving(&user, &["--drain", "0"]);
    assert_eq!(status(&user)["waiting"], 1);
    server.end();
}

#[test]
fn after_a_kill_it_starts_again() {
    let user = User::new().configured(CONFIG);
    let mut pids = Vec::new();
    for _ in 0..3 {
        let server = Runs::serving(&user, &[]);
        let socket = user.home().join("run/control.sock");
        server.signal(Signal::KILL);
        pids.push(server.id());
        server.ended().code(-1);
        assert!(socket.exists(), "it had no time to take it away");
        user.run(["status"]).code(3).says("no server runs");
    }
    let server = Runs::serving(&user, &[]);
    assert_eq!(status(&user)["pid"], server.id());
    assert!(!pids.contains(&server.id()));
    server.end();
}

#[test]
fn a_home_with_a_long_name_is_served_too() {
    let user = User::new();
    let home = user.work(&"long".repeat(40));
    fs::create_dir_all(&home).unwrap();
    fs::write(home.join("bespoke.toml"), CONFIG).unwrap();
    let user = user.with("BESPOKE_HOME", home);
    let server = Runs::serving(&user, &[]);
    let said = status(&user);
    assert_eq!(said["pid"], server.id());
    assert!(said["socket"].as_str().unwrap().len() < 104, "{said}");
    user.run(["serve", "--offline"]).code(5);
    server.end();
    user.run(["status"]).code(3);
}

#[test]
fn a_new_configuration_is_taken_over_and_a_wrong_one_is_not() {
    let user = User::new().configured(CONFIG);
    let server = Runs::serving(&user, &[]);
    // The file is watched.
    fs::write(user.config(), CONFIG.replace("[serve]", "[serve]\ndrain_ms = 5000")).unwrap();
    let reloaded = server.until("reloaded");
    assert_eq!(reloaded["report"]["changes"], json!(["serve.drain_ms"]), "{reloaded}");
    // A wrong one changes nothing, and is told with its place.
    fs::write(user.config(), CONFIG.replace("[serve]", "[serve]\ndrain_ms = \"long\"")).unwrap();
    let rejected = server.until("rejected");
    assert!(rejected["error"].as_str().unwrap().contains("bespoke.toml:5:"), "{rejected}");
    user.run(["reload"]).code(2).nothing().says("bespoke.toml:5:").says("serve.drain_ms");
    server.until("rejected");
    server.signal(Signal::HUP);
    assert_eq!(server.until("rejected")["why"], "SIGHUP");
    let said = status(&user);
    assert_eq!((&said["state"], &said["reloaded"]["ok"]), (&json!("serving"), &json!(false)), "{said}");
    assert!(user.run(["status"]).ok().out.contains("refused at"));
    server.end();

    // One that is not watched is read when it is told to.
    fs::write(user.config(), CONFIG).unwrap();
    let server = Runs::serving(&user, &["--no-watch"]);
    fs::write(user.config(), format!("{CONFIG}piece_delay_ms = 1\n")).unwrap();
    let report = user.json(["reload", "--json"]);
    assert_eq!(report["plugins"], json!([{ "plugin": "fake", "outcome": "applied", "reason": null, "fix": null }]), "{report}");
    assert_eq!(server.until("reloaded")["why"], "bespoke reload");
    server.signal(Signal::HUP);
    let again = server.until("reloaded");
    assert_eq!((&again["why"], &again["report"]["lines"]), (&json!("SIGHUP"), &json!([])), "{again}");
    let again = user.run(["reload"]).ok().says("nothing is new since").says("(bespoke reload)");
    assert_eq!(again.out, "plugins.fake.piece_delay_ms is new\nplugin fake: applied\n");
    // What is taken out is not new, and what counts later says so.
    fs::write(user.config(), format!("{CONFIG}piece_delay_ms = 2\n[events]\nkeep = 5\n")).unwrap();
    let lines = user.run(["reload"]).ok().out;
    assert!(lines.starts_with("events.keep is new, which counts from the next start on\n"), "{lines}");
    assert!(lines.contains("\nplugins.fake.piece_delay_ms has changed\n"), "{lines}");
    fs::write(user.config(), CONFIG).unwrap();
    let lines = user.run(["reload"]).ok().out;
    assert!(lines.contains("plugins.fake.piece_delay_ms is gone\n"), "{lines}");
    server.end();
}

#[test]
fn a_configuration_that_is_wrong_is_not_served() {
    let user = User::new().configured(&CONFIG.replace("[serve]", "[serve]\nchats = 0"));
    user.run(["serve", "--offline"]).code(2).nothing().says("bespoke.toml:5:").says("serve.chats");
    user.run(["config", "check"]).code(2).says("serve.chats");
    assert!(!user.home().join("run/control.sock").exists());
    let user = User::new().configured("[serve]\nchanels = []\n[gateway]\nlisten = \"0.0.0.0:1\"\n");
    user.run(["config", "check"]).code(2).says("did you mean `channels`").says("gateway.listen");
    // A channel that is not here is told, and the rest serves.
    let user = User::new().configured(&CONFIG.replace("[\"fake\"]\n[gateway]", "[\"fake\", \"telegramm\"]\n[gateway]"));
    let server = Runs::begin(&user, &["serve", "--json", "--quiet", "--offline"]);
    let mut warnings = Vec::new();
    loop {
        match server.line() {
            line if line["event"] == "ready" => break,
            line => warnings.push(line["message"].as_str().unwrap().to_owned()),
        }
    }
    assert!(warnings.iter().any(|warning| warning.contains("did you mean `telegram`")), "{warnings:?}");
    server.end();
}

#[test]
fn what_happens_is_told_kept_and_counted() {
    let user = User::new().configured(CONFIG);
    user.run(["events", "tail"]).code(3).says("try: bespoke serve");
    user.run(["events", "emit", "x"]).code(3);
    user.run(["events", "history"]).ok().nothing();
    let server = Runs::serving(&user, &[]);
    let tail = Runs::begin(&user, &["events", "tail", "--follow", "--json", "--filter", "custom."]);
    let listens = |stats: &Value| stats["listeners"].as_array().unwrap().iter().any(|l| l["topics"] == "custom.*");
    // It hears what is told once it is there.
    let mut looks = 0;
    while !listens(&user.json(["events", "stats", "--json"])) {
        looks += 1;
        assert!(looks < 1000, "nobody listens");
    }
    let told = user.json(["events", "emit", "door_opened", "{\"door\":\"front\"}", "--json"]);
    assert_eq!(told["topic"], "custom.door_opened");
    // It is in the history when the command ends, under the number that everybody has.
    let kept = user.run(["events", "history", "--json", "-n", "1"]).ok().lines();
    assert_eq!((&kept[0]["topic"], &kept[0]["seq"]), (&told["topic"], &told["seq"]));
    let heard = tail.line();
    assert_eq!(heard["seq"], told["seq"]);
    assert_eq!((&heard["topic"], &heard["payload"]), (&json!("custom.door_opened"), &json!({ "door": "front" })), "{heard}");
    user.run(["events", "emit", "no name", "{}"]).code(2).nothing();
    user.run(["events", "emit", "custom.", "{}"]).code(2).nothing();
    user.run(["events", "emit", "x", "{"]).code(2).nothing().says("no JSON");
    let last = user.run(["events", "tail", "--json", "--filter", "custom.", "-n", "1"]).ok().lines();
    assert_eq!((last.len(), &last[0]["seq"]), (1, &heard["seq"]));
    server.end();
    // The reader is told that the server went, and goes on with the next one.
    assert_eq!(tail.line(), json!({ "server": "gone" }));
    let server = Runs::serving(&user, &[]);
    assert_eq!(tail.line(), json!({ "server": "back" }));
    let again = user.json(["events", "emit", "again", "{}", "--json"]);
    assert!(again["seq"].as_u64() > told["seq"].as_u64(), "numbers rise over runs: {again}");
    assert_eq!(tail.line()["topic"], "custom.again");
    server.end();
    assert_eq!(tail.line(), json!({ "server": "gone" }));
    tail.signal(Signal::INT);
    tail.ended().code(0);
    let kept = user.run(["events", "history", "--json", "--filter", "custom.door"]).ok().lines();
    assert_eq!((kept.len(), &kept[0]["payload"]), (1, &json!({ "door": "front" })), "{kept:?}");
    assert!(user.run(["events", "history", "--since", "1d", "-n", "1"]).ok().out.lines().count() == 1);
    assert!(user.run(["events", "history", "--since", "2026-01-01", "-n", "1"]).ok().out.lines().count() == 1);
    user.run(["events", "history", "--since", "yesterday"]).code(2).says("15m");
    for verb in ["tail", "history"] {
        user.run(["events", verb, "--filter", "plugin_lodaed"]).code(2).nothing().says("did you mean `plugin_loaded`?").says("custom.NAME");
    }
    user.run(["events", "history", "--filter", "nobody.said"]).ok().nothing().says("nothing of that kind is kept");
    let stats = user.json(["events", "stats", "--json"]);
    assert!(stats["topics"].as_array().unwrap().iter().any(|t| t["topic"] == "custom.door_opened" && t["count"] == 1), "{stats}");
    assert_eq!(stats["listeners"], Value::Null);
}

#[test]
fn plugins_are_those_of_the_server() {
    let user = User::new().configured(CONFIG);
    let server = Runs::serving(&user, &[]);
    let row = |id: &str| {
        let rows = user.json(["plugin", "list", "--json", "--quiet"]);
        rows.as_array().unwrap().iter().find(|row| row["id"] == id).cloned().unwrap()
    };
    // Nobody needs a driver of graphics cards here, so the server has not started it; a program that looks by itself would.
    assert_eq!((&row("fake")["state"], &row("clock")["state"]), (&json!("ready"), &json!("ready")));
    let disabled = user.json(["plugin", "disable", "clock", "--json"]);
    assert_eq!(disabled["server"]["state"], "disabled", "{disabled}");
    assert_eq!(row("clock")["state"], "disabled");
    let info = user.json(["plugin", "info", "clock", "--json"]);
    assert_eq!(info["state"], "disabled");
    user.run(["plugin", "enable", "clock"]).ok().says("the server that runs has it ready");
    let reloaded = user.json(["plugin", "reload", "clock", "--json"]);
    assert_eq!((&reloaded["where"], &reloaded["reloaded"]), (&json!("server"), &json!(true)));
    assert_eq!(server.until("restarted")["plugin"], "clock");
    user.run(["plugin", "reload", "nobody"]).code(3).says("no plugin `nobody`");
    // A server that goes by another file is left alone.
    let other = user.work("other.toml");
    fs::write(&other, CONFIG).unwrap();
    let other = other.to_str().unwrap();
    user.run(["--config", other, "plugin", "disable", "clock"]).ok().says("another configuration");
    assert_eq!(row("clock")["state"], "ready");
    server.end();
}

#[test]
fn a_hook_decides_who_may_ask() {
    let hook = "[[plugins.exec.hooks]]\nname = \"door\"\nhook = \"on_client_connect\"\ncommand = [\"/bin/sh\", \"-c\", \"echo '{\\\"reply\\\":\\\"veto\\\",\\\"reason\\\":\\\"we are closed\\\"}'\"]\n";
    let user = User::new().configured(&format!("{CONFIG}{hook}"));
    let server = Runs::serving(&user, &[]);
    user.run(["status"]).code(4).nothing().says("refused by exec: we are closed");
    server.end();
}

#[test]
fn what_was_logged_is_shown_without_what_a_terminal_obeys() {
    let user = User::new();
    user.run(["logs"]).ok().says("nothing is logged yet");
    let logs = user.home().join("logs");
    fs::create_dir_all(&logs).unwrap();
    fs::write(logs.join("bespoke.log.1"), "2026-11-20T09:00:00.1Z  INFO a: the oldest\n").unwrap();
    let log =
        "2026-11-20T09:00:01.1Z  WARN a: \u{1b}]0;title\u{7}red\nno line of ours\n2026-11-20T09:00:02.1Z ERROR plugin: gone plugin=\"x\"\n";
    fs::write(logs.join("bespoke.log"), log).unwrap();
    fs::write(
        logs.join("plugins.log"),
        "2026-11-20T09:00:03.1Z  INFO it said plugin=\"x\"\n2026-11-20T09:00:03.1Z  INFO other plugin=\"y\"\n",
    )
    .unwrap();
    let shown = user.run(["logs", "--json"]).ok().lines();
    let messages: Vec<_> = shown.iter().map(|line| line["message"].as_str().unwrap()).collect();
    assert_eq!(messages, ["a: the oldest", "a: red", "plugin: gone"]);
    assert!(!user.run(["logs"]).ok().out.contains('\u{1b}'));
    let of = |args: &[&str]| user.run(["logs"].iter().chain(args)).ok().out;
    assert_eq!(of(&["-n", "1"]).lines().count(), 1);
    assert_eq!(of(&["--level", "WARN"]).lines().count(), 2);
    assert_eq!(of(&["--plugin", "x"]), "2026-11-20T09:00:03.1Z  INFO [x] it said\n");
    user.run(["logs", "--plugin", "z"]).ok().nothing().says("nothing of that kind");
    // A secret of the configuration is in no line, whoever wrote it there.
    let following = Runs::begin(&user, &["logs", "--follow", "--json", "-n", "1"]);
    assert_eq!(following.line()["message"], "plugin: gone");
    let mut file = fs::File::options().append(true).open(logs.join("bespoke.log")).unwrap();
    std::io::Write::write_all(&mut file, b"2026-11-20T09:00:04.1Z  INFO a: the newest\n").unwrap();
    assert_eq!(following.line()["message"], "a: the newest");
    following.signal(Signal::INT);
    following.ended().code(0);
}

/// Leaves so many answers over the channel `fake` of which the first try came to this.
fn left_letters(user: &User, count: usize, trouble: &Trouble) {
    let state = State::open(user.home().join("state.db")).unwrap();
    for n in 0..count {
        let chat = format!("someone {n}");
        let message = Inbound::new(&chat, "someone", format!("m{n}"), "hello");
        assert!(state.take_in("fake", &message).unwrap());
        let taken = state.begin("fake", &chat).unwrap().unwrap();
        let mut ending = Ending::default();
        ending.letters = vec![Outbound::new(&chat, format!("answer {n}"))];
        state.conclude(taken.id, "fake", &chat, ending).unwrap();
        for letter in state.next_letters("fake", 1).unwrap().letters {
            state.not_sent(letter.id, trouble).unwrap();
        }
    }
}

/// Waits until the server has nothing to send.
fn until_all_left(user: &User) {
    let mut looks = 0;
    while status(user)["outbox"] != 0 {
        looks += 1;
        assert!(looks < 1000, "it is not sent");
    }
}

#[test]
fn what_could_not_be_sent_is_listed_sent_again_and_forgotten() {
    let user = User::new().configured(CONFIG);
    assert_eq!(user.json(["outbox", "list", "--json"]), json!([]));
    user.run(["outbox", "resend", "7"]).code(3).says("try: bespoke outbox list");
    user.run(["outbox", "drop"]).code(2);
    assert!(!user.home().join("state.db").exists(), "a look makes no file");
    left_letters(&user, 3, &Trouble::dead("the other side is gone"));
    let list = || user.json(["outbox", "list", "--json"]);
    let letters = list();
    let id = |n: usize| letters[n]["id"].to_string();
    assert_eq!((letters.as_array().unwrap().len(), &letters[0]["error"]), (3, &json!("the other side is gone")), "{letters}");
    assert!(user.run(["outbox", "list"]).ok().out.contains("fake:someone"));
    user.run(["outbox", "drop", &id(0)]).code(4).says(&format!("try: bespoke outbox drop {} --yes", id(0)));
    user.run(["outbox", "drop", &id(0), "--yes"]).ok().says("1 message forgotten");
    assert_eq!(list().as_array().unwrap().len(), 2);
    user.run(["outbox", "resend", &id(0)]).code(3);
    // Without a server it waits for the next one.
    assert_eq!(user.json(["outbox", "resend", &id(1), "--json"])["by_server"], false);
    let server = Runs::serving(&user, &[]);
    assert_eq!(status(&user)["dead"], 1);
    assert_eq!(user.json(["outbox", "resend", "--all", "--json"])["by_server"], true);
    until_all_left(&user);
    assert_eq!((list(), &status(&user)["dead"]), (json!([]), &json!(0)));
    server.end();
}

#[test]
fn what_waits_to_be_sent_is_shown_sent_now_and_forgotten() {
    let user = User::new().configured(CONFIG);
    assert_eq!(user.run(["outbox"]).ok().out, "every message has left\n");
    for verb in ["resend", "drop"] {
        let words = format!("try: bespoke outbox {verb} ID, or bespoke outbox {verb} --all");
        user.run(["outbox", verb]).code(2).says(&words);
    }
    left_letters(&user, 3, &Trouble::again_in("no line", Duration::from_secs(10 * 24 * 60 * 60)));
    let list = || user.json(["outbox", "--json"]);
    let table = |out: &str| ["waiting", "fake:someone 1", "in 9 days", "answer 1", "no line"].iter().all(|cell| out.contains(cell));
    let shown = user.run(["outbox"]).ok().out;
    assert!(table(&shown), "{shown}");
    let letters = list();
    let id = |n: usize| letters[n]["id"].to_string();
    let of = |key: &str| letters[0][key].clone();
    assert_eq!((of("state"), of("attempts"), of("error"), of("chat")), (json!("waiting"), json!(1), json!("no line"), json!("someone 0")));
    assert_eq!(
        (user.json(["outbox", "drop", &id(2), "--yes", "--json"])["dropped"][0].to_string(), list().as_array().unwrap().len()),
        (id(2), 2)
    );
    // A server that runs says and does the same.
    let server = Runs::serving(&user, &[]);
    let shown = user.run(["outbox"]).ok().out;
    assert!(table(&shown), "{shown}");
    user.run(["outbox", "resend", "99"]).code(3).says("no message of number 99 is to leave").says("try: bespoke outbox list");
    user.run(["outbox", "drop", &id(0), "99", "--yes"]).code(3).says("no message of number 99 is to leave; nothing was changed");
    assert_eq!(user.json(["outbox", "resend", &id(0), "--json"]), json!({ "resent": [letters[0]["id"]], "by_server": true, "left": [] }));
    user.run(["outbox", "drop", "--all"]).code(4).says("try: bespoke outbox drop --all --yes");
    user.run(["outbox", "drop", &id(1), "--yes"]).ok().says("1 message forgotten");
    until_all_left(&user);
    assert_eq!((list(), &status(&user)["dead"]), (json!([]), &json!(0)));
    server.end();
}

#[test]
fn a_signal_in_the_middle_of_a_slow_hook_of_the_start_is_a_drain() {
    let hooks = r#"[plugins.exec]
hooks = [
  { name = "slow", hook = "on_gateway_start", command = ["sleep", "100000"], timeout_ms = 3600000 },
  { name = "over", hook = "on_gateway_shutdown", command = ["touch", "over"] },
]
"#;
    let user = User::new().configured(&format!("{CONFIG}{hooks}"));
    let server = Runs::begin(&user, &["serve", "--json", "--quiet", "--offline"]);
    // It serves by then, and only waits for the hook.
    let mut looks = 0;
    while user.run(["status", "--json"]).value()["channels"][0]["state"].is_null() {
        looks += 1;
        assert!(looks < 1000, "no channel begins");
    }
    assert_eq!(status(&user)["state"], "starting");
    server.signal(Signal::TERM);
    server.until("draining");
    server.until("stopped");
    server.ended().code(0);
    let told: Vec<_> = walked(&user.home()).into_iter().filter(|path| path.ends_with("over")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
}

/// All files below a folder.
fn walked(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walked(&path) } else { vec![path] }).collect()
}
