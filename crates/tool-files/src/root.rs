//! The one folder, held open. Everything is opened name by name from this handle, and no step follows a link; so what stands
//! outside has no name here, whatever is swapped for what in between.

use std::{io, path::PathBuf};

use cap_fs_ext::{DirExt, FileTypeExt, FollowSymlinks, MetadataExt, OpenOptionsFollowExt, OpenOptionsSyncExt};
use cap_std::{
    ambient_authority,
    fs::{Dir, File, FileType, Metadata, OpenOptions},
};

use crate::{
    name::{RelPath, Rules},
    refusal::{Refusal, Shown},
};

/// The folder.
pub(crate) struct Root {
    dir: Dir,
    /// Where it was when it was opened, without links.
    path: PathBuf,
    /// Device and number of the folder.
    identity: (u64, u64),
    rules: Rules,
    /// Whether files with several names may be opened.
    hard_links: bool,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    Link,
    Special(&'static str),
}

impl Kind {
    pub(crate) fn of(kind: FileType) -> Self {
        if kind.is_symlink() {
            Kind::Link
        } else if kind.is_dir() {
            Kind::Folder
        } else if kind.is_file() {
            Kind::File
        } else if kind.is_fifo() {
            Kind::Special("pipe")
        } else if kind.is_socket() {
            Kind::Special("socket")
        } else {
            Kind::Special("device")
        }
    }
}

impl Root {
    /// Opens the folder. The path itself may hold links: it is the user's.
    pub(crate) fn open(path: PathBuf, rules: Rules, hard_links: bool) -> io::Result<Self> {
        let path = std::fs::canonicalize(path)?;
        let dir = Dir::open_ambient_dir(&path, ambient_authority())?;
        let identity = identity(&dir)?;
        Ok(Root { dir, path, identity, rules, hard_links })
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        &self.path
    }

    pub(crate) fn rules(&self) -> Rules {
        self.rules
    }

    /// That the folder is still where the user put it. Nothing outside could be reached otherwise either, but a user who has put
    /// something else there means that.
    pub(crate) fn check_place(&self) -> Result<(), Refusal> {
        let is_link = std::fs::symlink_metadata(&self.path).is_ok_and(|there| there.is_symlink());
        let there = Dir::open_ambient_dir(&self.path, ambient_authority()).and_then(|dir| identity(&dir));
        if is_link || there.ok() != Some(self.identity) { Err(Refusal::RootGone) } else { Ok(()) }
    }

    /// A path as the model gave it.
    pub(crate) fn parse(&self, path: &str) -> Result<RelPath, Refusal> {
        RelPath::parse(path, self.rules)
    }

    /// Goes down to a folder.
    pub(crate) fn folder(&self, names: &[String]) -> Result<Dir, Refusal> {
        let mut dir = self.dir.try_clone().map_err(|e| Refusal::Io(Shown::new("."), e))?;
        for (depth, name) in names.iter().enumerate() {
            let shown = || Shown::new(&names[..=depth].join("/"));
            dir = self.step(&dir, name, shown)?;
        }
        Ok(dir)
    }

    /// One folder down.
    pub(crate) fn step(&self, dir: &Dir, name: &str, shown: impl Fn() -> Shown) -> Result<Dir, Refusal> {
        match self.look(dir, name, &shown)? {
            Kind::Folder => {}
            Kind::File => return Err(Refusal::NotAFolder(shown())),
            Kind::Link => return Err(Refusal::Link(shown())),
            Kind::Special(what) => return Err(Refusal::Special(shown(), what)),
        }
        let next = dir.open_dir_nofollow(name).map_err(|e| self.why(dir, name, e, Kind::Folder, &shown))?;
        let (device, _) = identity(&next).map_err(|e| Refusal::Io(shown(), e))?;
        if device != self.identity.0 { Err(Refusal::Mounted(shown())) } else { Ok(next) }
    }

    /// Opens a file for reading: a regular one, of one name, on this file system.
    pub(crate) fn file(&self, dir: &Dir, name: &str, shown: impl Fn() -> Shown) -> Result<(File, Metadata), Refusal> {
        // Looked at before it is opened, because opening a device can already do something; and again afterwards, because it may
        // have been swapped in between. Without blocking, because opening a pipe waits for its other end.
        match self.look(dir, name, &shown)? {
            Kind::File => {}
            Kind::Folder => return Err(Refusal::NotAFile(shown())),
            Kind::Link => return Err(Refusal::Link(shown())),
            Kind::Special(what) => return Err(Refusal::Special(shown(), what)),
        }
        let mut options = OpenOptions::new();
        options.read(true).follow(FollowSymlinks::No).nonblock(true);
        let file = dir.open_with(name, &options).map_err(|e| self.why(dir, name, e, Kind::File, &shown))?;
        let opened = file.metadata().map_err(|e| Refusal::Io(shown(), e))?;
        match Kind::of(opened.file_type()) {
            Kind::File => {}
            Kind::Special(what) => return Err(Refusal::Special(shown(), what)),
            Kind::Folder | Kind::Link => return Err(Refusal::Changed(shown())),
        }
        if opened.dev() != self.identity.0 {
            return Err(Refusal::Mounted(shown()));
        }
        if opened.nlink() > 1 && !self.hard_links {
            return Err(Refusal::HardLink(shown()));
        }
        Ok((file, opened))
    }

    /// What a name stands for, without following it.
    pub(crate) fn look(&self, dir: &Dir, name: &str, shown: impl Fn() -> Shown) -> Result<Kind, Refusal> {
        match dir.symlink_metadata(name) {
            Ok(there) => Ok(Kind::of(there.file_type())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(Refusal::NotFound(shown())),
            Err(e) => Err(Refusal::Io(shown(), e)),
        }
    }

    /// Why opening failed, after the name had looked like `wanted`: mostly the error itself, but something else if the name stands for
    /// something else by now.
    fn why(&self, dir: &Dir, name: &str, error: io::Error, wanted: Kind, shown: impl Fn() -> Shown) -> Refusal {
        match dir.symlink_metadata(name).map(|there| Kind::of(there.file_type())) {
            Ok(Kind::Link) => Refusal::Link(shown()),
            Ok(Kind::Special(what)) => Refusal::Special(shown(), what),
            Ok(kind) if kind != wanted => Refusal::Changed(shown()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Refusal::NotFound(shown()),
            _ if is_link_error(&error) => Refusal::Changed(shown()),
            _ => Refusal::Io(shown(), error),
        }
    }
}

/// The system's ways to say that a link stood there when it was opened.
fn is_link_error(error: &io::Error) -> bool {
    #[cfg(unix)]
    if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
        return true;
    }
    error.kind() == io::ErrorKind::NotADirectory
}

fn identity(dir: &Dir) -> io::Result<(u64, u64)> {
    let there = dir.dir_metadata()?;
    Ok((there.dev(), there.ino()))
}
