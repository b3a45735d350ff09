//! Rules that every plugin keeps and no transcript shows, each held against one that runs: streams that end, a shutdown that may come
//! twice, calls that let go.

use std::{
    future::poll_fn,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use bespoke_plugin_api::{
    Audio, CancelToken, Contract, Contribution, Duplex, Error, Result as ApiResult, SttOptions, TtsOptions, VadOptions, next,
};

use crate::{
    conformance::record::{caught, line},
    executor::block_on_for,
    running::Running,
};

/// Most time that one step may take. Generous: a model may have to be loaded.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// How soon a cancelled or dropped call must be gone.
pub(crate) const PROMPT: Duration = Duration::from_secs(10);

pub(crate) fn find<T: Contract + ?Sized>(running: &Running, name: Option<&str>) -> Result<Arc<T>, String> {
    let all = running.contributions();
    let found = all.iter().filter(|c| name.is_none_or(|name| c.name() == name)).find_map(T::of);
    found.map(|(_, object)| object.clone()).ok_or_else(|| format!("there is no {} {}", T::KIND, name.unwrap_or_default()))
}

/// Awaits a call and cancels it as soon as it waits for something; `None` when it does not end then.
pub(crate) fn cancelled_when_waiting<T>(call: impl Future<Output = ApiResult<T>>, token: &CancelToken) -> Option<ApiResult<T>> {
    let mut call = std::pin::pin!(call);
    let cancelled = poll_fn(|cx| {
        let polled = call.as_mut().poll(cx);
        if polled.is_pending() && !token.is_cancelled() {
            token.cancel();
            cx.waker().wake_by_ref();
        }
        polled
    });
    block_on_for(PROMPT, cancelled)
}

pub(crate) fn is_idle(running: &Running, what: &str) -> Result<(), String> {
    match &running.probe {
        Some(probe) if !probe.wait_idle(PROMPT) => {
            Err(format!("{what} goes on in the guest after it was dropped: {} under way", probe.active()))
        }
        _ => Ok(()),
    }
}

pub(crate) fn health_is_cheap(running: &Running) -> Result<(), String> {
    let begun = Instant::now();
    for _ in 0..100 {
        let _ = running.instance.life.health();
    }
    let each = begun.elapsed() / 100;
    if each > Duration::from_millis(5) { Err(format!("health takes {each:?}: it must look, not work")) } else { Ok(()) }
}

pub(crate) fn shutdown_is_idempotent(running: &Running) -> Result<(), String> {
    for time in ["first", "second"] {
        let shutdown = async {
            running.instance.life.shutdown().await;
            Ok(())
        };
        match block_on_for(PROMPT, caught(shutdown)) {
            Some(Ok(())) => {}
            Some(Err(e)) => return Err(format!("the {time} shutdown: {}", line(&e))),
            None => return Err(format!("the {time} shutdown does not end")),
        }
    }
    Ok(())
}

/// Finished streams drain to `None` and take no more; dropped ones leave nothing behind.
pub(crate) fn streams_end(samples: &Audio, running: &Running) -> Result<(), String> {
    let frame = &samples.samples[..samples.samples.len().min(512)];
    for contribution in &running.contributions() {
        stream_ends(contribution, samples.rate, frame).map_err(|why| format!("{contribution:?}: {why}"))?;
        is_idle(running, "a dropped stream")?;
    }
    Ok(())
}

/// The same for one contribution; one without streams has nothing to show.
pub(crate) fn stream_ends(contribution: &Contribution, rate: u32, frame: &[f32]) -> Result<(), String> {
    match contribution {
        Contribution::Vad(_, vad) => ends(|| vad.open(&VadOptions::new(rate)), frame),
        Contribution::Stt(spec, stt) if spec.streaming => ends(|| stt.open(&SttOptions::new(rate)), frame),
        Contribution::Tts(_, tts) => ends(|| tts.open(&TtsOptions::default()), "Hello."),
        Contribution::Channel(spec, channel) if spec.streams => ends(|| channel.stream("chat"), "Hello."),
        _ => Ok(()),
    }
}

fn ends<I: ?Sized, O>(open: impl Fn() -> ApiResult<Box<dyn Duplex<I, O>>>, item: &I) -> Result<(), String> {
    let open = || open().map_err(|e| line(&e));
    let mut dropped = open()?;
    dropped.push(item).map_err(|e| line(&e))?;
    drop(dropped);

    let mut stream = open()?;
    stream.push(item).map_err(|e| line(&e))?;
    stream.finish().map_err(|e| line(&e))?;
    stream.finish().map_err(|e| format!("the second finish: {}", line(&e)))?;
    if stream.push(item).is_ok() {
        return Err("push after finish is accepted".into());
    }
    let drained = async {
        while let Some(event) = next(&mut *stream).await {
            event?;
        }
        Ok::<(), Error>(())
    };
    match block_on_for(LIMIT, drained) {
        None => return Err("a finished stream does not come to its end".into()),
        Some(Err(e)) => return Err(format!("a finished stream ends with {}", line(&e))),
        Some(Ok(())) => {}
    }
    // It stays at its end.
    match block_on_for(PROMPT, poll_fn(|cx| Poll::Ready(stream.poll_next(cx).map(|e| e.is_none())))) {
        Some(Poll::Ready(true)) => Ok(()),
        _ => Err("a stream that has ended gives something again".into()),
    }
}
