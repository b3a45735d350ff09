//! The sections of bespoke.toml that are not plugins': which there are, what they say, what is wrong with them, and what becomes of new ones.
//! Who reads a section applies it.

use bespoke_agent::AgentConfig;
use bespoke_host::{Change, Config, ConfigError, EventsConfig, Problem, ReloadReport, UsageConfig};
use bespoke_plugin_api::Error;
use bespoke_voice::VoiceConfig;

use crate::{
    gate::{self, GatewayConfig},
    served::{self, ServeConfig},
};

/// The sections of bespoke.toml beside `plugins`, with their schemas; a section of a part that is not in this binary may stand in the
/// file and is not read.
pub(crate) const SECTIONS: &[(&str, Option<&str>)] = &[
    ("agent", Some(bespoke_agent::CONFIG_SCHEMA)),
    ("voice", Some(bespoke_voice::CONFIG_SCHEMA)),
    ("serve", served::CONFIG_SCHEMA),
    ("gateway", gate::CONFIG_SCHEMA),
    (EventsConfig::SECTION, Some(EventsConfig::SCHEMA)),
    (UsageConfig::SECTION, Some(UsageConfig::SCHEMA)),
    ("hooks", Some(Config::HOOKS_SCHEMA)),
];

/// Those that are read when a program starts, and not again.
pub(crate) const AT_START: &[&str] = &[EventsConfig::SECTION, UsageConfig::SECTION];

/// Those that this binary reads.
pub(crate) fn known_sections() -> impl Iterator<Item = (&'static str, &'static str)> {
    SECTIONS.iter().filter_map(|(name, schema)| Some((*name, (*schema)?)))
}

/// Stands for what is wrong with the file as a whole: sections that nobody knows, variables that override nothing.
pub(crate) const FILE: &str = "";

/// What is wrong with the file, by section; the other sections work.
#[derive(Debug, Default)]
pub(crate) struct Faults(pub(crate) Vec<(&'static str, ConfigError)>);

impl Faults {
    pub(crate) fn of(&self, section: &str) -> Option<&ConfigError> {
        self.0.iter().find(|(name, _)| *name == section).map(|(_, error)| error)
    }

    fn add(&mut self, section: &'static str, error: ConfigError) {
        self.0.push((section, error));
    }

    pub(crate) fn problems(&self) -> Vec<Problem> {
        self.0.iter().flat_map(|(_, error)| error.problems.clone()).collect()
    }
}

/// What the sections say that are not plugins'.
pub(crate) struct Sections {
    pub(crate) agent: AgentConfig,
    pub(crate) voice: VoiceConfig,
    pub(crate) serve: ServeConfig,
    pub(crate) gateway: GatewayConfig,
}

/// The sections that are not plugins', each value in its range. One that is wrong is told, and stands with its defaults.
pub(crate) fn sections(config: &Config) -> (Sections, Faults) {
    let mut faults = Faults::default();
    let known: Vec<&str> = SECTIONS.iter().map(|(name, _)| *name).collect();
    config.check_sections(&known).unwrap_or_else(|error| faults.add(FILE, error));
    config.plugin_defaults().map_or_else(|error| faults.add("plugins", error), drop);
    let sections = Sections {
        agent: section(config, &mut faults, "agent", AgentConfig::check),
        voice: section(config, &mut faults, "voice", VoiceConfig::check),
        serve: section(config, &mut faults, "serve", ServeConfig::check),
        gateway: section(config, &mut faults, "gateway", GatewayConfig::check),
    };
    (sections, faults)
}

/// One of them, if this binary reads it.
fn section<T: serde::de::DeserializeOwned + Default>(
    config: &Config,
    faults: &mut Faults,
    name: &'static str,
    check: impl FnOnce(&T) -> Result<(), Error>,
) -> T {
    let Some((_, schema)) = known_sections().find(|(known, _)| *known == name) else { return T::default() };
    read_section(config, name, schema, check).unwrap_or_else(|error| {
        faults.add(name, error);
        T::default()
    })
}

fn read_section<T: serde::de::DeserializeOwned>(
    config: &Config,
    name: &str,
    schema: &str,
    check: impl FnOnce(&T) -> Result<(), Error>,
) -> Result<T, ConfigError> {
    // It is part of this binary, and a test reads it.
    let schema = serde_json::from_str(schema).unwrap_or_default();
    config.learn_secrets(name, &schema);
    let section: T = config.section_of(name, &schema)?;
    check(&section).map_err(|e| config.locate(name, &e))?;
    Ok(section)
}

/// What became of a new configuration.
pub(crate) struct Reloaded {
    pub(crate) sections: Sections,
    /// What else is new, a line each.
    pub(crate) noted: Vec<String>,
    /// Keys that have another value, of the sections and of plugins.
    pub(crate) changes: Vec<Change>,
    /// What the host made of the rest.
    pub(crate) report: ReloadReport,
}

impl Reloaded {
    /// What there is to say of it, a line each; none when nothing has changed.
    pub(crate) fn lines(&self) -> Vec<String> {
        let later = |key: &str| AT_START.iter().any(|section| key.strip_prefix(section).is_some_and(|rest| rest.starts_with('.')));
        let what = |change: &Change| match (&change.old, &change.new) {
            (_, None) => "is gone",
            (None, _) => "is new",
            _ => "has changed",
        };
        let when = |key: &str| if later(key) { ", which counts from the next start on" } else { "" };
        let mut lines = self.noted.clone();
        lines.extend(self.changes.iter().map(|change| format!("{} {}{}", change.key, what(change), when(&change.key))));
        for plugin in &self.report.plugins {
            let outcome = serde_json::to_value(plugin.outcome).ok().and_then(|o| o.as_str().map(str::to_owned)).unwrap_or_default();
            let reason = plugin.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
            lines.push(format!("plugin {}: {outcome}{reason}", plugin.plugin));
        }
        lines.extend(self.report.problems.iter().map(|problem| ConfigError::from(problem.clone()).to_string()));
        lines
    }

    /// The same as a text.
    pub(crate) fn told(&self) -> String {
        let lines = self.lines();
        if lines.is_empty() { "Nothing has changed.".into() } else { lines.join("\n") }
    }
}
