//! The host of a plugin that is only asked what it contributes: it does nothing for it.

use std::time::Duration;

use bespoke_plugin_api::{BoxFuture, HostApi, Level, Timestamp};

/// The host of a plugin that is only asked: it takes its log, and does nothing for it.
#[derive(Debug)]
pub struct Asker(String);

impl Asker {
    /// For the plugin of that id.
    pub fn new(id: &str) -> Self {
        Asker(id.to_owned())
    }
}

impl HostApi for Asker {
    fn log(&self, level: Level, line: &str) {
        let plugin = &*self.0;
        match level {
            Level::Debug => tracing::debug!(target: "plugin", plugin, "{line}"),
            Level::Info => tracing::info!(target: "plugin", plugin, "{line}"),
            Level::Warn => tracing::warn!(target: "plugin", plugin, "{line}"),
            _ => tracing::error!(target: "plugin", plugin, "{line}"),
        }
    }

    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }

    fn blocking(&self, _: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn spawn(&self, _: BoxFuture<'static, ()>) {}
}
