//! One plugin at a time, while everything runs: adding it, taking it out, other values for it, another in its place. What a whole
//! new configuration does is `reload`.

use std::{collections::BTreeMap, sync::Arc};

use bespoke_manifest::{HOST_KEYS, Swap};
use bespoke_plugin_api::{Code, Error, Result};
use serde_json::{Value, json};

use crate::{
    Candidate, Host, ReloadOutcome, Selection,
    candidate::State,
    events::topics,
    lifecycle::Inner,
    needs::{claim, refuse_cycles, refuse_unmet},
    plugin::PluginCell,
    replace::Replacing,
    slot::drop_caught,
};

impl Host {
    /// Adds a plugin and starts it. `config` stands for its table in the configuration, as if it had been written there. One of
    /// this id that never could run, such as one that is missing, gives way.
    ///
    /// Dropping the future stops the waiting, not the loading.
    ///
    /// # Errors
    /// `ALREADY_LOADED` when there is one of this id, or one of its names is taken; `INVALID_PARAMS` when the configuration does
    /// not fit; `PERMISSION_DENIED` when it lacks the user's consent; why it does not start. Then it is not there.
    pub async fn load(&self, candidate: Candidate, config: Option<Value>) -> Result<()> {
        let host = self.clone();
        self.apart(async move { host.load_now(candidate, config).await }).await
    }

    async fn load_now(&self, candidate: Candidate, config: Option<Value>) -> Result<()> {
        let _alone = self.inner().reloading.lock().await;
        self.load_alone(candidate, config).await
    }

    /// Makes a plugin known that was found while everything runs, as if it had been there from the beginning. It is not started.
    ///
    /// # Errors
    /// `ALREADY_LOADED` when there is one of this id, or one of its names is taken; what is wrong with its manifest. Then it is not there.
    pub async fn admit(&self, candidate: Candidate) -> Result<()> {
        let inner = self.inner();
        let _alone = inner.reloading.lock().await;
        refuse_closing(inner)?;
        if self.known(&candidate.id).is_ok() {
            return Err(Error::new(Code::ALREADY_LOADED, format!("the plugin `{}` is known already", candidate.id)));
        }
        self.add(candidate)
    }

    /// The caller has the turn of all that changes.
    pub(crate) async fn load_alone(&self, candidate: Candidate, config: Option<Value>) -> Result<()> {
        let inner = self.inner();
        refuse_closing(inner)?;
        let id = candidate.id.clone();
        if let Some(known) = self.inner().services.plugin(&id).filter(|known| known.unfit().is_none()) {
            let message = format!("the plugin `{id}` is loaded already: it is {}", known.state().name());
            return Err(Error::new(Code::ALREADY_LOADED, message).with_help(format!("bespoke plugin reload {id}")).with_plugin(&id));
        }
        let before = self.config();
        if let Some(config) = config {
            inner.services.set_config(Arc::new(before.with_plugin(&id, table(&id, config)?)));
        }
        let added = self.add(candidate);
        let started = match added {
            Ok(()) => {
                self.start(Selection::Ids(std::slice::from_ref(&id))).await;
                self.known(&id).and_then(|plugin| serves(&plugin))
            }
            Err(error) => Err(error),
        };
        if started.is_err() {
            self.remove(&id);
            inner.services.set_config(before);
        }
        started.map_err(|error| error.with_plugin(&id))
    }

    /// Gives a plugin its place, if nothing is against it that is known before it runs.
    fn add(&self, candidate: Candidate) -> Result<()> {
        let inner = self.inner();
        let cell = self.cell_of(candidate)?;
        let known = self.plugins();
        inner.settle_terms(&cell);
        let mut all: Vec<_> = known.iter().filter(|p| p.id() != cell.id()).cloned().chain([cell.clone()]).collect();
        all.sort_by(|a, b| a.id().cmp(b.id()));
        refuse_unmet(&all);
        refuse_cycles(&all);
        inner.redactor.learn_from(&crate::host::redactor(&self.config(), &all));
        inner.services.names.settle(&all);
        inner.services.plugins.store(Arc::new(all));
        inner.tell_hooks();
        Ok(())
    }

