//! Folders and files that are swapped for links while the tools work. Whatever the moment, nothing outside comes out or changes.

use std::{
    fs,
    os::unix::fs::symlink,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use bespoke_plugin_api::serde_json::json;
use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};

use crate::world::{SECRET, World, refused};

/// Swaps that a test waits for, and calls that it makes at least.
const SWAPS: usize = 500;

/// Calls after which a test gives up on the swaps.
const MOST_CALLS: usize = 100_000;

/// Exchanges two names, each time in one step, until it is dropped.
struct Swapper {
    stop: Arc<AtomicBool>,
    swaps: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Swapper {
    fn new(one: PathBuf, other: PathBuf) -> Self {
        let (stop, swaps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, counted) = (stop.clone(), swaps.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                std::thread::yield_now();
            }
        });
        Swapper { stop, swaps, thread: Some(thread) }
    }

    /// Calls until there were enough swaps and calls.
    fn race(&self, mut call: impl FnMut()) {
        for calls in 0..MOST_CALLS {
            if calls >= SWAPS && self.swaps.load(Ordering::SeqCst) >= SWAPS {
                return;
            }
            call();
        }
        panic!("only {} swaps in {MOST_CALLS} calls", self.swaps.load(Ordering::SeqCst));
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || !matches!(ended, Some(Err(_))), "the swapper panicked");
    }
}

#[test]
fn a_folder_swapped_for_a_link_gives_nothing_away() {
    let world = World::new(json!({ "write": true, "create_folders": true }));
    world.put("door/secret.txt", "mine");
    symlink(world.outside(""), world.root(".link")).unwrap();
    let swapper = Swapper::new(world.root("door"), world.root(".link"));
    let mut number = 0;
    swapper.race(|| {
        number += 1;
        let read = world.call("read_file", json!({ "path": "door/secret.txt" }));
        match refused(&read).as_str() {
            "" => assert_eq!(read.to_text(), "mine"),
            "link" | "changed" => {}
            other => panic!("{other}: {read:?}"),
        }
        let found = world.call("find_files", json!({ "text": "eagle" }));
        assert!(found.to_text().starts_with("nothing found"), "{found:?}");
        let written = world.call("write_file", json!({ "path": "door/new.txt", "text": "new", "mode": "replace" }));
        assert!(["", "link", "changed"].contains(&refused(&written).as_str()), "{written:?}");
        let deep = world.call("write_file", json!({ "path": format!("door/{}/a.txt", number % 7), "text": "new", "mode": "replace" }));
        assert!(["", "link", "changed"].contains(&refused(&deep).as_str()), "{deep:?}");
    });
    drop(swapper);
    nothing_happened_outside(&world);
}

#[test]
fn a_file_swapped_for_a_link_gives_nothing_away() {
    let world = World::new(json!({ "write": true }));
    world.put("a.txt", "mine");
    symlink(world.outside("secret.txt"), world.root(".link")).unwrap();
    let swapper = Swapper::new(world.root("a.txt"), world.root(".link"));
    swapper.race(|| {
        let read = world.call("read_file", json!({ "path": "a.txt" }));
        match refused(&read).as_str() {
            "" => assert_eq!(read.to_text(), "mine"),
            "link" | "changed" => {}
            other => panic!("{other}: {read:?}"),
        }
        let listed = world.call("list_files", json!({}));
        assert!(!listed.to_text().contains("eagle"), "{listed:?}");
    });
    drop(swapper);
    nothing_happened_outside(&world);
}

#[test]
fn a_file_swapped_for_a_pipe_does_not_hang() {
    let world = World::new(json!({}));
    world.put("a.txt", "mine");
    mknodat(CWD, world.root(".pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let swapper = Swapper::new(world.root("a.txt"), world.root(".pipe"));
    swapper.race(|| {
        let read = world.call("read_file", json!({ "path": "a.txt" }));
        match refused(&read).as_str() {
            "" => assert_eq!(read.to_text(), "mine"),
            "special" | "changed" => {}
            other => panic!("{other}: {read:?}"),
        }
    });
}

#[test]
fn a_root_swapped_for_a_link_gives_nothing_away() {
    let world = World::new(json!({ "write": true }));
    world.put("secret.txt", "mine");
    symlink(world.outside(""), world.top().join("link")).unwrap();
    let swapper = Swapper::new(world.root("").components().collect(), world.top().join("link"));
    swapper.race(|| {
        let read = world.call("read_file", json!({ "path": "secret.txt" }));
        match refused(&read).as_str() {
            "" => assert!(["mine", "new"].contains(&read.to_text().as_str()), "{read:?}"),
            "root_gone" => {}
            other => panic!("{other}: {read:?}"),
        }
        world.call("write_file", json!({ "path": "secret.txt", "text": "new", "mode": "replace" }));
    });
    drop(swapper);
    nothing_happened_outside(&world);
}

fn nothing_happened_outside(world: &World) {
    let outside: Vec<_> = fs::read_dir(world.outside("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(outside, ["secret.txt"]);
    assert_eq!(fs::read_to_string(world.outside("secret.txt")).unwrap(), SECRET);
}
