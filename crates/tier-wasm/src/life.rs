//! The life of an instance in wasm: what the plugin says of itself, and what can be seen of it from outside.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bespoke_plugin_api::{BoxFuture, CallCx, Code as ErrorCode, Error, Facts, Health, Life, Reload, Result, State, serde_json::Value};
use bespoke_plugin_proxy::Inline;

use crate::{
    code::Code,
    guest::Guest,
    limits::{Gauge, Limits},
};

/// How long a plugin has to answer `shutdown`: less than its host waits, so that one that hangs has ended all the same.
const SHUTDOWN: Duration = Duration::from_secs(2);

pub(crate) struct WasmLife {
    plugin: Arc<dyn Life>,
    handle: Arc<Inline<Guest>>,
    limits: Limits,
    gauge: Arc<Gauge>,
    started: Instant,
    from: &'static str,
    digest: String,
}

impl WasmLife {
    pub(crate) fn new(plugin: Arc<dyn Life>, handle: Arc<Inline<Guest>>, limits: Limits, gauge: Arc<Gauge>, code: &Code) -> Self {
        WasmLife { plugin, handle, limits, gauge, started: Instant::now(), from: code.from, digest: code.digest.clone() }
    }
}

impl Life for WasmLife {
    fn health(&self) -> Health {
        self.plugin.health()
    }

    fn facts(&self) -> Facts {
        let mut facts = self.plugin.facts();
        let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
        let used = self.gauge.memory();
        facts.insert("tier".into(), "wasm".into());
        facts.insert("sandbox".into(), "enforced".into());
        facts.insert("memory".into(), format!("{:.1} MiB of {:.0}", mib(used), mib(self.limits.memory)));
        if let Some(percent) = self.limits.cpu_percent {
            facts.insert("cpu".into(), format!("{:.1} s, of at most {percent} % of one processor", self.gauge.computed().as_secs_f64()));
        }
        facts.insert("component".into(), format!("{}, {}", &self.digest[..12], self.from));
        facts.insert("running".into(), format!("{} s", self.started.elapsed().as_secs()));
        facts
    }

    fn reconfigure(&self, config: Value) -> BoxFuture<'_, Result<Reload>> {
        self.plugin.reconfigure(config)
    }

    fn capture_state(&self) -> BoxFuture<'_, Result<Option<State>>> {
        self.plugin.capture_state()
    }

    fn restore_state(&self, state: State) -> BoxFuture<'_, Result<()>> {
        self.plugin.restore_state(state)
    }

    /// The plugin is asked, then its store is dropped.
    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // One that does not answer is ended all the same.
            let _ = tokio::time::timeout(SHUTDOWN, self.plugin.shutdown()).await;
            self.handle.end(Error::new(ErrorCode::PLUGIN_CRASHED, "the plugin was stopped").retryable());
        })
    }

    fn invoke<'a>(&'a self, cx: &'a CallCx, method: &'a str, args: Value) -> BoxFuture<'a, Result<Value>> {
        self.plugin.invoke(cx, method, args)
    }

    fn methods(&self) -> BoxFuture<'_, Result<Vec<String>>> {
        self.plugin.methods()
    }

    fn ended(&self) -> BoxFuture<'static, Error> {
        self.plugin.ended()
    }
}
