//! Who needs whom, and who may keep a name: decided from manifests alone, before any plugin runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bespoke_manifest::Manifest;
use bespoke_plugin_api::{Code, Error, Kind, Result};

use crate::{candidate::State, plugin::PluginCell};

/// Ids that a plugin needs, the optional ones too: it starts after them and stops before them.
pub(crate) fn requires(plugin: &PluginCell) -> Vec<String> {
    plugin.manifest.iter().flat_map(|m| m.requires.iter().map(|r| r.plugin.clone())).collect()
}

/// The chosen plugins and all that they need.
pub(crate) fn closure(plugins: &[Arc<PluginCell>], mut chosen: BTreeSet<String>) -> BTreeSet<String> {
    loop {
        let needed: Vec<String> = plugins.iter().filter(|p| chosen.contains(p.id())).flat_map(|p| requires(p)).collect();
        let before = chosen.len();
        chosen.extend(needed);
        if chosen.len() == before {
            return chosen;
        }
    }
}

/// Waits until the plugins that this one needs have settled, and says which of them does not serve.
pub(crate) async fn ready(plugins: &[Arc<PluginCell>], plugin: &PluginCell) -> Result<()> {
    if let Some(error) = unmet(plugins, plugin) {
        return Err(error);
    }
    for required in plugin.manifest.iter().flat_map(|m| &m.requires) {
        // Here only an optional one is not there at all.
        let Some(needed) = plugins.iter().find(|p| p.id() == required.plugin) else { continue };
        let state = needed.up().await;
        if state != State::Ready && !required.optional {
            let status = needed.status();
            let why = status.reason.map_or(String::new(), |reason| format!(": {reason}"));
            let error = Error::new(Code::DEPENDENCY_MISSING, format!("needs `{}`, which is {}{why}", required.plugin, state.name()));
            return Err(match status.fix {
                Some(fix) => error.with_help(fix),
                None => error,
            });
        }
    }
    Ok(())
}

/// Claims the names of a plugin; the plugin whose id comes first keeps a name that two want.
pub(crate) fn claim(names: &mut BTreeMap<(Kind, String), String>, id: &str, manifest: &Manifest) -> Result<()> {
    let wanted: Vec<_> = manifest.provides.iter().filter_map(|p| Some((p.kind, p.name.clone()?))).collect();
    if let Some(((kind, name), owner)) = wanted.iter().find_map(|key| names.get_key_value(key)) {
        return Err(taken(*kind, name, owner, id));
    }
    names.extend(wanted.into_iter().map(|key| (key, id.to_owned())));
    Ok(())
}

/// The error of a name that two plugins want.
pub(crate) fn taken(kind: Kind, name: &str, owner: &str, other: &str) -> Error {
    Error::new(Code::ALREADY_LOADED, format!("{kind} `{name}` is provided by both `{owner}` and `{other}`; that of `{owner}` counts"))
        .with_help(format!("bespoke config set plugins.{owner}.enabled false"))
}

/// Refuses plugins that need one that is not there, or not in a version that fits.
pub(crate) fn refuse_unmet(plugins: &[Arc<PluginCell>]) {
    for plugin in plugins.iter().filter(|p| p.state() == State::Unloaded) {
        if let Some(error) = unmet(plugins, plugin) {
            plugin.fail(error);
        }
    }
}

/// The first need of a plugin that nothing in this program meets, whatever is started.
fn unmet(plugins: &[Arc<PluginCell>], plugin: &PluginCell) -> Option<Error> {
    let mut required = plugin.manifest.iter().flat_map(|m| &m.requires).filter(|r| !r.optional);
    required.find_map(|required| {
        let found = plugins.iter().find(|p| p.id() == required.plugin);
        let error = |message, fix| Some(Error::new(Code::DEPENDENCY_MISSING, message).with_help(fix));
        match found.map(|p| p.manifest.as_ref().map(|m| &m.version)) {
            None => {
                let message = format!("needs `{}`, which is not in this program", required.plugin);
                error(message, format!("build with the feature `{}`", required.plugin))
            }
            Some(Some(version)) if !required.version.matches(version) => {
                let message = format!("needs `{}` {}, but {version} is here", required.plugin, required.version);
                error(message, format!("build with a version of `{}` that fits", required.plugin))
            }
            Some(_) => None,
        }
    })
}

/// Refuses plugins that need each other in a circle, and those that need one of them; none of them could ever be first.
pub(crate) fn refuse_cycles(plugins: &[Arc<PluginCell>]) {
    let mut open: BTreeMap<&str, Vec<String>> =
        plugins.iter().filter(|p| p.state() == State::Unloaded).map(|p| (p.id(), requires(p))).collect();
    // Take away what could start; what is left waits for itself.
    loop {
        let startable: Vec<&str> =
            open.iter().filter(|(_, needs)| needs.iter().all(|n| !open.contains_key(n.as_str()))).map(|(id, _)| *id).collect();
        if startable.is_empty() {
            break;
        }
        for id in startable {
            open.remove(id);
        }
    }
    for plugin in plugins.iter().filter(|p| p.state() == State::Unloaded && open.contains_key(p.id())) {
        // Follow one need after the other until an id comes again.
        let mut path = vec![plugin.id().to_owned()];
        let start = loop {
            let needs = open.get(path[path.len() - 1].as_str());
            let Some(next) = needs.and_then(|needs| needs.iter().find(|n| open.contains_key(n.as_str()))) else { break 0 };
            let seen = path.iter().position(|id| id == next);
            path.push(next.clone());
            if let Some(start) = seen {
                break start;
            }
        };
        let circle = path[start..].join(" → ");
        let message =
            if start == 0 { format!("waits for itself: {circle}") } else { format!("needs a circle that waits for itself: {circle}") };
        plugin.fail(Error::new(Code::DEPENDENCY_MISSING, message).with_help("take one [[requires]] out of the circle"));
    }
}
