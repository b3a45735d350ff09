//! One plugin as the host knows it: where it comes from, its state, its health, its current generation and its counters.

use std::{
    collections::BTreeSet,
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use bespoke_manifest::{Inherited, Manifest, Permissions};
use bespoke_plugin_api::{
    BoxFuture, Code, Contribution, Descriptor, Error, Facts, Health, Instance, Kind, Life, PluginContext, Result, Spec,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    runtime::Handle,
    sync::{Notify, oneshot, watch},
    task::{AbortHandle, JoinHandle},
};

use crate::{
    HttpAllowed, Used,
    http::Rate,
    metrics::Metrics,
    supervise::Watch,
    thread::{Late, Seats, Threads},
    tier::Terms,
};

/// How a plugin ships.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Tier {
    /// Part of this program.
    Compiled,
    /// A dynamic library.
    Dylib,
    /// A wasm component.
    Wasm,
    /// A child process.
    Process,
    /// Configured, but not there.
    None,
}

impl Tier {
    /// The name in listings.
    pub const fn name(self) -> &'static str {
        match self {
            Tier::Compiled => "compiled",
            Tier::Dylib => "dylib",
            Tier::Wasm => "wasm",
            Tier::Process => "process",
            Tier::None => "none",
        }
    }
}

/// Where a plugin is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum State {
    /// Configured, but neither in this binary nor installed.
    Missing,
    /// Switched off in the configuration.
    Disabled,
    /// Waits for the user's consent.
    Blocked,
    /// Known, not started.
    Unloaded,
    /// `start` runs.
    Starting,
    /// Serves.
    Ready,
    /// Takes no new calls; the last ones run out.
    Draining,
    /// Stopped in order.
    Stopped,
    /// Could not start, or broke.
    Failed,
    /// Broke too often; not tried again by itself.
    Quarantined,
}

impl State {
    /// The name in listings.
    pub const fn name(self) -> &'static str {
        match self {
            State::Missing => "missing",
            State::Disabled => "disabled",
            State::Blocked => "blocked",
            State::Unloaded => "unloaded",
            State::Starting => "starting",
            State::Ready => "ready",
            State::Draining => "draining",
            State::Stopped => "stopped",
            State::Failed => "failed",
            State::Quarantined => "quarantined",
        }
    }

    /// Whether nothing more will happen by itself.
    pub const fn is_settled(self) -> bool {
        !matches!(self, State::Unloaded | State::Starting | State::Draining)
    }
}

/// What a tier hands to the host: a plugin that could be started. Everything that runs plugin code is called by the host on a
/// thread it can do without.
pub trait Artifact: Send + Sync {
    /// Why nothing of it can ever run in this program, and the state that says so: `Missing` where another build of the program could run
    /// it, else `Failed`. Such a plugin is listed with its manifest, and never asked or started.
    fn refusal(&self) -> Option<(State, Error)> {
        None
    }
    /// Makes what it needs before it can start and what is not there, such as packages, if that may be done without a question; else, and
    /// when nothing is missing, it does nothing. `tell` gets a line for people before something takes long. It may take minutes: it comes
    /// before a start, and has a limit of its own.
    ///
    /// # Errors
    /// `DEPENDENCY_MISSING`.
    fn prepare(&self, tell: &dyn Fn(&str)) -> Result<()> {
        let _ = tell;
        Ok(())
    }
    /// What it says it contributes. May ask the plugin itself, in its own process or store, on these terms or stricter ones.
    ///
    /// # Errors
    /// `LOAD_FAILED` and whatever else keeps it from being asked.
    fn declare(&self, terms: &Terms) -> Result<Vec<Spec>>;
    /// Whether a configuration fits; the error's `data.path` names the key.
    fn check(&self, config: &Value) -> Result<()>;
    /// Makes an instance, which may have and use what the terms say.
    fn start(&self, cx: PluginContext, config: Value, terms: Terms) -> BoxFuture<'static, Result<Instance>>;
}

