//! The plugin's side of `HostApi`: each call is a message with a reply, but for what the platform can do at once.

use std::{
    future::poll_fn,
    marker::PhantomData,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bespoke_plugin_api::{
    BoxFuture, BoxStream, CallCx, Cancelled, Code, Contribution, Error, Event, Health, HostApi, HttpReply, HttpRequest, Inbound, InboxSink,
    Level, Result, RuntimePack, Target, Timestamp, futures_core::Stream, serde_json::Value,
};
use bespoke_protocol::{
    AcceptArgs, Body, CxHead, EmitArgs, Frame, HostCallArgs, Http, Kind, PublishArgs, SleepArgs, StoreArgs, Streamed, Subscribe, flag,
    method, put_call, put_credit, put_plain, read_body, read_end, read_reply,
};
use bytes::Bytes;

use crate::shared::{Answer, Shared, gone};

/// What `PluginContext` holds inside a guest.
pub(crate) struct Client(pub(crate) Arc<Shared>);

impl HostApi for Client {
    fn log(&self, level: Level, line: &str) {
        self.0.outbox().log(level, line);
        self.0.platform.wake();
    }

    fn now(&self) -> Timestamp {
        self.0.platform.now()
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let slept = self.request::<_, ()>(method::HOST_SLEEP, None, &SleepArgs { us });
        Box::pin(async move {
            // The host never refuses to wait; when it is gone, nobody waits for this plugin either.
            let _ = slept.await;
        })
    }

    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        self.0.platform.blocking(work)
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.0.spawn(task);
    }

    fn http(&self, request: HttpRequest) -> BoxFuture<'static, Result<HttpReply>> {
        let asked = Streaming::<Http>::begin(&self.0, &request);
        Box::pin(async move {
            let mut answer = asked?;
            let head = poll_fn(|cx| answer.poll_head(cx)).await?;
            Ok(HttpReply::new(head.status, head.headers, Box::pin(answer)))
        })
    }

    fn call(&self, cx: &CallCx, target: Target, args: Value) -> BoxFuture<'static, Result<Value>> {
        self.request(method::HOST_CALL, Some(cx), &HostCallArgs { call: cx.wire_call(), target, args })
    }

    /// The host's refusal comes later and stands in its log: this side cannot wait for it.
    fn publish(&self, contributions: Vec<Contribution>) -> Result<()> {
        let specs = contributions.iter().map(Contribution::spec).collect();
        let old = std::mem::replace(&mut *self.0.dynamic(), contributions);
        drop(old);
        self.tell(method::HOST_PUBLISH, &PublishArgs { specs })
    }

    /// As [`publish`](Self::publish).
    fn emit(&self, topic: &str, payload: Value) -> Result<()> {
        self.tell(method::HOST_EMIT, &EmitArgs { topic: topic.to_owned(), payload })
    }

    /// A refusal is the first item of the stream.
    fn subscribe(&self, prefix: &str) -> Result<BoxStream<Event>> {
        Ok(Box::pin(Streaming::<Subscribe>::begin(&self.0, &prefix.to_owned())?))
    }

    fn secret(&self, name: &str) -> BoxFuture<'static, Result<String>> {
        self.request(method::HOST_SECRET, None, &name.to_owned())
    }

    fn load(&self, key: &str) -> BoxFuture<'static, Result<Option<Bytes>>> {
        self.request(method::HOST_LOAD, None, &key.to_owned())
    }

    fn store(&self, key: &str, value: Option<Bytes>) -> BoxFuture<'static, Result<()>> {
        self.request(method::HOST_STORE, None, &StoreArgs { key: key.to_owned(), value })
    }

    /// From what the host sent along with the start: the files that the manifest names.
    fn model(&self, file: &str) -> Result<PathBuf> {
        let found = self.0.setup.get().and_then(|s| s.models.get(file)).cloned();
        found.map_or_else(
            || Err(Error::new(Code::MODEL_NOT_FOUND, format!("{file} is no model file of this plugin's manifest"))),
            Result::from,
        )
    }

    /// As [`model`](HostApi::model).
    fn runtime(&self, spec: &str) -> Result<RuntimePack> {
        let found = self.0.setup.get().and_then(|s| s.runtimes.get(spec)).cloned();
        found.map_or_else(
            || Err(Error::new(Code::DEPENDENCY_MISSING, format!("{spec} is no runtime of this plugin's manifest"))),
            Result::from,
        )
    }

    fn random(&self, buffer: &mut [u8]) -> Result<()> {
        self.0.platform.random(buffer)
    }

    fn report_health(&self, health: Health) {
        // Nobody is there to be told when the link is gone.
        let _ = self.tell(method::HOST_REPORT_HEALTH, &health);
    }
}

impl Client {
    /// Sends a host call and waits for its answer. Dropping the future tells the host to stop.
    fn request<A: Body, R: Body>(&self, method: &str, cx: Option<&CallCx>, args: &A) -> BoxFuture<'static, Result<R>> {
        let head = cx.map(CxHead::of).unwrap_or_default();
        match HostCall::begin(&self.0, method, &head, args, 0) {
            Ok(call) => call.answer(cx.map(CallCx::cancelled)),
            Err(e) => Box::pin(std::future::ready(Err(e))),
        }
    }

    /// Sends a host call whose answer nobody waits for.
    fn tell<A: Body>(&self, method: &str, args: &A) -> Result<()> {
        let mut call = HostCall::begin(&self.0, method, &CxHead::default(), args, 0)?;
        call.keep_running = true;
        Ok(())
    }
}

