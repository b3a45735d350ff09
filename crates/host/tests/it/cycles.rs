//! Plugins that come and go in a host that stays, many times: nothing of them is kept.

use std::{fs, sync::atomic::Ordering, time::Instant};

use bespoke_host::{Config, Host, Selection};

use crate::{
    kit::{call, within},
    mortal::Mortal,
};

/// Loads and unloads, each with a call; those of plugins in processes are tried where that tier is.
const CYCLES: usize = 10_000;
/// What the first ones take is kept by the allocator and the runtime.
const WARM: usize = 500;
/// What may be kept beyond that, of all that follow: less than half a KiB each.
const GROWTH: usize = 4 << 20;

fn count(folder: &str) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

/// Bytes of this process that are in memory; 0 where nobody says.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    status.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or_default() * 4096
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_plugins_are_loaded_and_unloaded_and_nothing_is_kept() {
    let (stays, comes) = (Mortal::new("stays"), Mortal::new("comes"));
    let host = Host::builder().config(Config::empty()).plugins([stays.candidate()]).build().unwrap();
    within(host.start(Selection::All)).await;
    let (mut before, mut begun) = ((0, 0, 0), Instant::now());
    for cycle in 0..CYCLES + WARM {
        if cycle == WARM {
            before = (resident(), count("/proc/self/fd"), count("/proc/self/task"));
            begun = Instant::now();
        }
        within(host.load(comes.candidate(), None)).await.unwrap();
        call(&host, "comes").await.unwrap();
        within(host.unload("comes")).await.unwrap();
    }
    let (memory, fds, threads) = before;
    let grown = resident().saturating_sub(memory);
    println!("{CYCLES} cycles in {:.1?}: {grown} bytes more in memory than the {memory} before", begun.elapsed());
    assert_eq!(comes.made.load(Ordering::SeqCst), CYCLES + WARM);
    assert_eq!(comes.instances().0, comes.instances().1, "an instance was not ended");
    assert_eq!(host.rows().len(), 1);
    assert!(grown < GROWTH, "{grown} bytes more after {CYCLES} cycles");
    assert!(count("/proc/self/fd") <= fds, "descriptors are kept");
    assert!(count("/proc/self/task") <= threads + 4 && host.late_threads() == 0, "threads are kept");
    assert_eq!(call(&host, "stays").await.unwrap(), "hello stays #1 stays 0");
    host.shutdown().await;
}
