//! However a call ends, no process of it is left.

use std::{
    fs::File,
    io::Read,
    sync::mpsc,
    task::{Context, Waker},
};

use bespoke_plugin_api::{CallCx, CancelToken, Contract, HookEvent, HookHandler};
use bespoke_plugin_testkit::{TestHost, block_on, block_on_for};

use crate::world::{LIMIT, World, program, within};

/// A pipe that a program holds open for writing: it is alive as long as reading does not end.
struct Life(File);

impl Life {
    fn new(path: &std::path::Path) -> Self {
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
        // For reading and writing first, so that opening does not wait for the program.
        let both = File::options().read(true).write(true).open(path).unwrap();
        let reader = File::open(path).unwrap();
        drop(both);
        Life(reader)
    }

    /// Waits until two have written a byte.
    fn begins(&mut self) {
        assert!(self.begins_within(LIMIT), "the program did not begin");
    }

    fn begins_within(&mut self, limit: std::time::Duration) -> bool {
        let (mut bytes, mut at, begun) = ([0; 2], 0, std::time::Instant::now());
        while at < 2 && begun.elapsed() < limit {
            match self.0.read(&mut bytes[at..]).unwrap() {
                0 => std::thread::yield_now(),
                read => at += read,
            }
        }
        at == 2
    }

    /// That nobody holds the pipe any more.
    fn ends(mut self) {
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || sender.send(self.0.read_to_end(&mut Vec::new())));
        receiver.recv_timeout(LIMIT).expect("a process is still alive").unwrap();
    }
}

/// A program with a grandchild: both hold the pipe, say so with a byte each, and sleep for long.
const FAMILY: &str = "exec 9>life; (printf x >&9; exec sleep 1000) & printf x >&9; sleep 1000; wait";

#[tokio::test]
async fn when_the_time_is_over_the_whole_group_is_killed() {
    let world = World::with(FAMILY, "timeout_ms = 1000, on_failure = 'closed'").await;
    let life = Life::new(&world.folder("life"));
    let said = world.ask(&CallCx::new(), "hello").await;
    assert!(said.starts_with("exec vetoed: "), "{said}");
    life.ends();
}

#[tokio::test]
async fn when_the_plugin_stops_the_whole_group_is_killed() {
    let world = World::with(FAMILY, "timeout_ms = 600000").await;
    let mut life = Life::new(&world.folder("life"));
    let asking = async { world.ask(&CallCx::new(), "hello").await };
    let stopping = async {
        let life = tokio::task::spawn_blocking(move || {
            life.begins();
            life
        });
        let life = within(life).await.unwrap();
        within(world.host.shutdown()).await;
        life
    };
    let (said, life) = tokio::join!(asking, stopping);
    assert_eq!(said, "hello");
    life.ends();
}

/// The handler itself, in the folder of a script.
fn alone(script: &str) -> (tempfile::TempDir, std::sync::Arc<TestHost>, bespoke_plugin_api::Instance) {
    let temp = tempfile::tempdir().unwrap();
    let hooks = bespoke_plugin_api::serde_json::json!({ "hooks": [
        { "name": "guard", "hook": "before_agent_run", "command": [program(&temp, script)], "timeout_ms": 600_000 }
    ] });
    let host = TestHost::new();
    let cx = host.context("exec").with_data_dir(temp.path().join("own"));
    let instance = block_on(bespoke_hook_exec::BESPOKE_PLUGIN.start(cx, hooks)).unwrap();
    (temp, host, instance)
}

#[test]
fn when_the_caller_cancels_or_drops_the_call_the_whole_group_is_killed() {
    for cancels in [true, false] {
        let (temp, host, _instance) = alone(FAMILY);
        let mut life = Life::new(&temp.path().join("own/life"));
        let published = host.published();
        let (_, handler) = <dyn HookHandler>::of(&published[0]).unwrap();
        let token = CancelToken::new();
        let cx = CallCx::new().with_cancel(token.clone());
        let event = HookEvent::before_agent_run("s1", "hello");
        let mut call = Box::pin(handler.on(&cx, &event));
        assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        life.begins();
        if cancels {
            token.cancel();
            let error = block_on_for(LIMIT, call).expect("the call hangs").unwrap_err();
            assert_eq!(error.kind(), "CANCELLED");
        } else {
            drop(call);
        }
        life.ends();
    }
}

#[test]
fn programs_that_hang_are_not_gathered_without_end() {
    let (_temp, host, _instance) = alone("exec sleep 1000");
    let published = host.published();
    let (_, handler) = <dyn HookHandler>::of(&published[0]).unwrap();
    let (cx, event) = (CallCx::new(), HookEvent::before_agent_run("s1", "hello"));
    let mut calls: Vec<_> = (0..17).map(|_| Box::pin(handler.on(&cx, &event))).collect();
    let mut context = Context::from_waker(Waker::noop());
    let last = calls.pop().unwrap();
    assert!(calls.iter_mut().all(|call| call.as_mut().poll(&mut context).is_pending()));
    let error = block_on_for(LIMIT, last).expect("it hangs").unwrap_err();
    assert_eq!(error.message(), "`guard` is asked 16 times already");
    drop(calls);
    let (_, handler) = <dyn HookHandler>::of(&published[0]).unwrap();
    assert!(Box::pin(handler.on(&cx, &event)).as_mut().poll(&mut context).is_pending(), "those that ended count no more");
}

/// Of the host of [`when_the_host_is_killed_so_is_the_whole_group`]: the folder that it works in.
const FOLDER: &str = "BESPOKE_TEST_HOST_IN";

/// The host is this test again, in a process of its own.
#[test]
fn when_the_host_is_killed_so_is_the_whole_group() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let folder = std::path::PathBuf::from(folder);
        let hooks = bespoke_plugin_api::serde_json::json!({ "hooks": [
            { "name": "guard", "hook": "before_agent_run", "command": [folder.join("program")], "cwd": folder, "timeout_ms": 600_000 }
        ] });
        let host = TestHost::new();
        let _instance = block_on(bespoke_hook_exec::BESPOKE_PLUGIN.start(host.context("exec"), hooks)).unwrap();
        let published = host.published();
        let (_, handler) = <dyn HookHandler>::of(&published[0]).unwrap();
        let event = HookEvent::before_agent_run("s1", "hello");
        let said = block_on_for(LIMIT * 2, handler.on(&CallCx::new(), &event));
        panic!("it was not killed: {said:?}");
    }
    let temp = tempfile::tempdir().unwrap();
    program(&temp, FAMILY);
    let mut life = Life::new(&temp.path().join("life"));
    let mut host = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "ends::when_the_host_is_killed_so_is_the_whole_group", "--nocapture"])
        .env(FOLDER, temp.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let began = life.begins_within(LIMIT);
    // That is SIGKILL.
    host.kill().unwrap();
    host.wait().unwrap();
    assert!(began, "the program did not begin");
    life.ends();
}
