//! A new configuration while everything runs: what changed, and what becomes of it. Each plugin stands alone: a value that one
//! refuses keeps that one as it was, and the others go on.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use bespoke_manifest::Swap;
use bespoke_plugin_api::{Code, Error, Health, Life, Reload, Result};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    Config, Host, PluginDefaults, Problem, Selection,
    candidate::{State, Tier},
    generation::Generation,
    host::redactor,
    lifecycle::{Inner, Launch},
    needs::{refuse_cycles, refuse_unmet},
    plugin::{Applied, PluginCell},
    slot::{drop_caught, shown},
    thread::Waiting,
};

/// Keys of the host in the table of a plugin, beside the one that switches it on, and how they take a new value.
const OF_HOST: &[(&str, ReloadClass)] = &[
    ("auto_install_deps", ReloadClass::Live),
    ("idle_stop_ms", ReloadClass::Live),
    ("limits", ReloadClass::Restart),
    ("path", ReloadClass::Fixed),
    ("sandbox", ReloadClass::Restart),
    ("start", ReloadClass::Live),
];

/// How a key of the configuration takes a new value; the schema says so in `x-reload`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReloadClass {
    /// At once, in what runs.
    Live,
    /// In a new instance, which takes the place of the old one. What a schema says nothing of is of this class.
    Restart,
    /// Only when the program starts.
    Fixed,
}

/// One key that has another value than before.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Change {
    /// The dotted key, such as `plugins.clock.time_zone`.
    pub key: String,
    /// The plugin whose key it is.
    pub plugin: Option<String>,
    /// The value before as it was written, references and all; `None` when there was none.
    pub old: Option<Value>,
    /// The value now as it is written.
    pub new: Option<Value>,
    /// How it takes effect.
    pub class: ReloadClass,
}

/// What became of a new configuration.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct ReloadReport {
    /// What is different, by key. Those of sections are the caller's to apply.
    pub changes: Vec<Change>,
    /// The plugins that something happened to, by id.
    pub plugins: Vec<PluginReload>,
    /// What is wrong with the configuration itself.
    pub problems: Vec<Problem>,
}

/// What became of one plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PluginReload {
    /// Its id.
    pub plugin: String,
    /// What became of it.
    pub outcome: ReloadOutcome,
    /// Why, where it is not as the configuration says.
    pub reason: Option<String>,
    /// What would help.
    pub fix: Option<String>,
}

/// What became of a plugin when the configuration changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReloadOutcome {
    /// It runs on, with the new values.
    Applied,
    /// A new instance with the new values took its place.
    Swapped,
    /// It was not running and is now.
    Started,
    /// It was running and is not any more, as the configuration says or for want of another.
    Stopped,
    /// A value may not change while the program runs; it runs on with the old ones.
    Rejected,
    /// The new values could not be used; it runs on with the old ones.
    Kept,
    /// It does not run.
    Failed,
}

impl Host {
    /// What a configuration would change, against what runs now. `sections` are those that the program itself reads, with the
    /// text of their JSON Schemas.
    pub fn diff(&self, new: &Config, sections: &[(&str, &str)]) -> Vec<Change> {
        let mut changes = Vec::new();
        let old = self.config();
        let (before, now) = (old.get("config_version"), new.get("config_version"));
        if before.is_some() && now.is_some() && before != now {
            changes.push(Change { key: "config_version".into(), plugin: None, old: before, new: now, class: ReloadClass::Fixed });
        }
        for (name, schema) in sections {
            let schema = serde_json::from_str(schema).unwrap_or_default();
            let sides = (old.get(name).unwrap_or_else(|| json!({})), new.get(name).unwrap_or_else(|| json!({})));
            let walk = Walk { schema: &schema, written: (&sides.0, &sides.1), plugin: None, changes: &mut changes };
            walk.all(name, ReloadClass::Restart, (&sides.0, &sides.1));
        }
        let schema = serde_json::from_str(PluginDefaults::CONFIG_SCHEMA).unwrap_or_default();
        let sides = (scalars(&old, &schema), scalars(new, &schema));
        let walk = Walk { schema: &schema, written: (&sides.0, &sides.1), plugin: None, changes: &mut changes };
        // The host reads them when it needs them.
        walk.all("plugins", ReloadClass::Live, (&sides.0, &sides.1));
        for plugin in self.plugins().iter() {
            changes.extend(self.diff_of(plugin, &old, new));
        }
        for change in &mut changes {
            for value in [&mut change.old, &mut change.new].into_iter().flatten() {
                self.redactor().redact_value(value);
            }
        }
        changes
    }

