//! Everything outside the plugin: one trait that the host implements, one handle that a plugin holds.

use std::{
    fmt,
    future::{Future, poll_fn},
    path::PathBuf,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{BoxFuture, BoxStream, CallCx, Code, Contribution, Error, Health, HttpReply, HttpRequest, Result, RuntimePack, Timestamp};

/// How much a log line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Level {
    /// For whoever debugs the plugin.
    Debug,
    /// For whoever runs it.
    Info,
    /// Something is not as it should be.
    Warn,
    /// Something failed.
    Error,
}

/// Something that happened, as the host tells it to all who subscribed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Event {
    /// Its name, such as `workflow_started`; one of a plugin begins with its id and a dot, such as `weather.found`.
    pub topic: String,
    /// Number of the event in this process, rising by one.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// The plugin that emitted it; `None` for the host. The host stamps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What.
    pub payload: Value,
}

impl Event {
    /// An event; the host fills in number, time and source.
    pub fn new(topic: impl Into<String>, seq: u64, at: Timestamp, source: Option<String>, payload: Value) -> Self {
        Event { topic: topic.into(), seq, at, source, payload }
    }
}

/// A contribution of another plugin, to be called through the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Target {
    /// Its kind, such as `tool`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

impl Target {
    /// A target.
    pub fn new(kind: impl Into<String>, name: impl Into<String>) -> Self {
        Target { kind: kind.into(), name: name.into() }
    }
}

/// What the host does for a plugin. A plugin calls it through [`PluginContext`]; in the tiers behind a wire the same trait is
/// a client that turns each call into a message. What a host does not offer answers `METHOD_NOT_FOUND`.
pub trait HostApi: Send + Sync + 'static {
    /// Writes a line to the host's log, under the plugin's id.
    fn log(&self, level: Level, line: &str);

    /// The time. `Instant::now()` and `SystemTime::now()` do not exist in every tier.
    fn now(&self) -> Timestamp;

    /// Waits.
    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()>;

    /// Runs work on a thread that may block, starting at once; the future completes when it is done. Dropping the future
    /// does not stop the work. In wasm it runs in place.
    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()>;

    /// Runs a task beside the calls of the plugin until it ends or the plugin stops.
    fn spawn(&self, task: BoxFuture<'static, ()>);

    /// Makes an HTTP request. Needs the permission `http` for the host in question; redirects are not followed.
    fn http(&self, _request: HttpRequest) -> BoxFuture<'static, Result<HttpReply>> {
        unsupported("host.http")
    }

    /// Calls a contribution of another plugin.
    fn call(&self, _cx: &CallCx, _target: Target, _args: Value) -> BoxFuture<'static, Result<Value>> {
        unsupported("host.call")
    }

    /// Replaces the dynamic contributions of this plugin, of kinds that its manifest marks `dynamic`.
    fn publish(&self, _contributions: Vec<Contribution>) -> Result<()> {
        Err(Error::unsupported("host.publish"))
    }

    /// Tells everybody who subscribed. `topic` is put under the plugin's id.
    fn emit(&self, _topic: &str, _payload: Value) -> Result<()> {
        Err(Error::unsupported("host.emit"))
    }

    /// Events whose topic begins with `prefix`, from now on. A plugin does not hear its own.
    fn subscribe(&self, _prefix: &str) -> Result<BoxStream<Event>> {
        Err(Error::unsupported("host.subscribe"))
    }

    /// A secret by the name that the manifest declares. The data of the error is `{"unset": NAME}` when the user has set none, which a
    /// plugin may take for an answer; any other error is one.
    fn secret(&self, _name: &str) -> BoxFuture<'static, Result<String>> {
        unsupported("host.secret")
    }

    /// A value that the plugin stored.
    fn load(&self, _key: &str) -> BoxFuture<'static, Result<Option<Bytes>>> {
        unsupported("host.load")
    }

    /// Stores a value durably; `None` removes it.
    fn store(&self, _key: &str, _value: Option<Bytes>) -> BoxFuture<'static, Result<()>> {
        unsupported("host.store")
    }

    /// Where a model file of the manifest lies, verified. Looks on this machine only.
    ///
    /// # Errors
    /// `MODEL_NOT_FOUND`, with the command that fetches it.
    fn model(&self, file: &str) -> Result<PathBuf> {
        Err(Error::new(Code::MODEL_NOT_FOUND, format!("{file}: this host keeps no models")))
    }

    /// The libraries of a runtime of the manifest, such as `onnx:cpu`. Looks on this machine only, and loads nothing.
    ///
    /// # Errors
    /// `DEPENDENCY_MISSING`, with the command that installs them.
    fn runtime(&self, spec: &str) -> Result<RuntimePack> {
        Err(Error::new(Code::DEPENDENCY_MISSING, format!("{spec}: this host keeps no runtimes")))
    }

    /// Fills a buffer with random bytes fit for keys.
    fn random(&self, _buffer: &mut [u8]) -> Result<()> {
        Err(Error::unsupported("host.random"))
    }

    /// Says how the plugin does, without being asked.
    fn report_health(&self, _health: Health) {}
}

