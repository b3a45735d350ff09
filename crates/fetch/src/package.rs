//! Package archives from an index, through pip and through npm: downloaded once a run, never unpacked as a whole, never
//! run.
//!
//! Without an index, which one is used, with which proxy, certificates and credentials, is decided by the user's pip and
//! npm, as they are set up.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    Fetcher, Index, Limits, Package, Sha256, Tools, child,
    client::{Client, Question},
    download,
    error::{Error, Failure, Stop},
    index, node,
    page::{self, Link},
    place::{self, Staging, TargetLock},
    progress::{Phase, Watch},
    sink::{self, Want},
};

/// The largest page of an index. The largest projects have some ten thousand files, in some ten megabytes.
const PAGE: u64 = 64 * 1024 * 1024;

/// Where the parts and locks of wheels lie: no plugin has a name with a dot in front.
const WHEELS: &str = ".wheels";

/// The archives of one run. They live in a staging folder that ends with it.
pub(crate) struct Depot<'f> {
    root: &'f Path,
    tools: &'f Tools,
    limits: &'f Limits,
    index: Option<&'f Index>,
    client: Client,
    staging: Option<Staging>,
    /// What was downloaded or failed, so that the second pin out of an archive costs nothing, nor does its failure.
    archives: HashMap<Key, Result<PathBuf, Failure>>,
    /// npm as obtained through pip.
    own_npm: Option<Result<Vec<OsString>, Failure>>,
}

/// Everything that decides which archive is downloaded.
type Key = (Registry, String, Vec<String>, Option<String>, Option<Sha256>);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Registry {
    Pip,
    Npm,
}

/// The part of a wheel, for whom it is locked.
struct Part {
    path: PathBuf,
    _lock: TargetLock,
}

/// What an index or pip is asked for.
#[derive(Default)]
pub(crate) struct Ask<'a> {
    pub(crate) project: &'a str,
    pub(crate) version: &'a str,
    /// The wheel's exact file name, where it is known. pip is told its tags instead.
    pub(crate) file: Option<&'a str>,
    /// Bytes of the archive.
    pub(crate) size: Option<u64>,
    /// Any of these; empty: unchecked here.
    pub(crate) hashes: &'a [Sha256],
    pub(crate) platform: &'a [String],
    pub(crate) python_version: Option<&'a str>,
    /// As what a download is reported.
    pub(crate) phase: Phase,
}

impl<'f> Depot<'f> {
    pub(crate) fn new(fetcher: &'f Fetcher) -> Self {
        let Fetcher { store, index, limits, tools, .. } = fetcher;
        let (index, client) = (index.as_ref(), Client::new(limits, index.as_ref()));
        Self { root: &store.root, tools, limits, index, client, staging: None, archives: HashMap::new(), own_npm: None }
    }

    /// What downloads of this run are made with.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// A new empty folder on the file system of the root, gone with this depot.
    pub(crate) fn scratch(&mut self, name: &str) -> Result<PathBuf, Error> {
        let staging = match &mut self.staging {
            Some(staging) => staging,
            none => none.insert(Staging::open(self.root)?),
        };
        staging.folder(name)
    }

    /// The wheel of `package`.
    pub(crate) fn wheel(&mut self, package: &Package, watch: &mut Watch<'_>) -> Result<PathBuf, Stop> {
        self.once(Registry::Pip, package, |depot| {
            let hashes: Vec<_> = package.archive_sha256.into_iter().collect();
            // Checked with the pin that the package stands in.
            let (project, version) = package.spec.split_once("==").unwrap_or((&package.spec, ""));
            let ask = Ask {
                project,
                version,
                file: None,
                size: package.archive_size,
                hashes: &hashes,
                platform: &package.platform,
                python_version: package.python_version.as_deref(),
                phase: Phase::Downloading,
            };
            depot.archive(&ask, watch)
        })
    }