    fn diff_of(&self, plugin: &PluginCell, old: &Config, new: &Config) -> Vec<Change> {
        let (id, mut changes) = (plugin.id(), Vec::new());
        let table = format!("plugins.{id}");
        let enabled = (plugin.is_enabled(), new.is_enabled(id));
        if enabled.0 != enabled.1 {
            changes.push(Change {
                key: format!("{table}.enabled"),
                plugin: Some(id.to_owned()),
                old: Some(enabled.0.into()),
                new: Some(enabled.1.into()),
                class: ReloadClass::Live,
            });
        }
        let read = |config: &Config| {
            let written = config.get(&table).unwrap_or_else(|| json!({}));
            let filled = config.plugin(id).unwrap_or_else(|_| without_enabled(&written));
            Applied { written, filled }
        };
        let (before, now) = (plugin.applied().unwrap_or_else(|| read(old)), read(new));
        changes.extend(OF_HOST.iter().filter_map(|(key, class)| {
            let (old, new) = (before.written.get(key).cloned(), now.written.get(key).cloned());
            // Part of the program, it has no wall to be changed.
            let counts = old != new && (*class == ReloadClass::Live || plugin.candidate.tier != Tier::Compiled);
            counts.then(|| Change { key: format!("{table}.{key}"), plugin: Some(id.to_owned()), old, new, class: *class })
        }));
        let walk = Walk { schema: &plugin.schema, written: (&before.written, &now.written), plugin: Some(id), changes: &mut changes };
        walk.all(&table, ReloadClass::Restart, (&before.filled, &now.filled));
        changes
    }

    /// Takes over a configuration. Plugins whose keys are all `live` are told; one of which a key asks for a restart is replaced
    /// by a new instance, without a call being lost; one of which a key is fixed stays as it is. Whatever a plugin refuses, or
    /// breaks at, leaves it as it was and is reported. Reloads wait for each other; a shutdown does not wait for a reload.
    ///
    /// [`config`](Self::config) is the new configuration from the beginning of this. Sections are the caller's to apply.
    ///
    /// Dropping the future stops the waiting, not the reload.
    pub async fn reload(&self, new: Config) -> ReloadReport {
        let (host, new) = (self.clone(), Arc::new(new));
        let config = new.clone();
        let reload = self.inner().services.runtime.spawn(async move { host.reload_to(new).await });
        reload.await.unwrap_or_else(|error| {
            let fix = "restart the program".to_owned();
            let problem = config.problem("plugins", format!("the reload broke: {error}"), Some(fix));
            ReloadReport { problems: vec![problem], ..ReloadReport::default() }
        })
    }

