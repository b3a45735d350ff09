//! Which packs there are, and of which wheels: compiled in, so that what a program installs is decided when it is built. It names no
//! address, and says nothing of what is installed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, LazyLock},
};

use bespoke_fetch::Wheel;
use serde::Deserialize;

use crate::{
    error::Error,
    files,
    spec::{Set, Spec},
};

/// The packs that can be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    packs: Vec<Pack>,
}

/// One version of a pack for one platform.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pack {
    /// What it is.
    pub spec: Spec,
    /// Its version; it names the set where there are several, as `1.28.0+cu13`.
    pub version: String,
    /// For which system.
    pub platform: Platform,
    /// For which generation of NVIDIA's libraries.
    pub set: Option<Set>,
    /// The library to load, relative to the pack.
    pub library: String,
    /// What is loaded before it, in this order.
    pub preload: Vec<String>,
    /// Wheels of its own, unpacked into its folder.
    pub wheels: Vec<Arc<Pinned>>,
    /// Wheels of NVIDIA's, unpacked once for all packs.
    pub shared: Vec<Arc<Pinned>>,
}

/// A wheel, and under which terms its files are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pinned {
    /// Its bytes, and which of its members are used.
    pub wheel: Wheel,
    /// An SPDX expression; `LicenseRef-…` for terms that are not in that list.
    pub license: String,
    /// Whether a release may carry the files: the terms allow it, and the notices that they ask for are among the members. What it
    /// may not is only downloaded by its user.
    pub redistribute: bool,
}

/// A system that packs are built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[non_exhaustive]
pub enum Platform {
    /// Linux with glibc on x86-64.
    #[serde(rename = "linux-x86_64")]
    LinuxX86_64,
    /// Linux with glibc on 64-bit ARM.
    #[serde(rename = "linux-aarch64")]
    LinuxAarch64,
    /// macOS on Apple's processors.
    #[serde(rename = "macos-aarch64")]
    MacosAarch64,
}

static SHIPPED: LazyLock<Table> = LazyLock::new(|| {
    // The file is part of the program, and a test parses it.
    Table::parse(include_str!("../pins.toml")).unwrap_or_else(|e| unreachable!("{e}"))
});

impl Table {
    /// The table of this program.
    pub fn shipped() -> &'static Table {
        &SHIPPED
    }

    /// Reads a table and checks it: names, places and references.
    ///
    /// # Errors
    /// [`Error::Table`] says what is wrong.
    pub fn parse(text: &str) -> Result<Table, Error> {
        read(text).map_err(Error::Table)
    }

    /// All packs, of all platforms.
    pub fn packs(&self) -> &[Pack] {
        &self.packs
    }

    /// The packs of `spec` on `platform`; the newest set first.
    pub fn of(&self, spec: Spec, platform: Platform) -> impl Iterator<Item = &Pack> {
        let mut packs: Vec<&Pack> = self.packs.iter().filter(|pack| pack.spec == spec && pack.platform == platform).collect();
        packs.sort_by_key(|pack| std::cmp::Reverse(pack.set));
        packs.into_iter()
    }
}

impl Pack {
    /// All its wheels: NVIDIA's first, because they are kept when an installation is interrupted.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Pinned>> {
        self.shared.iter().chain(&self.wheels)
    }

    /// Bytes to download.
    pub fn download(&self) -> u64 {
        self.all().map(|pinned| pinned.wheel.size).sum()
    }

    /// Bytes on the disk.
    pub fn unpacked(&self) -> u64 {
        self.all().map(|pinned| pinned.unpacked()).sum()
    }

    /// The wheels that a release must not carry.
    pub fn not_redistributable(&self) -> impl Iterator<Item = &Pinned> {
        self.all().filter(|pinned| !pinned.redistribute).map(|pinned| &**pinned)
    }

    /// Where a member of a shared wheel lies in a pack: NVIDIA's files below `nvidia`, its licence beside the others.
    pub(crate) fn linked(to: &str) -> String {
        if to.starts_with("licenses/") { to.to_owned() } else { format!("nvidia/{to}") }
    }

    fn places(&self) -> impl Iterator<Item = String> {
        let own = self.wheels.iter().flat_map(|pinned| pinned.wheel.members.iter().map(|member| member.to.clone()));
        own.chain(self.shared.iter().flat_map(|pinned| pinned.wheel.members.iter().map(|member| Pack::linked(&member.to))))
    }
}

impl Pinned {
    /// Bytes of its members.
    pub fn unpacked(&self) -> u64 {
        self.wheel.members.iter().map(|member| member.size).sum()
    }
}

