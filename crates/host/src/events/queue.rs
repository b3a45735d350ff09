//! What one listener has not heard yet: bounded, and what falls out is counted exactly. Who listens at all is the bus's.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bespoke_plugin_api::{Code, Error, Event, Result};
use futures_util::Stream;
use serde_json::json;

use super::{Bus, Topics};

/// Most bytes of events that wait for one listener; the largest that a plugin may emit fits many times.
const MOST_BYTES: usize = 4 << 20;

/// One listener's queue.
pub(super) struct Queue {
    pub(super) topics: Topics,
    pub(super) listener: Option<String>,
    capacity: usize,
    waiting: Mutex<Waiting>,
    lost: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<(Arc<Event>, usize)>,
    bytes: usize,
    /// Lost since the listener was told last.
    lost: u64,
    waker: Option<Waker>,
    closed: bool,
}

impl Queue {
    pub(super) fn new(topics: Topics, listener: Option<&str>, capacity: usize) -> Self {
        let listener = listener.map(str::to_owned);
        Queue { topics, listener, capacity, waiting: Mutex::default(), lost: AtomicU64::new(0) }
    }

    /// Whether the listener hears it; what it said itself it does not hear.
    pub(super) fn wants(&self, event: &Event) -> bool {
        self.topics.contain(&event.topic) && (self.listener.is_none() || event.source != self.listener)
    }

    /// Adds an event; the oldest go when there is no room. Whoever is to be woken for it comes back: not under a lock.
    pub(super) fn push(&self, event: &Arc<Event>, size: usize) -> Option<Waker> {
        let mut waiting = self.waiting();
        waiting.events.push_back((event.clone(), size));
        waiting.bytes += size;
        while waiting.events.len() > self.capacity || waiting.bytes > MOST_BYTES && waiting.events.len() > 1 {
            let Some((_, size)) = waiting.events.pop_front() else { break };
            waiting.bytes -= size;
            waiting.lost += 1;
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        waiting.waker.take()
    }

    /// Counts events that it can no longer hear.
    pub(super) fn lose(&self, lost: u64) {
        self.waiting().lost += lost;
        self.lost.fetch_add(lost, Ordering::Relaxed);
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Nothing comes any more.
    pub(super) fn close(&self) -> Option<Waker> {
        let mut waiting = self.waiting();
        waiting.closed = true;
        waiting.waker.take()
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody's end of a queue. Dropping it ends the listening.
pub(crate) struct Listener {
    pub(super) queue: Arc<Queue>,
    pub(super) bus: Weak<Bus>,
}

impl Listener {
    /// The next event, or how many were lost before it; `None` when the bus is gone.
    pub(crate) async fn next(&mut self) -> Option<Result<Arc<Event>, u64>> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    /// What is there at once.
    pub(crate) fn next_now(&mut self) -> Option<Result<Arc<Event>, u64>> {
        take(&mut self.queue.waiting())
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Arc<Event>, u64>>> {
        let mut waiting = self.queue.waiting();
        if let Some(next) = take(&mut waiting) {
            return Poll::Ready(Some(next));
        }
        if waiting.closed {
            return Poll::Ready(None);
        }
        let before = waiting.waker.replace(cx.waker().clone());
        drop(waiting);
        // Dropping it may run code of others.
        drop(before);
        Poll::Pending
    }
}

fn take(waiting: &mut Waiting) -> Option<Result<Arc<Event>, u64>> {
    if waiting.lost > 0 {
        return Some(Err(std::mem::take(&mut waiting.lost)));
    }
    let (event, size) = waiting.events.pop_front()?;
    waiting.bytes -= size;
    Some(Ok(event))
}

/// As those see it who only want to read: a loss is an error between two events.
impl Stream for Listener {
    type Item = Result<Event>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(cx).map(|next| {
            next.map(|next| match next {
                Ok(event) => Ok(Event::clone(&event)),
                Err(lost) => {
                    let message = format!("{lost} events were lost: the subscriber is too slow");
                    Err(Error::new(Code::RESOURCE_EXHAUSTED, message).retryable().with_data(json!({ "lost": lost })))
                }
            })
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(bus) = self.bus.upgrade() {
            bus.leave(&self.queue);
        }
    }
}
