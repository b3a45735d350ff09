//! A new configuration while everything runs: what changed, and what becomes of it. Each plugin stands alone: a value that one
//! refuses keeps that one as it was, and the others go on.

use std::{collections::BTreeSet, sync::Arc};

use bespoke_plugin_api::{Code, Error, Life, Reload, Result};
use serde::Serialize;
use serde_json::json;

use crate::{
    Change, Config, Host, Problem, ReloadClass, Selection,
    candidate::{State, Tier},
    difference::OF_HOST,
    events::topics,
    host::redactor,
    lifecycle::Inner,
    needs::{refuse_cycles, refuse_unmet},
    plugin::{Applied, PluginCell},
    renew::fail_for_want,
    slot::{drop_caught, shown},
    thread::Waiting,
};

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
        let before = inner.services.config();
        let mut gone = Vec::new();
        for plugin in self.plugins().iter() {
            // It was there for its path alone; where it is found without one, whoever looks into folders finds it again.
            let had = |config: &Config| matches!(config.plugin_path(plugin.id()), Ok(Some(_)));
            if had(&before) && matches!(new.plugin_path(plugin.id()), Ok(None)) {
                gone.push(match self.unload_alone(plugin.id()).await {
                    Ok(()) => told(plugin, ReloadOutcome::Stopped, None),
                    Err(error) if error.code() == Code::SHUTDOWN_FAILED => told(plugin, ReloadOutcome::Stopped, Some(&error)),
                    Err(error) => told(plugin, ReloadOutcome::Rejected, Some(&error)),
                });
            }
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
        if let Err(error) = new.hooks() {
            report.problems.extend(error.problems);
        }
        inner.tell_hooks();
        self.plugins().iter().for_each(|plugin| inner.settle_terms(plugin));

        let stopped = [self.disable(&new).await, self.distrust(&new).await].concat();
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
        let (mut done, mut again) = ([gone, stopped.clone()].concat(), Vec::new());
        for settled in futures_util::future::join_all(settled).await.into_iter().flatten() {
            match settled {
                Settled::Told(told) => done.push(told),
                Settled::Failed(plugin) => again.push(plugin),
            }
        }
        done.extend(self.enable(&new, again).await);
        inner.services.offers_changed();
        report.plugins = done;
        report.plugins.sort_by(|a, b| a.plugin.cmp(&b.plugin));
        for done in &report.plugins {
            // What started, stopped, failed or has a new instance has been told by then.
            match done.outcome {
                ReloadOutcome::Applied => {
                    let payload = json!({ "plugin": done.plugin, "change": "configured" });
                    inner.services.events.emit(topics::PLUGIN_UPDATED, None, payload);
                }
                ReloadOutcome::Rejected | ReloadOutcome::Kept => {
                    let payload = json!({ "plugin": done.plugin, "what": "configuration_refused", "reason": done.reason });
                    inner.services.events.emit(topics::PLUGIN_ERROR, None, payload);
                }
                _ => {}
            }
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
        let ids: BTreeSet<String> = off.iter().map(|p| p.id().to_owned()).collect();
        let stopping = self.take_down(&ids).await;
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
                let error = fail_for_want(plugin, &stopping, |need| format!("bespoke config set plugins.{need}.enabled true"));
                done.push(told(plugin, ReloadOutcome::Stopped, Some(&error)));
            }
        }
        inner.services.offers_changed();
        done
    }

    /// Stops libraries that the configuration does not trust any more, and what cannot do without.
    async fn distrust(&self, new: &Config) -> Vec<PluginReload> {
        let mut done = Vec::new();
        for plugin in self.plugins().iter().filter(|p| p.candidate.tier == Tier::Dylib && new.is_enabled(p.id())) {
            plugin.started().await;
            let Some(manifest) = plugin.manifest.as_deref().filter(|_| plugin.state() == State::Ready) else { continue };
            if let Ok(Some(blocked)) = new.distrusts(manifest) {
                let others = self.hold_back(plugin, &blocked).await;
                done.push(told(plugin, ReloadOutcome::Stopped, Some(&blocked.error(plugin.id()))));
                done.extend(others.iter().map(|other| told(other, ReloadOutcome::Stopped, Some(&other.why()))));
            }
        }
        done
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
        ids.extend(self.start_waiting(&ids).await);
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
        let done = self.reload_running(plugin, new, changes, worst).await;
        if plugin.state() == State::Ready {
            let is_refused = matches!(done.outcome, ReloadOutcome::Kept | ReloadOutcome::Rejected);
            plugin.refuses(is_refused.then(|| (done.reason.clone().unwrap_or_default(), done.fix.clone())));
        }
        Some(Settled::Told(done))
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
            let moved = fixed.key == format!("plugins.{}.path", plugin.id());
            let fix = if moved { format!("bespoke plugin reload {}", plugin.id()) } else { "restart the program".to_owned() };
            let error = Error::invalid_params(message).with_help(fix);
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
}

/// What is known of one plugin before those are started that do not run.
enum Settled {
    Told(PluginReload),
    /// It has other values than those that it failed with.
    Failed(Arc<PluginCell>),
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
