//! A named place that a contribution serves from. Callers hold the slot, never the object behind it, so that a plugin can be
//! stopped or replaced under them.

use std::{
    any::Any,
    fmt,
    future::{Future, pending, poll_fn},
    ops::{Deref, DerefMut},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use bespoke_plugin_api::{BoxFuture, BoxStream, CallCx, CancelToken, Code, Contract, Duplex, Error, Result};
use futures_util::Stream;
use tokio::{
    sync::oneshot,
    task::{JoinHandle, unconstrained},
};

use crate::{candidate::State, clock, generation::Generation, plugin::PluginCell};

/// The longest a single request may take when neither the caller nor the configuration says otherwise.
pub const DEFAULT_CALL_LIMIT: Duration = Duration::from_secs(120);

/// How long code that was told to stop may take to yield before it counts as blocking its thread.
const GRACE: Duration = Duration::from_millis(500);
/// Calls of one plugin that may block their threads before it gets no more: each of them holds a thread until it returns.
const MOST_BLOCKED: usize = 8;

/// A contribution by kind and name. Cheap to clone; stays valid while its plugin is restarted or swapped.
pub struct Slot<T: Contract + ?Sized> {
    pub(crate) place: Arc<Place<T>>,
}

pub(crate) struct Place<T: Contract + ?Sized> {
    pub(crate) spec: T::Spec,
    pub(crate) name: String,
    pub(crate) plugin: Arc<PluginCell>,
    pub(crate) serving: ArcSwapOption<Serving<T>>,
    /// Where its name is served now that another plugin has it.
    pub(crate) moved: ArcSwapOption<Place<T>>,
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

    /// Whether it would serve now. One that rests would: its call starts it.
    pub fn is_ready(&self) -> bool {
        self.place.serving.load().is_some() || self.place.plugin.rests() || self.moved().is_some_and(|slot| slot.is_ready())
    }

    /// Whether it serves, or its plugin is about to: it starts, or another instance takes its place.
    pub fn is_expected(&self) -> bool {
        self.is_ready() || self.place.plugin.is_up()
    }

    /// The slot that its name has now, if another plugin took it over.
    fn moved(&self) -> Option<Slot<T>> {
        let mut place = self.place.moved.load_full()?;
        // As often as plugins took each other's places. The next look takes one step.
        while let Some(next) = place.moved.load_full() {
            self.place.moved.store(Some(next.clone()));
            place = next;
        }
        Some(Slot { place })
    }

    pub(crate) fn cell(&self) -> &Arc<PluginCell> {
        &self.place.plugin
    }

    /// Takes the object for a while. The generation behind it is not stopped before the lease is dropped or the drain
    /// deadline passes; a `Duplex` keeps its lease as long as it is open.
    ///
    /// # Errors
    /// `NOT_READY`, with the state of the plugin and why.
    pub fn lease(&self) -> Result<Lease<T>> {
        let mut serving = self.place.serving.load_full();
        loop {
            match serving {
                Some(serving) if serving.generation.enter() => {
                    let generation = serving.generation.clone();
                    return Ok(Lease { serving: Some(serving), generation });
                }
                Some(old) => {
                    // It drains. If another took its place between our two looks, that one serves us.
                    let now = self.place.serving.load_full();
                    if now.as_ref().is_some_and(|now| Arc::ptr_eq(now, &old)) {
                        return Err(self.refusal());
                    }
                    serving = now;
                }
                None => return self.moved().map_or_else(|| Err(self.refusal()), |slot| slot.lease()),
            }
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

    /// As [`lease`](Self::lease), but waits for a plugin that is just starting or being replaced, at most until the deadline of
    /// the call.
    ///
    /// # Errors
    /// As [`lease`](Self::lease).
    pub async fn lease_ready(&self, cx: &CallCx) -> Result<Lease<T>> {
        if let Ok(lease) = self.lease() {
            return Ok(lease);
        }
        if let Some(moved) = self.moved() {
            return Box::pin(moved.lease_ready(cx)).await;
        }
        let limit = cx.deadline().map_or(self.place.plugin.call_limit(), |at| clock::now().until(at));
        let plugin = &self.place.plugin;
        let waiting = async {
            loop {
                plugin.wake();
                plugin.started().await;
                let swaps = plugin.swaps();
                match self.lease() {
                    // Another took its name meanwhile, and may be starting itself.
                    Err(_) if let Some(moved) = self.moved() => return Box::pin(moved.lease_ready(cx)).await,
                    // It is being replaced again, or was between our looks: the next instance is not far.
                    Err(_) if self.is_ready() || plugin.rests() || plugin.state() == State::Starting || plugin.swaps() != swaps => {
                        tokio::task::yield_now().await;
                    }
                    lease => return lease,
                }
            }
        };
        // Past the limit one more look says in which state the plugin is.
        tokio::time::timeout(limit, waiting).await.unwrap_or_else(|_| self.lease())
    }

    /// Makes one request: the same guard for every tier. It holds a lease, bounds the time, cancels what is late, catches a
    /// panic, counts, and stamps the plugin on an error. The plugin sees the limit as the deadline of its context.
    ///
    /// The plugin's code runs on the caller's own task: one that blocks inside a poll blocks the caller.
    /// [`call_apart`](Self::call_apart) does not.
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
    /// limit of time. Its token is cancelled also when its plugin is about to be stopped or replaced, which would wait for it.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn run<R, F>(&self, cx: &CallCx, request: impl FnOnce(Arc<T>, CallCx) -> F) -> Result<R>
    where
        F: Future<Output = Result<R>> + Send,
    {
        let (lease, limit) = self.admitted(Duration::MAX, cx).await?;
        let (generation, cancel) = (lease.generation.clone(), cx.cancel_token().child());
        let told = cancel.clone();
        let going = async {
            generation.drains().await;
            told.cancel();
            pending().await
        };
        tokio::select! {
            biased;
            result = guarded(lease, cancel, limit, cx, request) => result.map(Leased::into_inner),
            never = going => never,
        }
    }

    /// As [`call`](Self::call), on a task of its own, so that the limit holds for the caller even against code that blocks
    /// inside a poll. Such code is left behind, shown in the health of its plugin, and further calls of that plugin get a thread
    /// each that the program can do without. So do calls of any plugin while others have half of the runtime's threads: as many
    /// may block at once as there are, and timers still fire.
    ///
    /// # Errors
    /// As [`call`](Self::call), and `RESOURCE_EXHAUSTED` for a plugin of which 8 calls block already.
    pub async fn call_apart<R, F>(&self, cx: &CallCx, request: impl FnOnce(Arc<T>, CallCx) -> F + Send + 'static) -> Result<R>
    where
        T: 'static,
        R: Send + 'static,
        F: Future<Output = Result<R>> + Send + 'static,
    {
        self.apart_within(self.place.plugin.call_limit(), cx, request).await
    }

    /// As [`call_apart`](Self::call_apart), with a limit of its own; an earlier deadline of the caller still wins.
    pub(crate) async fn apart_within<R, F>(
        &self,
        limit: Duration,
        cx: &CallCx,
        request: impl FnOnce(Arc<T>, CallCx) -> F + Send + 'static,
    ) -> Result<R>
    where
        T: 'static,
        R: Send + 'static,
        F: Future<Output = Result<R>> + Send + 'static,
    {
        let (lease, limit) = self.admitted(limit, cx).await?;
        let plugin = self.place.plugin.clone();
        if plugin.late().of(plugin.id()) >= MOST_BLOCKED {
            let message = format!("{MOST_BLOCKED} of its calls block their threads and never came back, so it gets no more");
            return Err(Error::new(Code::RESOURCE_EXHAUSTED, message)
                .with_help(format!("bespoke config set plugins.{}.enabled false, and restart the program", plugin.id()))
                .with_plugin(plugin.id()));
        }
        let cancel = CancelOnDrop(cx.cancel_token().child());
        let (object, inner_cx) = (lease.object(), given(cx, limit, cancel.0.clone()));
        // Whose call it is: another plugin may have taken this one's place.
        let generation = lease.generation.clone();
        let begun = generation.metrics().begin();
        let work = async move {
            // The lease goes with the code, not with the caller: what hangs is still in there.
            let _lease = lease;
            match catch_unwind(AssertUnwindSafe(|| request(object, inner_cx))) {
                Ok(future) => in_time(future, limit).await,
                Err(panic) => Err(panicked("the call", &*panic)),
            }
        };
        let (task, ended) = plugin.spawn(work)?;
        let result = Apart { task: Some(task), ended, plugin: &plugin }.wait(limit).await;
        drop(cancel);
        generation.metrics().end(begun, result.is_err());
        result.map_err(|e| e.with_plugin(generation.plugin()))
    }

    /// A lease, and how long the call may take.
    async fn admitted(&self, limit: Duration, cx: &CallCx) -> Result<(Lease<T>, Duration)> {
        let lease = match self.lease() {
            Ok(lease) => lease,
            // Boxed: the wait is rare, and every call would carry its size.
            Err(_) => Box::pin(self.lease_ready(cx)).await?,
        };
        Ok((lease, cx.deadline().map_or(limit, |at| clock::now().until(at).min(limit))))
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
        let (lease, limit) = self.admitted(limit, cx).await?;
        // A token of its own: a call that is late is cancelled alone, its siblings go on.
        guarded(lease, cx.cancel_token().child(), limit, cx, request).await
    }

    /// Calls a method that returns at once, such as `open`, under the same guard.
    ///
    /// # Errors
    /// As [`call`](Self::call), without a time-out: nothing can stop code that does not return.
    pub fn enter<R>(&self, method: impl FnOnce(&T) -> Result<R>) -> Result<Leased<T, R>> {
        let lease = self.lease()?;
        let metrics = lease.generation.metrics();
        let begun = metrics.begin();
        let result = catch_unwind(AssertUnwindSafe(|| method(&lease))).unwrap_or_else(|panic| Err(panicked("the call", &*panic)));
        metrics.end(begun, result.is_err());
        match result {
            Ok(value) => Ok(Leased { value: Held(Some(value)), _cancel: None, lease }),
            Err(e) => Err(e.with_plugin(lease.generation.plugin())),
        }
    }
}

/// Makes a request of what a lease holds, under this token.
async fn guarded<T: Contract + ?Sized, R, F>(
    lease: Lease<T>,
    token: CancelToken,
    limit: Duration,
    cx: &CallCx,
    request: impl FnOnce(Arc<T>, CallCx) -> F,
) -> Result<Leased<T, R>>
where
    F: Future<Output = Result<R>> + Send,
{
    let cancel = CancelOnDrop(token);
    let object = lease.object();
    let metrics = lease.generation.metrics();
    // How long a channel was listened to says nothing of how fast it is.
    let begun = if limit == Duration::MAX { metrics.begin_untimed() } else { metrics.begin() };
    let result = match catch_unwind(AssertUnwindSafe(|| request(object, given(cx, limit, cancel.0.clone())))) {
        Ok(future) => in_time(future, limit).await,
        Err(panic) => Err(panicked("the call", &*panic)),
    };
    lease.generation.metrics().end(begun, result.is_err());
    match result {
        Ok(value) => Ok(Leased { value: Held(Some(value)), _cancel: Some(cancel), lease }),
        Err(e) => {
            let e = e.with_plugin(lease.generation.plugin());
            if e.code() == Code::PLUGIN_CRASHED {
                // The task that brings another instance has yet to hear of it. Callers that ask again at once, and are told no at once, would
                // keep every thread of the runtime from it.
                drop(lease);
                tokio::task::yield_now().await;
            }
            Err(e)
        }
    }
}

/// The context as the plugin gets it: its own token, and the limit as a deadline on the clock that plugins see.
fn given(cx: &CallCx, limit: Duration, token: CancelToken) -> CallCx {
    let deadline = (limit != Duration::MAX).then(|| clock::time_of_day().plus(limit));
    cx.for_request(token, deadline)
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
    /// Taken out when the lease is dropped, never before.
    serving: Option<Arc<Serving<T>>>,
    generation: Arc<Generation>,
}

impl<T: ?Sized> Lease<T> {
    fn serving(&self) -> &Serving<T> {
        self.serving.as_ref().expect("only dropping takes it out")
    }

    fn object(&self) -> Arc<T> {
        self.serving().object.clone()
    }
}

impl<T: ?Sized> Deref for Lease<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.serving().object
    }
}

impl<T: ?Sized> Drop for Lease<T> {
    fn drop(&mut self) {
        // The object first: whoever waits for the last lease then has the last of the plugin, on a thread that may block. Only
        // after a drain that ran out of time may this be the last of it, and then its panic stays here.
        let serving = self.serving.take();
        drop_caught(serving);
        self.generation.leave();
    }
}

impl<T: ?Sized> fmt::Debug for Lease<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lease")
    }
}