    async fn reload_to(&self, new: Arc<Config>) -> ReloadReport {
        let inner = self.inner();
        let _alone = inner.reloading.lock().await;
        let mut report = ReloadReport { changes: self.diff(&new, &[]), ..ReloadReport::default() };
        inner.redactor.learn_from(&redactor(&new, &self.plugins()));
        match new.plugin_defaults() {
            Ok(defaults) => {
                inner.limits.set(&defaults);
                self.plugins().iter().for_each(|plugin| plugin.set_call_limit(defaults.call_timeout_ms));
            }
            Err(error) => report.problems.extend(error.problems),
        }
        for id in new.plugin_ids() {
            // One with a folder of its own was taken out by hand, and is added by hand again.
            let elsewhere = || matches!(new.plugin_path(&id), Ok(Some(_)));
            if !self.plugins().iter().any(|p| p.id() == id) && !elsewhere() {
                let fix = format!("build with the feature `{id}`, or remove the table");
                report.problems.push(new.problem(&format!("plugins.{id}"), "no plugin of this id is in this program", Some(fix)));
            }
        }
        inner.services.set_config(new.clone());
        self.plugins().iter().for_each(|plugin| inner.settle_terms(plugin));

        let stopped = self.disable(&new).await;
        let known = self.plugins();
        let settled = known.iter().map(|plugin| {
            // What the host does itself. Keys of the same name further down are the plugin's.
            let done = |key: &str| {
                let key = key.strip_prefix("plugins.").and_then(|key| key.strip_prefix(plugin.id())).and_then(|key| key.strip_prefix('.'));
                key.is_some_and(|key| OF_HOST.contains(&(key, ReloadClass::Live)) || key == "enabled")
            };
            let of_plugin = report.changes.iter().filter(|c| c.plugin.as_deref() == Some(plugin.id()) && !done(&c.key));
            let changes: Vec<Change> = of_plugin.cloned().collect();
            let (new, stopped) = (new.clone(), stopped.iter().any(|done| done.plugin == plugin.id()));
            async move { if stopped { None } else { inner.reload_one(plugin, &new, &changes).await } }
        });
        let (mut done, mut again) = (stopped.clone(), Vec::new());
        for settled in futures_util::future::join_all(settled).await.into_iter().flatten() {
            match settled {
                Settled::Told(told) => done.push(told),
                Settled::Failed(plugin) => again.push(plugin),
            }
        }
        done.extend(self.enable(&new, again).await);
        report.plugins = done;
        report.plugins.sort_by(|a, b| a.plugin.cmp(&b.plugin));
        for done in &report.plugins {
            let payload = json!({ "plugin": done.plugin, "outcome": done.outcome, "reason": done.reason });
            inner.services.events.emit("plugin.reloaded", None, payload);
        }
        report
    }

    /// Puts a new instance of a running plugin in its place, with the configuration that it has. Dropping the future stops the
    /// waiting, not the restart.
    ///
    /// # Errors
    /// `PLUGIN_NOT_FOUND`; `NOT_READY` when it does not run; `HOTSWAP_FAILED` when the old instance goes on serving;
    /// `HOTSWAP_ROLLBACK_FAILED` when none serves any more.
    pub async fn restart(&self, id: &str) -> Result<()> {
        let (host, id) = (self.clone(), id.to_owned());
        let restart = self.inner().services.runtime.spawn(async move { host.restart_now(&id).await });
        restart.await.unwrap_or_else(|error| Err(Error::internal(format!("the restart broke: {error}"))))
    }

    pub(crate) async fn restart_now(&self, id: &str) -> Result<()> {
        let inner = self.inner();
        let plugin = self.known(id)?;
        let _turn = plugin.turn.lock().await;
        match plugin.state() {
            State::Ready => return inner.replace(&plugin, &self.config()).await,
            State::Failed | State::Quarantined | State::Stopped | State::Unloaded => {}
            State::Blocked => {
                inner.settle_terms(&plugin);
                if plugin.state() == State::Blocked {
                    return Err(plugin.not_ready());
                }
            }
            _ => return Err(plugin.not_ready()),
        }
        // One that does not run is started, whatever became of it before.
        if let Some(error) = plugin.unfit() {
            return Err(error.clone());
        }
        let left = plugin.watch.get_up();
        plugin.renew();
        plugin.change(State::Unloaded, State::Starting);
        inner.start_in_place(&plugin, left).await.map_err(|error| {
            inner.came_down(&plugin, &error);
            inner.clean(&error)
        })
    }

