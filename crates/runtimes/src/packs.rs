//! The packs of a folder: what is there, what could be, what installing would take, and where a library is. Loads nothing.

use std::path::{Path, PathBuf};

use bespoke_fetch::{Fetcher, Store};

use crate::{
    error::Error,
    files,
    layout::{Root, Version},
    shared,
    spec::{Set, Spec},
    table::{Pack, Platform, Table},
    version,
};

/// The packs below one folder, and those that came with the program.
#[derive(Clone, Debug)]
pub struct Packs {
    /// How wheels are fetched: index, folders to copy from, limits, offline. Its store lies at the root of the packs.
    pub fetcher: Fetcher,
    /// What of the runtimes the program can use.
    pub features: Features,
    /// The system that packs are for; `None` where there are none.
    pub platform: Option<Platform>,
    /// Bytes that are free on the disk of a path; `None` where nobody says, and then it is not asked.
    pub free_space: fn(&Path) -> Option<u64>,
    /// Whether packs get hard links to what they share, where the file system has them. Default true; else symbolic ones.
    pub hard_links: bool,
    pub(crate) table: Table,
    pub(crate) root: Root,
    pub(crate) bundled: Option<Root>,
}

/// What of the runtimes a program can use. The others are listed, and not installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// `onnx:…`
    pub onnx: bool,
    /// `xla:…`
    pub xla: bool,
    /// `cuda:…`
    pub cuda: bool,
}

/// A line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Row {
    /// The pack.
    pub spec: Spec,
    /// Whether it is there.
    pub state: State,
    /// The version in use; where none is, the one that would be installed.
    pub version: Option<String>,
    /// All versions that are installed.
    pub versions: Vec<String>,
    /// The version before the one in use, to which can be gone back.
    pub previous: Option<String>,
    /// The version that this program would install for the set in use.
    pub pinned: Option<String>,
    /// What is installed is older than the pinned one: [`Packs::update`] would bring a newer one.
    pub outdated: bool,
    /// Bytes on the disk: of the version in use, or of the one that would be installed. What packs share counts in each.
    pub size: Option<u64>,
    /// Bytes to download, where it is not installed.
    pub download: Option<u64>,
    /// The folder of the version in use.
    pub path: Option<PathBuf>,
}

/// Whether a pack can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// Installed, with all its files.
    Installed,
    /// Came with the program.
    Bundled,
    /// Could be installed.
    Available,
    /// Installed, and this is wrong with it.
    Broken(String),
    /// The program lacks this feature.
    NeedsFeature(&'static str),
    /// There are no wheels of it for this system.
    NotForPlatform,
}

/// What installing would do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// The pack.
    pub spec: Spec,
    /// The version that would be installed.
    pub version: String,
    /// For which generation of NVIDIA's libraries.
    pub set: Option<Set>,
    /// Where it would lie.
    pub folder: PathBuf,
    /// It is in use already; nothing would be done.
    pub installed: bool,
    /// What has to be fetched.
    pub wheels: Vec<NeededWheel>,
    /// Bytes to download.
    pub download: u64,
    /// Bytes that it will take on the disk, beside what is there already.
    pub disk: u64,
    /// Bytes that it takes while it is being installed: a wheel lies beside what is unpacked from it.
    pub peak: u64,
    /// Bytes that are free; `None` where nobody says.
    pub free: Option<u64>,
}

/// A wheel that has to be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NeededWheel {
    /// The project in the index.
    pub project: String,
    /// Its version.
    pub version: String,
    /// The name of the wheel.
    pub file: String,
    /// Its bytes.
    pub size: u64,
    /// Bytes of what is unpacked from it.
    pub unpacked: u64,
    /// The terms of its files.
    pub license: String,
    /// A copy in a folder that was named with the command; it is not downloaded.
    pub local: Option<PathBuf>,
}

/// Where a pack came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Installed by its user.
    Installed,
    /// Beside the program.
    Bundled,
}

/// A pack that can be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// The pack.
    pub spec: Spec,
    /// Its version.
    pub version: String,
    /// For which generation of NVIDIA's libraries.
    pub set: Option<Set>,
    /// Where it came from.
    pub origin: Origin,
    /// The folder in which all of it lies.
    pub folder: PathBuf,
    /// The library, by its absolute path.
    pub library: PathBuf,
    /// What is loaded before it, in this order, by absolute paths.
    pub preload: Vec<PathBuf>,
    /// Why the installed one was passed over for the bundled one.
    pub passed_over: Option<String>,
}

