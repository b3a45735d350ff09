//! However a call ends, what it started ends with it, and what cannot be ended is not waited for.

use std::{
    future::Future,
    io::{Read, Write},
    pin::pin,
    task::{Context, Waker},
    time::Duration,
};

use crate::world::{World, data};
use bespoke_plugin_api::{CallCx, CancelToken, Code, Contract, Tool, ToolRequest, serde_json::json};
use bespoke_plugin_testkit::block_on_for;

/// Most time that a process may take to be gone; far more than any takes.
const LIMIT: Duration = Duration::from_secs(60);

/// A pipe of a name in the folder of work. A process that holds it open for writing is alive as long as reading does not end.
struct Life(std::fs::File);

impl Life {
    /// Makes the pipe `life`; the returned script holds it open.
    fn new(world: &World) -> Self {
        let path = world.folder("life");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        // For reading and writing first, so that opening does not wait for the program.
        let both = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let reader = std::fs::OpenOptions::new().read(true).open(&path).unwrap();
        drop(both);
        Life(reader)
    }

    /// Waits until the program has written `n` bytes.
    fn wait_for(&mut self, n: usize) {
        let mut bytes = vec![0; n];
        let mut at = 0;
        // Until the program has opened the pipe, reading ends at once: ask again.
        while at < n {
            match self.0.read(&mut bytes[at..]).unwrap() {
                0 => std::thread::yield_now(),
                read => at += read,
            }
        }
    }

    /// That nobody holds the pipe any more.
    fn ends(self) {
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut life = self.0;
            let _ = sender.send(life.read_to_end(&mut Vec::new()));
        });
        receiver.recv_timeout(LIMIT).expect("a process is still alive").unwrap();
    }
}

/// A program with a grandchild: both hold the pipe, say so with a byte each, and sleep for long.
const FAMILY: &str = "exec 9>life; (printf x >&9; exec sleep 1000) & printf x >&9; sleep 1000; wait";

#[test]
fn when_the_time_is_over_the_whole_group_is_killed() {
    let world = World::with_sh(json!({ "timeout_ms": 2000 }));
    let life = Life::new(&world);
    let output = world.sh(&format!("echo begun; {FAMILY}"));
    assert_eq!(output.to_text(), "sh was killed: it took longer than 2000 ms (`plugins.shell.timeout_ms`)\noutput:\nbegun");
    assert!(output.is_error);
    assert_eq!((&data(&output)["timed_out"], &data(&output)["signal"]), (&json!(true), &json!(9)));
    life.ends();
}

#[test]
fn when_the_caller_cancels_the_whole_group_is_killed() {
    let world = World::with_sh(json!({}));
    let mut life = Life::new(&world);
    let token = CancelToken::new();
    let cx = CallCx::new().with_cancel(token.clone());
    let error = std::thread::scope(|scope| {
        let call = scope.spawn(|| world.try_call(&cx, json!({ "program": "sh", "args": ["-c", FAMILY] })));
        life.wait_for(2);
        token.cancel();
        call.join().unwrap().unwrap_err()
    });
    assert_eq!(error.code(), Code::CANCELLED);
    life.ends();
}

#[test]
fn when_the_call_is_dropped_the_whole_group_is_killed() {
    let world = World::with_sh(json!({}));
    let mut life = Life::new(&world);
    let published = world.host.published();
    let (_, tool) = <dyn Tool>::of(&published[0]).unwrap();
    let cx = CallCx::new();
    {
        let mut call = pin!(tool.call(&cx, ToolRequest::new(json!({ "program": "sh", "args": ["-c", FAMILY] }))));
        assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        life.wait_for(2);
    }
    life.ends();
}

#[test]
fn when_the_plugin_stops_the_whole_group_is_killed() {
    let world = World::with_sh(json!({}));
    let mut life = Life::new(&world);
    let error = std::thread::scope(|scope| {
        let call = scope.spawn(|| world.try_call(&CallCx::new(), json!({ "program": "sh", "args": ["-c", FAMILY] })));
        life.wait_for(2);
        block_on_for(LIMIT, world.shell.life.shutdown()).unwrap();
        call.join().unwrap().unwrap_err()
    });
    assert_eq!(error.code(), Code::CANCELLED);
    life.ends();
}

#[test]
fn what_a_program_leaves_behind_in_its_group_is_killed() {
    let world = World::with_sh(json!({}));
    let life = Life::new(&world);
    let output = world.sh("exec 9>life; sleep 1000 & echo left");
    assert_eq!(output.to_text(), "exit code 0\noutput:\nleft");
    life.ends();
}

#[test]
fn a_program_that_ignores_signals_is_killed() {
    let world = World::with_sh(json!({ "timeout_ms": 300 }));
    let output = world.sh("trap '' TERM INT HUP; while :; do sleep 1000; done");
    assert_eq!(data(&output)["timed_out"], true);
}

#[test]
fn a_call_does_not_wait_for_who_has_left_the_group_and_holds_the_pipe() {
    if !std::path::Path::new("/usr/bin/setsid").exists() {
        return;
    }
    let world = World::with_sh(json!({}));
    // It holds the output open and waits for a line.
    let life = Life::new(&world);
    assert!(std::process::Command::new("mkfifo").arg(world.folder("hold")).status().unwrap().success());
    let mut hold = std::fs::OpenOptions::new().read(true).write(true).open(world.folder("hold")).unwrap();
    let output = world.sh("setsid sh -c 'exec 9>life; touch left; read line <hold' & until [ -e left ]; do :; done; echo done");
    assert_eq!(output.to_text(), "exit code 0\noutput:\ndone");
    // It is still there, outside of the group; and goes when it gets its line.
    hold.write_all(b"go\n").unwrap();
    life.ends();
}

#[test]
fn a_program_that_closes_its_output_is_still_waited_for() {
    let world = World::with_sh(json!({}));
    let output = world.sh("exec >&- 2>&-; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exit 7");
    assert_eq!(data(&output)["code"], 7);
}

#[test]
fn a_call_that_is_cancelled_before_it_begins_runs_nothing() {
    let world = World::with_sh(json!({}));
    let token = CancelToken::new();
    token.cancel();
    let cx = CallCx::new().with_cancel(token);
    let error = world.try_call(&cx, json!({ "program": "sh", "args": ["-c", "touch made"] })).unwrap_err();
    assert_eq!(error.code(), Code::CANCELLED);
    assert!(!world.folder("made").exists());
}

#[test]
fn many_calls_leave_no_thread_pipe_or_zombie_behind() {
    let open = || std::fs::read_dir("/proc/self/fd").map(Iterator::count).unwrap_or_default();
    let world = World::with_sh(json!({}));
    world.sh("true");
    let before = open();
    for _ in 0..20 {
        assert_eq!(data(&world.sh("exit 0"))["code"], 0);
    }
    assert!(open() <= before + 3, "{before} files were open, now {}", open());
}
