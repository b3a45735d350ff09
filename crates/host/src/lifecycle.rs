//! One plugin from declared to served to stopped: every step that runs its code, in bounded time, on a thread that the host can do
//! without. In which order plugins go is `host`, what a new configuration changes is `reload`.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bespoke_manifest::{API, Manifest};
use bespoke_plugin_api::{CancelToken, Code, Contribution, Error, Instance, Life, PluginContext, Result, Spec, State as Captured};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::{
    Config, ConfigError, Grants, NoTerms, PluginDefaults, Redactor, Supervision,
    api::{PluginHost, Services},
    candidate::{State, Tier},
    events::{History, topics},
    generation::{Footing, Generation},
    host::Tell,
    needs,
    plugin::{Applied, PluginCell},
    registry::Withdrawn,
    slot::{drop_caught, panicked, shown},
    thread::{Threads, Waiting},
    tier::Terms,
    usage::Ledger,
};

/// How long a plugin may take to make what it depends on: packages over a slow line.
const PREPARE: Duration = Duration::from_secs(15 * 60);

/// What a host is made of.
pub(crate) struct Inner {
    pub(crate) services: Arc<Services>,
    pub(crate) redactor: Redactor,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) limits: Limits,
    pub(crate) threads: Threads,
    pub(crate) supervision: Supervision,
    pub(crate) grants: Grants,
    pub(crate) tell: Tell,
    /// What plugins were used for.
    pub(crate) usage: Ledger,
    pub(crate) history: Option<History>,
    /// Cancelled by `shutdown`: nothing starts any more.
    pub(crate) closing: CancelToken,
    /// Held by a reload: one after the other. Shutdown does not ask for it.
    pub(crate) reloading: tokio::sync::Mutex<()>,
    /// Generations that were replaced and run out.
    pub(crate) retiring: Mutex<Vec<JoinHandle<()>>>,
}

/// The limits of `[plugins]`, which a reload may change.
pub(crate) struct Limits {
    start_ms: AtomicU64,
    stop_ms: AtomicU64,
    shutdown_ms: AtomicU64,
    cpu_budget: AtomicU64,
}

impl Limits {
    pub(crate) fn new(defaults: &PluginDefaults) -> Self {
        let limits = Limits { start_ms: 0.into(), stop_ms: 0.into(), shutdown_ms: 0.into(), cpu_budget: 1.into() };
        limits.set(defaults);
        limits
    }

    pub(crate) fn set(&self, defaults: &PluginDefaults) {
        self.start_ms.store(defaults.start_timeout_ms, Ordering::Relaxed);
        self.stop_ms.store(defaults.stop_timeout_ms, Ordering::Relaxed);
        self.shutdown_ms.store(defaults.shutdown_timeout_ms, Ordering::Relaxed);
        self.cpu_budget.store(defaults.cpu_budget.into(), Ordering::Relaxed);
    }

    pub(crate) fn start(&self) -> Duration {
        Duration::from_millis(self.start_ms.load(Ordering::Relaxed))
    }

    pub(crate) fn stop(&self) -> Duration {
        Duration::from_millis(self.stop_ms.load(Ordering::Relaxed))
    }

    pub(crate) fn shutdown(&self) -> Duration {
        Duration::from_millis(self.shutdown_ms.load(Ordering::Relaxed))
    }

    fn threads(&self, most: Option<u32>) -> u16 {
        let budget = u16::try_from(self.cpu_budget.load(Ordering::Relaxed)).unwrap_or(u16::MAX);
        most.map_or(budget, |most| u16::try_from(most).unwrap_or(u16::MAX).min(budget))
    }
}

/// Why a plugin's configuration cannot be used.
pub(crate) enum ConfigFault {
    /// With a place in the file.
    Located(ConfigError),
    /// The check itself broke.
    Broken(Error),
}

impl From<ConfigFault> for Error {
    fn from(fault: ConfigFault) -> Self {
        match fault {
            ConfigFault::Located(error) => Error::invalid_params(error.to_string()).with_help("bespoke config check"),
            ConfigFault::Broken(error) => error,
        }
    }
}

/// A generation that runs and serves nobody yet.
pub(crate) struct Launched {
    pub(crate) generation: Arc<Generation>,
    specs: Vec<Spec>,
    contributions: Vec<Contribution>,
    applied: Applied,
}

