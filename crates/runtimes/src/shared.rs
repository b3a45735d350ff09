//! NVIDIA's wheels below `nvidia/<project>/<version>/`, once for all packs: whether one is there, and which nobody uses any more.

use std::path::PathBuf;

use crate::{
    error::Error,
    files,
    layout::Root,
    lock::Writing,
    record::{PackRecord, SharedRecord},
    spec::Spec,
    table::Pinned,
};

pub(crate) const RECORD: &str = "wheel.json";
const NVIDIA: &str = "nvidia";

/// Where the files of a wheel lie.
pub(crate) fn folder(root: &Root, pinned: &Pinned) -> Result<PathBuf, Error> {
    files::inside(&root.0, &[NVIDIA, &pinned.wheel.project, &pinned.wheel.version])
}

/// The record of a wheel whose files are all there, by their sizes.
pub(crate) fn read(root: &Root, pinned: &Pinned) -> Result<Option<SharedRecord>, Error> {
    let folder = folder(root, pinned)?;
    // One that cannot be read is as good as none: the wheel is fetched again.
    let record: Option<SharedRecord> = files::read_json(&folder.join(RECORD)).unwrap_or_default();
    let whole = |record: &SharedRecord| {
        record.is_of(pinned) && record.files.iter().all(|file| root.misplaced(&folder.join(&file.path), file.size).is_none())
    };
    Ok(record.filter(whole))
}

/// As [`read`], and every byte is what it was. A pack that is installed later must not inherit what a disk lost.
pub(crate) fn verified(root: &Root, pinned: &Pinned) -> Result<Option<SharedRecord>, Error> {
    let folder = folder(root, pinned)?;
    let right = |record: &SharedRecord| {
        let same = |path: PathBuf, sha256| files::digest(&path).is_ok_and(|(_, found)| found == sha256);
        record.files.iter().all(|file| same(folder.join(&file.path), file.sha256))
    };
    Ok(read(root, pinned)?.filter(right))
}

/// Removes the wheels that no pack uses; returns their bytes. While some pack cannot be read, nothing is: it may use them.
pub(crate) fn collect(root: &Root, writing: &Writing) -> Result<u64, Error> {
    let mut used = Vec::new();
    for spec in Spec::ALL {
        for version in root.versions(spec) {
            let Ok(Some(record)) = PackRecord::read(&root.version(spec, &version)?) else { return Ok(0) };
            used.extend(record.wheels.into_iter().filter(|wheel| wheel.shared).map(|wheel| (wheel.project, wheel.version)));
        }
    }
    let mut freed = 0;
    for project in files::folders(&files::inside(&root.0, &[NVIDIA])?) {
        let folder = files::inside(&root.0, &[NVIDIA, &project])?;
        for version in files::folders(&folder) {
            if used.contains(&(project.clone(), version.clone())) {
                continue;
            }
            let unused = folder.join(&version);
            let record: Option<SharedRecord> = files::read_json(&unused.join(RECORD)).unwrap_or_default();
            freed += record.map_or(0, |record| record.files.iter().map(|file| file.size).sum());
            writing.take_away(&unused)?;
        }
        // Only if it is empty.
        let _ = std::fs::remove_dir(&folder);
    }
    Ok(freed)
}
