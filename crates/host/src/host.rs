//! The host: plugins from discovery to shutdown. A bad plugin is reported and isolated; the rest come up.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use arc_swap::ArcSwap;
use bespoke_manifest::Manifest;
use bespoke_plugin_api::{CallCx, CancelToken, Code, Contract, Error, Kind, Result, ToolCall, ToolOutput};
use tokio::{runtime::Handle, sync::watch, task::JoinSet};

use crate::{
    Config, ConfigError, Consent, EventStore, Events, EventsConfig, Grants, Hooks, HttpClient, KeyValue, ModelStore, NoTerms, Problem,
    Redactor, Registry, Row, RuntimeStore, Slot, Supervision, UsageConfig, UsageStore, Use,
    api::Services,
    candidate::{Candidate, State, Tier},
    commands::Names,
    events::History,
    grants,
    lifecycle::{ConfigFault, Inner, Limits},
    needs::{claim, closure, refuse_cycles, refuse_unmet, requires},
    plugin::PluginCell,
    slot::shown,
    thread::Threads,
    tier::Terms,
    usage::Ledger,
};

/// How often what plugins made use of is kept while the program runs.
const BETWEEN_USES: Duration = Duration::from_secs(60);

/// How long the end of the program waits for the last events to be written.
const LAST_EVENTS: Duration = Duration::from_secs(5);

/// Makes a [`Host`]; see [`Host::builder`].
#[must_use]
pub struct HostBuilder {
    config: Config,
    candidates: Vec<Candidate>,
    models: Option<Arc<dyn ModelStore>>,
    runtimes: Option<Arc<dyn RuntimeStore>>,
    store: Option<Arc<dyn KeyValue>>,
    http: Option<Arc<dyn HttpClient>>,
    data_dir: Option<PathBuf>,
    supervision: Supervision,
    grants: Grants,
    tell: Option<Tell>,
    history: Option<Arc<dyn EventStore>>,
    usage: Option<Arc<dyn UsageStore>>,
    reserved: Vec<String>,
}

