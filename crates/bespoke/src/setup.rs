//! What every verb begins with: configuration, plugins, models, and the plugins that the verb needs started.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bespoke_agent::{Agent, AgentConfig};
use bespoke_host::{Candidate, Config, ConfigError, Host, Problem, Row, Selection, State};
use bespoke_plugin_api::{HookHandler, Kind};
use bespoke_voice::{Voice, VoiceConfig};

use crate::{
    catalog::{CATALOG, Known},
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
    /// A plugin that is started with the others, also where its table says that it waits for its first call.
    pub(crate) eager: Option<String>,
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
        if let Some(id) = &also.eager {
            config = config.with(&format!("plugins.{id}.start"), "\"eager\"")?;
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
            noted.push("hooks is new".into());
        }
        let told = known_sections().filter(|(name, _)| needed.contains(name) || AT_START.contains(name));
        let changes = self.host.diff(&config, &told.collect::<Vec<_>>());
        let report = self.host.reload(config).await;
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

    /// What to tell of plugins with hooks that failed before they said which: nobody knows what they were to stop, so nothing is stopped.
    pub(crate) fn without_guard(&self) -> Vec<String> {
        let (known, missed) = (self.host.registry().all::<dyn HookHandler>(), self.host.hooks().missed());
        // For want of some, everything is stopped, with the reason.
        let is_told = |row: &Row| known.iter().any(|hook| hook.plugin() == row.id) || missed.iter().any(|missed| missed.plugin == row.id);
        let lost = |row: &Row| row.state == State::Failed && self.watches(row) && !is_told(row);
        let told = |row: Row| {
            let fix = row.fix.map_or(String::new(), |fix| format!("\n  try: {fix}"));
            format!("{} does not run, so its hooks stop and change nothing: {}{fix}", row.id, row.reason.unwrap_or_default())
        };
        self.host.rows().into_iter().filter(lost).map(told).collect()
    }

    /// Whether something serves a need. Tools are an offer, not a need.
    fn is_met(&self, need: &Need<'_>) -> bool {
        let rows = self.host.rows();
        let names = if need.names.is_empty() { self.host.default_names(need.kind) } else { need.names.to_vec() };
        let ready = |name: &String| {
            let id = self.host.provider_of(need.kind, name);
            rows.iter().any(|row| Some(&row.id) == id.as_ref() && row.state == State::Ready)
        };
        need.kind == Kind::Tool || names.iter().any(ready)
    }

    fn plugins_for(&self, needs: &[Need<'_>]) -> Result<Vec<String>> {
        let mut ids: Vec<String> = Vec::new();
        for Need { kind, names } in needs {
            let named: Vec<String> = names.iter().filter_map(|name| self.named(*kind, name)).collect();
            if !names.is_empty() && named.is_empty() {
                return Err(self.none_of(*kind, names));
            }
            let defaults = || self.host.default_names(*kind).iter().filter_map(|name| self.host.provider_of(*kind, name)).collect();
            ids.extend(if names.is_empty() { defaults() } else { named });
        }
        // Hooks look at everything, whatever the verb.
        ids.extend(self.host.rows().into_iter().filter(|row| self.watches(row)).map(|row| row.id));
        ids.sort();
        ids.dedup();
        Ok(ids)
    }

    /// The plugin behind a name. Tools are also named by their plugin.
    fn named(&self, kind: Kind, name: &str) -> Option<String> {
        let has_tools = || kind == Kind::Tool && self.host.manifest(name).is_some_and(|m| m.kinds().contains(&kind));
        self.host.provider_of(kind, name).or_else(|| has_tools().then(|| name.to_owned()))
    }

    /// Whether it has hooks, or the user has it told of events.
    pub(crate) fn watches(&self, row: &Row) -> bool {
        let config = self.host.config();
        if config.hooks().is_ok_and(|hooks| hooks.iter().any(|hook| hook.plugin == row.id)) {
            return true;
        }
        let hooks = row.kinds.iter().any(|k| k == Kind::Hook.name());
        hooks && (!self.host.is_stand_in(&row.id) || config.plugin_ids().contains(&row.id))
    }

    /// Plugins that the user has named: by a table, as one that answers, hears, speaks or is a tool, as a channel, or to be told of events.
    /// The others are there because the binary has them.
    pub(crate) fn asked_for(&self) -> Vec<String> {
        let config = self.host.config();
        let (Sections { agent, voice, .. }, _) = sections(&config);
        let channels = config.get("serve.channels").and_then(|names| serde_json::from_value::<Vec<String>>(names).ok()).unwrap_or_default();
        let mut ids = config.plugin_ids();
        for (kind, names) in [
            (Kind::Provider, agent.provider_names()),
            (Kind::Tool, agent.tools.unwrap_or_default()),
            (Kind::Vad, voice.vad),
            (Kind::Stt, voice.stt),
            (Kind::Tts, voice.tts),
            (Kind::Channel, channels),
        ] {
            ids.extend(names.iter().filter_map(|name| self.named(kind, name)));
        }
        ids.extend(config.hooks().into_iter().flatten().map(|hook| hook.plugin));
        ids
    }

    /// The error of a need that nothing in this binary meets.
    fn none_of(&self, kind: Kind, names: &[String]) -> Failure {
        let failure = Failure::new(Exit::NotFound, format!("no {kind} named {} is in this binary", names.join(" or ")));
        let features: Vec<&str> = CATALOG.iter().filter(|k| names.iter().any(|name| is_named(k, kind, name))).map(|k| k.id).collect();
        let failure = match self.instead(kind) {
            Some(command) => failure.help(command),
            None if features.is_empty() => return failure.help("bespoke plugin list"),
            None => return failure.help(build_with(&features)),
        };
        if features.is_empty() { failure } else { failure.or(build_with(&features)) }
    }

    /// The command that names what is here of a kind instead of what is not, where the configuration chooses by name.
    fn instead(&self, kind: Kind) -> Option<String> {
        let key = match kind {
            Kind::Provider => "agent.provider",
            Kind::Vad => "voice.vad",
            Kind::Stt => "voice.stt",
            Kind::Tts => "voice.tts",
            _ => return None,
        };
        let here = self.host.default_names(kind);
        (!here.is_empty()).then(|| format!("bespoke config set {key} '{}'", serde_json::json!(here)))
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

    /// What the text turn needs.
    pub(crate) fn text_needs(&self) -> Vec<Need<'_>> {
        vec![Need::of(Kind::Provider, &self.providers), Need::of(Kind::Tool, self.agent.tools.as_deref().unwrap_or_default())]
    }

    /// What the voice turn needs.
    pub(crate) fn voice_needs(&self) -> Vec<Need<'_>> {
        let mut needs = self.text_needs();
        needs.extend([Need::of(Kind::Vad, &self.voice.vad), Need::of(Kind::Stt, &self.voice.stt), Need::of(Kind::Tts, &self.voice.tts)]);
        needs
    }

    /// The channels that are served: those that are named, else those of plugins that have a table, but for stand-ins.
    #[cfg(feature = "serve")]
    pub(crate) fn channels_to_serve(&self, named: &[String]) -> Vec<String> {
        if !named.is_empty() {
            return named.to_vec();
        }
        let tables = self.host.config().plugin_ids();
        let rows = self.host.rows().into_iter().filter(|row| tables.contains(&row.id) && !self.host.is_stand_in(&row.id));
        rows.flat_map(|row| row.provides).filter_map(|name| Some(name.strip_prefix("channel:")?.to_owned())).collect()
    }

    /// The plugins that serving needs: who answers, whom it may call, who hears and speaks, the channels, what watches, and what others
    /// reach over HTTP. What nobody here has is left out: it is told.
    #[cfg(feature = "serve")]
    pub(crate) fn needed_to_serve(&self, channels: &[String]) -> Vec<String> {
        let providers = &self.providers;
        self.needed(providers, self.agent.tools.as_deref().unwrap_or_default(), &self.voice, channels)
    }

    /// As [`needed_to_serve`](Self::needed_to_serve), by other sections.
    #[cfg(feature = "serve")]
    pub(crate) fn needed_by(&self, sections: &Sections) -> Vec<String> {
        let tools = sections.agent.tools.as_deref().unwrap_or_default();
        self.needed(&sections.agent.provider_names(), tools, &sections.voice, &sections.serve.channels)
    }

    #[cfg(feature = "serve")]
    fn needed(&self, providers: &[String], tools: &[String], voice: &VoiceConfig, channels: &[String]) -> Vec<String> {
        let channels = self.channels_to_serve(channels);
        let mut ids: Vec<String> = channels.iter().filter_map(|name| self.named(Kind::Channel, name)).collect();
        let chains =
            [(Kind::Provider, providers), (Kind::Tool, tools), (Kind::Vad, &voice.vad), (Kind::Stt, &voice.stt), (Kind::Tts, &voice.tts)];
        for (kind, names) in chains {
            // One after the other: of what is not here, the rest go on.
            let defaults = || self.host.default_names(kind);
            let names = if names.is_empty() { defaults() } else { names.to_vec() };
            ids.extend(names.iter().filter_map(|name| self.named(kind, name)));
        }
        let config = self.host.config();
        let reached = |row: &Row| row.kinds.iter().any(|k| k == Kind::Http.name() || k == Kind::Command.name());
        let rows = self.host.rows();
        let others = rows.iter().filter(|row| {
            self.watches(row) || reached(row) && (config.plugin_ids().contains(&row.id) || self.host.serves_unasked(&row.id))
        });
        ids.extend(others.map(|row| row.id.clone()));
        ids.sort();
        ids.dedup();
        ids
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

/// Of plugins that are tried in order: if the first one failed, the one that serves instead is not what was asked for.
fn degrade_stand_in(rows: &mut [Row], ids: &[String]) {
    let Some(first) = ids.first().and_then(|id| rows.iter().find(|row| row.id == *id && row.state == State::Failed)) else { return };
    let reason = format!("stands in for {}: {}", first.id, first.reason.as_deref().unwrap_or("it failed"));
    let serves = ids[1..].iter().find_map(|id| rows.iter().position(|row| row.id == *id && row.state == State::Ready));
    if let Some(row) = serves.map(|at| &mut rows[at]).filter(|row| row.health == "ok") {
        row.health = "degraded".to_owned();
        row.reason = Some(reason);
    }
}

/// Whether a name of the configuration means this plugin. Tools are also named by their plugin.
fn is_named(known: &Known, kind: Kind, name: &str) -> bool {
    known.provides.iter().any(|(of, own)| *of == kind && (*own == name || kind == Kind::Tool && known.id == name))
}

/// As [`Setup::missing`]; `edit` is the command that mends a name that nobody knows.
pub(crate) fn missing(host: &Host, edit: &str) -> Vec<Row> {
    missing_keys(host, edit).into_iter().map(|(_, row)| row).collect()
}

/// As [`missing`], each with the key that speaks of it first.
pub(crate) fn missing_keys(host: &Host, edit: &str) -> Vec<(String, Row)> {
    let here = host.rows();
    let config = host.config();
    // A table with nothing in it says nothing: it is what is left of one whose keys were removed.
    let says = |id: &String| config.get(&format!("plugins.{id}")).is_some_and(|table| table.as_object().is_none_or(|t| !t.is_empty()));
    let tables = config.plugin_ids().into_iter().filter(says).map(|id| (format!("plugins.{id}"), id, None));
    let mut named: Vec<(String, String, Option<Kind>)> = tables.collect();
    for (key, kind) in [
        ("agent.provider", Kind::Provider),
        ("agent.tools", Kind::Tool),
        ("voice.vad", Kind::Vad),
        ("voice.stt", Kind::Stt),
        ("voice.tts", Kind::Tts),
        ("serve.channels", Kind::Channel),
    ] {
        let mut names = config.get(key).and_then(|v| serde_json::from_value::<Vec<String>>(v).ok()).unwrap_or_default();
        if kind == Kind::Provider {
            // What stands behind a colon is a model.
            names.iter_mut().for_each(|name| name.truncate(name.find(':').unwrap_or(name.len())));
        }
        let named_here = names.into_iter().enumerate().map(|(n, name)| (format!("{key}[{n}]"), name, Some(kind)));
        let is_here = |name: &str| {
            let has_tools = || kind == Kind::Tool && host.manifest(name).is_some_and(|m| m.kinds().contains(&kind));
            host.provider_of(kind, name).is_some() || has_tools()
        };
        named.extend(named_here.filter(|(_, name, _)| !is_here(name)));
    }
    let mut rows: Vec<(String, Row)> = Vec::new();
    for (key, name, kind) in named {
        let known = CATALOG.iter().find(|k| match kind {
            None => k.id == name,
            Some(kind) => is_named(k, kind, &name),
        });
        let id = known.map_or(name.as_str(), |k| k.id);
        if here.iter().chain(rows.iter().map(|(_, row)| row)).any(|row| row.id == id) {
            continue;
        }
        let row = match known {
            Some(known) => {
                let mut kinds: Vec<String> = known.provides.iter().map(|(kind, _)| kind.name().to_owned()).collect();
                kinds.dedup();
                let reason = format!("configured, but its crate {} is not in this binary", known.package);
                let mut row = Row::missing(id, kinds, reason, build_with(&[known.id]));
                row.description = known.description.to_owned();
                row
            }
            None => {
                let kinds = kind.map(|k| k.name().to_owned()).into_iter().collect();
                let close = bespoke_manifest::closest(&name, CATALOG.iter().map(|k| k.id));
                let reason = close.map_or("configured, but nobody knows it".to_owned(), |close| {
                    format!("configured, but nobody knows it; did you mean `{close}`?")
                });
                Row::missing(id, kinds, reason, edit)
            }
        };
        rows.push((key, row));
    }
    rows
}

/// Names of a kind that a verb works with; no names means all of the kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Need<'s> {
    kind: Kind,
    names: &'s [String],
}

impl<'s> Need<'s> {
    pub(crate) fn of(kind: Kind, names: &'s [String]) -> Self {
        Need { kind, names }
    }
}

impl From<&Fetching> for Consent {
    fn from(fetching: &Fetching) -> Self {
        Consent { yes: fetching.yes, from: fetching.from.clone(), offline: fetching.offline, index_url: fetching.index_url.clone() }
    }
}

/// Features that are no plugin and that no plugin brings along, and whether this binary has them.
const PARTS: &[(&str, bool)] = &[
    ("demo", cfg!(feature = "demo")),
    ("keyring", cfg!(feature = "keyring")),
    ("process", cfg!(feature = "process")),
    ("silero-bundled", cfg!(feature = "silero-bundled")),
    ("xla", cfg!(feature = "xla")),
];

/// The command that builds this binary with more features: those it has, and these.
pub(crate) fn build_with(features: &[&str]) -> String {
    let mut all: Vec<&str> =
        bespoke_plugin_api::compiled_in().iter().map(|d| d.id()).filter(|id| CATALOG.iter().any(|k| k.id == *id)).collect();
    all.extend(PARTS.iter().filter(|(_, enabled)| *enabled).map(|(part, _)| part));
    all.extend(features);
    all.sort_unstable();
    all.dedup();
    format!("cargo build --release --features {}", all.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program without plugins, whatever this one has.
    fn rows_of(text: &str) -> Vec<Row> {
        let config = Config::parse("bespoke.toml", text).unwrap();
        missing(&Host::builder().config(config).build().unwrap(), "edit bespoke.toml")
    }

    #[tokio::test]
    async fn a_known_plugin_that_is_not_here_has_the_command_that_adds_it() {
        let rows = rows_of("[voice]\nvad = [\"silero\"]\n[plugins.silero]\nengine = \"builtin\"\n[plugins]\nauto_install_deps = true\n");
        assert_eq!(rows.len(), 1, "{rows:?}");
        let row = &rows[0];
        assert_eq!(
            (row.id.as_str(), row.kinds.as_slice(), row.tier.name(), row.state.name()),
            ("silero", &["vad".to_owned()][..], "none", "missing")
        );
        assert!(row.reason.as_deref().is_some_and(|reason| reason.contains("bespoke-vad-silero")), "{row:?}");
        let fix = row.fix.clone().unwrap_or_default();
        let features = fix.strip_prefix("cargo build --release --features ").unwrap();
        assert!(features.split(',').any(|feature| feature == "silero"), "{fix}");
    }

    #[tokio::test]
    async fn a_name_is_known_by_its_kind_and_a_stranger_is_not() {
        // The provider `smol` is of the plugin `smol`; there is no tool of that name.
        let rows = rows_of("[agent]\nprovider = [\"smol\"]\ntools = [\"smoll\"]\n");
        let ids: Vec<_> = rows.iter().map(|row| row.id.as_str()).collect();
        assert_eq!(ids, ["smol", "smoll"]);
        assert!(rows[1].reason.as_deref().is_some_and(|reason| reason.contains("did you mean `smol`?")), "{rows:?}");
        assert_eq!(rows[1].fix.as_deref(), Some("edit bespoke.toml"));
    }

    #[tokio::test]
    async fn tools_are_named_by_their_names_and_by_their_plugin() {
        let rows = rows_of("[agent]\ntools = [\"files\", \"write_file\", \"run_program\"]\n[voice]\nstt = [\"files\"]\n");
        let shown: Vec<_> = rows.iter().map(|row| (row.id.as_str(), row.description.is_empty())).collect();
        // Once each; and the plugin stands for its tools, not for what it does not have.
        assert_eq!(shown, [("files", false), ("shell", false)]);
        let files = CATALOG.iter().find(|k| k.id == "files").unwrap();
        for (kind, name, means) in
            [(Kind::Tool, "files", true), (Kind::Tool, "write_file", true), (Kind::Tool, "shell", false), (Kind::Stt, "files", false)]
        {
            assert_eq!(is_named(files, kind, name), means, "{kind} {name}");
        }
    }

    /// The features of Cargo.toml, and what each switches on.
    fn features() -> Vec<(&'static str, Vec<&'static str>)> {
        let table = include_str!("../Cargo.toml").lines().skip_while(|line| *line != "[features]").skip(1);
        let rows = table.take_while(|line| !line.starts_with("[")).filter(|line| !line.starts_with('#'));
        rows.filter_map(|row| Some((row.split_once(" = ")?.0, row.split('"').skip(1).step_by(2).collect()))).collect()
    }

    #[test]
    fn every_part_is_known_or_comes_with_a_plugin() {
        let features = features();
        let is_plugin = |name: &str| CATALOG.iter().any(|known| known.id == name);
        assert!(features.iter().any(|(name, on)| is_plugin(name) && on.contains(&"dep:bespoke-tool-clock")), "{features:?}");
        let mut parts = Vec::new();
        for (name, on) in &features {
            let is_group = on.iter().all(|member| features.iter().any(|(name, _)| name == member));
            let is_group = is_group && !on.is_empty() || *name == "default";
            let is_brought = features.iter().any(|(plugin, on)| is_plugin(plugin) && on.contains(name));
            if !is_plugin(name) && !is_group && !is_brought {
                parts.push(*name);
            }
        }
        parts.sort_unstable();
        assert_eq!(PARTS.iter().map(|(part, _)| *part).collect::<Vec<_>>(), parts);
    }

    #[test]
    fn the_build_command_keeps_what_this_binary_has() {
        let command = build_with(&["zzz"]);
        let (_, features) = command.rsplit_once(' ').unwrap();
        let features: Vec<_> = features.split(',').collect();
        for id in bespoke_plugin_api::compiled_in().iter().map(|d| d.id()).chain(["zzz"]) {
            assert!(features.contains(&id), "{id}: {command}");
        }
        assert!(PARTS.iter().all(|(part, enabled)| features.contains(part) == *enabled), "{command}");
    }
}