impl Artifact for &'static Descriptor {
    fn declare(&self, _: &Terms) -> Result<Vec<Spec>> {
        Ok(Descriptor::declare(self))
    }

    fn check(&self, config: &Value) -> Result<()> {
        Descriptor::check(self, config)
    }

    /// The terms of a plugin inside the program are advice.
    fn start(&self, cx: PluginContext, config: Value, _: Terms) -> BoxFuture<'static, Result<Instance>> {
        Descriptor::start(self, cx, config)
    }
}

/// A plugin that was found, before anything of it ran.
#[derive(Clone)]
pub struct Candidate {
    /// Its id.
    pub id: String,
    /// How it ships.
    pub tier: Tier,
    /// Where it comes from, for messages: a crate, a file.
    pub origin: String,
    /// What it says of itself, or why that cannot be read.
    pub manifest: Result<Arc<Manifest>>,
    /// Text of config.schema.json.
    pub config_schema: String,
    /// What can be started.
    pub artifact: Arc<dyn Artifact>,
}

impl From<&'static Descriptor> for Candidate {
    fn from(descriptor: &'static Descriptor) -> Self {
        let package = descriptor.package();
        let path = format!("{}/plugin.toml", package.name);
        // Only a compiled-in plugin has a crate whose version and licence it can inherit.
        let inherited = Inherited { version: package.version, license: package.license };
        let manifest = Manifest::parse(&path, package.manifest, Some(inherited));
        Candidate {
            id: descriptor.id().to_owned(),
            tier: Tier::Compiled,
            origin: package.name.to_owned(),
            manifest: manifest.map(Arc::new).map_err(Error::from),
            config_schema: package.config_schema.to_owned(),
            artifact: Arc::new(descriptor),
        }
    }
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {})", self.id, self.tier.name(), self.origin)
    }
}

/// One started life of a plugin, and how many calls are inside it.
pub(crate) struct Generation {
    plugin: Arc<str>,
    /// Those of the plugin: of all its generations.
    metrics: Arc<Metrics>,
    /// Taken out by whoever ends it, so that a lease that is dropped late has nothing left to end.
    life: Mutex<Option<Arc<dyn Life>>>,
    pub(crate) footing: Arc<Footing>,
    in_flight: AtomicUsize,
    draining: AtomicBool,
    left: Notify,
}

impl Generation {
    pub(crate) fn new(plugin: &PluginCell, life: Arc<dyn Life>, footing: Arc<Footing>) -> Self {
        Generation {
            plugin: plugin.id.clone(),
            metrics: plugin.metrics.clone(),
            life: Mutex::new(Some(life)),
            footing,
            in_flight: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            left: Notify::new(),
        }
    }

    /// Its life, until it was ended.
    pub(crate) fn life(&self) -> Option<Arc<dyn Life>> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its life, for whoever ends it.
    pub(crate) fn take_life(&self) -> Option<Arc<dyn Life>> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Takes calls again.
    pub(crate) fn resume(&self) {
        self.draining.store(false, Ordering::SeqCst);
    }

