//! The rules that a transcript does not show: declarations, cancellation, dropped streams, a guest that dies.

use std::{
    collections::BTreeSet,
    future::poll_fn,
    task::Poll,
    time::{Duration, Instant},
};

use bespoke_plugin_api::{
    CallCx, CancelToken, Code, Contract, Contribution, Duplex, Error, Provider, Result as ApiResult, SttOptions, Tool, ToolRequest,
    TtsOptions, VadOptions, next,
};
use serde_json::{Value, json};

use super::{
    Conformance, LIMIT, Running, Tier,
    record::{caught, line},
};
use crate::{executor::block_on_for, host::Clock, manifest::Manifest};

/// How soon a cancelled or dropped call must be gone.
const PROMPT: Duration = Duration::from_secs(10);

/// How long a slow call runs before it is dropped.
const MIDDLE: Duration = Duration::from_millis(50);

impl Conformance {
    pub(super) fn run(&self) -> Result<(), String> {
        self.declares_what_it_registers()?;
        self.refuses_unknown_keys()?;
        let compiled = self.transcript(Tier::Compiled)?;
        for tier in self.tiers().skip(1) {
            let other = self.transcript(tier)?;
            if compiled != other {
                return Err(first_difference(&compiled, self.name(tier), &other));
            }
        }
        for tier in self.tiers() {
            let running = self.start(tier, self.clock)?;
            self.publishes_what_it_may(&running)?;
            streams_end(self, &running).map_err(|why| format!("in the tier {}: {why}", self.name(tier)))?;
            health_is_cheap(&running)?;
            shutdown_is_idempotent(&running).map_err(|why| format!("in the tier {}: {why}", self.name(tier)))?;
            self.cancels(tier)?;
        }
        self.survives_a_crash()
    }

    fn declares_what_it_registers(&self) -> Result<(), String> {
        let manifest = Manifest::read(self.descriptor.package().manifest)?;
        let id = self.descriptor.id();
        if manifest.id != id {
            return Err(format!("plugin.toml says id = \"{}\", the macro says \"{id}\"", manifest.id));
        }
        let declared: BTreeSet<_> =
            manifest.provides.iter().filter(|p| !p.dynamic).filter_map(|p| Some((p.kind.clone(), p.name.clone()?))).collect();
        let registered: BTreeSet<_> = self.descriptor.declare().iter().map(|s| (s.kind().name().to_owned(), s.name().to_owned())).collect();
        if declared == registered {
            return Ok(());
        }
        Err(format!(
            "registered but not in plugin.toml: {:?}; in plugin.toml but not registered: {:?}",
            registered.difference(&declared).collect::<Vec<_>>(),
            declared.difference(&registered).collect::<Vec<_>>()
        ))
    }

    fn publishes_what_it_may(&self, running: &Running) -> Result<(), String> {
        let manifest = Manifest::read(self.descriptor.package().manifest)?;
        for published in running.host.published() {
            let (kind, name) = (published.kind().name(), published.name());
            let of_it = |p: &&crate::manifest::Provides| p.dynamic && p.kind == kind && p.name.as_deref().is_none_or(|own| own == name);
            if manifest.provides.iter().find(of_it).is_none() {
                return Err(format!("publishes {kind} `{name}`, but plugin.toml marks no {kind} of this name as dynamic"));
            }
        }
        Ok(())
    }

    fn refuses_unknown_keys(&self) -> Result<(), String> {
        self.descriptor.check(&self.config).map_err(|e| format!("the configuration of this test is refused: {}", line(&e)))?;
        let mut config = self.config.clone();
        if let Value::Object(keys) = &mut config {
            keys.insert("no_such_key".into(), json!(1));
        }
        match self.descriptor.check(&config) {
            Err(e) if e.code() == Code::INVALID_PARAMS => Ok(()),
            Err(e) => Err(format!("an unknown key is {} instead of INVALID_PARAMS", e.kind())),
            Ok(()) => Err("an unknown key in the configuration is accepted: add deny_unknown_fields".into()),
        }
    }