impl Packs {
    /// The packs below `root`, of the table and with the features of this program. The folder is made when something is installed.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        Packs {
            fetcher: Fetcher::new(Store::new(&root)),
            features: Features::compiled_in(),
            platform: Platform::current(),
            free_space: files::free_space,
            hard_links: true,
            table: Table::shipped().clone(),
            root: Root(root),
            bundled: None,
        }
    }

    /// Those in `folder` count, too, where nothing is installed. It has the same layout, and is only read.
    #[must_use]
    pub fn with_bundled(mut self, folder: impl Into<PathBuf>) -> Self {
        self.bundled = Some(Root(folder.into()));
        self
    }

    /// Of another table.
    #[must_use]
    pub fn with_table(mut self, table: Table) -> Self {
        self.table = table;
        self
    }

    /// The folder of the packs.
    pub fn root(&self) -> &Path {
        &self.root.0
    }

    /// The table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Every pack, and whether it can be used. Looks at names and sizes of files only.
    pub fn rows(&self) -> Vec<Row> {
        Spec::ALL.map(|spec| self.row(spec)).into()
    }

    /// One line of [`Packs::rows`].
    pub fn row(&self, spec: Spec) -> Row {
        let active = self.root.active(spec).ok().flatten();
        let mut row = Row {
            spec,
            state: State::Available,
            version: None,
            versions: self.root.versions(spec),
            previous: active.as_ref().and_then(|active| active.previous.clone()),
            pinned: None,
            outdated: false,
            size: None,
            download: None,
            path: None,
        };
        let (mut set, mut installed) = (None, None);
        if let Some(active) = active {
            let whole = self.root.whole(spec, &active.version);
            let recorded = self.root.recorded(spec, &active.version).ok();
            set = version::set(&active.version);
            row.size = recorded.map(|found| found.record.size());
            row.path = self.root.version(spec, &active.version).ok();
            installed = Some(active.version.clone());
            row.version = Some(active.version);
            row.state = match whole {
                Ok(_) => State::Installed,
                Err(why) => State::Broken(why),
            };
        } else if let Some((_, found)) = self.bundled(spec) {
            set = found.record.set;
            row.state = State::Bundled;
            row.size = Some(found.record.size());
            row.version = Some(found.record.version);
            row.path = Some(found.folder);
        }
        let pinned = self.pinned(spec, set).or_else(|| self.pinned(spec, None));
        row.pinned = pinned.map(|pack| pack.version.clone());
        row.outdated = installed.zip(pinned).is_some_and(|(installed, pack)| version::is_older(&installed, &pack.version));
        if row.state == State::Available {
            match pinned {
                Some(pack) => {
                    row.version = Some(pack.version.clone());
                    row.size = Some(pack.unpacked());
                    row.download = Some(pack.download());
                }
                None => row.state = State::NotForPlatform,
            }
        }
        // One that is broken needs the feature to be repaired, and then that is what to say first.
        if !self.features.carry(spec) && row.state != State::NotForPlatform {
            row.state = State::NeedsFeature(spec.runtime());
        }
        row
    }

    /// What [`Packs::install`] would do. Downloads and changes nothing.
    ///
    /// # Errors
    /// [`Error::Feature`], [`Error::Platform`], [`Error::Set`]; [`Error::Link`] where a link stands in the way.
    pub fn plan(&self, spec: Spec, set: Option<Set>) -> Result<Plan, Error> {
        let pack = self.choose(spec, set)?;
        let active = self.root.active(spec)?;
        let in_use = active.is_some_and(|active| active.version == pack.version);
        let there = self.root.whole(spec, &pack.version).is_ok();
        let mut wheels = Vec::new();
        for pinned in pack.all() {
            let shared = pack.shared.iter().any(|other| other.wheel.file == pinned.wheel.file);
            if there || (shared && shared::read(&self.root, pinned)?.is_some()) {
                continue;
            }
            let wheel = &pinned.wheel;
            wheels.push(NeededWheel {
                project: wheel.project.clone(),
                version: wheel.version.clone(),
                file: wheel.file.clone(),
                size: wheel.size,
                unpacked: pinned.unpacked(),
                license: pinned.license.clone(),
                local: self.local(&wheel.file),
            });
        }
        let largest = wheels.iter().filter(|wheel| wheel.local.is_none()).map(|wheel| wheel.size).max().unwrap_or(0);
        let disk = wheels.iter().map(|wheel| wheel.unpacked).sum();
        Ok(Plan {
            spec,
            version: pack.version.clone(),
            set: pack.set,
            folder: self.root.version(spec, &pack.version)?,
            installed: in_use && there,
            download: wheels.iter().filter(|wheel| wheel.local.is_none()).map(|wheel| wheel.size).sum(),
            disk,
            peak: if wheels.is_empty() { 0 } else { disk + largest + SLACK },
            free: (self.free_space)(&self.root.0),
            wheels,
        })
    }

    /// The library of a pack: of the version in use, else of the one that came with the program.
    ///
    /// # Errors
    /// [`Error::NotInstalled`], [`Error::Broken`]; both name the command that helps.
    pub fn find(&self, spec: Spec) -> Result<Found, Error> {
        let mut broken = None;
        if let Some(active) = self.root.active(spec)? {
            match self.root.loadable(spec, &active.version) {
                Ok(version) => return found(Origin::Installed, version, None),
                Err(why) => broken = Some((active.version, why)),
            }
        }
        let bundled = self.bundled(spec).map(|(root, version)| (root.loadable(spec, &version.record.version), version.record.version));
        match (bundled, broken) {
            (Some((Ok(version), _)), broken) => {
                found(Origin::Bundled, version, broken.map(|(version, why)| format!("{version} is broken: {why}")))
            }
            (_, Some((version, why))) | (Some((Err(why), version)), None) => Err(Error::Broken { spec, version, why }),
            (None, None) => Err(Error::NotInstalled { spec }),
        }
    }

    /// The pack that would be installed: of the set that is asked for, else of the newest.
    pub(crate) fn choose(&self, spec: Spec, set: Option<Set>) -> Result<&Pack, Error> {
        if !self.features.carry(spec) {
            return Err(Error::Feature { spec });
        }
        if let Some(pack) = self.pinned(spec, set) {
            return Ok(pack);
        }
        match set {
            Some(set) if self.pinned(spec, None).is_some() => Err(Error::Set { spec, set }),
            _ => {
                let mut offered: Vec<Platform> =
                    self.table.packs().iter().filter(|pack| pack.spec == spec).map(|pack| pack.platform).collect();
                offered.dedup();
                Err(Error::Platform { spec, platform: self.platform, offered })
            }
        }
    }

    /// A pack without sets is for all of them.
    pub(crate) fn pinned(&self, spec: Spec, set: Option<Set>) -> Option<&Pack> {
        let fits = |pack: &&Pack| set.is_none() || pack.set.is_none() || pack.set == set;
        self.table.of(spec, self.platform?).find(fits)
    }

    /// The version that came with the program: the one that is marked, else the pinned one, else any.
    pub(crate) fn bundled(&self, spec: Spec) -> Option<(&Root, Version)> {
        let root = self.bundled.as_ref()?;
        let marked = root.active(spec).ok().flatten().map(|active| active.version);
        let pinned = self.platform.into_iter().flat_map(|platform| self.table.of(spec, platform)).map(|pack| pack.version.clone());
        let mut candidates = marked.into_iter().chain(pinned).chain(root.versions(spec).into_iter().rev());
        candidates.find_map(|version| root.whole(spec, &version).ok()).map(|version| (root, version))
    }

    /// A wheel in one of the folders that were named with the command.
    fn local(&self, file: &str) -> Option<PathBuf> {
        let named = |path: &PathBuf| if path.is_dir() { path.join(file) } else { path.clone() };
        self.fetcher.from.iter().map(named).find(|path| path.file_name().is_some_and(|name| name == file) && path.is_file())
    }
}

