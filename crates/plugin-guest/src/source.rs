//! Streams of a plugin, erased: bytes in, frames out. One shape for `Duplex` and for `BoxStream`.

use std::{
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
    task::{Context, Poll},
};

use bespoke_plugin_api::{BoxStream, Duplex, Error, Result};
use bespoke_protocol::{Body, Kind, panicked, put_body, read_samples};

use crate::shared::Shared;

/// A stream of the plugin. A panic inside comes out as an error.
pub(crate) trait Source: Send {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>>;
    fn push(&mut self, bytes: &[u8]) -> Result<()>;
    fn finish(&mut self) -> Result<()>;
    /// Writes the next event as a frame of stream `id`.
    fn poll_event(&mut self, cx: &mut Context<'_>, id: u32, shared: &Shared) -> Poll<Option<Result<()>>>;
}

/// Input as it travels: samples or text.
pub(crate) trait Input: 'static {
    /// Reads one frame of input into `scratch` and shows it.
    fn read<R>(bytes: &[u8], scratch: &mut Vec<f32>, show: impl FnOnce(&Self) -> R) -> Result<R>;
}

impl Input for [f32] {
    fn read<R>(bytes: &[u8], scratch: &mut Vec<f32>, show: impl FnOnce(&Self) -> R) -> Result<R> {
        read_samples(bytes, scratch)?;
        Ok(show(scratch))
    }
}

impl Input for str {
    fn read<R>(bytes: &[u8], _scratch: &mut Vec<f32>, show: impl FnOnce(&Self) -> R) -> Result<R> {
        let text = std::str::from_utf8(bytes).map_err(|e| Error::invalid_params(format!("a frame of text: {e}")))?;
        Ok(show(text))
    }
}

/// A `Duplex` of the plugin, and the buffer that its samples are copied to.
pub(crate) struct DuplexSource<I: ?Sized, O> {
    inner: Box<dyn Duplex<I, O>>,
    scratch: Vec<f32>,
}

impl<I: ?Sized, O> DuplexSource<I, O> {
    pub(crate) fn new(inner: Box<dyn Duplex<I, O>>) -> Self {
        DuplexSource { inner, scratch: Vec::new() }
    }
}

impl<I: Input + ?Sized, O: Body> Source for DuplexSource<I, O> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        caught(|| self.inner.poll_ready(cx)).unwrap_or_else(|e| Poll::Ready(Err(e)))
    }

    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        let DuplexSource { inner, scratch } = self;
        I::read(bytes, scratch, |item| caught(|| inner.push(item)))??
    }

    fn finish(&mut self) -> Result<()> {
        caught(|| self.inner.finish())?
    }

    fn poll_event(&mut self, cx: &mut Context<'_>, id: u32, shared: &Shared) -> Poll<Option<Result<()>>> {
        written(caught(|| self.inner.poll_next(cx)), id, shared)
    }
}

/// The answer of a call that is a stream.
pub(crate) struct StreamSource<O> {
    inner: BoxStream<O>,
    marker: PhantomData<fn() -> O>,
}

impl<O> StreamSource<O> {
    pub(crate) fn new(inner: BoxStream<O>) -> Self {
        StreamSource { inner, marker: PhantomData }
    }
}

impl<O: Body> Source for StreamSource<O> {
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn push(&mut self, _bytes: &[u8]) -> Result<()> {
        Err(Error::invalid_params("this stream takes no input"))
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }

    fn poll_event(&mut self, cx: &mut Context<'_>, id: u32, shared: &Shared) -> Poll<Option<Result<()>>> {
        written(caught(|| self.inner.as_mut().poll_next(cx)), id, shared)
    }
}

fn written<O: Body>(polled: Result<Poll<Option<Result<O>>>>, id: u32, shared: &Shared) -> Poll<Option<Result<()>>> {
    match polled {
        Ok(Poll::Ready(Some(Ok(event)))) => Poll::Ready(Some(put_body(shared.outbox().lane(Kind::EVENT), Kind::EVENT, id, &event))),
        Ok(Poll::Ready(Some(Err(e)))) | Err(e) => Poll::Ready(Some(Err(e))),
        Ok(Poll::Ready(None)) => Poll::Ready(None),
        Ok(Poll::Pending) => Poll::Pending,
    }
}

/// Runs plugin code; a panic is an error.
pub(crate) fn caught<R>(run: impl FnOnce() -> R) -> Result<R> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|payload| {
        let error = panicked(&*payload);
        // What was thrown may throw again when it is dropped.
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(again);
        }
        error
    })
}