/// How a generation comes up.
#[derive(Default)]
pub(crate) struct Launch {
    /// Whether its names are announced before it runs, so that callers wait for it: not where another serves under them.
    pub(crate) announce: bool,
    /// What the generation before left for it.
    pub(crate) state: Option<Captured>,
    /// What it runs with, instead of what the configuration says.
    pub(crate) applied: Option<Applied>,
}

impl Inner {
    /// Starts a plugin whose state is `Starting`, once those that it needs are ready.
    pub(crate) async fn start(self: Arc<Self>, plugin: Arc<PluginCell>) {
        let _turn = plugin.turn.lock().await;
        let result = tokio::select! {
            biased;
            () = self.closing.cancelled() => {
                drop_caught(self.services.registry.remove(plugin.id()));
                self.services.offers_changed();
                return plugin.set(State::Stopped, "the host was shut down before it was ready", None);
            }
            result = self.start_when_possible(&plugin) => result,
        };
        match result {
            Ok(Some(started_in)) => self.came_up(&plugin, started_in),
            Ok(None) => self.lies_down(&plugin, "starts with its first call".into()),
            Err(error) => self.came_down(&plugin, &error),
        }
    }

    /// A plugin serves.
    pub(crate) fn came_up(&self, plugin: &PluginCell, started_in: Duration) {
        plugin.ready(started_in);
        let ms = u64::try_from(started_in.as_millis()).unwrap_or(u64::MAX);
        let version = plugin.manifest.as_ref().map(|m| m.version.to_string());
        let payload = json!({ "plugin": plugin.id(), "version": version, "ms": ms });
        self.services.events.emit(topics::PLUGIN_LOADED, None, payload);
    }

    /// A plugin could not start, or could not be brought back.
    pub(crate) fn came_down(&self, plugin: &PluginCell, error: &Error) {
        drop_caught(self.services.registry.remove(plugin.id()));
        let error = self.clean(error);
        tracing::warn!(plugin = plugin.id(), %error, "did not start");
        self.wrong(plugin, "did_not_start", &error);
        plugin.fail(error);
        // Its guards stand, and say no.
        self.services.offers_changed();
    }

    /// Something is wrong with a plugin. The error is without secrets.
    pub(crate) fn wrong(&self, plugin: &PluginCell, what: &str, error: &Error) {
        let payload = json!({ "plugin": plugin.id(), "what": what, "code": error.kind(), "reason": error.message() });
        self.services.events.emit(topics::PLUGIN_ERROR, None, payload);
    }

    /// What is kept of an error for people, without secrets.
    pub(crate) fn clean(&self, error: &Error) -> Error {
        self.redactor.redact_error(error)
    }

    /// How long it took; `None` for a plugin that is started by its first call.
    async fn start_when_possible(self: &Arc<Self>, plugin: &Arc<PluginCell>) -> Result<Option<Duration>> {
        // What it may do and must offer stands in its manifest: without one nothing of it runs.
        if let Some(error) = plugin.unfit() {
            return Err(error.clone());
        }
        if let Err(error) = needs::ready(&self.services.plugins.load_full(), plugin).await {
            self.learn_guards(plugin).await;
            return Err(error);
        }
        // One that says only when it runs what it hooks into would never be called.
        if plugin.watch.is_lazy() && !plugin.publishes_hooks() {
            return self.announce(plugin).await.map(|()| None);
        }
        let begun = Instant::now();
        let launched = self.launch(plugin, &self.services.config(), Launch { announce: true, ..Launch::default() }).await?;
        match self.install(plugin, &launched) {
            Ok(before) => drop_caught(before),
            Err(error) => {
                // The error of the start is the one to tell.
                let _ = self.shut(launched.generation, Withdrawn::default()).await;
                return Err(error);
            }
        }
        Ok(Some(begun.elapsed()))
    }

    /// Makes the names of a plugin known, without starting it; what is wrong with its configuration is found all the same.
    async fn announce(self: &Arc<Self>, plugin: &Arc<PluginCell>) -> Result<()> {
        self.prepare(plugin).await?;
        let (inner, cell, artifact) = (self.clone(), plugin.clone(), plugin.candidate.artifact.clone());
        let look = move |_: &Waiting| {
            let config = inner.services.config();
            let specs = artifact.declare(&inner.terms_of(&config, &cell)?)?;
            inner.config_of(&config, &cell)?;
            Ok(specs)
        };
        let limit = self.limits.start();
        let name = format!("start-{}", plugin.id());
        let Some(specs) = self.threads.run(plugin.id(), name, "register()", limit, look, drop).await? else {
            let message = format!("did not say within {} what it contributes", shown(limit));
            return Err(Error::new(Code::INITIALIZE_FAILED, message).with_help("raise plugins.start_timeout_ms"));
        };
        if let Some(manifest) = &plugin.manifest {
            promised(manifest, &specs)?;
        }
        self.services.registry.declare(plugin, &specs)?;
        self.declared(plugin);
        Ok(())
    }