    fn cancels(&self, tier: Tier) -> Result<(), String> {
        let within = self.name(tier);
        if let Some((name, args)) = &self.slow_tool {
            let running = self.start(tier, Clock::Manual)?;
            let tool = find::<dyn Tool>(&running, Some(name))?;
            let token = CancelToken::new();
            let cx = CallCx::new().with_cancel(token.clone());
            let call = caught(tool.call(&cx, ToolRequest::new(args.clone())));
            match cancelled_when_waiting(call, &token).ok_or_else(|| format!("{name} does not end in {within} when it is cancelled"))? {
                Err(e) if e.code() == Code::CANCELLED => {}
                other => return Err(format!("{name} answers its cancellation in {within} with {other:?}")),
            }
            let cx = CallCx::new();
            let dropped = caught(tool.call(&cx, ToolRequest::new(args.clone())));
            if let Some(result) = block_on_for(MIDDLE, dropped) {
                return Err(format!("{name} was to be slow, and ended at once with {result:?}"));
            }
            is_idle(&running, name)?;
        }
        if let Some(request) = &self.slow_chat {
            let running = self.start(tier, Clock::Manual)?;
            let provider = find::<dyn Provider>(&running, None)?;
            let token = CancelToken::new();
            let cx = CallCx::new().with_cancel(token.clone());
            let chat = async {
                let mut stream = caught(provider.chat(&cx, request.clone())).await?;
                let first = poll_fn(|task| stream.as_mut().poll_next(task)).await;
                if !matches!(first, Some(Ok(_))) {
                    return Err(Error::internal("it was to begin with a delta"));
                }
                token.cancel();
                while let Some(delta) = poll_fn(|task| stream.as_mut().poll_next(task)).await {
                    delta?;
                }
                Ok(())
            };
            match block_on_for(PROMPT, chat) {
                None => return Err(format!("an answer does not end in {within} when it is cancelled")),
                Some(Err(e)) if e.code() != Code::CANCELLED => {
                    return Err(format!("a cancelled answer ends in {within} with {}", line(&e)));
                }
                Some(_) => {}
            }
            let dropped = async {
                let mut stream = caught(provider.chat(&CallCx::new(), request.clone())).await?;
                poll_fn(|task| stream.as_mut().poll_next(task)).await.transpose().map(drop)
            };
            block_on_for(PROMPT, dropped).ok_or("an answer does not begin")?.map_err(|e| line(&e))?;
            is_idle(&running, "a dropped answer")?;
        }
        Ok(())
    }

    fn survives_a_crash(&self) -> Result<(), String> {
        let running = self.start(Tier::Loopback, Clock::Jump)?;
        let Some(probe) = &running.probe else { return Ok(()) };
        probe.crash();
        let call = running.instance.life.reconfigure(self.config.clone());
        match block_on_for(PROMPT, call) {
            Some(Err(e)) if e.code() == Code::PLUGIN_CRASHED && e.is_retryable() => Ok(()),
            other => Err(format!("a call of a crashed guest comes to {other:?} instead of PLUGIN_CRASHED, retryable")),
        }
    }
}

fn first_difference(compiled: &[u8], tier: &str, other: &[u8]) -> String {
    let steps = |bytes| serde_json::from_slice::<Vec<Value>>(bytes).unwrap_or_default();
    let (compiled, other) = (steps(compiled), steps(other));
    let differs = compiled.iter().zip(&other).find(|(a, b)| a.to_string() != b.to_string());
    match differs {
        Some((a, b)) => format!("the tiers differ:\ncompiled: {a}\n{tier}: {b}"),
        None => format!("the tiers differ: {} steps compiled in, {} in the tier {tier}", compiled.len(), other.len()),
    }
}

fn find<T: Contract + ?Sized>(running: &Running, name: Option<&str>) -> Result<std::sync::Arc<T>, String> {
    let all = running.contributions();
    let found = all.iter().filter(|c| name.is_none_or(|name| c.name() == name)).find_map(T::of);
    found.map(|(_, object)| object.clone()).ok_or_else(|| format!("there is no {} {}", T::KIND, name.unwrap_or_default()))
}

/// Awaits a call and cancels it as soon as it waits for something; `None` when it does not end then.
fn cancelled_when_waiting<T>(call: impl Future<Output = ApiResult<T>>, token: &CancelToken) -> Option<ApiResult<T>> {
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

fn is_idle(running: &Running, what: &str) -> Result<(), String> {
    match &running.probe {
        Some(probe) if !probe.wait_idle(PROMPT) => {
            Err(format!("{what} goes on in the guest after it was dropped: {} under way", probe.active()))
        }
        _ => Ok(()),
    }
}

fn health_is_cheap(running: &Running) -> Result<(), String> {
    let begun = Instant::now();
    for _ in 0..100 {
        let _ = running.instance.life.health();
    }
    let each = begun.elapsed() / 100;
    if each > Duration::from_millis(5) { Err(format!("health takes {each:?}: it must look, not work")) } else { Ok(()) }
}

fn shutdown_is_idempotent(running: &Running) -> Result<(), String> {
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
fn streams_end(suite: &Conformance, running: &Running) -> Result<(), String> {
    let samples = &suite.audio[0];
    let frame = &samples.samples[..samples.samples.len().min(512)];
    for contribution in &running.contributions() {
        let ended = match contribution {
            Contribution::Vad(_, vad) => {
                let open = || vad.open(&VadOptions::new(samples.rate));
                ends(open, frame)
            }
            Contribution::Stt(spec, stt) if spec.streaming => ends(|| stt.open(&SttOptions::new(samples.rate)), frame),
            Contribution::Tts(_, tts) => ends(|| tts.open(&TtsOptions::default()), "Hello."),
            Contribution::Channel(spec, channel) if spec.streams => ends(|| channel.stream("chat"), "Hello."),
            _ => continue,
        };
        ended.map_err(|why| format!("{contribution:?}: {why}"))?;
        is_idle(running, "a dropped stream")?;
    }
    Ok(())
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
