//! What the suite holds against a plugin beside its transcript: declarations, cancellation, panics, a guest that dies.

use std::{collections::BTreeSet, future::poll_fn, time::Duration};

use bespoke_plugin_api::{CallCx, CancelToken, Code, Error, Provider, Tool, ToolRequest};
use serde_json::{Value, json};

use super::{
    Conformance, Tier,
    record::{caught, line},
};
use crate::{
    executor::block_on_for,
    host::Clock,
    rules::{PROMPT, cancelled_when_waiting, find, health_is_cheap, is_idle, shutdown_is_idempotent, streams_end},
    running::Running,
};

/// How long a slow call runs before it is dropped.
const MIDDLE: Duration = Duration::from_millis(50);

impl Conformance {
    /// Runs all of it, as [`check`](Self::check) does.
    ///
    /// # Errors
    /// The first rule that the plugin breaks.
    pub fn verify(&self) -> Result<(), String> {
        self.declares_what_it_registers()?;
        self.refuses_unknown_keys()?;
        self.says_the_same_everywhere()?;
        for tier in self.tiers() {
            let running = self.start(tier, self.clock)?;
            self.publishes_what_it_may(&running)?;
            streams_end(&self.audio[0], &running).map_err(|why| format!("in the tier {}: {why}", self.name(tier)))?;
            health_is_cheap(&running)?;
            shutdown_is_idempotent(&running).map_err(|why| format!("in the tier {}: {why}", self.name(tier)))?;
            self.cancels(tier)?;
            self.panics(tier)?;
        }
        self.survives_a_crash()
    }

    /// The transcripts of all tiers, held against that of the first.
    fn says_the_same_everywhere(&self) -> Result<(), String> {
        let mut tiers = self.tiers();
        let Some(first) = tiers.next() else { return Err("there is no tier to run it in".into()) };
        let expected = self.transcript(first)?;
        for tier in tiers {
            let other = self.transcript(tier)?;
            if expected != other {
                return Err(first_difference(self.name(first), &expected, self.name(tier), &other));
            }
        }
        Ok(())
    }

    fn declares_what_it_registers(&self) -> Result<(), String> {
        let Some(descriptor) = self.descriptor else { return Ok(()) };
        let manifest = self.manifest()?;
        let id = descriptor.id();
        if manifest.id != id {
            return Err(format!("plugin.toml says id = \"{}\", the macro says \"{id}\"", manifest.id));
        }
        let declared: BTreeSet<_> =
            manifest.provides.iter().filter(|p| !p.dynamic).filter_map(|p| Some((p.kind.clone(), p.name.clone()?))).collect();
        let registered: BTreeSet<_> = descriptor.declare().iter().map(|s| (s.kind().name().to_owned(), s.name().to_owned())).collect();
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
        let manifest = self.manifest()?;
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
        let Some(descriptor) = self.descriptor else { return Ok(()) };
        descriptor.check(&self.config).map_err(|e| format!("the configuration of this test is refused: {}", line(&e)))?;
        let mut config = self.config.clone();
        if let Value::Object(keys) = &mut config {
            keys.insert("no_such_key".into(), json!(1));
        }
        match descriptor.check(&config) {
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

    /// Each call that panics, in an instance of its own: an error where panics unwind, and the instance goes on; the end of the instance
    /// where they do not.
    fn panics(&self, tier: Tier) -> Result<(), String> {
        let within = self.name(tier);
        for (name, args) in &self.panicking {
            let running = self.start(tier, self.clock)?;
            let tool = find::<dyn Tool>(&running, Some(name))?;
            let call = |args: Value| block_on_for(PROMPT, caught(tool.call(&CallCx::new(), ToolRequest::new(args))));
            let (expected, retryable) = if self.is_trapping(tier) { (Code::PLUGIN_CRASHED, true) } else { (Code::PLUGIN_EXCEPTION, false) };
            match call(args.clone()) {
                Some(Err(e)) if e.code() == expected && e.is_retryable() == retryable => {}
                other => return Err(format!("{name} panics in {within} and comes to {other:?} instead of {}", expected.name())),
            }
            let again = call(json!({}));
            let lives = !matches!(&again, None | Some(Err(_)));
            if lives == self.is_trapping(tier) {
                return Err(format!("after a panic of {name} the next call in {within} comes to {again:?}"));
            }
        }
        Ok(())
    }

    fn survives_a_crash(&self) -> Result<(), String> {
        if self.descriptor.is_none() {
            return Ok(());
        }
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

fn first_difference(first: &str, expected: &[u8], tier: &str, other: &[u8]) -> String {
    let steps = |bytes| serde_json::from_slice::<Vec<Value>>(bytes).unwrap_or_default();
    let (expected, other) = (steps(expected), steps(other));
    let differs = expected.iter().zip(&other).find(|(a, b)| a.to_string() != b.to_string());
    match differs {
        Some((a, b)) => format!("the tiers differ:\n{first}: {a}\n{tier}: {b}"),
        None => format!("the tiers differ: {} steps in the tier {first}, {} in the tier {tier}", expected.len(), other.len()),
    }
}