    /// What a plugin registers stands in the registry.
    fn declared(&self, plugin: &PluginCell) {
        self.services.offers_changed();
        if !plugin.publishes_hooks() {
            plugin.hooks_are_known();
        }
    }

    /// Lets a plugin make what it depends on, which may take far longer than a start.
    pub(crate) async fn prepare(&self, plugin: &PluginCell) -> Result<()> {
        if plugin.candidate.tier == Tier::Compiled {
            return Ok(());
        }
        let (artifact, tell) = (plugin.candidate.artifact.clone(), self.tell.clone());
        let prepare = move |_: &Waiting| artifact.prepare(&*tell);
        let name = format!("start-{}", plugin.id());
        match self.threads.run(plugin.id(), name, "prepare", PREPARE, prepare, drop).await? {
            Some(()) => Ok(()),
            None => Err(Error::new(Code::DEPENDENCY_MISSING, format!("what it depends on was not there after {}", shown(PREPARE)))),
        }
    }

    /// What a plugin that will not run would guard: its registration says so, and needs nothing that it lacks.
    async fn learn_guards(self: &Arc<Self>, plugin: &Arc<PluginCell>) {
        if !plugin.manifest.as_ref().is_some_and(|m| m.kinds().contains(&bespoke_plugin_api::Kind::Hook)) {
            return;
        }
        let (artifact, terms) = (plugin.candidate.artifact.clone(), self.terms_of(&self.services.config(), plugin));
        let declare = move |_: &Waiting| artifact.declare(&terms?);
        let name = format!("start-{}", plugin.id());
        if let Ok(Some(specs)) = self.threads.run(plugin.id(), name, "register()", self.limits.start(), declare, drop).await {
            // A name that another has is not its to guard.
            let _ = self.services.registry.declare(plugin, &specs);
            self.declared(plugin);
        }
    }

    /// Makes a generation, which serves nobody yet.
    ///
    /// # Errors
    /// Whatever went wrong; nothing of it is left but perhaps a thread.
    pub(crate) async fn launch(self: &Arc<Self>, plugin: &Arc<PluginCell>, config: &Arc<Config>, how: Launch) -> Result<Launched> {
        self.prepare(plugin).await?;
        let footing = Arc::new(Footing::default());
        // Also when nobody waits for the start any more.
        let mut unless_up = Abandons(Some(footing.clone()));
        let (instance, specs, applied) = self.start_in_time(plugin, config, &footing, how).await?;
        unless_up.0 = None;
        let generation = Arc::new(Generation::new(plugin, instance.life, footing));
        Ok(Launched { generation, specs, contributions: instance.contributions, applied })
    }

    /// Lets a generation serve, in the place of the one before if there is one. What served before comes back.
    ///
    /// # Errors
    /// When it offers what it may not; then nothing has changed.
    pub(crate) fn install(self: &Arc<Self>, plugin: &Arc<PluginCell>, launched: &Launched) -> Result<Withdrawn> {
        let Launched { generation, specs, contributions, applied } = launched;
        let publishing = plugin.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        let published = generation.footing.serves(generation);
        let before = match self.services.registry.replace(plugin, generation, specs, contributions, &published) {
            Ok(before) => before,
            Err(error) => {
                generation.footing.retire();
                drop(publishing);
                return Err(error);
            }
        };
        if let Some(old) = plugin.generation.swap(Some(generation.clone())) {
            old.footing.retire();
        }
        plugin.cpu_begins();
        plugin.apply(Some(applied.clone()));
        drop(publishing);
        self.services.offers_changed();
        plugin.hooks_are_known();
        // What hooks of the one before did is not the new one's.
        self.services.hooks.forgive(plugin);
        self.watch_over(plugin, generation);
        Ok(before)
    }

