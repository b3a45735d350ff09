//! The host: plugins from discovery to shutdown. A bad plugin is reported and isolated; the rest come up.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use bespoke_manifest::{Inherited, Manifest};
use bespoke_plugin_api::{CallCx, CancelToken, Code, Contract, Error, Instance, Kind, PluginContext, Result, ToolCall, ToolOutput};
use serde_json::{Value, json};
use tokio::{runtime::Handle, task::JoinSet};

use crate::{
    Config, ConfigError, Events, Hooks, HttpClient, KeyValue, ModelStore, Problem, Redactor, Registry, Row, Slot,
    api::{PluginHost, Services},
    needs::{self, claim, closure, refuse_cycles, refuse_unmet, requires},
    plugin::{Candidate, Generation, PluginCell, State, Tasks},
    slot::{panicked, shown},
    thread::{Threads, Waiting},
};

/// Makes a [`Host`]; see [`Host::builder`].
#[must_use]
pub struct HostBuilder {
    config: Config,
    candidates: Vec<Candidate>,
    models: Option<Arc<dyn ModelStore>>,
    store: Option<Arc<dyn KeyValue>>,
    http: Option<Arc<dyn HttpClient>>,
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

    /// With a client for the requests that plugins make; without one, every request is refused.
    pub fn http(mut self, client: Arc<dyn HttpClient>) -> Self {
        self.http = Some(client);
        self
    }