    /// A place for a plugin, which nobody knows yet, unless somebody else has one of its names.
    pub(crate) fn cell_of(&self, candidate: Candidate) -> Result<Arc<PluginCell>> {
        let inner = self.inner();
        let limit = self.config().plugin_defaults().map_or(crate::PluginDefaults::default().call_timeout_ms, |d| d.call_timeout_ms);
        let cell = Arc::new(PluginCell::new(candidate, limit, &inner.threads));
        cell.watch.belongs_to(Arc::downgrade(inner));
        let mut names = BTreeMap::new();
        for other in self.plugins().iter().filter(|p| p.id() != cell.id() && p.may_serve()) {
            // Those of two that want one name were told so when they were found.
            let _ = other.fit().and_then(|manifest| claim(&mut names, other.id(), manifest));
        }
        claim(&mut names, cell.id(), cell.fit()?).map_err(|error| cell.candidate.artifact.look().err().unwrap_or(error))?;
        Ok(cell)
    }

    /// Forgets a plugin that does not run.
    fn remove(&self, id: &str) {
        let inner = self.inner();
        drop_caught(inner.services.registry.forget(id));
        if let Some(plugin) = inner.services.plugin(id) {
            inner.grants.leave(id, &plugin.used);
            inner.usage.take(&plugin);
        }
        let left: Vec<_> = self.plugins().iter().filter(|p| p.id() != id).cloned().collect();
        inner.services.names.settle(&left);
        inner.services.plugins.store(Arc::new(left));
        inner.services.offers_changed();
    }

    /// Stops a plugin, drained, and takes it out: from now on nobody knows it.
    ///
    /// Dropping the future stops the waiting, not the unloading.
    ///
    /// # Errors
    /// `PLUGIN_NOT_FOUND`; `DEPENDENCY_MISSING` when others that run need it, naming them; `SHUTDOWN_FAILED` when it did not end
    /// well, and then it is out all the same.
    pub async fn unload(&self, id: &str) -> Result<()> {
        let (host, id) = (self.clone(), id.to_owned());
        self.apart(async move { host.unload_now(&id).await }).await
    }

    async fn unload_now(&self, id: &str) -> Result<()> {
        let _alone = self.inner().reloading.lock().await;
        self.unload_alone(id).await
    }

    /// Refuses to take out what others that run cannot do without.
    pub(crate) fn refuse_needed(&self, id: &str) -> Result<()> {
        let known = self.plugins();
        let needing = known.iter().filter(|p| matches!(p.state(), State::Ready | State::Starting) && required_by(p, id));
        let needing: Vec<&str> = needing.map(|p| p.id()).collect();
        let Some(first) = needing.first() else { return Ok(()) };
        let message = format!("{} cannot do without `{id}`", needing.join(", "));
        Err(Error::new(Code::DEPENDENCY_MISSING, message).with_plugin(id).with_help(format!("bespoke plugin unload {first}")))
    }

    /// The caller has the turn of all that changes.
    pub(crate) async fn unload_alone(&self, id: &str) -> Result<()> {
        let inner = self.inner();
        let plugin = self.known(id)?;
        plugin.started().await;
        self.refuse_needed(id)?;
        let _turn = plugin.turn.lock().await;
        plugin.watch.rest(false);
        inner.stop_in_turn(&plugin).await;
        let ended = match plugin.status() {
            status if status.state == State::Failed && status.code == Some(Code::SHUTDOWN_FAILED) => Err(plugin.why()),
            _ => Ok(()),
        };
        plugin.set(State::Stopped, "was unloaded", None);
        self.remove(id);
        ended
    }

    /// Gives a running plugin another table of its configuration than the file has, applied live or by a new instance, as its
    /// schema says.
    ///
    /// Dropping the future stops the waiting, not the change.
    ///
    /// # Errors
    /// `PLUGIN_NOT_FOUND`; `INVALID_PARAMS` before the plugin sees what does not fit; as [`restart`](Self::restart).
    pub async fn configure(&self, id: &str, config: Value) -> Result<ReloadOutcome> {
        let (host, id) = (self.clone(), id.to_owned());
        self.apart(async move { host.configure_now(&id, config).await }).await
    }

