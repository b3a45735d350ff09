//! The context of one call: deadline, cancellation, progress, session, trace and depth. First argument of every request.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{CancelToken, Cancelled, Code, Error, Hook, Result};

/// How deep plugins may call plugins: A → B → A ends here instead of in a stack overflow.
pub const MAX_DEPTH: u8 = 8;

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
#[derive(Clone)]
pub struct CallCx(Arc<Inner>);

#[derive(Clone, Default)]
struct Inner {
    cancel: CancelToken,
    deadline: Option<Timestamp>,
    session: Option<Arc<str>>,
    caller: Option<Arc<str>>,
    trace: u64,
    depth: u8,
    /// Hooks that must not fire for calls made under this context: a handler's own calls do not fire its hook.
    quiet: u64,
    progress: Option<Arc<dyn Fn(Value) + Send + Sync>>,
}

impl CallCx {
    /// A context without limits, for the outermost caller.
    pub fn new() -> Self {
        CallCx(Arc::default())
    }

    /// When the caller stops waiting.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.0.deadline
    }

    /// Whether the caller has gone. Long computations ask between steps.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancel.is_cancelled()
    }

    /// `Err(CANCELLED)` when the caller has gone; for use with `?` between steps.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::cancelled()) } else { Ok(()) }
    }

    /// Completes when the caller has gone.
    pub fn cancelled(&self) -> Cancelled {
        self.0.cancel.cancelled()
    }

    /// The token behind [`cancelled`](Self::cancelled), for work that outlives the future of the call.
    pub fn cancel_token(&self) -> &CancelToken {
        &self.0.cancel
    }

    /// Tells the caller how far the work is. Dropped when nobody listens.
    pub fn progress(&self, value: Value) {
        if let Some(progress) = &self.0.progress {
            progress(value);
        }
    }

    /// The session on whose behalf the call is made.
    pub fn session(&self) -> Option<&str> {
        self.0.session.as_deref()
    }

    /// The plugin that made the call; `None` when the host itself did.
    pub fn caller(&self) -> Option<&str> {
        self.0.caller.as_deref()
    }

    /// Groups all calls of one turn in logs.
    pub fn trace(&self) -> u64 {
        self.0.trace
    }

    /// How many plugins stand between the outermost caller and this call.
    pub fn depth(&self) -> u8 {
        self.0.depth
    }

    /// Whether calls under this context may fire `hook`.
    pub fn fires(&self, hook: Hook) -> bool {
        self.0.quiet & hook.bit() == 0
    }

    /// The context of a call that `caller` makes on behalf of this one: one deeper, cancelled with it, same deadline.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` beyond [`MAX_DEPTH`].
    pub fn nested(&self, caller: &str) -> Result<Self> {
        if self.0.depth >= MAX_DEPTH {
            return Err(Error::new(Code::RESOURCE_EXHAUSTED, format!("{caller} calls deeper than {MAX_DEPTH} plugins: is there a cycle?")));
        }
        Ok(self.map(|inner| {
            inner.depth += 1;
            inner.caller = Some(caller.into());
            inner.cancel = self.0.cancel.child();
        }))
    }

    /// With a deadline; an earlier one of the caller stays.
    #[must_use]
    pub fn with_deadline(&self, at: Timestamp) -> Self {
        self.map(|inner| inner.deadline = Some(inner.deadline.map_or(at, |d| d.min(at))))
    }

    /// With a token of its own.
    #[must_use]
    pub fn with_cancel(&self, token: CancelToken) -> Self {
        self.map(|inner| inner.cancel = token)
    }

    /// For a session.
    #[must_use]
    pub fn with_session(&self, session: &str) -> Self {
        self.map(|inner| inner.session = Some(session.into()))
    }

    /// With a trace number.
    #[must_use]
    pub fn with_trace(&self, trace: u64) -> Self {
        self.map(|inner| inner.trace = trace)
    }

    /// At a depth given by a peer.
    #[must_use]
    pub fn with_depth(&self, depth: u8) -> Self {
        self.map(|inner| inner.depth = depth)
    }

    /// With a listener for [`progress`](Self::progress).
    #[must_use]
    pub fn with_progress(&self, f: impl Fn(Value) + Send + Sync + 'static) -> Self {
        self.map(|inner| inner.progress = Some(Arc::new(f)))
    }

    /// Under which `hook` does not fire.
    #[must_use]
    pub fn quieting(&self, hook: Hook) -> Self {
        self.map(|inner| inner.quiet |= hook.bit())
    }

    fn map(&self, f: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = Inner::clone(&self.0);
        f(&mut inner);
        CallCx(Arc::new(inner))
    }
}

impl Default for CallCx {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for CallCx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallCx")
            .field("deadline", &self.0.deadline)
            .field("cancelled", &self.is_cancelled())
            .field("session", &self.0.session)
            .field("caller", &self.0.caller)
            .field("trace", &self.0.trace)
            .field("depth", &self.0.depth)
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
}