    /// Runs the plugin's code on a thread that the host can do without, so that the limit holds against code that blocks.
    async fn start_in_time(
        self: &Arc<Self>,
        plugin: &Arc<PluginCell>,
        config: &Arc<Config>,
        footing: &Arc<Footing>,
        how: Launch,
    ) -> Result<(Instance, Vec<Spec>, Applied)> {
        // Without terms it does not start, whatever its limit.
        let wanted =
            self.terms_of(config, plugin).ok().and_then(|terms| terms.limits.start_timeout_ms).map(|ms| Duration::from_millis(ms.into()));
        let limit = wanted.unwrap_or(self.limits.start());
        let begun = Instant::now();
        let (inner, cell, config, of_plugin) = (self.clone(), plugin.clone(), config.clone(), footing.clone());
        let start = move |waiting: &Waiting| inner.start_here(&cell, &config, of_plugin, how, (begun, limit), waiting);
        let (runtime, of_plugin) = (self.services.runtime.clone(), footing.clone());
        let take_down = move |(instance, ..): (Instance, Vec<Spec>, Applied)| {
            let _after = Aborts(of_plugin);
            runtime.block_on(instance.life.shutdown());
        };
        match self.threads.run(plugin.id(), format!("start-{}", plugin.id()), "start", limit, start, take_down).await? {
            Some(started) => Ok(started),
            None => {
                let message = format!("did not start within {}; its thread was left behind", shown(limit));
                let help = match wanted {
                    Some(_) => {
                        "raise its start_timeout_ms, in its plugin.toml or among its limits in the configuration, or switch the plugin off"
                    }
                    None => "raise plugins.start_timeout_ms, or switch the plugin off",
                };
                Err(Error::new(Code::INITIALIZE_FAILED, message).with_help(help))
            }
        }
    }

    /// The part that runs plugin code: declare, compare, configure, start, restore.
    fn start_here(
        self: &Arc<Self>,
        plugin: &Arc<PluginCell>,
        config: &Config,
        footing: Arc<Footing>,
        how: Launch,
        (begun, limit): (Instant, Duration),
        waiting: &Waiting,
    ) -> Result<(Instance, Vec<Spec>, Applied)> {
        let artifact = &plugin.candidate.artifact;
        let mut terms = self.terms_of(config, plugin)?;
        let specs = catch_unwind(AssertUnwindSafe(|| artifact.declare(&terms))).map_err(|panic| panicked("register()", &*panic))??;
        if let Some(manifest) = &plugin.manifest {
            promised(manifest, &specs)?;
        }
        if how.announce {
            self.services.registry.declare(plugin, &specs)?;
            if waiting.is_over() {
                // The host has cleaned up after us already, perhaps before we declared.
                drop_caught(self.services.registry.remove(plugin.id()));
                self.services.offers_changed();
                return Err(Error::new(Code::INITIALIZE_FAILED, "late"));
            }
            self.declared(plugin);
        }
        let applied = match how.applied {
            Some(applied) => applied,
            None => self.config_of(config, plugin)?,
        };
        // What is left of it, so that a tier that can end a start ends it before it is left behind here.
        let left = limit.saturating_sub(begun.elapsed());
        terms.limits.start_timeout_ms = Some(u32::try_from(left.as_millis()).unwrap_or(u32::MAX));
        footing.granted.store(Some(Arc::new(terms.granted.clone())));
        footing.rate.limit(terms.limits.network_per_s);
        plugin.permit(&footing, &applied);
        let host = PluginHost {
            services: self.services.clone(),
            plugin: Arc::downgrade(plugin),
            id: plugin.id().into(),
            footing: footing.clone(),
        };
        let threads = self.limits.threads(terms.limits.threads);
        let mut cx = PluginContext::new(plugin.id(), Arc::new(host)).with_cpu_budget(threads);
        if let Some(dir) = &self.data_dir {
            cx = cx.with_data_dir(dir.join(plugin.id()));
        }
        let runtime = &self.services.runtime;
        let instance = runtime.block_on(artifact.start(cx, applied.filled.clone(), terms))?;
        if let Some(state) = how.state {
            let restored = catch_unwind(AssertUnwindSafe(|| runtime.block_on(instance.life.restore_state(state))));
            if let Err(error) = restored.unwrap_or_else(|panic| Err(panicked("restore_state", &*panic))) {
                let _after = Aborts(footing);
                runtime.block_on(instance.life.shutdown());
                return Err(Error::new(error.code(), format!("could not go on from the state before: {}", error.message())));
            }
        }
        Ok((instance, specs, applied))
    }

