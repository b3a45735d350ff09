//! aisopod.plugin.toml: a Rust library whose interface is a Rust trait object.

use bespoke_plugin_api::Kind;

use super::{Identity, offer};
use crate::{
    Dialect, Manifest, Tier,
    name::shown,
    parse::config_schema,
    reader::{Fields, Node},
};

const UNRUNNABLE: &str = "it is a Rust library for aisopod, whose interface holds only for the compiler that built both";

pub(crate) fn aisopod(fields: &mut Fields<'_, '_>, path: &str) -> Option<Manifest> {
    let mut own = fields.need("plugin", "write [plugin] above id and version")?.fields()?;
    let identity = Identity::read(&mut own, "id", "name", str::to_owned);
    // Its documentation says `entry`, its code `entry_point`.
    match (own.take("entry"), own.take("entry_point")) {
        (Some(node), None) | (None, Some(node)) => library(&node),
        (Some(_), Some(node)) => node.refuse("there are both entry and entry_point", "keep one of them"),
        (None, None) => own.refuse("entry_point", "it is missing", "write the name of the library"),
    }
    own.finish();
    let mut provides = Vec::new();
    if let Some(mut offered) = fields.take("capabilities").and_then(Node::fields) {
        let kinds = [
            ("channels", Kind::Channel),
            ("tools", Kind::Tool),
            ("providers", Kind::Provider),
            ("commands", Kind::Command),
            ("hooks", Kind::Hook),
        ];
        for (key, kind) in kinds {
            let names = offered.take(key).and_then(Node::items).unwrap_or_default();
            names.iter().for_each(|node| offer(&mut provides, kind, node));
        }
        offered.finish();
    }
    if let Some(mut hosts) = fields.take("compatibility").and_then(Node::fields) {
        // Versions of another host.
        hosts.skip(&["min_host_version", "max_host_version"]);
        hosts.finish();
    }
    let config_schema = fields.take("config_schema").and_then(|node| config_schema(&node));
    fields.report_unknown();

    let mut manifest = identity.manifest(path, Dialect::Aisopod, Tier::Dylib)?;
    manifest.provides = provides;
    manifest.config_schema = config_schema;
    manifest.unrunnable = Some(UNRUNNABLE.to_owned());
    Some(manifest)
}

/// The name of a file in the plugin's folder.
fn library(node: &Node<'_, '_>) {
    if let Some(name) = node.string()
        && (name.is_empty() || name == ".." || name.contains(['/', '\\', '\0']))
    {
        node.refuse(format!("`{}` is no file in the plugin's folder", shown(&name)), "write the name of the library");
    }
}
