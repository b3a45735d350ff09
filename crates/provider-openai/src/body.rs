//! The body of an answer, with limits: how long its server may be silent and how much it may say. Ends with its caller.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bespoke_plugin_api::{
    BoxFuture, BoxStream, CallCx, Cancelled, Code, Error, PluginContext, Result, Timestamp,
    bytes::{Bytes, BytesMut},
};

/// Most bytes of one answer.
pub(crate) const MAX_ANSWER: usize = 64 << 20;

/// Why there is no more of a body, although it has not ended.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// The caller has gone.
    Cancelled,
    /// The server said nothing for so long.
    Silent(Duration),
    /// It said more than this many bytes.
    TooLong(usize),
    /// The connection is gone.
    Broken(Error),
}

impl Stopped {
    /// As an error of a call that fails with `code`.
    pub(crate) fn into_error(self, code: Code) -> Error {
        match self {
            Stopped::Cancelled => Error::cancelled(),
            Stopped::Silent(time) => {
                let message = format!("the server said nothing for {} s", time.as_secs_f32());
                let help = "bespoke config set plugins.openai.silence_timeout_ms MS, or first_token_timeout_ms for the beginning";
                Error::new(Code::EXECUTION_TIMEOUT, message).retryable().with_help(help)
            }
            Stopped::TooLong(limit) => {
                Error::new(Code::RESOURCE_EXHAUSTED, format!("the answer of the server is longer than {limit} bytes"))
            }
            Stopped::Broken(e) => Error::new(code, format!("the answer broke off: {}", e.message())).retryable(),
        }
    }
}

/// A body that is being read.
pub(crate) struct Body {
    cx: PluginContext,
    cancelled: Cancelled,
    bytes: BoxStream<Bytes>,
    /// How many more bytes may come.
    left: usize,
    limit: usize,
    silence: Duration,
    /// When the server last said something of use; moved on by the time that the reader took.
    heard: Timestamp,
    /// Since when the reader has not asked.
    resting: Option<Timestamp>,
    /// Something has come since `heard` that was of no use.
    chatter: bool,
    /// Runs while nothing is there. One per silence, not one per piece: in some tiers each is a message.
    timer: Option<BoxFuture<'static, ()>>,
}

impl Body {
    /// A body of at most `limit` bytes whose server may be silent for that long.
    pub(crate) fn new(cx: &PluginContext, call: &CallCx, bytes: BoxStream<Bytes>, limit: usize, silence: Duration) -> Self {
        let heard = cx.now();
        Body {
            cx: cx.clone(),
            cancelled: call.cancelled(),
            bytes,
            left: limit,
            limit,
            silence,
            heard,
            resting: Some(heard),
            chatter: false,
            timer: None,
        }
    }

    /// What came was of use: the silence begins anew, and may last so long from now on.
    pub(crate) fn heard(&mut self, silence: Duration) {
        self.heard = self.cx.now();
        self.resting = Some(self.heard);
        self.chatter = false;
        if silence < self.silence {
            self.timer = None;
        }
        self.silence = silence;
    }

    /// The next piece. It ends no silence by itself.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Stopped> {
        poll_fn(|cx| self.poll_piece(cx)).await
    }

    /// As [`next`](Self::next).
    pub(crate) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Stopped>> {
        if Pin::new(&mut self.cancelled).poll(cx).is_ready() {
            return Poll::Ready(Err(Stopped::Cancelled));
        }
        if let Some(since) = self.resting.take() {
            self.heard = self.heard.plus(since.until(self.cx.now()));
        }
        let polled = self.bytes.as_mut().poll_next(cx);
        // A server that keeps the connection busy with nothing of use is silent, too.
        if self.chatter && self.cx.now() >= self.heard.plus(self.silence) {
            return Poll::Ready(Err(Stopped::Silent(self.silence)));
        }
        match polled {
            Poll::Ready(None) => return Poll::Ready(Ok(None)),
            Poll::Ready(Some(Err(e))) => return Poll::Ready(Err(Stopped::Broken(e))),
            Poll::Ready(Some(Ok(piece))) => {
                let Some(left) = self.left.checked_sub(piece.len()) else { return Poll::Ready(Err(Stopped::TooLong(self.limit))) };
                self.left = left;
                self.chatter = true;
                self.resting = Some(self.cx.now());
                return Poll::Ready(Ok(Some(piece)));
            }
            Poll::Pending => {}
        }
        loop {
            let until = self.heard.plus(self.silence);
            let (host, timer) = (&self.cx, &mut self.timer);
            if timer.get_or_insert_with(|| host.sleep(host.now().until(until))).as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.timer = None;
            if self.cx.now() >= until {
                return Poll::Ready(Err(Stopped::Silent(self.silence)));
            }
        }
    }

    /// All that is left of it.
    pub(crate) async fn read(&mut self) -> Result<Bytes, Stopped> {
        let mut all = BytesMut::new();
        while let Some(piece) = self.next().await? {
            self.heard(self.silence);
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }
}
