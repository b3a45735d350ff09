//! LAO's plugin.toml, whose keys stand under `[plugin]`: a library for LAO's own C interface.

use std::collections::BTreeSet;

use bespoke_plugin_api::Kind;
use semver::VersionReq;

use super::{Identity, NO_LICENSE, name_of, offer};
use crate::{
    Communication, Dialect, HttpAccess, HttpHosts, Limit, Manifest, Permission, Permissions, Requires, Resources, Tier,
    name::{kebab, shown},
    parse::{address, config_schema, is_place, line, range, words},
    reader::{Fields, Node},
};

/// The permissions that LAO knows, all of which have the same names here.
const PERMISSIONS: &[Permission] =
    &[Permission::ReadFiles, Permission::WriteFiles, Permission::NetworkAccess, Permission::SystemAccess, Permission::PluginCommunication];

const UNRUNNABLE: &str = "it is a library for LAO's own C interface, which would run inside the program";

pub(crate) fn lao(fields: &mut Fields<'_, '_>, path: &str) -> Option<Manifest> {
    let mut own = fields.need("plugin", "write [plugin] above name and version")?.fields()?;
    let identity = Identity::read(&mut own, "name", "name", kebab);
    let license = own.take("license").and_then(|node| line(&node));
    let repository = own.take("repository").and_then(|node| address(&node));
    let (keywords, categories) = (words(&mut own, "keywords"), words(&mut own, "categories"));
    own.skip(&["homepage", "min_lao_version"]);
    own.finish();
    let requires = fields.tables("dependencies").into_iter().filter_map(dependency).collect();
    let mut provides = Vec::new();
    for mut entry in fields.tables("capabilities") {
        // What a capability takes and gives is text or a file in the end: a tool.
        if let Some(node) = entry.need("name", "name the capability") {
            offer(&mut provides, Kind::Tool, &node);
        }
        entry.skip(&["description", "input_type", "output_type"]);
        entry.finish();
    }
    let asked = fields.take("permissions").and_then(Node::fields).map(asked).unwrap_or_default();
    let machine = fields.take("resources").and_then(Node::fields).map(machine).unwrap_or_default();
    let config_schema = fields.take("config_schema").and_then(|node| config_schema(&node));
    fields.report_unknown();

    let mut manifest = identity.manifest(path, Dialect::Lao, Tier::Dylib)?;
    manifest.license = license.unwrap_or_else(|| NO_LICENSE.to_owned());
    manifest.repository = repository;
    manifest.keywords = keywords;
    manifest.categories = categories;
    manifest.requires = requires;
    manifest.provides = provides;
    (manifest.permissions, manifest.optional) = permissions(&asked, &machine);
    manifest.resources = machine.resources;
    manifest.config_schema = config_schema;
    manifest.unrunnable = Some(UNRUNNABLE.to_owned());
    Some(manifest)
}

fn dependency(mut entry: Fields<'_, '_>) -> Option<Requires> {
    let plugin = entry.need("name", "name the other plugin").and_then(|node| name_of(&node));
    let version = entry.take("version").and_then(|node| range(&node)).unwrap_or(VersionReq::STAR);
    let optional = entry.take("optional").and_then(|node| node.boolean()).unwrap_or(false);
    entry.finish();
    Some(Requires { plugin: plugin?, version, optional })
}

#[derive(Default)]
struct Asked {
    required: BTreeSet<Permission>,
    optional: BTreeSet<Permission>,
}

fn asked(mut fields: Fields<'_, '_>) -> Asked {
    let mut list = |key| {
        let items = fields.take(key).and_then(Node::items).unwrap_or_default();
        items.iter().filter_map(|node| node.one_of("permission", PERMISSIONS, Permission::name)).collect()
    };
    let asked = Asked { required: list("required"), optional: list("optional") };
    fields.finish();
    asked
}

#[derive(Default)]
struct Machine {
    resources: Resources,
    network: Option<bool>,
    /// Places outside the plugin's data folder.
    places: Vec<String>,
}

fn machine(mut fields: Fields<'_, '_>) -> Machine {
    let mut machine = Machine::default();
    for (key, ours) in [("max_memory_mb", "memory_mb"), ("max_cpu_percent", "cpu_percent")] {
        let (Some(limit), Some(node)) = (Limit::named(ours), fields.take(key)) else { continue };
        if let Some(value) = node.rounded(limit.least.into(), limit.most.into()).and_then(|n| u32::try_from(n).ok()) {
            limit.put(&mut machine.resources, value);
        }
    }
    machine.network = fields.take("network_access").and_then(|node| node.boolean());
    for (place, node) in fields.strings("file_access") {
        if is_place(&place) {
            machine.places.push(place);
        } else if place.is_empty() || place.contains('\0') || place.split(['/', '\\']).any(|part| part == "..") {
            node.refuse(format!("`{}` can stand for more than one place", shown(&place)), "write a folder without ..");
        }
    }
    fields.finish();
    machine
}

fn permissions(asked: &Asked, machine: &Machine) -> (Permissions, BTreeSet<Permission>) {
    let mut out = Permissions::default();
    let mut network = asked.required.contains(&Permission::NetworkAccess) || asked.optional.contains(&Permission::NetworkAccess);
    network |= machine.network == Some(true);
    if network {
        out.network_access.push(HttpAccess { hosts: HttpHosts::Named("*".into()), private: false });
    }
    for permission in asked.required.union(&asked.optional) {
        match permission {
            Permission::ReadFiles => out.read_files.clone_from(&machine.places),
            Permission::WriteFiles => out.write_files.clone_from(&machine.places),
            Permission::SystemAccess => out.system_access.push("*".into()),
            Permission::PluginCommunication => {
                // What one plugin can call of another.
                let kinds = [Kind::Tool, Kind::Embedder].map(|kind| Communication::calls(kind, None));
                out.plugin_communication = kinds.into_iter().chain([Communication::Events(String::new())]).collect();
            }
            _ => {}
        }
    }
    let mut optional: BTreeSet<_> = asked.optional.difference(&asked.required).copied().collect();
    if machine.network == Some(false) {
        optional.insert(Permission::NetworkAccess);
    } else if machine.network == Some(true) && !asked.optional.contains(&Permission::NetworkAccess) {
        optional.remove(&Permission::NetworkAccess);
    }
    optional.retain(|permission| out.has(*permission));
    (out, optional)
}
