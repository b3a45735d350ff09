//! What plugins were used for, over days and restarts, and the tokens of a day.

use std::{collections::BTreeMap, time::Duration};

use bespoke_host::{Histogram, Usage, UsageStore};
use bespoke_plugin_api::Timestamp;
use bespoke_state::State;

use crate::kit::{opened, place};

const DAY: u64 = 24 * 60 * 60 * 1_000_000;
/// Some noon.
const NOON: Timestamp = Timestamp(20_777 * DAY + DAY / 2);

fn used(calls: u64, errors: u64, bucket: u16, last: u64) -> Usage {
    let mut usage = Usage::default();
    (usage.calls, usage.errors) = (calls, errors);
    usage.times = Histogram::from_bytes(&[bucket.to_le_bytes().as_slice(), &calls.to_le_bytes()].concat());
    usage.firsts = Histogram::from_bytes(&[(bucket + 1).to_le_bytes().as_slice(), &errors.to_le_bytes()].concat());
    usage.longest = Duration::from_micros(calls);
    usage.last = Some(Timestamp(last));
    usage
}

fn add(state: &State, at: Timestamp, plugin: &str, usage: Usage) {
    state.add(at, &BTreeMap::from([(plugin.to_owned(), usage)])).unwrap();
}

#[test]
fn sums_grow_over_restarts_and_percentiles_come_from_all_of_them() {
    let (_folder, path) = place();
    for run in 0..3 {
        let state = State::open(&path).unwrap();
        add(&state, NOON, "clock", used(10, 1, 100 + run * 16, u64::from(run)));
        let mut process = used(1, 0, 5, 9);
        (process.cpu, process.memory_mb) = (Some(Duration::from_millis(250)), Some(10.0 + f64::from(run)));
        add(&state, NOON, "worker", process);
    }
    let all = State::open(&path).unwrap().usage(NOON, false).unwrap();
    let clock = &all["clock"];
    assert_eq!((clock.calls, clock.errors, clock.times.count(), clock.last), (30, 3, 30, Some(Timestamp(2))));
    assert_eq!(clock.firsts.count(), 3, "and so do those of the beginnings of answers");
    let [half, most] = [0.5, 0.99].map(|part| clock.times.percentile(part).unwrap());
    let apart: Vec<_> =
        [100_u16, 116, 132].map(|b| Histogram::from_bytes(&[b.to_le_bytes().as_slice(), &1_u64.to_le_bytes()].concat())).into();
    assert_eq!((half, most), (apart[1].percentile(1.0).unwrap(), apart[2].percentile(1.0).unwrap()));
    assert_eq!((clock.cpu, clock.memory_mb), (None, None), "what nobody knows is not told");
    assert_eq!((all["worker"].cpu, all["worker"].memory_mb), (Some(Duration::from_millis(750)), Some(12.0)));
}

#[test]
fn a_day_ends_at_midnight_and_old_ones_are_forgotten() {
    let (_folder, state) = opened();
    let midnight = Timestamp((NOON.0 / DAY + 1) * DAY);
    let before = Timestamp(midnight.0 - 1);
    add(&state, before, "clock", used(5, 0, 1, 1));
    add(&state, midnight, "clock", used(7, 0, 1, 2));
    let calls = |at, today| state.usage(at, today).unwrap().get("clock").map(|usage| usage.calls);
    assert_eq!((calls(midnight, true), calls(midnight, false)), (Some(7), Some(12)));
    state.forget(midnight, 2).unwrap();
    assert_eq!(calls(midnight, false), Some(12));
    state.forget(midnight, 1).unwrap();
    assert_eq!((calls(midnight, true), calls(midnight, false)), (Some(7), Some(7)));
    state.forget(Timestamp(midnight.0 + 400 * DAY), 400).unwrap();
    assert_eq!(calls(midnight, false), None);
}

#[test]
fn tokens_are_those_of_their_day_over_restarts_and_programs() {
    let (_folder, path) = place();
    let (here, there) = (State::open(&path).unwrap(), State::open(&path).unwrap());
    here.spend(NOON, 100).unwrap();
    there.spend(NOON, 50).unwrap();
    assert_eq!((here.spent(NOON).unwrap(), there.spent(NOON).unwrap()), (150, 150));
    let tomorrow = Timestamp(NOON.0 + DAY);
    assert_eq!(here.spent(tomorrow).unwrap(), 0);
    here.spend(tomorrow, u64::MAX).unwrap();
    here.spend(tomorrow, u64::MAX).unwrap();
    assert!(State::open(&path).unwrap().spent(tomorrow).unwrap() > 1 << 60);
    assert_eq!(here.spent(NOON).unwrap(), 150);
}
