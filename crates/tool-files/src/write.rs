//! Writes a file: beside it first, then in its place, so that nobody ever sees half of one.

use std::{
    io::{self, Read, Write},
    sync::atomic::{AtomicU64, Ordering},
};

use bespoke_plugin_api::{
    ToolOutput,
    serde::{self, Deserialize},
    serde_json::json,
};
use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt};
use cap_std::fs::{Dir, OpenOptions, Permissions};

use crate::{
    refusal::{Refusal, Shown},
    root::Root,
};

/// What happens when the file exists already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(crate = "serde", rename_all = "snake_case")]
pub(crate) enum Mode {
    /// It stays, and the answer says so.
    #[default]
    Create,
    /// It is overwritten.
    Replace,
    /// The text is added at its end.
    Append,
}

/// Limits on writing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Most bytes of a file.
    pub(crate) bytes: u64,
    /// Whether missing folders are made.
    pub(crate) create_folders: bool,
}

/// Writes a file. Two calls at a time must be kept apart by the caller.
pub(crate) fn write(root: &Root, path: &str, text: &str, mode: Mode, limits: Limits) -> Result<ToolOutput, Refusal> {
    let path = root.parse(path)?;
    let shown = Shown::new(&path.text());
    let Some((folders, name)) = path.split() else { return Err(Refusal::NotAFile(Shown::new("."))) };
    let fits = |bytes: u64| if bytes > limits.bytes { Err(Refusal::TooLarge(shown.clone(), bytes, limits.bytes)) } else { Ok(()) };
    fits(text.len() as u64)?;
    let dir = folder(root, folders, limits.create_folders, &shown)?;
    let old = match root.file(&dir, name, || shown.clone()) {
        Ok(_) if mode == Mode::Create => return Err(Refusal::Exists(shown)),
        // Putting another file in its place would get around that.
        Ok((_, there)) if there.permissions().readonly() => return Err(Refusal::ReadOnly(shown)),
        Ok((mut file, there)) => {
            let mut content = Vec::new();
            if mode == Mode::Append {
                fits(there.len().saturating_add(text.len() as u64))?;
                (&mut file).take(limits.bytes).read_to_end(&mut content).map_err(|e| Refusal::Io(shown.clone(), e))?;
            }
            Some((content, plain(there.permissions())))
        }
        Err(Refusal::NotFound(_)) => None,
        Err(other) => return Err(other),
    };
    let is_new = old.is_none();
    let (mut content, permissions) = old.map_or((Vec::new(), None), |(content, permissions)| (content, Some(permissions)));
    content.extend_from_slice(text.as_bytes());
    fits(content.len() as u64)?;
    place(&dir, name, &content, permissions).map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => Refusal::Exists(shown.clone()),
        _ => Refusal::Io(shown.clone(), e),
    })?;
    let size = content.len();
    let said = match mode {
        _ if is_new => "written",
        Mode::Append => "continued",
        Mode::Create | Mode::Replace => "replaced",
    };
    let data = json!({ "path": path.text(), "size": size, "new": is_new });
    Ok(ToolOutput::text(format!("{shown} is {said}; it has {size} bytes")).with_data(data))
}

/// Goes down to a folder, and makes what is missing where that is allowed.
fn folder(root: &Root, names: &[String], create: bool, shown: &Shown) -> Result<Dir, Refusal> {
    let mut dir = root.folder(&[])?;
    for (depth, name) in names.iter().enumerate() {
        let here = || Shown::new(&names[..=depth].join("/"));
        dir = match root.step(&dir, name, here) {
            Err(Refusal::NotFound(_)) if !create => return Err(Refusal::NoFolder(shown.clone())),
            Err(Refusal::NotFound(_)) => {
                match dir.create_dir(name) {
                    Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(Refusal::Io(here(), e)),
                    _ => {}
                }
                root.step(&dir, name, here)?
            }
            other => other?,
        };
    }
    Ok(dir)
}

/// Puts content under a name. `permissions` are those of the file that is replaced; `None` where there must not be one.
fn place(dir: &Dir, name: &str, content: &[u8], permissions: Option<Permissions>) -> io::Result<()> {
    let staged = Staged::new(dir)?;
    staged.fill(content, permissions.as_ref())?;
    // A new name is taken first: of two who want it, one gets it, and what stands there already is never replaced.
    if permissions.is_none() {
        dir.open_with(name, &exclusive())?;
    }
    // It replaces the name, not what a link of that name would lead to.
    if let Err(e) = dir.rename(&staged.name, dir, name) {
        if permissions.is_none() {
            let _ = dir.remove_file(name);
        }
        return Err(e);
    }
    // So that the name, too, survives a loss of power. Not every file system can.
    #[cfg(unix)]
    if let Ok(folder) = dir.open(".") {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// Who may read, write and run a file; without the bits that make whoever runs it somebody else.
fn plain(permissions: Permissions) -> Permissions {
    #[cfg(unix)]
    let permissions = {
        use cap_std::fs::PermissionsExt;
        Permissions::from_mode(permissions.mode() & 0o777)
    };
    permissions
}

fn exclusive() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).follow(FollowSymlinks::No);
    options
}

/// A file on its way; gone if it does not arrive.
struct Staged<'d> {
    dir: &'d Dir,
    name: String,
    file: cap_std::fs::File,
}

impl<'d> Staged<'d> {
    fn new(dir: &'d Dir) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Names left behind by a program that was killed are passed over.
        for _ in 0..100 {
            let name = format!(".bespoke-{}-{}.tmp", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            match dir.open_with(&name, &exclusive()) {
                Ok(file) => return Ok(Staged { dir, name, file }),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "the folder is full of unfinished files named .bespoke-*.tmp"))
    }

    fn fill(&self, content: &[u8], permissions: Option<&Permissions>) -> io::Result<()> {
        (&self.file).write_all(content)?;
        if let Some(permissions) = permissions {
            self.file.set_permissions(permissions.clone())?;
        }
        self.file.sync_all()
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        // After the rename there is nothing of that name; then this fails, as it should.
        let _ = self.dir.remove_file(&self.name);
    }
}
