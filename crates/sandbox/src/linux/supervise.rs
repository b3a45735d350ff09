//! The supervisor: starts one command, answers for it, watches it, and leaves nothing of it behind. It knows nothing of what is said
//! over the command's pipes. One thread, one loop.
#![allow(unsafe_code, reason = "fork and signal descriptors have no safe form")]

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::{ffi::OsStringExt, net::UnixStream, process::ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Command, ExitCode, ExitStatus},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
    process::{Signal, WaitOptions},
};

use super::{
    calls,
    crowd::Crowd,
    denials::Denials,
    disk::Counter,
    family,
    host::{Host, Wish},
    listener::Listener,
    meter::{Found, Meter},
    paths::Paths,
    probe, programs,
    questions::{Questions, Told},
    spawn::{Bytes, Orders},
    wall::{self, Failure, Plan},
};
use crate::{
    Report,
    ability::{Part, missing},
    policy::Policy,
    report::{Acted, Limit},
};

/// How often it looks around when nothing is limited: for the dead that came to it, and for refusals that were counted.
const IDLE: Duration = Duration::from_secs(1);
/// How often it looks whether those that it has asked, or killed, are gone.
const ENDING: Duration = Duration::from_millis(5);
/// How long what a command has started may go on when the command itself has ended and nobody asked it to.
const AFTER: Duration = Duration::from_millis(500);
/// How long it tries to kill. Only a process that the kernel holds lasts so long.
const KILLING: Duration = Duration::from_secs(30);
/// How many questions are answered before it looks at anything else.
const QUESTIONS: usize = 64;

/// Becomes the supervisor of one command, and returns when nothing is left of it. To be called before a program does anything else: it
/// must have one thread. The arguments are only for people to see.
pub fn supervise(_arguments: &[OsString]) -> ExitCode {
    match guard() {
        Ok(code) => code,
        Err(error) => {
            // Somebody called the verb by hand, or the host is gone already.
            let _ = writeln!(io::stderr(), "this is how the program starts plugins, not a command for people: {error}");
            ExitCode::from(2)
        }
    }
}

/// Two processes watch over each other, as either may be killed. The first does nothing but wait: when the second is killed, what it
/// supervised comes to the first, which kills it; when the first is killed, the second is told and ends.
fn guard() -> io::Result<ExitCode> {
    // A session of its own: what a terminal sends to the host does not end the supervisor before it could clean up.
    let _ = rustix::process::setsid();
    rustix::process::set_child_subreaper(rustix::process::getpid().into())?;
    let first = std::process::id();
    // SAFETY: this process has one thread, so that the fork may run anything.
    let second = match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        0 => {
            rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
            if rustix::process::getppid().is_none_or(|parent| parent.as_raw_pid().unsigned_abs() != first) {
                return Err(io::Error::other("the first supervisor has gone"));
            }
            start()?.run();
            return Ok(ExitCode::SUCCESS);
        }
        pid => pid,
    };
    let_go_of_pipes()?;
    wall::close_inherited(&-1)?;
    let mut code = ExitCode::FAILURE;
    let until = loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_pid() == second => {
                if status.exit_status() == Some(0) {
                    code = ExitCode::SUCCESS;
                } else if status.exit_status() == Some(2) {
                    code = ExitCode::from(2);
                }
                break Instant::now() + KILLING;
            }
            Err(rustix::io::Errno::INTR) | Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
    };
    // Nobody is left, unless the second was killed.
    while Instant::now() < until {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) => {
                kill_descendants();
                std::thread::sleep(ENDING);
            }
            Err(_) => return Ok(code),
        }
    }
    Ok(ExitCode::FAILURE)
}

struct Supervisor {
    host: Host,
    policy: Policy,
    command: u32,
    signals: File,
    listener: Option<Listener>,
    questions: Questions,
    crowd: Crowd,
    meter: Meter,
    disk: Option<Counter>,
    denials: Denials,
    /// Says that the command was executed, by its end, or why not.
    link: Option<UnixStream>,
    failure: Vec<u8>,
    started: bool,
    ended: Option<ExitStatus>,
    told: bool,
    limit: Option<Limit>,
    halted: bool,
    ending: Ending,
}

/// How far it is with the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    No,
    /// They were asked to, and are killed then.
    Asked(Instant),
    /// They are being killed, and given up then.
    Killing(Instant),
}