fn unsupported<T: Send + 'static>(method: &str) -> BoxFuture<'static, Result<T>> {
    let error = Error::unsupported(method);
    Box::pin(async move { Err(error) })
}

/// A plugin's handle on the world. The only way out for a portable plugin. Cheap to clone.
#[derive(Clone)]
pub struct PluginContext {
    host: Arc<dyn HostApi>,
    id: Arc<str>,
    data_dir: Option<PathBuf>,
    cpu_budget: u16,
}

impl PluginContext {
    /// A context of plugin `id` over a host, with one thread to spend and no folder.
    pub fn new(id: &str, host: Arc<dyn HostApi>) -> Self {
        PluginContext { host, id: id.into(), data_dir: None, cpu_budget: 1 }
    }

    /// With a folder of its own.
    #[must_use]
    pub fn with_data_dir(mut self, dir: PathBuf) -> Self {
        self.data_dir = Some(dir);
        self
    }

    /// With so many threads to spend.
    #[must_use]
    pub fn with_cpu_budget(mut self, threads: u16) -> Self {
        self.cpu_budget = threads.max(1);
        self
    }

    /// The plugin's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A folder that belongs to the plugin, where its tier and its permissions allow one.
    pub fn data_dir(&self) -> Option<&PathBuf> {
        self.data_dir.as_ref()
    }

    /// How many threads one request may use, at least 1. Inference with more threads than free cores spins at its barriers
    /// and gets slower by one to two orders of magnitude, so the default is 1.
    pub fn cpu_budget(&self) -> u16 {
        self.cpu_budget
    }

    /// The host itself, for what has no helper here.
    pub fn host(&self) -> &Arc<dyn HostApi> {
        &self.host
    }

    /// Writes a line to the host's log.
    pub fn log(&self, level: Level, line: &str) {
        self.host.log(level, line);
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.host.now()
    }

    /// Waits.
    pub fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        self.host.sleep(time)
    }

    /// Awaits `work` for so long; `None` when it takes longer. Then, and when the call is cancelled, the work is dropped. The time runs
    /// once there is something to wait for.
    ///
    /// # Errors
    /// `CANCELLED` when the call is.
    pub async fn within<T>(&self, call: &CallCx, limit: Duration, work: impl Future<Output = T>) -> Result<Option<T>> {
        let mut work = pin!(call.unless_cancelled(work));
        let mut sleep = None;
        poll_fn(|task| match work.as_mut().poll(task) {
            Poll::Ready(done) => Poll::Ready(done.map(Some)),
            Poll::Pending => sleep.get_or_insert_with(|| self.sleep(limit)).as_mut().poll(task).map(|()| Ok(None)),
        })
        .await
    }

    /// Runs work that computes or blocks, off the async threads, starting at once.
    ///
    /// # Errors
    /// `PLUGIN_EXCEPTION` when it panicked.
    pub fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Result<T>> + Send + 'static {
        let slot = Arc::new(Mutex::new(None));
        let filled = slot.clone();
        let done = self.host.blocking(Box::new(move || {
            let value = work();
            *filled.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        }));
        async move {
            done.await;
            let value = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
            value.ok_or_else(|| Error::new(Code::PLUGIN_EXCEPTION, "the work panicked; the log has the message"))
        }
    }

    /// Runs a task beside the calls of the plugin.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.host.spawn(Box::pin(task));
    }

    /// Makes an HTTP request through the host, which checks where it goes. Redirects are not followed.
    pub fn http(&self, request: HttpRequest) -> BoxFuture<'static, Result<HttpReply>> {
        self.host.http(request)
    }

    /// Calls a contribution of another plugin.
    pub fn call(&self, cx: &CallCx, target: Target, args: Value) -> BoxFuture<'static, Result<Value>> {
        self.host.call(cx, target, args)
    }

    /// Tells everybody who subscribed.
    pub fn emit(&self, topic: &str, payload: Value) -> Result<()> {
        self.host.emit(topic, payload)
    }

    /// Events whose topic begins with `prefix`.
    pub fn subscribe(&self, prefix: &str) -> Result<BoxStream<Event>> {
        self.host.subscribe(prefix)
    }

    /// A secret of the manifest. The data of the error is `{"unset": NAME}` when the user has set none.
    pub fn secret(&self, name: &str) -> BoxFuture<'static, Result<String>> {
        self.host.secret(name)
    }

    /// Where a model file of the manifest lies.
    pub fn model(&self, file: &str) -> Result<PathBuf> {
        self.host.model(file)
    }

    /// The libraries of a runtime of the manifest.
    pub fn runtime(&self, spec: &str) -> Result<RuntimePack> {
        self.host.runtime(spec)
    }

    /// Says how the plugin does.
    pub fn report_health(&self, health: Health) {
        self.host.report_health(health);
    }
}

impl fmt::Debug for PluginContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PluginContext").field("id", &self.id).field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}
