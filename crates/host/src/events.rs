//! Things that happened, told to whoever listens, and kept for a while. Bounded: a listener that is slow loses the oldest and is told
//! how many, and so does one that asks for what is no longer kept. What is kept for longer is `history`.

mod history;
mod queue;
pub mod topics;

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::Waker,
};

use bespoke_plugin_api::{BoxStream, Event};
use serde_json::{Value, json};

use self::queue::Queue;
use crate::{clock, workflow::Open};

pub(crate) use self::{history::History, queue::Listener};
pub use self::{
    history::{EventFilter, EventStats, EventStore, EventsConfig, TopicStats},
    topics::Topics,
};

/// Events that a listener may be behind before it loses some, and that are kept.
const CAPACITY: usize = 1024;
/// Most bytes of a payload that is kept; of a longer one its length is.
const KEPT_PAYLOAD: usize = 4 * 1024;
/// Payloads are measured up to here.
const MEASURED: usize = 1 << 20;

/// The bus of one host. Telling never waits. Clones are the same bus.
#[derive(Clone)]
pub struct Events(Arc<Bus>);

struct Bus {
    kept: Mutex<Kept>,
    /// How many listen: looked at before anything is built.
    heard: AtomicUsize,
    /// Turns that are told of and not over.
    open: Open,
}

struct Kept {
    next: u64,
    /// The number of the first event of this run.
    first: u64,
    /// The last ones, oldest first, without gaps.
    list: VecDeque<Arc<Event>>,
    listeners: Vec<Arc<Queue>>,
}

/// Somebody who listens.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Subscription {
    /// The topics that it hears, as [`Topics`] are written.
    pub topics: String,
    /// The plugin that it is; `None` for the program.
    pub listener: Option<String>,
    /// Events that it lost, being too slow.
    pub lost: u64,
}

impl Default for Events {
    fn default() -> Self {
        let kept = Kept { next: 1, first: 1, list: VecDeque::new(), listeners: Vec::new() };
        Events(Arc::new(Bus { kept: Mutex::new(kept), heard: AtomicUsize::new(0), open: Open::default() }))
    }
}

impl Events {
    /// Tells all listeners, and keeps it for those that come later. `source` is the plugin, `None` for the host itself. Answers with its
    /// number.
    pub fn emit(&self, topic: &str, source: Option<&str>, payload: Value) -> u64 {
        let size = topic.len() + size_of(&payload, MEASURED);
        let mut event = Event::new(topic, 0, clock::time_of_day(), source.map(str::to_owned), payload);
        let mut woken: Vec<Waker> = Vec::new();
        let mut kept = self.0.kept();
        let seq = kept.next;
        event.seq = seq;
        kept.next += 1;
        let event = Arc::new(event);
        // One after the other under one lock: all hear the same order.
        for queue in kept.listeners.iter().filter(|queue| queue.wants(&event)) {
            woken.extend(queue.push(&event, size));
        }
        let small = if size <= KEPT_PAYLOAD + topic.len() {
            event
        } else {
            let payload = json!({ "left_out": format!("more than {KEPT_PAYLOAD} bytes") });
            Arc::new(Event::new(topic, event.seq, event.at, event.source.clone(), payload))
        };
        kept.list.push_back(small);
        let oldest = if kept.list.len() > CAPACITY { kept.list.pop_front() } else { None };
        drop(kept);
        drop(oldest);
        woken.into_iter().for_each(Waker::wake);
        seq
    }

    /// Numbers go on after this one, those that were given already with them: nobody has heard of them yet.
    pub(crate) fn go_on_after(&self, last: u64) {
        let mut kept = self.0.kept();
        kept.first += last;
        kept.next += last;
        for event in &mut kept.list {
            let mut renumbered = Event::clone(event);
            renumbered.seq += last;
            *event = Arc::new(renumbered);
        }
    }

    /// As [`emit`](Self::emit), for what happens all the time: it is not even built, and not kept, while nobody listens.
    #[inline]
    pub fn tell(&self, topic: &str, payload: impl FnOnce() -> Value) {
        if self.is_heard() {
            self.emit(topic, None, payload());
        }
    }

    pub(crate) fn open(&self) -> &Open {
        &self.0.open
    }

    /// Whether anybody listens.
    #[inline]
    pub fn is_heard(&self) -> bool {
        self.0.heard.load(Ordering::Relaxed) > 0
    }

