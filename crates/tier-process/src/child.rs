//! A child process and the only hold on it: its pipes, how it is ended, how it did end. Behind its wall it has a supervisor, which sees to
//! it that nothing is left behind; without one it has a process group. What it is told and what it says is the pump's.

use std::{
    ffi::OsString,
    io,
    os::{
        fd::OwnedFd,
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bespoke_host::Used;
use bespoke_plugin_api::{Code, Error, Result};
use bespoke_sandbox::{Policy, Report, Spawn};
use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    process::{Pid, Signal, WaitOptions, kill_process_group, waitpid},
};

use crate::{ending::Exit, outbox::Waker};

/// What is started.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    /// The program; absolute.
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    /// All of its environment.
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) folder: PathBuf,
    /// The wall around it, and the program that becomes its supervisor. `None` where there is no such program.
    pub(crate) wall: Option<(PathBuf, Policy)>,
    /// A folder that is there as long as the child is.
    pub(crate) scratch: Option<Arc<tempfile::TempDir>>,
    /// Where it is counted what the wall refuses.
    pub(crate) used: Arc<Used>,
}

/// A child that was started. Dropping it ends it and all that it has started.
pub(crate) struct Child {
    pipes: Option<Pipes>,
    hold: Hold,
    exit: Option<Exit>,
    _scratch: Option<Arc<tempfile::TempDir>>,
}

/// This side's ends, whose reads and writes do not wait.
pub(crate) struct Pipes {
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

enum Hold {
    /// A supervisor that says no more is about to end. It is waited for until then, so that nothing of it is left when its end is told;
    /// not for ever, so that one that hangs in the kernel holds up nobody.
    Walled {
        child: bespoke_sandbox::Child,
        news: Arc<News>,
        until: Option<Instant>,
    },
    Bare(std::process::Child),
}

/// What the pipes of the protocol hold: 64 KiB of audio and the line before it, which the usual 64 KiB do not. One that does not fit costs
/// several switches more.
#[cfg(target_os = "linux")]
const ROOM: usize = 128 << 10;

/// How long a supervisor that says no more may take to end.
const ENDING: Duration = Duration::from_millis(200);

/// What the supervisor has told and nobody has read yet.
#[derive(Default)]
struct News(Mutex<(Vec<Report>, bool)>);

impl News {
    fn lock(&self) -> MutexGuard<'_, (Vec<Report>, bool)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Most reports that wait to be read; the supervisor itself tells the same thing only once a while.
const MOST_NEWS: usize = 1024;

impl Child {
    /// Starts it. The waker is told when there is something to [read](Self::reports).
    ///
    /// # Errors
    /// `LOAD_FAILED`, naming the program; `RESOURCE_EXHAUSTED`.
    pub(crate) fn start(launch: &Launch, waker: &Arc<Waker>) -> Result<Self> {
        let failed = |e: io::Error| {
            let exhausted = matches!(e.kind(), io::ErrorKind::OutOfMemory | io::ErrorKind::WouldBlock | io::ErrorKind::QuotaExceeded);
            let code = if exhausted { Code::RESOURCE_EXHAUSTED } else { Code::LOAD_FAILED };
            Error::new(code, format!("{} could not be started: {e}", launch.program.display()))
        };
        match &launch.wall {
            Some((supervisor, policy)) => Self::walled(launch, supervisor, policy, waker),
            None => Self::bare(launch),
        }
        .map_err(failed)
    }

    fn new(launch: &Launch, pipes: Pipes, hold: Hold) -> io::Result<Self> {
        let mut child = Child { pipes: None, hold, exit: None, _scratch: launch.scratch.clone() };
        // Only this side: the child has ends of its own, whose reads and writes wait as ever.
        for fd in [&pipes.stdin, &pipes.stdout, &pipes.stderr] {
            fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?;
        }
        #[cfg(target_os = "linux")]
        for fd in [&pipes.stdin, &pipes.stdout] {
            // Where the system does not give so much, messages take more pieces.
            let _ = rustix::pipe::fcntl_setpipe_size(fd, ROOM);
        }
        child.pipes = Some(pipes);
        Ok(child)
    }

    fn walled(launch: &Launch, supervisor: &std::path::Path, policy: &Policy, waker: &Arc<Waker>) -> io::Result<Self> {
        let spawn = Spawn {
            program: supervisor.to_owned(),
            // The second word is for people who look at a list of processes.
            verb: vec![EXEC.into(), launch.program.clone().into()],
            policy: policy.clone(),
            command: std::iter::once(launch.program.clone().into()).chain(launch.args.iter().cloned()).collect(),
            env: launch.env.clone(),
            cwd: launch.folder.clone(),
        };
        let mut child = bespoke_sandbox::spawn(spawn)?;
        let lacking = || io::Error::other("a child without the pipes that were asked for");
        let stdin = child.stdin.take().map(OwnedFd::from).ok_or_else(lacking)?;
        let stdout = child.stdout.take().map(OwnedFd::from).ok_or_else(lacking)?;
        let stderr = child.stderr.take().map(OwnedFd::from).ok_or_else(lacking)?;
        let reports = child.reports.take().ok_or_else(lacking)?;
        let news = Arc::new(News::default());
        let (told, waker) = (news.clone(), waker.clone());
        std::thread::Builder::new().name("plugin-wall".into()).stack_size(128 << 10).spawn(move || {
            for report in reports {
                // A line that cannot be read is one that is longer than it may be.
                let Ok(report) = report else { continue };
                let mut news = told.lock();
                let last = matches!(report, Report::Ended { .. } | Report::Failed { .. });
                if news.0.len() < MOST_NEWS || last {
                    news.0.push(report);
                }
                drop(news);
                waker.wake();
            }
            told.lock().1 = true;
            waker.wake();
        })?;
        Self::new(launch, Pipes { stdin, stdout, stderr }, Hold::Walled { child, news, until: None })
    }