    async fn configure_now(&self, id: &str, config: Value) -> Result<ReloadOutcome> {
        let plugin = self.known(id)?;
        let new = self.config().with_plugin(id, table(id, config)?);
        // Refused here, nothing has changed.
        self.inner().config_of(&new, &plugin).map_err(|fault| Error::from(fault).with_plugin(id))?;
        let report = self.reload(new).await;
        let Some(done) = report.plugins.into_iter().find(|done| done.plugin == id) else {
            // Nothing is different, or it does not run: its next start takes it.
            return if plugin.state() == State::Ready {
                Ok(ReloadOutcome::Applied)
            } else {
                serves(&plugin).map(|()| ReloadOutcome::Applied)
            };
        };
        let code = match done.outcome {
            ReloadOutcome::Rejected => Code::INVALID_PARAMS,
            ReloadOutcome::Kept => Code::HOTSWAP_FAILED,
            ReloadOutcome::Failed => Code::INITIALIZE_FAILED,
            outcome => return Ok(outcome),
        };
        let error = Error::new(code, done.reason.unwrap_or_else(|| "its configuration was not taken".into())).with_plugin(id);
        Err(done.fix.map_or(error.clone(), |fix| error.with_help(fix)))
    }

    /// Lets another plugin take the place of one that runs: `new` is started beside it, takes over its state where its manifest
    /// says `swap = "exclusive"`, and answers under the names of `old` of the same kinds from then on; `old` is drained and
    /// stopped. Callers that hold slots of `old` go on with `new`. `old` stays known, and can take its place back.
    ///
    /// Dropping the future stops the waiting, not the swap.
    ///
    /// # Errors
    /// `PLUGIN_NOT_FOUND`; `NOT_READY` when `old` does not run; `CONTRACT_MISMATCH` when `new` offers nothing of a kind that `old`
    /// serves; `HOTSWAP_FAILED` when `old` goes on.
    pub async fn swap(&self, old: &str, new: &str) -> Result<()> {
        let (host, old, new) = (self.clone(), old.to_owned(), new.to_owned());
        self.apart(async move { host.swap_now(&old, &new).await }).await
    }

    async fn swap_now(&self, old: &str, new: &str) -> Result<()> {
        let inner = self.inner();
        let _alone = inner.reloading.lock().await;
        refuse_closing(inner)?;
        let (old, new) = (self.known(old)?, self.known(new)?);
        if old.id() == new.id() {
            return Err(Error::invalid_params(format!("`{}` cannot take its own place", old.id()))
                .with_help(format!("bespoke plugin reload {}", old.id())));
        }
        if old.state() != State::Ready {
            return Err(old.not_ready());
        }
        let offered = new.fit()?.kinds();
        if let Some(kind) = old.fit()?.kinds().into_iter().find(|kind| !offered.contains(kind)) {
            let message = format!("`{}` offers no {kind}, as `{}` does", new.id(), old.id());
            return Err(Error::new(Code::CONTRACT_MISMATCH, message).with_plugin(new.id()));
        }
        let was_running = new.state() == State::Ready;
        if !was_running {
            self.restart_now(new.id()).await.map_err(|error| goes_on(&old, &error))?;
        }
        let result = inner.hand_over(&old, &new).await;
        if result.is_err() && !was_running {
            inner.clone().stop(new.clone()).await;
        }
        result.map_err(|error| goes_on(&old, &inner.clean(&error)))?;
        let payload = json!({ "plugin": new.id(), "change": "swapped", "instead_of": old.id() });
        inner.services.events.emit(topics::PLUGIN_UPDATED, None, payload);
        Ok(())
    }

    /// Runs to its end, whoever waits.
    pub(crate) async fn apart<T: Send + 'static>(&self, work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        let work = self.inner().services.runtime.spawn(work);
        work.await.unwrap_or_else(|error| Err(Error::internal(format!("it broke: {error}"))))
    }
}

