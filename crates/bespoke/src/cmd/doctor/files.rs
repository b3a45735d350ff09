//! Files of the user: the home folder and its room, who else can read what, what was left behind, the logs.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::report::{Repair, Report, Verdict};
use crate::{output::bytes, paths::Paths};

/// Logs never grow beyond this: four that were set aside and the one in use.
const MOST_LOGS: u64 = 48 << 20;
/// A temporary file that nobody has touched for so long is left over.
const LEFT_OVER: Duration = Duration::from_secs(24 * 60 * 60);
/// With less room a conversation may not be kept.
const LEAST_ROOM: u64 = 100_000_000;

pub(crate) fn check(report: &mut Report, paths: &Paths) {
    report.group("Files");
    home(report, &paths.home);
    room(report, &paths.home);
    private(report, paths);
    logs(report, &paths.logs());
    left_over(report, paths);
}

fn home(report: &mut Report, home: &Path) {
    let shown = home.display();
    match fs::metadata(home) {
        Ok(found) if !found.is_dir() => {
            let message = format!("{shown} cannot be written: it is no folder");
            report.add("home folder", Verdict::Problem, message, Some("export BESPOKE_HOME=/a/folder".into()));
        }
        // A file without a name, where the system has such: nothing is seen, nothing stays.
        Ok(_) => match tempfile::tempfile_in(home) {
            Ok(_) => report.ok("home folder", format!("{shown} can be written")),
            Err(error) => unwritable(report, home, &error),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let above = home.ancestors().skip(1).find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
            match tempfile::tempfile_in(above) {
                Ok(_) => report.mend(
                    "home folder",
                    Verdict::Warning,
                    format!("{shown} is not there yet; it is made when something is kept"),
                    &Repair::Folder(home.to_owned()),
                ),
                Err(error) => unwritable(report, home, &error),
            }
        }
        Err(error) => unwritable(report, home, &error),
    }
}

fn unwritable(report: &mut Report, home: &Path, error: &io::Error) {
    let message = format!("{} cannot be written: {error}", home.display());
    report.add("home folder", Verdict::Problem, message, Some("export BESPOKE_HOME=/a/folder".into()));
}

fn room(report: &mut Report, home: &Path) {
    match free(home) {
        Some(free) if free < LEAST_ROOM => {
            let message = format!("{} left where {} is: conversations and model files may not fit", bytes(free), home.display());
            report.add("disk", Verdict::Problem, message, Some(format!("df -h {}", home.display())));
        }
        Some(free) => report.ok("disk", format!("{} free", bytes(free))),
        None => report.skip("disk", "this system does not say how much is free"),
    }
}

/// Bytes that the user may still write where a folder is or would be.
#[cfg(unix)]
pub(crate) fn free(folder: &Path) -> Option<u64> {
    let there = folder.ancestors().find(|folder| folder.exists())?;
    let stat = rustix::fs::statvfs(there).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Bytes that the user may still write where a folder is or would be.
#[cfg(not(unix))]
pub(crate) fn free(_: &Path) -> Option<u64> {
    None
}

/// What only the user may read.
fn private(report: &mut Report, paths: &Paths) {
    let secrets = paths.home.join("secrets");
    let mut ours = vec![(secrets.clone(), 0o700)];
    ours.extend(entries(&secrets).map(|path| (path, 0o600)));
    ours.extend(["state.db", "state.db-wal", "state.db-shm"].map(|name| (paths.home.join(name), 0o600)));
    ours.retain(|(path, _)| path.exists());
    let open: Vec<_> = ours.iter().filter(|(path, _)| others_can(path, 0o077)).collect();
    if open.is_empty() {
        report.ok("private files", "conversations and secrets are yours alone");
    }
    for (path, mode) in open {
        let message = format!("others can reach {}", path.display());
        report.mend("private files", Verdict::Warning, message, &Repair::Private(path.clone(), *mode));
    }
    match &paths.config {
        None => report.skip("file rights", "there is no configuration file"),
        Some(config) if others_can(config, 0o022) => {
            let message = format!("others can change {}", config.display());
            report.mend("file rights", Verdict::Warning, message, &Repair::Private(config.clone(), 0o644));
        }
        Some(_) => report.ok("file rights", "nobody else can change the configuration"),
    }
}

/// Whether somebody else has one of these rights.
#[cfg(unix)]
pub(super) fn others_can(path: &Path, rights: u32) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|found| found.permissions().mode() & rights != 0)
}

/// Rights are not told by numbers here.
#[cfg(not(unix))]
pub(super) fn others_can(_: &Path, _: u32) -> bool {
    false
}

fn logs(report: &mut Report, folder: &Path) {
    let shown = folder.display();
    if !folder.is_dir() {
        return report.skip("logs", format!("nothing is logged yet in {shown}"));
    }
    let log = folder.join("bespoke.log");
    let writable = if log.exists() { fs::File::options().append(true).open(&log) } else { tempfile::tempfile_in(folder) };
    if let Err(error) = writable {
        let fix = format!("chmod -R u+rwX {shown}");
        return report.add("logs", Verdict::Warning, format!("{shown} cannot be written: {error}"), Some(fix));
    }
    let size: u64 = entries(folder).filter_map(|path| fs::metadata(path).ok()).map(|found| found.len()).sum();
    match size {
        0..=MOST_LOGS => report.ok("logs", format!("{} in {shown}", bytes(size))),
        _ => {
            let message = format!("{} in {shown}: something else is kept there, too", bytes(size));
            report.add("logs", Verdict::Warning, message, Some(format!("du -a {shown}")));
        }
    }
}

/// What a run that was cut off did not clean up. Lock files are not among it: one that is removed while it is held would let a second
/// holder in.
fn left_over(report: &mut Report, paths: &Paths) {
    let models = paths.models();
    let temporary = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".tmp"));
    let mut found: Vec<PathBuf> = entries(&paths.home).chain(entries(&paths.home.join("secrets"))).filter(temporary).collect();
    found.extend(entries(&models.join(".staging")).filter(|path| path.is_dir()));
    found.extend(entries(&models.join(".partial")).flat_map(|folder| entries(&folder).collect::<Vec<_>>()));
    found.retain(|path| is_old(path));
    if found.is_empty() {
        report.ok("left over", "no temporary files of programs that were cut off");
    }
    for path in found {
        let message = format!("{} is more than a day old, and nobody uses it", path.display());
        report.mend("left over", Verdict::Warning, message, &Repair::Remove(path));
    }
}

fn is_old(path: &Path) -> bool {
    let changed = fs::symlink_metadata(path).and_then(|found| found.modified());
    changed.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > LEFT_OVER))
}

/// What a folder holds, sorted; nothing when it is not there.
fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let mut entries: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    entries.into_iter()
}
