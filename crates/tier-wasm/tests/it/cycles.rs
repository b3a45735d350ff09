//! Plugins that come and go in a host that stays: what each of them took is given back.

use std::{fs, time::Instant};

use bespoke_plugin_api::serde_json::json;

use crate::kit::{World, act, until, within};

/// Loads and unloads: a minute of a processor.
const CYCLES: usize = 10_000;
/// What the first ones take is kept by the allocator and the runtime.
const WARM: usize = 50;
/// What may be kept beyond that, of all that follow. An instance has a memory of 1.1 MiB alone.
const GROWTH: usize = 8 << 20;

fn count(folder: &str) -> usize {
    fs::read_dir(folder).unwrap().count()
}

/// Bytes of this process that are in memory, and those that are mapped.
fn sizes() -> (usize, usize) {
    let status = fs::read_to_string("/proc/self/statm").unwrap();
    let mut pages = status.split_whitespace().map(|n| n.parse::<usize>().unwrap() * 4096);
    let mapped = pages.next().unwrap();
    (pages.next().unwrap(), mapped)
}

#[tokio::test(flavor = "multi_thread")]
async fn components_are_loaded_and_unloaded_and_nothing_is_kept() {
    let world = World::new();
    let host = world.host([]).await;
    let comes = world.acts();
    let (mut before, mut begun) = (None, Instant::now());
    for cycle in 0..CYCLES + WARM {
        if cycle == WARM {
            before = Some((sizes(), count("/proc/self/fd"), count("/proc/self/task")));
            begun = Instant::now();
        }
        within(host.load(comes.clone(), None)).await.unwrap();
        assert_eq!(act(&host, "acts", json!({ "do": "echo", "value": cycle })).await.unwrap(), cycle.to_string());
        within(host.unload("acts")).await.unwrap();
    }
    let took = begun.elapsed();
    let ((memory, mapped), fds, threads) = before.unwrap();
    until("descriptors are back", || count("/proc/self/fd") <= fds).await;
    until("threads are back", || count("/proc/self/task") <= threads + 2).await;
    until("mappings are back", || sizes().1 < mapped + (1 << 30)).await;
    let grown = sizes().0.saturating_sub(memory);
    println!("{CYCLES} cycles in {took:.1?}: {grown} bytes more in memory than the {memory} before");
    assert!(grown < GROWTH, "{grown} bytes more after {CYCLES} cycles");
    within(host.shutdown()).await;
}