    /// Stops what the configuration switches off, and before it what cannot do without.
    async fn disable(&self, new: &Config) -> Vec<PluginReload> {
        let inner = self.inner();
        let off: Vec<_> =
            self.plugins().iter().filter(|p| p.is_enabled() && p.has_its_names() && !new.is_enabled(p.id())).cloned().collect();
        if off.is_empty() {
            return Vec::new();
        }
        for plugin in self.plugins().iter() {
            plugin.started().await;
        }
        let ids: BTreeSet<String> = off.iter().map(|p| p.id().to_owned()).collect();
        let mut stopping = ids.clone();
        loop {
            let known = self.plugins();
            let running = known.iter().filter(|p| p.state() == State::Ready && !stopping.contains(p.id()));
            let more: Vec<String> = running.filter(|p| self.stopped_need(p, &stopping).is_some()).map(|p| p.id().to_owned()).collect();
            if more.is_empty() {
                break;
            }
            stopping.extend(more);
        }
        let running = self.plugins().iter().filter(|p| stopping.contains(p.id()) && p.state() == State::Ready).cloned().collect();
        inner.stop_in_order(running).await;
        let mut done = Vec::new();
        for plugin in self.plugins().iter().filter(|p| stopping.contains(p.id()) && p.has_its_names()) {
            plugin.apply(None);
            if ids.contains(plugin.id()) {
                let fix = format!("bespoke config set plugins.{}.enabled true", plugin.id());
                if plugin.watch.is_resting() {
                    plugin.watch.rest(false);
                    drop_caught(inner.services.registry.remove(plugin.id()));
                }
                plugin.set(State::Disabled, "switched off in the configuration", Some(fix));
                done.push(told(plugin, ReloadOutcome::Stopped, None));
            } else {
                let required = plugin.manifest.iter().flat_map(|m| &m.requires);
                let need =
                    required.filter(|r| !r.optional).map(|r| r.plugin.as_str()).find(|id| stopping.contains(*id)).unwrap_or_default();
                let error = Error::new(Code::DEPENDENCY_MISSING, format!("needs `{need}`, which was stopped"));
                plugin.fail(error.clone().with_help(format!("bespoke config set plugins.{need}.enabled true")));
                done.push(told(plugin, ReloadOutcome::Stopped, Some(&error)));
            }
        }
        inner.services.hooks.update(&inner.services.registry);
        done
    }

    /// One of those that a plugin cannot do without.
    fn stopped_need(&self, plugin: &PluginCell, stopping: &BTreeSet<String>) -> Option<String> {
        let required = plugin.manifest.iter().flat_map(|m| &m.requires).filter(|r| !r.optional);
        required.map(|r| r.plugin.clone()).find(|id| stopping.contains(id))
    }

    /// Starts what the configuration switches on, `again` what had failed and has other values now, and after them what waited for
    /// them. What could not run with any values, or for want of another, says so instead.
    async fn enable(&self, new: &Config, again: Vec<Arc<PluginCell>>) -> Vec<PluginReload> {
        let known = self.plugins();
        let switched = known.iter().filter(|p| !p.is_enabled() && new.is_enabled(p.id())).cloned();
        let on: Vec<_> = switched.chain(again).collect();
        if on.is_empty() {
            return Vec::new();
        }
        for plugin in &on {
            match plugin.unfit() {
                Some(error) => plugin.fail(error.clone()),
                None => plugin.renew(),
            }
        }
        refuse_unmet(&self.plugins());
        refuse_cycles(&self.plugins());
        let mut ids: Vec<String> = on.iter().map(|p| p.id().to_owned()).collect();
        self.start(Selection::Ids(&ids)).await;
        // Those that need them, and those that need these, and so on; at most as often as there are plugins.
        for _ in self.plugins().iter() {
            let waiting = known.iter().filter(|p| p.lacks_need() && self.inner().needs_met(p) && !ids.contains(&p.id().to_owned()));
            let waiting: Vec<String> = waiting.map(|p| p.id().to_owned()).collect();
            if waiting.is_empty() {
                break;
            }
            self.start(Selection::Ids(&waiting)).await;
            ids.extend(waiting);
        }
        let mut done = Vec::new();
        for plugin in self.plugins().iter().filter(|p| ids.iter().any(|id| id == p.id())) {
            // Another may have started it between our looks.
            plugin.started().await;
            done.push(outcome_of_start(plugin));
        }
        done
    }
}

