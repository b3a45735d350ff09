//! One plugin that is another than it was while everything runs: its folder has another manifest, or its user has granted it more or
//! less. What a new configuration changes is `reload`.

use std::{collections::BTreeSet, sync::Arc};

use bespoke_plugin_api::{Code, Error, Result};

use crate::{
    Blocked, Candidate, Host, NoTerms, Selection, candidate::State, grants, manage::refuse_closing, plugin::PluginCell, slot::drop_caught,
};

impl Host {
    /// Lets a plugin of a folder give way to what the folder holds now, where manifest, schema, tier or folder are others than those that
    /// are known; code alone is no reason, that is what [`restart`](Self::restart) is for. The new one is tried out beside the old one:
    /// started, or only asked what it contributes where it says `swap = "exclusive"` or starts with its first call. Then the old one is
    /// stopped, drained, and the new one starts; where it does not, the old one comes back. Whether there was something to do; one that
    /// nobody knew is loaded.
    ///
    /// Dropping the future stops the waiting, not the work.
    ///
    /// # Errors
    /// Before anything is stopped: what is wrong with the manifest; `PERMISSION_DENIED` when it asks for more than its user granted;
    /// `DEPENDENCY_MISSING` when others that run need it. `HOTSWAP_FAILED` when the old one goes on; `HOTSWAP_ROLLBACK_FAILED` when none
    /// does.
    pub async fn renew(&self, candidate: Candidate) -> Result<bool> {
        let host = self.clone();
        self.apart(async move { host.renew_now(candidate).await }).await
    }

    async fn renew_now(&self, candidate: Candidate) -> Result<bool> {
        let inner = self.inner();
        let _alone = inner.reloading.lock().await;
        refuse_closing(inner)?;
        let id = candidate.id.clone();
        let Ok(plugin) = self.known(&id) else { return self.load_alone(candidate, None).await.map(|()| true) };
        if !plugin.is_enabled() {
            return Err(plugin.not_ready());
        }
        let before = plugin.candidate.clone();
        if is_same(&before, &candidate) {
            return Ok(false);
        }
        let manifest = candidate.manifest.clone().map_err(|error| error.with_plugin(&id))?;
        if let Some((_, error)) = candidate.artifact.refusal() {
            return Err(error.with_plugin(&id));
        }
        if let Err(none) = self.config().terms(&manifest, candidate.tier, &inner.grants) {
            return Err(none.error(&id).with_plugin(&id));
        }
        let goes_on = |failure: &Error| inner.goes_on("the one before goes on", failure).with_plugin(&id);
        let served = plugin.is_up();
        if served {
            plugin.started().await;
            self.refuse_needed(&id)?;
            // Nothing is stopped for what does not start.
            let tried = async { inner.try_out(&self.cell_of(candidate.clone())?).await };
            tried.await.map_err(|failure| goes_on(&failure))?;
        }
        match self.unload_alone(&id).await {
            Ok(()) => {}
            // It is out all the same.
            Err(error) if error.code() == Code::SHUTDOWN_FAILED => tracing::warn!(plugin = id, %error, "did not end well"),
            Err(error) => return Err(error),
        }
        let Err(failure) = self.load_alone(candidate, None).await else { return Ok(true) };
        match self.load_alone(before, None).await {
            Ok(()) => Err(goes_on(&failure)),
            // It did not serve before either.
            Err(_) if !served => Err(inner.clean(&failure).with_plugin(&id)),
            Err(second) => {
                let (failure, second) = (inner.clean(&failure), inner.clean(&second));
                let message = format!("the new one does not start ({}), and the one before did not come back: {second}", failure.message());
                let error = Error::new(Code::HOTSWAP_ROLLBACK_FAILED, message).with_plugin(&id);
                Err(failure.help().map_or(error.clone(), |help| error.with_help(help)))
            }
        }
    }

    /// Takes over what the user has granted a plugin, or taken back, since it was looked at. One that runs and may not any more is stopped
    /// at once, as are those that cannot do without it; one that may is replaced by an instance that may just that; one that waited for it
    /// is started.
    ///
    /// Dropping the future stops the waiting, not the work.
    ///
    /// # Errors
    /// `PLUGIN_NOT_FOUND`; why it does not start, or is not replaced.
    pub async fn settle_consent(&self, id: &str) -> Result<()> {
        let (host, id) = (self.clone(), id.to_owned());
        self.apart(async move { host.settle_consent_now(&id).await }).await
    }

