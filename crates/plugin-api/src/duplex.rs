//! Streams with a state: audio or text in, events out, without an allocation per frame. Not for single requests.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures_core::Stream;

use crate::Result;

/// A stateful stream: `I` is pushed, `O` comes out, not necessarily in step. Dropping it discards its state.
///
/// **Invariant:** `push` returns within about a millisecond and borrows its input; heavier work goes through
/// [`PluginContext::blocking`](crate::PluginContext::blocking). Events may arrive late and carry the index of the sample
/// they speak of; a caller drains `poll_next` after each push and never expects "this push, this event".
pub trait Duplex<I: ?Sized, O>: Send {
    /// Whether the stream has room; `Pending` asks the caller to wait (back-pressure).
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Takes one frame. After [`finish`](Self::finish) it is an error.
    fn push(&mut self, item: &I) -> Result<()>;

    /// No more input: what is still inside comes out of `poll_next`, and then `None`. Idempotent.
    fn finish(&mut self) -> Result<()>;

    /// The next event, `Pending` when there is none yet, `None` after the last. After an `Err` the stream is over.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<O>>>;
}

/// Waits for the next event of a stream.
pub async fn next<I: ?Sized, O>(stream: &mut (dyn Duplex<I, O> + '_)) -> Option<Result<O>> {
    poll_fn(|cx| stream.poll_next(cx)).await
}

/// Takes an event that is already there.
pub fn try_next<I: ?Sized, O>(stream: &mut (dyn Duplex<I, O> + '_)) -> Option<Result<O>> {
    match stream.poll_next(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(event) => event,
        Poll::Pending => None,
    }
}

/// A queue between a working thread and a stream: the sending half blocks when full, the receiving half is a `Stream`.
///
/// Dropping the [`Feed`] tells the sender to stop; dropping the sender ends the feed.
pub fn feed<T>(capacity: usize) -> (FeedSender<T>, Feed<T>) {
    let state = State { queue: VecDeque::with_capacity(capacity.min(64)), capacity, waker: None, sender_gone: false, feed_gone: false };
    let shared = Arc::new(Shared { state: Mutex::new(state), room: Condvar::new() });
    (FeedSender(shared.clone()), Feed(shared))
}

struct Shared<T> {
    state: Mutex<State<T>>,
    room: Condvar,
}

struct State<T> {
    queue: VecDeque<Result<T>>,
    capacity: usize,
    waker: Option<Waker>,
    sender_gone: bool,
    feed_gone: bool,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // A panic of the other half leaves a queue that is still consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The working thread's half of [`feed`].
pub struct FeedSender<T>(Arc<Shared<T>>);

/// The feed is gone: stop working.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedClosed;

impl<T> FeedSender<T> {
    /// Sends one item, waiting for room. On wasm, where nobody else could make room, it never waits.
    ///
    /// # Errors
    /// [`FeedClosed`] when the receiver was dropped.
    pub fn send(&self, item: Result<T>) -> std::result::Result<(), FeedClosed> {
        let mut state = self.0.lock();
        while !cfg!(target_family = "wasm") && !state.feed_gone && state.queue.len() >= state.capacity {
            state = self.0.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.feed_gone {
            return Err(FeedClosed);
        }
        state.queue.push_back(item);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Whether the receiver was dropped.
    pub fn is_closed(&self) -> bool {
        self.0.lock().feed_gone
    }
}

impl<T> Drop for FeedSender<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.sender_gone = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The reading half of [`feed`].
pub struct Feed<T>(Arc<Shared<T>>);

impl<T> Feed<T> {
    /// The next item, `None` once the sender is gone and the queue empty.
    pub fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T>>> {
        let mut state = self.0.lock();
        match state.queue.pop_front() {
            Some(item) => {
                drop(state);
                self.0.room.notify_one();
                Poll::Ready(Some(item))
            }
            None if state.sender_gone => Poll::Ready(None),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<T> Stream for Feed<T> {
    type Item = Result<T>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_item(cx)
    }
}

impl<T> Drop for Feed<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.feed_gone = true;
        let rest = std::mem::take(&mut state.queue);
        drop(state);
        drop(rest);
        self.0.room.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_feed_holds_the_sender_until_there_is_room_or_nobody_reads() {
        let (tx, mut rx) = feed::<u32>(1);
        let worker = std::thread::spawn(move || (0..).take_while(|n| tx.send(Ok(*n)).is_ok()).count());
        let mut cx = Context::from_waker(Waker::noop());
        let mut got = Vec::new();
        while got.len() < 3 {
            if let Poll::Ready(Some(Ok(n))) = rx.poll_item(&mut cx) {
                got.push(n);
            }
        }
        assert_eq!(got, [0, 1, 2]);
        drop(rx);
        assert!(worker.join().unwrap() >= 3);
    }

    #[test]
    fn ends_when_the_sender_is_gone() {
        let (tx, mut rx) = feed::<u32>(4);
        tx.send(Ok(7)).unwrap();
        drop(tx);
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(rx.poll_item(&mut cx), Poll::Ready(Some(Ok(7))));
        assert_eq!(rx.poll_item(&mut cx), Poll::Ready(None));
    }
}
