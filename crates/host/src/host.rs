//! The host: plugins from discovery to shutdown. A bad plugin is reported and isolated; the rest come up.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bespoke_manifest::{Inherited, Manifest};
use bespoke_plugin_api::{Code, Error, HookHandler, Instance, Kind, PluginContext, Result};
use serde_json::{Value, json};
use tokio::{runtime::Handle, sync::oneshot, task::JoinSet};

use crate::{
    Config, ConfigError, Events, Hooks, ModelStore, Registry, Row,
    api::{PluginHost, Services},
    plugin::{Candidate, Generation, PluginCell, State, Tasks},
    slot::{panicked, timed_out},
};

/// How long calls in flight may go on when a plugin stops.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// How long a plugin's `shutdown` may take.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);

/// Makes a [`Host`]; see [`Host::builder`].
#[must_use]
pub struct HostBuilder {
    config: Config,
    candidates: Vec<Candidate>,
    models: Option<Arc<dyn ModelStore>>,
    data_dir: Option<PathBuf>,
}

impl HostBuilder {
    /// With a configuration; without one, every plugin has its defaults.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// With plugins that were found.
    pub fn plugins(mut self, found: impl IntoIterator<Item = impl Into<Candidate>>) -> Self {
        self.candidates.extend(found.into_iter().map(Into::into));
        self
    }

    /// With a place where model files lie.
    pub fn models(mut self, store: Arc<dyn ModelStore>) -> Self {
        self.models = Some(store);
        self
    }

    /// With a folder under which each plugin has one of its own.
    pub fn data_dir(mut self, dir: PathBuf) -> Self {
        self.data_dir = Some(dir);
        self
    }

    /// Looks at the plugins without starting any. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// Only when `[plugins]` itself is wrong; what is wrong with one plugin is in its row.
    pub fn build(self) -> std::result::Result<Host, ConfigError> {
        let defaults = self.config.plugin_defaults()?;
        let mut candidates = self.candidates;
        candidates.sort_by(|a, b| (&a.id, &a.origin).cmp(&(&b.id, &b.origin)));
        let call_limit = Duration::from_millis(defaults.call_timeout_ms);

        let mut plugins: Vec<Arc<PluginCell>> = Vec::new();
        let mut names: BTreeMap<(Kind, String), String> = BTreeMap::new();
        for candidate in candidates {
            let manifest = inspect(&candidate);
            let cell = PluginCell::new(candidate, manifest.as_ref().ok().cloned().map(Arc::new), Value::Null, call_limit);
            let id = cell.id().to_owned();
            if let Some(first) = plugins.iter().find(|p| p.id() == id) {
                let (a, b) = (&first.candidate.origin, &cell.candidate.origin);
                let message = format!("the id `{id}` is taken: both {a} and {b} claim it; the first one serves");
                cell.fail(Error::new(Code::ALREADY_LOADED, message).with_help("build with one of the two"));
            } else if let Err(error) = &manifest {
                cell.fail(error.clone());
            } else if !self.config.is_enabled(&id) {
                cell.set(
                    State::Disabled,
                    "switched off in the configuration",
                    Some(format!("bespoke config set plugins.{id}.enabled true")),
                );
            } else if let Some(clash) = claim(&mut names, &id, manifest.as_ref().ok()) {
                cell.fail(clash);
            }
            plugins.push(Arc::new(cell));
        }
        refuse_unmet(&plugins);
        refuse_cycles(&plugins);

        let services =
            Services { runtime: Handle::current(), events: Events::default(), registry: Registry::default(), models: self.models };
        Ok(Host {
            inner: Arc::new(Inner {
                services: Arc::new(services),
                hooks: Hooks::default(),
                config: self.config,
                plugins,
                data_dir: self.data_dir,
                start_limit: Duration::from_millis(defaults.start_timeout_ms),
                cpu_budget: defaults.cpu_budget,
                late: AtomicUsize::new(0),
            }),
        })
    }
}

impl fmt::Debug for HostBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostBuilder").field("candidates", &self.candidates).finish_non_exhaustive()
    }
}

/// Which plugins to start. What they need is started with them.
#[derive(Debug, Clone, Copy)]
pub enum Selection<'a> {
    /// All.
    All,
    /// Those with these ids; unknown ids are ignored, their rows are missing anyway.
    Ids(&'a [String]),
}

