//! The context of one call: deadline, cancellation, progress, session, trace and depth. First argument of every request.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{CancelToken, Cancelled, Code, Error, Hook, Result};

/// How deep plugins may call plugins: A → B → A ends here instead of in a stack overflow.
pub const MAX_DEPTH: u8 = 8;

/// How a guest in wasm looks whether a call on the wire was cancelled while it computes.
#[cfg(target_family = "wasm")]
static LOOK: std::sync::OnceLock<fn(u32) -> bool> = std::sync::OnceLock::new();

/// For the driver of a guest of one thread: with this, [`CallCx::is_cancelled`] looks for the CANCEL of its call. The first one counts.
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub fn look_for_cancels(look: fn(u32) -> bool) {
    let _ = LOOK.set(look);
}

/// A moment on the host's clock: microseconds since the Unix epoch.
///
/// Plugins take it from [`PluginContext::now`](crate::PluginContext::now); the system clock does not exist in every tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// This moment plus `d`, saturating.
    #[must_use]
    pub fn plus(self, d: Duration) -> Self {
        Timestamp(self.0.saturating_add(u64::try_from(d.as_micros()).unwrap_or(u64::MAX)))
    }

    /// How long it is until `later`; zero if that has passed.
    pub fn until(self, later: Timestamp) -> Duration {
        Duration::from_micros(later.0.saturating_sub(self.0))
    }
}

/// What every call carries. Cheap to clone; a plugin that calls on passes it, so that limits and traces go along.
///
/// What changes from call to call stands in the value itself, what seldom does behind one pointer: the guard of a call makes a
/// context with a token and a deadline of its own, and that must not cost an allocation beyond the token.
#[derive(Clone, Default)]
pub struct CallCx {
    cancel: CancelToken,
    deadline: Option<Timestamp>,
    trace: u64,
    /// Hooks that must not fire for calls made under this context: a handler's own calls do not fire its hook.
    quiet: u64,
    depth: u8,
    /// In a guest, the number of the call on the wire, so that the host can tell on whose behalf the plugin asks; 0 elsewhere.
    wire_call: u32,
    rest: Option<Arc<Rest>>,
}

#[derive(Clone, Default)]
struct Rest {
    session: Option<Arc<str>>,
    caller: Option<Arc<str>>,
    progress: Option<Arc<dyn Fn(Value) + Send + Sync>>,
}

impl CallCx {
    /// A context without limits, for the outermost caller.
    pub fn new() -> Self {
        Self::default()
    }

