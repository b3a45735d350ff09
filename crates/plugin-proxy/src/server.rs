//! The host's answers to a guest: `HostApi`, served by message. The host api that is given here is the plugin's own, so that
//! permissions are checked and events are stamped where they are for a compiled-in plugin.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Poll, Waker},
    time::Duration,
};

use bespoke_plugin_api::{BoxStream, CancelToken, Code, Error, Event, Health, HttpRequest, HttpResponse, Level, Result};
use bespoke_protocol::{
    AcceptArgs, Body, EVENT_WINDOW, EmitArgs, Frame, HostCallArgs, Kind, PublishArgs, Route, SleepArgs, StoreArgs, flag, method, put_body,
    put_end, put_reply, read_args,
};

use crate::{contracts::contribution, inner::Inner};

/// Host calls that one guest may have under way.
const MAX_SERVING: usize = 1024;

/// A host call that is being served.
pub(crate) struct Serving {
    /// Asks what serves it to stop.
    cancel: CancelToken,
    /// Nobody waits for the answer any more.
    gone: CancelToken,
    credit: Option<Arc<EventCredit>>,
}

impl Serving {
    pub(crate) fn stop(&self) {
        self.cancel.cancel();
        self.gone.cancel();
    }
}

/// Serves a HOST_CALL.
pub(crate) fn serve(inner: &Arc<Inner>, frame: &Frame<'_>) {
    if let Err(e) = begin(inner, frame) {
        reply::<()>(inner, frame.id, &Err(e));
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

/// A CREDIT of the guest for a subscription.
pub(crate) fn credit(inner: &Inner, frame: &Frame<'_>) {
    let credit = inner.serving().get(&frame.id).and_then(|s| s.credit.clone());
    if let Some(credit) = credit {
        credit.add(frame.credit());
    }
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
        method::HOST_SUBSCRIBE => subscribe(inner, id, host.subscribe(&read_args::<String>(frame)?)?)?,
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
            answer_later(inner, id, CancelToken::new(), async move {
                let mut reply = replied.await?;
                let mut response = HttpResponse::new(reply.status).body(reply.read(bespoke_protocol::MAX_FRAME / 2).await?);
                response.headers = reply.headers;
                Ok(response)
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
    // A guest that is gone needs no answer.
    let _ = inner.send(Kind::HOST_REPLY.lane(), &frame);
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

fn enter(inner: &Inner, id: u32, cancel: CancelToken, credit: Option<Arc<EventCredit>>) -> Result<CancelToken> {
    let gone = CancelToken::new();
    let mut serving = inner.serving();
    if serving.len() >= MAX_SERVING {
        return Err(Error::new(Code::RESOURCE_EXHAUSTED, format!("{MAX_SERVING} host calls are under way")).retryable());
    }
    if serving.contains_key(&id) {
        return Err(Error::new(Code::INVALID_REQUEST, format!("host call {id} is under way already")));
    }
    serving.insert(id, Serving { cancel, gone: gone.clone(), credit });
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

fn subscribe(inner: &Arc<Inner>, id: u32, mut events: BoxStream<Event>) -> Result<()> {
    let credit = Arc::new(EventCredit::new());
    let gone = enter(inner, id, CancelToken::new(), Some(credit.clone()))?;
    reply(inner, id, &Ok(()));
    let weak = Arc::downgrade(inner);
    inner.host.spawn(Box::pin(async move {
        let forward = async {
            let mut frame = Vec::new();
            loop {
                credit.take().await;
                frame.clear();
                let result = match poll_fn(|cx| events.as_mut().poll_next(cx)).await {
                    Some(Ok(event)) => match put_body(&mut frame, Kind::EVENT, id, &event) {
                        Ok(()) => None,
                        Err(e) => Some(Err(e)),
                    },
                    Some(Err(e)) => Some(Err(e)),
                    None => Some(Ok(())),
                };
                if let Some(result) = &result {
                    put_end(&mut frame, id, result);
                }
                let Some(inner) = weak.upgrade() else { return };
                if inner.send(Kind::EVENT.lane(), &frame).is_err() {
                    return;
                }
                if result.is_some() {
                    inner.serving().remove(&id);
                    return;
                }
            }
        };
        unless(forward, gone).await;
    }));
    Ok(())
}

/// How many events a subscriber still has room for.
pub(crate) struct EventCredit(Mutex<(u32, Option<Waker>)>);

impl EventCredit {
    fn new() -> Self {
        EventCredit(Mutex::new((EVENT_WINDOW, None)))
    }

    fn add(&self, amount: u32) {
        let waker = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.0 = state.0.saturating_add(amount).min(EVENT_WINDOW);
            state.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    async fn take(&self) {
        poll_fn(|cx| {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if state.0 == 0 {
                state.1 = Some(cx.waker().clone());
                return Poll::Pending;
            }
            state.0 -= 1;
            Poll::Ready(())
        })
        .await;
    }
}