    /// The wheel that is asked for: out of the index, or through pip when none is set. Of the pinned digest, if there
    /// is one.
    pub(crate) fn archive(&mut self, ask: &Ask<'_>, watch: &mut Watch<'_>) -> Result<PathBuf, Stop> {
        let path = match self.index {
            Some(index) => {
                let (path, verified) = self.through_index(index, ask, watch)?;
                if verified {
                    return Ok(path);
                }
                path
            }
            None => self.pip(ask, watch)?,
        };
        let Some(pinned) = ask.hashes.first().copied() else { return Ok(path) };
        let size = fs::metadata(&path).map_err(Error::io("read", &path))?.len();
        let got = sink::digest_watched(&path, size, Phase::Verifying, watch)?;
        if ask.hashes.contains(&got) { Ok(path) } else { Err(Failure::Digest { got, pinned }.into()) }
    }

    /// The wheel, and whether it was compared with a pinned digest on its way.
    fn through_index(&mut self, index: &Index, ask: &Ask<'_>, watch: &mut Watch<'_>) -> Result<(PathBuf, bool), Stop> {
        let (link, question) = self.look_up(index, ask, watch)?;
        // One pinned digest is the one; of several, or without any, the page's at least tells a whole file from a part.
        let listed = link.sha256.filter(|digest| ask.hashes.is_empty() || ask.hashes.contains(digest));
        let sha256 = if let [only] = ask.hashes { Some(*only) } else { listed };
        let want = Want { size: ask.size, cap: self.limits.archive_bytes, sha256 };
        let done = self.scratch("index-")?.join(&link.name);
        let Some(digest) = sha256 else {
            download::fetch(&self.client, &question, &want, &done, ask.phase, watch)?;
            return Ok((done, false));
        };
        // Two pins, in two processes, may need the same wheel: one of them at a time.
        let part = part_of(self.root, &link.name, digest, self.limits.lock_wait, watch)?;
        watch.restart();
        place::make_parent(&part.path)?;
        download::fetch(&self.client, &question, &want, &part.path, ask.phase, watch)?;
        fs::rename(&part.path, &done).map_err(Error::io("write", &done))?;
        Ok((done, !ask.hashes.is_empty()))
    }

    /// What the index says of the wheel, and how it is asked for.
    fn look_up(&mut self, index: &Index, ask: &Ask<'_>, watch: &mut Watch<'_>) -> Result<(Link, Question), Stop> {
        let page = self.scratch("page-")?.join("page");
        let question = Question::new(index.page(ask.project), Some(page::ACCEPT));
        let want = Want { size: None, cap: PAGE, sha256: None };
        let arrived = download::fetch(&self.client, &question, &want, &page, Phase::Looking, watch).map_err(|stop| match stop {
            Stop::Source(Failure::Status(404)) => {
                Failure::NotListed(format!("the index has no project {} (HTTP status 404)", ask.project)).into()
            }
            other => other,
        })?;
        let bytes = fs::read(&page).map_err(Error::io("read", &page))?;
        let links = page::links(&bytes, &arrived.content_type, &arrived.url)
            .map_err(|why| Failure::NotListed(format!("the index cannot be used for {}: {why}", ask.project)))?;
        let count = links.len();
        let link = index::select(links, ask).ok_or_else(|| -> Stop {
            let wanted = match ask.file {
                Some(file) => file.to_owned(),
                None => format!("wheel of version {} for this platform", ask.version),
            };
            Failure::NotListed(format!("the index lists {count} files of {}, but no {wanted}", ask.project)).into()
        })?;
        let question = Question::linked(link.url.clone(), &question.url, &arrived.url);
        Ok((link, question))
    }

    /// The archive that npm packs for `package`.
    pub(crate) fn tarball(&mut self, package: &Package, watch: &mut Watch<'_>) -> Result<PathBuf, Stop> {
        self.once(Registry::Npm, package, |depot| {
            let mut tried = Vec::new();
            for npm in &depot.tools.npm {
                match depot.npm(npm, package, watch)? {
                    Packed::Archive(path) => return Ok(path),
                    Packed::NotThere(why) => tried.push(why),
                }
            }
            if !depot.tools.npm_through_pip {
                return Err(no_npm(&tried).into());
            }
            match depot.npm_through_pip(watch) {
                Ok(npm) => match depot.npm(&npm, package, watch)? {
                    Packed::Archive(path) => Ok(path),
                    Packed::NotThere(why) => Err(no_npm(&[why]).into()),
                },
                Err(Stop::Source(failure)) => {
                    tried.push(format!("{} through pip ({failure})", node::SPEC));
                    Err(no_npm(&tried).into())
                }
                Err(fatal) => Err(fatal),
            }
        })
    }