    async fn settle_consent_now(&self, id: &str) -> Result<()> {
        let inner = self.inner();
        let _alone = inner.reloading.lock().await;
        refuse_closing(inner)?;
        let plugin = self.known(id)?;
        let Some(manifest) = plugin.manifest.clone() else { return Ok(()) };
        plugin.started().await;
        match self.config().terms(&manifest, plugin.candidate.tier, &inner.grants) {
            Err(NoTerms::Blocked(blocked)) => {
                if !matches!(plugin.state(), State::Disabled | State::Missing | State::Blocked) {
                    self.hold_back(&plugin, &blocked).await;
                }
                Ok(())
            }
            Err(NoTerms::Wrong(error)) => Err(Error::invalid_params(error.to_string()).with_help("bespoke config check").with_plugin(id)),
            Ok(_) => match plugin.state() {
                State::Ready | State::Blocked | State::Failed | State::Quarantined => {
                    self.restart_now(id).await?;
                    self.start_waiting(&[id.to_owned()]).await;
                    Ok(())
                }
                _ => Ok(()),
            },
        }
    }

    /// Stops one that may not run any more, and those that cannot do without it, which are returned.
    pub(crate) async fn hold_back(&self, plugin: &Arc<PluginCell>, blocked: &Blocked) -> Vec<Arc<PluginCell>> {
        let (inner, id) = (self.inner(), plugin.id());
        let stopped = self.take_down(&BTreeSet::from([id.to_owned()])).await;
        plugin.watch.rest(false);
        // Its guards stand, and say no.
        drop_caught(inner.services.registry.remove(id));
        plugin.apply(None);
        let error = blocked.error(id);
        plugin.set(State::Blocked, error.message(), error.help().map(str::to_owned));
        let others: Vec<_> = self.plugins().iter().filter(|p| p.id() != id && stopped.contains(p.id())).cloned().collect();
        for other in &others {
            other.apply(None);
            fail_for_want(other, &stopped, grants::command);
        }
        inner.services.offers_changed();
        others
    }

    /// Stops plugins, and before them those that cannot do without: the ids of all.
    pub(crate) async fn take_down(&self, ids: &BTreeSet<String>) -> BTreeSet<String> {
        for plugin in self.plugins().iter() {
            plugin.started().await;
        }
        let mut stopping = ids.clone();
        loop {
            let known = self.plugins();
            let running = known.iter().filter(|p| p.state() == State::Ready && !stopping.contains(p.id()));
            let more: Vec<String> = running.filter(|p| stopped_need(p, &stopping).is_some()).map(|p| p.id().to_owned()).collect();
            if more.is_empty() {
                break;
            }
            stopping.extend(more);
        }
        let running = self.plugins().iter().filter(|p| stopping.contains(p.id()) && p.state() == State::Ready).cloned().collect();
        self.inner().stop_in_order(running).await;
        stopping
    }

    /// Starts what waited for these, and what waited for that: their ids.
    pub(crate) async fn start_waiting(&self, ids: &[String]) -> Vec<String> {
        let mut started = Vec::new();
        // At most as often as there are plugins.
        for _ in self.plugins().iter() {
            let known = self.plugins();
            let waiting = known.iter().filter(|p| p.lacks_need() && self.inner().needs_met(p));
            let waiting: Vec<String> = waiting.map(|p| p.id().to_owned()).filter(|id| !ids.contains(id) && !started.contains(id)).collect();
            if waiting.is_empty() {
                break;
            }
            self.start(Selection::Ids(&waiting)).await;
            started.extend(waiting);
        }
        started
    }
}

/// Whether two looks at a folder have found the same plugin.
fn is_same(before: &Candidate, now: &Candidate) -> bool {
    let of = |candidate: &Candidate| candidate.manifest.as_ref().ok().cloned();
    (&before.origin, before.tier, &before.config_schema) == (&now.origin, now.tier, &now.config_schema)
        && of(before).is_some_and(|manifest| Some(manifest) == of(now))
        // What could not be opened then is looked at again.
        && before.artifact.refusal().is_none()
}

/// One of those that a plugin cannot do without.
fn stopped_need(plugin: &PluginCell, stopping: &BTreeSet<String>) -> Option<String> {
    let required = plugin.manifest.iter().flat_map(|m| &m.requires).filter(|r| !r.optional);
    required.map(|r| r.plugin.clone()).find(|id| stopping.contains(id))
}

/// A plugin failed because one of those was stopped that it cannot do without; `fix` is the command that brings that back.
pub(crate) fn fail_for_want(plugin: &PluginCell, stopping: &BTreeSet<String>, fix: impl Fn(&str) -> String) -> Error {
    let need = stopped_need(plugin, stopping).unwrap_or_default();
    let error = Error::new(Code::DEPENDENCY_MISSING, format!("needs `{need}`, which was stopped"));
    plugin.fail(error.clone().with_help(fix(&need)));
    error
}
