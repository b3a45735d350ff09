//! One call on its way: sent at once, awaited as a future, cancelled when that is dropped.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

use bespoke_plugin_api::{CallCx, Error, Inbox, Output, Result, serde_json::Value};
use bespoke_protocol::{Body, CxHead, Frame, Kind, Lane, OutputHead, flag, put_call, read_reply};

use crate::inner::{Inner, Waiting};

/// What a call may ask of its caller while it runs.
#[derive(Default)]
pub(crate) struct Company {
    pub(crate) output: Option<Output>,
    pub(crate) inbox: Option<Inbox>,
}

impl Inner {
    /// Makes a call and waits for its answer.
    ///
    /// Cancelling `cx` tells the guest and goes on waiting, as a compiled-in plugin would be waited for; dropping the future
    /// tells the guest to drop the call.
    pub(crate) async fn call<A: Body, R: Body>(self: &Arc<Self>, cx: &CallCx, method: &str, name: &str, args: &A) -> Result<R> {
        self.call_with(cx, method, name, args, Company::default()).await
    }

    /// The same for calls that speak while they run.
    pub(crate) async fn call_with<A: Body, R: Body>(
        self: &Arc<Self>,
        cx: &CallCx,
        method: &str,
        name: &str,
        args: &A,
        company: Company,
    ) -> Result<R> {
        let slot = Arc::new(CallSlot { state: Mutex::default(), cx: cx.clone(), company });
        let pending = Pending { inner: self.clone(), id: self.register(slot.clone()) };
        let mut frame = Vec::new();
        let head = CxHead::of(cx);
        put_call(&mut frame, Kind::CALL, pending.id, method, name, &head, args)?;
        self.send(Lane::Control, &frame).inspect_err(|_| {
            // It was not sent: there is nothing to cancel.
            self.forget(pending.id);
        })?;
        drop(frame);

        // By what the guest was told, not by what is true now: the caller may have gone while the frame was on its way.
        let mut cancelled = (!head.cancelled).then(|| cx.cancelled());
        poll_fn(|task| {
            if let Some(result) = slot.take(task.waker()) {
                return Poll::Ready(result);
            }
            if cancelled.as_mut().is_some_and(|c| Pin::new(c).poll(task).is_ready()) {
                cancelled = None;
                self.post_plain(Kind::CANCEL, 0, pending.id);
            }
            Poll::Pending
        })
        .await
    }
}

/// Tells the guest when nobody waits any more.
struct Pending {
    inner: Arc<Inner>,
    id: u32,
}

impl Drop for Pending {
    fn drop(&mut self) {
        // Whoever has been answered is no longer in the table.
        if self.inner.forget(self.id) {
            self.inner.post_plain(Kind::CANCEL, flag::ABANDONED, self.id);
        }
    }
}

struct CallSlot<R> {
    state: Mutex<CallState<R>>,
    cx: CallCx,
    company: Company,
}

struct CallState<R> {
    result: Option<Result<R>>,
    waker: Option<Waker>,
}

impl<R> Default for CallState<R> {
    fn default() -> Self {
        CallState { result: None, waker: None }
    }
}

impl<R> CallSlot<R> {
    fn state(&self) -> MutexGuard<'_, CallState<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, waker: &Waker) -> Option<Result<R>> {
        let mut state = self.state();
        let result = state.result.take();
        if result.is_none() {
            state.waker = Some(waker.clone());
        }
        result
    }

    fn fill(&self, result: Result<R>) {
        let waker = {
            let mut state = self.state();
            state.result = Some(result);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<R: Body> Waiting for CallSlot<R> {
    fn reply(&self, frame: &Frame<'_>, forget: &dyn Fn()) {
        let result = read_reply(frame);
        forget();
        self.fill(result);
    }

    fn event(&self, _frame: &Frame<'_>) -> Result<()> {
        Err(Error::invalid_params("an event for a call that is no stream"))
    }

    fn end(&self, result: Result<()>) {
        self.fill(Err(result.err().unwrap_or_else(|| Error::internal("the guest ended a call without an answer"))));
    }

    fn progress(&self, value: Value) {
        self.cx.progress(value);
    }

    fn output(&self, line: OutputHead) {
        match (&self.company.output, line) {
            (Some(out), OutputHead::Line(text)) => out.line(&text),
            (Some(out), OutputHead::Note(text)) => out.note(&text),
            (None, _) => {}
        }
    }

    fn cx(&self) -> Option<CallCx> {
        Some(self.cx.clone())
    }

    fn inbox(&self) -> Option<Inbox> {
        self.company.inbox.clone()
    }
}
