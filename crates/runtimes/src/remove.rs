//! Removing packs, and what only they used. Never through a link, and never what came with the program.

use crate::{error::Error, layout::Active, lock::Writing, packs::Packs, record::PackRecord, shared, spec::Spec, table::Pack};

/// What was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Removed {
    /// The pack.
    pub spec: Spec,
    /// The versions.
    pub versions: Vec<String>,
    /// Bytes that are free again.
    pub freed: u64,
    /// The version that is in use now.
    pub active: Option<String>,
}

impl Packs {
    /// Removes one version, or all of them; then what packs shared and none uses any more. Where the version in use goes, the one
    /// before it is used again if it is whole, else none.
    ///
    /// # Errors
    /// [`Error::NotInstalled`], [`Error::NoVersion`], [`Error::Bundled`].
    pub fn uninstall(&self, spec: Spec, version: Option<&str>) -> Result<Removed, Error> {
        self.removable(spec, version)?;
        let writing = Writing::begin(&self.root.0, self.fetcher.limits.lock_wait, &mut || Ok(()))?;
        // Another process may have been faster.
        let versions = self.removable(spec, version)?;
        let active = self.retire(spec, &versions)?;
        // Of what nobody installs any more, the part of a download would lie there for ever: also of an update that never came.
        let pinned = self.table.packs().iter().filter(|pack| pack.spec == spec && (version.is_none() || versions.contains(&pack.version)));
        let mut wheels: Vec<_> = pinned.flat_map(Pack::all).map(|pinned| (pinned.wheel.file.clone(), pinned.wheel.sha256)).collect();
        let mut freed = 0;
        for version in &versions {
            let folder = self.root.version(spec, version)?;
            if let Some(record) = PackRecord::read(&folder).ok().flatten() {
                freed += record.files.iter().filter(|file| !file.shared).map(|file| file.size).sum::<u64>();
                wheels.extend(record.wheels.into_iter().map(|wheel| (wheel.file, wheel.sha256)));
            }
            writing.take_away(&folder)?;
        }
        freed += shared::collect(&self.root, &writing)?;
        for (file, sha256) in wheels {
            self.fetcher.forget(&file, sha256);
        }
        // Only if they are empty.
        let device = self.root.device(spec)?;
        if std::fs::remove_dir(&device).is_ok() {
            let _ = device.parent().map(std::fs::remove_dir);
        }
        Ok(Removed { spec, versions, freed, active })
    }

    /// The versions that are meant.
    fn removable(&self, spec: Spec, version: Option<&str>) -> Result<Vec<String>, Error> {
        self.root.device(spec)?;
        let installed = self.root.versions(spec);
        match version {
            None if installed.is_empty() => Err(match self.bundled(spec) {
                Some((_, found)) => Error::Bundled { spec, folder: found.folder },
                None => Error::NotInstalled { spec },
            }),
            None => Ok(installed),
            Some(version) => {
                self.root.version(spec, version)?;
                if !installed.iter().any(|there| there == version) {
                    return Err(Error::NoVersion { spec, version: version.to_owned(), installed });
                }
                Ok(vec![version.to_owned()])
            }
        }
    }

    /// Nobody shall find a version that is about to go. Returns the one that is in use from now on.
    fn retire(&self, spec: Spec, versions: &[String]) -> Result<Option<String>, Error> {
        let Some(active) = self.root.active(spec)? else { return Ok(None) };
        let stays = |version: &String| !versions.contains(version);
        let previous = active.previous.filter(stays);
        if stays(&active.version) {
            self.root.switch(spec, &Active { version: active.version.clone(), previous })?;
            return Ok(Some(active.version));
        }
        match previous.filter(|version| self.root.whole(spec, version).is_ok()) {
            Some(version) => {
                self.root.switch(spec, &Active { version: version.clone(), previous: None })?;
                Ok(Some(version))
            }
            None => {
                self.root.switch_off(spec)?;
                Ok(None)
            }
        }
    }
}
