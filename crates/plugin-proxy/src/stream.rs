//! Streams of a guest, seen from the host: `Duplex` and `BoxStream` over the same slot.

use std::{
    collections::VecDeque,
    marker::PhantomData,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bespoke_plugin_api::{BoxStream, CallCx, Cancelled, Code, Duplex, Error, Result, futures_core::Stream};
use bespoke_protocol::{
    Body, CxHead, EVENT_WINDOW, Frame, HEADER_LEN, INPUT_WINDOW, Kind, Lane, MAX_FRAME, put_bytes_frame, put_call, put_credit,
    put_samples_frame, read_body, read_reply,
};

use crate::inner::{Inner, Waiting};

/// Bytes of events that may wait for a reader, beside the first one: as many as one may have.
const EVENT_BYTES: usize = MAX_FRAME;

impl Inner {
    /// Opens a stream. Never waits: a refusal is the first item.
    pub(crate) fn open<A: Body, I: Input + ?Sized, O: Body>(
        self: &Arc<Self>,
        method: &str,
        name: &str,
        options: &A,
    ) -> Result<Box<dyn Duplex<I, O>>> {
        let reader = Reader::<O>::register(self, None);
        let mut frame = Vec::new();
        put_call(&mut frame, Kind::OPEN, reader.id, method, name, &CxHead::default(), options)?;
        self.send(Lane::Control, &frame)?;
        frame.clear();
        Ok(Box::new(RemoteDuplex { reader, frame, finished: false, input: PhantomData }))
    }

    /// Makes a call whose answer is a stream.
    pub(crate) async fn call_stream<A: Body, O: Body>(
        self: &Arc<Self>,
        cx: &CallCx,
        method: &str,
        name: &str,
        args: &A,
    ) -> Result<BoxStream<O>> {
        let reader = Reader::<O>::register(self, Some(cx.clone()));
        let mut frame = Vec::new();
        let head = CxHead::of(cx);
        put_call(&mut frame, Kind::CALL, reader.id, method, name, &head, args)?;
        self.send(Lane::Control, &frame)?;
        drop(frame);
        // By what the guest was told: see `call_with`.
        let cancelled = (!head.cancelled).then(|| cx.cancelled());
        let mut stream = RemoteStream { reader, cancelled };
        std::future::poll_fn(|task| {
            if let Some(answer) = stream.reader.slot.take_answer(task.waker()) {
                return Poll::Ready(answer);
            }
            stream.watch(task);
            Poll::Pending
        })
        .await?;
        Ok(Box::pin(stream))
    }
}

/// Input as it travels.
pub(crate) trait Input: 'static {
    /// Appends a DATA frame.
    fn put(&self, out: &mut Vec<u8>, id: u32) -> Result<()>;
}

impl Input for [f32] {
    fn put(&self, out: &mut Vec<u8>, id: u32) -> Result<()> {
        put_samples_frame(out, id, self)
    }
}

impl Input for str {
    fn put(&self, out: &mut Vec<u8>, id: u32) -> Result<()> {
        put_bytes_frame(out, id, self.as_bytes())
    }
}

/// What the driver's thread writes and the stream's reader reads.
struct Slot<O> {
    /// Of a call whose answer is a stream.
    cx: Option<CallCx>,
    state: Mutex<State<O>>,
}