    /// Downloads a wheel through pip.
    fn pip(&mut self, ask: &Ask<'_>, watch: &mut Watch<'_>) -> Result<PathBuf, Stop> {
        // The folder also holds pip's second copy, and then one less: never show more than there is, nor a step back.
        let (most, mut shown) = (ask.size.unwrap_or(u64::MAX), 0);
        let mut step = |size: u64| {
            shown = size.min(most).max(shown);
            watch.step(ask.phase, shown, ask.size)
        };
        let spec = format!("{}=={}", ask.project, ask.version);
        let folder = self.scratch("pip-")?;
        let (out, temporary) = (folder.join("out"), folder.join("tmp"));
        for made in [&out, &temporary] {
            fs::create_dir(made).map_err(Error::io("create", made))?;
        }
        let mut tried = Vec::new();
        for pip in &self.tools.pip {
            let Some(mut command) = start(pip) else { continue };
            command.args(["download", "--quiet", "--no-deps", "--only-binary=:all:", "--no-input"]);
            command.arg("--disable-pip-version-check").arg("--dest").arg(&out);
            for tag in ask.platform {
                command.arg("--platform").arg(tag);
            }
            match ask.python_version {
                Some(version) => command.arg("--python-version").arg(version),
                // The wheel is data to us: which Pythons could run it does not matter.
                None => command.arg("--ignore-requires-python"),
            };
            if ask.hashes.is_empty() {
                command.arg(&spec);
            } else {
                let hashes: String = ask.hashes.iter().map(|hash| format!(" --hash=sha256:{hash}")).collect();
                let list = folder.join("requirements.txt");
                fs::write(&list, format!("{spec}{hashes}\n")).map_err(Error::io("write", &list))?;
                command.arg("--require-hashes").arg("--requirement").arg(&list);
            }
            // pip downloads into its temporary folder; inside ours it can be watched, and is removed with it.
            for variable in ["TMPDIR", "TEMP", "TMP"] {
                command.env(variable, &temporary);
            }
            // Fail fast: pip's own five retries take a minute against a dead host.
            unless_set(&mut command, "PIP_RETRIES", "1");
            command.env("NO_COLOR", "1");
            let bound = self.limits.archive_bytes.saturating_mul(2); // the temporary copy and the final one
            match child::run(command, &folder, bound, &mut step)? {
                child::Ran::Success => return only_file(&out, ".whl"),
                child::Ran::NotThere(why) => tried.push(why),
                child::Ran::Failed(failure) => return Err(hash_refusal(failure).into()),
            }
        }
        Err(Failure::NoTool { tool: "pip", tried: listed(&tried), package: "python3-pip" }.into())
    }

    fn npm(&mut self, npm: &[OsString], package: &Package, watch: &mut Watch<'_>) -> Result<Packed, Stop> {
        let folder = self.scratch("npm-")?;
        let out = folder.join("out");
        fs::create_dir(&out).map_err(Error::io("create", &out))?;
        let Some(mut command) = start(npm) else { return Ok(Packed::NotThere("an empty command".to_owned())) };
        command.args(["pack", "--ignore-scripts", "--loglevel=error", "--pack-destination"]).arg(&out);
        command.arg(&package.spec);
        command.env("npm_config_update_notifier", "false").env("npm_config_progress", "false").env("NO_COLOR", "1");
        unless_set(&mut command, "npm_config_fetch_retries", "1");
        unless_set(&mut command, "npm_config_fetch_retry_mintimeout", "1000");
        let mut step = |done: u64| {
            // npm packs in memory and writes at the end: until then there is nothing to count.
            let total = package.archive_size.filter(|_| done > 0);
            watch.step(Phase::Downloading, done, total)
        };
        match child::run(command, &folder, self.limits.archive_bytes, &mut step)? {
            child::Ran::Success => only_file(&out, ".tgz").map(Packed::Archive),
            child::Ran::NotThere(why) => Ok(Packed::NotThere(why)),
            child::Ran::Failed(failure) => Err(failure.into()),
        }
    }

