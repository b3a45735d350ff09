//! The life of a plugin in a library: what the plugin says of itself, and what its copy is.

use std::{sync::Arc, time::Duration};

use bespoke_plugin_api::{BoxFuture, CallCx, Code, Error, Facts, Health, Life, Reload, Result, State, serde_json::Value};
use bespoke_plugin_proxy::Inline;
use tokio::sync::watch;

use crate::{
    copies::{self, Copy, MOST_COPIES},
    instance::Stepped,
};

/// What the plugin has to answer `shutdown`, as one in a process.
const SHUTDOWN: Duration = Duration::from_secs(2);
/// And then to be closed.
const CLOSE: Duration = Duration::from_secs(1);

pub(crate) struct DylibLife {
    pub(crate) plugin: Arc<dyn Life>,
    pub(crate) inline: Inline<Stepped>,
    pub(crate) closed: watch::Receiver<bool>,
    pub(crate) copy: Arc<Copy>,
}

impl Life for DylibLife {
    fn health(&self) -> Health {
        self.plugin.health()
    }

    fn facts(&self) -> Facts {
        let mut facts = self.plugin.facts();
        let checked = &self.copy.checked;
        let mut add = |name: &str, value: String| facts.insert(name.into(), value);
        add("tier", "dylib".into());
        add("trusted", "yes: its permissions are not enforceable in this tier".into());
        add("library", self.copy.file.display().to_string());
        add("copies", format!("{} of {MOST_COPIES}, this is number {}", copies::count(&self.copy.file), self.copy.number));
        if !checked.toolchain.is_empty() {
            add("toolchain", checked.toolchain.clone());
        }
        if checked.panic.as_deref() == Some("abort") {
            add("panic", "abort: a panic of it ends this program".into());
        }
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

    /// The plugin is asked, then its instance is closed, whoever still holds something of it. One that blocks is left to its thread.
    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let _ = tokio::time::timeout(SHUTDOWN, self.plugin.shutdown()).await;
            self.inline.end(Error::new(Code::PLUGIN_CRASHED, "the plugin was stopped").retryable());
            let mut closed = self.closed.clone();
            let closed = async { drop(closed.wait_for(|closed| *closed).await) };
            if tokio::time::timeout(CLOSE, closed).await.is_err() {
                let file = self.copy.file.display();
                tracing::warn!("{file}: an instance has not ended after {} s; its thread was left behind", CLOSE.as_secs());
            }
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
