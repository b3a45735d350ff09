//! The host as an instance in wasm has it: the plugin's own, with a log that no guest can flood. Everything else it passes on as it is.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bespoke_plugin_api::{
    BoxFuture, BoxStream, CallCx, Contribution, Event, Health, HostApi, HttpReply, HttpRequest, Level, Result, RuntimePack, Target,
    Timestamp, serde_json::Value,
};
use bespoke_tier::{Pass, Rate, log};
use bytes::Bytes;

pub(crate) struct Hosted {
    host: Arc<dyn HostApi>,
    rate: Mutex<Rate>,
}

impl Hosted {
    pub(crate) fn new(host: Arc<dyn HostApi>) -> Self {
        Hosted { host, rate: Mutex::new(log::rate(Instant::now())) }
    }
}

impl HostApi for Hosted {
    fn log(&self, level: Level, line: &str) {
        let passed = self.rate.lock().unwrap_or_else(PoisonError::into_inner).pass(Instant::now());
        let Pass::Through { held_before } = passed else { return };
        if let Some(line) = log::left_out(held_before) {
            self.host.log(Level::Warn, &line);
        }
        self.host.log(level, &log::line(line));
    }

    fn now(&self) -> Timestamp {
        self.host.now()
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        self.host.sleep(time)
    }

    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        self.host.blocking(work)
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.host.spawn(task);
    }

    fn http(&self, request: HttpRequest) -> BoxFuture<'static, Result<HttpReply>> {
        self.host.http(request)
    }

    fn call(&self, cx: &CallCx, target: Target, args: Value) -> BoxFuture<'static, Result<Value>> {
        self.host.call(cx, target, args)
    }

    fn publish(&self, contributions: Vec<Contribution>) -> Result<()> {
        self.host.publish(contributions)
    }

    fn emit(&self, topic: &str, payload: Value) -> Result<()> {
        self.host.emit(topic, payload)
    }

    fn subscribe(&self, prefix: &str) -> Result<BoxStream<Event>> {
        self.host.subscribe(prefix)
    }

    fn secret(&self, name: &str) -> BoxFuture<'static, Result<String>> {
        self.host.secret(name)
    }

    fn load(&self, key: &str) -> BoxFuture<'static, Result<Option<Bytes>>> {
        self.host.load(key)
    }

    fn store(&self, key: &str, value: Option<Bytes>) -> BoxFuture<'static, Result<()>> {
        self.host.store(key, value)
    }

    fn model(&self, file: &str) -> Result<PathBuf> {
        self.host.model(file)
    }

    fn runtime(&self, spec: &str) -> Result<RuntimePack> {
        self.host.runtime(spec)
    }

    fn random(&self, buffer: &mut [u8]) -> Result<()> {
        self.host.random(buffer)
    }

    fn report_health(&self, health: Health) {
        self.host.report_health(health);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bespoke_plugin_testkit::TestHost;

    #[test]
    fn a_flood_is_held_back_and_counted() {
        let host = TestHost::new();
        let hosted = Hosted::new(host.clone());
        for n in 0..10_000 {
            hosted.log(Level::Info, &format!("{n}"));
        }
        // However slow the machine: not more than a few seconds have passed.
        assert!((400..6000).contains(&host.lines().len()), "{}", host.lines().len());
    }
}