/// Plugins, what they contribute, and what happens between them. Cheap to clone.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

struct Inner {
    services: Arc<Services>,
    hooks: Hooks,
    config: Config,
    plugins: Vec<Arc<PluginCell>>,
    data_dir: Option<PathBuf>,
    start_limit: Duration,
    cpu_budget: u16,
    /// Threads of plugin code that did not come back in time.
    late: AtomicUsize,
}

impl Host {
    /// A host without plugins and with an empty configuration.
    pub fn builder() -> HostBuilder {
        HostBuilder { config: Config::empty(), candidates: Vec::new(), models: None, data_dir: None }
    }

    /// Contributions by kind and name.
    pub fn registry(&self) -> &Registry {
        &self.inner.services.registry
    }

    /// Hook dispatch.
    pub fn hooks(&self) -> &Hooks {
        &self.inner.hooks
    }

    /// The event bus.
    pub fn events(&self) -> &Events {
        &self.inner.services.events
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// The manifest of a plugin, where it could be read.
    pub fn manifest(&self, id: &str) -> Option<Arc<Manifest>> {
        self.inner.plugins.iter().find(|p| p.id() == id)?.manifest.clone()
    }

    /// Id of the plugin that provides a name, as the manifests declare it; known before anything is started.
    pub fn provider_of(&self, kind: Kind, name: &str) -> Option<String> {
        let provides = |p: &&Arc<PluginCell>| {
            p.manifest.as_ref().is_some_and(|m| m.provides.iter().any(|c| c.kind == kind && c.name.as_deref() == Some(name)))
        };
        self.inner.plugins.iter().find(provides).map(|p| p.id().to_owned())
    }

    /// Text of the JSON Schema of a plugin's configuration.
    pub fn config_schema(&self, id: &str) -> Option<&str> {
        self.inner.plugins.iter().find(|p| p.id() == id).map(|p| p.candidate.config_schema.as_str())
    }

    /// One row per plugin, by id: what it is and how it does.
    pub fn rows(&self) -> Vec<Row> {
        self.inner.plugins.iter().map(|plugin| Row::of(plugin)).collect()
    }

    /// Threads of plugin code that did not come back in time and are left behind.
    pub fn late_threads(&self) -> usize {
        self.inner.late.load(Ordering::Relaxed)
    }

    /// Checks the configuration of every plugin without starting any.
    ///
    /// # Errors
    /// One problem per plugin that does not take its table.
    pub async fn check_config(&self) -> std::result::Result<(), ConfigError> {
        let mut problems = Vec::new();
        for plugin in &self.inner.plugins {
            if matches!(plugin.state(), State::Unloaded | State::Ready) {
                let checked = self.inner.config_of(plugin);
                if let Err(ConfigFault::Located(error)) = checked {
                    problems.extend(error.problems);
                }
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(ConfigError { problems }) }
    }

    /// Starts plugins side by side, each as soon as those it needs are ready, each time-boxed. Returns when all have settled.
    /// What went wrong with one is in its row.
    pub async fn start(&self, selection: Selection<'_>) {
        let chosen = self.inner.closure(selection);
        let mut tasks = JoinSet::new();
        for plugin in self.inner.plugins.iter().filter(|p| chosen.contains(p.id()) && p.state() == State::Unloaded) {
            // All are `Starting` before the first one runs: a call or a dependent waits instead of failing.
            plugin.set_state(State::Starting);
            let (inner, plugin) = (self.inner.clone(), plugin.clone());
            tasks.spawn(async move { inner.start(plugin).await });
        }
        while tasks.join_next().await.is_some() {}
    }

    /// Stops all plugins, dependents first, within bounded time. Plugin code that hangs is left behind and counted.
    pub async fn shutdown(&self) {
        let inner = &self.inner;
        let mut left: BTreeMap<String, Arc<PluginCell>> =
            inner.plugins.iter().filter(|p| p.state() == State::Ready).map(|p| (p.id().to_owned(), p.clone())).collect();
        while !left.is_empty() {
            let needed: BTreeSet<String> = left.values().flat_map(|p| requires(p)).collect();
            let mut wave: Vec<_> = left.values().filter(|p| !needed.contains(p.id())).cloned().collect();
            if wave.is_empty() {
                wave.extend(left.values().cloned());
            }
            let mut tasks = JoinSet::new();
            for plugin in wave {
                left.remove(plugin.id());
                let inner = inner.clone();
                tasks.spawn(async move { inner.stop(plugin).await });
            }
            while tasks.join_next().await.is_some() {}
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("registry", self.registry()).finish_non_exhaustive()
    }
}

/// Why a plugin's configuration cannot be used.
enum ConfigFault {
    /// With a place in the file.
    Located(ConfigError),
    /// The check itself broke.
    Broken(Error),
}

impl Inner {
    async fn start(self: Arc<Self>, plugin: Arc<PluginCell>) {
        let begun = Instant::now();
        if let Err(error) = self.dependencies_ready(&plugin).await {
            return plugin.fail(error);
        }
        match self.start_in_time(&plugin).await {
            Ok(()) => {
                plugin.ready(begun);
                self.hooks_changed();
                self.services.events.emit("plugin.ready", None, json!({ "plugin": plugin.id(), "ms": begun.elapsed().as_millis() as u64 }));
            }
            Err(error) => {
                self.services.registry.remove(plugin.id());
                tracing::warn!(plugin = plugin.id(), %error, "did not start");
                self.services.events.emit("plugin.failed", None, json!({ "plugin": plugin.id(), "reason": error.message() }));
                plugin.fail(error);
            }
        }
    }

    async fn dependencies_ready(&self, plugin: &PluginCell) -> Result<()> {
        for id in requires(plugin) {
            let Some(needed) = self.plugins.iter().find(|p| *p.id() == id) else { continue };
            let optional = plugin.manifest.as_ref().is_some_and(|m| m.requires.iter().any(|r| r.plugin == id && r.optional));
            let state = needed.settled().await;
            if state != State::Ready && !optional {
                let why = needed.status().reason.map_or(String::new(), |reason| format!(": {reason}"));
                return Err(Error::new(Code::DEPENDENCY_MISSING, format!("needs `{id}`, which is {}{why}", state.name())));
            }
        }
        Ok(())
    }

    /// Runs the plugin's code on a thread that the host can do without, so that the limit holds against code that blocks.
    async fn start_in_time(self: &Arc<Self>, plugin: &Arc<PluginCell>) -> Result<()> {
        let wanted = plugin.manifest.as_ref().and_then(|m| m.resources.start_timeout_ms).map(|ms| Duration::from_millis(ms.into()));
        let limit = wanted.unwrap_or(self.start_limit);
        let tasks = Arc::new(Tasks::default());
        let (tx, rx) = oneshot::channel();
        let (inner, cell, of_tasks) = (self.clone(), plugin.clone(), tasks.clone());
        let start = move || {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| inner.start_here(&cell, of_tasks)));
            let result = result.unwrap_or_else(|panic| Err(panicked(&*panic)));
            if let Err(Ok(instance)) = tx.send(result) {
                // Nobody waits any more: what came up late is taken down again.
                inner.services.runtime.block_on(instance.life.shutdown());
            }
        };
        self.on_thread(format!("start-{}", plugin.id()), start)?;
        let instance = match tokio::time::timeout(limit, rx).await {
            Ok(Ok(result)) => result?,
            Ok(Err(_)) => return Err(Error::new(Code::INITIALIZE_FAILED, "its thread ended without a word")),
            Err(_) => {
                tasks.abort();
                let what = timed_out(limit);
                return Err(Error::new(Code::INITIALIZE_FAILED, format!("start: {}; its thread was left behind", what.message()))
                    .with_help("raise plugins.start_timeout_ms, or switch the plugin off"));
            }
        };
        let generation = Arc::new(Generation::new(plugin.id(), instance.life.clone(), tasks));
        plugin.generation.store(Some(generation.clone()));
        self.services.registry.serve(&generation, &instance.contributions)
    }

    /// The part that runs plugin code: declare, compare, configure, start.
    fn start_here(self: &Arc<Self>, plugin: &Arc<PluginCell>, tasks: Arc<Tasks>) -> Result<Instance> {
        let specs = plugin.candidate.artifact.declare();
        if let Some(manifest) = &plugin.manifest {
            manifest.check_provides(&specs).map_err(|e| Error::new(Code::CONTRACT_MISMATCH, e.to_string()))?;
        }
        let config = self.config_of(plugin).map_err(|fault| match fault {
            ConfigFault::Located(error) => Error::invalid_params(error.to_string()).with_help("bespoke config check"),
            ConfigFault::Broken(error) => error,
        })?;
        self.services.registry.declare(plugin, &specs)?;
        *plugin.config.write().unwrap_or_else(std::sync::PoisonError::into_inner) = config.clone();
        let host = PluginHost { services: self.services.clone(), plugin: Arc::downgrade(plugin), id: plugin.id().into(), tasks };
        let threads = plugin.manifest.as_ref().and_then(|m| m.resources.threads).map_or(self.cpu_budget, |most| most.min(self.cpu_budget));
        let mut cx = PluginContext::new(plugin.id(), Arc::new(host)).with_cpu_budget(threads);
        if let Some(dir) = &self.data_dir {
            cx = cx.with_data_dir(dir.join(plugin.id()));
        }
        let _inside = self.services.runtime.enter();
        self.services.runtime.block_on(plugin.candidate.artifact.start(cx, config))
    }

    fn config_of(&self, plugin: &PluginCell) -> std::result::Result<Value, ConfigFault> {
        let config = self.config.plugin(plugin.id()).map_err(ConfigFault::Located)?;
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| plugin.candidate.artifact.check(&config)));
        match checked {
            Ok(Ok(())) => Ok(config),
            Ok(Err(error)) => Err(ConfigFault::Located(self.config.locate(plugin.id(), &error))),
            Err(panic) => Err(ConfigFault::Broken(panicked(&*panic))),
        }
    }

    async fn stop(self: Arc<Self>, plugin: Arc<PluginCell>) {
        plugin.set_state(State::Draining);
        self.services.registry.withdraw(plugin.id());
        self.hooks_changed();
        let Some(generation) = plugin.generation.swap(None) else { return plugin.set_state(State::Stopped) };
        let drained = generation.drain(DRAIN_LIMIT).await;
        let (tx, rx) = oneshot::channel();
        let (runtime, life) = (self.services.runtime.clone(), generation.life.clone());
        let shutdown = move || {
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let _inside = runtime.enter();
                runtime.block_on(life.shutdown());
            }));
            let _ = tx.send(done.map_err(|panic| panicked(&*panic)));
        };
        let outcome = match self.on_thread(format!("stop-{}", plugin.id()), shutdown) {
            Err(error) => Err(error),
            Ok(()) => match tokio::time::timeout(SHUTDOWN_LIMIT, rx).await {
                Ok(Ok(done)) => done,
                Ok(Err(_)) => Err(Error::new(Code::SHUTDOWN_FAILED, "its thread ended without a word")),
                Err(_) => Err(Error::new(
                    Code::SHUTDOWN_FAILED,
                    format!("shutdown: no answer within {SHUTDOWN_LIMIT:?}; its thread was left behind"),
                )),
            },
        };
        generation.tasks.abort();
        match outcome {
            Ok(()) if drained => plugin.set_state(State::Stopped),
            Ok(()) => {
                plugin.set(State::Stopped, format!("{} calls were still running after {DRAIN_LIMIT:?}", generation.in_flight()), None)
            }
            Err(error) => plugin.fail(error),
        }
        self.services.events.emit("plugin.stopped", None, json!({ "plugin": plugin.id() }));
    }

    /// Runs plugin code on a named thread that is counted until it ends.
    fn on_thread(self: &Arc<Self>, name: String, work: impl FnOnce() + Send + 'static) -> Result<()> {
        let inner = self.clone();
        inner.late.fetch_add(1, Ordering::Relaxed);
        let counted = move || {
            work();
            inner.late.fetch_sub(1, Ordering::Relaxed);
        };
        std::thread::Builder::new().name(name).spawn(counted).map(drop).map_err(|e| {
            self.late.fetch_sub(1, Ordering::Relaxed);
            Error::new(Code::RESOURCE_EXHAUSTED, format!("no thread for the plugin: {e}"))
        })
    }

    fn hooks_changed(&self) {
        self.hooks.update(self.services.registry.all::<dyn HookHandler>());
    }

    /// The chosen plugins and all that they need.
    fn closure(&self, selection: Selection<'_>) -> BTreeSet<String> {
        let mut chosen: BTreeSet<String> = match selection {
            Selection::All => self.plugins.iter().map(|p| p.id().to_owned()).collect(),
            Selection::Ids(ids) => ids.iter().cloned().collect(),
        };
        loop {
            let needed: Vec<String> = self.plugins.iter().filter(|p| chosen.contains(p.id())).flat_map(|p| requires(p)).collect();
            let before = chosen.len();
            chosen.extend(needed);
            if chosen.len() == before {
                return chosen;
            }
        }
    }
}

