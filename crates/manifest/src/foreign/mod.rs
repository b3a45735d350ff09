//! Manifests of other systems, read into the same [`Manifest`](crate::Manifest). What a dialect cannot say gets a
//! default, by the table in the crate docs. It runs nothing and knows no foreign interface.

mod aisopod;
mod app_factory;
mod lao;

use std::collections::{BTreeMap, BTreeSet};

use bespoke_plugin_api::Kind;
use semver::{Version, VersionReq};

use crate::{
    Dialect, Manifest, Permissions, Provides, Resources, Swap, Tier,
    name::{check_id, kebab},
    parse,
    reader::{Fields, Node},
};

pub(crate) use self::{aisopod::aisopod, app_factory::app_factory, lao::lao};

/// SPDX's word for a licence of which nothing is said.
const NO_LICENSE: &str = "NOASSERTION";

/// Who a plugin is, by the keys that all dialects have under one name.
struct Identity {
    id: Option<String>,
    name: Option<String>,
    version: Option<Version>,
    description: Option<String>,
    author: Option<String>,
}

impl Identity {
    fn read(fields: &mut Fields<'_, '_>, id_key: &'static str, name_key: &'static str, id_of: fn(&str) -> String) -> Self {
        let id_node = fields.need(id_key, "write the name of the plugin");
        let id = id_node.as_ref().and_then(Node::string).map(|text| id_of(&text)).filter(|id| match (check_id(id), &id_node) {
            (Err(error), Some(node)) => {
                node.refuse(error.message, error.fix);
                false
            }
            _ => true,
        });
        let name = if name_key == id_key {
            id_node.as_ref().and_then(parse::line)
        } else {
            fields.take(name_key).and_then(|node| parse::line(&node))
        };
        Identity {
            id,
            name,
            version: fields.need("version", "write the version, such as 1.0.0").and_then(|node| parse::version(&node)),
            description: fields.take("description").and_then(|node| parse::line(&node)),
            author: fields.take("author").and_then(|node| parse::line(&node)),
        }
    }

    /// A manifest that says this and no more; `None` only if a problem was reported.
    fn manifest(self, path: &str, dialect: Dialect, tier: Tier) -> Option<Manifest> {
        let id = self.id?;
        let name = self.name.unwrap_or_else(|| id.clone());
        Some(Manifest {
            path: path.to_owned(),
            dialect,
            id,
            description: self.description.unwrap_or_else(|| name.clone()),
            name,
            version: self.version?,
            author: self.author.unwrap_or_else(|| "unknown".to_owned()),
            license: NO_LICENSE.to_owned(),
            repository: None,
            keywords: Vec::new(),
            categories: Vec::new(),
            protocol: VersionReq::STAR,
            tiers: vec![tier],
            swap: Swap::default(),
            provides: Vec::new(),
            requires: Vec::new(),
            permissions: Permissions::default(),
            optional: BTreeSet::new(),
            reasons: BTreeMap::new(),
            resources: Resources::default(),
            process: None,
            dylib: None,
            wasm: None,
            config_schema: None,
            unrunnable: None,
            models: Vec::new(),
            runtimes: Vec::new(),
            events: Vec::new(),
            positions: BTreeMap::new(),
        })
    }
}

/// Adds a contribution under the name that a value holds, unless it is there already.
fn offer(provides: &mut Vec<Provides>, kind: Kind, node: &Node<'_, '_>) {
    let Some(name) = name_of(node) else { return };
    let one = Provides::new(kind, Some(name), false);
    if provides.contains(&one) {
        node.refuse(format!("the {kind} `{}` stands here twice", one.name.as_deref().unwrap_or_default()), "remove one of them");
        return;
    }
    provides.push(one);
}

/// A name that is written as another system writes it, in capitals perhaps.
fn name_of(node: &Node<'_, '_>) -> Option<String> {
    let name = kebab(&node.string()?);
    match crate::check_name(&name) {
        Ok(()) => Some(name),
        Err(error) => {
            node.refuse(error.message, error.fix);
            None
        }
    }
}
