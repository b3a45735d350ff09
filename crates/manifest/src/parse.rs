//! From text to [`Manifest`]: which keys there are and what each may hold. Walking TOML is `reader`.

use std::collections::{BTreeMap, BTreeSet};

use bespoke_plugin_api::{Descriptor, Kind};
use semver::{Version, VersionReq};
use serde_json::Value;

use crate::{
    Communication, Dialect, Emits, HttpAccess, HttpHosts, Inherited, Manifest, ManifestError, Permission, Permissions, Position, Problem,
    Provides, Requires, Resources, Swap, Tier, foreign,
    name::{HOST_KEYS, check_id, check_name, shown},
    reader::{Fields, Node, Report},
    tree,
};

mod needs;
mod ships;

pub use ships::is_requirement;
pub(crate) use ships::{module_of_python, requirement};

/// A manifest is a page of text. More is a mistake or an attack.
const MAX_BYTES: usize = 1 << 20;

impl Manifest {
    /// Names of the files that hold a manifest, in the order in which they go before each other.
    pub const FILES: &[&str] = &["plugin.toml", "manifest.json", "aisopod.plugin.toml"];

    /// Reads a manifest of any [dialect](crate::Dialect), which the name of the file tells: a plugin.toml with a table `[plugin]` is
    /// LAO's. `path` is only used for that and in errors.
    ///
    /// # Errors
    /// All problems of the text at once; a name that is none of [`FILES`](Self::FILES).
    pub fn read(path: &str, text: &str) -> Result<Manifest, ManifestError> {
        let name = path.rsplit(['/', '\\']).next().unwrap_or_default();
        match name {
            "plugin.toml" => {
                read_as(
                    path,
                    text,
                    false,
                    |mut fields| {
                        if fields.has("plugin") { foreign::lao(&mut fields, path) } else { native(fields, path, None) }
                    },
                )
            }
            "manifest.json" => read_as(path, text, true, |mut fields| foreign::app_factory(&mut fields, path)),
            "aisopod.plugin.toml" => read_as(path, text, false, |mut fields| foreign::aisopod(&mut fields, path)),
            _ => {
                let message = format!("`{}` is no name of a manifest", shown(name));
                let fix = format!("name it {}", Self::FILES.join(", "));
                let problem = Problem { position: Position { line: 1, column: 1 }, key: String::new(), message, fix };
                Err(ManifestError::new(path, vec![problem]))
            }
        }
    }

    /// Reads a plugin.toml of this program's own dialect. `path` is only used in errors. `inherited` fills in `version` and `license`
    /// of a plugin that is compiled in; without it they are required.
    ///
    /// # Errors
    /// All problems of the text at once.
    pub fn parse(path: &str, text: &str, inherited: Option<Inherited<'_>>) -> Result<Manifest, ManifestError> {
        read_as(path, text, false, |fields| native(fields, path, inherited))
    }

    /// Reads the manifest of a plugin that is compiled in.
    ///
    /// # Errors
    /// All problems of the text, and an id that differs from that of the descriptor.
    pub fn of(descriptor: &Descriptor) -> Result<Manifest, ManifestError> {
        let package = descriptor.package();
        let path = format!("{}/plugin.toml", package.name);
        let inherited = Inherited { version: package.version, license: package.license };
        let manifest = Manifest::parse(&path, package.manifest, Some(inherited))?;
        if manifest.id != descriptor.id() {
            let position = manifest.position("id").unwrap_or(Position { line: 1, column: 1 });
            let message = format!("it is `{}`, and `{}` in plugin!(…)", manifest.id, descriptor.id());
            let problem = Problem { position, key: "id".into(), message, fix: "write the same id in both".into() };
            return Err(ManifestError::new(&path, vec![problem]));
        }
        Ok(manifest)
    }
}