impl Inner {
    async fn reload_one(self: &Arc<Self>, plugin: &Arc<PluginCell>, new: &Arc<Config>, changes: &[Change]) -> Option<Settled> {
        let worst = changes.iter().map(|c| c.class).max()?;
        if !plugin.is_enabled() || !plugin.has_its_names() || !new.is_enabled(plugin.id()) {
            return None;
        }
        plugin.started().await;
        if self.closing.is_cancelled() {
            let error = Error::new(Code::NOT_READY, "the host is being shut down");
            return Some(Settled::Told(told(plugin, ReloadOutcome::Kept, Some(&error))));
        }
        if plugin.state() == State::Failed {
            return Some(Settled::Failed(plugin.clone()));
        }
        let _turn = plugin.turn.lock().await;
        if plugin.state() != State::Ready {
            return None;
        }
        Some(Settled::Told(self.reload_running(plugin, new, changes, worst).await))
    }

    /// Takes the new values to a plugin that serves. The caller has the plugin's turn.
    async fn reload_running(
        self: &Arc<Self>,
        plugin: &Arc<PluginCell>,
        new: &Arc<Config>,
        changes: &[Change],
        worst: ReloadClass,
    ) -> PluginReload {
        if let Some(fixed) = changes.iter().find(|c| c.class == ReloadClass::Fixed) {
            let message = format!("{} cannot change while the program runs; the old values stay", fixed.key);
            let error = Error::invalid_params(message).with_help("restart the program");
            return told(plugin, ReloadOutcome::Rejected, Some(&error));
        }
        let applied = match self.config_of(new, plugin) {
            Ok(applied) => applied,
            Err(fault) => return told(plugin, ReloadOutcome::Kept, Some(&self.clean(&fault.into()))),
        };
        if worst == ReloadClass::Live {
            match self.reconfigure(plugin, &applied).await {
                Ok(Reload::Applied) => {
                    plugin.apply(Some(applied));
                    return told(plugin, ReloadOutcome::Applied, None);
                }
                Err(error) => return told(plugin, ReloadOutcome::Kept, Some(&self.clean(&error))),
                // Whatever else it says: a new instance is always right.
                Ok(_) => {}
            }
        }
        match self.replace(plugin, new).await {
            Ok(()) => told(plugin, ReloadOutcome::Swapped, None),
            Err(error) if plugin.state() == State::Ready => told(plugin, ReloadOutcome::Kept, Some(&error)),
            Err(error) => told(plugin, ReloadOutcome::Failed, Some(&error)),
        }
    }

    /// Tells a running plugin its new values, in bounded time even if it blocks. Unless it takes them, it may ask whom it might
    /// ask before.
    async fn reconfigure(&self, plugin: &Arc<PluginCell>, applied: &Applied) -> Result<Reload> {
        let Some(generation) = plugin.generation.load_full() else { return Ok(Reload::Restart) };
        let Some(life) = generation.life() else { return Ok(Reload::Restart) };
        // From the moment at which it learns them: it may try a new server before it says yes.
        let before = generation.footing.http.load_full();
        plugin.permit(&generation.footing, applied);
        let told = self.tell(plugin, life, applied).await;
        if !matches!(told, Ok(Reload::Applied)) {
            generation.footing.http.store(before);
        }
        told
    }

    async fn tell(&self, plugin: &PluginCell, life: Arc<dyn Life>, applied: &Applied) -> Result<Reload> {
        let (runtime, config) = (self.services.runtime.clone(), applied.filled.clone());
        let tell = move |_: &Waiting| runtime.block_on(life.reconfigure(config));
        let limit = self.limits.start();
        let told = self.threads.run(plugin.id(), format!("start-{}", plugin.id()), "reconfigure", limit, tell, |_| {});
        match told.await? {
            Some(answer) => Ok(answer),
            None => {
                let message = format!("did not take its new configuration within {}; its thread was left behind", shown(limit));
                Err(Error::new(Code::EXECUTION_TIMEOUT, message))
            }
        }
    }

