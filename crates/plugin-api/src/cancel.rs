//! Cancellation that needs no runtime: a flag with parents and wakers. Not a task handle; nothing is stopped by force.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

/// Says whether somebody still wants the result. Clones share the flag; a child is cancelled with its parent.
#[derive(Clone, Default)]
pub struct CancelToken(Arc<State>);

#[derive(Default)]
struct State {
    cancelled: AtomicBool,
    parent: Option<CancelToken>,
    wakers: Mutex<Wakers>,
}

#[derive(Default)]
struct Wakers {
    next_key: u64,
    list: Vec<(u64, Waker)>,
}

impl CancelToken {
    /// A token that nobody has cancelled yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A token that is cancelled with this one, and can be cancelled alone.
    #[must_use]
    pub fn child(&self) -> Self {
        CancelToken(Arc::new(State { parent: Some(self.clone()), ..State::default() }))
    }

    /// Cancels this token and its children. Idempotent.
    pub fn cancel(&self) {
        if self.0.cancelled.swap(true, Ordering::AcqRel) {
            return;
        }
        let woken = std::mem::take(&mut self.0.wakers.lock().unwrap_or_else(PoisonError::into_inner).list);
        for (_, waker) in woken {
            waker.wake();
        }
    }

    /// Cancels a token that its owner gives up. As [`cancel`](Self::cancel), but at next to no cost when nobody else has it:
    /// then nobody could tell.
    pub fn give_up(&mut self) {
        if Arc::get_mut(&mut self.0).is_none() {
            self.cancel();
        }
    }

    /// Whether this token or one of its parents is cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.chain().any(|t| t.0.cancelled.load(Ordering::Acquire))
    }

    /// Completes when the token is cancelled; never before.
    pub fn cancelled(&self) -> Cancelled {
        Cancelled { token: self.clone(), keys: Vec::new() }
    }

    fn chain(&self) -> impl Iterator<Item = &CancelToken> {
        std::iter::successors(Some(self), |t| t.0.parent.as_ref())
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken").field("cancelled", &self.is_cancelled()).finish()
    }
}

/// The future of [`CancelToken::cancelled`]. Owns its token, so it can be stored anywhere.
#[derive(Debug)]
pub struct Cancelled {
    token: CancelToken,
    /// One registration per token of the chain, nearest first; empty until first polled.
    keys: Vec<u64>,
}

impl Future for Cancelled {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let first = this.keys.is_empty();
        for (depth, token) in this.token.chain().enumerate() {
            let mut wakers = token.0.wakers.lock().unwrap_or_else(PoisonError::into_inner);
            if first {
                let key = wakers.next_key;
                wakers.next_key += 1;
                wakers.list.push((key, cx.waker().clone()));
                this.keys.push(key);
            } else if let Some((_, waker)) = wakers.list.iter_mut().find(|(key, _)| *key == this.keys[depth]) {
                waker.clone_from(cx.waker());
            }
        }
        // Checked after registering, so a cancel in between is not lost.
        if this.token.is_cancelled() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Cancelled {
    fn drop(&mut self) {
        for (token, key) in self.token.chain().zip(&self.keys) {
            token.0.wakers.lock().unwrap_or_else(PoisonError::into_inner).list.retain(|(k, _)| k != key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_follows_its_parent_and_not_the_other_way_round() {
        let parent = CancelToken::new();
        let (a, b) = (parent.child(), parent.child());
        a.cancel();
        assert!(a.is_cancelled() && !parent.is_cancelled() && !b.is_cancelled());
        parent.cancel();
        assert!(b.is_cancelled());
    }

    #[test]
    fn whoever_still_has_a_token_that_was_given_up_sees_it_cancelled() {
        let mut token = CancelToken::new();
        let (other, child) = (token.clone(), token.child());
        token.give_up();
        assert!(other.is_cancelled() && child.is_cancelled());
    }

    #[test]
    fn wakes_a_waiter_of_a_grandchild_and_forgets_it_on_drop() {
        let root = CancelToken::new();
        let leaf = root.child().child();
        let mut waiting = Box::pin(leaf.cancelled());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(&mut cx).is_pending());
        assert!(waiting.as_mut().poll(&mut cx).is_pending());
        assert_eq!(root.0.wakers.lock().unwrap().list.len(), 1);
        root.cancel();
        assert!(waiting.as_mut().poll(&mut cx).is_ready());
        drop(waiting);
        assert!(root.0.wakers.lock().unwrap().list.is_empty());
    }
}