/// Takes a line for people.
pub(crate) type Tell = Arc<dyn Fn(&str) + Send + Sync>;

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

    /// With a place where the libraries of native runtimes lie.
    pub fn runtimes(mut self, store: Arc<dyn RuntimeStore>) -> Self {
        self.runtimes = Some(store);
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

    /// With a place where what happens is kept, as `[events]` says; without one, the last of it is known while the program runs.
    pub fn history(mut self, store: Arc<dyn EventStore>) -> Self {
        self.history = Some(store);
        self
    }

    /// With a place where is kept what plugins were used for, as `[usage]` says; without one, it is known while the program runs.
    pub fn usage(mut self, store: Arc<dyn UsageStore>) -> Self {
        self.usage = Some(store);
        self
    }

    /// With a folder under which each plugin has one of its own.
    pub fn data_dir(mut self, dir: PathBuf) -> Self {
        self.data_dir = Some(dir);
        self
    }

    /// With what the user has granted plugins that are no part of the program; without, those that ask for something wait.
    pub fn grants(mut self, grants: Grants) -> Self {
        self.grants = grants;
        self
    }

    /// With somebody who is told, in a line, what takes long before a plugin can start, such as packages that are installed.
    pub fn tell(mut self, tell: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.tell = Some(Arc::new(tell));
        self
    }

    /// With the verbs of the program, which no command of a plugin may be called, beside those that are reserved anyway.
    pub fn reserved_commands(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.reserved.extend(names);
        self
    }

    /// With another patience for plugins that end by themselves.
    pub fn supervision(mut self, supervision: Supervision) -> Self {
        self.supervision = supervision;
        self
    }

    /// Looks at the plugins without starting any. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// Only when `[plugins]` itself is wrong; what is wrong with one plugin is in its row.
    pub fn build(self) -> std::result::Result<Host, ConfigError> {
        let defaults = self.config.plugin_defaults()?;
        let mut candidates = self.candidates;
        // Of two with one id, the one in the program counts, else the one that was found first. Those in the program come in no order.
        let outside = |c: &Candidate| c.tier != Tier::Compiled;
        let order = |c: &Candidate| (c.id.clone(), outside(c), if outside(c) { String::new() } else { c.origin.clone() });
        candidates.sort_by_cached_key(order);
        let threads = Threads::default();

        let mut plugins: Vec<Arc<PluginCell>> = Vec::new();
        let mut names: BTreeMap<(Kind, String), String> = BTreeMap::new();
        for candidate in candidates {
            let cell = PluginCell::new(candidate, defaults.call_timeout_ms, &threads);
            let id = cell.id().to_owned();
            if let Some(first) = plugins.iter().find(|p| p.id() == id) {
                let (a, b) = (&first.candidate.origin, &cell.candidate.origin);
                let message = format!("the id `{id}` is taken: both {a} and {b} claim it; that of {a} counts");
                cell.fail(Error::new(Code::ALREADY_LOADED, message).with_help(if outside(&cell.candidate) {
                    "take one of the two away"
                } else {
                    "build with one of the two"
                }));
            } else if !self.config.is_enabled(&id) {
                let fix = format!("bespoke config set plugins.{id}.enabled true");
                cell.set(State::Disabled, "switched off in the configuration", Some(fix));
            } else if let Err(error) = cell.fit().and_then(|manifest| claim(&mut names, &id, manifest)) {
                cell.fail(cell.candidate.artifact.look().err().unwrap_or(error));
            }
            plugins.push(Arc::new(cell));
        }
        refuse_unmet(&plugins);
        refuse_cycles(&plugins);

        let names = Names::new(self.reserved);
        names.settle(&plugins);

        let redactor = redactor(&self.config, &plugins);
        let events = Events::default();
        // What is wrong with the section is told where the configuration is checked; what happens is kept all the same.
        let keep = EventsConfig::of(&self.config).unwrap_or_default();
        let history = self.history.map(|store| History::new(store, keep));
        let counted = UsageConfig::of(&self.config).unwrap_or_default();
        let usage = Ledger::new(self.usage, counted);
        let services = Services {
            runtime: Handle::current(),
            hooks: Hooks::telling(Handle::current(), events.clone(), redactor.clone()),
            events,
            names,
            registry: Registry::default(),
            offers: watch::Sender::default(),
            config: ArcSwap::from_pointee(self.config),
            models: self.models,
            runtimes: self.runtimes,
            store: self.store,
            http: self.http,
            plugins: ArcSwap::from_pointee(plugins),
        };
        let inner = Arc::new(Inner {
            services: Arc::new(services),
            redactor,
            data_dir: self.data_dir,
            limits: Limits::new(&defaults),
            threads,
            supervision: self.supervision,
            grants: self.grants,
            tell: self.tell.unwrap_or_else(|| Arc::new(|line| tracing::info!("{line}"))),
            history,
            usage,
            closing: CancelToken::new(),
            reloading: tokio::sync::Mutex::default(),
            retiring: Mutex::default(),
        });
        for plugin in inner.services.plugins.load().iter() {
            plugin.watch.belongs_to(Arc::downgrade(&inner));
            inner.settle_terms(plugin);
        }
        inner.tell_hooks();
        inner.services.offers_changed();
        if inner.grants.are_kept() || inner.usage.is_kept() {
            inner.services.runtime.spawn(keep_uses_now_and_then(Arc::downgrade(&inner), inner.closing.clone()));
        }
        Ok(Host { inner })
    }
}