/// What the records and the names of files take.
const SLACK: u64 = 1 << 20;

impl Features {
    /// All of them.
    pub const ALL: Features = Features { onnx: true, xla: true, cuda: true };

    /// Those that this crate is built with.
    pub fn compiled_in() -> Self {
        Features { onnx: cfg!(feature = "onnx"), xla: cfg!(feature = "xla"), cuda: cfg!(feature = "cuda") }
    }

    /// Whether a pack is of use.
    pub fn carry(self, spec: Spec) -> bool {
        match spec {
            Spec::OnnxCpu | Spec::OnnxCuda => self.onnx,
            Spec::XlaCpu | Spec::XlaCuda | Spec::XlaTpu => self.xla,
            Spec::CudaNvrtc => self.cuda,
        }
    }
}

impl Origin {
    /// `installed` or `bundled`.
    pub fn as_str(self) -> &'static str {
        match self {
            Origin::Installed => "installed",
            Origin::Bundled => "bundled",
        }
    }
}

fn found(origin: Origin, version: Version, passed_over: Option<String>) -> Result<Found, Error> {
    // Loaders look for a relative path in places of their own.
    let folder = std::path::absolute(&version.folder).map_err(Error::io("look at", &version.folder))?;
    let record = version.record;
    Ok(Found {
        spec: record.spec,
        version: record.version,
        set: record.set,
        origin,
        library: folder.join(&record.library),
        preload: record.preload.iter().map(|path| folder.join(path)).collect(),
        folder,
        passed_over,
    })
}