    /// Events from now on whose topic begins with `prefix`, except those of `listener` itself.
    pub fn subscribe(&self, prefix: &str, listener: Option<&str>) -> BoxStream<Event> {
        Box::pin(self.listen(Topics::beginning(prefix), listener, None, CAPACITY))
    }

    /// As [`subscribe`](Self::subscribe), with all after the event number `since` first, as far as they are kept, and without a gap
    /// between those and what happens from now on. What is no longer kept is told as lost.
    pub fn subscribe_since(&self, prefix: &str, listener: Option<&str>, since: u64) -> BoxStream<Event> {
        Box::pin(self.listen(Topics::beginning(prefix), listener, Some(since), CAPACITY))
    }

    pub(crate) fn listen(&self, topics: Topics, listener: Option<&str>, since: Option<u64>, capacity: usize) -> Listener {
        let queue = Arc::new(Queue::new(topics, listener, capacity));
        let mut kept = self.0.kept();
        if let Some(since) = since {
            let (before, lost) = kept.after(since);
            queue.lose(lost);
            for event in before.iter().filter(|event| queue.wants(event)) {
                queue.push(event, event.topic.len() + size_of(&event.payload, MEASURED));
            }
        }
        kept.listeners.push(queue.clone());
        self.0.heard.store(kept.listeners.len(), Ordering::Relaxed);
        drop(kept);
        Listener { queue, bus: Arc::downgrade(&self.0) }
    }

    /// What happened after the event number `since` (0 for everything) and is still kept, oldest first: the last 1024 events, each
    /// with at most 4 KiB of payload.
    pub fn history(&self, prefix: &str, since: u64) -> Vec<Event> {
        let (before, _) = self.0.kept().after(since);
        before.iter().filter(|event| event.topic.starts_with(prefix)).map(|event| Event::clone(event)).collect()
    }

    /// Who listens now.
    pub fn subscriptions(&self) -> Vec<Subscription> {
        let kept = self.0.kept();
        let listeners = kept.listeners.iter().map(|queue| Subscription {
            topics: queue.topics.to_string(),
            listener: queue.listener.clone(),
            lost: queue.lost(),
        });
        listeners.collect()
    }
}

impl Bus {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One listens no more.
    fn leave(&self, queue: &Arc<Queue>) {
        let mut kept = self.kept();
        kept.listeners.retain(|other| !Arc::ptr_eq(other, queue));
        self.heard.store(kept.listeners.len(), Ordering::Relaxed);
    }
}

/// Listeners that are left hear the end.
impl Drop for Bus {
    fn drop(&mut self) {
        let kept = self.kept.get_mut().unwrap_or_else(PoisonError::into_inner);
        let woken: Vec<_> = kept.listeners.iter().filter_map(|queue| queue.close()).collect();
        woken.into_iter().for_each(Waker::wake);
    }
}

impl Kept {
    /// The events after a number, and how many of those are no longer kept.
    fn after(&self, since: u64) -> (VecDeque<Arc<Event>>, u64) {
        let first = self.next - self.list.len() as u64;
        let wanted = since.saturating_add(1);
        let skipped = usize::try_from(wanted.saturating_sub(first)).unwrap_or(usize::MAX);
        // Those of runs before this one are nowhere but in the history.
        (self.list.iter().skip(skipped).cloned().collect(), first.saturating_sub(wanted.max(self.first)))
    }
}

/// About how many bytes a payload has as text, counted no further than a little past `most`.
fn size_of(value: &Value, most: usize) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(items) => sum(items.iter().map(|item| (0, item)), most),
        Value::Object(fields) => sum(fields.iter().map(|(key, value)| (key.len() + 3, value)), most),
        _ => 8,
    }
}

