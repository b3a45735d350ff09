//! App Factory's manifest.json: a plugin in Python that implements one contract.

use bespoke_plugin_api::Kind;
use serde_json::{Map, Value, json};

use super::Identity;
use crate::{
    Dialect, Manifest, Process, Provides, Run, Swap, Tier,
    parse::{address, config_schema, line, module_of_python, requirement, words},
    reader::{Fields, Node},
};

/// The contracts that App Factory knows, and those that the Python SDK has beside them, under the names of our kinds.
const CONTRACTS: &[&str] = &[
    "tts",
    "stt",
    "llm",
    "mcp",
    "embedding",
    "vision",
    "debug",
    "tool",
    "channel",
    "vad",
    "command",
    "hook",
    "http",
    "provider",
    "embedder",
];

/// What its schema knows, and means nothing here. `min_memory_mb` is what a machine must have, no limit.
const UNUSED: &[&str] = &[
    "homepage",
    "python_requires",
    "platforms",
    "gpu_required",
    "gpu_recommended",
    "min_memory_mb",
    "capabilities",
    "icon",
    "screenshots",
];

pub(crate) fn app_factory(fields: &mut Fields<'_, '_>, path: &str) -> Option<Manifest> {
    let identity = Identity::read(fields, "name", "display_name", str::to_owned);
    let contract = fields.need("contract", "write the contract that the plugin implements, such as tts");
    let contract = contract.and_then(|node| node.one_of("contract", CONTRACTS, |contract| contract));
    let entry = fields.need("entry_point", "write the module of Python that holds the plugin, such as main");
    let module = entry.and_then(|node| module_of_python(&node));
    let requirements = fields.strings("dependencies").into_iter().filter_map(|(text, node)| requirement(text, &node)).collect();
    let schema = fields.take("config_schema").and_then(|node| config_schema(&node));
    let defaults = fields.take("default_config").and_then(defaults);
    let license = fields.take("license").and_then(|node| line(&node));
    let repository = fields.take("repository").and_then(|node| address(&node));
    let keywords = words(fields, "tags");
    fields.skip(UNUSED);
    fields.report_unknown();

    let mut manifest = identity.manifest(path, Dialect::AppFactory, Tier::Process)?;
    manifest.provides = provides(contract?, &manifest.id);
    // Its plugins hand their state over in a swap, and have no word to say so.
    manifest.swap = Swap::Exclusive;
    manifest.process = Some(Process { run: Run::Python(module?), requirements });
    manifest.config_schema = with_defaults(schema, defaults);
    manifest.license = license.unwrap_or(manifest.license);
    manifest.repository = repository;
    manifest.keywords = keywords;
    Some(manifest)
}

fn provides(contract: &str, id: &str) -> Vec<Provides> {
    let named = |kind| vec![Provides::new(kind, Some(id.to_owned()), false)];
    let tools = |name| Provides::new(Kind::Tool, name, true);
    match contract {
        "tts" => named(Kind::Tts),
        "stt" => named(Kind::Stt),
        "llm" | "provider" => named(Kind::Provider),
        "embedding" | "embedder" => named(Kind::Embedder),
        // Which tools a server has is known when it runs.
        "mcp" => vec![tools(None)],
        // One of the plugin's name, or those that its methods are marked as.
        "tool" => vec![tools(Some(id.to_owned())), tools(None)],
        "channel" => named(Kind::Channel),
        "vad" => named(Kind::Vad),
        "command" => named(Kind::Command),
        "hook" => named(Kind::Hook),
        "http" => named(Kind::Http),
        // No contract of ours: their methods are called by name.
        _ => Vec::new(),
    }
}

fn defaults(node: Node<'_, '_>) -> Option<Map<String, Value>> {
    match node.json()? {
        Value::Object(defaults) => Some(defaults),
        _ => {
            node.refuse("it is no configuration", "write an object of keys and values");
            None
        }
    }
}

/// What the manifest presets, said in its schema: that is the one place from which defaults come. A key that the schema does not name
/// may be anything.
fn with_defaults(schema: Option<Value>, defaults: Option<Map<String, Value>>) -> Option<Value> {
    let Some(defaults) = defaults else { return schema };
    let mut schema = schema.unwrap_or_else(|| json!({ "type": "object" }));
    let properties = schema.as_object_mut()?.entry("properties").or_insert_with(|| json!({})).as_object_mut()?;
    for (key, value) in defaults {
        if let Some(property) = properties.entry(key).or_insert_with(|| json!({})).as_object_mut() {
            property.insert("default".into(), value);
        }
    }
    Some(schema)
}