/// Takes a text apart and gives what was made of it, unless something was wrong.
fn read_as(
    path: &str,
    text: &str,
    is_json: bool,
    make: impl FnOnce(Fields<'_, '_>) -> Option<Manifest>,
) -> Result<Manifest, ManifestError> {
    if text.len() > MAX_BYTES {
        let message = format!("it has {} bytes", text.len());
        let fix = format!("a manifest has at most {MAX_BYTES}");
        let problem = Problem { position: Position { line: 1, column: 1 }, key: String::new(), message, fix };
        return Err(ManifestError::new(path, vec![problem]));
    }
    let report = Report::new(text, is_json);
    let table = match if is_json { tree::json(text) } else { tree::toml(text) } {
        Ok(table) => table,
        Err(syntax) => {
            let language = if is_json { "JSON" } else { "TOML" };
            for error in syntax {
                report.add(report.position(error.at), "", format!("this is not {language}: {}", error.message), "mend the syntax");
            }
            return Err(ManifestError::new(path, report.finish().0));
        }
    };
    let manifest = make(Fields::root(&report, table));
    match (manifest, report.finish()) {
        (Some(mut manifest), (problems, positions)) if problems.is_empty() => {
            manifest.positions = positions;
            Ok(manifest)
        }
        (_, (problems, _)) => Err(ManifestError::new(path, problems)),
    }
}

/// `None` only if a problem was reported.
fn native(mut fields: Fields<'_, '_>, path: &str, inherited: Option<Inherited<'_>>) -> Option<Manifest> {
    let id = fields.need("id", "write id = \"…\", which is also the feature of the app").and_then(|node| named(&node, check_id));
    let name = fields.take("name").and_then(|node| line(&node));
    let version = match (fields.take("version"), inherited) {
        (Some(node), _) => version(&node),
        (None, Some(inherited)) => from_crate(&fields, inherited.version),
        (None, None) => {
            fields.refuse("version", "it is missing", "write version = \"0.1.0\"");
            None
        }
    };
    let description = fields.need("description", "say in one line what the plugin is").and_then(|node| line(&node));
    let author = fields.need("author", "say who wrote it").and_then(|node| line(&node));
    let license = match (fields.take("license"), inherited) {
        (Some(node), _) => line(&node),
        (None, Some(inherited)) if !inherited.license.is_empty() => Some(inherited.license.to_owned()),
        (None, _) => {
            fields.refuse("license", "it is missing", "write an SPDX expression such as license = \"Apache-2.0\"");
            None
        }
    };
    let repository = fields.take("repository").and_then(|node| address(&node));
    let keywords = words(&mut fields, "keywords");
    let categories = words(&mut fields, "categories");
    let protocol = fields.need("protocol", "write protocol = \"1\"").and_then(|node| range(&node));
    let tiers = tiers(&mut fields);
    let swap = fields.take("swap").and_then(|node| node.one_of("swap", Swap::ALL, Swap::name)).unwrap_or_default();
    let provides = provides(&mut fields);
    let requires = requires(&mut fields, id.as_deref());
    // Whoever adds a plugin to a program that is built is asked; who compiles it in has the source.
    let consent = tiers.iter().any(|tier| *tier != Tier::Compiled);
    let Asked { permissions, optional, reasons } =
        fields.take("permissions").and_then(Node::fields).map(|fields| permissions(fields, consent)).unwrap_or_default();
    let resources = fields.take("resources").and_then(Node::fields).map(resources).unwrap_or_default();
    let process = fields.take("process").and_then(|node| ships::process(node, &tiers));
    let dylib = fields.take("dylib").and_then(|node| ships::library(node, &tiers));
    let wasm = fields.take("wasm").and_then(|node| ships::component(node, &tiers));
    let config_schema = fields.take("config_schema").and_then(|node| config_schema(&node));
    let models = needs::models(&mut fields);
    let runtimes = needs::runtimes(&mut fields);
    let events = events(&mut fields);
    fields.finish();
    let id = id?;
    Some(Manifest {
        path: path.to_owned(),
        dialect: Dialect::Native,
        name: name.unwrap_or_else(|| id.clone()),
        id,
        version: version?,
        description: description?,
        author: author?,
        license: license?,
        repository,
        keywords,
        categories,
        protocol: protocol?,
        tiers,
        swap,
        provides,
        requires,
        permissions,
        optional,
        reasons,
        resources,
        process,
        dylib,
        wasm,
        config_schema,
        unrunnable: None,
        models,
        runtimes,
        events,
        positions: Default::default(),
    })
}