impl Platform {
    /// The system that this program is built for; `None` where there are no packs.
    pub fn current() -> Option<Self> {
        match (std::env::consts::OS, std::env::consts::ARCH) {
            // The wheels need glibc.
            ("linux", "x86_64") if cfg!(target_env = "gnu") => Some(Self::LinuxX86_64),
            ("linux", "aarch64") if cfg!(target_env = "gnu") => Some(Self::LinuxAarch64),
            ("macos", "aarch64") => Some(Self::MacosAarch64),
            _ => None,
        }
    }

    /// As it is written in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LinuxX86_64 => "linux-x86_64",
            Self::LinuxAarch64 => "linux-aarch64",
            Self::MacosAarch64 => "macos-aarch64",
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTable {
    packs: Vec<RawPack>,
    wheels: Vec<toml::Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPack {
    spec: Spec,
    version: String,
    platform: Platform,
    set: Option<Set>,
    library: String,
    #[serde(default)]
    preload: Vec<String>,
    #[serde(default)]
    wheels: Vec<String>,
    #[serde(default)]
    shared: Vec<String>,
}

#[derive(Deserialize)]
struct RawTerms {
    license: String,
    redistribute: bool,
}

fn read(text: &str) -> Result<Table, String> {
    let raw: RawTable = toml::from_str(text).map_err(|e| e.to_string())?;
    let mut wheels = BTreeMap::new();
    for entry in raw.wheels {
        let pinned = pinned(entry)?;
        let file = pinned.wheel.file.clone();
        if wheels.insert(file.clone(), Arc::new(pinned)).is_some() {
            return Err(format!("the wheel {file} stands twice"));
        }
    }
    let mut used = BTreeSet::new();
    let mut packs: Vec<Pack> = Vec::new();
    for raw in raw.packs {
        let pack = pack(raw, &wheels, &mut used)?;
        let same = |other: &Pack| (other.spec, other.platform, other.set) == (pack.spec, pack.platform, pack.set);
        if packs.iter().any(same) {
            return Err(format!("{} stands twice for {}", pack.spec, pack.platform));
        }
        packs.push(pack);
    }
    match wheels.into_keys().find(|file| !used.contains(file)) {
        Some(file) => Err(format!("no pack uses the wheel {file}")),
        None => Ok(Table { packs }),
    }
}

/// The terms stand beside what makes a wheel, which knows only its own keys.
fn pinned(mut entry: toml::Table) -> Result<Pinned, String> {
    let mut terms = toml::Table::new();
    for key in ["license", "redistribute"] {
        terms.extend(entry.remove(key).map(|value| (key.to_owned(), value)));
    }
    let shown = entry.get("file").map_or_else(|| "a wheel".to_owned(), ToString::to_string);
    let wrong = |e: toml::de::Error| format!("{shown}: {}", e.message());
    let RawTerms { license, redistribute } = terms.try_into().map_err(wrong)?;
    let wheel: Wheel = entry.try_into().map_err(wrong)?;
    for part in [&wheel.project, &wheel.version] {
        if !files::is_name(part) {
            return Err(format!("{shown}: {part:?} is no name of a folder"));
        }
    }
    Ok(Pinned { wheel, license, redistribute })
}

fn pack(raw: RawPack, wheels: &BTreeMap<String, Arc<Pinned>>, used: &mut BTreeSet<String>) -> Result<Pack, String> {
    let RawPack { spec, version, platform, set, library, preload, wheels: own, shared } = raw;
    let shown = format!("{spec} {version} for {platform}");
    if !files::is_name(&version) {
        return Err(format!("{shown}: the version is no name of a folder"));
    }
    if set.is_some_and(|set| !version.ends_with(&format!("+{set}"))) {
        return Err(format!("{shown}: the version does not name the set"));
    }
    let mut take = |files: Vec<String>| -> Result<Vec<Arc<Pinned>>, String> {
        let found = files.into_iter().map(|file| {
            let pinned = wheels.get(&file).ok_or_else(|| format!("{shown}: there is no wheel {file}"))?;
            used.insert(file);
            Ok(Arc::clone(pinned))
        });
        found.collect()
    };
    let pack = Pack { spec, version, platform, set, library, preload, wheels: take(own)?, shared: take(shared)? };
    let mut places = BTreeSet::new();
    for place in pack.places() {
        if !files::is_relative(&place) || [files::PACK, files::WRONG].contains(&place.as_str()) {
            return Err(format!("{shown}: {place:?} is no place in a pack"));
        }
        if let Some(twice) = places.replace(place) {
            return Err(format!("{shown}: {twice} comes from two members"));
        }
    }
    if let Some(absent) = std::iter::once(&pack.library).chain(&pack.preload).find(|path| !places.contains(*path)) {
        return Err(format!("{shown}: {absent} is in none of its wheels"));
    }
    Ok(pack)
}
