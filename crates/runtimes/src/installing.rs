//! Installing: one transaction from the question of space to the switch. What it writes before the last rename, nobody sees.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use bespoke_fetch::{Class, Unpacked, Wheel};

use crate::{
    error::Error,
    files,
    layout::Active,
    lock::Writing,
    packs::Packs,
    record::{FileRecord, PackRecord, SharedRecord, WheelRecord},
    shared,
    spec::{Set, Spec},
    table::{Pack, Pinned},
    version,
};

/// One step of an installation or verification. Reported often; cheap to drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress<'a> {
    /// The pack.
    pub spec: Spec,
    /// The wheel or file at hand; empty when it is about the pack.
    pub file: &'a str,
    /// Where its bytes come from; empty when they come from nowhere.
    pub source: &'a str,
    /// What is being done.
    pub phase: Phase,
    /// Bytes of this phase so far.
    pub done: u64,
    /// Bytes of this phase in all, where that can be known.
    pub total: Option<u64>,
    /// Bytes of the pack so far: of what is downloaded, or verified.
    pub pack_done: u64,
    /// Bytes of the pack in all.
    pub pack_total: u64,
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Another process installs or removes.
    Waiting,
    /// Files that are there are read and compared.
    Verifying,
    /// A wheel is being downloaded or copied.
    Downloading,
    /// Its members are being written.
    Unpacking,
    /// What packs share is being linked.
    Linking,
    /// All of it is being written to the disk for good.
    Flushing,
    /// It is being renamed into place.
    Placing,
    /// It is becoming the version in use.
    Switching,
    /// It is in use.
    Done,
}

/// What was installed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Installed {
    /// The pack.
    pub spec: Spec,
    /// Its version.
    pub version: String,
    /// What was done.
    pub outcome: Outcome,
    /// Where it lies.
    pub folder: PathBuf,
    /// Bytes on the disk.
    pub size: u64,
    /// The version that was in use before, if it was another.
    pub previous: Option<String>,
}

/// What installing did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Fetched, and put into use.
    Installed,
    /// It was in use, with all its files; nothing was done, and nobody was asked.
    AlreadyInstalled,
    /// It lay there from before, and was put into use.
    Switched,
    /// It was broken, and was put there again.
    Repaired,
}