/// A stream, or whatever else a method returned, together with the lease that keeps its plugin alive. The lease was taken
/// once: frames are calls of the value with a net below, without an allocation. Use it as the stream itself: behind a reference
/// to what it holds (`&mut **leased`) there is no net.
pub struct Leased<T: ?Sized, R> {
    // In this order: the value is dropped first, then whoever still works for it is told, then the plugin is let go.
    value: Held<R>,
    _cancel: Option<CancelOnDrop>,
    lease: Lease<T>,
}

impl<T: ?Sized, R> Leased<T, R> {
    pub(crate) fn into_inner(mut self) -> R {
        self.value.0.take().expect("only this and dropping take it out")
    }

    /// The first piece of what it answers came so long after it was asked: counted in the [usage](crate::Usage) of its plugin.
    pub fn began_after(&self, time: Duration) {
        self.lease.generation.metrics().first(time);
    }

    fn stamp(&self, error: Error) -> Error {
        error.with_plugin(self.lease.generation.plugin())
    }
}

impl<T: ?Sized, R> Deref for Leased<T, R> {
    type Target = R;

    fn deref(&self) -> &R {
        self.value.0.as_ref().expect("only dropping takes it out")
    }
}

impl<T: ?Sized, R> DerefMut for Leased<T, R> {
    fn deref_mut(&mut self) -> &mut R {
        self.value.0.as_mut().expect("only dropping takes it out")
    }
}