    fn bare(launch: &Launch) -> io::Result<Self> {
        let mut process = Command::new(&launch.program)
            .args(&launch.args)
            .env_clear()
            .envs(launch.env.iter().map(|(name, value)| (name, value)))
            .current_dir(&launch.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let lacking = || io::Error::other("a child without the pipes that were asked for");
        let stdin = process.stdin.take().map(OwnedFd::from).ok_or_else(lacking)?;
        let stdout = process.stdout.take().map(OwnedFd::from).ok_or_else(lacking)?;
        let stderr = process.stderr.take().map(OwnedFd::from).ok_or_else(lacking)?;
        Self::new(launch, Pipes { stdin, stdout, stderr }, Hold::Bare(process))
    }

    pub(crate) fn take_pipes(&mut self) -> Option<Pipes> {
        self.pipes.take()
    }

    /// Its process, where that is known without being told.
    pub(crate) fn pid(&self) -> Option<u32> {
        match &self.hold {
            Hold::Walled { .. } => None,
            Hold::Bare(process) => Some(process.id()),
        }
    }

    /// How often its end has to be looked for, where nothing tells of it.
    pub(crate) fn look_every(&self) -> Option<Duration> {
        match &self.hold {
            Hold::Walled { until, .. } => until.map(|_| Duration::from_millis(1)),
            Hold::Bare(_) => Some(Duration::from_millis(20)),
        }
    }

    /// What its supervisor has told since.
    pub(crate) fn reports(&mut self) -> Vec<Report> {
        let Hold::Walled { news, .. } = &self.hold else { return Vec::new() };
        std::mem::take(&mut news.lock().0)
    }

    /// It ended so, its supervisor says.
    pub(crate) fn has_ended(&mut self, exit: Exit) {
        self.exit.get_or_insert(exit);
        // What it has started does not outlive it.
        self.kill_all();
    }

    /// How it ended, once nothing is left of it.
    pub(crate) fn gone(&mut self) -> Option<Exit> {
        match &mut self.hold {
            Hold::Walled { child, news, until } => {
                if !news.lock().1 {
                    return None;
                }
                let now = Instant::now();
                let status = child.try_wait();
                if matches!(status, Ok(None)) && now < *until.get_or_insert(now + ENDING) {
                    return None;
                }
                let exit = self.exit.get_or_insert_with(|| match status {
                    // It is the supervisor that was killed, and the child with it.
                    Ok(Some(status)) => Exit::Unknown(format!("its supervisor ended ({status})")),
                    Ok(None) => Exit::Unknown("its supervisor says no more".into()),
                    Err(e) => Exit::Unknown(e.to_string()),
                });
                Some(exit.clone())
            }
            Hold::Bare(process) => {
                if self.exit.is_none() {
                    self.exit = match process.try_wait() {
                        Ok(None) => None,
                        Ok(Some(status)) => Some(exit(status)),
                        Err(e) => Some(Exit::Unknown(e.to_string())),
                    };
                    if self.exit.is_some() {
                        // The group exists as long as one of its processes does, so its number is not somebody else's yet.
                        self.kill_all();
                    }
                }
                self.exit.clone()
            }
        }
    }

    /// Ends it and all that it has started.
    pub(crate) fn kill(&mut self) {
        if self.exit.is_none() {
            self.kill_all();
        }
    }

    fn kill_all(&self) {
        match &self.hold {
            Hold::Walled { child, .. } => child.kill(),
            Hold::Bare(process) => {
                if let Some(group) = pid(process) {
                    // An error says that nobody is left in it.
                    let _ = kill_process_group(group, Signal::KILL);
                }
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.gone().is_none() {
            self.kill();
            if let Hold::Bare(process) = &self.hold
                && let Some(pid) = pid(process)
            {
                // A process that was killed ends, if the kernel lets it; this is what takes it out of the table. Without a thread it
                // stays in there until this program ends.
                let wait = move || waitpid(Some(pid), WaitOptions::empty());
                let _ = std::thread::Builder::new().name("plugin-wait".into()).stack_size(64 << 10).spawn(wait);
            }
        }
    }
}

/// The inner verb that becomes a supervisor.
pub(crate) const EXEC: &str = "__exec";

fn exit(status: ExitStatus) -> Exit {
    status.code().map(Exit::Code).or(status.signal().map(Exit::Signal)).unwrap_or_else(|| Exit::Unknown(status.to_string()))
}

fn pid(process: &std::process::Child) -> Option<Pid> {
    i32::try_from(process.id()).ok().and_then(Pid::from_raw)
}