fn tiers(fields: &mut Fields<'_, '_>) -> Vec<Tier> {
    let fix = "list those in which the plugin can ship: compiled, dylib, wasm, process";
    let Some(node) = fields.need("tiers", fix) else { return Vec::new() };
    let (report, at, mut tiers) = (node.report(), node.at, Vec::new());
    let Some(items) = node.items() else { return tiers };
    if items.is_empty() {
        report.add(at, "tiers", "no tier is listed", fix);
    }
    for item in items {
        if let Some(tier) = item.one_of("tier", Tier::ALL, Tier::name) {
            if tiers.contains(&tier) {
                item.refuse(format!("`{tier}` stands here twice"), "remove one of them");
            }
            tiers.push(tier);
        }
    }
    tiers
}

fn events(fields: &mut Fields<'_, '_>) -> Vec<Emits> {
    let mut all: Vec<Emits> = Vec::new();
    for mut entry in fields.tables("events") {
        let node = entry.need("name", "say what happens, such as name = \"found\"");
        let name = node.as_ref().and_then(|node| named(node, check_name));
        let schema = entry.take("schema").and_then(|node| {
            if !node.is_table() {
                node.refuse("it is no schema", "write a JSON Schema of the payload: schema = { type = \"object\" }");
                return None;
            }
            node.json()
        });
        entry.finish();
        match (name, node) {
            (Some(name), Some(node)) if all.iter().any(|known| known.name == name) => {
                node.refuse(format!("the event `{name}` stands here twice"), "remove one of them");
            }
            (Some(name), _) => all.push(Emits { name, schema }),
            _ => {}
        }
    }
    all
}

fn provides(fields: &mut Fields<'_, '_>) -> Vec<Provides> {
    let mut all: Vec<Provides> = Vec::new();
    for mut entry in fields.tables("provides") {
        let kind = entry.need("kind", "say what it is, such as kind = \"tool\"").and_then(|node| kind(&node));
        let name_node = entry.take("name");
        let dynamic = entry.take("dynamic").and_then(|node| node.boolean()).unwrap_or(false);
        let name = match (&name_node, dynamic) {
            (Some(node), _) => named(node, check_name).map(Some),
            (None, true) => Some(None),
            (None, false) => {
                entry.refuse("name", "it is missing", "write name = \"…\", or dynamic = true when names are known at run time");
                None
            }
        };
        if let (Some(kind), Some(name)) = (kind, name) {
            let mut new = Provides::new(kind, name, dynamic);
            let mut of_command = |key| {
                entry.take(key).filter(|node| {
                    let fits = kind == Kind::Command;
                    if !fits {
                        node.refuse(format!("a {kind} has none: it is said of commands"), "remove it");
                    }
                    fits
                })
            };
            new.about = of_command("about").and_then(|node| line(&node));
            new.usage = of_command("usage").and_then(|node| line(&node));
            new.require_auth = of_command("require_auth").and_then(|node| node.boolean());
            if all.iter().any(|p| (p.kind, &p.name) == (new.kind, &new.name)) {
                let what = new.name.as_deref().map_or_else(|| format!("dynamic {kind}"), |n| format!("{kind} `{n}`"));
                entry.refuse("", &format!("{what} stands here twice"), "remove one of them");
            }
            all.push(new);
        }
        entry.finish();
    }
    all
}

fn requires(fields: &mut Fields<'_, '_>, id: Option<&str>) -> Vec<Requires> {
    let mut all: Vec<Requires> = Vec::new();
    for mut entry in fields.tables("requires") {
        let plugin = entry.need("plugin", "name the other plugin by its id").and_then(|node| {
            let plugin = named(&node, check_id)?;
            if Some(plugin.as_str()) == id {
                node.refuse("a plugin cannot require itself", "remove the entry");
            } else if all.iter().any(|r| r.plugin == plugin) {
                node.refuse(format!("`{plugin}` stands here twice"), "remove one of them");
            }
            Some(plugin)
        });
        let version = entry.take("version").and_then(|node| range(&node)).unwrap_or(VersionReq::STAR);
        let optional = entry.take("optional").and_then(|node| node.boolean()).unwrap_or(false);
        entry.finish();
        all.extend(plugin.map(|plugin| Requires { plugin, version, optional }));
    }
    all
}

/// What a manifest asks for, and how.
#[derive(Default)]
struct Asked {
    permissions: Permissions,
    optional: BTreeSet<Permission>,
    reasons: BTreeMap<Permission, String>,
}