impl<T: ?Sized, R: fmt::Debug> fmt::Debug for Leased<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// What a plugin gave. A panic in its `Drop` ends here.
struct Held<R>(Option<R>);

impl<R> Drop for Held<R> {
    fn drop(&mut self) {
        if let Some(value) = self.0.take() {
            drop_caught(value);
        }
    }
}

impl<T: ?Sized, I: Send + 'static> Stream for Leased<T, BoxStream<I>> {
    type Item = Result<I>;

    /// Polls with a net below, and stamps the plugin on an error. After a panic the stream is over.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let stream = &mut **this;
        let item = match catch_unwind(AssertUnwindSafe(|| stream.as_mut().poll_next(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(item)) => item,
            Err(panic) => {
                this.value = Held(Some(Box::pin(futures_util::stream::empty())));
                Some(Err(panicked("the stream", &*panic)))
            }
        };
        Poll::Ready(item.map(|item| item.map_err(|e| this.stamp(e))))
    }
}

/// A stream that the plugin made, with a net below each frame. After a panic the stream is over; what panicked is told once, as
/// the error of that frame.
impl<T: ?Sized + Send + Sync, I: ?Sized + 'static, O: Send + 'static> Duplex<I, O> for Leased<T, Box<dyn Duplex<I, O>>> {
    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let stream = &mut **self;
        match catch_unwind(AssertUnwindSafe(|| stream.poll_ready(cx))) {
            Ok(Poll::Ready(Err(error))) => Poll::Ready(Err(self.stamp(error))),
            Ok(polled) => polled,
            Err(panic) => Poll::Ready(Err(self.broke(&*panic))),
        }
    }

    #[inline]
    fn push(&mut self, item: &I) -> Result<()> {
        let stream = &mut **self;
        match catch_unwind(AssertUnwindSafe(|| stream.push(item))) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.stamp(error)),
            Err(panic) => Err(self.broke(&*panic)),
        }
    }

    fn finish(&mut self) -> Result<()> {
        let stream = &mut **self;
        match catch_unwind(AssertUnwindSafe(|| stream.finish())) {
            Ok(result) => result.map_err(|error| self.stamp(error)),
            Err(panic) => Err(self.broke(&*panic)),
        }
    }

    #[inline]
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<O>>> {
        let stream = &mut **self;
        match catch_unwind(AssertUnwindSafe(|| stream.poll_next(cx))) {
            Ok(Poll::Ready(Some(Err(error)))) => Poll::Ready(Some(Err(self.stamp(error)))),
            Ok(polled) => polled,
            Err(panic) => Poll::Ready(Some(Err(self.broke(&*panic)))),
        }
    }
}

