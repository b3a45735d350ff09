//! A named place that a contribution serves from. Callers hold the slot, never the object behind it, so that a plugin can be
//! stopped or replaced under them.

use std::{
    any::Any,
    fmt,
    future::{Future, poll_fn},
    ops::{Deref, DerefMut},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use bespoke_plugin_api::{BoxStream, CallCx, CancelToken, Code, Contract, Error, Result};
use futures_util::Stream;
use tokio::task::unconstrained;

use crate::{
    clock,
    plugin::{Generation, PluginCell, State},
};

/// The longest a single request may take when neither the caller nor the configuration says otherwise.
pub const DEFAULT_CALL_LIMIT: Duration = Duration::from_secs(120);

/// A contribution by kind and name. Cheap to clone; stays valid while its plugin is restarted or swapped.
pub struct Slot<T: Contract + ?Sized> {
    pub(crate) place: Arc<Place<T>>,
}

pub(crate) struct Place<T: Contract + ?Sized> {
    pub(crate) spec: T::Spec,
    pub(crate) name: String,
    pub(crate) plugin: Arc<PluginCell>,
    pub(crate) serving: ArcSwapOption<Serving<T>>,
}

/// What a slot serves at the moment: an object and the generation that it belongs to.
pub(crate) struct Serving<T: ?Sized> {
    pub(crate) object: Arc<T>,
    pub(crate) generation: Arc<Generation>,
}

impl<T: Contract + ?Sized> Slot<T> {
    /// Name of the contribution, unique within its kind.
    pub fn name(&self) -> &str {
        &self.place.name
    }

    /// Id of the plugin.
    pub fn plugin(&self) -> &str {
        self.place.plugin.id()
    }

    /// What is known of it.
    pub fn spec(&self) -> &T::Spec {
        &self.place.spec
    }

    /// Whether it would serve now.
    pub fn is_ready(&self) -> bool {
        self.place.serving.load().is_some()
    }

    /// Takes the object for a while. The generation behind it is not stopped before the lease is dropped or the drain
    /// deadline passes; a `Duplex` keeps its lease as long as it is open.
    ///
    /// # Errors
    /// `NOT_READY`, with the state of the plugin and why.
    pub fn lease(&self) -> Result<Lease<T>> {
        match self.place.serving.load_full() {
            Some(serving) if serving.generation.enter() => Ok(Lease { serving }),
            _ => Err(self.refusal()),
        }
    }

    #[cold]
    fn refusal(&self) -> Error {
        let plugin = &self.place.plugin;
        if plugin.state() == State::Ready {
            let message = format!("no longer offers the {} `{}`", T::KIND, self.place.name);
            return Error::new(Code::NOT_READY, message).with_plugin(plugin.id());
        }
        plugin.not_ready()
    }

    /// As [`lease`](Self::lease), but waits for a plugin that is just starting, at most until the deadline of the call.
    ///
    /// # Errors
    /// As [`lease`](Self::lease).
    pub async fn lease_ready(&self, cx: &CallCx) -> Result<Lease<T>> {
        if let Ok(lease) = self.lease() {
            return Ok(lease);
        }
        let limit = cx.deadline().map_or(self.place.plugin.call_limit(), |at| clock::now().until(at));
        // Past the limit the second lease says in which state the plugin is.
        let _ = tokio::time::timeout(limit, self.place.plugin.started()).await;
        self.lease()
    }

    /// Makes one request: the same guard for every tier. It holds a lease, bounds the time, cancels what is late, catches a
    /// panic, counts, and stamps the plugin on an error.
    ///
    /// # Errors
    /// `NOT_READY`, `EXECUTION_TIMEOUT`, `PLUGIN_EXCEPTION`, or what the plugin returned.
    pub async fn call<R, F>(&self, cx: &CallCx, request: impl FnOnce(Arc<T>, CallCx) -> F) -> Result<R>
    where
        F: Future<Output = Result<R>> + Send,
    {
        self.call_within(self.place.plugin.call_limit(), cx, request).await.map(Leased::into_inner)
    }

    /// As [`call`](Self::call), for answers that go on living, such as a stream: they keep the lease, and the token of the
    /// call stays uncancelled until they are dropped.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn call_leased<R, F>(&self, cx: &CallCx, request: impl FnOnce(Arc<T>, CallCx) -> F) -> Result<Leased<T, R>>
    where
        F: Future<Output = Result<R>> + Send,
    {
        self.call_within(self.place.plugin.call_limit(), cx, request).await
    }

    /// As [`call`](Self::call), for calls that go on as long as they like, such as `Channel::run`: the same guard, without a
    /// limit of time.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn run<R, F>(&self, cx: &CallCx, request: impl FnOnce(Arc<T>, CallCx) -> F) -> Result<R>
    where
        F: Future<Output = Result<R>> + Send,
    {
        self.call_within(Duration::MAX, cx, request).await.map(Leased::into_inner)
    }

    /// As [`call_leased`](Self::call_leased), with a limit of its own; an earlier deadline of the caller still wins.
    pub(crate) async fn call_within<R, F>(
        &self,
        limit: Duration,
        cx: &CallCx,
        request: impl FnOnce(Arc<T>, CallCx) -> F,
    ) -> Result<Leased<T, R>>
    where
        F: Future<Output = Result<R>> + Send,
    {
        let lease = match self.lease() {
            Ok(lease) => lease,
            // Boxed: the wait is rare, and every call would carry its size.
            Err(_) => Box::pin(self.lease_ready(cx)).await?,
        };
        let plugin = &self.place.plugin;
        let limit = cx.deadline().map_or(limit, |at| clock::now().until(at).min(limit));
        // A token of its own: a call that is late is cancelled alone, its siblings go on.
        let cancel = CancelOnDrop(cx.cancel_token().child());
        let object = lease.serving.object.clone();
        let begun = plugin.metrics().begin();
        let result = match catch_unwind(AssertUnwindSafe(|| request(object, cx.with_cancel(cancel.0.clone())))) {
            Ok(future) => in_time(pin!(future), limit).await,
            Err(panic) => Err(panicked("the call", &*panic)),
        };
        plugin.metrics().end(begun, result.is_err());
        match result {
            Ok(value) => Ok(Leased { value, _cancel: Some(cancel), lease }),
            Err(e) => Err(e.with_plugin(plugin.id())),
        }
    }

    /// Calls a method that returns at once, such as `open`, under the same guard.
    ///
    /// # Errors
    /// As [`call`](Self::call), without a time-out: nothing can stop code that does not return.
    pub fn enter<R>(&self, method: impl FnOnce(&T) -> Result<R>) -> Result<Leased<T, R>> {
        let lease = self.lease()?;
        let plugin = &self.place.plugin;
        let begun = plugin.metrics().begin();
        let result = catch_unwind(AssertUnwindSafe(|| method(&lease))).unwrap_or_else(|panic| Err(panicked("the call", &*panic)));
        plugin.metrics().end(begun, result.is_err());
        result.map(|value| Leased { value, _cancel: None, lease }).map_err(|e| e.with_plugin(plugin.id()))
    }
}

impl<T: Contract + ?Sized> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Slot { place: self.place.clone() }
    }
}