impl Packs {
    /// Installs the pinned version beside those that are there and puts it into use; repairs it where it is broken.
    ///
    /// Blocks. Several processes may do this at once: one works, the others wait and find it done. An error leaves nothing but what
    /// the next run continues: a download that broke off, and complete wheels of NVIDIA's; and those only when the network or the
    /// caller ended it.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::class`] sorts them.
    pub fn install(
        &self,
        spec: Spec,
        set: Option<Set>,
        report: &mut dyn FnMut(Progress<'_>),
        cancel: &AtomicBool,
    ) -> Result<Installed, Error> {
        let pack = self.choose(spec, set)?;
        // What was written to since and has other bytes is marked, so that it is repaired.
        if self.root.whole(spec, &pack.version).is_ok() && self.root.loadable(spec, &pack.version).is_err() {
            self.verify(spec, Some(&pack.version), report, cancel)?;
        }
        // Before anything is written: a folder that cannot be written to is no obstacle.
        if let Some(done) = self.in_use(pack)? {
            return Ok(done);
        }
        let mut desk = Desk { spec, report, cancel, done: 0, total: 0, shown: 0 };
        let writing = Writing::begin(&self.root.0, self.fetcher.limits.lock_wait, &mut || desk.tell("", Phase::Waiting))?;
        // Whoever held the lock may have installed it.
        if let Some(done) = self.in_use(pack)? {
            return Ok(done);
        }
        let result = self.make(pack, &writing, &mut desk);
        let keep = result.as_ref().is_err_and(|error| matches!(error.class(), Class::Network | Class::Cancelled));
        if !keep {
            // What this leaves lying, the next run collects.
            let _ = shared::collect(&self.root, &writing);
        }
        if result.is_err() && !keep {
            // On a disk that is full, the half of a download is the last thing that is wanted.
            for pinned in pack.all() {
                self.fetcher.forget(&pinned.wheel.file, pinned.wheel.sha256);
            }
        }
        result
    }

    /// As [`Packs::install`] for one that is installed: of the set that is named, else of the one in use. Never goes to an older
    /// version. Where the table has only one, nothing is done; where that would leave undone what was asked for, it is an error.
    ///
    /// # Errors
    /// [`Error::NotInstalled`]; [`Error::Older`] where another set is named, or what is in use is broken; and as [`Packs::install`].
    pub fn update(
        &self,
        spec: Spec,
        set: Option<Set>,
        report: &mut dyn FnMut(Progress<'_>),
        cancel: &AtomicBool,
    ) -> Result<Installed, Error> {
        let active = self.root.active(spec)?.ok_or(Error::NotInstalled { spec })?;
        let used = version::set(&active.version);
        let pack = self.choose(spec, set.or(used))?;
        if !version::is_older(&pack.version, &active.version) {
            return self.install(spec, pack.set, report, cancel);
        }
        match self.root.whole(spec, &active.version) {
            Ok(found) if pack.set == used => {
                let (folder, size) = (found.folder, found.record.size());
                Ok(Installed { spec, version: active.version, outcome: Outcome::AlreadyInstalled, folder, size, previous: None })
            }
            whole => {
                let (version, pinned) = (active.version, pack.version.clone());
                Err(Error::Older { spec, version, pinned, set: pack.set, broken: whole.err() })
            }
        }
    }

    fn in_use(&self, pack: &Pack) -> Result<Option<Installed>, Error> {
        let active = self.root.active(pack.spec)?;
        if active.is_none_or(|active| active.version != pack.version) {
            return Ok(None);
        }
        let whole = self.root.whole(pack.spec, &pack.version).ok();
        Ok(whole.map(|found| installed(pack, Outcome::AlreadyInstalled, found.folder, found.record.size(), None)))
    }

    /// Makes the pack, unless it is there, and puts it into use.
    fn make(&self, pack: &Pack, writing: &Writing, desk: &mut Desk<'_>) -> Result<Installed, Error> {
        let folder = self.root.version(pack.spec, &pack.version)?;
        let (outcome, size) = match self.root.whole(pack.spec, &pack.version) {
            Ok(found) => (Outcome::Switched, found.record.size()),
            Err(_) => {
                let outcome = if folder.exists() { Outcome::Repaired } else { Outcome::Installed };
                self.check_space(pack)?;
                desk.total = pack.download();
                (outcome, self.bring(pack, &folder, writing, desk)?)
            }
        };
        desk.tell("", Phase::Switching)?;
        let before = self.root.active(pack.spec)?;
        let previous = match before {
            Some(active) if active.version == pack.version => active.previous,
            Some(active) => Some(active.version),
            None => None,
        };
        self.root.switch(pack.spec, &Active { version: pack.version.clone(), previous: previous.clone() })?;
        desk.done = desk.total;
        desk.told("", "", Phase::Done, size, Some(size));
        Ok(installed(pack, outcome, folder, size, previous))
    }

    fn check_space(&self, pack: &Pack) -> Result<(), Error> {
        let plan = self.plan(pack.spec, pack.set)?;
        match plan.free {
            Some(free) if free < plan.peak => {
                let path = std::path::absolute(&self.root.0).unwrap_or_else(|_| self.root.0.clone());
                Err(Error::Space { spec: pack.spec, needed: plan.peak, free, path })
            }
            _ => Ok(()),
        }
    }

    /// Fetches, unpacks, links, and renames into place. Returns the bytes of the pack.
    fn bring(&self, pack: &Pack, folder: &Path, writing: &Writing, desk: &mut Desk<'_>) -> Result<u64, Error> {
        let made = writing.scratch()?;
        let mut record = PackRecord {
            spec: pack.spec,
            version: pack.version.clone(),
            set: pack.set,
            library: pack.library.clone(),
            preload: pack.preload.clone(),
            installed: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            wheels: Vec::new(),
            files: Vec::new(),
        };
        let mut links = Vec::new();
        for pinned in &pack.shared {
            let shared = self.bring_shared(pinned, writing, desk)?;
            record.wheels.push(WheelRecord::of(pinned, true));
            record.files.extend(shared.linked());
            links.push((pinned, shared));
        }
        for pinned in &pack.wheels {
            let unpacked = self.unpack(&pinned.wheel, &made, desk)?;
            record.wheels.push(WheelRecord::of(pinned, false));
            record.files.extend(unpacked);
        }
        // Last: what was shared when this began may have been put there again since.
        for (pinned, shared) in links {
            desk.tell(&pinned.wheel.file, Phase::Linking)?;
            self.link(pinned, &shared, &made)?;
        }
        files::write_json(&made.join(files::PACK), &record)?;
        desk.tell("", Phase::Flushing)?;
        files::sync_all(&made)?;
        desk.tell("", Phase::Placing)?;
        files::folder(&self.root.0, &[pack.spec.runtime(), pack.spec.device()])?;
        place(writing, &made, folder)?;
        Ok(record.size())
    }

    /// Makes sure that the files of a shared wheel are there. Each wheel is a transaction of its own, so that an installation that
    /// is interrupted after the fifth of fourteen goes on with the sixth.
    fn bring_shared(&self, pinned: &Pinned, writing: &Writing, desk: &mut Desk<'_>) -> Result<SharedRecord, Error> {
        let folder = shared::folder(&self.root, pinned)?;
        if folder.exists() {
            desk.tell(&pinned.wheel.file, Phase::Verifying)?;
            if let Some(record) = shared::verified(&self.root, pinned)? {
                desk.done += pinned.wheel.size;
                return Ok(record);
            }
        }
        let made = writing.scratch()?;
        let unpacked = self.unpack(&pinned.wheel, &made, desk)?;
        let record = SharedRecord { file: pinned.wheel.file.clone(), sha256: pinned.wheel.sha256, files: unpacked };
        files::write_json(&made.join(shared::RECORD), &record)?;
        desk.tell(&pinned.wheel.file, Phase::Flushing)?;
        files::sync_all(&made)?;
        desk.tell(&pinned.wheel.file, Phase::Placing)?;
        let project = folder.parent().unwrap_or(&self.root.0);
        fs::create_dir_all(project).map_err(Error::io("create", project))?;
        place(writing, &made, &folder)?;
        Ok(record)
    }

    fn unpack(&self, wheel: &Wheel, into: &Path, desk: &mut Desk<'_>) -> Result<Vec<FileRecord>, Error> {
        let cancel = desk.cancel;
        let unpacked = self.fetcher.unpack(wheel, into, &mut |p| desk.fetching(&p), cancel);
        let unpacked = unpacked.map_err(|error| match error {
            bespoke_fetch::Error::Cancelled { .. } => Error::Cancelled { spec: desk.spec },
            other => Error::Fetch(other),
        })?;
        for member in &unpacked {
            if member.to.contains("/bin/") {
                files::make_executable(&into.join(&member.to))?;
            }
        }
        desk.done += wheel.size;
        let record = |Unpacked { to, size, sha256 }| FileRecord { path: to, size, sha256, shared: false };
        Ok(unpacked.into_iter().map(record).collect())
    }

    fn link(&self, pinned: &Pinned, record: &SharedRecord, made: &Path) -> Result<(), Error> {
        let folder = shared::folder(&self.root, pinned)?;
        let wheel = &pinned.wheel;
        for file in &record.files {
            let place = Pack::linked(&file.path);
            // From the folder of the file up to the pack, and on from `<runtime>/<device>/<version>` to the root.
            let up = "../".repeat(place.matches('/').count() + 3);
            let relative = format!("{up}nvidia/{}/{}/{}", wheel.project, wheel.version, file.path);
            files::link(&folder.join(&file.path), &made.join(place), self.hard_links, Path::new(&relative))?;
        }
        Ok(())
    }
}

/// Who is told of progress, and who may end it.
pub(crate) struct Desk<'a> {
    pub(crate) spec: Spec,
    pub(crate) report: &'a mut dyn FnMut(Progress<'_>),
    pub(crate) cancel: &'a AtomicBool,
    pub(crate) done: u64,
    pub(crate) total: u64,
    /// The most that was reported.
    pub(crate) shown: u64,
}