    /// When the caller stops waiting.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.deadline
    }

    /// Whether the caller has gone. Long computations ask between steps.
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled() || self.looked()
    }

    /// A guest of one thread hears of a cancellation while it computes only if it looks for it.
    #[cfg(target_family = "wasm")]
    fn looked(&self) -> bool {
        let told = self.wire_call != 0 && LOOK.get().is_some_and(|look| look(self.wire_call));
        if told {
            self.cancel.cancel();
        }
        told
    }

    /// Where there are threads, whoever cancels is on another one.
    #[cfg(not(target_family = "wasm"))]
    #[allow(clippy::unused_self, reason = "as in wasm")]
    const fn looked(&self) -> bool {
        false
    }

    /// `Err(CANCELLED)` when the caller has gone; for use with `?` between steps.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::cancelled()) } else { Ok(()) }
    }

    /// Completes when the caller has gone.
    pub fn cancelled(&self) -> Cancelled {
        self.cancel.cancelled()
    }

    /// Awaits `work` as long as the caller waits; then it is dropped.
    ///
    /// # Errors
    /// `CANCELLED` when the caller has gone.
    pub async fn unless_cancelled<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        let (mut cancelled, mut work) = (pin!(self.cancelled()), pin!(work));
        poll_fn(|task| {
            if cancelled.as_mut().poll(task).is_ready() {
                return Poll::Ready(Err(Error::cancelled()));
            }
            work.as_mut().poll(task).map(Ok)
        })
        .await
    }

    /// The token behind [`cancelled`](Self::cancelled), for work that outlives the future of the call.
    pub fn cancel_token(&self) -> &CancelToken {
        &self.cancel
    }

    /// Tells the caller how far the work is. Dropped when nobody listens.
    pub fn progress(&self, value: Value) {
        if let Some(progress) = self.rest.as_ref().and_then(|rest| rest.progress.as_ref()) {
            progress(value);
        }
    }

    /// The session on whose behalf the call is made.
    pub fn session(&self) -> Option<&str> {
        self.rest.as_ref()?.session.as_deref()
    }

    /// The plugin that made the call; `None` when the host itself did.
    pub fn caller(&self) -> Option<&str> {
        self.rest.as_ref()?.caller.as_deref()
    }

    /// Groups all calls of one turn in logs.
    pub fn trace(&self) -> u64 {
        self.trace
    }

    /// How many plugins stand between the outermost caller and this call.
    pub fn depth(&self) -> u8 {
        self.depth
    }

    /// The number of the call on the wire that this context belongs to; `None` outside of guests and calls.
    #[doc(hidden)]
    pub fn wire_call(&self) -> Option<u32> {
        Some(self.wire_call).filter(|id| *id != 0)
    }

    /// As the context of that call on the wire.
    #[doc(hidden)]
    #[must_use]
    pub fn with_wire_call(&self, id: u32) -> Self {
        CallCx { wire_call: id, ..self.clone() }
    }

    /// Whether calls under this context may fire `hook`.
    pub fn fires(&self, hook: Hook) -> bool {
        self.quiet & hook.bit() == 0
    }

    /// The context of a call that `caller` makes on behalf of this one: one deeper, cancelled with it, same deadline.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` beyond [`MAX_DEPTH`].
    pub fn nested(&self, caller: &str) -> Result<Self> {
        if self.depth >= MAX_DEPTH {
            return Err(Error::new(Code::RESOURCE_EXHAUSTED, format!("{caller} calls deeper than {MAX_DEPTH} plugins: is there a cycle?")));
        }
        let nested = self.with_rest(|rest| rest.caller = Some(caller.into()));
        Ok(CallCx { depth: self.depth + 1, cancel: self.cancel.child(), ..nested })
    }

    /// With a deadline; an earlier one of the caller stays.
    #[must_use]
    pub fn with_deadline(&self, at: Timestamp) -> Self {
        CallCx { deadline: Some(self.deadline.map_or(at, |d| d.min(at))), ..self.clone() }
    }

    /// With a token of its own.
    #[must_use]
    pub fn with_cancel(&self, token: CancelToken) -> Self {
        CallCx {
            cancel: token,
            deadline: self.deadline,
            trace: self.trace,
            quiet: self.quiet,
            depth: self.depth,
            wire_call: self.wire_call,
            rest: self.rest.clone(),
        }
    }

    /// As a host hands it to a plugin: with a token of its own and that deadline, however it stands to the one before; the host
    /// and its plugins may count on different clocks.
    #[doc(hidden)]
    #[must_use]
    pub fn for_request(&self, token: CancelToken, deadline: Option<Timestamp>) -> Self {
        CallCx { deadline, ..self.with_cancel(token) }
    }

    /// Without a deadline.
    #[doc(hidden)]
    #[must_use]
    pub fn without_deadline(&self) -> Self {
        CallCx { deadline: None, ..self.clone() }
    }

    /// For a session.
    #[must_use]
    pub fn with_session(&self, session: &str) -> Self {
        self.with_rest(|rest| rest.session = Some(session.into()))
    }

    /// With a trace number.
    #[must_use]
    pub fn with_trace(&self, trace: u64) -> Self {
        CallCx { trace, ..self.clone() }
    }

    /// At a depth given by a peer.
    #[must_use]
    pub fn with_depth(&self, depth: u8) -> Self {
        CallCx { depth, ..self.clone() }
    }

    /// With a listener for [`progress`](Self::progress).
    #[must_use]
    pub fn with_progress(&self, f: impl Fn(Value) + Send + Sync + 'static) -> Self {
        self.with_rest(|rest| rest.progress = Some(Arc::new(f)))
    }

    /// Under which `hook` does not fire.
    #[must_use]
    pub fn quieting(&self, hook: Hook) -> Self {
        CallCx { quiet: self.quiet | hook.bit(), ..self.clone() }
    }

    fn with_rest(&self, f: impl FnOnce(&mut Rest)) -> Self {
        let mut rest = self.rest.as_deref().cloned().unwrap_or_default();
        f(&mut rest);
        CallCx { rest: Some(Arc::new(rest)), ..self.clone() }
    }
}

impl fmt::Debug for CallCx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallCx")
            .field("deadline", &self.deadline)
            .field("cancelled", &self.is_cancelled())
            .field("session", &self.session())
            .field("caller", &self.caller())
            .field("trace", &self.trace)
            .field("depth", &self.depth)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_ends_a_cycle() {
        let mut cx = CallCx::new();
        for _ in 0..MAX_DEPTH {
            cx = cx.nested("a").unwrap();
        }
        assert_eq!(cx.nested("a").unwrap_err().code(), Code::RESOURCE_EXHAUSTED);
    }

    #[test]
    fn the_earlier_deadline_wins_and_cancel_goes_down_only() {
        let outer = CallCx::new().with_deadline(Timestamp(5));
        let inner = outer.nested("a").unwrap().with_deadline(Timestamp(9));
        assert_eq!(inner.deadline(), Some(Timestamp(5)));
        inner.cancel_token().cancel();
        assert!(inner.is_cancelled() && !outer.is_cancelled());
    }

    #[test]
    fn work_ends_with_the_call_and_does_not_begin_after_it() {
        let poll = |work: &mut (dyn Future<Output = Result<u8>> + Unpin)| {
            std::pin::Pin::new(work).poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
        };
        let cx = CallCx::new();
        assert_eq!(poll(&mut pin!(cx.unless_cancelled(async { 1 }))), Poll::Ready(Ok(1)));
        let under_way = Arc::new(());
        let held = under_way.clone();
        let mut waits = Box::pin(cx.unless_cancelled(async move {
            std::future::pending::<()>().await;
            drop(held);
            1
        }));
        assert!(poll(&mut waits).is_pending());
        cx.cancel_token().cancel();
        assert_eq!(poll(&mut waits), Poll::Ready(Err(Error::cancelled())));
        drop(waits);
        assert_eq!(Arc::strong_count(&under_way), 1);
        assert_eq!(poll(&mut pin!(cx.unless_cancelled(async { unreachable!() }))), Poll::Ready(Err(Error::cancelled())));
    }
}