fn permissions(mut fields: Fields<'_, '_>, consent: bool) -> Asked {
    let mut out = Permissions::default();
    for node in fields.take("network_access").and_then(Node::items).unwrap_or_default() {
        match access(node) {
            Some(Network::Through(access)) => out.network_access.push(access),
            Some(Network::Direct) => out.direct_network = true,
            None => {}
        }
    }
    out.read_files = places(&mut fields, "read_files");
    out.write_files = places(&mut fields, "write_files");
    let plain = |fields: &mut Fields<'_, '_>, key, what: &str, good: fn(&str) -> bool, fix: &str| -> Vec<String> {
        let check = |(value, node): (String, Node<'_, '_>)| {
            if !good(&value) {
                node.refuse(format!("`{}` is no {what}", shown(&value)), fix);
            }
            value
        };
        fields.strings(key).into_iter().map(check).collect()
    };
    out.system_access =
        plain(&mut fields, "system_access", "program", is_program, "write the name of a program, or its absolute path, without arguments");
    for (target, node) in fields.strings("plugin_communication") {
        match communication(&target) {
            Some(one) => out.plugin_communication.push(one),
            None => node.refuse(
                format!("`{}` is neither a contribution nor events", shown(&target)),
                "write kind, kind:name, or event: and the beginning of topics, such as tool:clock or event:clock.",
            ),
        }
    }
    out.env = plain(&mut fields, "env", "name of a variable", is_variable, "use letters, digits and `_`, such as LANG");
    out.secrets =
        plain(&mut fields, "secrets", "name of a secret", |s| check_name(s).is_ok(), "use a to z, 0 to 9, `_` and `-`, such as token");

    let mut optional = BTreeSet::new();
    for node in fields.take("optional").and_then(Node::items).unwrap_or_default() {
        if let Some(permission) = node.one_of("permission", Permission::ALL, Permission::name) {
            if !out.has(permission) {
                node.refuse(format!("the plugin does not ask for `{permission}`"), "remove it here, or say above what it asks for");
            }
            optional.insert(permission);
        }
    }
    let mut reasons = BTreeMap::new();
    if let Some(mut given) = fields.take("reasons").and_then(Node::fields) {
        for permission in Permission::ALL.iter().copied() {
            match given.take(permission.name()) {
                Some(node) if !out.has(permission) => {
                    node.refuse(format!("the plugin does not ask for `{permission}`"), "remove the line, or say above what it asks for");
                }
                Some(node) => _ = reasons.insert(permission, line(&node).unwrap_or_default()),
                None => {}
            }
        }
        given.finish();
    }
    for permission in Permission::ALL.iter().filter(|p| consent && out.has(**p) && !reasons.contains_key(p)) {
        let fix = format!("say in one line what the plugin needs it for: reasons.{permission} = \"…\"");
        fields.refuse(&format!("reasons.{permission}"), "it is missing, and the user is asked", &fix);
    }
    fields.finish();
    Asked { permissions: out, optional, reasons }
}

/// `kind`, `kind:name`, or `event:` and the beginning of topics.
fn communication(target: &str) -> Option<Communication> {
    if let Some(topics) = target.strip_prefix("event:") {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        return match topics {
            "*" => Some(Communication::Events(String::new())),
            topics => (1..=128)
                .contains(&topics.len())
                .then_some(topics)
                .filter(|t| t.chars().all(good))
                .map(|t| Communication::Events(t.to_owned())),
        };
    }
    let (kind, name) = target.split_once(':').map_or((target, None), |(kind, name)| (kind, Some(name)));
    match (Kind::from_name(kind), name.map(check_name)) {
        (Some(kind), None | Some(Ok(()))) => Some(Communication::calls(kind, name)),
        _ => None,
    }
}

/// Files and folders that mean the same wherever the program runs.
fn places(fields: &mut Fields<'_, '_>, key: &'static str) -> Vec<String> {
    let check = |(path, node): (String, Node<'_, '_>)| {
        if !is_place(&path) {
            let fix = "write an absolute path, or one under ~/, without ..";
            node.refuse(format!("`{}` can stand for more than one place", shown(&path)), fix);
        }
        path
    };
    fields.strings(key).into_iter().map(check).collect()
}

