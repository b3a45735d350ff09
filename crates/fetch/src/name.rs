//! Which names are safe: relative paths that stay inside their folder, and package specs that pin one version.
//!
//! Not a path library: a name that fails here is refused, never repaired.

/// Why `name` may not be joined to a folder, or `None` when it may.
///
/// Stricter than the operating system needs, so that one pin table means the same on all of them: components are
/// separated by `/`, none is empty, `.`, `..` or starts with a dot (the store keeps its own folders under such names),
/// none holds a backslash, a colon or a control character, and none ends in a dot or a space.
pub(crate) fn path_problem(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("is empty".to_owned());
    }
    if name.len() > 512 {
        return Some("is longer than 512 bytes".to_owned());
    }
    if name.starts_with('/') {
        return Some("is absolute; give a path relative to the plugin's folder".to_owned());
    }
    for part in name.split('/') {
        let problem = match part {
            "" => "has an empty component",
            "." | ".." => "has a component that leaves its folder",
            _ if part.starts_with('.') => "has a component that starts with a dot",
            _ if part.ends_with(['.', ' ']) => "has a component that ends in a dot or a space",
            _ if part.contains(['\\', ':']) => "holds a backslash or a colon",
            _ if part.chars().any(char::is_control) => "holds a control character",
            _ => continue,
        };
        return Some(problem.to_owned());
    }
    None
}

/// Why `spec` is not `name==version`, or `None` when it is.
///
/// A spec reaches a command line: one that begins with `-` would be an option, one with `@`, `/` or `://` would point
/// pip at a URL or a folder and could build code.
pub(crate) fn pip_problem(spec: &str) -> Option<String> {
    let wanted = "must read name==version, with one exact version";
    let Some((name, version)) = spec.split_once("==") else { return Some(wanted.to_owned()) };
    let good = starts_alphanumeric(name) && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) && is_version(version);
    (!good).then(|| wanted.to_owned())
}

/// Why `spec` is not `name@version` or `@scope/name@version`, or `None` when it is.
///
/// A tag (`@latest`), a range or a git address is refused: the first two do not pin, the last runs scripts.
pub(crate) fn npm_problem(spec: &str) -> Option<String> {
    let wanted = "must read name@version or @scope/name@version, with one exact version";
    let Some((name, version)) = spec.rsplit_once('@') else { return Some(wanted.to_owned()) };
    let plain = |part: &str| starts_alphanumeric(part) && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-~".contains(c));
    let named = match name.strip_prefix('@') {
        Some(scoped) => scoped.split_once('/').is_some_and(|(scope, name)| plain(scope) && plain(name)),
        None => plain(name),
    };
    let good = named && is_version(version) && version.starts_with(|c: char| c.is_ascii_digit());
    (!good).then(|| wanted.to_owned())
}

/// Why `name` cannot be a regular file's path in an archive, or `None`.
///
/// Member names are only compared, never joined to a folder, but one that climbs is a mistake or an attack.
pub(crate) fn member_problem(name: &str) -> Option<&'static str> {
    let climbs = name.is_empty() || name.starts_with('/') || name.contains('\\') || name.split('/').any(|part| part == "..");
    climbs.then_some("must be a path inside the archive")
}

/// The parts of a wheel's file name: `project-version(-build)-python-abi-platform.whl`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WheelName {
    project: String,
    version: String,
    /// Tags of the Pythons, for example `cp312` or `py2` and `py3`.
    pub(crate) python: Vec<String>,
    /// Tags of the binary interfaces, for example `cp312`, `abi3`, `none`.
    pub(crate) abi: Vec<String>,
    /// Tags of the platforms, for example `manylinux_2_28_x86_64`, `any`.
    pub(crate) platform: Vec<String>,
}

impl WheelName {
    pub(crate) fn parse(file: &str) -> Option<Self> {
        let stem = file.strip_suffix(".whl")?;
        if !stem.chars().all(|c| c.is_ascii_alphanumeric() || "-_.+!".contains(c)) {
            return None;
        }
        let parts: Vec<&str> = stem.split('-').collect();
        let (project, version, [python, abi, platform]) = match parts[..] {
            [project, version, a, b, c] | [project, version, _, a, b, c] => (project, version, [a, b, c]),
            _ => return None,
        };
        if parts.iter().any(|part| part.is_empty()) || !starts_alphanumeric(project) {
            return None;
        }
        let tags = |text: &str| text.split('.').map(str::to_ascii_lowercase).collect();
        let (project, version) = (normalised(project), version.to_ascii_lowercase());
        Some(Self { project, version, python: tags(python), abi: tags(abi), platform: tags(platform) })
    }

    /// Whether it is a wheel of this version of this project.
    pub(crate) fn is_of(&self, project: &str, version: &str) -> bool {
        self.project == normalised(project) && self.version == version.to_ascii_lowercase().replace('-', "_")
    }

    /// A Python that takes the wheel, as pip's `--python-version` has it: `3.12` for `cp312`. None for `py3`.
    pub(crate) fn python_version(&self) -> Option<String> {
        let version = self.python.iter().find_map(|tag| tag.strip_prefix("cp"))?;
        let (major, minor) = (version.get(..1)?, version.get(1..)?);
        Some(if minor.is_empty() { major.to_owned() } else { format!("{major}.{minor}") })
    }
}

/// Whether `value` may stand as the value of a pip option such as `--platform`.
pub(crate) fn is_tag(value: &str) -> bool {
    starts_alphanumeric(value) && value.chars().all(|c| c.is_ascii_alphanumeric() || "._".contains(c))
}

/// The beginnings that an archive of `spec` has as a file: lower case, runs of `-`, `_`, `.` in the name as one `_`.
pub(crate) fn normalised(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let c = if "-_.".contains(c) { '_' } else { c.to_ascii_lowercase() };
        if !(c == '_' && out.ends_with('_')) {
            out.push(c);
        }
    }
    out
}

fn starts_alphanumeric(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

fn is_version(text: &str) -> bool {
    starts_alphanumeric(text) && text.chars().all(|c| c.is_ascii_alphanumeric() || ".+!_-".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_stay_inside_pass() {
        for good in ["a", "silero_vad.onnx", "onnx/encoder.onnx", "a b/c-d", "é.bin"] {
            assert_eq!(path_problem(good), None, "{good}");
        }
        for bad in ["", "/etc/passwd", "..", "a/../b", "a//b", "./a", "a/", "a\\b", "C:x", ".lock", "a/.b", "a\0", "x.", "x "] {
            assert!(path_problem(bad).is_some(), "{bad:?}");
        }
    }

    #[test]
    fn only_exact_versions_pass() {
        for good in ["silero-vad==6.2.3", "a==1!2.0.post1+local", "useful-moonshine-onnx==20251121"] {
            assert_eq!(pip_problem(good), None, "{good}");
        }
        for bad in ["silero-vad", "a>=1", "-r==1", "a==", "a==1 --pre", "a @ https://x", "a==1.*", "git+https://x==1"] {
            assert!(pip_problem(bad).is_some(), "{bad}");
        }
        for good in ["is-number@7.0.0", "@scope/some.name@0.1.21", "x@1.0.0-rc.1"] {
            assert_eq!(npm_problem(good), None, "{good}");
        }
        for bad in ["is-number", "x@latest", "x@^1", "@scope@1.0.0", "@a/b/c@1", "--x@1", "github:a/b@1", "./x@1"] {
            assert!(npm_problem(bad).is_some(), "{bad}");
        }
    }
}