/// What plugins make use of is kept while the program runs, too: it may be ended without a word.
async fn keep_uses_now_and_then(inner: Weak<Inner>, closing: CancelToken) {
    loop {
        tokio::select! {
            () = closing.cancelled() => return,
            () = tokio::time::sleep(BETWEEN_USES) => {}
        }
        let Some(inner) = inner.upgrade() else { return };
        inner.keep_uses().await;
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

impl Host {
    /// A host without plugins and with an empty configuration.
    pub fn builder() -> HostBuilder {
        HostBuilder {
            config: Config::empty(),
            candidates: Vec::new(),
            models: None,
            runtimes: None,
            store: None,
            http: None,
            data_dir: None,
            supervision: Supervision::default(),
            grants: Grants::none(),
            tell: None,
            history: None,
            usage: None,
            reserved: Vec::new(),
        }
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    pub(crate) fn plugins(&self) -> Arc<Vec<Arc<PluginCell>>> {
        self.inner.services.plugins.load_full()
    }

    /// The plugin of an id.
    ///
    /// # Errors
    /// `PLUGIN_NOT_FOUND`.
    pub(crate) fn known(&self, id: &str) -> Result<Arc<PluginCell>> {
        let unknown = || Error::new(Code::PLUGIN_NOT_FOUND, format!("no plugin `{id}`")).with_help("bespoke plugin list");
        self.inner.services.plugin(id).ok_or_else(unknown)
    }

    /// Contributions by kind and name.
    pub fn registry(&self) -> &Registry {
        &self.inner.services.registry
    }

    /// Told when it may be that other contributions serve than before, for who keeps something by it.
    pub fn offers(&self) -> watch::Receiver<()> {
        self.inner.services.offers.subscribe()
    }

    /// Hook dispatch.
    pub fn hooks(&self) -> &Hooks {
        &self.inner.services.hooks
    }

    /// The event bus.
    pub fn events(&self) -> &Events {
        &self.inner.services.events
    }

    /// Where what happens is kept for longer, if it is.
    pub fn history(&self) -> Option<Arc<dyn EventStore>> {
        self.inner.history.as_ref().map(|history| history.store.clone())
    }

    /// Completes when the event of this number stands in the history, or never will; within bounded time.
    pub async fn kept(&self, number: u64) {
        if let Some(history) = &self.inner.history {
            history.settled(number, LAST_EVENTS).await;
        }
    }

    /// What the user has granted.
    pub fn grants(&self) -> &Grants {
        &self.inner.grants
    }

    /// How far a plugin may go, by what the user has granted until now; `None` for one whose manifest cannot be read.
    pub fn consent(&self, id: &str) -> Option<Consent> {
        let plugin = self.inner.services.plugin(id)?;
        Some(self.inner.grants.consent(plugin.manifest.as_deref()?, plugin.candidate.tier))
    }

    /// Which of its permissions a plugin made use of so far, as far as the host is asked for them, and what it was refused: in this program
    /// and in those before it that kept it beside the grants.
    pub fn used(&self, id: &str) -> Vec<Use> {
        let kept = self.inner.grants.kept_uses(id);
        self.inner.services.plugin(id).map_or_else(|| grants::listed(&kept), |plugin| plugin.used.list_with(kept.clone()))
    }

    /// On what terms a plugin would be started now: what it may have and use, and how much of a wall it must have.
    ///
    /// # Errors
    /// `PLUGIN_NOT_FOUND`; `PERMISSION_DENIED` when it lacks the user's consent; `INVALID_PARAMS` when its table is wrong.
    pub fn terms(&self, id: &str) -> Result<Terms> {
        self.inner.terms_of(&self.config(), &*self.known(id)?)
    }

    /// The configuration as it was read last. A plugin that refused its part of it runs with the one before.
    pub fn config(&self) -> Arc<Config> {
        self.inner.services.config()
    }

    /// Knows every secret that the configuration refers to or a plugin may ask for, so that none of them is shown.
    pub fn redactor(&self) -> &Redactor {
        &self.inner.redactor
    }

    /// The manifest of a plugin, where it could be read.
    pub fn manifest(&self, id: &str) -> Option<Arc<Manifest>> {
        self.inner.services.plugin(id)?.manifest.clone()
    }

    /// The native runtimes that a plugin could use as it is configured: those that its manifest names, but for what it says that it could
    /// not use. None of one that is switched off or may not run.
    pub fn runtimes(&self, id: &str) -> Vec<String> {
        let Some(plugin) = self.inner.services.plugin(id) else { return Vec::new() };
        let (Some(manifest), Ok(config)) = (&plugin.manifest, self.config().plugin(id)) else { return Vec::new() };
        if matches!(plugin.state(), State::Disabled | State::Missing | State::Blocked) {
            return Vec::new();
        }
        let artifact = &plugin.candidate.artifact;
        // It runs plugin code, which may panic.
        let used = |spec: &&String| catch_unwind(AssertUnwindSafe(|| artifact.uses_runtime(&config, spec))).unwrap_or(false);
        manifest.runtimes.iter().filter(used).cloned().collect()
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

    /// Whether a plugin serves although nobody named it. A stand-in does not, nor does one that sends requests to other machines
    /// while the configuration says nothing of it: what a user types must not leave the machine because of a default.
    pub fn serves_unasked(&self, id: &str) -> bool {
        let calls_out = || self.manifest(id).is_some_and(|m| !m.permissions.network_access.is_empty());
        !self.is_stand_in(id) && (!calls_out() || self.config().plugin_ids().iter().any(|table| table == id))
    }

    /// Names of a kind that serve when nothing is configured, sorted: of plugins that [serve unasked](Self::serves_unasked) and
    /// are not switched off.
    pub fn default_names(&self, kind: Kind) -> Vec<String> {
        let known = self.plugins();
        let plugins = known.iter().filter(|p| p.may_serve() && self.serves_unasked(p.id()));
        let provided = plugins.filter_map(|p| p.manifest.clone()).flat_map(|m| m.provides.clone());
        let mut names: Vec<String> = provided.filter(|p| p.kind == kind).filter_map(|p| p.name).collect();
        names.sort();
        names
    }

    /// Text of the JSON Schema of a plugin's configuration.
    pub fn config_schema(&self, id: &str) -> Option<String> {
        self.inner.services.plugin(id).map(|p| p.candidate.config_schema.clone())
    }

    /// One row per plugin, by id: what it is and how it does.
    pub fn rows(&self) -> Vec<Row> {
        self.plugins().iter().map(|plugin| Row::of(plugin, &self.inner.redactor)).collect()
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
        problems.extend(self.check_hooks());
        problems.extend(EventsConfig::of(&self.config()).err().into_iter().flat_map(|error| error.problems));
        problems.extend(UsageConfig::of(&self.config()).err().into_iter().flat_map(|error| error.problems));
        for id in self.config().plugin_ids() {
            problems.extend(self.config().plugin_settings(&id).err().into_iter().flat_map(|error| error.problems));
        }
        for plugin in self.plugins().iter() {
            if let (Some(manifest), State::Unloaded | State::Ready) = (&plugin.manifest, plugin.state())
                && let Err(NoTerms::Wrong(error)) = self.config().terms(manifest, plugin.candidate.tier, self.grants())
            {
                problems.extend(error.problems.into_iter().filter(|problem| !problems.contains(problem)).collect::<Vec<_>>());
            }
            if matches!(plugin.state(), State::Unloaded | State::Ready) {
                match self.inner.config_of(&self.config(), plugin) {
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

    /// What is wrong with `[[hooks]]`.
    fn check_hooks(&self) -> Vec<Problem> {
        let config = self.config();
        let hooks = match config.hooks() {
            Ok(hooks) => hooks,
            Err(error) => return error.problems,
        };
        let unknown = hooks.iter().enumerate().filter(|(_, hook)| self.known(&hook.plugin).is_err());
        let problem = |n: usize| {
            config.problem(&format!("hooks[{n}].plugin"), "no plugin of this id is in this program", Some("bespoke plugin list".into()))
        };
        unknown.map(|(n, _)| problem(n)).collect()
    }

    /// What is right in the configuration of plugins, but not wise: secrets that are typed into the file.
    pub fn literal_secrets(&self) -> Vec<Problem> {
        let known = self.plugins();
        let literal = known.iter().flat_map(|plugin| self.config().literal_secrets(&format!("plugins.{}", plugin.id()), &plugin.schema));
        ConfigError::from(literal.collect::<Vec<_>>()).problems
    }

    /// Ids of the plugins that could not start for want of a model file. Once it is there, [`start`](Self::start) tries again.
    pub fn lacking_models(&self) -> Vec<String> {
        self.plugins().iter().filter(|p| p.lacks_model()).map(|p| p.id().to_owned()).collect()
    }

    /// Starts plugins side by side, each as soon as those it needs are ready, each time-boxed: those that were never started,
    /// and those that lacked a model file. Returns when all have settled. What went wrong with one is in its row.
    ///
    /// Dropping the future stops the waiting, not the starting.
    pub async fn start(&self, selection: Selection<'_>) {
        let (inner, known) = (&self.inner, self.plugins());
        if let Some(history) = &inner.history {
            history.begin(self.events()).await;
        }
        let chosen = match selection {
            Selection::All => known.iter().map(|p| p.id().to_owned()).collect(),
            Selection::Ids(ids) => closure(&known, ids.iter().cloned().collect()),
        };
        // What was granted since they were looked at counts.
        known.iter().filter(|p| chosen.contains(p.id()) && p.state() == State::Blocked).for_each(|p| inner.settle_terms(p));
        // All are `Starting` before the first one runs: a call or a dependent waits instead of failing.
        let starting: Vec<_> = known
            .iter()
            .filter(|p| chosen.contains(p.id()) && !inner.closing.is_cancelled())
            .filter(|p| {
                let again = p.lacks_model() || p.lacks_need() && inner.needs_met(p);
                p.change(State::Unloaded, State::Starting) || again && p.change(State::Failed, State::Starting)
            })
            .map(|plugin| (plugin, inner.services.runtime.spawn(inner.clone().start(plugin.clone()))))
            .collect();
        for (plugin, task) in starting {
            if let Err(error) = task.await {
                plugin.fail(Error::internal(format!("its start broke: {error}")));
                inner.services.offers_changed();
            }
        }
    }

    /// Stops all plugins, dependents first, within bounded time: that of each plugin is `plugins.stop_timeout_ms`, that of all
    /// together `plugins.shutdown_timeout_ms`. Plugin code that hangs is left behind and counted.
    pub async fn shutdown(&self) {
        let inner = &self.inner;
        inner.closing.cancel();
        // What happened until now is heard before anybody is stopped.
        inner.services.hooks.finish(inner.limits.stop()).await;
        let limit = inner.limits.shutdown();
        if tokio::time::timeout(limit, self.stop_all()).await.is_err() {
            for plugin in self.plugins().iter() {
                if matches!(plugin.state(), State::Ready | State::Draining | State::Starting) {
                    let message = format!("did not stop before the time for all plugins, {}, was over", shown(limit));
                    plugin.fail(Error::new(Code::SHUTDOWN_FAILED, message).with_help("raise plugins.shutdown_timeout_ms"));
                }
            }
        }
        inner.clone().keep_uses().await;
        if let Some(history) = &inner.history {
            history.finish(LAST_EVENTS).await;
        }
    }

    /// The program is about to end itself, whatever is under way: turns are told to be over, and who is told of events or keeps them has
    /// so long to hear it. Nothing is stopped.
    pub async fn cut_off(&self, limit: Duration) {
        let inner = &self.inner;
        inner.services.events.open().cut_off();
        let kept = async {
            if let Some(history) = &inner.history {
                history.finish(limit).await;
            }
        };
        tokio::join!(inner.services.hooks.finish(limit), kept);
    }

    async fn stop_all(&self) {
        let inner = &self.inner;
        for plugin in self.plugins().iter() {
            plugin.started().await;
        }
        let running = self.plugins().iter().filter(|p| p.state() == State::Ready).cloned().collect();
        inner.stop_in_order(running).await;
        let retiring = std::mem::take(&mut *inner.retiring.lock().unwrap_or_else(PoisonError::into_inner));
        for task in retiring {
            // It ends within the limits of a stop, and its panics are its own.
            let _ = task.await;
        }
    }
}

impl Inner {
    /// Takes over who is told of events, as the configuration says. What is wrong with it is told where it is checked.
    pub(crate) fn tell_hooks(&self) {
        let wanted = self.services.config().hooks().unwrap_or_else(|error| {
            tracing::warn!(%error, "[[hooks]] cannot be read");
            Vec::new()
        });
        self.services.hooks.told(wanted, &self.services.plugins.load());
    }

    /// Keeps what plugins made use of since the last time.
    async fn keep_uses(self: Arc<Self>) {
        let keep = move || {
            self.services.plugins.load().iter().for_each(|plugin| self.usage.take(plugin));
            self.usage.keep();
            let plugins: Vec<_> = self.services.plugins.load().iter().map(|p| (p.id().to_owned(), p.used.clone())).collect();
            if let Err(error) = self.grants.keep_uses(&plugins) {
                tracing::warn!(%error, "what plugins made use of could not be kept");
            }
        };
        // A broken task has kept nothing, and nothing else depends on it.
        let _ = tokio::task::spawn_blocking(keep).await;
    }

    /// Whether all that a plugin needs serves or is about to.
    pub(crate) fn needs_met(&self, plugin: &PluginCell) -> bool {
        plugin.manifest.iter().flat_map(|m| &m.requires).filter(|r| !r.optional).all(|required| {
            self.services
                .plugins
                .load()
                .iter()
                .filter(|p| p.id() == required.plugin && matches!(p.state(), State::Ready | State::Starting))
                .any(|p| p.manifest.as_ref().is_some_and(|m| required.version.matches(&m.version)))
        })
    }

    /// Stops plugins, those first that need others of them.
    pub(crate) async fn stop_in_order(self: &Arc<Self>, plugins: Vec<Arc<PluginCell>>) {
        let mut left: BTreeMap<String, Arc<PluginCell>> = plugins.into_iter().map(|p| (p.id().to_owned(), p)).collect();
        while !left.is_empty() {
            let needed: BTreeSet<String> = left.values().flat_map(|p| requires(p)).collect();
            let mut wave: Vec<_> = left.values().filter(|p| !needed.contains(p.id())).cloned().collect();
            if wave.is_empty() {
                wave.extend(left.values().cloned());
            }
            let mut tasks = JoinSet::new();
            for plugin in wave {
                left.remove(plugin.id());
                tasks.spawn(self.clone().stop(plugin));
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

/// What must not be shown: values behind references of the configuration, those that schemas mark as secret, and secrets that
/// plugins may ask for. It learns what is looked up later.
pub(crate) fn redactor(config: &Config, plugins: &[Arc<PluginCell>]) -> Redactor {
    let index = config.plugin_defaults().ok().and_then(|defaults| defaults.index_url).unwrap_or_default();
    if let Some(password) = password_in(&index) {
        config.redactor().learn(password.to_owned());
    }
    for plugin in plugins {
        config.learn_secrets(&format!("plugins.{}", plugin.id()), &plugin.schema);
        for secret in plugin.manifest.iter().flat_map(|m| &m.permissions.secrets) {
            config.learn_secret_variable(plugin.id(), secret);
        }
    }
    config.redactor()
}

/// What stands between the colon and the `@` of an address, or all before the `@`, as a token does.
fn password_in(url: &str) -> Option<&str> {
    let authority = url.split_once("://")?.1.split(['/', '?', '#']).next()?;
    let (login, _) = authority.rsplit_once('@')?;
    Some(login.split_once(':').map_or(login, |(_, password)| password))
}
