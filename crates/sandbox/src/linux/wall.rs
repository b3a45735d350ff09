//! What the fork does to itself before it becomes the command: session, descriptors, limits, Landlock, filter. It never returns.
#![allow(unsafe_code, reason = "signals and descriptors are set as no library does between fork and exec")]

use std::{
    fs, io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::Command,
};

use landlock::{ABI, Access, AccessFs, AccessNet, BitFlags, PathBeneath, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, Scope};
use rustix::{
    fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat2},
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
    process::{Resource, Rlimit, Signal},
    thread::{CapabilitySet, CapabilitySets},
};
use serde::{Deserialize, Serialize};

use super::{filter, listener, rule::Rule};
use crate::policy::{Limits, Network, Policy};

/// What is to become of the fork.
pub(super) struct Plan<'a> {
    pub(super) policy: &'a Policy,
    pub(super) command: Command,
    /// What it executes, in words.
    pub(super) shown: String,
    /// The command and its interpreters.
    pub(super) programs: &'a [PathBuf],
    /// Which calls are refused or asked about.
    pub(super) rules: &'a [Rule],
    /// Whether the filter can ask.
    pub(super) listen: bool,
    pub(super) stdin: OwnedFd,
    pub(super) supervisor: u32,
}

/// Why a command did not start; the last word on the link.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Failure {
    pub(super) stage: String,
    pub(super) message: String,
    pub(super) errno: Option<i32>,
}

/// The newest Landlock that this program knows; older kernels do what they can of it.
const KNOWN: ABI = ABI::V9;

/// Becomes the command, or says why not and ends.
pub(super) fn become_command(plan: Plan<'_>, link: &UnixStream) -> ! {
    let (stage, error) = go(plan, link);
    let failure = Failure { stage, errno: error.raw_os_error(), message: error.to_string() };
    if let Ok(text) = serde_json::to_vec(&failure) {
        use io::Write;
        // Nobody else can be told.
        let _ = (&*link).write_all(&text);
    }
    // SAFETY: it ends the process; nothing of the supervisor's that is copied here is run.
    unsafe { libc::_exit(127) }
}

/// Comes back only when it fails.
fn go(mut plan: Plan<'_>, link: &UnixStream) -> (String, io::Error) {
    if let Err((stage, error)) = prepare(&plan, link) {
        return (stage.to_owned(), error);
    }
    // It sets signals back as a new program expects them, and replaces the environment.
    let error = plan.command.exec();
    (format!("execute {}", plan.shown), error)
}

fn prepare(plan: &Plan<'_>, link: &UnixStream) -> Result<(), (&'static str, io::Error)> {
    let at = |stage: &'static str| move |error: io::Error| (stage, error);
    let system = |stage: &'static str| move |error: rustix::io::Errno| (stage, io::Error::from(error));

    rustix::process::setsid().map_err(system("make a session"))?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(system("be tied to the supervisor"))?;
    if rustix::process::getppid().is_none_or(|parent| parent.as_raw_pid().unsigned_abs() != plan.supervisor) {
        return Err(("be tied to the supervisor", io::Error::other("it has gone")));
    }
    rustix::stdio::dup2_stdin(&plan.stdin).map_err(system("take the standard input"))?;
    close_others_at_exec().map_err(at("close descriptors"))?;
    // The plugin goes before its host when memory runs out. Not everywhere may this be said.
    let _ = fs::write("/proc/self/oom_score_adj", "500");
    limit(&plan.policy.limits).map_err(at("set limits"))?;
    if plan.policy.wall {
        drop_capabilities().map_err(at("give up capabilities"))?;
    }
    if plan.policy.wall || !plan.rules.is_empty() {
        rustix::thread::set_no_new_privs(true).map_err(system("give up new privileges"))?;
    }
    if plan.policy.wall {
        landlock(plan.policy, plan.programs).map_err(|error| ("put up Landlock", io::Error::other(error)))?;
    }
    let listener = put_up_filter(plan).map_err(at("put up the filter"))?;
    hand_over(link, listener).map_err(at("hand over the filter"))
}

fn put_up_filter(plan: &Plan<'_>) -> io::Result<Option<OwnedFd>> {
    if plan.rules.is_empty() {
        return Ok(None);
    }
    if plan.listen {
        match listener::install(&filter::program(plan.rules, true), true) {
            // Somebody listens to a filter around this program already, as some containers do, and there can be one only.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            done => return done,
        }
    }
    listener::install(&filter::program(plan.rules, false), false)
}

