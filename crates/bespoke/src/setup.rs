//! What every verb begins with: configuration, plugins, models, and the plugins that the verb needs started.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bespoke_agent::{Agent, AgentConfig};
use bespoke_host::{Candidate, Config, ConfigError, Host, Problem, Row, Selection};
use bespoke_plugin_api::Kind;
use bespoke_voice::{Voice, VoiceConfig};

use crate::{
    catalog::CATALOG,
    cli::{Fetching, Global},
    cmd::commands::own_names,
    exit::{Exit, Failure, Result},
    gate::GatewayConfig,
    http, logs,
    models::{Consent, Models},
    output::Out,
    packs::Packs,
    paths::Paths,
    secrets,
    sections::{AT_START, FILE, Faults, Reloaded, Sections, known_sections, sections},
    served::ServeConfig,
    shelf::Shelf,
    state::Kept,
};

mod missing;
mod needs;

pub(crate) use missing::{build_with, missing_keys};
pub(crate) use needs::Need;

use missing::{degrade_stand_in, missing};

/// A host with its plugins inspected and none started.
pub(crate) struct Setup {
    pub(crate) out: Out,
    pub(crate) paths: Paths,
    pub(crate) shelf: Shelf,
    pub(crate) host: Host,
    pub(crate) kept: Kept,
    pub(crate) models: Models,
    #[cfg_attr(not(feature = "runtimes"), expect(dead_code, reason = "there are none"))]
    pub(crate) packs: Packs,
    /// As it was read, whatever is wrong with it.
    pub(crate) config: Config,
    pub(crate) agent: AgentConfig,
    /// The providers that `agent` names, without their models.
    providers: Vec<String>,
    pub(crate) voice: VoiceConfig,
    #[cfg_attr(not(feature = "serve"), expect(dead_code, reason = "nothing is served"))]
    pub(crate) serve: ServeConfig,
    #[cfg_attr(not(feature = "serve"), expect(dead_code, reason = "nothing is served"))]
    pub(crate) gateway: GatewayConfig,
    faults: Faults,
    /// Settings that the verb makes for itself.
    overrides: Vec<(&'static str, String)>,
}

/// Plugins beside those of the configuration.
#[derive(Debug, Default)]
pub(crate) struct Also {
    /// Folders of plugin folders.
    pub(crate) folders: Vec<PathBuf>,
    /// Plugins that were found already.
    pub(crate) plugins: Vec<Candidate>,
    /// Whether what plugins depend on is installed without a question.
    pub(crate) install_dependencies: bool,
    /// Whether what happens is kept: by what runs for long, and not by whoever only looks.
    pub(crate) history: bool,
    /// Keys of the configuration, as if they stood in the file, with their values in TOML.
    pub(crate) keys: Vec<(String, String)>,
}

impl Setup {
    pub(crate) fn new(global: &Global, overrides: Vec<(&'static str, String)>) -> Result<Self> {
        let paths = Paths::find(global.config.as_deref())?;
        let logs = paths.logs();
        Self::of(global, paths, overrides, Some(&logs), Also::default())
    }

    /// With more plugins than the configuration and this binary have.
    pub(crate) fn also(global: &Global, also: Also) -> Result<Self> {
        let paths = Paths::find(global.config.as_deref())?;
        let logs = paths.logs();
        Self::of(global, paths, Vec::new(), Some(&logs), also)
    }

    /// For somebody who only looks: there is no log file.
    pub(crate) fn looking(global: &Global) -> Result<Self> {
        Self::of(global, Paths::find(global.config.as_deref())?, Vec::new(), None, Also::default())
    }

    fn of(global: &Global, paths: Paths, overrides: Vec<(&'static str, String)>, logs_in: Option<&Path>, also: Also) -> Result<Self> {
        let out = Out::with(global.json, global.quiet);
        let mut config = read(&paths, &overrides)?;
        for (key, value) in &also.keys {
            config = config.with(key, value)?;
        }
        logs::redact(config.redactor());
        logs::start(global.log_level.name(), logs_in);
        config.notices().iter().for_each(|notice| out.note(notice));
        let (Sections { agent, voice, serve, gateway }, faults) = sections(&config);
        let models = Models::new(&paths, &config);
        let packs = Packs::new(&paths, &config);
        let shelf = Shelf::of(&paths, &config, &also.folders, also.install_dependencies).with(also.plugins);
        let kept = Kept::of(&paths);
        let host = kept
            .give(http::give(Host::builder()), also.history)
            .config(if faults.of("plugins").is_some() { config.without_plugin_defaults() } else { config.clone() })
            .plugins(shelf.all())
            .grants(paths.granted())
            .models(Arc::new(models.clone()))
            .runtimes(Arc::new(packs.clone()))
            .data_dir(paths.data())
            .tell(move |line| out.note(line))
            .reserved_commands(own_names())
            .build()?;
        // It knows more secrets than the configuration: those that manifests ask for.
        logs::redact(host.redactor().clone());
        let providers = agent.provider_names();
        Ok(Setup { out, paths, shelf, host, kept, models, packs, config, agent, providers, voice, serve, gateway, faults, overrides })
    }

    /// Refuses to go on with sections that are wrong, if the verb works with them; without any, only tells of them. A section
    /// that nobody knows may be any of them.
    pub(crate) fn require(&self, sections: &[&str]) -> Result<()> {
        let needed = |name: &str| !sections.is_empty() && (name == FILE || name == "plugins" || sections.contains(&name));
        let (stops, rest): (Vec<_>, Vec<_>) = self.faults.0.iter().partition(|(name, _)| needed(name));
        if !stops.is_empty() {
            let problems: Vec<Problem> = stops.into_iter().flat_map(|(_, error)| error.problems.clone()).collect();
            return Err(ConfigError::from(problems).into());
        }
        rest.iter().for_each(|(_, error)| self.out.note(format!("{error}\n  this verb goes on without it; try: bespoke config check")));
        Ok(())
    }

    /// Reads the configuration again and lets the host take over what it can. Of the sections, those of `needed` have to be right; the
    /// caller applies them.
    ///
    /// # Errors
    /// When the file, `[plugins]` or one of `needed` is wrong: then everything stays as it was.
    pub(crate) async fn reload(&self, needed: &[&str]) -> Result<Reloaded> {
        let config = read(&self.paths, &self.overrides)?;
        logs::redact_more(&config.redactor());
        let (sections, faults) = sections(&config);
        if let Some(error) = [FILE, "plugins"].iter().chain(needed).find_map(|section| faults.of(section)) {
            return Err(error.clone().into());
        }
        let mut noted = self.find_more(&config).await;
        if self.host.config().get("hooks") != config.get("hooks") {
            noted.push("hooks has changed".into());
        }
        let told = known_sections().filter(|(name, _)| needed.contains(name) || AT_START.contains(name));
        let changes = self.host.diff(&config, &told.collect::<Vec<_>>());
        let report = self.host.reload(config.clone()).await;
        // What was taken out and lies where plugins are searched is found there now.
        noted.extend(self.find_more(&config).await);
        logs::redact_more(self.host.redactor());
        Ok(Reloaded { sections, noted, changes, report })
    }

    /// Plugins in folders that are new since the last look, a line each. None is started: whoever needs one does that.
    async fn find_more(&self, config: &Config) -> Vec<String> {
        let known = self.host.rows();
        let new = self.shelf.by(config).found().into_iter().filter(|candidate| known.iter().all(|row| row.id != candidate.id));
        let mut found = Vec::new();
        for candidate in new {
            let (id, place) = (candidate.id.clone(), candidate.origin.clone());
            found.push(match self.host.admit(candidate).await {
                Ok(()) => format!("plugin {id} is found in {place}"),
                Err(error) => format!("plugin {id} in {place} is of no use: {error}"),
            });
        }
        found
    }

    /// Plugins outside of this binary, where the configuration names them now.
    #[cfg(feature = "serve")]
    pub(crate) fn shelf_now(&self) -> Shelf {
        self.shelf.by(&self.host.config())
    }

    /// What is wrong with the sections and the file.
    pub(crate) fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Starts the plugins behind these needs. Those that lack a model file get it, after a question, and are started again: a
    /// plugin knows best whether it needs a file. What cannot start is told by whoever needs it.
    pub(crate) async fn start(&self, needs: &[Need<'_>], consent: &Consent) -> Result<()> {
        let ids = self.plugins_for(needs)?;
        self.host.start(Selection::Ids(&ids)).await;
        self.without_guard().iter().for_each(|warning| self.out.note(warning));
        let lacking = self.host.lacking_models();
        if lacking.is_empty() {
            return Ok(());
        }
        let mut consent = consent.clone();
        consent.yes |= self.host.config().plugin_defaults()?.auto_install_deps;
        match self.models.ensure(self.out, &self.host, &lacking, &consent) {
            Ok(()) => self.host.start(Selection::Ids(&lacking)).await,
            // Another one stands in, as the configuration allows: whoever uses it says for whom.
            Err(failure) if failure.exit != Exit::Interrupted && needs.iter().all(|need| self.is_met(need)) => {
                self.out.note(failure.message);
            }
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    /// The command that opens the configuration: a name that nobody knows can only be mended by hand.
    pub(crate) fn edit(&self) -> String {
        let path = self.paths.config.clone().unwrap_or_else(|| self.paths.home.join("bespoke.toml"));
        format!("\"${{EDITOR:-vi}}\" {}", path.display())
    }

    pub(crate) fn agent(&self) -> Result<Agent> {
        Ok(Agent::new(self.host.clone(), self.agent.clone())?)
    }

    pub(crate) fn voice(&self) -> Result<Voice> {
        Ok(Voice::new(self.agent()?, self.voice.clone())?)
    }

    /// The error of an id that nobody has: no crate of this binary, and no folder.
    pub(crate) fn no_plugin(&self, id: &str) -> Failure {
        let failure = |why: &str| Failure::new(Exit::NotFound, format!("no plugin `{id}`{why}"));
        if CATALOG.iter().any(|k| k.id == id) {
            return failure(" in this binary").help(build_with(&[id]));
        }
        let rows = self.host.rows();
        let known = rows.iter().map(|row| row.id.as_str()).chain(CATALOG.iter().map(|k| k.id));
        match bespoke_manifest::closest(id, known) {
            Some(close) => failure(&format!("; did you mean `{close}`?")).help("bespoke plugin list"),
            None => failure(" in this binary, nor in a folder that it knows").help("bespoke plugin list"),
        }
    }

    /// Rows of all plugins: those of this binary, and those that the configuration speaks of but nobody compiled in.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let mut rows = self.host.rows();
        rows.extend(self.missing());
        // Another than at the start may have been taken over.
        let (Sections { agent, voice, .. }, _) = sections(&self.host.config());
        let chains = [(Kind::Vad, voice.vad), (Kind::Stt, voice.stt), (Kind::Tts, voice.tts), (Kind::Provider, agent.provider_names())];
        for (kind, names) in chains {
            let ids: Vec<String> = names.iter().filter_map(|name| self.host.provider_of(kind, name)).collect();
            degrade_stand_in(&mut rows, &ids);
        }
        rows.sort_by(|a, b| a.id.cmp(&b.id));
        rows
    }

    /// Rows of the plugins that the configuration speaks of but nobody compiled in.
    pub(crate) fn missing(&self) -> Vec<Row> {
        missing(&self.host, &self.edit())
    }
}

/// The configuration as it stands now, with what the verb sets.
fn read(paths: &Paths, overrides: &[(&str, String)]) -> Result<Config> {
    // One that was not there at the start may be there now.
    let made = || Some(paths.home.join("bespoke.toml")).filter(|path| path.is_file());
    let mut config = match paths.config.clone().or_else(made) {
        Some(path) => Config::read(&path)?,
        None => Config::empty(),
    };
    for source in secrets::sources() {
        config = config.with_source(source);
    }
    for (key, value) in overrides {
        config = config.with(key, value)?;
    }
    Ok(config)
}

impl From<&Fetching> for Consent {
    fn from(fetching: &Fetching) -> Self {
        Consent { yes: fetching.yes, from: fetching.from.clone(), offline: fetching.offline, index_url: fetching.index_url.clone() }
    }
}