    /// Puts a new generation of a plugin that serves in the place of the one that serves. The caller has the plugin's turn.
    ///
    /// # Errors
    /// `HOTSWAP_FAILED` when the old one, or one with the old configuration, serves; `HOTSWAP_ROLLBACK_FAILED` when none does.
    pub(crate) async fn replace(self: &Arc<Self>, plugin: &Arc<PluginCell>, config: &Arc<Config>) -> Result<()> {
        let Some(old) = plugin.generation.load_full() else { return Err(plugin.not_ready()) };
        let begun = Instant::now();
        let result = match plugin.manifest.as_ref().map(|m| m.swap) {
            Some(Swap::Exclusive) => self.swap_exclusive(plugin, config, old).await,
            _ => self.swap_overlap(plugin, config, old).await,
        };
        match &result {
            Ok(()) => self.swapped(plugin, begun.elapsed()),
            Err(error) => tracing::warn!(plugin = plugin.id(), %error, "was not replaced"),
        }
        result
    }

    fn swapped(&self, plugin: &PluginCell, took: Duration) {
        // What the one before said of itself and what its hooks did is not the new one's.
        plugin.report(Health::Unknown);
        self.services.hooks.forgive(plugin.id());
        plugin.ready(took);
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.services.events.emit("plugin.swapped", None, json!({ "plugin": plugin.id(), "ms": ms }));
    }

    async fn swap_overlap(self: &Arc<Self>, plugin: &Arc<PluginCell>, config: &Arc<Config>, old: Arc<Generation>) -> Result<()> {
        let launched = self.launch_unless_closing(plugin, config, Launch::default()).await.map_err(|e| self.old_serves(&e))?;
        match self.install(plugin, &launched) {
            Ok(before) => {
                self.retire(old, before);
                Ok(())
            }
            Err(error) => {
                self.end(launched.generation).await;
                Err(self.old_serves(&error))
            }
        }
    }

    async fn swap_exclusive(self: &Arc<Self>, plugin: &Arc<PluginCell>, config: &Arc<Config>, old: Arc<Generation>) -> Result<()> {
        let before = plugin.applied();
        // New calls wait from here on, as those of a plugin that starts.
        plugin.set_replacing(true);
        let _shown = Replacing(plugin);
        plugin.change(State::Ready, State::Starting);
        let withdrawn = self.take_out(plugin, &old);
        if !old.drain(self.limits.stop()).await {
            tracing::warn!(plugin = plugin.id(), left = old.in_flight(), "calls are still running; it is replaced all the same");
        }
        let state = match self.capture(&old).await {
            Ok(state) => state,
            Err(error) => {
                old.resume();
                old.footing.serves(&old);
                withdrawn.put_back();
                plugin.change(State::Starting, State::Ready);
                return Err(self.old_serves(&error));
            }
        };
        plugin.generation.store(None);
        if let Err(error) = self.shut(old, withdrawn).await {
            tracing::warn!(plugin = plugin.id(), %error, "the generation before did not end well");
        }
        let how = Launch { state: state.clone(), ..Launch::default() };
        let failure = match self.bring_up(plugin, config, how).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if self.closing.is_cancelled() {
            plugin.set(State::Stopped, "the host was shut down while it was replaced", None);
            return Err(failure);
        }
        match self.bring_up(plugin, config, Launch { state, applied: before, ..Launch::default() }).await {
            Ok(()) => {
                plugin.change(State::Starting, State::Ready);
                Err(self.goes_on("it was started again as it was", &failure))
            }
            Err(second) => {
                let message = format!("could not be replaced ({}), and did not come back: {}", failure.message(), second.message());
                let error = self.clean(&Error::new(Code::HOTSWAP_ROLLBACK_FAILED, message));
                let error = error.with_help(format!("bespoke plugin info {}", plugin.id()));
                plugin.apply(None);
                self.came_down(plugin, &error);
                Err(error)
            }
        }
    }