fn start() -> io::Result<Supervisor> {
    // SAFETY: descriptor 0 is open, as the host made it, or the call fails; nobody else owns it here.
    let stdin = unsafe { OwnedFd::from_raw_fd(0) };
    let control = rustix::io::fcntl_dupfd_cloexec(&stdin, 3)?;
    // It goes on being descriptor 0, until it is replaced.
    std::mem::forget(stdin);
    wall::close_inherited(&control)?;
    let (mut host, orders, stdin) = Host::greet(control)?;

    rustix::process::set_child_subreaper(rustix::process::getpid().into())?;
    let signals = block_signals()?;

    let Orders { policy, command, env } = orders;
    let text = |bytes: Bytes| OsString::from_vec(bytes.into_vec());
    let mut words = command.into_iter().map(text);
    let program = PathBuf::from(words.next().unwrap_or_default());
    let env: Vec<(OsString, OsString)> = env.into_iter().map(|(name, value)| (text(name), text(value))).collect();
    let path = env.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_os_str());
    let programs = programs::needed(&program, path, &policy.files.read);

    let (listen, landlock) = (probe::questions(), probe::landlock());
    let rules = if needs_filter(&policy) && probe::filter() { calls::rules(&policy, landlock >= probe::SCOPES) } else { Vec::new() };
    let (link, theirs) = UnixStream::pair()?;
    let plan = Plan {
        policy: &policy,
        shown: program.display().to_string(),
        command: command_line(&program, words, &env),
        programs: &programs,
        rules: &rules,
        listen,
        stdin,
        supervisor: std::process::id(),
    };
    // SAFETY: this process has one thread, so that the fork may run anything.
    let command = match unsafe { libc::fork() } {
        -1 => {
            let error = io::Error::last_os_error();
            host.tell(&Report::Failed { stage: "fork".into(), message: error.to_string(), errno: error.raw_os_error() });
            return Err(error);
        }
        0 => {
            drop((link, host, signals));
            hear_signals();
            wall::become_command(plan, &theirs)
        }
        pid => pid.unsigned_abs(),
    };
    drop((theirs, plan));
    let_go_of_pipes()?;

    let mut link = link;
    let listener = greet_command(&mut link)?.map(Listener::new);
    let now = Instant::now();
    let paths = Paths::new(&policy.files, &programs, command);
    Ok(Supervisor {
        questions: Questions::new(rules, paths, landlock > 0 && policy.wall, landlock >= probe::SCOPES),
        crowd: Crowd::new(policy.limits.processes, policy.limits.threads),
        meter: Meter::new(&policy.limits, now),
        disk: policy.limits.disk.clone().map(|disk| Counter::new(disk, now)),
        denials: Denials::default(),
        link: Some(link),
        failure: Vec::new(),
        started: false,
        ended: None,
        told: false,
        limit: None,
        halted: false,
        ending: Ending::No,
        host,
        policy,
        command,
        signals,
        listener,
    })
}

/// Where there is no wall, a filter would only take new privileges from programs such as `sudo`; it is worth that for a limit.
fn needs_filter(policy: &Policy) -> bool {
    policy.wall || policy.limits.processes.is_some() || policy.limits.threads.is_some()
}

fn command_line(program: &Path, arguments: impl Iterator<Item = OsString>, env: &[(OsString, OsString)]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(env.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str() as &OsStr)));
    command
}

/// Signals that are read from a descriptor instead of ending the supervisor.
fn block_signals() -> io::Result<File> {
    // SAFETY: a set of signals is made, filled and used as its functions demand; the descriptor is new and nobody else's.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            libc::sigaddset(&raw mut set, signal);
        }
        if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        match libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            descriptor => Ok(File::from_raw_fd(descriptor)),
        }
    }
}

/// The command hears signals as any program does. It would go on with what its parent blocks: asked to end, it would not hear of it.
fn hear_signals() {
    // SAFETY: an empty set of signals is made and used as its functions demand. It cannot fail: each argument is right.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// The pipes are the command's alone, so that they end when it does.
fn let_go_of_pipes() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}

/// The first byte of the fork, with the listener beside it. A fork that failed before says so on the link, in what follows.
fn greet_command(link: &mut UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut byte = [0];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    recvmsg(&*link, &mut [io::IoSliceMut::new(&mut byte)], &mut beside, RecvFlags::CMSG_CLOEXEC)?;
    let listener = beside.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    link.set_nonblocking(true)?;
    Ok(listener)
}

fn kill_descendants() {
    for process in family::descendants(std::process::id()) {
        if !process.zombie {
            family::signal(&process, Signal::KILL);
        }
    }
}