fn inspect(candidate: &Candidate) -> Result<Manifest> {
    let path = format!("{}/plugin.toml", candidate.origin);
    // Only a compiled-in plugin has a crate whose version and licence it can inherit.
    let inherited = Inherited { version: &candidate.version, license: "Apache-2.0" };
    let inherited = (candidate.tier == crate::Tier::Compiled).then_some(inherited);
    let manifest = Manifest::parse(&path, &candidate.manifest, inherited).map_err(|e| Error::new(Code::MANIFEST_INVALID, e.to_string()))?;
    if manifest.id != candidate.id {
        let message = format!("{path}: id is `{}`, but the plugin registers as `{}`", manifest.id, candidate.id);
        return Err(Error::new(Code::MANIFEST_INVALID, message).with_help("make the two equal"));
    }
    Ok(manifest)
}

/// Claims the names of a plugin; the plugin whose id comes first keeps a name that two want.
fn claim(names: &mut BTreeMap<(Kind, String), String>, id: &str, manifest: Option<&Manifest>) -> Option<Error> {
    let wanted: Vec<_> = manifest?.provides.iter().filter_map(|p| Some((p.kind, p.name.clone()?))).collect();
    if let Some(((kind, name), owner)) = wanted.iter().find_map(|key| names.get_key_value(key)) {
        let message = format!("{kind} `{name}` is provided by both `{owner}` and `{id}`; the first one serves");
        return Some(Error::new(Code::ALREADY_LOADED, message).with_help(format!("bespoke config set plugins.{owner}.enabled false")));
    }
    names.extend(wanted.into_iter().map(|key| (key, id.to_owned())));
    None
}