    pub(crate) async fn bring_up(self: &Arc<Self>, plugin: &Arc<PluginCell>, config: &Arc<Config>, how: Launch) -> Result<()> {
        let launched = self.launch_unless_closing(plugin, config, how).await?;
        match self.install(plugin, &launched) {
            Ok(before) => {
                drop_caught(before);
                Ok(())
            }
            Err(error) => {
                self.end(launched.generation).await;
                Err(error)
            }
        }
    }

    async fn launch_unless_closing(
        self: &Arc<Self>,
        plugin: &Arc<PluginCell>,
        config: &Arc<Config>,
        how: Launch,
    ) -> Result<crate::lifecycle::Launched> {
        tokio::select! {
            biased;
            () = self.closing.cancelled() => Err(Error::new(Code::NOT_READY, "the host is being shut down")),
            launched = self.launch(plugin, config, how) => launched,
        }
    }

    /// Ends a generation that never served.
    async fn end(&self, generation: Arc<Generation>) {
        let id = generation.plugin().to_owned();
        if let Err(error) = self.shut(generation, Default::default()).await {
            tracing::warn!(plugin = id, %error, "an instance that was not used did not end well");
        }
    }

    fn old_serves(&self, error: &Error) -> Error {
        self.goes_on("the old instance goes on", error)
    }

    fn goes_on(&self, how: &str, error: &Error) -> Error {
        let error = self.clean(error);
        let told = Error::new(Code::HOTSWAP_FAILED, format!("{how}: {}", error.message()));
        error.help().map_or(told.clone(), |help| told.with_help(help))
    }
}

/// What is known of one plugin before those are started that do not run.
enum Settled {
    Told(PluginReload),
    /// It has other values than those that it failed with.
    Failed(Arc<PluginCell>),
}

/// Calls of a plugin wait for its next generation, as long as this lives.
pub(crate) struct Replacing<'p>(pub(crate) &'p PluginCell);

impl Drop for Replacing<'_> {
    fn drop(&mut self) {
        self.0.set_replacing(false);
    }
}

fn told(plugin: &PluginCell, outcome: ReloadOutcome, error: Option<&Error>) -> PluginReload {
    PluginReload {
        plugin: plugin.id().to_owned(),
        outcome,
        reason: error.map(|e| e.message().to_owned()),
        fix: error.and_then(|e| e.help().map(str::to_owned)),
    }
}

fn outcome_of_start(plugin: &PluginCell) -> PluginReload {
    let status = plugin.status();
    let outcome = if status.state == State::Ready { ReloadOutcome::Started } else { ReloadOutcome::Failed };
    PluginReload { plugin: plugin.id().to_owned(), outcome, reason: status.reason, fix: status.fix }
}

/// The scalars of `[plugins]`, as they are written.
fn scalars(config: &Config, schema: &Value) -> Value {
    let keys = schema["properties"].as_object().into_iter().flat_map(Map::keys);
    let written = keys.filter_map(|key| Some((key.clone(), config.get(&format!("plugins.{key}"))?)));
    Value::Object(written.collect())
}

fn without_enabled(table: &Value) -> Value {
    let mut table = table.clone();
    if let Some(table) = table.as_object_mut() {
        table.shift_remove("enabled");
    }
    table
}

/// A walk over two values of one table and its schema, side by side.
struct Walk<'w> {
    schema: &'w Value,
    /// The same two as they were written, for showing.
    written: (&'w Value, &'w Value),
    plugin: Option<&'w str>,
    changes: &'w mut Vec<Change>,
}

