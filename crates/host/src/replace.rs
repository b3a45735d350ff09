//! A new generation in the place of the one that serves: beside it, or after it, with its state. No call is lost, and what does not come
//! up leaves the old one where it was.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bespoke_manifest::Swap;
use bespoke_plugin_api::{Code, Error, Health, Result};
use serde_json::json;

use crate::{
    Config,
    candidate::{State, Tier},
    events::topics,
    generation::Generation,
    host::redactor,
    lifecycle::{Inner, Launch, promised},
    needs,
    plugin::PluginCell,
    slot::{drop_caught, shown},
    thread::Waiting,
};

impl Inner {
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
        // What the one before said of itself is not the new one's.
        plugin.report(Health::Unknown);
        plugin.ready(took);
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let payload = json!({ "plugin": plugin.id(), "change": "restarted", "ms": ms });
        self.services.events.emit(topics::PLUGIN_UPDATED, None, payload);
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

    /// Whether one that runs could give way to what was found in its folder. Where two instances may be there at once, one of the new is
    /// started beside the old one, and ended; where they may not, it is asked what it contributes.
    ///
    /// # Errors
    /// Why not. Nothing has changed.
    pub(crate) async fn try_out(self: &Arc<Self>, plugin: &Arc<PluginCell>) -> Result<()> {
        let config = self.services.config();
        self.redactor.learn_from(&redactor(&config, std::slice::from_ref(plugin)));
        needs::ready(&self.services.plugins.load_full(), plugin).await?;
        let is_exclusive = plugin.manifest.as_ref().is_some_and(|m| m.swap == Swap::Exclusive);
        if is_exclusive || config.plugin_settings(plugin.id()).is_ok_and(|settings| settings.is_lazy()) {
            self.can_say(plugin, &config).await?;
            return self.config_of(&config, plugin).map(drop).map_err(Error::from);
        }
        let launched = self.launch_unless_closing(plugin, &config, Launch::default()).await;
        let ended = match launched {
            Ok(launched) => {
                self.end(launched.generation).await;
                Ok(())
            }
            Err(error) => Err(error),
        };
        // Nobody will ask this place what its instance used.
        self.grants.leave(plugin.id(), &plugin.used);
        ended
    }

    /// Whether a new instance could at least say what it contributes. What was kept of an earlier answer counts only while nothing in the
    /// plugin's folder has changed, so code that does not even load is found before the old instance is given up for it.
    async fn can_say(&self, plugin: &PluginCell, config: &Config) -> Result<()> {
        if plugin.candidate.tier == Tier::Compiled {
            return Ok(());
        }
        self.prepare(plugin).await?;
        let (artifact, terms) = (plugin.candidate.artifact.clone(), self.terms_of(config, plugin)?);
        let declare = move |_: &Waiting| artifact.declare(&terms);
        let limit = self.limits.start();
        match self.threads.run(plugin.id(), format!("start-{}", plugin.id()), "register()", limit, declare, drop).await? {
            Some(specs) => plugin.manifest.as_deref().map_or(Ok(()), |manifest| promised(manifest, &specs)),
            None => Err(Error::new(Code::EXECUTION_TIMEOUT, format!("did not say within {} what it contributes", shown(limit)))),
        }
    }

    async fn swap_exclusive(self: &Arc<Self>, plugin: &Arc<PluginCell>, config: &Arc<Config>, old: Arc<Generation>) -> Result<()> {
        self.can_say(plugin, config).await.map_err(|error| self.old_serves(&error))?;
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

    /// The error of a replacement that came to nothing; `how` says who serves.
    pub(crate) fn goes_on(&self, how: &str, error: &Error) -> Error {
        let error = self.clean(error);
        let told = Error::new(Code::HOTSWAP_FAILED, format!("{how}: {}", error.message()));
        error.help().map_or(told.clone(), |help| told.with_help(help))
    }
}

/// Calls of a plugin wait for its next generation, as long as this lives.
pub(crate) struct Replacing<'p>(pub(crate) &'p PluginCell);

impl Drop for Replacing<'_> {
    fn drop(&mut self) {
        self.0.set_replacing(false);
    }
}
