//! Which paths a policy allows, as Landlock will see them: after links. It decides nothing but what the supervisor does itself.

use std::{
    collections::HashSet,
    fs, io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags};

use crate::{policy::Files, report::What};

/// How many paths are remembered.
const REMEMBERED: usize = 4096;

pub(super) struct Paths {
    read: Vec<PathBuf>,
    write: Vec<PathBuf>,
    execute: Vec<PathBuf>,
    /// Paths that may be read, without links.
    plain: HashSet<PathBuf>,
}

impl Paths {
    /// `command` is the process whose own folder in `/proc` is meant by `/proc/self`.
    pub(super) fn new(files: &Files, programs: &[PathBuf], command: u32) -> Self {
        let real = |paths: &[PathBuf]| -> Vec<PathBuf> {
            paths
                .iter()
                .filter_map(|path| match path.strip_prefix("/proc/self") {
                    Ok(rest) => Some(Path::new("/proc").join(command.to_string()).join(rest)),
                    // What leads through a link was not allowed either.
                    Err(_) => fs::canonicalize(path).ok().filter(|real| real == path),
                })
                .collect()
        };
        let mut execute = real(&files.execute);
        execute.extend(real(programs));
        let mut read = real(&files.read);
        read.extend(real(programs));
        Paths { read, write: real(&files.write), execute, plain: HashSet::new() }
    }

    /// Whether the policy allows it for a path without links.
    pub(super) fn allows(&self, what: What, real: &Path) -> bool {
        let below = |roots: &[PathBuf]| roots.iter().any(|root| real.starts_with(root));
        match what {
            What::Read => below(&self.read) || below(&self.write),
            What::Write => below(&self.write),
            _ => below(&self.execute),
        }
    }

    /// The path behind the links where it is refused; none where it is allowed, or where there is nothing to refuse.
    pub(super) fn refused(&mut self, what: What, path: &Path, follow: bool, create: bool) -> Option<PathBuf> {
        if what == What::Read && self.plain.contains(path) {
            return None;
        }
        let real = match locate(path, follow) {
            Ok((_, real)) => real,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Nothing is there: that is no refusal, unless it was to be made.
                let (parent, name) = (path.parent()?, path.file_name()?);
                if !create {
                    return None;
                }
                locate(parent, true).ok()?.1.join(name)
            }
            // This process may not look either; the path must speak for itself.
            Err(_) => path.to_path_buf(),
        };
        // Pipes and sockets have no place, and these names lead to this process's own descriptors, which are nobody's.
        if !real.is_absolute() || path.starts_with("/dev/fd") || path.starts_with("/dev/stdin") {
            return None;
        }
        if !self.allows(what, &real) {
            return Some(real);
        }
        // Only what nobody behind the wall can change: a link there may lead elsewhere the next time.
        if what == What::Read && real == path && !self.allows(What::Write, &real) {
            if self.plain.len() >= REMEMBERED {
                self.plain.clear();
            }
            self.plain.insert(real);
        }
        None
    }
}

/// A handle for what is there, which neither reads nor writes, and its path without links.
pub(super) fn locate(path: &Path, follow: bool) -> io::Result<(OwnedFd, PathBuf)> {
    let mut flags = OFlags::PATH | OFlags::CLOEXEC;
    if !follow {
        flags |= OFlags::NOFOLLOW;
    }
    let handle = rustix::fs::open(path, flags, Mode::empty())?;
    let real = fs::read_link(own(&handle))?;
    Ok((handle, real))
}

/// The name by which this process reaches what a handle stands for.
pub(super) fn own(handle: &impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", handle.as_fd().as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_those_behind_the_links() {
        let place = std::env::temp_dir().join(format!("bespoke-paths-{}", std::process::id()));
        let (inside, outside) = (place.join("inside"), place.join("outside"));
        fs::create_dir_all(&inside).unwrap();
        fs::create_dir_all(&outside).unwrap();
        fs::write(outside.join("secret"), "x").unwrap();
        fs::write(inside.join("mine"), "x").unwrap();
        std::os::unix::fs::symlink("../outside/secret", inside.join("link")).unwrap();
        let files = Files { write: vec![fs::canonicalize(&inside).unwrap()], ..Files::default() };
        let mut paths = Paths::new(&files, &[], 1);
        let real = fs::canonicalize(&place).unwrap();
        for (path, what, follow, create, expected) in [
            ("inside/mine", What::Write, true, false, None),
            ("inside/new", What::Write, true, true, None),
            ("inside/link", What::Read, true, false, Some("outside/secret")),
            ("inside/link", What::Write, false, false, None),
            ("inside/link", What::Write, true, true, Some("outside/secret")),
            ("inside/../outside/secret", What::Read, true, false, Some("outside/secret")),
            ("outside/new", What::Write, true, true, Some("outside/new")),
            ("outside/none", What::Read, true, false, None),
            ("inside/mine", What::Execute, true, false, Some("inside/mine")),
        ] {
            let found = paths.refused(what, &place.join(path), follow, create);
            assert_eq!(found, expected.map(|path| real.join(path)), "{path} {what:?}");
        }
        fs::remove_dir_all(&place).unwrap();
    }
}