impl Walk<'_> {
    fn all(mut self, table: &str, class: ReloadClass, (old, new): (&Value, &Value)) {
        let schema = self.schema;
        self.fields(table, &mut Vec::new(), schema, class, (old, new));
    }

    fn fields(&mut self, table: &str, path: &mut Vec<String>, schema: &Value, class: ReloadClass, (old, new): (&Value, &Value)) {
        let keys = |value: &Value| value.as_object().into_iter().flat_map(Map::keys).cloned().collect::<BTreeSet<_>>();
        for key in keys(old).union(&keys(new)) {
            let of_key = property(self.schema, schema, key);
            let class = of_key.and_then(reload_class).unwrap_or(class);
            let (old, new) = (old.get(key), new.get(key));
            path.push(key.clone());
            match (old, new) {
                (Some(old @ Value::Object(_)), Some(new @ Value::Object(_))) => {
                    self.fields(table, path, of_key.unwrap_or(&Value::Null), class, (old, new));
                }
                _ => {
                    // A key that is absent has its default.
                    let default = of_key.and_then(|schema| schema.get("default"));
                    if old.or(default) != new.or(default) {
                        let shown = |side: &Value, is: bool| is.then(|| at(side, path).cloned()).flatten();
                        self.changes.push(Change {
                            key: format!("{table}.{}", path.join(".")),
                            plugin: self.plugin.map(str::to_owned),
                            old: shown(self.written.0, old.is_some()),
                            new: shown(self.written.1, new.is_some()),
                            class,
                        });
                    }
                }
            }
            path.pop();
        }
    }
}

fn at<'v>(value: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, key| value.get(key))
}

fn reload_class(schema: &Value) -> Option<ReloadClass> {
    match schema.get("x-reload")?.as_str()? {
        "live" => Some(ReloadClass::Live),
        "fixed" => Some(ReloadClass::Fixed),
        // What is not known is taken for what always works.
        _ => Some(ReloadClass::Restart),
    }
}

/// The schema of a key below another schema: through references, and through the forms of a value that may also be absent.
fn property<'s>(root: &'s Value, schema: &'s Value, key: &str) -> Option<&'s Value> {
    let schema = match schema.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix('#')) {
        Some(pointer) => root.pointer(pointer)?,
        None => schema,
    };
    let forms = ["anyOf", "oneOf", "allOf"].into_iter().filter_map(|word| schema.get(word)?.as_array()).flatten();
    let direct = schema.get("properties").and_then(|p| p.get(key));
    // One step into each form is as deep as generated schemas go, and cannot turn in a circle.
    let in_forms = || {
        forms.filter_map(|form| {
            let form = form.get("$ref").and_then(Value::as_str).and_then(|r| root.pointer(r.strip_prefix('#')?)).unwrap_or(form);
            form.get("properties").and_then(|p| p.get(key))
        })
    };
    direct.or_else(|| in_forms().next()).or_else(|| schema.get("additionalProperties").filter(|s| s.is_object()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_of_a_key_is_its_own_or_that_of_what_it_stands_in() {
        let schema = json!({
            "properties": {
                "live": { "x-reload": "live", "default": 1 },
                "plain": {},
                "fixed": { "x-reload": "fixed" },
                "odd": { "x-reload": "sometimes" },
                "inner": { "$ref": "#/$defs/Inner", "x-reload": "live" },
                "maybe": { "anyOf": [{ "$ref": "#/$defs/Inner" }, { "type": "null" }] },
                "map": { "additionalProperties": { "x-reload": "fixed" } },
            },
            "$defs": { "Inner": { "properties": { "a": {}, "b": { "x-reload": "fixed" } } } },
        });
        let old = json!({ "plain": 1, "fixed": 1, "odd": 1, "inner": { "a": 1, "b": 1 }, "maybe": { "a": 1, "b": 1 }, "map": { "x": 1 } });
        let new = json!({ "live": 1, "plain": 2, "fixed": 2, "odd": 2, "inner": { "a": 2, "b": 2 }, "maybe": { "a": 2, "b": 2 },
            "map": { "x": 2 }, "unknown": 1 });
        let mut changes = Vec::new();
        Walk { schema: &schema, written: (&old, &new), plugin: None, changes: &mut changes }.all("t", ReloadClass::Restart, (&old, &new));
        let said: Vec<_> = changes.iter().map(|c| format!("{} {:?}", c.key, c.class)).collect();
        assert_eq!(
            said,
            [
                "t.fixed Fixed",
                "t.inner.a Live",
                "t.inner.b Fixed",
                "t.map.x Fixed",
                "t.maybe.a Restart",
                "t.maybe.b Fixed",
                "t.odd Restart",
                "t.plain Restart",
                "t.unknown Restart",
            ]
        );
    }
}
