//! Which plugins a verb works with: by the names of the configuration, by default, and because they watch. Starts none.

use bespoke_host::{Row, State};
use bespoke_plugin_api::{HookHandler, Kind};

use super::{Setup, build_with, missing::is_named};
use crate::{
    catalog::CATALOG,
    exit::{Exit, Failure, Result},
    sections::{Sections, sections},
};

impl Setup {
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
    pub(super) fn is_met(&self, need: &Need<'_>) -> bool {
        let rows = self.host.rows();
        let names = if need.names.is_empty() { self.host.default_names(need.kind) } else { need.names.to_vec() };
        let ready = |name: &String| {
            let id = self.host.provider_of(need.kind, name);
            rows.iter().any(|row| Some(&row.id) == id.as_ref() && row.state == State::Ready)
        };
        need.kind == Kind::Tool || names.iter().any(ready)
    }

    pub(super) fn plugins_for(&self, needs: &[Need<'_>]) -> Result<Vec<String>> {
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
    fn needed(&self, providers: &[String], tools: &[String], voice: &bespoke_voice::VoiceConfig, channels: &[String]) -> Vec<String> {
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