/// The inbox of a running channel.
pub(crate) struct GuestInbox {
    pub(crate) shared: Arc<Shared>,
    pub(crate) call: u32,
}

impl InboxSink for GuestInbox {
    fn accept(&self, message: Inbound) -> BoxFuture<'static, Result<()>> {
        Client(self.shared.clone()).request(method::HOST_ACCEPT, None, &AcceptArgs { call: self.call, message })
    }
}

/// One host call that is under way.
struct HostCall {
    shared: Arc<Shared>,
    id: u32,
    /// The host goes on when this is dropped, or has ended already.
    keep_running: bool,
}

impl HostCall {
    fn begin<A: Body>(shared: &Arc<Shared>, method: &str, cx: &CxHead, args: &A, window: u32) -> Result<Self> {
        let id = shared.begin_wait(window)?;
        let put = put_call(shared.outbox().lane(Kind::HOST_CALL), Kind::HOST_CALL, id, method, "", cx, args);
        if let Err(e) = put {
            shared.end_wait(id);
            return Err(e);
        }
        shared.platform.wake();
        Ok(HostCall { shared: shared.clone(), id, keep_running: false })
    }

    fn answer<R: Body>(mut self, mut cancelled: Option<Cancelled>) -> BoxFuture<'static, Result<R>> {
        Box::pin(poll_fn(move |cx| {
            if let Some((kind, head, blob)) = self.shared.take(self.id, cx.waker()) {
                self.keep_running = true;
                return Poll::Ready(read_reply(&Frame { kind, flags: 0, id: self.id, head: &head, blob: &blob }));
            }
            if !self.shared.is_waiting(self.id) {
                return Poll::Ready(Err(gone()));
            }
            if cancelled.as_mut().is_some_and(|c| Pin::new(c).poll(cx).is_ready()) {
                cancelled = None;
                self.cancel(0);
            }
            Poll::Pending
        }))
    }

    fn cancel(&self, flags: u8) {
        put_plain(self.shared.outbox().lane(Kind::CANCEL), Kind::CANCEL, flags, self.id);
        self.shared.platform.wake();
    }
}

impl Drop for HostCall {
    fn drop(&mut self) {
        self.shared.end_wait(self.id);
        if !self.keep_running {
            self.cancel(flag::ABANDONED);
        }
    }
}

/// A host call that answers with a head and then with items. Dropping it tells the host to stop.
struct Streaming<S> {
    call: HostCall,
    phase: Phase,
    /// Items taken since the last credit.
    taken: u32,
    kind: PhantomData<fn() -> S>,
}

enum Phase {
    Head,
    Items,
    Over,
}

impl<S: Streamed> Streaming<S> {
    fn begin(shared: &Arc<Shared>, args: &S::Args) -> Result<Self> {
        let call = HostCall::begin(shared, S::METHOD, &CxHead::default(), args, S::WINDOW)?;
        Ok(Streaming { call, phase: Phase::Head, taken: 0, kind: PhantomData })
    }

    /// The head, once. After an error there are no items.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<S::Head>> {
        let (kind, head, blob) = match ready!(self.poll_frame(cx)) {
            Ok(frame) => frame,
            Err(e) => return Poll::Ready(Err(e)),
        };
        let frame = Frame { kind, flags: 0, id: self.call.id, head: &head, blob: &blob };
        let result = match kind {
            Kind::HOST_REPLY => read_reply(&frame),
            _ => Err(Error::new(Code::INVALID_REQUEST, format!("{} comes before the answer to {}", kind.name(), S::METHOD))),
        };
        match &result {
            Ok(_) => self.phase = Phase::Items,
            // A reply that is an error is the host's last word; one that cannot be read is not.
            Err(_) => self.end(kind == Kind::HOST_REPLY && read_reply::<Value>(&frame).is_err()),
        }
        Poll::Ready(result)
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<S::Item>>> {
        let (kind, head, blob) = match ready!(self.poll_frame(cx)) {
            Ok(frame) => frame,
            Err(e) => return Poll::Ready(Some(Err(e))),
        };
        let frame = Frame { kind, flags: 0, id: self.call.id, head: &head, blob: &blob };
        if kind != Kind::EVENT {
            self.end(true);
            return Poll::Ready(read_end(&frame).err().map(Err));
        }
        self.taken += 1;
        if self.taken >= S::WINDOW / 2 {
            let amount = std::mem::take(&mut self.taken);
            put_credit(self.call.shared.outbox().lane(Kind::CREDIT), flag::HOST_CALL, self.call.id, amount);
            self.call.shared.platform.wake();
        }
        Poll::Ready(Some(read_body(&frame)))
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer>> {
        match self.call.shared.take(self.call.id, cx.waker()) {
            Some(frame) => Poll::Ready(Ok(frame)),
            None if self.call.shared.is_waiting(self.call.id) => Poll::Pending,
            None => {
                self.end(true);
                Poll::Ready(Err(gone()))
            }
        }
    }

    fn end(&mut self, host_has_ended: bool) {
        self.phase = Phase::Over;
        self.call.keep_running = host_has_ended;
    }
}

impl<S: Streamed> Stream for Streaming<S> {
    type Item = Result<S::Item>;

    /// An error in place of the head is the first item, for who did not ask for the head.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Phase::Head = self.phase
            && let Err(e) = ready!(self.poll_head(cx))
        {
            return Poll::Ready(Some(Err(e)));
        }
        match self.phase {
            Phase::Over => Poll::Ready(None),
            _ => self.poll_item(cx),
        }
    }
}
