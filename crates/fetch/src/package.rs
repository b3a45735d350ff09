//! Package archives through pip and npm: downloaded once a run, never unpacked as a whole, never run.
//!
//! Which index, proxy, certificates and credentials are used is decided by the user's pip and npm, as they are set up.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Limits, Package, Sha256, Tools, child,
    error::{Error, Failure, Stop},
    node,
    place::Staging,
    progress::{Phase, Watch},
    sink,
};

/// The archives of one run. They live in a staging folder that ends with it.
pub(crate) struct Depot<'f> {
    root: &'f Path,
    tools: &'f Tools,
    limits: &'f Limits,
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

/// What pip is asked for.
pub(crate) struct Wheel<'a> {
    pub(crate) spec: &'a str,
    /// Any of these; pip checks it. Empty: unchecked here.
    pub(crate) hashes: &'a [Sha256],
    pub(crate) platform: &'a [String],
    pub(crate) python_version: Option<&'a str>,
}

impl<'f> Depot<'f> {
    pub(crate) fn new(root: &'f Path, tools: &'f Tools, limits: &'f Limits) -> Self {
        Self { root, tools, limits, staging: None, archives: HashMap::new(), own_npm: None }
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
            let wheel = Wheel {
                spec: &package.spec,
                hashes: &hashes,
                platform: &package.platform,
                python_version: package.python_version.as_deref(),
            };
            // The folder also holds pip's second copy, and then one less: never show more than there is, nor a step back.
            let (most, mut shown) = (package.archive_size.unwrap_or(u64::MAX), 0);
            depot.pip(&wheel, &mut |size| {
                shown = size.min(most).max(shown);
                watch.step(Phase::Downloading, shown, package.archive_size)
            })
        })
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

    /// Downloads a wheel. `step` is told the bytes that have come.
    pub(crate) fn pip(&mut self, wheel: &Wheel<'_>, step: &mut dyn FnMut(u64) -> Result<(), Stop>) -> Result<PathBuf, Stop> {
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
            for tag in wheel.platform {
                command.arg("--platform").arg(tag);
            }
            match wheel.python_version {
                Some(version) => command.arg("--python-version").arg(version),
                // The wheel is data to us: which Pythons could run it does not matter.
                None => command.arg("--ignore-requires-python"),
            };
            if wheel.hashes.is_empty() {
                command.arg(wheel.spec);
            } else {
                let hashes: String = wheel.hashes.iter().map(|hash| format!(" --hash=sha256:{hash}")).collect();
                let list = folder.join("requirements.txt");
                fs::write(&list, format!("{}{hashes}\n", wheel.spec)).map_err(Error::io("write", &list))?;
                command.arg("--require-hashes").arg("--requirement").arg(&list);
            }
            // pip downloads into its temporary folder; inside ours it can be watched, and is removed with it.
            for variable in ["TMPDIR", "TEMP", "TMP"] {
                command.env(variable, &temporary);
            }
            // Fail fast: pip's own five retries take a minute against a dead host.
            unless_set(&mut command, "PIP_RETRIES", "1");
            command.env("NO_COLOR", "1");
            let most = self.limits.archive_bytes.saturating_mul(2); // the temporary copy and the final one
            match child::run(command, &folder, most, step)? {
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
        let got = get(self).and_then(|path| {
            let Some(pinned) = package.archive_sha256 else { return Ok(path) };
            let got = sink::digest_of(&path, u64::MAX).map_err(Error::io("read", &path))?;
            if got == pinned { Ok(path) } else { Err(Failure::Digest { got, pinned }.into()) }
        });
        if let Some(result) = remembered(&got) {
            self.archives.insert(key, result);
        }
        got
    }
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