impl<T: Contract + ?Sized> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} of {}", T::KIND, self.place.name, self.place.plugin.id())
    }
}

/// Keeps a generation from being stopped.
pub struct Lease<T: ?Sized> {
    serving: Arc<Serving<T>>,
}

impl<T: ?Sized> Deref for Lease<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.serving.object
    }
}

impl<T: ?Sized> Drop for Lease<T> {
    fn drop(&mut self) {
        self.serving.generation.leave();
    }
}

impl<T: ?Sized> fmt::Debug for Lease<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lease")
    }
}

/// A stream, or whatever else a method returned, together with the lease that keeps its plugin alive. The lease was taken
/// once: frames are bare calls of the value.
pub struct Leased<T: ?Sized, R> {
    // In this order: the value is dropped first, then whoever still works for it is told, then the plugin is let go.
    value: R,
    _cancel: Option<CancelOnDrop>,
    lease: Lease<T>,
}

impl<T: ?Sized, R> Leased<T, R> {
    pub(crate) fn into_inner(self) -> R {
        self.value
    }
}

impl<T: ?Sized, R> Deref for Leased<T, R> {
    type Target = R;

    fn deref(&self) -> &R {
        &self.value
    }
}

impl<T: ?Sized, R> DerefMut for Leased<T, R> {
    fn deref_mut(&mut self) -> &mut R {
        &mut self.value
    }
}

impl<T: ?Sized, R: fmt::Debug> fmt::Debug for Leased<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T: ?Sized, I: Send + 'static> Stream for Leased<T, BoxStream<I>> {
    type Item = Result<I>;

    /// Polls with a net below, and stamps the plugin on an error. After a panic the stream is over.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let polled = catch_unwind(AssertUnwindSafe(|| this.value.as_mut().poll_next(cx)));
        let item = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(item)) => item,
            Err(panic) => {
                this.value = Box::pin(futures_util::stream::empty());
                Some(Err(panicked("the stream", &*panic)))
            }
        };
        Poll::Ready(item.map(|item| item.map_err(|e| e.with_plugin(this.lease.serving.generation.plugin()))))
    }
}

/// Polls a request with a net below and a limit above. Most answers are there at the first poll or soon after it, so the
/// timer is made only when one is not; the time of the first poll does not count, nothing could end it.
async fn in_time<R>(mut future: Pin<&mut (impl Future<Output = Result<R>> + Send)>, limit: Duration) -> Result<R> {
    let mut timer = None;
    poll_fn(|cx| {
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Ready(result)) => return Poll::Ready(result),
            Ok(Poll::Pending) => {}
            Err(panic) => return Poll::Ready(Err(panicked("the call", &*panic))),
        }
        // Unconstrained: a request that uses up its task's budget on every poll is late all the same.
        let timer = timer.get_or_insert_with(|| Box::pin(unconstrained(tokio::time::sleep(limit))));
        timer.as_mut().poll(cx).map(|()| Err(timed_out(limit)))
    })
    .await
}

/// Tells work that outlives its future, such as a working thread, that nobody waits any more.
struct CancelOnDrop(CancelToken);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.give_up();
    }
}

/// The error of a panic. The message goes to the log through the panic hook; here it is told to the caller.
pub(crate) fn panicked(what: &str, panic: &(dyn Any + Send)) -> Error {
    let message = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Error::new(Code::PLUGIN_EXCEPTION, format!("{what} panicked: {}", message.unwrap_or("no message")))
}

pub(crate) fn timed_out(limit: Duration) -> Error {
    Error::new(Code::EXECUTION_TIMEOUT, format!("no answer within {}", shown(limit))).retryable()
}

/// A limit as a person would write it: a deadline leaves fractions that nobody configured.
pub(crate) fn shown(limit: Duration) -> String {
    let ms = limit.as_micros().div_ceil(1000);
    if ms >= 1000 && ms.is_multiple_of(1000) { format!("{} s", ms / 1000) } else { format!("{ms} ms") }
}
