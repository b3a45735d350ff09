//! What is under way in a server: how long models take to begin is counted as it happens, a turn that a second signal cuts off is told to be
//! over, an interrupt more ends what does not stop, and of a plugin's process nobody is left, whatever ends it.

use std::{
    fs,
    io::Write,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{
    program::User,
    serve::{CONFIG, Runs},
};

/// Longer than anything takes.
const LONG: Duration = Duration::from_secs(120);

pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(begun.elapsed() < LONG, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn history(user: &User, topic: &str) -> Vec<Value> {
    let events = user.run(["events", "history", "--json", "--filter", topic]).ok().lines();
    events.into_iter().map(|event| event["payload"].clone()).collect()
}

#[test]
fn a_turn_that_the_second_signal_cuts_off_is_told_to_be_over() {
    let replies = "replies = [[{ delay_ms = 3600000 }]]\nmessages = [{ text = \"hi\" }]\n";
    let user = User::new().configured(&format!("{CONFIG}{replies}"));
    let server = Runs::serving(&user, &[]);
    until("a model is asked", || history(&user, "step_started").pop());
    server.signal(Signal::TERM);
    server.until("draining");
    server.signal(Signal::TERM);
    server.ended().code(130);
    let begun = history(&user, "workflow_started");
    let over = history(&user, "workflow_completed");
    assert_eq!((begun.len(), over.len()), (1, 1), "{begun:?} {over:?}");
    assert_eq!(over[0]["workflow"], begun[0]["workflow"]);
    assert_eq!((&over[0]["ok"], &over[0]["error"]), (&json!(false), &json!("CANCELLED")), "{over:?}");
}

#[test]
fn how_long_a_model_takes_to_begin_is_counted_while_the_server_runs_and_kept() {
    let replies = "replies = [[{ delay_ms = 300 }, { text = \"hello\" }]]\nmessages = [{ text = \"hi\" }]\n";
    let user = User::new().configured(&format!("{CONFIG}{replies}"));
    let server = Runs::serving(&user, &[]);
    let over = until("it is answered", || history(&user, "workflow_completed").pop());
    assert!(over["first_ms"].as_u64().is_some_and(|ms| ms >= 300), "{over}");
    let step = history(&user, "step_completed").into_iter().find(|step| step["kind"] == "model").unwrap();
    assert!(step["first_ms"].as_u64().is_some_and(|ms| ms >= 300 && ms <= step["ms"].as_u64().unwrap()), "{step}");
    let first = |of: &Value| {
        let all = ["first_p50_ms", "first_p90_ms", "first_p99_ms"].map(|key| of[key].as_f64().unwrap_or_else(|| panic!("no {key}: {of}")));
        assert!(all.iter().all(|ms| *ms > 290.0), "{of}");
    };
    // The server has not written it yet: it does so once a minute, and when it ends.
    let live = user.json(["plugin", "info", "fake", "--json"]);
    first(&live["usage"]["today"]);
    first(&user.json(["usage", "--json"])["plugins"]["fake"]["total"]);
    let text = user.run(["plugin", "info", "fake"]).ok().out;
    assert!(text.contains("first token p50 "), "{text}");
    server.end();
    first(&user.json(["usage", "--json"])["plugins"]["fake"]["total"]);
    assert!(user.run(["usage"]).ok().out.contains("FIRST P50"));
}

/// A command that blocks when it is told to.
const PLUGIN: &str = r#"
import time
from contracts.command_contract import CommandContract


class Wedge(CommandContract):
    name = "wedge"

    async def run(self, args, out):
        out.line("begun")
        while args:
            time.sleep(0.1)
"#;

const MANIFEST: &str = r#"id = "wedge"
version = "1.0.0"
license = "MIT"
description = "Blocks."
author = "Somebody"
protocol = "1"
tiers = ["process"]
[[provides]]
kind = "command"
name = "wedge"
[process]
python = "wedge"
"#;

/// Processes of this home's plugins: they stand in its folders, or name them.
fn processes(user: &User) -> Vec<u32> {
    let mark = user.home().display().to_string();
    let all = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let told = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.contains("bespoke_sdk.guest") && line.contains(&mark)
    };
    all.filter(told).collect()
}

#[test]
fn of_a_plugin_whose_command_blocks_nobody_is_left_whatever_ends_it() {
    let user =
        User::new().configured(&format!("{CONFIG}[plugins.wedge]\ncommand_timeout_ms = 3600000\n[plugins]\nstop_timeout_ms = 1000\n"));
    let folder = user.home().join("plugins/wedge");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("plugin.toml"), MANIFEST).unwrap();
    fs::write(folder.join("wedge.py"), PLUGIN).unwrap();
    for end in ["reload", "disable", "stop", "kill"] {
        let server = Runs::serving(&user, &[]);
        user.run(["wedge"]).ok();
        let old = until("its process", || processes(&user).first().copied());
        let mut blocked = user.command(["wedge", "block"]).spawn().unwrap();
        let mut begun = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(blocked.stdout.take().unwrap()), &mut begun).unwrap();
        assert_eq!(begun, "begun\n");
        match end {
            "reload" => _ = user.run(["plugin", "reload", "wedge"]).ok(),
            "disable" => _ = user.run(["plugin", "disable", "wedge"]).ok(),
            "stop" => server.signal(Signal::TERM),
            _ => server.signal(Signal::KILL),
        }
        until(end, || (!processes(&user).contains(&old)).then_some(()));
        _ = blocked.kill();
        _ = blocked.wait();
        match end {
            "reload" => {
                user.run(["wedge"]).ok();
                server.end();
            }
            "disable" => {
                assert_eq!(processes(&user), [0; 0]);
                server.end();
                user.run(["plugin", "enable", "wedge"]).ok();
            }
            _ => drop(server.ended()),
        }
        until("nobody is left", || processes(&user).is_empty().then_some(()));
    }
}

#[test]
fn an_interrupt_more_ends_what_does_not_stop() {
    for args in [&["ask", "hi", "--forget"][..], &["chat", "--forget"]] {
        let user = User::new();
        let begun = user.home().join("begun");
        let hook = format!(
            "name = \"slow\", hook = \"on_session_end\", timeout_ms = 3600000, command = [\"/bin/sh\", \"-c\", \"touch {}; exec sleep 3600\"]",
            begun.display()
        );
        let user =
            user.configured(&format!("config_version = 1\n[agent]\nprovider = [\"fake\"]\n[plugins.exec]\nhooks = [{{ {hook} }}]\n"));
        let mut child = user.command(args).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"hi\n").unwrap();
        user.appears("begun");
        // Two that come at once are one to the kernel, so they come until it has heard.
        let ended = until("it ends", || {
            _ = kill_process(Pid::from_child(&child), Signal::INT);
            child.try_wait().unwrap()
        });
        assert_eq!(ended.code(), Some(130), "{args:?}");
    }
}