    fn npm_through_pip(&mut self, watch: &mut Watch<'_>) -> Result<Vec<OsString>, Stop> {
        if let Some(known) = &self.own_npm {
            return known.clone().map_err(Stop::from);
        }
        let got = node::fetch(self, watch);
        self.own_npm = remembered(&got);
        got
    }

    fn once(
        &mut self,
        registry: Registry,
        package: &Package,
        get: impl FnOnce(&mut Self) -> Result<PathBuf, Stop>,
    ) -> Result<PathBuf, Stop> {
        let Package { spec, platform, python_version, archive_sha256, .. } = package.clone();
        let key = (registry, spec, platform, python_version, archive_sha256);
        if let Some(known) = self.archives.get(&key) {
            return known.clone().map_err(Stop::from);
        }
        // Of npm's archives; those of pip are checked already.
        let got = get(self).and_then(|path| {
            let Some(pinned) = package.archive_sha256.filter(|_| registry == Registry::Npm) else { return Ok(path) };
            let got = sink::digest_of(&path, u64::MAX).map_err(Error::io("read", &path))?;
            if got == pinned { Ok(path) } else { Err(Failure::Digest { got, pinned }.into()) }
        });
        if let Some(result) = remembered(&got) {
            self.archives.insert(key, result);
        }
        got
    }
}

/// Removes what an interrupted download left of a wheel, unless someone is at it. What cannot be removed is in nobody's way.
pub(crate) fn forget_part(root: &Path, file: &str, digest: Sha256, watch: &mut Watch<'_>) {
    if part_path(root, file, digest).is_file()
        && let Ok(part) = part_of(root, file, digest, Duration::ZERO, watch)
    {
        let _ = fs::remove_file(part.path);
    }
}

fn part_of(root: &Path, file: &str, digest: Sha256, wait: Duration, watch: &mut Watch<'_>) -> Result<Part, Error> {
    let lock = TargetLock::acquire(root, WHEELS, &part_name(file, digest), wait, watch)?;
    Ok(Part { path: part_path(root, file, digest), _lock: lock })
}

fn part_path(root: &Path, file: &str, digest: Sha256) -> PathBuf {
    root.join(".partial").join(WHEELS).join(format!("{}.part", part_name(file, digest)))
}

/// Named by the digest, too: a part is continued for the same bytes only.
fn part_name(file: &str, digest: Sha256) -> String {
    format!("{file}.{}", &digest.to_string()[..16])
}

enum Packed {
    Archive(PathBuf),
    NotThere(String),
}

fn start(words: &[OsString]) -> Option<Command> {
    let (program, arguments) = words.split_first()?;
    let mut command = Command::new(program);
    command.args(arguments);
    Some(command)
}

/// pip checks pinned hashes itself. Its refusal is a failed verification, not a source that could not be reached.
fn hash_refusal(failure: Failure) -> Failure {
    match failure {
        Failure::Tool { stderr, .. } if stderr.contains("DO NOT MATCH THE HASHES") => Failure::Archive(stderr),
        other => other,
    }
}

/// What the user set in the environment stays.
fn unless_set(command: &mut Command, variable: &str, value: &str) {
    if std::env::var_os(variable).is_none() {
        command.env(variable, value);
    }
}

/// The one file that a tool left in its output folder.
fn only_file(folder: &Path, ending: &str) -> Result<PathBuf, Stop> {
    let entries = fs::read_dir(folder).map_err(Error::io("read", folder))?;
    let mut files = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file());
    match (files.next(), files.next()) {
        (Some(file), None) if file.to_string_lossy().ends_with(ending) => Ok(file),
        _ => Err(Failure::Archive(format!("no single *{ending} file was delivered")).into()),
    }
}

fn no_npm(tried: &[String]) -> Failure {
    Failure::NoTool { tool: "npm", tried: listed(tried), package: "npm" }
}

fn listed(tried: &[String]) -> String {
    if tried.is_empty() { "nothing".to_owned() } else { tried.join("; ") }
}

/// Cancellation and trouble with the local disk are not remembered: they end the run.
fn remembered<T: Clone>(got: &Result<T, Stop>) -> Option<Result<T, Failure>> {
    match got {
        Ok(value) => Some(Ok(value.clone())),
        Err(Stop::Source(failure)) => Some(Err(failure.clone())),
        Err(Stop::Fatal(_)) => None,
    }
}
