//! Programs that the tier runs for itself, such as pip: with an environment of their own, no longer than they may, and without leaving
//! anybody behind. No plugin runs here.

use std::{
    ffi::OsString,
    io::{self, Read},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use bespoke_sandbox::{Policy, Report, Spawn};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::child::EXEC;

/// How often it is looked whether the program has ended.
const LOOK: Duration = Duration::from_millis(10);
/// How long what was killed may take to go.
const GONE: Duration = Duration::from_secs(5);
/// Most bytes that are kept of what a program says: its end, where it says why it failed.
const KEPT: usize = 64 << 10;

/// A program to be run.
pub(crate) struct Errand<'a> {
    /// Absolute.
    pub(crate) program: &'a Path,
    pub(crate) args: Vec<OsString>,
    /// All of its environment.
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) folder: &'a Path,
    pub(crate) limit: Duration,
    /// The wall around it, and the program that becomes its supervisor. Without one it is a process group, which ends with its time but
    /// not with this program.
    pub(crate) wall: Option<(PathBuf, Policy)>,
}

/// What became of it.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) succeeded: bool,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    /// What it wanted and the wall refused.
    pub(crate) refused: Vec<String>,
}

impl Errand<'_> {
    /// Runs it until it ends.
    ///
    /// # Errors
    /// When it cannot be started, and when its time is over: then nothing of it is left.
    pub(crate) fn run(self) -> io::Result<Ran> {
        match self.wall.clone() {
            Some((supervisor, policy)) => self.walled(supervisor, policy),
            None => self.bare(),
        }
    }

    fn walled(self, supervisor: PathBuf, policy: Policy) -> io::Result<Ran> {
        let mut child = bespoke_sandbox::spawn(Spawn {
            program: supervisor,
            verb: vec![EXEC.into(), self.program.into()],
            policy,
            command: std::iter::once(self.program.into()).chain(self.args).collect(),
            env: self.env,
            cwd: self.folder.to_owned(),
        })?;
        drop(child.stdin.take());
        let (stdout, stderr, reports) = (child.stdout.take(), child.stderr.take(), child.reports.take());
        std::thread::scope(|scope| {
            let (stdout, stderr) = (scope.spawn(move || end_of(stdout)), scope.spawn(move || end_of(stderr)));
            let told = scope.spawn(move || {
                let (mut succeeded, mut refused) = (false, Vec::new());
                for report in reports.into_iter().flatten().flatten() {
                    match report {
                        Report::Ended { code, .. } => succeeded = code == Some(0),
                        Report::Failed { stage, message, .. } => refused.push(format!("{stage}: {message}")),
                        Report::Denied { call, argument, .. } if refused.len() < 16 => refused.push(format!("{call} {argument}")),
                        _ => {}
                    }
                }
                (succeeded, refused)
            });
            let waited = wait(self.limit, |kill| {
                if kill {
                    child.kill();
                }
                child.try_wait().map(|ended| ended.is_some())
            });
            // Also when it could not be waited for: its pipes end with it.
            drop(child);
            let (succeeded, refused) = told.join().unwrap_or_default();
            let (stdout, stderr) = (stdout.join().unwrap_or_default(), stderr.join().unwrap_or_default());
            waited.map(|()| Ran { succeeded, stdout, stderr, refused })
        })
    }

    fn bare(self) -> io::Result<Ran> {
        use std::os::unix::process::CommandExt as _;
        let mut command = Command::new(self.program);
        command.args(self.args).env_clear().envs(self.env).current_dir(self.folder).process_group(0);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        // An error says that nobody is left in it.
        let kill = || _ = group.map(|group| kill_process_group(group, Signal::KILL));
        std::thread::scope(|scope| {
            let (stdout, stderr) = (scope.spawn(move || end_of(stdout)), scope.spawn(move || end_of(stderr)));
            let mut status = None;
            let waited = wait(self.limit, |now| {
                if now {
                    kill();
                }
                status = child.try_wait()?;
                Ok(status.is_some())
            });
            // Whoever is left of its group holds the pipes.
            kill();
            let (stdout, stderr) = (stdout.join().unwrap_or_default(), stderr.join().unwrap_or_default());
            let succeeded = status.is_some_and(|status| status.success());
            waited.map(|()| Ran { succeeded, stdout, stderr, refused: Vec::new() })
        })
    }
}

/// Until it has ended. `ended` says whether it has, and kills it first where it is told to, once its time is over.
fn wait(limit: Duration, mut ended: impl FnMut(bool) -> io::Result<bool>) -> io::Result<()> {
    let begun = Instant::now();
    let mut killed: Option<Instant> = None;
    loop {
        let over = killed.is_none() && begun.elapsed() > limit;
        if over {
            killed = Some(Instant::now());
        }
        if ended(over)? {
            break;
        }
        if killed.is_some_and(|at| at.elapsed() > GONE) {
            break;
        }
        std::thread::sleep(LOOK);
    }
    match killed {
        None => Ok(()),
        Some(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("it took longer than {} s, and was ended", limit.as_secs()))),
    }
}

/// The last of what it says.
fn end_of(from: Option<impl Read>) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut from) = from else { return kept };
    let mut piece = [0; 8192];
    loop {
        match from.read(&mut piece) {
            Ok(0) => return kept,
            Ok(count) => {
                kept.extend_from_slice(piece.get(..count).unwrap_or_default());
                let over = kept.len().saturating_sub(KEPT);
                kept.drain(..over);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return kept,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> io::Result<Ran> {
        let args = vec!["-c".into(), script.into()];
        Errand { program: Path::new("/bin/sh"), args, env: Vec::new(), folder: Path::new("/"), limit, wall: None }.run()
    }

    #[test]
    fn what_it_said_and_how_it_ended() {
        let ran = shell("echo out; echo err >&2; env", Duration::from_secs(60)).unwrap();
        assert!(ran.succeeded && ran.stdout.starts_with(b"out\n") && ran.stderr == b"err\n", "{ran:?}");
        assert!(!String::from_utf8_lossy(&ran.stdout).contains("HOME="), "{ran:?}");
        assert!(!shell("exit 3", Duration::from_secs(60)).unwrap().succeeded);
        let ran = shell("i=0; while [ $i -lt 20000 ]; do echo 0123456789; i=$((i+1)); done", Duration::from_secs(60)).unwrap();
        assert_eq!(ran.stdout.len(), KEPT);
    }

    #[test]
    fn one_that_does_not_end_is_ended_with_its_children() {
        let e = shell("sleep 1000 & sleep 1000", Duration::from_millis(50)).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::TimedOut);
        // One that ends and leaves somebody behind who holds its pipes.
        assert!(shell("sleep 1000 & exit 0", Duration::from_secs(60)).unwrap().succeeded);
    }
}
