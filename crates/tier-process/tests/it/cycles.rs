//! Plugins that come and go in a host that stays: what each of them took is given back.

use std::{fs, path::PathBuf, time::Instant};

use bespoke_host::Candidate;
use bespoke_plugin_api::serde_json::json;

use crate::kit::{World, act, until, within};

/// Loads and unloads of a process; those of a plugin without one are counted in the host's own tests, 10,000 of them.
const CYCLES: usize = 300;
/// What the first ones take is kept by the allocator and the runtime.
const WARM: usize = 50;
/// What may be kept beyond that, of all that follow: 10 KiB each.
const GROWTH: usize = 3 << 20;

fn small(world: &World, id: &str) -> Candidate {
    let folder: PathBuf = world.path().join("plugins").join(id);
    fs::create_dir_all(&folder).unwrap();
    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guests/small.sh"), folder.join("small.sh")).unwrap();
    let manifest = format!(
        "id = \"{id}\"\nversion = \"1.0.0\"\nlicense = \"Apache-2.0\"\ndescription = \"A test.\"\nauthor = \"Tests\"\nprotocol = \"1\"\n\
         tiers = [\"process\"]\n[[provides]]\nkind = \"tool\"\nname = \"{id}\"\n[process]\ncommand = [\"sh\", \"small.sh\", \"{id}\"]\n"
    );
    world.candidate(folder, &manifest)
}

fn count(folder: &str) -> usize {
    fs::read_dir(folder).unwrap().count()
}

/// Bytes of this process that are in memory.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/statm").unwrap();
    status.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Processes that this one has started, also those that have ended and were not waited for.
fn children() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists.map(|list| list.split_whitespace().count()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_processes_are_loaded_and_unloaded_and_nothing_is_kept() {
    let world = World::new();
    let host = world.host([small(&world, "stays")]).await;
    let comes = small(&world, "comes");
    let (mut before, mut begun) = (None, Instant::now());
    for cycle in 0..CYCLES + WARM {
        if cycle == WARM {
            before = Some((resident(), count("/proc/self/fd"), count("/proc/self/task"), children()));
            begun = Instant::now();
        }
        within(host.load(comes.clone(), None)).await.unwrap();
        assert_eq!(act(&host, "comes", json!({})).await.unwrap(), "comes");
        within(host.unload("comes")).await.unwrap();
    }
    let took = begun.elapsed();
    let (memory, fds, threads, processes) = before.unwrap();
    assert_eq!(processes, 1, "the one that stays has its supervisor");
    until("descriptors are back", || count("/proc/self/fd") <= fds).await;
    until("threads are back", || count("/proc/self/task") <= threads + 2).await;
    until("children are back", || children() == processes).await;
    let grown = resident().saturating_sub(memory);
    println!("{CYCLES} cycles in {took:.1?}: {grown} bytes more in memory than the {memory} before");
    assert!(grown < GROWTH, "{grown} bytes more after {CYCLES} cycles");
    assert_eq!(act(&host, "stays", json!({})).await.unwrap(), "stays");
    within(host.shutdown()).await;
    until("no child is left", || children() == 0).await;
}
