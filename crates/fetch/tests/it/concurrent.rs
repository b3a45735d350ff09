//! Several threads and processes at one file, and a process that dies in the middle.

use std::{
    env, fs,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use bespoke_fetch::{Class, Error, Fetcher, Phase, Source, Store};

use crate::{
    server::{Send, Server, correct, head, wait_for},
    workbench::{Workbench, content, ensure, pin, watched},
};

const URL: &str = "BESPOKE_FETCH_TEST_URL";
const ROOT: &str = "BESPOKE_FETCH_TEST_ROOT";
const HALF: usize = 150_000;

/// Half the file, then the rest when the flag is set; ranges are served at once.
fn halting(released: &Arc<AtomicBool>) -> Server {
    let released = Arc::clone(released);
    Server::start(move |r| match r.from {
        Some(_) => correct(r, &content()),
        None => vec![
            head(200, &[("Content-Length", "300000")]),
            Send::Bytes(content()[..HALF].to_vec()),
            Send::Until(Arc::clone(&released)),
            Send::Bytes(content()[HALF..].to_vec()),
        ],
    })
}

/// In the process that a test started of itself: fetch what the environment names.
fn as_child() -> bool {
    let (Ok(url), Some(root)) = (env::var(URL), env::var_os(ROOT)) else { return false };
    ensure(&Fetcher::new(Store::new(root)), &pin(&content(), vec![Source::url(url)])).unwrap();
    true
}

fn start_child(test: &str, url: &str, root: PathBuf) -> std::process::Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", test]).env(URL, url).env(ROOT, root).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

#[test]
fn two_threads_download_once() {
    let bench = Workbench::new();
    let released = Arc::new(AtomicBool::new(false));
    let server = halting(&released);
    let pin = pin(&content(), vec![Source::url(server.url("m"))]);
    let fetch = || {
        watched(&bench.fetcher(), &pin, &mut |p| {
            // The other one holds the lock: now it may finish.
            released.fetch_or(p.phase == Phase::Waiting, Ordering::Relaxed);
        })
    };
    let paths = thread::scope(|scope| [scope.spawn(fetch), scope.spawn(fetch)].map(|t| t.join().unwrap().unwrap()));
    assert_eq!(paths[0], paths[1]);
    assert_eq!(server.seen().len(), 1);
    assert!(released.load(Ordering::Relaxed), "the two did meet");
}

#[test]
fn two_processes_download_once() {
    if as_child() {
        return;
    }
    let bench = Workbench::new();
    let released = Arc::new(AtomicBool::new(false));
    let server = halting(&released);
    let mut child = start_child("concurrent::two_processes_download_once", &server.url("m"), bench.root());
    wait_for("the child's download", || server.seen().len() == 1 && bench.part().is_some());
    let pin = pin(&content(), vec![Source::url(server.url("m"))]);
    let path = watched(&bench.fetcher(), &pin, &mut |p| {
        released.fetch_or(p.phase == Phase::Waiting, Ordering::Relaxed);
    });
    assert_eq!(fs::read(path.unwrap()).unwrap(), content());
    assert!(child.wait().unwrap().success());
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn a_killed_process_leaves_no_lock_and_its_part_is_resumed() {
    if as_child() {
        return;
    }
    let bench = Workbench::new();
    let released = Arc::new(AtomicBool::new(false));
    let server = halting(&released);
    let test = "concurrent::a_killed_process_leaves_no_lock_and_its_part_is_resumed";
    let mut child = start_child(test, &server.url("m"), bench.root());
    let arrived = || bench.part().and_then(|part| fs::metadata(part).ok()).is_some_and(|m| m.len() == HALF as u64);
    wait_for("half the file", arrived);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!bench.target().exists());

    ensure(&bench.fetcher(), &pin(&content(), vec![Source::url(server.url("m"))])).unwrap();
    assert_eq!(server.seen().iter().map(|r| r.from).collect::<Vec<_>>(), [None, Some(HALF)]);
    assert_eq!(fs::read(bench.target()).unwrap(), content());
    released.store(true, Ordering::Relaxed);
}

#[test]
fn a_lock_that_is_held_too_long_is_named() {
    let bench = Workbench::new();
    let lock = bench.root().join(".locks/sub/model.bin.lock");
    fs::create_dir_all(lock.parent().unwrap()).unwrap();
    let held = fs::File::create(&lock).unwrap();
    held.lock().unwrap();
    let server = Server::start(|r| correct(r, &content()));
    let pin = pin(&content(), vec![Source::url(server.url("m"))]);
    let mut fetcher = bench.fetcher();
    fetcher.limits.lock_wait = Duration::from_millis(120);
    let error = ensure(&fetcher, &pin).unwrap_err();
    assert_eq!(error.class(), Class::Conflict);
    assert!(matches!(error, Error::Locked { lock: named, .. } if named == lock));
    // The file itself stays; only the lock ends.
    drop(held);
    ensure(&fetcher, &pin).unwrap();
}

#[test]
fn staging_of_a_dead_run_is_swept_and_that_of_a_live_one_is_not() {
    let bench = Workbench::new();
    let staging = bench.root().join(".staging");
    for run in ["run-dead", "run-live"] {
        fs::create_dir_all(staging.join(run)).unwrap();
        fs::write(staging.join(run).join("big.whl"), [0; 1000]).unwrap();
        fs::write(staging.join(run).join(".alive"), "").unwrap();
    }
    let live = fs::File::open(staging.join("run-live/.alive")).unwrap();
    live.lock().unwrap();
    let folder = bench.beside("from");
    fs::write(folder.join("model.bin"), content()).unwrap();
    ensure(&bench.fetcher().with_from(folder), &pin(&content(), vec![])).unwrap();
    assert_eq!(bench.files(), [".staging/run-live/.alive", ".staging/run-live/big.whl", "sub/model.bin"]);
}