    /// On what terms a plugin is started, as the configuration and the user say.
    pub(crate) fn terms_of(&self, config: &Config, plugin: &PluginCell) -> Result<Terms> {
        let Some(manifest) = plugin.manifest.as_deref() else { return Ok(Terms::default()) };
        let mut terms = config.terms(manifest, plugin.candidate.tier, &self.grants).map_err(|no| no.error(plugin.id()))?;
        terms.used = plugin.used.clone();
        Ok(terms)
    }

    /// The configuration of a plugin, checked by its schema and by itself.
    pub(crate) fn config_of(&self, config: &Config, plugin: &PluginCell) -> std::result::Result<Applied, ConfigFault> {
        let manifest = plugin.manifest.as_deref();
        let secrets = manifest.map_or(&[][..], |m| m.permissions.secrets.as_slice());
        let mut broken = None;
        let check = |config: &Value| match catch_unwind(AssertUnwindSafe(|| plugin.candidate.artifact.check(config))) {
            Ok(result) => result,
            Err(panic) => {
                broken = Some(panicked("the check of its configuration", &*panic));
                Ok(())
            }
        };
        let filled = config.checked_plugin(plugin.id(), &plugin.schema, secrets, check);
        let written = config.get(&format!("plugins.{}", plugin.id())).unwrap_or_default();
        match broken {
            Some(error) => Err(ConfigFault::Broken(error)),
            None => {
                let mut filled = filled.map_err(ConfigFault::Located)?;
                // What is compiled in has its defaults in its own type, from which its schema was made.
                if plugin.candidate.tier != Tier::Compiled {
                    bespoke_schema::fill(&plugin.schema, &mut filled);
                }
                Ok(Applied { written, filled })
            }
        }
    }

    /// Stops a plugin that serves.
    pub(crate) async fn stop(self: Arc<Self>, plugin: Arc<PluginCell>) {
        let _turn = plugin.turn.lock().await;
        self.stop_in_turn(&plugin).await;
    }

    pub(crate) async fn stop_in_turn(&self, plugin: &Arc<PluginCell>) {
        let Some(generation) = plugin.generation.load_full() else { return };
        self.usage.take(plugin);
        plugin.set_state(State::Draining);
        let withdrawn = self.take_out(plugin, &generation);
        plugin.generation.store(None);
        self.services.offers_changed();
        let limit = self.limits.stop();
        let drained = generation.drain(limit).await;
        let left = generation.in_flight();
        match self.shut(generation, withdrawn).await {
            Ok(()) if drained => plugin.set_state(State::Stopped),
            Ok(()) => {
                let calls = if left == 1 { "1 call was".to_owned() } else { format!("{left} calls were") };
                plugin.set(State::Stopped, format!("{calls} still running after {}", shown(limit)), None);
            }
            Err(error) => plugin.fail(self.clean(&error)),
        }
        self.services.events.emit(topics::PLUGIN_UNLOADED, None, json!({ "plugin": plugin.id(), "reason": "stopped" }));
    }

    /// Takes a generation out of all slots.
    pub(crate) fn take_out(&self, plugin: &PluginCell, generation: &Generation) -> Withdrawn {
        let _publishing = plugin.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        generation.footing.retire();
        self.services.registry.withdraw(plugin.id())
    }

    /// Ends a generation, on a thread too: `shutdown` may block, and so may dropping the last of the plugin.
    pub(crate) async fn shut(&self, generation: Arc<Generation>, withdrawn: Withdrawn) -> Result<()> {
        let (id, runtime) = (generation.plugin().to_owned(), self.services.runtime.clone());
        generation.footing.retire();
        let life: Option<Arc<dyn Life>> = generation.take_life();
        let shutdown = move |_: &Waiting| {
            let _after = Aborts(generation.footing.clone());
            if let Some(life) = life {
                runtime.block_on(life.shutdown());
                drop(life);
            }
            drop((withdrawn, generation));
            Ok(())
        };
        let limit = self.limits.stop();
        match self.threads.run(&id, format!("stop-{id}"), "shutdown", limit, shutdown, drop).await? {
            Some(()) => Ok(()),
            None => {
                let message = format!("did not stop within {}; its thread was left behind", shown(limit));
                Err(Error::new(Code::SHUTDOWN_FAILED, message))
            }
        }
    }

