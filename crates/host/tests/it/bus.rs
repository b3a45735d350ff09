//! The bus under load: a million events, eight listeners, one of which never looks.

use std::time::Instant;

use bespoke_host::Host;
use bespoke_plugin_api::serde_json::json;
use futures_util::{FutureExt, StreamExt};

use crate::kit::within;

const EVENTS: u64 = 1_000_000;
/// How far a listener may be behind; see the bus.
const CAPACITY: u64 = 1024;

/// What the number at the beginning of an error is.
fn lost(error: &bespoke_plugin_api::Error) -> u64 {
    error.message().split(' ').next().unwrap().parse().unwrap()
}

/// Resident memory of this process in KiB, where the system says.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    text.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse().ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_events_are_heard_in_order_and_what_is_lost_is_counted_exactly() {
    let host = Host::builder().build().unwrap();
    let mut stuck = host.events().subscribe("n", None);
    // Of another topic: what it does not want does not push out what it does.
    let mut rare = host.events().subscribe("rare", None);
    let readers: Vec<_> = (0..7)
        .map(|_| {
            let mut heard = host.events().subscribe("n", None);
            tokio::spawn(async move {
                let (mut next, mut missed, mut seen) = (0, 0, 0);
                while next < EVENTS {
                    match heard.next().await.expect("the bus is there") {
                        Ok(event) => {
                            // Nothing twice, nothing out of order, and what is missing was told before.
                            assert_eq!(event.payload.as_u64(), Some(next));
                            (next, seen) = (next + 1, seen + 1);
                        }
                        Err(error) => {
                            let gap = lost(&error);
                            (next, missed) = (next + gap, missed + gap);
                        }
                    }
                }
                (seen, missed)
            })
        })
        .collect();
    host.events().emit("rare", None, json!("first"));
    let events = host.events().clone();
    let before = resident();
    let emitting = tokio::task::spawn_blocking(move || {
        let begun = Instant::now();
        for n in 0..EVENTS {
            events.emit("n", None, json!(n));
        }
        begun.elapsed()
    });
    let took = tokio::time::timeout(std::time::Duration::from_secs(300), emitting).await.expect("nobody holds it").unwrap();
    let mut heard = 0;
    for reader in readers {
        let (seen, missed) = within(reader).await.unwrap();
        assert_eq!(seen + missed, EVENTS);
        heard += seen;
    }
    let grown = resident().zip(before).map(|(now, before)| now.saturating_sub(before));
    println!(
        "{EVENTS} events in {took:?}, {:.0} ns each; the seven heard {heard} of them; {grown:?} KiB more",
        took.as_nanos() as f64 / EVENTS as f64
    );

    // The one that never looked lost all but the last.
    assert_eq!(lost(&stuck.next().await.unwrap().unwrap_err()), EVENTS - CAPACITY);
    for n in EVENTS - CAPACITY..EVENTS {
        assert_eq!(stuck.next().await.unwrap().unwrap().payload.as_u64(), Some(n));
    }
    assert!(stuck.next().now_or_never().is_none());
    let of_stuck = host.events().subscriptions().into_iter().map(|s| s.lost).max();
    assert_eq!(of_stuck, Some(EVENTS - CAPACITY));
    assert_eq!(rare.next().await.unwrap().unwrap().payload, json!("first"));
    // A queue holds a thousand small events; all of them together are some hundred KiB.
    assert!(grown.is_none_or(|kib| kib < 64 * 1024), "{grown:?} KiB more");
}
