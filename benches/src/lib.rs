//! Benchmarks against a floor, in one run: the harness that all files in `benches/` share.
//!
//! A time alone says little on a machine that others use too. Here every case stands in a [`Group`] beside the least that could
//! be done instead, its *floor*, and the two are measured by turns, so that noise meets both. A table line shows the smallest
//! and the median time of one operation, how that compares with the floor, how many allocations it made, and whether the aim
//! is met. Aims are judged by the smallest times: what a noisy neighbour adds is not the code's.
//!
//! It is not statistics: for a change of a few percent, use a profiler and a quiet machine.
//!
//! ```
//! use bespoke_benches::{Aim, Group};
//! use std::{collections::BTreeMap, hint::black_box};
//!
//! let map: BTreeMap<u32, u32> = (0..100).map(|n| (n, n)).collect();
//! Group::new("look-up in a map of 100")
//!     .case("index of an array", |n| (0..n).for_each(|i| _ = black_box([1u32; 100][i as usize % 100])))
//!     .case("BTreeMap::get", |n| (0..n).for_each(|i| _ = black_box(map.get(&(i as u32 % 100)))))
//!     .aim(Aim::Allocations(0))
//!     .run();
//! ```
//!
//! A further benchmark is a file in `benches/benches/` with `fn main()` that runs groups, and a `[[bench]]` entry with
//! `harness = false`. `cargo bench -p bespoke-benches` measures; under `cargo test` each case runs a few times, to see that it
//! works. `cargo bench -p bespoke-benches -- WORD` runs the groups whose title has the word. To count allocations, a file says
//! `#[global_allocator] static ALLOCATOR: bespoke_benches::Counting = bespoke_benches::Counting;`.

mod allocations;
mod echo;
mod group;

pub use crate::{
    allocations::Counting,
    echo::{ECHO, ECHO_MANIFEST, Sink, bespoke_bench_echo, bespoke_bench_take},
    group::{Aim, Group},
};
