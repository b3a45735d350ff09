//! New contents are new code, what is mapped is nobody's to overwrite, and what cannot be unloaded is counted.

use std::{fs, path::Path};

use bespoke_host::{State, Terms};
use bespoke_plugin_api::{Code, Instance, Result, serde_json::json};
use bespoke_plugin_testkit::TestHost;
use bespoke_tier_dylib::MOST_COPIES;

use crate::kit::{World, act, replace, row, until, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_path_with_new_contents_is_new_code() {
    let world = World::new();
    let host = world.host([world.faulty("one")]).await;
    let (file, two) = (world.path().join("plugins/faulty/plugin.so"), world.marked("two"));
    assert_eq!(act(&host, "faulty", "").await.unwrap(), "one");
    replace(&two, &file);
    assert_eq!(act(&host, "faulty", "").await.unwrap(), "one", "what runs, runs on");
    within(host.restart("faulty")).await.unwrap();
    assert_eq!(act(&host, "faulty", "").await.unwrap(), "two");
    assert_eq!(row(&host, "faulty").facts["copies"], format!("2 of {MOST_COPIES}, this is number 2"));

    // The same again is the same copy; what was before, too.
    within(host.restart("faulty")).await.unwrap();
    replace(&world.marked("one"), &file);
    within(host.restart("faulty")).await.unwrap();
    assert_eq!(act(&host, "faulty", "").await.unwrap(), "one");
    assert_eq!(row(&host, "faulty").facts["copies"], format!("2 of {MOST_COPIES}, this is number 1"));
    within(host.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_overwritten_while_it_runs_harms_nobody() {
    let world = World::new();
    let host = world.host([world.faulty("before")]).await;
    let file = world.path().join("plugins/faulty/plugin.so");
    // In place, as a careless build does.
    let length = fs::metadata(&file).unwrap().len();
    fs::write(&file, vec![0xcc; usize::try_from(length).unwrap()]).unwrap();
    assert_eq!(act(&host, "faulty", "work").await.unwrap(), "worked");
    fs::write(&file, "").unwrap();
    for what in ["panic", "thread", ""] {
        let _ = act(&host, "faulty", what).await;
    }
    assert_eq!(act(&host, "faulty", "").await.unwrap(), "before");
    // It does not start again like that, and what runs goes on.
    within(host.restart("faulty")).await.unwrap_err();
    assert_eq!(act(&host, "faulty", "").await.unwrap(), "before");
    within(host.shutdown()).await;
}

/// Starts it beside the host, which would wait between two starts.
async fn start(world: &World, folder: &Path) -> Result<Instance> {
    let host = TestHost::new();
    within(world.candidate(folder).artifact.start(host.context("faults"), json!({}), Terms::default())).await
}

async fn stop(instance: Instance) {
    within(instance.life.shutdown()).await;
}

fn mapped(world: &World) -> usize {
    let cache = world.path().join("cache/dylib").display().to_string();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.contains(&cache) && line.contains(" r-xp ")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_are_counted_and_there_is_an_end_of_them() {
    let world = World::new();
    let library = world.c_library("NOTHING", &[("WORD", Path::new("word-00"))]);
    let bytes = fs::read(&library).unwrap();
    let folder = world.folder("faults", &[("tool", "faults")], &library);
    let at = bytes.windows(7).position(|window| window == b"word-00").unwrap();
    let put = |n: usize| {
        let mut bytes = bytes.clone();
        bytes[at + 5..at + 7].copy_from_slice(format!("{n:02}").as_bytes());
        let changed = world.path().join("changed.so");
        fs::write(&changed, bytes).unwrap();
        replace(&changed, &folder.join("plugin.so"));
    };
    let first = start(&world, &folder).await.unwrap();
    for n in 1..MOST_COPIES {
        put(n);
        let instance = start(&world, &folder).await.unwrap();
        assert_eq!(instance.life.facts()["copies"], format!("{0} of {MOST_COPIES}, this is number {0}", n + 1));
        stop(instance).await;
    }
    put(MOST_COPIES);
    let refused = start(&world, &folder).await.unwrap_err();
    assert_eq!((refused.code(), refused.help()), (Code::RESOURCE_EXHAUSTED, Some("restart the program")), "{refused}");
    assert!(refused.message().contains("holds 64 copies of this library"), "{refused}");
    assert_eq!(mapped(&world), MOST_COPIES);
    // What is there already still starts, and what runs goes on.
    put(7);
    let again = start(&world, &folder).await.unwrap();
    assert_eq!(again.life.facts()["copies"], format!("{MOST_COPIES} of {MOST_COPIES}, this is number 8"));
    stop(again).await;
    assert_eq!(first.life.health(), bespoke_plugin_api::Health::Ok);
    stop(first).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_lives_of_one_library_are_one_copy_and_leave_nothing() {
    let world = World::new();
    let folder = world.folder("faults", &[("tool", "faults")], &world.c_library("NOTHING", &[]));
    let count = |folder: &str| fs::read_dir(folder).unwrap().count();
    let mut before = None;
    for life in 0..1000 {
        let instance = start(&world, &folder).await.unwrap();
        stop(instance).await;
        if life == 10 {
            // What is made once and kept, such as the threads of the runtime, is there now.
            before = Some((count("/proc/self/fd"), count("/proc/self/task")));
        }
    }
    let (fds, threads) = before.unwrap();
    until("descriptors are back", || count("/proc/self/fd") <= fds).await;
    until("threads are back", || count("/proc/self/task") <= threads + 2).await;
    assert_eq!(mapped(&world), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_which_an_instance_died_is_not_used_again() {
    let world = World::new();
    let host = world.host([world.fault("BREAKS")]).await;
    let broke = act(&host, "faults", "").await.unwrap_err();
    assert_eq!((broke.code(), broke.message()), (Code::PLUGIN_CRASHED, "the library panicked: all is lost"));
    let second = format!("2 of {MOST_COPIES}, this is number 2");
    until("it is started again, from another copy", || {
        let row = row(&host, "faults");
        row.state == State::Ready && row.facts["copies"] == second
    })
    .await;
    within(host.shutdown()).await;
    assert_eq!(mapped(&world), 2);
}