fn requires(plugin: &PluginCell) -> Vec<String> {
    plugin.manifest.iter().flat_map(|m| m.requires.iter().map(|r| r.plugin.clone())).collect()
}

/// Refuses plugins that need one that is not there, or not in a version that fits.
fn refuse_unmet(plugins: &[Arc<PluginCell>]) {
    for plugin in plugins.iter().filter(|p| p.state() == State::Unloaded) {
        let Some(manifest) = &plugin.manifest else { continue };
        for required in manifest.requires.iter().filter(|r| !r.optional) {
            let found = plugins.iter().find(|p| p.id() == required.plugin);
            let error = match found.map(|p| p.manifest.as_ref().map(|m| &m.version)) {
                None => Error::new(Code::DEPENDENCY_MISSING, format!("needs `{}`, which is not in this program", required.plugin))
                    .with_help(format!("build with the feature `{}`", required.plugin)),
                Some(Some(version)) if !required.version.matches(version) => {
                    let message = format!("needs `{}` {}, but {version} is here", required.plugin, required.version);
                    Error::new(Code::DEPENDENCY_MISSING, message)
                }
                Some(_) => continue,
            };
            plugin.fail(error);
            break;
        }
    }
}

/// Refuses plugins that need each other in a circle; none of them could ever be first.
fn refuse_cycles(plugins: &[Arc<PluginCell>]) {
    let mut open: BTreeMap<&str, Vec<String>> =
        plugins.iter().filter(|p| p.state() == State::Unloaded).map(|p| (p.id(), requires(p))).collect();
    // Take away what could start; what is left needs itself.
    loop {
        let startable: Vec<&str> =
            open.iter().filter(|(_, needs)| needs.iter().all(|n| !open.contains_key(n.as_str()))).map(|(id, _)| *id).collect();
        if startable.is_empty() {
            break;
        }
        for id in startable {
            open.remove(id);
        }
    }
    for plugin in plugins.iter().filter(|p| open.contains_key(p.id())) {
        // Follow one need after the other until an id comes again.
        let mut path = vec![plugin.id().to_owned()];
        while let Some(next) =
            open.get(path[path.len() - 1].as_str()).and_then(|needs| needs.iter().find(|n| open.contains_key(n.as_str())))
        {
            let seen = path.contains(next);
            path.push(next.clone());
            if seen {
                break;
            }
        }
        plugin.fail(Error::new(Code::DEPENDENCY_MISSING, format!("waits for itself: {}", path.join(" → "))));
    }
}
