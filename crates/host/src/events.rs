//! Things that happened, told to whoever subscribed. Bounded: a subscriber that is slow loses the oldest and is told how many.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use bespoke_plugin_api::{BoxStream, Code, Error, Event};
use futures_util::stream;
use serde_json::Value;
use tokio::sync::broadcast;

use crate::clock;

/// Events that a subscriber may be behind before it loses some.
const CAPACITY: usize = 1024;

/// The bus of one host. Publishing never waits.
pub struct Events {
    sender: broadcast::Sender<Event>,
    next: AtomicU64,
}

impl Default for Events {
    fn default() -> Self {
        Events { sender: broadcast::Sender::new(CAPACITY), next: AtomicU64::new(1) }
    }
}

impl Events {
    /// Tells all subscribers. `source` is the plugin, `None` for the host itself.
    pub fn emit(&self, topic: &str, source: Option<&str>, payload: Value) {
        if self.sender.receiver_count() == 0 {
            self.next.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let seq = self.next.fetch_add(1, Ordering::Relaxed);
        // An error means that nobody listens any more, which is fine.
        let _ = self.sender.send(Event::new(topic, seq, clock::time_of_day(), source.map(str::to_owned), payload));
    }

    /// Events from now on whose topic begins with `prefix`, except those of `listener` itself.
    pub fn subscribe(&self, prefix: &str, listener: Option<&str>) -> BoxStream<Event> {
        let (prefix, listener) = (prefix.to_owned(), listener.map(str::to_owned));
        let receiver = self.sender.subscribe();
        Box::pin(stream::unfold((receiver, prefix, listener), |(mut receiver, prefix, listener)| async move {
            loop {
                let item = match receiver.recv().await {
                    Ok(event) if !event.topic.starts_with(&prefix) => continue,
                    Ok(event) if listener.is_some() && event.source == listener => continue,
                    Ok(event) => Ok(event),
                    Err(broadcast::error::RecvError::Lagged(lost)) => {
                        Err(Error::new(Code::RESOURCE_EXHAUSTED, format!("{lost} events were lost: the subscriber is too slow"))
                            .retryable())
                    }
                    Err(broadcast::error::RecvError::Closed) => return None,
                };
                return Some((item, (receiver, prefix, listener)));
            }
        }))
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("next", &self.next).field("subscribers", &self.sender.receiver_count()).finish()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use serde_json::json;

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
    async fn a_slow_subscriber_is_told_what_it_lost() {
        let events = Events::default();
        let mut heard = events.subscribe("", None);
        for n in 0..CAPACITY + 5 {
            events.emit("n", None, json!(n));
        }
        assert!(heard.next().await.unwrap().unwrap_err().message().starts_with("5 events were lost"));
        assert_eq!(heard.next().await.unwrap().unwrap().payload, json!(5));
    }
}
