//! What a call came to, as JSON that is equal exactly when the result is.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::Poll,
};

use bespoke_plugin_api::{Audio, BoxStream, Duplex, Error, Result, next, try_next};
use bespoke_protocol::panicked;
use serde::Serialize;
use serde_json::{Value, json};

/// Awaits plugin code that runs in this very thread: a panic is the error that a guest makes of it.
pub(crate) async fn caught<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut work = pin!(work);
    poll_fn(|cx| catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))).unwrap_or_else(|e| Poll::Ready(Err(panicked(&*e))))).await
}

/// A result.
pub(crate) fn outcome<T: Serialize>(result: Result<T>) -> Value {
    match result {
        Ok(value) => json!({ "ok": value }),
        Err(e) => json!({ "err": e }),
    }
}

/// Awaits a call and records it.
pub(crate) async fn called<T: Serialize>(work: impl Future<Output = Result<T>>) -> Value {
    outcome(caught(work).await)
}

/// Reads a stream to its end, and records it.
pub(crate) async fn streamed<T: Serialize>(opened: Result<BoxStream<T>>) -> Value {
    let (events, error) = match opened {
        Err(e) => (Vec::new(), Some(e)),
        Ok(stream) => read(stream).await,
    };
    json!({ "events": events, "error": error })
}

/// Reads a stream to its end: what came, and how it ended when not in order.
pub(crate) async fn read<T>(mut stream: BoxStream<T>) -> (Vec<T>, Option<Error>) {
    let mut events = Vec::new();
    let error = loop {
        match caught(async { poll_fn(|cx| stream.as_mut().poll_next(cx)).await.transpose() }).await {
            Ok(Some(event)) => events.push(event),
            Ok(None) => break None,
            Err(e) => break Some(e),
        }
    };
    (events, error)
}

/// Pushes all input, ends it, reads to the end.
///
/// An error counts the same wherever it shows: at `open`, at a push or as an item. Behind a wire it shows later.
pub(crate) async fn piped<'a, I: ?Sized + 'a, O>(
    opened: Result<Box<dyn Duplex<I, O>>>,
    input: impl IntoIterator<Item = &'a I>,
    show: impl Fn(O) -> Value,
) -> Value {
    let (events, error) = passed(opened, input).await;
    let events: Vec<Value> = events.into_iter().map(show).collect();
    json!({ "events": events, "error": error })
}

/// The same, as it is.
pub(crate) async fn passed<'a, I: ?Sized + 'a, O>(
    opened: Result<Box<dyn Duplex<I, O>>>,
    input: impl IntoIterator<Item = &'a I>,
) -> (Vec<O>, Option<Error>) {
    let mut events = Vec::new();
    let error = match opened {
        Err(e) => Some(e),
        Ok(mut stream) => match pushed(&mut *stream, input, &mut events).await {
            Ok(()) => None,
            Err(e) => {
                // What came before the error still counts; the error itself may stand in the stream once more.
                while let Some(Ok(event)) = caught_now(|| try_next(&mut *stream)) {
                    events.push(event);
                }
                Some(e)
            }
        },
    };
    (events, error)
}

async fn pushed<'a, I: ?Sized + 'a, O>(
    stream: &mut dyn Duplex<I, O>,
    input: impl IntoIterator<Item = &'a I>,
    events: &mut Vec<O>,
) -> Result<()> {
    for item in input {
        caught(poll_fn(|cx| stream.poll_ready(cx))).await?;
        caught(async { stream.push(item) }).await?;
        while let Some(event) = caught_now(|| try_next(stream)) {
            events.push(event?);
        }
    }
    caught(async { stream.finish() }).await?;
    while let Some(event) = caught(async { next(stream).await.transpose() }).await? {
        events.push(event);
    }
    Ok(())
}

fn caught_now<T>(run: impl FnOnce() -> Option<Result<T>>) -> Option<Result<T>> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|e| Some(Err(panicked(&*e))))
}

/// Audio, as its length and a hash over the bits of its samples (FNV-1a, 64 bits).
pub(crate) fn audio(audio: &Audio) -> Value {
    let hash = audio
        .samples
        .iter()
        .flat_map(|s| s.to_bits().to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    json!({ "rate": audio.rate, "samples": audio.samples.len(), "hash": format!("{hash:016x}") })
}

/// An error in one line.
pub(crate) fn line(e: &Error) -> String {
    format!("{} ({}): {}", e.kind(), e.code().value(), e.message())
}
