//! What happened, kept in the file, alone and through a host.

use std::sync::Arc;

use bespoke_host::{Config, EventFilter, EventStore, Host, Selection, topics};
use bespoke_plugin_api::{
    Event, Timestamp,
    serde_json::{Value, json},
};
use bespoke_state::State;

use crate::kit::opened;

fn event(number: u64, topic: &str, at: u64, source: Option<&str>, payload: Value) -> Event {
    Event::new(topic, number, Timestamp(at), source.map(str::to_owned), payload)
}

fn filter(change: impl FnOnce(&mut EventFilter)) -> EventFilter {
    let mut filter = EventFilter::default();
    change(&mut filter);
    filter
}

#[test]
fn events_are_found_by_topic_time_source_and_number() {
    let (_folder, state) = opened();
    state
        .append(&[event(1, "plugin_loaded", 10, None, json!({ "plugin": "a" })), event(2, "a.done", 20, Some("a"), json!("\u{0}é"))])
        .unwrap();
    state.append(&[event(3, "a.done", 30, Some("a"), json!(3)), event(4, "ab.done", 40, Some("ab"), json!(null))]).unwrap();
    let again = State::open(state.path()).unwrap();
    for (what, filter, numbers) in [
        ("all", filter(|_| {}), &[1, 2, 3, 4][..]),
        ("by the beginning", filter(|f| f.prefix = "a.".into()), &[2, 3]),
        ("a sign of LIKE is a sign", filter(|f| f.prefix = "a%".into()), &[]),
        ("by plugin", filter(|f| f.source = Some("ab".into())), &[4]),
        ("since", filter(|f| f.since = Some(Timestamp(30))), &[3, 4]),
        ("until", filter(|f| f.until = Some(Timestamp(30))), &[1, 2]),
        ("after", filter(|f| f.after = 3), &[4]),
        ("the newest of many", filter(|f| f.limit = 2), &[3, 4]),
        ("none", filter(|f| f.after = u64::MAX), &[]),
    ] {
        let found: Vec<_> = again.query(&filter).unwrap().into_iter().map(|e| e.seq).collect();
        assert_eq!(found, numbers, "{what}");
    }
    let found = again.query(&filter(|f| f.after = 1)).unwrap().remove(0);
    assert_eq!(found, Event::new("a.done", 2, Timestamp(20), Some("a".into()), json!("\u{0}é")));
}

#[test]
fn old_events_go_and_numbers_go_on() {
    let (_folder, state) = opened();
    let many: Vec<_> = (0..100).map(|n| event(n + 1, "n", n, None, json!(n))).collect();
    state.append(&many).unwrap();
    assert_eq!(state.retain(1000, Timestamp(0)).unwrap(), 0);
    assert_eq!(state.retain(40, Timestamp(0)).unwrap(), 60);
    assert_eq!(state.retain(40, Timestamp(90)).unwrap(), 30);
    let left: Vec<_> = state.query(&EventFilter::default()).unwrap().into_iter().map(|e| e.seq).collect();
    assert_eq!(left, (91..=100).collect::<Vec<_>>());
    assert_eq!(state.retain(0, Timestamp(0)).unwrap(), 10);
    assert_eq!(state.last().unwrap(), 100);
    // What was set aside is not given by another, until it is known that nobody had it; what was added stays behind.
    state.set_aside(5_000).unwrap();
    assert_eq!(State::open(state.path()).unwrap().last().unwrap(), 5_000);
    state.append(&[event(101, "n", 0, None, json!(0))]).unwrap();
    assert_eq!(state.last().unwrap(), 5_000);
    state.set_aside(7).unwrap();
    assert_eq!(state.last().unwrap(), 101);
}

#[test]
fn how_much_there_is_of_what() {
    let (_folder, state) = opened();
    assert_eq!(state.stats().unwrap(), Default::default());
    let lost = |lost: u64| event(lost, topics::EVENTS_LOST, 50, None, json!({ "lost": lost }));
    let others = [event(10, "b", 7, None, json!(1)), event(11, "a", 9, None, json!(1)), event(12, "b", 8, None, json!(1))];
    state.append(&[&others[..], &[lost(3), lost(4)]].concat()).unwrap();
    let stats = state.stats().unwrap();
    assert_eq!((stats.count, stats.oldest, stats.newest, stats.lost), (5, Some(Timestamp(7)), Some(Timestamp(50)), 7));
    let topics: Vec<_> = stats.topics.iter().map(|t| (t.topic.as_str(), t.count, t.last.0)).collect();
    assert_eq!(topics, [("b", 2, 8), (topics::EVENTS_LOST, 2, 50), ("a", 1, 9)]);
}

#[tokio::test]
async fn a_host_keeps_what_happened_and_no_more_than_it_should() {
    let (_folder, state) = opened();
    let run = async |keep: u64| {
        let config = Config::parse("bespoke.toml", &format!("[events]\nkeep = {keep}\n")).unwrap();
        let host = Host::builder().config(config).history(Arc::new(state.clone())).build().unwrap();
        host.start(Selection::All).await;
        for n in 0..1500 {
            host.events().emit("n", None, json!(n));
            if n % 400 == 0 {
                // Less than may wait for the disk: let it write.
                tokio::task::yield_now().await;
            }
        }
        assert!(host.history().is_some());
        host.shutdown().await;
    };
    run(100_000).await;
    let all = state.query(&filter(|f| f.limit = 5000)).unwrap();
    assert_eq!(all.iter().map(|e| e.payload.as_u64().unwrap()).collect::<Vec<_>>(), (0..1500).collect::<Vec<_>>());
    // It looks at what is too old when it begins, and then every thousand events.
    run(10).await;
    assert!(state.stats().unwrap().count <= 10 + 1000, "{:?}", state.stats());
    run(0).await;
    assert_eq!(state.query(&filter(|f| f.limit = 1)).unwrap()[0].payload, json!(1499));
}