    pub(crate) fn plugin(&self) -> &str {
        &self.plugin
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Counts a call in; `false` when the generation takes none any more. Count first, look second, while
    /// [`drain`](Self::drain) sets first and counts second: one of the two sees the other.
    pub(crate) fn enter(&self) -> bool {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        if self.draining.load(Ordering::SeqCst) {
            self.leave();
            return false;
        }
        true
    }

    pub(crate) fn leave(&self) {
        if self.in_flight.fetch_sub(1, Ordering::SeqCst) == 1 && self.draining.load(Ordering::SeqCst) {
            self.left.notify_waiters();
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Takes no more calls and waits until the last is out; `false` when the limit passed before that.
    pub(crate) async fn drain(&self, limit: Duration) -> bool {
        self.draining.store(true, Ordering::SeqCst);
        let empty = async {
            loop {
                let left = self.left.notified();
                if self.in_flight.load(Ordering::SeqCst) == 0 {
                    return;
                }
                left.await;
            }
        };
        tokio::time::timeout(limit, empty).await.is_ok()
    }
}

/// Most tasks that one generation of a plugin may have at once: more is a loop that spawns without end.
const MOST_TASKS: usize = 4096;

/// What a generation has from before it exists until after it has ended: its tasks, what it publishes, and whom it may ask.
#[derive(Default)]
pub(crate) struct Footing {
    tasks: Mutex<Running>,
    stage: Mutex<Stage>,
    /// Of the configuration that it runs with, which is not always the newest.
    pub(crate) http: ArcSwapOption<HttpAllowed>,
    /// What the user granted of what the manifest asks for. Until it is set, all of it.
    pub(crate) granted: ArcSwapOption<Permissions>,
    /// How many requests it may make.
    pub(crate) rate: Rate,
}

#[derive(Default)]
struct Running {
    over: bool,
    list: Vec<AbortHandle>,
    /// The length at which those that have ended are taken out.
    sweep_at: usize,
}

enum Stage {
    /// What it published last, for when its generation is in place.
    Starting(Vec<Contribution>),
    Serving(Weak<Generation>),
    Over,
}

impl Default for Stage {
    fn default() -> Self {
        Stage::Starting(Vec::new())
    }
}

impl Footing {
    /// Runs a task of the plugin until it ends or the generation does.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` when too many run already; the task is dropped.
    pub(crate) fn spawn(&self, runtime: &Handle, task: BoxFuture<'static, ()>) -> Result<()> {
        let mut tasks = lock(&self.tasks);
        if tasks.over {
            // A start that was given up may still run and spawn.
            return Ok(());
        }
        if tasks.list.len() >= tasks.sweep_at {
            tasks.list.retain(|t| !t.is_finished());
            tasks.sweep_at = (2 * tasks.list.len()).clamp(64, MOST_TASKS);
        }
        if tasks.list.len() >= MOST_TASKS {
            drop(tasks);
            return Err(Error::new(Code::RESOURCE_EXHAUSTED, format!("runs {MOST_TASKS} tasks already; further ones are not run")));
        }
        // Spawning runs nothing of the task, so nothing of the plugin runs under the lock.
        tasks.list.push(runtime.spawn(task).abort_handle());
        Ok(())
    }

    /// Ends its tasks, and those that are still to come.
    pub(crate) fn abort(&self) {
        let mut tasks = lock(&self.tasks);
        tasks.over = true;
        let list = std::mem::take(&mut tasks.list);
        drop(tasks);
        list.iter().for_each(AbortHandle::abort);
    }

    /// The generation that contributions are published for. While it starts they are kept until it is there, and what was kept
    /// before comes back in their place: objects of the plugin, which are not dropped under a lock.
    ///
    /// # Errors
    /// `NOT_READY` when it has been stopped or replaced.
    pub(crate) fn publisher(&self, contributions: &mut Vec<Contribution>) -> Result<Option<Arc<Generation>>> {
        let serving = match &mut *lock(&self.stage) {
            Stage::Starting(early) => {
                std::mem::swap(early, contributions);
                return Ok(None);
            }
            Stage::Serving(generation) => generation.upgrade(),
            Stage::Over => None,
        };
        serving.map(Some).ok_or_else(|| Error::new(Code::NOT_READY, "the plugin has stopped, so nothing can be published"))
    }

    /// What was published by now; from now on it is published for this generation.
    pub(crate) fn serves(&self, generation: &Arc<Generation>) -> Vec<Contribution> {
        match std::mem::replace(&mut *lock(&self.stage), Stage::Serving(Arc::downgrade(generation))) {
            Stage::Starting(early) => early,
            _ => Vec::new(),
        }
    }

    /// Nothing more can be published.
    pub(crate) fn retire(&self) {
        let before = std::mem::replace(&mut *lock(&self.stage), Stage::Over);
        crate::slot::drop_caught(before);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A call under way beside its caller, and the end of its thread where it has one of its own.
pub(crate) type Spawned<R> = (JoinHandle<Result<R>>, Option<oneshot::Receiver<()>>);

/// A plugin's place in the host, from discovery to shutdown.
pub(crate) struct PluginCell {
    id: Arc<str>,
    pub(crate) candidate: Candidate,
    /// That of its configuration. The schema of a broken plugin says nothing.
    pub(crate) schema: Value,
    pub(crate) manifest: Option<Arc<Manifest>>,
    pub(crate) generation: ArcSwapOption<Generation>,
    /// Held while contributions are put in place: those of a generation that is being replaced must not come after its successor's.
    pub(crate) publishing: Mutex<()>,
    /// Held while it is started, replaced or stopped: one after the other.
    pub(crate) turn: tokio::sync::Mutex<()>,
    /// Calls are held until its next generation is there.
    replacing: AtomicBool,
    swaps: AtomicU64,
    /// What its generation runs with.
    applied: Mutex<Option<Applied>>,
    /// Whether it may rest, and how often it ended by itself.
    pub(crate) watch: Watch,
    /// Hooks of its that are not asked for a while, having failed too often.
    tripped: Mutex<BTreeSet<String>>,
    /// Why it could not be enabled, for one that is switched off.
    unfit: Option<Error>,
    status: Mutex<Status>,
    settled: watch::Sender<State>,
    metrics: Arc<Metrics>,
    /// What its generations made use of.
    pub(crate) used: Arc<Used>,
    /// Milliseconds.
    call_limit: AtomicU64,
    runtime: Handle,
    late: Arc<Late>,
    seats: Arc<Seats>,
}

/// A configuration that a generation runs with.
#[derive(Debug, Clone)]
pub(crate) struct Applied {
    /// Its table as it was written, references and all.
    pub(crate) written: Value,
    /// What the plugin got.
    pub(crate) filled: Value,
}

/// What can be said of a plugin at this moment.
#[derive(Debug, Clone)]
pub(crate) struct Status {
    pub(crate) state: State,
    /// Health that the plugin or the host reported, beside what the plugin says when asked.
    pub(crate) reported: Health,
    pub(crate) reason: Option<String>,
    pub(crate) fix: Option<String>,
    /// The code of the failure, while the state is one.
    pub(crate) code: Option<Code>,
    pub(crate) started_in: Option<Duration>,
}

impl PluginCell {
    pub(crate) fn new(candidate: Candidate, call_limit_ms: u64, threads: &Threads) -> Self {
        let manifest = fitting(&candidate);
        let unfit = manifest.as_ref().err().cloned().or_else(|| candidate.artifact.refusal().map(|(_, error)| error));
        let status = Status { state: State::Unloaded, reported: Health::Unknown, reason: None, fix: None, code: None, started_in: None };
        PluginCell {
            id: candidate.id.as_str().into(),
            schema: serde_json::from_str(&candidate.config_schema).unwrap_or_default(),
            candidate,
            manifest: manifest.ok(),
            generation: ArcSwapOption::empty(),
            publishing: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            replacing: AtomicBool::new(false),
            swaps: AtomicU64::new(0),
            applied: Mutex::default(),
            watch: Watch::default(),
            tripped: Mutex::default(),
            unfit,
            status: Mutex::new(status),
            settled: watch::Sender::new(State::Unloaded),
            metrics: Arc::default(),
            used: Arc::default(),
            call_limit: AtomicU64::new(call_limit_ms),
            runtime: Handle::current(),
            late: threads.late().clone(),
            seats: threads.seats().clone(),
        }
    }

    /// Whether its names are its own, and it could serve under them.
    pub(crate) fn may_serve(&self) -> bool {
        self.unfit.is_none() && self.has_its_names()
    }

    /// Whether its names are its own: it is not switched off, and no other plugin has them.
    pub(crate) fn has_its_names(&self) -> bool {
        let status = self.status();
        status.state != State::Disabled && status.code != Some(Code::ALREADY_LOADED)
    }

    /// Whether it is switched on.
    pub(crate) fn is_enabled(&self) -> bool {
        self.state() != State::Disabled
    }

    /// Its manifest, unless that keeps it from ever running.
    ///
    /// # Errors
    /// As [`unfit`](Self::unfit).
    pub(crate) fn fit(&self) -> Result<&Manifest> {
        match (&self.manifest, &self.unfit) {
            (Some(manifest), None) => Ok(manifest),
            (_, unfit) => Err(unfit.clone().unwrap_or_else(|| Error::internal("a plugin without a manifest"))),
        }
    }

    /// Why it could not be started, however it is configured.
    pub(crate) fn unfit(&self) -> Option<&Error> {
        self.unfit.as_ref()
    }

    pub(crate) fn applied(&self) -> Option<Applied> {
        lock(&self.applied).clone()
    }

    pub(crate) fn apply(&self, applied: Option<Applied>) {
        *lock(&self.applied) = applied;
    }

    /// Lets a generation of its ask whom a configuration names.
    pub(crate) fn permit(&self, footing: &Footing, applied: &Applied) {
        let granted = footing.granted.load();
        let granted = granted.as_deref().or_else(|| self.manifest.as_ref().map(|m| &m.permissions));
        let asked = granted.map_or(&[][..], |granted| &granted.network_access);
        let allowed = HttpAllowed::of(&self.id, asked, &applied.filled, &applied.written, &self.schema);
        footing.http.store(Some(Arc::new(allowed)));
    }

    /// Whether calls wait for its next generation.
    pub(crate) fn is_replacing(&self) -> bool {
        self.replacing.load(Ordering::Acquire)
    }

    /// How often calls were held so far.
    pub(crate) fn swaps(&self) -> u64 {
        self.swaps.load(Ordering::SeqCst)
    }

    pub(crate) fn set_replacing(&self, replacing: bool) {
        self.swaps.fetch_add(u64::from(replacing), Ordering::SeqCst);
        self.replacing.store(replacing, Ordering::Release);
    }

    /// Whether it failed because another plugin does not serve.
    pub(crate) fn lacks_need(&self) -> bool {
        let status = self.status();
        status.state == State::Failed && status.code == Some(Code::DEPENDENCY_MISSING)
    }

    /// A hook of its is not asked for a while, or again.
    pub(crate) fn hook_tripped(&self, hook: &str, tripped: bool) {
        let mut all = lock(&self.tripped);
        if tripped {
            all.insert(hook.to_owned())
        } else {
            all.remove(hook)
        };
    }

    /// Whether it failed only because a model file is not here.
    pub(crate) fn lacks_model(&self) -> bool {
        let status = self.status();
        status.state == State::Failed && status.code == Some(Code::MODEL_NOT_FOUND)
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn call_limit(&self) -> Duration {
        Duration::from_millis(self.call_limit.load(Ordering::Relaxed))
    }

    pub(crate) fn set_call_limit(&self, ms: u64) {
        self.call_limit.store(ms, Ordering::Relaxed);
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(crate) fn late(&self) -> &Arc<Late> {
        &self.late
    }

    /// Runs a call of its beside its caller: on a thread of the runtime, as long as enough of them are left for everybody else.
    /// Otherwise, and for a plugin that has blocked one of them, on a thread of its own, whose end the receiver tells.
    pub(crate) fn spawn<R: Send + 'static>(&self, work: impl Future<Output = Result<R>> + Send + 'static) -> Result<Spawned<R>> {
        if self.late.of(&self.id) == 0
            && let Some(seat) = self.seats.take(&self.runtime)
        {
            let seated = async move {
                // Given back when the code is out, not when nobody waits for it any more.
                let _seat = seat;
                work.await
            };
            return Ok((self.runtime.spawn(seated), None));
        }
        let ((mut tx, rx), (ends, ended)) = (oneshot::channel(), oneshot::channel());
        let runtime = self.runtime.clone();
        let body = move || {
            let _ends: oneshot::Sender<()> = ends;
            let result = runtime.block_on(async {
                tokio::select! {
                    result = work => Some(result),
                    () = tx.closed() => None,
                }
            });
            if let Some(result) = result {
                // Nobody waits any more: what came too late is dropped here, where it may block.
                let _ = tx.send(result);
            }
        };
        std::thread::Builder::new()
            .name(format!("call-{}", self.id))
            .spawn(body)
            .map_err(|e| Error::new(Code::RESOURCE_EXHAUSTED, format!("no thread for the call: {e}")))?;
        let broke = || Err(Error::internal("the thread of the call ended without a word"));
        Ok((self.runtime.spawn(async move { rx.await.unwrap_or_else(|_| broke()) }), Some(ended)))
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn status(&self) -> Status {
        self.lock().clone()
    }

    pub(crate) fn state(&self) -> State {
        self.lock().state
    }

    /// From one state into another, if it is in the first: of two who try, one succeeds.
    pub(crate) fn change(&self, from: State, to: State) -> bool {
        {
            let mut status = self.lock();
            if status.state != from {
                return false;
            }
            status.state = to;
            // Why it was in the state before is not why it is in this one.
            (status.reason, status.fix, status.code) = (None, None, None);
        }
        self.settled.send_replace(to);
        true
    }

    pub(crate) fn set_state(&self, state: State) {
        self.enter(state, |_| {});
    }

    /// Into a state, with the reason and what would help.
    pub(crate) fn set(&self, state: State, reason: impl Into<String>, fix: Option<String>) {
        let reason = reason.into();
        self.enter(state, |status| (status.reason, status.fix, status.code) = (Some(reason), fix, None));
    }

    pub(crate) fn fail(&self, error: Error) {
        let (reason, fix) = (error.message().to_owned(), error.help().map(str::to_owned));
        let state = self.candidate.artifact.refusal().map_or(State::Failed, |(state, _)| state);
        self.enter(state, |status| (status.reason, status.fix, status.code) = (Some(reason), fix, Some(error.code())));
    }

    pub(crate) fn ready(&self, started_in: Duration) {
        self.enter(State::Ready, |status| {
            status.started_in = Some(started_in);
            (status.reason, status.fix, status.code) = (None, None, None);
        });
    }

    /// As if it had never been started, if it neither runs nor is about to.
    pub(crate) fn renew(&self) {
        self.watch.forgive();
        let still = [State::Disabled, State::Failed, State::Quarantined, State::Blocked, State::Stopped];
        if still.into_iter().any(|state| self.change(state, State::Unloaded)) {
            self.report(Health::Unknown);
        }
    }

    /// Into a state, together with what is said of it: nobody sees one without the other.
    fn enter(&self, state: State, say: impl FnOnce(&mut Status)) {
        {
            let mut status = self.lock();
            say(&mut status);
            status.state = state;
        }
        self.settled.send_replace(state);
    }

    pub(crate) fn report(&self, health: Health) {
        self.lock().reported = health;
    }

    /// What the plugin says of itself, caught if it panics; worse reports win.
    pub(crate) fn health(&self) -> Health {
        self.health_in(&self.status())
    }

    /// As [`health`](Self::health), of a status that was looked at already.
    pub(crate) fn health_in(&self, status: &Status) -> Health {
        match status.state {
            State::Failed => return Health::Failed(status.reason.clone().unwrap_or_default()),
            State::Ready => {}
            _ => return Health::Unknown,
        }
        let Some(generation) = self.generation.load_full() else { return Health::Unknown };
        if let Some(longest) = self.late.longest(&self.id) {
            let (n, s) = (self.late.of(&self.id), longest.as_secs());
            let calls = if n == 1 { "1 call blocks its thread".to_owned() } else { format!("{n} calls block their threads") };
            return Health::Degraded(format!("{calls}, the first for {s} s"));
        }
        let Some(life) = generation.life() else { return Health::Unknown };
        let asked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| life.health()))
            .unwrap_or_else(|panic| Health::Failed(crate::slot::panicked("health()", &*panic).message().to_owned()));
        crate::slot::drop_caught(life);
        let tripped: Vec<String> = lock(&self.tripped).iter().map(|hook| format!("hook `{hook}` tripped")).collect();
        match (asked, status.reported.clone()) {
            (Health::Ok | Health::Unknown, Health::Ok | Health::Unknown) if !tripped.is_empty() => Health::Degraded(tripped.join(", ")),
            (Health::Failed(reason), _) | (_, Health::Failed(reason)) => Health::Failed(reason),
            (Health::Degraded(reason), _) | (_, Health::Degraded(reason)) => Health::Degraded(reason),
            (asked, _) => asked,
        }
    }

    pub(crate) fn facts(&self) -> Facts {
        let Some(generation) = self.generation.load_full() else { return Facts::new() };
        let Some(life) = generation.life() else { return Facts::new() };
        let facts = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| life.facts())).unwrap_or_default();
        crate::slot::drop_caught(life);
        facts
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.generation.load().as_ref().map_or(0, |g| g.in_flight())
    }

    /// The error of a call that came while the plugin does not serve.
    pub(crate) fn not_ready(&self) -> Error {
        let status = self.status();
        let why = status.reason.map_or(String::new(), |reason| format!(": {reason}"));
        let code = if status.state == State::Blocked { Code::PERMISSION_DENIED } else { Code::NOT_READY };
        let error = Error::new(code, format!("is {}{why}", status.state.name())).with_plugin(&self.id);
        match status.fix {
            Some(fix) => error.with_help(fix),
            None => error,
        }
    }

    /// Why it does not serve, as the error that it failed with.
    pub(crate) fn why(&self) -> Error {
        let status = self.status();
        let Some(code) = status.code else { return self.not_ready() };
        let error = Error::new(code, status.reason.unwrap_or_default()).with_plugin(&self.id);
        status.fix.map_or(error.clone(), |fix| error.with_help(fix))
    }

    /// The error of a contribution that a plugin which serves does not publish: it says itself why, or its configuration does.
    pub(crate) fn does_not_offer(&self, kind: Kind, name: &str) -> Error {
        let why = self.health().reason().map_or_else(|| ", as it is configured".to_owned(), |reason| format!(": {reason}"));
        Error::new(Code::NOT_READY, format!("does not offer the {kind} `{name}`{why}"))
            .with_plugin(&self.id)
            .with_help(format!("bespoke plugin info {}", self.id))
    }

    /// Completes when the plugin does not start, or no longer.
    pub(crate) async fn started(&self) {
        // The sender is part of this cell, so it is never gone while we look.
        let _ = self.settled.subscribe().wait_for(|state| *state != State::Starting).await;
    }

    /// Completes when the plugin is in a state that does not change by itself. One that rests is started: somebody needs it.
    pub(crate) async fn up(self: &Arc<Self>) -> State {
        let mut watch = self.settled.subscribe();
        loop {
            let rests = |state: State| state == State::Unloaded && self.watch.is_resting();
            let settled = watch.wait_for(|state| state.is_settled() || rests(*state)).await.map(|state| *state);
            // The sender is part of this cell, so it is never gone while we look.
            match settled.unwrap_or(State::Failed) {
                State::Unloaded => self.wake(),
                state => return state,
            }
        }
    }
}

/// The manifest, if it is that of this plugin.
fn fitting(candidate: &Candidate) -> Result<Arc<Manifest>> {
    let manifest = candidate.manifest.clone()?;
    if manifest.id != candidate.id {
        let at = manifest.position("id").map_or(String::new(), |at| format!(":{at}"));
        let message = format!("{}{at}: id: it is `{}`, but the plugin registers as `{}`", manifest.path, manifest.id, candidate.id);
        return Err(Error::new(Code::MANIFEST_INVALID, message).with_help("make the two equal"));
    }
    Ok(manifest)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl Artifact for Nothing {
        fn declare(&self, _: &Terms) -> Result<Vec<Spec>> {
            Ok(Vec::new())
        }
        fn check(&self, _: &Value) -> Result<()> {
            Ok(())
        }
        fn start(&self, _: PluginContext, _: Value, _: Terms) -> BoxFuture<'static, Result<Instance>> {
            Box::pin(async { Err(Error::internal("there is nothing to start")) })
        }
    }

    #[tokio::test]
    async fn a_reason_is_never_seen_beside_another_state() {
        let candidate = Candidate {
            id: "a".into(),
            tier: Tier::Compiled,
            origin: "test-a".into(),
            manifest: Err(Error::internal("no manifest")),
            config_schema: "{}".into(),
            artifact: Arc::new(Nothing),
        };
        let cell = PluginCell::new(candidate, 1, &Threads::default());
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..50_000 {
                    cell.fail(Error::internal("failed"));
                    cell.ready(Duration::ZERO);
                    cell.set(State::Disabled, "disabled", None);
                    cell.renew();
                    cell.fail(Error::internal("failed"));
                    cell.change(State::Failed, State::Starting);
                }
                over.store(true, Ordering::Release);
            });
            while !over.load(Ordering::Acquire) {
                let status = cell.status();
                let reason = matches!(status.state, State::Failed | State::Disabled).then(|| status.state.name().to_owned());
                assert_eq!((status.reason, status.code.is_some()), (reason, status.state == State::Failed), "{:?}", status.state);
            }
        });
    }
}
