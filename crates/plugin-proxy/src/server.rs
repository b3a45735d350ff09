//! The host's answers to a guest: `HostApi`, served by message. The host api that is given here is the plugin's own, so that
//! permissions are checked and events are stamped where they are for a compiled-in plugin.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bespoke_plugin_api::{BoxStream, CancelToken, Code, Error, Health, HttpRequest, Level, Result, futures_core::Stream};
use bespoke_protocol::{
    AcceptArgs, BODY_PIECE, Body, EmitArgs, Frame, HostCallArgs, Http, HttpHead, Kind, PublishArgs, Route, SleepArgs, StoreArgs, Streamed,
    Subscribe, flag, method, put_answer, put_body, put_end, put_reply, read_args,
};
use bytes::Bytes;

use crate::{contracts::contribution, inner::Inner};

/// Host calls that one guest may have under way.
const MAX_SERVING: usize = 1024;
/// Bytes that those may have brought together: a few of the longest message.
const MAX_SERVED: usize = 256 << 20;

/// A host call that is being served.
pub(crate) struct Serving {
    /// Asks what serves it to stop.
    cancel: CancelToken,
    /// Nobody waits for the answer any more.
    gone: CancelToken,
    credit: Option<Arc<Credit>>,
    /// What it brought.
    bytes: usize,
}

impl Serving {
    pub(crate) fn stop(&self) {
        self.cancel.cancel();
        self.gone.cancel();
    }
}

/// Serves a HOST_CALL.
pub(crate) fn serve(inner: &Arc<Inner>, frame: &Frame<'_>) {
    let bytes = frame.head.len() + frame.blob.len();
    let begun = room(inner, bytes).and_then(|()| begin(inner, frame));
    match begun {
        // It may have been answered by now.
        Ok(()) => _ = inner.serving().get_mut(&frame.id).map(|serving| serving.bytes = bytes),
        Err(e) => reply::<()>(inner, frame.id, &Err(e)),
    }
}

/// A CANCEL of the guest.
pub(crate) fn cancel(inner: &Inner, frame: &Frame<'_>) {
    let token = {
        let mut serving = inner.serving();
        if frame.flags & flag::ABANDONED != 0 {
            serving.remove(&frame.id).map(|s| (s.cancel, Some(s.gone)))
        } else {
            serving.get(&frame.id).map(|s| (s.cancel.clone(), None))
        }
    };
    if let Some((cancel, gone)) = token {
        cancel.cancel();
        if let Some(gone) = gone {
            gone.cancel();
        }
    }
}

/// A CREDIT of the guest for the items of a host call.
pub(crate) fn credit(inner: &Inner, frame: &Frame<'_>) {
    let credit = inner.serving().get(&frame.id).and_then(|s| s.credit.clone());
    if let Some(credit) = credit {
        credit.add(frame.credit());
    }
}

/// Whether a host call of that size may be under way beside the others.
fn room(inner: &Inner, bytes: usize) -> Result<()> {
    let under_way: usize = inner.serving().values().map(|serving| serving.bytes).sum();
    if under_way + bytes <= MAX_SERVED {
        return Ok(());
    }
    let message = format!("host calls with {under_way} bytes are under way, and there may be {MAX_SERVED}");
    Err(Error::new(Code::RESOURCE_EXHAUSTED, message).retryable())
}

