//! Where a pack lies below a root, which version of it is in use, and whether all of it is there. Reads names and sizes; contents
//! only of files that were touched since, before they are loaded.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{error::Error, files, record::PackRecord, spec::Spec, verify};

const ACTIVE: &str = "active.json";

/// A folder of packs: the one of the user, or one beside the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Root(pub(crate) PathBuf);

/// `active.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Active {
    pub(crate) version: String,
    /// What was in use before, for going back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) previous: Option<String>,
}

/// A version whose record could be read.
pub(crate) struct Version {
    pub(crate) folder: PathBuf,
    pub(crate) record: PackRecord,
}

impl Root {
    /// The folder of one version.
    pub(crate) fn version(&self, spec: Spec, version: &str) -> Result<PathBuf, Error> {
        if !files::is_name(version) {
            return Err(Error::NoVersion { spec, version: version.to_owned(), installed: self.versions(spec) });
        }
        files::inside(&self.0, &[spec.runtime(), spec.device(), version])
    }

    /// The folder of all versions.
    pub(crate) fn device(&self, spec: Spec) -> Result<PathBuf, Error> {
        files::inside(&self.0, &[spec.runtime(), spec.device()])
    }

    /// The versions that are there, whole or not.
    pub(crate) fn versions(&self, spec: Spec) -> Vec<String> {
        self.device(spec).map(|folder| files::folders(&folder)).unwrap_or_default()
    }

    /// The version in use; `None` when none is.
    pub(crate) fn active(&self, spec: Spec) -> Result<Option<Active>, Error> {
        let path = files::inside(&self.0, &[spec.runtime(), spec.device(), ACTIVE])?;
        let active: Option<Active> = match files::read_json(&path) {
            // What a stranger wrote there is no reason to refuse a new installation.
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::InvalidData => None,
            read => read?,
        };
        Ok(active.filter(|active| files::is_name(&active.version) && active.previous.as_deref().is_none_or(files::is_name)))
    }

    /// Uses a version from now on.
    pub(crate) fn switch(&self, spec: Spec, active: &Active) -> Result<(), Error> {
        let folder = files::folder(&self.0, &[spec.runtime(), spec.device()])?;
        files::write_json(&folder.join(ACTIVE), active)
    }

    /// Uses no version from now on.
    pub(crate) fn switch_off(&self, spec: Spec) -> Result<(), Error> {
        let path = files::inside(&self.0, &[spec.runtime(), spec.device(), ACTIVE])?;
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(e)),
            _ => Ok(()),
        }
    }

    /// The version with its record, if all of it is there; else why it cannot be used.
    pub(crate) fn whole(&self, spec: Spec, version: &str) -> Result<Version, String> {
        let found = self.recorded(spec, version)?;
        match self.missing(&found) {
            None => Ok(found),
            Some(why) => Err(why),
        }
    }

    /// The version, if it may be loaded: all of it is there, and what was written to since it was installed has the bytes that it had. A
    /// library with other bytes may end the process that loads it.
    pub(crate) fn loadable(&self, spec: Spec, version: &str) -> Result<Version, String> {
        let found = self.whole(spec, version)?;
        let time = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
        // The record was written last.
        let installed = time(&found.folder.join(files::PACK));
        for file in &found.record.files {
            let path = found.folder.join(&file.path);
            if time(&path) <= installed && installed.is_some() {
                continue;
            }
            match files::digest(&path) {
                Ok((_, sha256)) if sha256 == file.sha256 => {}
                Ok(_) => return Err(format!("{} has other bytes than were installed", file.path)),
                Err(e) => return Err(format!("{} cannot be read: {e}", file.path)),
            }
        }
        Ok(found)
    }

    /// The version with its record.
    pub(crate) fn recorded(&self, spec: Spec, version: &str) -> Result<Version, String> {
        let folder = self.version(spec, version).map_err(|e| e.to_string())?;
        let record = PackRecord::read(&folder).map_err(|e| e.to_string())?;
        let record = record.ok_or_else(|| format!("{} is missing", folder.join(files::PACK).display()))?;
        match record.problem(spec, version) {
            None => Ok(Version { folder, record }),
            Some(why) => Err(why),
        }
    }

    /// The first file that is not there as it was installed, by its size; or what an earlier verification found.
    fn missing(&self, version: &Version) -> Option<String> {
        if let Some(why) = verify::marked(&version.folder) {
            return Some(why);
        }
        version.record.files.iter().find_map(|file| {
            let why = self.misplaced(&version.folder.join(&file.path), file.size)?;
            Some(format!("{} {why}", file.path))
        })
    }

    /// What is wrong with the place and size of a file.
    pub(crate) fn misplaced(&self, path: &Path, size: u64) -> Option<String> {
        let (Ok(real), Ok(root)) = (path.canonicalize(), self.0.canonicalize()) else { return Some("is missing".to_owned()) };
        match real.metadata() {
            _ if !real.starts_with(root) => Some("is a link that leads out of the folder of runtimes".to_owned()),
            Ok(metadata) if !metadata.is_file() => Some("is no file".to_owned()),
            Ok(metadata) if metadata.len() != size => Some(format!("has {} bytes instead of {size}", metadata.len())),
            Ok(_) => None,
            Err(e) => Some(format!("cannot be looked at: {e}")),
        }
    }
}