pub(crate) fn is_place(path: &str) -> bool {
    let rooted = path.starts_with('/') || path.starts_with("~/") || path.as_bytes().get(1) == Some(&b':');
    rooted && !path.contains(char::is_control) && !path.split(['/', '\\']).any(|part| part == "..")
}

/// One entry of `network_access`.
enum Network {
    Through(HttpAccess),
    Direct,
}

/// `None` only if a problem was reported.
fn access(node: Node<'_, '_>) -> Option<Network> {
    if !node.is_table() {
        return host(&node).map(|host| Network::Through(HttpAccess { hosts: HttpHosts::Named(host), private: false }));
    }
    let mut fields = node.fields()?;
    if let Some(direct) = fields.take("direct") {
        if direct.boolean() == Some(false) {
            direct.refuse("it asks for nothing", "remove the entry");
        }
        fields.finish();
        return Some(Network::Direct);
    }
    let (named, key) = (fields.take("host"), fields.take("config"));
    let default: Vec<String> = fields.strings("default").iter().filter_map(|(_, node)| host(node)).collect();
    let private = fields.take("private").and_then(|node| node.boolean()).unwrap_or(false);
    let hosts = match (named, key) {
        (Some(node), None) => {
            if !default.is_empty() {
                fields.refuse("default", "a host needs no default", "remove it; only config has one");
            }
            host(&node).map(HttpHosts::Named)
        }
        (None, Some(node)) => node.string().and_then(|key| {
            if !is_key(&key) {
                let fix = "write a key of the plugin's own table, such as base_url";
                node.refuse(format!("`{}` is no key of a configuration", shown(&key)), fix);
                return None;
            }
            Some(HttpHosts::Configured { key, default })
        }),
        _ => {
            fields.refuse(
                "",
                "a table here has exactly one of host, config and direct",
                "keep one of them; a list may hold several tables",
            );
            None
        }
    };
    fields.finish();
    Some(Network::Through(HttpAccess { hosts: hosts?, private }))
}

fn host(node: &Node<'_, '_>) -> Option<String> {
    let host = node.string()?;
    if !is_host(&host) {
        node.refuse(format!("`{}` is no host", shown(&host)), "write a name without scheme and path: api.example.com, *.example.com, or *");
        return None;
    }
    Some(host)
}

fn resources(mut fields: Fields<'_, '_>) -> Resources {
    let mut out = Resources::default();
    for limit in Resources::LIMITS {
        let number = fields.take(limit.key).and_then(|node| node.number(limit.least.into(), limit.most.into()));
        if let Some(value) = number.and_then(|n| u32::try_from(n).ok()) {
            limit.put(&mut out, value);
        }
    }
    fields.finish();
    out
}

/// A schema that may stand in the table of a plugin beside the keys of the host.
pub(crate) fn config_schema(node: &Node<'_, '_>) -> Option<Value> {
    if !node.is_table() {
        node.refuse("it is no schema", "write a JSON Schema of a table: type = \"object\" and properties");
        return None;
    }
    let schema = node.json()?;
    if let Err((message, fix)) = check_config_schema(&schema) {
        node.refuse(message, fix);
        return None;
    }
    Some(schema)
}

/// Whether a JSON Schema can be that of a plugin's table in the configuration, wherever it is written: it is of an object, and none of its
/// properties is a key of the host.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub fn check_config_schema(schema: &Value) -> Result<(), (String, String)> {
    let Some(fields) = schema.as_object() else {
        return Err(("it is no schema".into(), "write an object with type and properties".into()));
    };
    if fields.get("type").is_some_and(|of| of != "object") {
        return Err((format!("it is of type {}, and a configuration is a table", fields["type"]), "write \"object\" as type".into()));
    }
    let names = fields.get("properties").and_then(Value::as_object).into_iter().flatten().map(|(name, _)| name.as_str());
    match names.into_iter().find(|name| HOST_KEYS.contains(name)) {
        Some(name) => Err((
            format!("its property `{name}` is a key of the host in the table of every plugin"),
            format!("rename it: {} are the host's", HOST_KEYS.join(", ")),
        )),
        None => Ok(()),
    }
}