fn begin(inner: &Arc<Inner>, frame: &Frame<'_>) -> Result<()> {
    let route = Route::read(frame)?;
    let (id, host) = (frame.id, &inner.host);
    match route.method.as_str() {
        method::HOST_EMIT => {
            let args: EmitArgs = read_args(frame)?;
            reply(inner, id, &told(inner, "emit", host.emit(&args.topic, args.payload)));
        }
        method::HOST_REPORT_HEALTH => {
            host.report_health(read_args::<Health>(frame)?);
            reply(inner, id, &Ok(()));
        }
        method::HOST_PUBLISH => {
            let args: PublishArgs = read_args(frame)?;
            let contributions = args.specs.into_iter().filter_map(|spec| contribution(inner, spec)).collect();
            reply(inner, id, &told(inner, "publish", host.publish(contributions)));
        }
        // Asked at once, so that the guest hears all that comes after its call.
        method::HOST_SUBSCRIBE => {
            let events = host.subscribe(&read_args::<String>(frame)?)?;
            answer_streamed::<Subscribe>(inner, id, async { Ok(((), events)) })?;
        }
        method::HOST_SLEEP => {
            let SleepArgs { us } = read_args(frame)?;
            let slept = host.sleep(Duration::from_micros(us));
            answer_later(inner, id, CancelToken::new(), async move {
                slept.await;
                Ok(())
            })?;
        }
        method::HOST_HTTP => {
            let replied = host.http(read_args::<HttpRequest>(frame)?);
            answer_streamed::<Http>(inner, id, async move {
                let reply = replied.await?;
                let head = HttpHead { status: reply.status, headers: reply.headers };
                Ok((head, Box::pin(Pieces { body: reply.body, rest: Bytes::new() }) as BoxStream<Bytes>))
            })?;
        }
        method::HOST_SECRET => answer_later(inner, id, CancelToken::new(), host.secret(&read_args::<String>(frame)?))?,
        method::HOST_LOAD => answer_later(inner, id, CancelToken::new(), host.load(&read_args::<String>(frame)?))?,
        method::HOST_STORE => {
            let args: StoreArgs = read_args(frame)?;
            answer_later(inner, id, CancelToken::new(), host.store(&args.key, args.value))?;
        }
        method::HOST_CALL => {
            let args: HostCallArgs = read_args(frame)?;
            // Under what the host knows of the call, not what the guest says of it: a guest must not get out of a limit.
            let base = args.call.and_then(|call| inner.waiting(call)?.cx()).unwrap_or_default();
            let token = base.cancel_token().child();
            let cx = route.cx.under(&base, token.clone())?;
            answer_later(inner, id, token, host.call(&cx, args.target, args.args))?;
        }
        method::HOST_ACCEPT => {
            let args: AcceptArgs = read_args(frame)?;
            let inbox = inner.waiting(args.call).and_then(|call| call.inbox());
            let inbox = inbox.ok_or_else(|| Error::invalid_params(format!("call {} is no running channel", args.call)))?;
            answer_later(inner, id, CancelToken::new(), async move { inbox.accept(args.message).await })?;
        }
        other => return Err(Error::unsupported(other)),
    }
    Ok(())
}

/// Nobody in the guest waits for these answers: a refusal goes to the log, under the plugin's id.
fn told(inner: &Inner, what: &str, result: Result<()>) -> Result<()> {
    if let Err(error) = &result {
        inner.host.log(Level::Warn, &format!("{what} was refused: {error}"));
    }
    result
}

fn reply<R: Body>(inner: &Inner, id: u32, result: &Result<R>) {
    let mut frame = Vec::new();
    put_reply(&mut frame, Kind::HOST_REPLY, id, result);
    if let Err(e) = inner.post(Kind::HOST_REPLY.lane(), &frame)
        && e.code() == Code::RESOURCE_EXHAUSTED
    {
        // It waits for an answer, and can take one that says so. A guest that is gone needs none.
        frame.clear();
        put_reply::<()>(&mut frame, Kind::HOST_REPLY, id, &Err(e));
        let _ = inner.post(Kind::HOST_REPLY.lane(), &frame);
    }
}

/// Awaits `work` on the host's tasks, unless the guest stops waiting, and answers.
fn answer_later<R: Body>(
    inner: &Arc<Inner>,
    id: u32,
    cancel: CancelToken,
    work: impl Future<Output = Result<R>> + Send + 'static,
) -> Result<()> {
    let gone = enter(inner, id, cancel, None)?;
    // Weak: a guest that nobody holds any more is not kept alive by what it waits for.
    let weak = Arc::downgrade(inner);
    inner.host.spawn(Box::pin(async move {
        if let Some(result) = unless(work, gone).await
            && let Some(inner) = weak.upgrade()
            && inner.serving().remove(&id).is_some()
        {
            reply(&inner, id, &result);
        }
    }));
    Ok(())
}

fn enter(inner: &Inner, id: u32, cancel: CancelToken, credit: Option<Arc<Credit>>) -> Result<CancelToken> {
    let gone = CancelToken::new();
    let mut serving = inner.serving();
    if serving.len() >= MAX_SERVING {
        return Err(Error::new(Code::RESOURCE_EXHAUSTED, format!("{MAX_SERVING} host calls are under way")).retryable());
    }
    if serving.contains_key(&id) {
        return Err(Error::new(Code::INVALID_REQUEST, format!("host call {id} is under way already")));
    }
    serving.insert(id, Serving { cancel, gone: gone.clone(), credit, bytes: 0 });
    Ok(gone)
}