impl Desk<'_> {
    /// Reports, then says whether to go on.
    pub(crate) fn tell(&mut self, file: &str, phase: Phase) -> Result<(), Error> {
        self.told(file, "", phase, 0, None);
        if self.cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled { spec: self.spec });
        }
        Ok(())
    }

    pub(crate) fn told(&mut self, file: &str, source: &str, phase: Phase, done: u64, total: Option<u64>) {
        let within = if phase == Phase::Downloading { done } else { 0 };
        // A page of the index is downloaded, too, and a transfer that broke off may begin again: neither is a step back.
        self.shown = self.shown.max(self.done + within).min(self.total);
        let pack_done = self.shown;
        (self.report)(Progress { spec: self.spec, file, source, phase, done, total, pack_done, pack_total: self.total });
    }

    fn fetching(&mut self, p: &bespoke_fetch::Progress<'_>) {
        let phase = match p.phase {
            bespoke_fetch::Phase::Waiting => Phase::Waiting,
            bespoke_fetch::Phase::Extracting => Phase::Unpacking,
            // That a wheel is unpacked is not the end of the pack.
            bespoke_fetch::Phase::Done => return,
            _ => Phase::Downloading,
        };
        self.told(p.file, p.source, phase, p.done, p.total);
    }
}

/// Renames a folder into place. One that is there is replaced at once where the system can do that.
fn place(writing: &Writing, made: &Path, to: &Path) -> Result<(), Error> {
    // What was there is in `made` then, and goes with it.
    if !(to.exists() && exchange(made, to)) {
        if to.exists() {
            writing.take_away(to)?;
        }
        fs::rename(made, to).map_err(Error::io("write", to))?;
    }
    let parent = to.parent().unwrap_or(to);
    files::sync(parent).map_err(Error::io("flush", parent))
}

/// Whether two folders changed their names.
fn exchange(made: &Path, to: &Path) -> bool {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        renameat_with(CWD, made, CWD, to, RenameFlags::EXCHANGE).is_ok()
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (made, to);
        false
    }
}

fn installed(pack: &Pack, outcome: Outcome, folder: PathBuf, size: u64, previous: Option<String>) -> Installed {
    Installed { spec: pack.spec, version: pack.version.clone(), outcome, folder, size, previous }
}
