//! What was found, and how it is told. Checks nothing by itself.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::{
    exit::{Failure, Result},
    files,
    output::{Out, Style, wrapped},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Ok,
    Warning,
    Problem,
    /// There was nothing to look at.
    Skipped,
}

#[derive(Debug, Serialize)]
pub(crate) struct Check {
    #[serde(skip)]
    group: &'static str,
    pub(crate) name: String,
    pub(crate) verdict: Verdict,
    pub(crate) message: String,
    /// The command to type.
    pub(crate) fix: Option<String>,
}

/// What `--fix` may do by itself. There is no variant that grants anything.
#[derive(Debug)]
pub(crate) enum Repair {
    /// Makes a folder, for the user alone.
    Folder(PathBuf),
    /// Takes the rights of others from a file or a folder; the user keeps these.
    Private(PathBuf, u32),
    /// Removes a file or a folder that a program left behind.
    Remove(PathBuf),
}

#[derive(Debug, Default)]
pub(crate) struct Report {
    group: &'static str,
    checks: Vec<Check>,
    mends: bool,
    mendable: usize,
}

impl Report {
    /// One that mends what it safely can, if it is told to.
    pub(crate) fn new(mends: bool) -> Self {
        Report { mends, ..Report::default() }
    }

    /// What is added from now on belongs to this group.
    pub(crate) fn group(&mut self, name: &'static str) {
        self.group = name;
    }

    pub(crate) fn ok(&mut self, name: &str, message: impl Into<String>) {
        self.add(name, Verdict::Ok, message, None);
    }

    pub(crate) fn skip(&mut self, name: &str, message: impl Into<String>) {
        self.add(name, Verdict::Skipped, message, None);
    }

    pub(crate) fn add(&mut self, name: &str, verdict: Verdict, message: impl Into<String>, fix: Option<String>) {
        let mut message = message.into();
        // A grant is the user's to decide, so it is told as what it is, and not as the command that mends.
        let fix = match fix.filter(|fix| !fix.is_empty()) {
            Some(fix) if grants(&fix) => {
                message += &format!("; yours to decide: {fix}");
                None
            }
            fix => fix,
        };
        self.checks.push(Check { group: self.group, name: name.into(), verdict, message, fix });
    }

    /// Adds what is wrong, or mends it.
    pub(crate) fn mend(&mut self, name: &str, verdict: Verdict, message: impl Into<String>, repair: &Repair) {
        let message = message.into();
        let command = repair.command();
        if !self.mends {
            self.mendable += 1;
            return self.add(name, verdict, message, Some(command));
        }
        match repair.make() {
            Ok(()) => self.ok(name, format!("mended: {message}; {command}")),
            Err(error) => self.add(name, verdict, format!("{message}; cannot be mended: {error}"), Some(command)),
        }
    }

    /// Prints it.
    ///
    /// # Errors
    /// When there is a problem.
    pub(crate) fn show(&self, out: Out, quiet: bool) -> Result<()> {
        if out.json {
            out.json(&self.checks, true)?;
        } else {
            let mut group = "";
            for check in self.checks.iter().filter(|check| !quiet || matches!(check.verdict, Verdict::Warning | Verdict::Problem)) {
                if check.group != group {
                    if !group.is_empty() {
                        out.line("")?;
                    }
                    group = check.group;
                    out.line(out.paint(Style::Bold, group))?;
                }
                lines(check, &out).into_iter().try_for_each(|line| out.line(line))?;
            }
            out.note(self.summary());
        }
        match self.count(Verdict::Problem) {
            0 => Ok(()),
            1 => Err(Failure::failed("1 problem")),
            n => Err(Failure::failed(format!("{n} problems"))),
        }
    }

    #[cfg(test)]
    pub(crate) fn checks(&self) -> &[Check] {
        &self.checks
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.checks.iter().filter(|check| check.verdict == verdict).count()
    }

    fn summary(&self) -> String {
        let (warnings, ok) = (self.count(Verdict::Warning), self.count(Verdict::Ok));
        let mut text = format!("\n{ok} fine, {warnings} {}.", if warnings == 1 { "warning" } else { "warnings" });
        if warnings + self.count(Verdict::Problem) > 0 {
            text += " bespoke doctor --quiet shows only what is wrong.";
        }
        if self.mendable > 0 {
            text += &format!(" bespoke doctor --fix mends {} of this by itself.", self.mendable);
        }
        text
    }
}

impl Repair {
    /// What a person would type.
    fn command(&self) -> String {
        let quoted = |path: &Path| {
            let text = path.display().to_string();
            let plain = |c: char| c.is_alphanumeric() || "/._-+=@%,:~".contains(c);
            if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
        };
        match self {
            Repair::Folder(path) => format!("mkdir -p {}", quoted(path)),
            Repair::Private(path, mode) => format!("chmod {mode:o} {}", quoted(path)),
            Repair::Remove(path) => format!("rm -r {}", quoted(path)),
        }
    }

    fn make(&self) -> io::Result<()> {
        match self {
            Repair::Folder(path) => files::folder(path),
            #[cfg(unix)]
            Repair::Private(path, mode) => fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(*mode)),
            #[cfg(not(unix))]
            Repair::Private(..) => Err(io::Error::from(io::ErrorKind::Unsupported)),
            // A link is not followed.
            Repair::Remove(path) if fs::symlink_metadata(path)?.is_dir() => fs::remove_dir_all(path),
            Repair::Remove(path) => fs::remove_file(path),
        }
    }
}