    /// What a generation leaves for the next, asked in bounded time.
    pub(crate) async fn capture(&self, generation: &Arc<Generation>) -> Result<Option<Captured>> {
        let Some(life) = generation.life() else { return Ok(None) };
        let (id, runtime) = (generation.plugin().to_owned(), self.services.runtime.clone());
        let capture = move |_: &Waiting| runtime.block_on(life.capture_state());
        let limit = self.limits.stop();
        match self.threads.run(&id, format!("stop-{id}"), "capture_state", limit, capture, drop).await? {
            Some(state) => Ok(state),
            None => Err(Error::new(Code::EXECUTION_TIMEOUT, format!("did not hand over its state within {}", shown(limit)))),
        }
    }

    /// Gives a running plugin a state to go on from, in bounded time.
    pub(crate) async fn restore(&self, plugin: &PluginCell, state: Captured) -> Result<()> {
        let life = plugin.generation.load_full().and_then(|generation| generation.life());
        let Some(life) = life else { return Err(plugin.not_ready()) };
        let (id, runtime) = (plugin.id().to_owned(), self.services.runtime.clone());
        let restore = move |_: &Waiting| runtime.block_on(life.restore_state(state));
        let limit = self.limits.start();
        match self.threads.run(&id, format!("start-{id}"), "restore_state", limit, restore, drop).await? {
            Some(()) => Ok(()),
            None => Err(Error::new(Code::EXECUTION_TIMEOUT, format!("did not take the state over within {}", shown(limit)))),
        }
    }

    /// Takes over what the configuration and the user say of how a plugin is run, and holds back one that waits for consent. One that
    /// has it by now is as if it had never been held back.
    pub(crate) fn settle_terms(&self, plugin: &PluginCell) {
        let Some(manifest) = plugin.manifest.as_deref().filter(|_| plugin.unfit().is_none()) else { return };
        let config = self.services.config();
        // What is wrong with the settings is told by the start, which asks for the terms again.
        let settings = config.plugin_settings(plugin.id()).unwrap_or_default();
        plugin.watch.configure(settings.is_lazy(), settings.idle_stop());
        match config.terms(manifest, plugin.candidate.tier, &self.grants) {
            Err(NoTerms::Blocked(blocked)) if plugin.change(State::Unloaded, State::Blocked) => {
                if plugin.watch.is_resting() {
                    // What it offers would bring it back with a call.
                    drop_caught(self.services.registry.remove(plugin.id()));
                    plugin.apply(None);
                    self.services.offers_changed();
                }
                plugin.watch.rest(false);
                let error = blocked.error(plugin.id());
                plugin.set(State::Blocked, error.message(), error.help().map(str::to_owned));
            }
            Err(_) => {}
            Ok(_) => _ = plugin.change(State::Blocked, State::Unloaded),
        }
    }

    /// Lets a generation that was replaced run out: its open streams go on until they end or the limit passes.
    pub(crate) fn retire(self: &Arc<Self>, generation: Arc<Generation>, withdrawn: Withdrawn) {
        let inner = self.clone();
        let task = self.services.runtime.spawn(async move {
            let id = generation.plugin().to_owned();
            let limit = inner.limits.stop();
            if !generation.drain(limit).await {
                let left = generation.in_flight();
                tracing::warn!(plugin = id, left, "calls of the generation before were still running after {}", shown(limit));
            }
            if let Err(error) = inner.shut(generation, withdrawn).await {
                tracing::warn!(plugin = id, %error, "the generation before did not end well");
            }
        });
        let mut retiring = self.retiring.lock().unwrap_or_else(PoisonError::into_inner);
        retiring.retain(|task| !task.is_finished());
        retiring.push(task);
    }
}

/// Ends what a start began that came to nothing.
struct Abandons(Option<Arc<Footing>>);

impl Drop for Abandons {
    fn drop(&mut self) {
        if let Some(footing) = self.0.take() {
            footing.abort();
            footing.retire();
        }
    }
}

/// Ends a plugin's tasks after its shutdown, also when that panics.
struct Aborts(Arc<Footing>);

impl Drop for Aborts {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Whether a plugin registers what its manifest promises, and is made for this program.
pub(crate) fn promised(manifest: &Manifest, specs: &[Spec]) -> Result<()> {
    if !manifest.is_for_this_api() {
        let message = format!("plugin.toml is written for the protocol {}, and this program speaks {}", manifest.protocol, API.major);
        return Err(Error::new(Code::CONTRACT_MISMATCH, message).with_help("take a version of the plugin that is made for this program"));
    }
    manifest.check_provides(specs).map_err(|e| Error::new(Code::CONTRACT_MISMATCH, e.to_string()))
}