    /// With a place where plugins keep values between two runs; without one, nothing is kept.
    pub fn store(mut self, store: Arc<dyn KeyValue>) -> Self {
        self.store = Some(store);
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
        let threads = Threads::default();

        let mut plugins: Vec<Arc<PluginCell>> = Vec::new();
        let mut names: BTreeMap<(Kind, String), String> = BTreeMap::new();
        for candidate in candidates {
            let manifest = inspect(&candidate);
            let cell =
                PluginCell::new(candidate, manifest.as_ref().ok().cloned().map(Arc::new), defaults.call_timeout_ms, threads.late().clone());
            let id = cell.id().to_owned();
            if let Some(first) = plugins.iter().find(|p| p.id() == id) {
                let (a, b) = (&first.candidate.origin, &cell.candidate.origin);
                let message = format!("the id `{id}` is taken: both {a} and {b} claim it; that of {a} counts");
                cell.fail(Error::new(Code::ALREADY_LOADED, message).with_help("build with one of the two"));
            } else if !self.config.is_enabled(&id) {
                let fix = format!("bespoke config set plugins.{id}.enabled true");
                cell.set(State::Disabled, "switched off in the configuration", Some(fix));
            } else if let Err(error) = manifest.and_then(|manifest| claim(&mut names, &id, &manifest)) {
                cell.fail(error);
            }
            plugins.push(Arc::new(cell));
        }
        refuse_unmet(&plugins);
        refuse_cycles(&plugins);

        let redactor = redactor(&self.config, &plugins);
        let services = Services {
            runtime: Handle::current(),
            events: Events::default(),
            registry: Registry::default(),
            hooks: Hooks::default(),
            config: self.config,
            models: self.models,
            store: self.store,
            http: self.http,
            plugins,
        };
        Ok(Host {
            inner: Arc::new(Inner {
                services: Arc::new(services),
                redactor,
                data_dir: self.data_dir,
                start_limit: Duration::from_millis(defaults.start_timeout_ms),
                stop_limit: Duration::from_millis(defaults.stop_timeout_ms),
                cpu_budget: defaults.cpu_budget,
                threads,
                closing: CancelToken::new(),
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
    redactor: Redactor,
    data_dir: Option<PathBuf>,
    start_limit: Duration,
    stop_limit: Duration,
    cpu_budget: u16,
    threads: Threads,
    /// Cancelled by `shutdown`: nothing starts any more.
    closing: CancelToken,
}

impl Host {
    /// A host without plugins and with an empty configuration.
    pub fn builder() -> HostBuilder {
        HostBuilder { config: Config::empty(), candidates: Vec::new(), models: None, store: None, http: None, data_dir: None }
    }

    /// Contributions by kind and name.
    pub fn registry(&self) -> &Registry {
        &self.inner.services.registry
    }

    /// Hook dispatch.
    pub fn hooks(&self) -> &Hooks {
        &self.inner.services.hooks
    }

    /// The event bus.
    pub fn events(&self) -> &Events {
        &self.inner.services.events
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.inner.services.config
    }

    /// Knows every secret that the configuration refers to or a plugin may ask for, so that none of them is shown.
    pub fn redactor(&self) -> &Redactor {
        &self.inner.redactor
    }

    /// The manifest of a plugin, where it could be read.
    pub fn manifest(&self, id: &str) -> Option<Arc<Manifest>> {
        self.inner.services.plugins.iter().find(|p| p.id() == id)?.manifest.clone()
    }

    /// The slot of a contribution, or why there is none: a plugin that did not start has no slots, and says the reason.
    ///
    /// # Errors
    /// `NOT_READY`, with the reason and the fix of the plugin that would provide it; `PLUGIN_NOT_FOUND` when none would.
    pub fn find<T: Contract + ?Sized + 'static>(&self, name: &str) -> Result<Slot<T>> {
        self.inner.services.find(name)
    }

    /// Calls a tool as the user of this host, whoever asked for it: hooks before, arguments held against the tool's
    /// `input_schema`, the guarded call, hooks after. Arguments that are `null` count as an empty object. A veto is an answer
    /// that says who refused; the call that comes back is the one that ran, as hooks left it.
    ///
    /// # Errors
    /// `PLUGIN_NOT_FOUND` or `NOT_READY`, as [`find`](Self::find); `INVALID_PARAMS` before the plugin sees arguments that do not
    /// fit, listing what is wrong; what the tool or its guard returned.
    pub async fn call_tool(&self, cx: &CallCx, call: ToolCall) -> Result<(ToolCall, ToolOutput)> {
        self.call_tool_if(cx, call, |_| Ok(())).await
    }

    /// As [`call_tool`](Self::call_tool), for a caller that allows some tools only: `admit` sees the call after the hooks, so
    /// that none of them turns it into one that was not allowed.
    ///
    /// # Errors
    /// That of `admit`, and as [`call_tool`](Self::call_tool).
    pub async fn call_tool_if(
        &self,
        cx: &CallCx,
        call: ToolCall,
        admit: impl Fn(&ToolCall) -> Result<()> + Send,
    ) -> Result<(ToolCall, ToolOutput)> {
        self.inner.services.call_tool(cx, call, admit).await
    }

    /// Id of the plugin that provides a name, as the manifests declare it; known before anything is started.
    pub fn provider_of(&self, kind: Kind, name: &str) -> Option<String> {
        self.inner.services.provider(kind, name).map(|plugin| plugin.id().to_owned())
    }

    /// Whether a plugin is a stand-in for tests: its manifest has the category `testing`. Such a plugin serves who names it and
    /// is never chosen by default.
    pub fn is_stand_in(&self, id: &str) -> bool {
        self.manifest(id).is_some_and(|m| m.categories.iter().any(|c| c == "testing"))
    }

    /// Names of a kind that serve when nothing is configured, sorted: not those of stand-ins, nor of what is switched off.
    pub fn default_names(&self, kind: Kind) -> Vec<String> {
        let plugins = self.inner.services.plugins.iter().filter(|p| p.may_serve() && !self.is_stand_in(p.id()));
        let provided = plugins.filter_map(|p| p.manifest.clone()).flat_map(|m| m.provides.clone());
        let mut names: Vec<String> = provided.filter(|p| p.kind == kind).filter_map(|p| p.name).collect();
        names.sort();
        names
    }

    /// Text of the JSON Schema of a plugin's configuration.
    pub fn config_schema(&self, id: &str) -> Option<&str> {
        self.inner.services.plugins.iter().find(|p| p.id() == id).map(|p| p.candidate.config_schema.as_str())
    }

    /// One row per plugin, by id: what it is and how it does.
    pub fn rows(&self) -> Vec<Row> {
        self.inner.services.plugins.iter().map(|plugin| Row::of(plugin, &self.inner.redactor)).collect()
    }

    /// Threads of plugin code that did not come back in time and are left behind.
    pub fn late_threads(&self) -> usize {
        self.inner.threads.late().count()
    }

    /// Their names, sorted: `start-x` and `stop-x` for what plugin `x` did not finish when it started or stopped, `call-x` for a
    /// call that blocks its thread.
    pub fn late_names(&self) -> Vec<String> {
        self.inner.threads.late().names()
    }

    /// Checks the configuration of every plugin without starting any.
    ///
    /// # Errors
    /// All that is wrong with the tables of plugins, in the order of the file.
    pub async fn check_config(&self) -> std::result::Result<(), ConfigError> {
        let mut problems = Vec::new();
        for plugin in &self.inner.services.plugins {
            if matches!(plugin.state(), State::Unloaded | State::Ready) {
                match self.inner.config_of(plugin) {
                    Ok(_) => {}
                    Err(ConfigFault::Located(error)) => problems.extend(error.problems),
                    Err(ConfigFault::Broken(error)) => {
                        problems.extend(self.config().locate(&format!("plugins.{}", plugin.id()), &error).problems)
                    }
                }
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(problems.into()) }
    }

    /// What is right in the configuration of plugins, but not wise: secrets that are typed into the file.
    pub fn literal_secrets(&self) -> Vec<Problem> {
        let plugins = self.inner.services.plugins.iter();
        let literal = plugins.flat_map(|plugin| {
            let schema = serde_json::from_str(&plugin.candidate.config_schema).unwrap_or_default();
            self.config().literal_secrets(&format!("plugins.{}", plugin.id()), &schema)
        });
        ConfigError::from(literal.collect::<Vec<_>>()).problems
    }

    /// Ids of the plugins that could not start for want of a model file. Once it is there, [`start`](Self::start) tries again.
    pub fn lacking_models(&self) -> Vec<String> {
        self.inner.services.plugins.iter().filter(|p| p.lacks_model()).map(|p| p.id().to_owned()).collect()
    }

    /// Starts plugins side by side, each as soon as those it needs are ready, each time-boxed: those that were never started,
    /// and those that lacked a model file. Returns when all have settled. What went wrong with one is in its row.
    ///
    /// Dropping the future stops the waiting, not the starting.
    pub async fn start(&self, selection: Selection<'_>) {
        let inner = &self.inner;
        let chosen = match selection {
            Selection::All => inner.services.plugins.iter().map(|p| p.id().to_owned()).collect(),
            Selection::Ids(ids) => closure(&inner.services.plugins, ids.iter().cloned().collect()),
        };
        // All are `Starting` before the first one runs: a call or a dependent waits instead of failing.
        let starting: Vec<_> = inner
            .services
            .plugins
            .iter()
            .filter(|p| chosen.contains(p.id()) && !inner.closing.is_cancelled())
            .filter(|p| p.change(State::Unloaded, State::Starting) || p.lacks_model() && p.change(State::Failed, State::Starting))
            .map(|plugin| (plugin, inner.services.runtime.spawn(inner.clone().start(plugin.clone()))))
            .collect();
        for (plugin, task) in starting {
            if let Err(error) = task.await {
                plugin.fail(Error::internal(format!("its start broke: {error}")));
            }
        }
    }

    /// Stops all plugins, dependents first, within bounded time. Plugin code that hangs is left behind and counted.
    pub async fn shutdown(&self) {
        let inner = &self.inner;
        inner.closing.cancel();
        for plugin in &inner.services.plugins {
            plugin.started().await;
        }
        let mut left: BTreeMap<String, Arc<PluginCell>> =
            inner.services.plugins.iter().filter(|p| p.state() == State::Ready).map(|p| (p.id().to_owned(), p.clone())).collect();
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
        let events = &self.services.events;
        let result = tokio::select! {
            biased;
            () = self.closing.cancelled() => {
                self.services.registry.remove(plugin.id());
                return plugin.set(State::Stopped, "the host was shut down before it was ready", None);
            }
            result = self.start_when_possible(&plugin) => result,
        };
        match result {
            Ok(started_in) => {
                plugin.ready(started_in);
                events.emit("plugin.ready", None, json!({ "plugin": plugin.id(), "ms": started_in.as_millis() as u64 }));
            }
            Err(error) => {
                self.services.registry.remove(plugin.id());
                let error = self.clean(&error);
                tracing::warn!(plugin = plugin.id(), %error, "did not start");
                events.emit("plugin.failed", None, json!({ "plugin": plugin.id(), "reason": error.message() }));
                plugin.fail(error);
            }
        }
    }

    /// What is kept of an error for people, without secrets.
    fn clean(&self, error: &Error) -> Error {
        let clean = |text: &str| self.redactor.redact(text).into_owned();
        let cleaned = Error::new(error.code(), clean(error.message()));
        error.help().map_or(cleaned.clone(), |help| cleaned.with_help(clean(help)))
    }

    async fn start_when_possible(self: &Arc<Self>, plugin: &Arc<PluginCell>) -> Result<Duration> {
        needs::ready(&self.services.plugins, plugin).await?;
        let begun = Instant::now();
        let tasks = Arc::new(Tasks::default());
        let instance = match self.start_in_time(plugin, &tasks).await {
            Ok(instance) => instance,
            Err(error) => {
                tasks.abort();
                return Err(error);
            }
        };
        let generation = Arc::new(Generation::new(plugin.id(), instance.life, tasks));
        let early = plugin.come_up(generation.clone());
        let served = self.services.registry.serve(&generation, &instance.contributions);
        let served = served.and_then(|()| early.map_or(Ok(()), |early| self.services.registry.publish(plugin, &generation, &early)));
        match served {
            Ok(()) => {
                self.services.hooks.update(&self.services.registry);
                Ok(begun.elapsed())
            }
            Err(error) => {
                plugin.generation.store(None);
                self.services.registry.withdraw(plugin.id());
                // The error of the start is the one to tell.
                let _ = self.shut(generation).await;
                Err(error)
            }
        }
    }

    /// Runs the plugin's code on a thread that the host can do without, so that the limit holds against code that blocks.
    async fn start_in_time(self: &Arc<Self>, plugin: &Arc<PluginCell>, tasks: &Arc<Tasks>) -> Result<Instance> {
        let wanted = plugin.manifest.as_ref().and_then(|m| m.resources.start_timeout_ms).map(|ms| Duration::from_millis(ms.into()));
        let limit = wanted.unwrap_or(self.start_limit);
        let (inner, cell, of_plugin) = (self.clone(), plugin.clone(), tasks.clone());
        let start = move |waiting: &Waiting| inner.start_here(&cell, of_plugin, waiting);
        let (runtime, of_plugin) = (self.services.runtime.clone(), tasks.clone());
        let take_down = move |instance: Instance| {
            let _after = Aborts(of_plugin);
            runtime.block_on(instance.life.shutdown());
        };
        match self.threads.run(plugin.id(), format!("start-{}", plugin.id()), "start", limit, start, take_down).await? {
            Some(instance) => Ok(instance),
            None => {
                let message = format!("did not start within {}; its thread was left behind", shown(limit));
                let help = match wanted {
                    Some(_) => "raise start_timeout_ms under [resources] in its plugin.toml, or switch the plugin off",
                    None => "raise plugins.start_timeout_ms, or switch the plugin off",
                };
                Err(Error::new(Code::INITIALIZE_FAILED, message).with_help(help))
            }
        }
    }

    /// The part that runs plugin code: declare, compare, configure, start.
    fn start_here(self: &Arc<Self>, plugin: &Arc<PluginCell>, tasks: Arc<Tasks>, waiting: &Waiting) -> Result<Instance> {
        let artifact = &plugin.candidate.artifact;
        let specs = catch_unwind(AssertUnwindSafe(|| artifact.declare())).map_err(|panic| panicked("register()", &*panic))?;
        if let Some(manifest) = &plugin.manifest {
            manifest.check_provides(&specs).map_err(|e| Error::new(Code::CONTRACT_MISMATCH, e.to_string()))?;
        }
        let config = self.config_of(plugin).map_err(|fault| match fault {
            ConfigFault::Located(error) => Error::invalid_params(error.to_string()).with_help("bespoke config check"),
            ConfigFault::Broken(error) => error,
        })?;
        self.services.registry.declare(plugin, &specs)?;
        if waiting.is_over() {
            // The host has cleaned up after us already, perhaps before we declared.
            self.services.registry.remove(plugin.id());
            return Err(Error::new(Code::INITIALIZE_FAILED, "late"));
        }
        let host = PluginHost { services: self.services.clone(), plugin: Arc::downgrade(plugin), id: plugin.id().into(), tasks };
        let threads = plugin.manifest.as_ref().and_then(|m| m.resources.threads).map_or(self.cpu_budget, |most| most.min(self.cpu_budget));
        let mut cx = PluginContext::new(plugin.id(), Arc::new(host)).with_cpu_budget(threads);
        if let Some(dir) = &self.data_dir {
            cx = cx.with_data_dir(dir.join(plugin.id()));
        }
        self.services.runtime.block_on(artifact.start(cx, config))
    }

    fn config_of(&self, plugin: &PluginCell) -> std::result::Result<Value, ConfigFault> {
        let manifest = plugin.manifest.as_deref();
        let secrets = manifest.map_or(&[][..], |m| m.permissions.secrets.as_slice());
        // The schema of a broken plugin says nothing; its own check does.
        let schema = serde_json::from_str(&plugin.candidate.config_schema).unwrap_or_default();
        let mut broken = None;
        let check = |config: &Value| match catch_unwind(AssertUnwindSafe(|| plugin.candidate.artifact.check(config))) {
            Ok(result) => result,
            Err(panic) => {
                broken = Some(panicked("the check of its configuration", &*panic));
                Ok(())
            }
        };
        let config = self.services.config.checked_plugin(plugin.id(), &schema, secrets, check);
        match broken {
            Some(error) => Err(ConfigFault::Broken(error)),
            None => config.map_err(ConfigFault::Located),
        }
    }

    async fn stop(self: Arc<Self>, plugin: Arc<PluginCell>) {
        plugin.set_state(State::Draining);
        self.services.registry.withdraw(plugin.id());
        self.services.hooks.update(&self.services.registry);
        let Some(generation) = plugin.generation.swap(None) else { return plugin.set_state(State::Stopped) };
        let drained = generation.drain(self.stop_limit).await;
        let left = generation.in_flight();
        match self.shut(generation).await {
            Ok(()) if drained => plugin.set_state(State::Stopped),
            Ok(()) => {
                let calls = if left == 1 { "1 call was".to_owned() } else { format!("{left} calls were") };
                plugin.set(State::Stopped, format!("{calls} still running after {}", shown(self.stop_limit)), None);
            }
            Err(error) => plugin.fail(self.clean(&error)),
        }
        self.services.events.emit("plugin.stopped", None, json!({ "plugin": plugin.id() }));
    }

    /// Ends a generation, on a thread too: `shutdown` may block, and so may dropping the last of the plugin.
    async fn shut(&self, generation: Arc<Generation>) -> Result<()> {
        let (id, runtime) = (generation.plugin().to_owned(), self.services.runtime.clone());
        let shutdown = move |_: &Waiting| {
            let _after = Aborts(generation.tasks.clone());
            runtime.block_on(generation.life.shutdown());
            drop(generation);
            Ok(())
        };
        match self.threads.run(&id, format!("stop-{id}"), "shutdown", self.stop_limit, shutdown, drop).await? {
            Some(()) => Ok(()),
            None => {
                let message = format!("did not stop within {}; its thread was left behind", shown(self.stop_limit));
                Err(Error::new(Code::SHUTDOWN_FAILED, message))
            }
        }
    }
}

/// Ends a plugin's tasks after its shutdown, also when that panics.
struct Aborts(Arc<Tasks>);

impl Drop for Aborts {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What must not be shown: values behind references of the configuration, those that schemas mark as secret, and secrets that
/// plugins may ask for. It learns what is looked up later.
fn redactor(config: &Config, plugins: &[Arc<PluginCell>]) -> Redactor {
    for plugin in plugins {
        if let Ok(schema) = serde_json::from_str(&plugin.candidate.config_schema) {
            config.learn_secrets(&format!("plugins.{}", plugin.id()), &schema);
        }
        for secret in plugin.manifest.iter().flat_map(|m| &m.permissions.secrets) {
            config.learn_secret_variable(plugin.id(), secret);
        }
    }
    config.redactor()
}

fn inspect(candidate: &Candidate) -> Result<Manifest> {
    let path = format!("{}/plugin.toml", candidate.origin);
    // Only a compiled-in plugin has a crate whose version and licence it can inherit.
    let inherited = Inherited { version: &candidate.version, license: &candidate.license };
    let inherited = (candidate.tier == crate::Tier::Compiled).then_some(inherited);
    let manifest = Manifest::parse(&path, &candidate.manifest, inherited).map_err(|e| Error::new(Code::MANIFEST_INVALID, e.to_string()))?;
    if manifest.id != candidate.id {
        let at = manifest.position("id").map_or(String::new(), |at| format!(":{at}"));
        let message = format!("{path}{at}: id: it is `{}`, but the plugin registers as `{}`", manifest.id, candidate.id);
        return Err(Error::new(Code::MANIFEST_INVALID, message).with_help("make the two equal"));
    }
    Ok(manifest)
}
