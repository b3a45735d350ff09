//! Whether every byte of a pack is what was installed. What is found wrong is written down, so that the pack is not used until it is
//! repaired.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use serde::{Deserialize, Serialize};

use crate::{
    error::Error,
    files,
    installing::{Desk, Phase, Progress},
    layout::Root,
    lock::Writing,
    packs::{Origin, Packs},
    spec::Spec,
};

/// What was found of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// The pack.
    pub spec: Spec,
    /// Its version.
    pub version: String,
    /// Where it came from.
    pub origin: Origin,
    /// Where it lies.
    pub folder: PathBuf,
    /// What is wrong; empty when nothing is.
    pub problems: Vec<Problem>,
}

/// One file that is not as it was installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Problem {
    /// Relative to the folder of the pack.
    pub path: String,
    /// What is wrong with it.
    pub wrong: Wrong,
}

/// What can be wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Wrong {
    /// It is not there, is no file, or leads elsewhere, in words.
    Misplaced(String),
    /// It has other bytes.
    Changed,
    /// Nobody installed it.
    Extra,
}

impl Packs {
    /// Reads every byte of one version, or of all that are installed; of the bundled one where none is. One with problems is not
    /// used any more, until it is repaired by [`Packs::install`] or found right again. Waits for who installs or removes only where
    /// that has to be written down.
    ///
    /// # Errors
    /// [`Error::NotInstalled`], [`Error::NoVersion`], [`Error::Cancelled`], [`Error::Locked`].
    pub fn verify(
        &self,
        spec: Spec,
        version: Option<&str>,
        report: &mut dyn FnMut(Progress<'_>),
        cancel: &AtomicBool,
    ) -> Result<Vec<Verified>, Error> {
        let installed = self.root.versions(spec);
        let (root, origin, versions) = match (version, self.bundled(spec)) {
            (Some(version), _) if installed.iter().any(|there| there == version) => {
                (&self.root, Origin::Installed, vec![version.to_owned()])
            }
            (Some(version), Some((root, found))) if found.record.version == version => (root, Origin::Bundled, vec![version.to_owned()]),
            (Some(version), _) => return Err(Error::NoVersion { spec, version: version.to_owned(), installed }),
            (None, _) if !installed.is_empty() => (&self.root, Origin::Installed, installed),
            (None, Some((root, found))) => (root, Origin::Bundled, vec![found.record.version]),
            (None, None) => return Err(Error::NotInstalled { spec }),
        };
        let mut desk = Desk { spec, report, cancel, done: 0, total: 0, shown: 0 };
        desk.total = versions.iter().filter_map(|version| root.recorded(spec, version).ok()).map(|found| found.record.size()).sum();
        let verified = versions.into_iter().map(|version| {
            let folder = root.version(spec, &version)?;
            let mut problems = problems(root, spec, &version, &|_| true, &mut desk)?;
            if origin == Origin::Installed && (!problems.is_empty() || is_marked(&folder)) {
                problems = self.settle(spec, &version, &folder, problems, &mut desk)?;
            }
            Ok(Verified { spec, version, origin, folder, problems })
        });
        verified.collect()
    }

    /// Writes down what is wrong, or that nothing is any more. While this was looking, another process may have repaired or removed the
    /// pack, or found something itself: what is in doubt is looked at again when nobody else writes.
    fn settle(&self, spec: Spec, version: &str, folder: &Path, found: Vec<Problem>, desk: &mut Desk<'_>) -> Result<Vec<Problem>, Error> {
        let waiting = &mut || desk.tell("", Phase::Waiting);
        let _writing = match Writing::begin(&self.root.0, self.fetcher.limits.lock_wait, waiting) {
            Ok(writing) => writing,
            // On a disk that cannot be written to, saying it has to do.
            Err(Error::Io { .. }) => return Ok(found),
            Err(error) => return Err(error),
        };
        if !folder.is_dir() {
            return Err(Error::NoVersion { spec, version: version.to_owned(), installed: self.root.versions(spec) });
        }
        let before: Vec<Problem> = files::read_json(&folder.join(files::WRONG)).ok().flatten().unwrap_or_default();
        // Without a record, no file was looked at.
        let doubtful = |path: &str| found.iter().chain(&before).any(|problem| [path, files::PACK].contains(&problem.path.as_str()));
        let problems = problems(&self.root, spec, version, &doubtful, desk)?;
        if problems.is_empty() {
            let _ = fs::remove_file(folder.join(files::WRONG));
        } else {
            let _ = files::write_json(&folder.join(files::WRONG), &problems);
        }
        Ok(problems)
    }
}

/// What an earlier verification found.
pub(crate) fn marked(folder: &Path) -> Option<String> {
    if !is_marked(folder) {
        return None;
    }
    let problems: Vec<Problem> = files::read_json(&folder.join(files::WRONG)).ok().flatten().unwrap_or_default();
    Some(problems.first().map_or_else(|| format!("there is a {}", files::WRONG), ToString::to_string))
}

fn is_marked(folder: &Path) -> bool {
    fs::symlink_metadata(folder.join(files::WRONG)).is_ok()
}

/// What is wrong with those of its files that are `meant`, and what is there beside them.
fn problems(root: &Root, spec: Spec, version: &str, meant: &dyn Fn(&str) -> bool, desk: &mut Desk<'_>) -> Result<Vec<Problem>, Error> {
    let found = match root.recorded(spec, version) {
        Ok(found) => found,
        Err(why) => return Ok(vec![Problem { path: files::PACK.to_owned(), wrong: Wrong::Misplaced(why) }]),
    };
    let mut problems = Vec::new();
    for file in found.record.files.iter().filter(|file| meant(&file.path)) {
        desk.tell(&file.path, Phase::Verifying)?;
        let path = found.folder.join(&file.path);
        let wrong = match root.misplaced(&path, file.size) {
            Some(why) => Some(Wrong::Misplaced(why)),
            None => match files::digest(&path) {
                Ok((_, sha256)) if sha256 == file.sha256 => None,
                Ok(_) => Some(Wrong::Changed),
                Err(e) => Some(Wrong::Misplaced(format!("cannot be read: {e}"))),
            },
        };
        problems.extend(wrong.map(|wrong| Problem { path: file.path.clone(), wrong }));
        desk.done += file.size;
    }
    let ours = [files::PACK, files::WRONG];
    let listed = |path: &String| ours.contains(&path.as_str()) || found.record.files.iter().any(|file| file.path == *path);
    let extra = files::list(&found.folder)?.into_iter().filter(|path| !listed(path));
    problems.extend(extra.map(|path| Problem { path, wrong: Wrong::Extra }));
    Ok(problems)
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.wrong {
            Wrong::Misplaced(why) => write!(f, "{} {why}", self.path),
            Wrong::Changed => write!(f, "{} has other bytes than were installed", self.path),
            Wrong::Extra => write!(f, "{} was not installed", self.path),
        }
    }
}