impl<T: ?Sized, I: ?Sized + 'static, O: 'static> Leased<T, Box<dyn Duplex<I, O>>> {
    #[cold]
    fn broke(&mut self, panic: &(dyn Any + Send)) -> Error {
        self.value = Held(Some(Box::new(Over)));
        self.stamp(panicked("the stream", panic))
    }
}

/// What is left of a stream that panicked.
struct Over;

impl<I: ?Sized, O> Duplex<I, O> for Over {
    fn push(&mut self, _: &I) -> Result<()> {
        Err(Error::new(Code::PLUGIN_EXCEPTION, "the stream is over: it panicked"))
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }

    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<O>>> {
        Poll::Ready(None)
    }
}

/// Drops something of a plugin's; its panic has nobody to be told to, and the panic hook has written it.
pub(crate) fn drop_caught<R>(value: R) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
}

/// Polls a request with a net below and a limit above. Most answers are there at the first poll or soon after it, so the
/// timer is made only when one is not; the time of the first poll does not count, nothing here could end it.
async fn in_time<R>(future: impl Future<Output = Result<R>> + Send, limit: Duration) -> Result<R> {
    let mut future = pin!(Some(future));
    let mut future = Clears(future.as_mut());
    let mut timer = None;
    poll_fn(|cx| {
        let Some(polling) = future.0.as_mut().as_pin_mut() else { return Poll::Pending };
        match catch_unwind(AssertUnwindSafe(|| polling.poll(cx))) {
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

/// Drops a plugin's future in its place, with a net below, whether it has ended or nobody waits any more.
struct Clears<'f, F>(Pin<&'f mut Option<F>>);

impl<F> Drop for Clears<'_, F> {
    fn drop(&mut self) {
        let _ = catch_unwind(AssertUnwindSafe(|| self.0.set(None)));
    }
}

/// A call on a task of its own, ended when nobody waits for it.
struct Apart<'p, R: Send + 'static> {
    task: Option<JoinHandle<Result<R>>>,
    /// The end of its thread, where it has one of its own.
    ended: Option<oneshot::Receiver<()>>,
    plugin: &'p Arc<PluginCell>,
}

impl<R: Send + 'static> Apart<'_, R> {
    async fn wait(mut self, limit: Duration) -> Result<R> {
        let task = self.task.as_mut().expect("only dropping takes it out");
        // Made where there is a runtime: a plugin may wait for a call from a thread of its own.
        let late = {
            let _inside = self.plugin.runtime().enter();
            tokio::time::timeout(limit, task)
        };
        match late.await {
            Ok(Ok(result)) => {
                self.task = None;
                result
            }
            Ok(Err(error)) => {
                self.task = None;
                Err(Error::internal(format!("the call broke: {error}")))
            }
            Err(_) => Err(timed_out(limit)),
        }
    }
}

impl<R: Send + 'static> Drop for Apart<'_, R> {
    fn drop(&mut self) {
        let Some(task) = self.task.take() else { return };
        task.abort();
        let (plugin, ended) = (self.plugin.clone(), self.ended.take());
        let mut over: BoxFuture<'static, ()> = match ended {
            Some(ended) => Box::pin(async move { _ = ended.await }),
            None if task.is_finished() => return,
            None => Box::pin(async move { _ = task.await }),
        };
        // Whether it yields shows only in a while. Nobody waits for this.
        self.plugin.runtime().spawn(async move {
            if tokio::time::timeout(GRACE, &mut over).await.is_err() {
                tracing::warn!(plugin = plugin.id(), "a call blocks its thread and was left behind");
                let _late = plugin.late().enter(plugin.id(), format!("call-{}", plugin.id()));
                over.await;
            }
        });
    }
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