impl Inner {
    /// Both run. When this fails, `old` serves as before.
    async fn hand_over(self: &Arc<Self>, old: &Arc<PluginCell>, new: &Arc<PluginCell>) -> Result<()> {
        let _turn = old.turn.lock().await;
        let Some(generation) = old.generation.load_full() else { return Err(old.not_ready()) };
        let exclusive = old.manifest.as_ref().is_some_and(|m| m.swap == Swap::Exclusive);
        if !exclusive {
            let withdrawn = self.services.registry.hand_over(old, new)?;
            old.generation.store(None);
            old.apply(None);
            generation.footing.retire();
            self.services.offers_changed();
            old.set(
                State::Stopped,
                format!("`{}` took its place", new.id()),
                Some(format!("bespoke plugin swap {} {}", new.id(), old.id())),
            );
            self.retire(generation, withdrawn);
            return Ok(());
        }
        // New calls wait from here on, and go to the new one.
        old.set_replacing(true);
        let _shown = Replacing(old);
        old.change(State::Ready, State::Starting);
        let withdrawn = self.take_out(old, &generation);
        if !generation.drain(self.limits.stop()).await {
            tracing::warn!(plugin = old.id(), left = generation.in_flight(), "calls are still running; it is replaced all the same");
        }
        let moved = async {
            if let Some(state) = self.capture(&generation).await? {
                self.restore(new, state).await?;
            }
            self.services.registry.hand_over(old, new)
        };
        match moved.await {
            Ok(more) => {
                old.generation.store(None);
                old.apply(None);
                self.services.offers_changed();
                drop_caught(more);
                if let Err(error) = self.shut(generation, withdrawn).await {
                    tracing::warn!(plugin = old.id(), %error, "did not end well when another took its place");
                }
                let back = format!("bespoke plugin swap {} {}", new.id(), old.id());
                old.set(State::Stopped, format!("`{}` took its place", new.id()), Some(back));
                Ok(())
            }
            Err(error) => {
                generation.resume();
                generation.footing.serves(&generation);
                withdrawn.put_back();
                old.change(State::Starting, State::Ready);
                Err(error)
            }
        }
    }
}

/// The table of a plugin, as a caller gives it. What the host reads there is the user's to say, in the file: a caller that could name
/// the wall could take it down.
fn table(id: &str, config: Value) -> Result<serde_json::Map<String, Value>> {
    match config {
        Value::Object(table) => match table.keys().find(|key| HOST_KEYS.contains(&key.as_str())) {
            Some(key) => Err(Error::invalid_params(format!("`{key}` is a key of the host, not of the plugin"))
                .with_help(format!("bespoke config set plugins.{id}.{key} …"))
                .with_plugin(id)),
            None => Ok(table),
        },
        Value::Null => Ok(serde_json::Map::new()),
        other => Err(Error::invalid_params(format!("the configuration is {}, not an object", kind_of(&other))).with_plugin(id)),
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn required_by(plugin: &PluginCell, id: &str) -> bool {
    plugin.manifest.iter().flat_map(|m| &m.requires).any(|r| !r.optional && r.plugin == id)
}

/// Whether a plugin serves, or would at its first call.
fn serves(plugin: &PluginCell) -> Result<()> {
    match plugin.state() {
        State::Ready => Ok(()),
        State::Unloaded if plugin.rests() => Ok(()),
        _ => Err(plugin.why()),
    }
}

fn goes_on(old: &PluginCell, error: &Error) -> Error {
    let told = Error::new(Code::HOTSWAP_FAILED, format!("`{}` goes on: {}", old.id(), error.message())).with_plugin(old.id());
    error.help().map_or(told.clone(), |help| told.with_help(help))
}

pub(crate) fn refuse_closing(inner: &Inner) -> Result<()> {
    if inner.closing.is_cancelled() { Err(Error::new(Code::NOT_READY, "the host is being shut down")) } else { Ok(()) }
}
