//! What is to be written: what this binary has, what was typed, and the defaults.

use std::{env, path::Path};

use bespoke_host::Host;
use bespoke_manifest::{Manifest, Permission};
use bespoke_plugin_api::Kind;
use serde_json::Value;

use crate::{
    catalog::CATALOG,
    cli::Init,
    exit::{Exit, Failure, Result},
    setup::build_with,
};

/// What this binary has to choose from.
pub(crate) struct Here<'h> {
    pub(crate) host: &'h Host,
    /// Those that are no stand-ins, the one that needs no network first.
    pub(crate) providers: Vec<String>,
    /// Plugins with tools.
    pub(crate) tools: Vec<String>,
    /// Names of detectors, engines that transcribe, engines that speak; all or none.
    pub(crate) voice: Option<[Vec<String>; 3]>,
}

pub(crate) struct Plan {
    pub(crate) provider: Option<Provider>,
    /// The default one when absent.
    pub(crate) system: Option<String>,
    /// Names of tools, or of plugins that have some.
    pub(crate) tools: Vec<String>,
    pub(crate) files_root: Option<String>,
    /// Hosts that pages may be fetched from.
    pub(crate) hosts: Vec<String>,
    pub(crate) voice: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Provider {
    pub(crate) name: String,
    pub(crate) plugin: String,
    pub(crate) model: Option<String>,
    pub(crate) base_url: Option<String>,
    /// Its secret, and where that comes from.
    pub(crate) key: Option<(String, Key)>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Key {
    /// A variable of the environment, set now or not.
    Variable(String),
    /// The keyring of the operating system.
    Keyring,
}

impl<'h> Here<'h> {
    pub(crate) fn of(host: &'h Host) -> Self {
        let calls_out = |name: &String| {
            let manifest = host.provider_of(Kind::Provider, name).and_then(|id| host.manifest(&id));
            manifest.is_some_and(|m| !m.permissions.network_access.is_empty())
        };
        // All of a kind but stand-ins, also those that serve only when they are named: naming is what happens here.
        let provided = |kind: Kind| {
            let manifests = host.rows().into_iter().filter(|row| !host.is_stand_in(&row.id)).filter_map(|row| host.manifest(&row.id));
            let all =
                manifests.flat_map(|m| m.provides.iter().filter(|p| p.kind == kind).filter_map(|p| p.name.clone()).collect::<Vec<_>>());
            all.collect::<Vec<String>>()
        };
        let mut providers = provided(Kind::Provider);
        providers.sort_by_key(calls_out);
        let mut tools: Vec<String> = provided(Kind::Tool).iter().filter_map(|name| host.provider_of(Kind::Tool, name)).collect();
        tools.sort();
        tools.dedup();
        // The configured order is that of what is best first; what else there is follows.
        let best: bespoke_voice::VoiceConfig = Default::default();
        let chain = [(Kind::Vad, best.vad), (Kind::Stt, best.stt), (Kind::Tts, best.tts)].map(|(kind, best)| {
            let there = host.default_names(kind);
            best.into_iter().filter(|name| there.contains(name)).collect::<Vec<_>>()
        });
        let voice = chain.iter().all(|names| !names.is_empty()).then_some(chain);
        Here { host, providers, tools, voice }
    }

    /// The schema of a plugin's table.
    pub(crate) fn schema(&self, plugin: &str) -> Value {
        self.host.config_schema(plugin).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// One line on what a plugin is.
    pub(crate) fn description(&self, plugin: &str) -> String {
        self.host.manifest(plugin).map(|m| m.description.clone()).unwrap_or_default()
    }

    /// Whether a plugin runs programs: nothing to be switched on in passing.
    pub(crate) fn runs_programs(&self, plugin: &str) -> bool {
        self.host.manifest(plugin).is_some_and(|m| !m.permissions.system_access.is_empty())
    }

    /// `name` or `name:model`.
    pub(crate) fn provider(&self, entry: &str) -> Result<Provider> {
        let (name, model) = entry.split_once(':').map_or((entry, None), |(name, model)| (name, Some(model)));
        let Some(plugin) = self.host.provider_of(Kind::Provider, name) else {
            let failure = Failure::new(Exit::NotFound, format!("no provider named {name} is in this binary"));
            let known = CATALOG.iter().find(|k| k.provides.iter().any(|(kind, of)| *kind == Kind::Provider && *of == name));
            return Err(match known {
                Some(known) => failure.help(build_with(&[known.id])),
                None => failure.help("bespoke plugin list provider"),
            });
        };
        if model.is_some_and(str::is_empty) {
            return Err(Failure::new(Exit::Usage, format!("`{entry}` names no model; write name or name:model")));
        }
        let secret = self.host.manifest(&plugin).and_then(|m| m.permissions.secrets.first().cloned());
        let key = secret.map(|secret| {
            let variable = Key::Variable(format!("{plugin}_{secret}").to_uppercase().replace('-', "_"));
            (secret, variable)
        });
        Ok(Provider { name: name.to_owned(), plugin, model: model.map(str::to_owned), base_url: None, key })
    }
}

impl Plan {
    /// What was typed, and defaults for the rest.
    pub(crate) fn of(args: &Init, here: &Here<'_>) -> Result<Self> {
        let mut provider = match (&args.provider, here.providers.first()) {
            (Some(entry), _) => Some(here.provider(entry)?),
            (None, Some(name)) => Some(here.provider(name)?),
            (None, None) => None,
        };
        if let (Some(provider), Some(url)) = (&mut provider, &args.base_url) {
            provider.base_url = Some(address(url)?);
        }
        let tools = args.tools.clone().unwrap_or_else(|| {
            let mut tools: Vec<String> = here.tools.iter().filter(|id| is_harmless(here, id)).cloned().collect();
            if args.files_root.is_some() && here.tools.iter().any(|id| id == "files") {
                tools.push("files".into());
            }
            tools
        });
        let tools = tools.into_iter().filter(|name| !name.is_empty()).collect();
        let files_root = args.files_root.as_deref().map(root).transpose()?;
        Ok(Plan { provider, system: args.system.clone(), tools, files_root, hosts: Vec::new(), voice: false })
    }

    /// Whether all that belongs together is there.
    pub(crate) fn complete(&self, here: &Here<'_>) -> Result<()> {
        let Some(provider) = &self.provider else {
            return Err(Failure::new(Exit::NotFound, "nothing in this binary answers").help(build_with(&["smol"])));
        };
        let server = &here.schema(&provider.plugin)["properties"]["base_url"];
        match (&provider.base_url, server.is_object()) {
            (Some(_), false) => {
                return Err(Failure::new(Exit::Usage, format!("{} asks no server, so --base-url means nothing", provider.name))
                    .help("bespoke init --provider openai:MODEL --base-url URL"));
            }
            // Servers of one's own mostly have one model; the one that everybody uses lists hundreds.
            (None, true) if provider.model.is_none() => {
                return Err(Failure::new(Exit::Usage, format!("which model of {} answers?", provider.name))
                    .help(format!("bespoke init --provider {}:MODEL", provider.name)));
            }
            _ => {}
        }
        if self.files_root.is_some() && !self.uses(here, "files") {
            return Err(Failure::new(Exit::Usage, "--files-root is for the tools of `files`, which are not chosen")
                .help("bespoke init --tools clock,files --files-root DIR"));
        }
        Ok(())
    }

    /// Whether a tool of a plugin is chosen.
    pub(crate) fn uses(&self, here: &Here<'_>, plugin: &str) -> bool {
        self.tools.iter().any(|name| name == plugin || here.host.provider_of(Kind::Tool, name).as_deref() == Some(plugin))
    }
}

impl Provider {
    /// As `agent.provider` has it.
    pub(crate) fn entry(&self) -> String {
        self.model.as_ref().map_or_else(|| self.name.clone(), |model| format!("{}:{model}", self.name))
    }
}

/// Whether a tool asks for nothing outside of the program.
fn is_harmless(here: &Here<'_>, plugin: &str) -> bool {
    let outside = |manifest: &Manifest| manifest.permissions.filtered(|permission, _| permission != Permission::PluginCommunication);
    here.host.manifest(plugin).is_some_and(|manifest| outside(&manifest).is_empty())
}

/// An address of a server, as far as it can be told without asking it.
pub(crate) fn address(url: &str) -> Result<String> {
    match url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")) {
        Some(rest) if !rest.is_empty() => Ok(url.to_owned()),
        _ => Err(Failure::new(Exit::Usage, format!("`{url}` is no address: one begins with http:// or https://"))
            .help("bespoke init --base-url http://127.0.0.1:8080/v1")),
    }
}

/// A folder as the configuration has it: absolute, or beginning with `~/`.
pub(crate) fn root(folder: &Path) -> Result<String> {
    let missing = |shown: &str| Failure::new(Exit::NotFound, format!("{shown}: there is no such folder")).help(format!("mkdir -p {shown}"));
    let text = folder.to_str().ok_or_else(|| Failure::new(Exit::Usage, format!("{}: its name is no text", folder.display())))?;
    if text == "~" || text.starts_with("~/") {
        let there = env::home_dir().map(|home| home.join(text.trim_start_matches('~').trim_start_matches('/')));
        return if there.is_some_and(|folder| folder.is_dir()) { Ok(text.to_owned()) } else { Err(missing(text)) };
    }
    let absolute = std::path::absolute(folder)?;
    let shown = absolute.display().to_string();
    if absolute.is_dir() { Ok(shown) } else { Err(missing(&shown)) }
}
