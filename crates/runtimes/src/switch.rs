//! Going back to the version before. Fetches nothing.

use crate::{error::Error, layout::Active, lock::Writing, packs::Packs, spec::Spec};

/// Which version is in use now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RolledBack {
    /// The pack.
    pub spec: Spec,
    /// What was in use; another call goes there again.
    pub from: String,
    /// What is in use.
    pub to: String,
}

impl Packs {
    /// Puts the version that was in use before into use again.
    ///
    /// # Errors
    /// [`Error::NotInstalled`], [`Error::NoPrevious`], and [`Error::Broken`] when that version is not whole.
    pub fn rollback(&self, spec: Spec) -> Result<RolledBack, Error> {
        if self.root.active(spec)?.is_none() {
            return Err(Error::NotInstalled { spec });
        }
        let _writing = Writing::begin(&self.root.0, self.fetcher.limits.lock_wait, &mut || Ok(()))?;
        let active = self.root.active(spec)?.ok_or(Error::NotInstalled { spec })?;
        let Some(previous) = active.previous else { return Err(Error::NoPrevious { spec, version: active.version }) };
        if let Err(why) = self.root.whole(spec, &previous) {
            return Err(Error::Broken { spec, version: previous, why });
        }
        self.root.switch(spec, &Active { version: previous.clone(), previous: Some(active.version.clone()) })?;
        Ok(RolledBack { spec, from: active.version, to: previous })
    }
}
