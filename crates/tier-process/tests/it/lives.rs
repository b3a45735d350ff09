//! Starts and stops: what is left of a child afterwards, which is nothing.

use std::{
    fs,
    time::{Duration, Instant},
};

use bespoke_host::{State, Terms};
use bespoke_plugin_api::serde_json::json;

use crate::kit::{World, act, echo, lives, row, until, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_ignores_the_end_of_its_input_is_ended() {
    let world = World::new();
    let host = world.host([world.plugin("deaf", "deaf")]).await;
    assert_eq!(echo(&host, "deaf").await.unwrap(), "1");
    let pid = row(&host, "deaf").facts["pid"].clone();
    assert!(lives(&pid));
    let begun = Instant::now();
    within(host.shutdown()).await;
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert!(!lives(&pid));
    assert_eq!(row(&host, "deaf").state, State::Stopped);
    assert_eq!(host.late_names(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_plugin_has_started_ends_with_it() {
    for (supervised, crash) in [(true, false), (true, true), (false, false), (false, true)] {
        let world = if supervised { World::new() } else { World::new().bare() };
        let host = world
            .host([world.plugin_with("parent", "ok", "[permissions]\nsystem_access = [\"sleep\"]\nreasons.system_access = \"it waits\"")])
            .await;
        let grandchild = act(&host, "parent", json!({ "do": "grandchild" })).await.unwrap();
        assert!(lives(&grandchild));
        if crash {
            act(&host, "parent", json!({ "do": "exit" })).await.unwrap_err();
        } else {
            within(host.shutdown()).await;
        }
        until("the grandchild is gone", || !lives(&grandchild)).await;
        within(host.shutdown()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_say_where_it_runs_and_behind_what() {
    for world in [World::new(), World::new().bare()] {
        let host = world.host([world.plugin("plain", "ok")]).await;
        let facts = row(&host, "plain").facts;
        assert_eq!((facts["tier"].as_str(), facts["engine"].as_str()), ("process", "test"));
        assert!(lives(&facts["pid"]), "{facts:?}");
        assert!(facts["memory"].ends_with(" MiB") && facts["running"].ends_with(" s") && !facts["sandbox"].is_empty(), "{facts:?}");
        within(host.shutdown()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_asked_once_what_it_contributes() {
    let world = World::new();
    let plugin = world.plugin("asked", "ok");
    let first = plugin.artifact.clone();
    let specs = tokio::task::spawn_blocking(move || first.declare(&Terms::default())).await.unwrap().unwrap();
    assert_eq!(specs.len(), 2);
    // A script that says nothing any more, of the same size and date.
    let places: Vec<_> = fs::read_dir(world.path().join("cache/declared")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(places.len(), 1);
    fs::write(&places[0], "[]").unwrap();
    let again = plugin.artifact.clone();
    let from_there = tokio::task::spawn_blocking(move || again.declare(&Terms::default())).await.unwrap().unwrap();
    assert_eq!(from_there, [], "it was not asked again");
    // Another script is asked.
    let script = world.path().join("plugins/asked/guest.py");
    fs::write(&script, fs::read_to_string(&script).unwrap() + "\n# changed\n").unwrap();
    let changed = plugin.artifact.clone();
    assert_eq!(tokio::task::spawn_blocking(move || changed.declare(&Terms::default())).await.unwrap().unwrap(), specs);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_lives_leave_no_descriptor_no_thread_and_no_zombie() {
    let world = World::new();
    let plugin = world.plugin("brief", "ok");
    let count = |folder: &str| fs::read_dir(folder).unwrap().count();
    let children = || {
        let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
        let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        lists.map(|list| list.split_whitespace().count()).sum::<usize>()
    };
    let mut before = None;
    for life in 0..201 {
        let host = world.host([plugin.clone()]).await;
        assert_eq!(echo(&host, "brief").await.unwrap(), "1");
        within(host.shutdown()).await;
        drop(host);
        if life == 0 {
            // What is made once and kept, such as the threads of the runtime, is there now.
            before = Some((count("/proc/self/fd"), count("/proc/self/task")));
        }
    }
    let (fds, threads) = before.unwrap();
    until("descriptors are back", || count("/proc/self/fd") <= fds).await;
    until("threads are back", || count("/proc/self/task") <= threads + 2).await;
    until("no child is left, not even in the table", || children() == 0).await;
}
