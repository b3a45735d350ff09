//! Things that happened, told to whoever subscribed, and kept for a while. Bounded: a subscriber that is slow loses the oldest and
//! is told how many, and so does one that asks for what is no longer kept.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use bespoke_plugin_api::{BoxStream, Code, Error, Event};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::broadcast;

use crate::clock;

/// Events that a subscriber may be behind before it loses some, and that are kept.
const CAPACITY: usize = 1024;
/// Most bytes of a payload that is kept; of a longer one its length is.
const KEPT_PAYLOAD: usize = 4 * 1024;

/// The bus of one host. Publishing never waits. Clones are the same bus.
#[derive(Clone)]
pub struct Events(Arc<Bus>);

struct Bus {
    sender: broadcast::Sender<Arc<Event>>,
    kept: Mutex<Kept>,
    subscribers: Mutex<Vec<Weak<Subscriber>>>,
}

struct Kept {
    next: u64,
    /// The last ones, oldest first, without gaps.
    list: VecDeque<Arc<Event>>,
}

struct Subscriber {
    prefix: String,
    listener: Option<String>,
    lost: AtomicU64,
}

/// Somebody who listens.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Subscription {
    /// What topics begin with that it hears.
    pub prefix: String,
    /// The plugin that it is; `None` for the program.
    pub listener: Option<String>,
    /// Events that it lost, being too slow.
    pub lost: u64,
}

impl Default for Events {
    fn default() -> Self {
        let kept = Kept { next: 1, list: VecDeque::new() };
        Events(Arc::new(Bus { sender: broadcast::Sender::new(CAPACITY), kept: Mutex::new(kept), subscribers: Mutex::default() }))
    }
}

impl Events {
    /// Tells all subscribers, and keeps it for those that come later. `source` is the plugin, `None` for the host itself.
    pub fn emit(&self, topic: &str, source: Option<&str>, payload: Value) {
        let at = clock::time_of_day();
        let size = size_of(&payload, KEPT_PAYLOAD);
        let mut kept = self.kept();
        let seq = kept.next;
        kept.next += 1;
        let event = |payload| Arc::new(Event::new(topic, seq, at, source.map(str::to_owned), payload));
        let live = self.0.sender.receiver_count() > 0;
        let kept_event = if size <= KEPT_PAYLOAD {
            let event = event(payload);
            if live {
                // An error means that nobody listens any more, which is fine.
                let _ = self.0.sender.send(event.clone());
            }
            event
        } else {
            if live {
                let _ = self.0.sender.send(event(payload));
            }
            event(json!({ "left_out": format!("more than {KEPT_PAYLOAD} bytes") }))
        };
        kept.list.push_back(kept_event);
        let oldest = if kept.list.len() > CAPACITY { kept.list.pop_front() } else { None };
        drop(kept);
        drop(oldest);
    }

    /// Events from now on whose topic begins with `prefix`, except those of `listener` itself.
    pub fn subscribe(&self, prefix: &str, listener: Option<&str>) -> BoxStream<Event> {
        let kept = self.kept();
        let receiver = self.0.sender.subscribe();
        drop(kept);
        self.stream(prefix, listener, VecDeque::new(), 0, receiver)
    }

    /// As [`subscribe`](Self::subscribe), with all after the event number `since` first, as far as they are kept, and without a gap
    /// between those and what happens from now on. What is no longer kept is told as lost.
    pub fn subscribe_since(&self, prefix: &str, listener: Option<&str>, since: u64) -> BoxStream<Event> {
        let kept = self.kept();
        let receiver = self.0.sender.subscribe();
        let (before, lost) = kept.after(since);
        drop(kept);
        self.stream(prefix, listener, before, lost, receiver)
    }

    /// What happened after the event number `since` (0 for everything) and is still kept, oldest first: the last 1024 events, each
    /// with at most 4 KiB of payload.
    pub fn history(&self, prefix: &str, since: u64) -> Vec<Event> {
        let (before, _) = self.kept().after(since);
        before.iter().filter(|event| event.topic.starts_with(prefix)).map(|event| Event::clone(event)).collect()
    }

    /// Who listens now.
    pub fn subscriptions(&self) -> Vec<Subscription> {
        let list = self.0.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        let alive = list.iter().filter_map(Weak::upgrade).map(|s| Subscription {
            prefix: s.prefix.clone(),
            listener: s.listener.clone(),
            lost: s.lost.load(Ordering::Relaxed),
        });
        alive.collect()
    }

    fn stream(
        &self,
        prefix: &str,
        listener: Option<&str>,
        before: VecDeque<Arc<Event>>,
        lost: u64,
        receiver: broadcast::Receiver<Arc<Event>>,
    ) -> BoxStream<Event> {
        let this = Arc::new(Subscriber { prefix: prefix.to_owned(), listener: listener.map(str::to_owned), lost: AtomicU64::new(0) });
        {
            let mut list = self.0.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
            list.retain(|s| s.strong_count() > 0);
            list.push(Arc::downgrade(&this));
        }
        Box::pin(stream::unfold((this, before, lost, receiver), |(this, mut before, mut lost, mut receiver)| async move {
            loop {
                let kept = if lost > 0 { Some(Err(std::mem::take(&mut lost))) } else { before.pop_front().map(Ok) };
                let event = match kept {
                    Some(event) => event,
                    None => match receiver.recv().await {
                        Ok(event) => Ok(event),
                        Err(broadcast::error::RecvError::Lagged(lost)) => Err(lost),
                        Err(broadcast::error::RecvError::Closed) => return None,
                    },
                };
                let item = match event {
                    Ok(event) if !event.topic.starts_with(&this.prefix) => continue,
                    Ok(event) if this.listener.is_some() && event.source == this.listener => continue,
                    Ok(event) => Ok(Event::clone(&event)),
                    Err(lost) => {
                        this.lost.fetch_add(lost, Ordering::Relaxed);
                        let message = format!("{lost} events were lost: the subscriber is too slow");
                        Err(Error::new(Code::RESOURCE_EXHAUSTED, message).retryable())
                    }
                };
                return Some((item, (this, before, lost, receiver)));
            }
        }))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// The events after a number, and how many of those are no longer kept.
    fn after(&self, since: u64) -> (VecDeque<Arc<Event>>, u64) {
        let first = self.next - self.list.len() as u64;
        let wanted = since.saturating_add(1);
        let skipped = usize::try_from(wanted.saturating_sub(first)).unwrap_or(usize::MAX);
        (self.list.iter().skip(skipped).cloned().collect(), first.saturating_sub(wanted))
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
        f.debug_struct("Events").field("next", &self.kept().next).field("subscribers", &self.0.sender.receiver_count()).finish()
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
        assert!(events.subscriptions().is_empty());
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