fn sum<'v>(items: impl Iterator<Item = (usize, &'v Value)>, most: usize) -> usize {
    let mut size = 2;
    for (more, item) in items {
        size += more + 1 + size_of(item, most);
        if size > most {
            break;
        }
    }
    size
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.0.kept();
        f.debug_struct("Events").field("next", &kept.next).field("listeners", &kept.listeners.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    #[tokio::test]
    async fn a_subscriber_hears_its_prefix_but_not_itself() {
        let events = Events::default();
        let mut heard = events.subscribe("a.", Some("me"));
        events.emit("a.one", Some("me"), json!(1));
        events.emit("b.two", None, json!(2));
        events.emit("a.three", Some("you"), json!(3));
        let event = heard.next().await.unwrap().unwrap();
        assert_eq!((event.topic.as_str(), event.seq, event.source.as_deref()), ("a.three", 3, Some("you")));
    }

    #[tokio::test]
    async fn a_slow_subscriber_is_told_what_it_lost_and_so_is_whoever_asks() {
        let events = Events::default();
        let mut heard = events.subscribe("", None);
        for n in 0..CAPACITY + 5 {
            events.emit("n", None, json!(n));
        }
        assert!(heard.next().await.unwrap().unwrap_err().message().starts_with("5 events were lost"));
        assert_eq!(heard.next().await.unwrap().unwrap().payload, json!(5));
        let subscriptions = events.subscriptions();
        assert_eq!((subscriptions.len(), subscriptions[0].lost), (1, 5));
        drop(heard);
        assert!(events.subscriptions().is_empty() && !events.is_heard());
    }

    #[tokio::test]
    async fn what_is_not_for_a_listener_does_not_push_out_what_is() {
        let events = Events::default();
        let mut heard = events.subscribe("rare", None);
        events.emit("rare", None, json!(1));
        for n in 0..3 * CAPACITY {
            events.emit("frequent", None, json!(n));
        }
        assert_eq!(heard.next().await.unwrap().unwrap().payload, json!(1));
        drop(events);
        assert!(heard.next().await.is_none(), "with the bus its listeners end");
    }

    #[tokio::test]
    async fn large_events_push_out_others_before_there_are_many() {
        let events = Events::default();
        let mut heard = events.subscribe("", None);
        let large = json!("x".repeat(1 << 16));
        for _ in 0..100 {
            events.emit("large", None, large.clone());
        }
        let lost = heard.next().await.unwrap().unwrap_err();
        let left = std::iter::from_fn(|| futures_util::FutureExt::now_or_never(heard.next())).count();
        assert_eq!((lost.message(), left), ("37 events were lost: the subscriber is too slow", 63));
    }

    #[test]
    fn what_happens_all_the_time_is_not_built_for_nobody() {
        let events = Events::default();
        events.tell("n", || panic!("built for nobody"));
        assert!(events.history("", 0).is_empty());
        let _heard = events.subscribe("other", None);
        events.tell("n", || json!(1));
        assert_eq!(events.history("", 0).len(), 1);
    }

    #[tokio::test]
    async fn what_happened_is_kept_and_goes_on_without_a_gap() {
        let events = Events::default();
        for n in 1..=4 {
            events.emit(if n % 2 == 0 { "even" } else { "odd" }, None, json!(n));
        }
        let numbers = |events: Vec<Event>| events.into_iter().map(|e| e.seq).collect::<Vec<_>>();
        assert_eq!(numbers(events.history("", 0)), [1, 2, 3, 4]);
        assert_eq!(numbers(events.history("even", 2)), [4]);
        assert!(events.history("", 4).is_empty() && events.history("", u64::MAX).is_empty());

        let heard = events.subscribe_since("", None, 1);
        events.emit("odd", None, json!(5));
        let heard: Vec<_> = heard.take(4).map(|e| e.unwrap().seq).collect().await;
        assert_eq!(heard, [2, 3, 4, 5]);
    }

    #[tokio::test]
    async fn what_is_no_longer_kept_is_told_as_lost() {
        let events = Events::default();
        for n in 0..CAPACITY + 10 {
            events.emit("n", None, json!(n));
        }
        assert_eq!(events.history("", 0).len(), CAPACITY);
        let mut heard = events.subscribe_since("", None, 3);
        assert!(heard.next().await.unwrap().unwrap_err().message().starts_with("7 events were lost"));
        assert_eq!(heard.next().await.unwrap().unwrap().seq, 11);
    }

    #[tokio::test]
    async fn a_large_payload_is_heard_whole_and_not_kept() {
        let events = Events::default();
        let mut heard = events.subscribe("", None);
        let large = json!({ "text": ["x".repeat(KEPT_PAYLOAD)] });
        events.emit("large", None, large.clone());
        events.emit("small", None, json!({ "text": "x".repeat(KEPT_PAYLOAD - 100) }));
        assert_eq!(heard.next().await.unwrap().unwrap().payload, large);
        let kept = events.history("", 0);
        assert_eq!(kept[0].payload, json!({ "left_out": "more than 4096 bytes" }));
        assert_eq!(kept[1].payload["text"].as_str().unwrap().len(), KEPT_PAYLOAD - 100);
    }
}