/// Whether a command gives a plugin, a model or a download more than it had. The command may stand inside a sentence; what it
/// names, such as a path, means nothing.
fn grants(command: &str) -> bool {
    let words: Vec<&str> = command.split_whitespace().map(|word| word.trim_matches(['(', ')', '`', '"', '\'', ';', ','])).collect();
    let agrees = words.iter().any(|word| matches!(*word, "--yes" | "-y" | "sudo"));
    let sets = |key: &str| {
        let mut parts = key.strip_prefix("plugins.").unwrap_or_default().split('.');
        let first = parts.next().unwrap_or_default();
        matches!(first, "auto_install" | "auto_install_deps")
            || parts.any(|part| part.starts_with("allow") || matches!(part, "enabled" | "grants" | "write"))
    };
    let does = |words: &[&str]| match words {
        ["bespoke", "config", "set", key] => sets(key),
        ["bespoke", "plugin", verb, _] => matches!(*verb, "allow" | "enable" | "grant"),
        _ => false,
    };
    agrees || words.windows(4).any(does)
}

/// How wide the names are; a longer one pushes its message along.
const NAMES: usize = 18;

/// The lines of a check: on a terminal the message is wrapped beside its name, in a pipe it is one line.
fn lines(check: &Check, out: &Out) -> Vec<String> {
    let (mark, style) = match check.verdict {
        Verdict::Ok => ("ok  ", Style::Green),
        Verdict::Warning => ("warn", Style::Yellow),
        Verdict::Problem => ("FAIL", Style::Red),
        Verdict::Skipped => ("-   ", Style::Dim),
    };
    let before = 4 + 1 + NAMES + 1;
    let room = out.columns().map_or(usize::MAX, |width| width.saturating_sub(before).max(24));
    let mut shown = Vec::new();
    let mut head = format!("{} {:<NAMES$} ", out.paint(style, mark), check.name);
    let beside = room.saturating_sub(check.name.chars().count().saturating_sub(NAMES));
    // The first line has less room beside a long name.
    let pieces = check.message.lines().enumerate().flat_map(|(n, line)| wrapped(line, if n == 0 { beside } else { room }));
    for piece in pieces {
        shown.push(std::mem::replace(&mut head, " ".repeat(before)) + piece.trim_end());
    }
    if let Some(fix) = &check.fix {
        // A command stays whole, so that it can be copied.
        shown.push(format!("{}→ {}", " ".repeat(if room < 40 { 5 } else { before }), out.paint(Style::Dim, fix)));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_grants_is_never_a_fix() {
        for command in [
            "bespoke config set plugins.shell.allow '[\"git\"]'",
            "bespoke config set plugins.fetch.allow_private '[\"localhost\"]'",
            "bespoke config set plugins.guard.enabled true",
            "bespoke config set plugins.files.write true",
            "bespoke config set plugins.auto_install_deps true",
            "bespoke plugin download-files --yes",
            "bespoke plugin download-files -y",
            "bespoke plugin enable shell",
            "sudo chown me state.db",
            "no host may be asked until some are named: bespoke config set plugins.fetch.allow '[\"example.com\"]'",
        ] {
            let mut report = Report::new(false);
            report.add("x", Verdict::Warning, "is off", Some(command.into()));
            assert_eq!(report.checks[0].fix, None, "{command}");
            assert_eq!(report.checks[0].message, format!("is off; yours to decide: {command}"));
        }
        for command in [
            "bespoke plugin download-files smol",
            "bespoke config edit",
            "chmod 600 state.db",
            "bespoke init",
            // What a path or a value is called grants nothing.
            "chmod 600 '/home/write auto/allow/yes.toml'",
            "mkdir -p /srv/auto-yes/enabled",
            "rm -r /x/sudo/-y",
            "bespoke config set plugins.files.root ~/write",
            "bespoke config set agent.provider '[\"auto\"]'",
        ] {
            let mut report = Report::new(false);
            report.add("x", Verdict::Warning, "is off", Some(command.into()));
            assert_eq!(report.checks[0].fix.as_deref(), Some(command));
        }
    }

    #[test]
    fn what_is_mended_is_mended_and_what_cannot_be_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (new, old) = (folder.path().join("a/b"), folder.path().join(".tmpAAAAAA"));
        fs::write(&old, b"").unwrap();
        let mut report = Report::new(true);
        report.mend("folder", Verdict::Warning, "is missing", &Repair::Folder(new.clone()));
        report.mend("old", Verdict::Warning, "is old", &Repair::Remove(old.clone()));
        report.mend("gone", Verdict::Warning, "is old", &Repair::Remove(old.clone()));
        assert!(new.is_dir() && !old.exists());
        let verdicts: Vec<_> = report.checks.iter().map(|check| check.verdict).collect();
        assert_eq!(verdicts, [Verdict::Ok, Verdict::Ok, Verdict::Warning]);
        assert!(report.checks[2].message.contains("cannot be mended"), "{report:?}");
    }
}