async fn unless<T>(work: impl Future<Output = T>, gone: CancelToken) -> Option<T> {
    let mut work = pin!(work);
    let mut gone = gone.cancelled();
    poll_fn(|cx| {
        if Pin::new(&mut gone).poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        work.as_mut().poll(cx).map(Some)
    })
    .await
}

/// Awaits `work`, answers with its head and forwards its items while the guest gives credit, unless it stops waiting.
fn answer_streamed<S: Streamed>(
    inner: &Arc<Inner>,
    id: u32,
    work: impl Future<Output = Result<(S::Head, BoxStream<S::Item>)>> + Send + 'static,
) -> Result<()> {
    let credit = Arc::new(Credit::new(S::WINDOW));
    let gone = enter(inner, id, CancelToken::new(), Some(credit.clone()))?;
    // Weak, as in `answer_later`.
    let weak = Arc::downgrade(inner);
    inner.host.spawn(Box::pin(async move {
        let serve = async {
            let mut frame = Vec::new();
            let begun = work.await.and_then(|(head, items)| put_answer(&mut frame, Kind::HOST_REPLY, id, &head).map(|()| items));
            let mut items = match begun {
                Ok(items) => items,
                Err(e) => {
                    let Some(inner) = weak.upgrade() else { return };
                    if inner.serving().remove(&id).is_some() {
                        reply::<()>(&inner, id, &Err(e));
                    }
                    return;
                }
            };
            let Some(inner) = weak.upgrade() else { return };
            if let Err(e) = inner.post(Kind::HOST_REPLY.lane(), &frame) {
                if inner.serving().remove(&id).is_some() {
                    reply::<()>(&inner, id, &Err(e));
                }
                return;
            }
            drop(inner);
            loop {
                credit.take().await;
                frame.clear();
                let over = match poll_fn(|cx| items.as_mut().poll_next(cx)).await {
                    Some(item) => item.and_then(|item| put_body(&mut frame, Kind::EVENT, id, &item)).err().map(Err),
                    None => Some(Ok(())),
                };
                if let Some(result) = &over {
                    put_end(&mut frame, id, result);
                }
                let Some(inner) = weak.upgrade() else { return };
                if over.is_some() {
                    inner.serving().remove(&id);
                }
                if let Err(e) = inner.post(Kind::EVENT.lane(), &frame) {
                    inner.serving().remove(&id);
                    // For one that is too long; a guest that is gone needs no end.
                    frame.clear();
                    put_end(&mut frame, id, &Err(e));
                    let _ = inner.post(Kind::END.lane(), &frame);
                    return;
                }
                if over.is_some() {
                    return;
                }
            }
        };
        unless(serve, gone).await;
    }));
    Ok(())
}

/// How many items a guest still has room for.
pub(crate) struct Credit {
    window: u32,
    left: Mutex<(u32, Option<Waker>)>,
}

impl Credit {
    fn new(window: u32) -> Self {
        Credit { window, left: Mutex::new((window, None)) }
    }

    fn add(&self, amount: u32) {
        let waker = {
            let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
            left.0 = left.0.saturating_add(amount).min(self.window);
            left.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    async fn take(&self) {
        poll_fn(|cx| {
            let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
            if left.0 == 0 {
                left.1 = Some(cx.waker().clone());
                return Poll::Pending;
            }
            left.0 -= 1;
            Poll::Ready(())
        })
        .await;
    }
}

/// A body in pieces that are neither empty nor longer than [`BODY_PIECE`].
struct Pieces {
    body: BoxStream<Bytes>,
    /// What is left of a longer piece.
    rest: Bytes,
}

impl Stream for Pieces {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        while self.rest.is_empty() {
            match ready!(self.body.as_mut().poll_next(cx)) {
                Some(Ok(piece)) => self.rest = piece,
                end => return Poll::Ready(end),
            }
        }
        let len = self.rest.len().min(BODY_PIECE);
        Poll::Ready(Some(Ok(self.rest.split_to(len))))
    }
}