impl Supervisor {
    fn run(&mut self) {
        loop {
            self.wait();
            let now = Instant::now();
            self.answer(now);
            self.listen_to_fork();
            match self.host.wish() {
                Some(Wish::Stop(grace)) => self.end(now, Duration::from_millis(grace)),
                Some(Wish::Gone) => self.end(now, Duration::from_millis(self.policy.grace_ms)),
                None => {}
            }
            self.take_signals(now);
            let nobody = self.reap();
            self.watch(now);
            for report in self.denials.due(now) {
                self.host.tell(&report);
            }
            self.host.flush();
            if nobody {
                self.tell_end();
                return;
            }
            self.drive_end(now);
        }
    }

    /// Until something happens, or it is time to look.
    fn wait(&self) {
        let now = Instant::now();
        let mut until = now + IDLE;
        if self.ending == Ending::No {
            until = [self.meter.next(), self.disk.as_ref().map(|disk| disk.next(now))].into_iter().flatten().fold(until, Instant::min);
        } else {
            until = now + ENDING;
        }
        let timeout = rustix::event::Timespec::try_from(until.saturating_duration_since(now)).ok();
        let output = if self.host.waits() { PollFlags::OUT } else { PollFlags::empty() };
        let mut wanted: Vec<(BorrowedFd<'_>, PollFlags)> = vec![(self.signals.as_fd(), PollFlags::IN)];
        // A host that is gone would wake it for ever.
        if self.ending == Ending::No {
            wanted.push((self.host.socket(), PollFlags::IN | output));
        }
        wanted.extend(self.listener.as_ref().map(|listener| (listener.as_fd(), PollFlags::IN)));
        wanted.extend(self.link.as_ref().map(|link| (link.as_fd(), PollFlags::IN)));
        let mut wanted: Vec<_> = wanted.into_iter().map(|(descriptor, flags)| PollFd::from_borrowed_fd(descriptor, flags)).collect();
        // An interruption is a reason to look, too.
        let _ = poll(&mut wanted, timeout.as_ref());
    }

    fn answer(&mut self, now: Instant) {
        for _ in 0..QUESTIONS {
            let Some(listener) = &self.listener else { return };
            let mut state = [PollFd::new(listener, PollFlags::IN)];
            let _ = poll(&mut state, Some(&rustix::event::Timespec::default()));
            let [state] = state;
            if state.revents().contains(PollFlags::IN) {
                for told in self.questions.answer(listener, &mut self.crowd, now) {
                    let report = match told {
                        Told::Denied(what, call, argument) => self.denials.denied(now, what, call, argument),
                        Told::Limited(limit, used, allowed) => self.denials.limited(now, limit, used, allowed, Acted::Refused),
                    };
                    if let Some(report) = report {
                        self.host.tell(&report);
                    }
                }
            } else {
                // Nobody is left behind the filter.
                if state.revents().contains(PollFlags::HUP) {
                    self.listener = None;
                }
                return;
            }
        }
    }

    /// The link ends without a word when the command was executed.
    fn listen_to_fork(&mut self) {
        let Some(mut link) = self.link.as_ref() else { return };
        let mut piece = [0; 1024];
        loop {
            match link.read(&mut piece) {
                Ok(0) => break,
                // The byte of the listener may come late, and is no part of the failure.
                Ok(count) => self.failure.extend(piece.get(..count).unwrap_or_default().iter().filter(|byte| **byte != b'\n')),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => break,
            }
        }
        self.link = None;
        if self.failure.is_empty() {
            self.started = true;
            let missing = self.missing();
            self.host.tell(&Report::Started { pid: self.command, missing });
        }
    }

    /// What the policy needs and does not get; also where the machine could, and something around this program forbids it.
    fn missing(&self) -> Vec<String> {
        let mut missing: Vec<_> = missing(&self.policy).iter().map(|ability| ability.part).collect();
        let limited = self.policy.limits.processes.is_some() || self.policy.limits.threads.is_some();
        if self.listener.is_none() && limited && !missing.contains(&Part::Processes) {
            missing.push(Part::Processes);
        }
        missing.iter().map(|part| part.name().to_owned()).collect()
    }

    fn take_signals(&mut self, now: Instant) {
        // Of each kind at most one waits.
        let mut text = [0; size_of::<libc::signalfd_siginfo>() * 4];
        while let Ok(count) = (&self.signals).read(&mut text) {
            for one in text.get(..count).unwrap_or_default().chunks_exact(size_of::<libc::signalfd_siginfo>()) {
                let number = one.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes));
                if number != u32::try_from(libc::SIGCHLD).ok() {
                    self.end(now, Duration::from_millis(self.policy.grace_ms));
                }
            }
        }
    }

    /// Takes the dead. Says whether nobody is left.
    fn reap(&mut self) -> bool {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    if pid.as_raw_pid().unsigned_abs() == self.command {
                        self.ended = Some(ExitStatus::from_raw(status.as_raw()));
                    }
                }
                Ok(None) => return false,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return true,
            }
        }
    }

    fn watch(&mut self, now: Instant) {
        if self.ending != Ending::No {
            return;
        }
        // Without a filter nobody tells when the family grows.
        let grew = self.crowd.grew() || self.listener.is_none();
        match self.meter.look(now, grew) {
            Some(Found::TooMuchMemory(used, allowed)) => return self.exceed(now, Limit::Memory, used, allowed),
            Some(Found::Halt(used, allowed)) => {
                self.halted = true;
                if let Some(report) = self.denials.limited(now, Limit::CpuShare, used, allowed, Acted::Throttled) {
                    self.host.tell(&report);
                }
            }
            Some(Found::Resume) => {
                self.halted = false;
                self.signal_known(Signal::CONT);
            }
            None => {}
        }
        if self.halted {
            // Again each time: somebody may have been made while the others were halted.
            self.signal_known(Signal::STOP);
        }
        if let Some(disk) = &mut self.disk {
            // Whoever descends from it, also where nothing else is measured, so that nobody else keeps a list.
            if let Some((used, allowed)) = disk.count(now, || family::descendants(std::process::id())) {
                self.exceed(now, Limit::Disk, used, allowed);
            }
        }
    }

    fn signal_known(&self, signal: Signal) {
        for process in self.meter.known().iter().filter(|process| !process.zombie) {
            family::signal(process, signal);
        }
    }

    fn exceed(&mut self, now: Instant, limit: Limit, used: u64, allowed: u64) {
        self.limit = Some(limit);
        if let Some(report) = self.denials.limited(now, limit, used, allowed, Acted::Killed) {
            self.host.tell(&report);
        }
        self.end(now, Duration::ZERO);
    }

    /// Begins to end all, or hastens it.
    fn end(&mut self, now: Instant, grace: Duration) {
        let until = now + grace;
        match self.ending {
            Ending::Killing(_) => return,
            Ending::Asked(before) => self.ending = Ending::Asked(before.min(until)),
            Ending::No => {
                self.ending = Ending::Asked(until);
                if !grace.is_zero() {
                    for process in family::descendants(std::process::id()) {
                        family::signal(&process, Signal::TERM);
                        family::signal(&process, Signal::CONT);
                    }
                }
            }
        }
        self.drive_end(now);
    }

    fn drive_end(&mut self, now: Instant) {
        if self.ended.is_some() {
            self.tell_end();
            if self.ending == Ending::No {
                self.end(now, AFTER);
                return;
            }
        }
        match self.ending {
            Ending::Asked(until) if now >= until => {
                // From here on nobody is added, so that all can be found.
                self.crowd.close();
                self.ending = Ending::Killing(now + KILLING);
                kill_descendants();
            }
            Ending::Killing(until) => {
                kill_descendants();
                if now >= until {
                    let pids = family::descendants(std::process::id()).iter().map(|process| process.pid).collect();
                    self.host.tell(&Report::Left { pids });
                    std::process::exit(1);
                }
            }
            _ => {}
        }
    }

    /// How it ended, once, and what was not told yet.
    fn tell_end(&mut self) {
        let Some(status) = self.ended else { return };
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        self.listen_to_fork();
        for report in self.denials.rest() {
            self.host.tell(&report);
        }
        if !self.started {
            let failure = serde_json::from_slice(&self.failure).unwrap_or_else(|_| Failure {
                stage: "start".into(),
                message: format!("it ended before it was executed: {status}"),
                errno: None,
            });
            self.host.tell(&Report::Failed { stage: failure.stage, message: failure.message, errno: failure.errno });
            return;
        }
        if status.signal() == Some(libc::SIGXCPU) {
            self.limit = Some(Limit::CpuTime);
        }
        self.host.tell(&Report::Ended { code: status.code(), signal: status.signal(), limit: self.limit });
    }
}