/// One byte, with the listener beside it where there is one.
fn hand_over(link: &UnixStream, listener: Option<OwnedFd>) -> io::Result<()> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<_> = listener.iter().map(AsFd::as_fd).collect();
    if !descriptors.is_empty() {
        beside.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    sendmsg(link, &[io::IoSlice::new(b"\n")], &mut beside, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The supervisor has closed what it inherited; what is open here is its own, and closes at exec. Checked all the same.
fn close_others_at_exec() -> io::Result<()> {
    for descriptor in open_descriptors()? {
        if descriptor > 2 {
            // SAFETY: it changes a flag of a descriptor, and fails for one that is closed.
            unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

/// Closes what this program has inherited beside its standard descriptors and `keep`.
pub(super) fn close_inherited(keep: &impl AsRawFd) -> io::Result<()> {
    let keep = keep.as_raw_fd();
    for descriptor in open_descriptors()? {
        if descriptor > 2 && descriptor != keep {
            // SAFETY: it runs before this process has opened anything but `keep`, so that nobody owns them here.
            unsafe { libc::close(descriptor) };
        }
    }
    Ok(())
}

fn open_descriptors() -> io::Result<Vec<i32>> {
    // The list holds the descriptor of the list, which is closed when it is complete.
    let entries: Vec<_> = fs::read_dir("/proc/self/fd")?.collect::<Result<_, _>>()?;
    Ok(entries.iter().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// A limit that is higher than what this process may have is what it may have.
fn limit(limits: &Limits) -> io::Result<()> {
    let set = |resource, soft: u64, hard: u64| -> io::Result<()> {
        let most = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
        let limit = Rlimit { current: Some(soft.min(most)), maximum: Some(hard.min(most)) };
        Ok(rustix::process::setrlimit(resource, limit)?)
    };
    set(Resource::Core, 0, 0)?;
    if let Some(bytes) = limits.address_space {
        set(Resource::As, bytes, bytes)?;
    }
    if let Some(seconds) = limits.cpu_seconds {
        // A signal that has a name at first, so that the reason can be told; death a second later.
        set(Resource::Cpu, seconds, seconds.saturating_add(1))?;
    }
    if let Some(files) = limits.open_files {
        set(Resource::Nofile, files, files)?;
    }
    let quota = limits.disk.as_ref().map(|disk| disk.bytes);
    if let Some(bytes) = [limits.file_size, quota].into_iter().flatten().min() {
        set(Resource::Fsize, bytes, bytes)?;
        // Writing fails instead of killing.
        // SAFETY: to ignore a signal runs no code.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    }
    Ok(())
}

fn drop_capabilities() -> io::Result<()> {
    // Only whoever has capabilities may, and needs to, take them from what it executes.
    for capability in CapabilitySet::all().iter() {
        let _ = rustix::thread::remove_capability_from_bounding_set(capability);
    }
    let _ = rustix::thread::clear_ambient_capability_set();
    let none = CapabilitySets { effective: CapabilitySet::empty(), permitted: CapabilitySet::empty(), inheritable: CapabilitySet::empty() };
    Ok(rustix::thread::set_capabilities(None, none)?)
}

fn landlock(policy: &Policy, programs: &[PathBuf]) -> Result<(), RulesetError> {
    let all = AccessFs::from_all(KNOWN);
    let read: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
    // No devices are made or steered, no sockets of others are connected to, and nothing that was written is executed.
    let write = all & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev | AccessFs::ResolveUnix);
    let mut rules = Ruleset::default().handle_access(all)?;
    if policy.network == Network::None {
        rules = rules.handle_access(AccessNet::from_all(KNOWN))?;
    }
    let files = &policy.files;
    rules
        .scope(Scope::from_all(KNOWN))?
        .create()?
        .add_rules(beneath(&files.read, read))?
        .add_rules(beneath(&files.write, write))?
        .add_rules(beneath(&files.execute, AccessFs::Execute.into()))?
        .add_rules(beneath(programs, AccessFs::Execute | AccessFs::ReadFile))?
        .restrict_self()?;
    Ok(())
}

/// A rule for each path that is there, and is reached without a link: somebody behind another wall may have put one in its place.
fn beneath(paths: &[PathBuf], access: BitFlags<AccessFs>) -> impl Iterator<Item = Result<PathBeneath<OwnedFd>, RulesetError>> {
    paths.iter().filter_map(move |path| {
        let own = path.strip_prefix("/proc/self").ok().map(|rest| Path::new("/proc").join(std::process::id().to_string()).join(rest));
        let path = own.as_ref().unwrap_or(path);
        let handle = openat2(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::NO_SYMLINKS).ok()?;
        let folder = fstat(&handle).is_ok_and(|facts| FileType::from_raw_mode(facts.st_mode) == FileType::Directory);
        let access = if folder { access } else { access & AccessFs::from_file(KNOWN) };
        Some(Ok(PathBeneath::new(handle, access)))
    })
}