struct State<O> {
    /// The reply of a call that is a stream.
    answer: Option<Result<()>>,
    /// What has not been read, with the bytes that each came in.
    events: VecDeque<(O, usize)>,
    /// The sum of those bytes.
    waiting: usize,
    end: Option<Result<()>>,
    /// Bytes of input that may still be sent; one frame may take it below zero.
    credit: i64,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl<O> Slot<O> {
    fn new(cx: Option<CallCx>) -> Arc<Self> {
        let events = VecDeque::new();
        let state = State { answer: None, events, waiting: 0, end: None, credit: i64::from(INPUT_WINDOW), reader: None, writer: None };
        Arc::new(Slot { cx, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State<O>> {
        // Nothing that can panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_answer(&self, waker: &Waker) -> Option<Result<()>> {
        let mut state = self.state();
        if let Some(answer) = state.answer.take() {
            return Some(answer);
        }
        if let Some(Err(e)) = &state.end {
            return Some(Err(e.clone()));
        }
        keep(&mut state.reader, waker);
        None
    }

    /// Changes the state, then wakes who waits: outside the lock, because a waker may run anything.
    fn change(&self, change: impl FnOnce(&mut State<O>)) {
        let (reader, writer) = {
            let mut state = self.state();
            change(&mut state);
            let writer = if state.credit > 0 || state.end.is_some() { state.writer.take() } else { None };
            (state.reader.take(), writer)
        };
        for waker in reader.into_iter().chain(writer) {
            waker.wake();
        }
    }
}

impl<O: Body> Waiting for Slot<O> {
    fn reply(&self, frame: &Frame<'_>, forget: &dyn Fn()) {
        let answer = read_reply::<()>(frame);
        if answer.is_err() {
            forget();
        }
        self.change(|state| state.answer = Some(answer));
    }

    fn event(&self, frame: &Frame<'_>) -> Result<()> {
        let (event, bytes): (O, usize) = (read_body(frame)?, frame.head.len() + frame.blob.len());
        let mut refused = None;
        self.change(|state| {
            if state.events.len() >= EVENT_WINDOW as usize {
                refused = Some("the guest sent more events than it had credit for".to_owned());
            } else if !state.events.is_empty() && state.waiting + bytes > EVENT_BYTES {
                refused = Some(format!("more than {EVENT_BYTES} bytes of events wait to be read"));
            } else {
                state.waiting += bytes;
                state.events.push_back((event, bytes));
            }
        });
        refused.map_or(Ok(()), |why| Err(Error::new(Code::RESOURCE_EXHAUSTED, why)))
    }

    fn end(&self, result: Result<()>) {
        self.change(|state| {
            state.end.get_or_insert(result);
        });
    }

    fn cx(&self) -> Option<CallCx> {
        self.cx.clone()
    }

    fn credit(&self, bytes: u32) {
        self.change(|state| state.credit = state.credit.saturating_add(i64::from(bytes)).min(i64::from(INPUT_WINDOW)));
    }
}

/// The reading half of a stream, and its number. Dropping it resets the stream.
struct Reader<O: Body> {
    inner: Arc<Inner>,
    id: u32,
    slot: Arc<Slot<O>>,
    /// Events taken since the last credit.
    taken: u32,
    over: bool,
}

impl<O: Body> Reader<O> {
    fn register(inner: &Arc<Inner>, cx: Option<CallCx>) -> Self {
        let slot = Slot::new(cx);
        Reader { inner: inner.clone(), id: inner.register(slot.clone()), slot, taken: 0, over: false }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<O>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let event = {
            let mut state = self.slot.state();
            match state.events.pop_front() {
                Some((event, bytes)) => {
                    state.waiting -= bytes;
                    event
                }
                None => match &state.end {
                    // It stays: a push after the error is that error again.
                    Some(result) => {
                        let result = result.clone();
                        drop(state);
                        self.over = true;
                        return Poll::Ready(result.err().map(Err));
                    }
                    None => {
                        keep(&mut state.reader, cx.waker());
                        return Poll::Pending;
                    }
                },
            }
        };
        self.taken += 1;
        if self.taken >= EVENT_WINDOW / 2 {
            let mut frame = Vec::with_capacity(HEADER_LEN + 4);
            put_credit(&mut frame, 0, self.id, std::mem::take(&mut self.taken));
            // A lost link ends the stream through its slot.
            let _ = self.inner.send(Lane::Control, &frame);
        }
        Poll::Ready(Some(Ok(event)))
    }
}

impl<O: Body> Drop for Reader<O> {
    fn drop(&mut self) {
        // A stream that has ended is no longer in the table.
        if self.inner.forget(self.id) {
            self.inner.post_plain(Kind::RESET, 0, self.id);
        }
    }
}

struct RemoteDuplex<I: ?Sized, O: Body> {
    reader: Reader<O>,
    /// Reused for every frame.
    frame: Vec<u8>,
    finished: bool,
    input: PhantomData<fn(&I)>,
}

impl<I: Input + ?Sized, O: Body> Duplex<I, O> for RemoteDuplex<I, O> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let mut state = self.reader.slot.state();
        if let Some(Err(e)) = &state.end {
            return Poll::Ready(Err(e.clone()));
        }
        if state.credit > 0 || state.end.is_some() {
            return Poll::Ready(Ok(()));
        }
        keep(&mut state.writer, cx.waker());
        Poll::Pending
    }

    fn push(&mut self, item: &I) -> Result<()> {
        if self.finished {
            return Err(Error::invalid_params("push after finish"));
        }
        self.frame.clear();
        item.put(&mut self.frame, self.reader.id)?;
        {
            let mut state = self.reader.slot.state();
            match &state.end {
                Some(Err(e)) => return Err(e.clone()),
                // The plugin is done and needs no more; its last events are still to be read.
                Some(Ok(())) => return Ok(()),
                None if state.credit <= 0 => {
                    let message = format!("the plugin is {INPUT_WINDOW} bytes of input behind");
                    return Err(Error::new(Code::RESOURCE_EXHAUSTED, message)
                        .with_help("wait for poll_ready before each push")
                        .retryable());
                }
                None => state.credit -= (self.frame.len() - HEADER_LEN) as i64,
            }
        }
        self.reader.inner.send(Lane::Data, &self.frame).inspect_err(|_| {
            // What was not sent is given back: one frame that is too long ends nothing.
            self.reader.slot.state().credit += (self.frame.len() - HEADER_LEN) as i64;
        })
    }

    fn finish(&mut self) -> Result<()> {
        if !std::mem::replace(&mut self.finished, true) {
            self.reader.inner.send_plain(Kind::FINISH, 0, self.reader.id);
        }
        Ok(())
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<O>>> {
        self.reader.poll_event(cx)
    }
}

struct RemoteStream<O: Body> {
    reader: Reader<O>,
    /// Until it fires: the caller's wish to stop, which a compiled-in plugin would see in its context.
    cancelled: Option<Cancelled>,
}

impl<O: Body> RemoteStream<O> {
    fn watch(&mut self, cx: &mut Context<'_>) {
        if self.cancelled.as_mut().is_some_and(|c| Pin::new(c).poll(cx).is_ready()) {
            self.cancelled = None;
            self.reader.inner.post_plain(Kind::CANCEL, 0, self.reader.id);
        }
    }
}

impl<O: Body> Stream for RemoteStream<O> {
    type Item = Result<O>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.reader.poll_event(cx);
        if polled.is_pending() {
            self.watch(cx);
        }
        polled
    }
}

fn keep(place: &mut Option<Waker>, waker: &Waker) {
    match place {
        Some(old) => old.clone_from(waker),
        none => *none = Some(waker.clone()),
    }
}