fn kind(node: &Node<'_, '_>) -> Option<Kind> {
    node.one_of("kind of contribution", Kind::ALL, Kind::name)
}

pub(crate) fn named(node: &Node<'_, '_>, check: fn(&str) -> Result<(), crate::NameError>) -> Option<String> {
    let name = node.string()?;
    if let Err(error) = check(&name) {
        node.refuse(error.message, error.fix);
        return None;
    }
    Some(name)
}

/// Text that stands in one cell of a table.
pub(crate) fn line(node: &Node<'_, '_>) -> Option<String> {
    let text = node.string()?;
    if text.trim().is_empty() || text.chars().any(char::is_control) || text.len() > 1000 {
        node.refuse("it is empty, long, or has line breaks", "write one line of at most 1000 bytes");
        return None;
    }
    Some(text)
}

/// A version of something that is no plugin: whatever its maker writes, without spaces.
fn word(node: &Node<'_, '_>) -> Option<String> {
    let text = node.string()?;
    if text.is_empty() || text.len() > 64 || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        node.refuse(format!("`{}` is no version", shown(&text)), "use 1 to 64 characters without spaces, such as 6.2 or v3");
        return None;
    }
    Some(text)
}

pub(crate) fn words(fields: &mut Fields<'_, '_>, key: &'static str) -> Vec<String> {
    let keep = |(word, node): (String, Node<'_, '_>)| {
        if word.trim().is_empty() || word.len() > 64 || word.chars().any(char::is_control) {
            node.refuse(format!("`{}` is no word to find a plugin by", shown(&word)), "use 1 to 64 characters");
        }
        word
    };
    fields.strings(key).into_iter().map(keep).collect()
}

pub(crate) fn version(node: &Node<'_, '_>) -> Option<Version> {
    let text = node.string()?;
    let version = Version::parse(&text);
    if let Err(error) = &version {
        node.refuse(format!("`{}` is no version: {error}", shown(&text)), "write MAJOR.MINOR.PATCH, such as 0.1.0");
    }
    version.ok()
}

fn from_crate(fields: &Fields<'_, '_>, text: &str) -> Option<Version> {
    let version = Version::parse(text);
    if let Err(error) = &version {
        fields.refuse(
            "version",
            &format!("it is missing, and the crate's `{}` is none: {error}", shown(text)),
            "write version = \"0.1.0\"",
        );
    }
    version.ok()
}

pub(crate) fn range(node: &Node<'_, '_>) -> Option<VersionReq> {
    let text = node.string()?;
    let range = VersionReq::parse(&text);
    if let Err(error) = &range {
        node.refuse(format!("`{}` is no range of versions: {error}", shown(&text)), "write one such as \"1\" or \">=1.2, <3\"");
    }
    range.ok()
}

pub(crate) fn address(node: &Node<'_, '_>) -> Option<String> {
    let url = node.string()?;
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    if !rest.is_some_and(|r| !r.is_empty() && !r.contains(|c: char| c.is_whitespace() || c.is_control())) {
        node.refuse(format!("`{}` is no address", shown(&url)), "begin with https:// and use no spaces");
        return None;
    }
    Some(url)
}

fn is_host(host: &str) -> bool {
    // The colons inside the brackets of an IPv6 address begin no port.
    let (name, port) = match host.rfind(':').filter(|at| !host[*at..].contains(']')) {
        Some(at) => (&host[..at], Some(&host[at + 1..])),
        None => (host, None),
    };
    if port.is_some_and(|port| port != "*" && !port.parse::<u16>().is_ok_and(|p| p > 0 && !port.starts_with('+'))) {
        return false;
    }
    if let Some(address) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let name = if name == "*" { "any" } else { name.strip_prefix("*.").unwrap_or(name) };
    let label = |l: &str| {
        (1..=63).contains(&l.len()) && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') && !l.starts_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// Words with dots between them.
fn is_key(key: &str) -> bool {
    let word = |w: &str| (1..=64).contains(&w.len()) && w.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    key.len() <= 256 && key.split('.').all(word)
}

fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn is_program(name: &str) -> bool {
    let bare = !name.is_empty() && !name.contains(['/', '\\']) && !name.starts_with('-');
    (bare || name.starts_with('/')) && !name.contains(|c: char| c.is_control() || c.is_whitespace())
}
