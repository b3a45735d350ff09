//! What the supervisor answers to those who ask, and what of it is told. Where Landlock decides, it is let through at once and looked at
//! after: what somebody writes into memory meanwhile changes a line of a log, and no decision.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    time::Instant,
};

use rustix::fs::{AtFlags, Timespec, Timestamps};

use super::{
    crowd::{Crowd, Full},
    family,
    listener::{Answer, Listener, Question},
    memory,
    paths::{Paths, locate, own},
    rule::{Ask, OpenFlags, Rule, Then},
};
use crate::report::{Limit, What};

/// What is told of a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    Denied(What, &'static str, String),
    Limited(Limit, u64, u64),
}

pub(super) struct Questions {
    rules: Vec<Rule>,
    paths: Paths,
    /// Whether Landlock refuses what is on no list.
    files: bool,
    /// Whether Landlock keeps signals inside.
    signals: bool,
}

impl Questions {
    pub(super) fn new(rules: Vec<Rule>, paths: Paths, files: bool, signals: bool) -> Self {
        Questions { rules, paths, files, signals }
    }

    /// Takes one question and answers it.
    pub(super) fn answer(&mut self, listener: &Listener, crowd: &mut Crowd, now: Instant) -> Vec<Told> {
        let Some(question) = listener.question() else { return Vec::new() };
        crowd.heard_of(question.thread);
        let Some(rule) = self.rules.iter().find(|rule| rule.fits(question.call, &question.arguments)) else {
            listener.answer(&question, Answer::Error(libc::ENOSYS));
            return Vec::new();
        };
        let name = rule.name;
        match rule.then {
            Then::Refuse(what, error) => {
                listener.answer(&question, Answer::Error(error));
                vec![Told::Denied(what, name, describe(name, &question))]
            }
            // The filter does not ask then.
            Then::Allow => {
                listener.answer(&question, Answer::Continue);
                Vec::new()
            }
            Then::Mute(error) => {
                listener.answer(&question, Answer::Error(error));
                Vec::new()
            }
            Then::Ask(Ask::Fork, _) => fork(listener, &question, crowd, now, name),
            Then::Ask(Ask::Open { folder, path, flags }, _) => self.open(listener, &question, name, folder, path, flags),
            Then::Ask(Ask::Execute { folder, path, flags }, _) => {
                let path = place(&question, folder, path);
                let follow = !has(&question, flags, AtFlags::SYMLINK_NOFOLLOW);
                listener.answer(&question, Answer::Continue);
                Vec::from_iter(path.and_then(|path| self.refused(What::Execute, name, &path, follow, false)))
            }
            Then::Ask(Ask::Names { first, second }, _) => {
                let places: Vec<_> =
                    [Some(first), second].into_iter().flatten().map(|(folder, path)| place(&question, folder, path)).collect();
                listener.answer(&question, Answer::Continue);
                places.into_iter().flatten().filter_map(|path| self.refused(What::Write, name, &path, false, true)).collect()
            }
            Then::Ask(Ask::Mode { folder, path, mode, flags }, _) => {
                let place = place(&question, folder, path);
                let follow = !has(&question, flags, AtFlags::SYMLINK_NOFOLLOW);
                self.act(listener, &question, name, place, follow, |handle| set_mode(handle, argument(&question, mode)))
            }
            Then::Ask(Ask::ModeOfOpen, _) => {
                let place = Some(descriptor(&question, 0));
                self.act(listener, &question, name, place, true, |handle| set_mode(handle, argument(&question, 1)))
            }
            Then::Ask(Ask::Times { folder, path, times, flags }, _) => {
                let of_open = path.is_none_or(|path| argument(&question, path) == 0);
                let place = match path {
                    Some(path) if !of_open => place(&question, folder, path),
                    _ => Some(descriptor(&question, folder.unwrap_or(0))),
                };
                let follow = of_open || !has(&question, flags, AtFlags::SYMLINK_NOFOLLOW);
                let times = argument(&question, times);
                let times = if times == 0 { Some(None) } else { memory::numbers::<4>(question.thread, times).map(Some) };
                self.act(listener, &question, name, place, follow, |handle| {
                    times.map_or(Err(libc::EFAULT), |times| set_times(handle, times))
                })
            }
            Then::Ask(Ask::Target { process, group }, _) => {
                let target = signed(argument(&question, process));
                if self.may_reach(target, group) {
                    listener.answer(&question, Answer::Continue);
                    return Vec::new();
                }
                listener.answer(&question, Answer::Error(libc::EPERM));
                vec![Told::Denied(What::Signal, name, format!("process {target}"))]
            }
            Then::Ask(Ask::Limit { process, resource, new }, _) => limit(listener, &question, name, process, resource, new),
        }
    }

    fn open(
        &mut self,
        listener: &Listener,
        question: &Question,
        name: &'static str,
        folder: Option<u8>,
        path: u8,
        flags: OpenFlags,
    ) -> Vec<Told> {
        let path = place(question, folder, path);
        let flags = match flags {
            OpenFlags::Argument(index) => argument(question, index),
            OpenFlags::How(index) => memory::numbers::<1>(question.thread, argument(question, index)).map_or(0, |[flags]| flags),
            OpenFlags::Create => (libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC) as u64,
        };
        listener.answer(question, Answer::Continue);
        // Flags are the lower half.
        let flags = flags as i32;
        // A handle that neither reads nor writes is not refused.
        if flags & libc::O_PATH != 0 {
            return Vec::new();
        }
        let what = if flags & libc::O_ACCMODE == libc::O_RDONLY && flags & libc::O_TRUNC == 0 { What::Read } else { What::Write };
        let create = flags & libc::O_CREAT != 0;
        Vec::from_iter(path.and_then(|path| self.refused(what, name, &path, flags & libc::O_NOFOLLOW == 0, create)))
    }

    fn refused(&mut self, what: What, name: &'static str, path: &Path, follow: bool, create: bool) -> Option<Told> {
        if !self.files {
            return None;
        }
        let what_of_new = if create { What::Write } else { what };
        // Opening what is there with the right to make it is reading or writing, as the flags say.
        let what = if create && locate(path, follow).is_err() { what_of_new } else { what };
        self.paths.refused(what, path, follow, create).map(|real| Told::Denied(what, name, shown(&real)))
    }

    /// Does to a file what Landlock does not know of, where the file may be written.
    fn act(
        &self,
        listener: &Listener,
        question: &Question,
        name: &'static str,
        place: Option<PathBuf>,
        follow: bool,
        act: impl FnOnce(&Path) -> Result<(), i32>,
    ) -> Vec<Told> {
        let Some(place) = place else {
            listener.answer(question, Answer::Error(libc::EFAULT));
            return Vec::new();
        };
        let (handle, real) = match locate(&place, follow) {
            Ok(found) => found,
            Err(error) => {
                listener.answer(question, Answer::Error(error.raw_os_error().unwrap_or(libc::EPERM)));
                return Vec::new();
            }
        };
        // Whoever runs as root has lost the right to change the files of others; the supervisor has not.
        let mine = fs::metadata(own(&handle)).is_ok_and(|facts| facts.uid() == rustix::process::geteuid().as_raw());
        if !self.paths.allows(What::Write, &real) || !mine || !listener.waits(question) {
            listener.answer(question, Answer::Error(libc::EPERM));
            return vec![Told::Denied(What::Write, name, shown(&real))];
        }
        let done = act(&own(&handle));
        listener.answer(question, done.map_or_else(Answer::Error, |()| Answer::Done));
        if done == Err(libc::EPERM) {
            return vec![Told::Denied(What::Write, name, shown(&real))];
        }
        Vec::new()
    }

    /// Whether a process, or all of a group, may be signalled: those that descend from the supervisor, and those that are not there.
    fn may_reach(&self, target: i32, group: bool) -> bool {
        match target {
            0 => true,
            // Everybody; with Landlock that is everybody behind the wall.
            -1 if group => self.signals,
            target if target < 0 => {
                let group = target.unsigned_abs();
                family::descendants(std::process::id()).iter().any(|process| process.group == group)
            }
            target => {
                let me = std::process::id();
                let mut next = target.unsigned_abs();
                // A thread has the parent of its process. The chain ends at process 1, or earlier.
                for _ in 0..1024 {
                    match family::look(next) {
                        None => return next == target.unsigned_abs(),
                        Some(process) if process.parent == me => return true,
                        Some(process) if process.parent <= 1 || next == me => return false,
                        Some(process) => next = process.parent,
                    }
                }
                false
            }
        }
    }
}

fn fork(listener: &Listener, question: &Question, crowd: &mut Crowd, now: Instant, name: &'static str) -> Vec<Told> {
    let thread = name == "clone" && argument(question, 0) & libc::CLONE_THREAD as u64 != 0;
    match crowd.admit(now, question.thread, !thread) {
        Ok(()) => {
            listener.answer(question, Answer::Continue);
            Vec::new()
        }
        Err(full) => {
            listener.answer(question, Answer::Error(libc::EAGAIN));
            match full {
                Full::Limit(limit, used, allowed) => vec![Told::Limited(limit, used, allowed)],
                Full::Closed => Vec::new(),
            }
        }
    }
}

/// The kernel refuses what is above the highest; the others are no business of the asker.
fn limit(listener: &Listener, question: &Question, name: &'static str, process: Option<u8>, resource: u8, new: u8) -> Vec<Told> {
    let process = process.map_or(0, |process| argument(question, process));
    let own = process == 0
        || process == u64::from(question.thread)
        || family::look(question.thread).is_some_and(|_| same_process(process, question.thread));
    let resource = argument(question, resource);
    let highest = memory::limit(question.thread, resource).map(|(_, highest)| highest);
    let new = memory::numbers::<2>(question.thread, argument(question, new));
    let raises = matches!((new, highest), (Some([_, new]), Some(highest)) if new > highest);
    listener.answer(question, if own && !raises { Answer::Continue } else { Answer::Error(libc::EPERM) });
    if own && !raises {
        return Vec::new();
    }
    let whose = if own { String::new() } else { format!(" of process {process}") };
    vec![Told::Denied(What::Privilege, name, format!("limit {resource}{whose}"))]
}

/// Whether a thread belongs to that process.
fn same_process(process: u64, thread: u32) -> bool {
    Path::new(&format!("/proc/{process}/task/{thread}")).exists()
}

fn set_mode(file: &Path, mode: u64) -> Result<(), i32> {
    // A program that others run as this user is a way out.
    if mode & u64::from(libc::S_ISUID | libc::S_ISGID) != 0 {
        return Err(libc::EPERM);
    }
    let mode = fs::Permissions::from_mode(u32::try_from(mode & 0o1777).unwrap_or(0));
    fs::set_permissions(file, mode).map_err(|error| error.raw_os_error().unwrap_or(libc::EPERM))
}

fn set_times(file: &Path, times: Option<[u64; 4]>) -> Result<(), i32> {
    let now = [0, libc::UTIME_NOW as u64, 0, libc::UTIME_NOW as u64];
    let [access, access_part, change, change_part] = times.unwrap_or(now);
    // Bits as they are: seconds before 1970 are negative, and the kernel checks the parts.
    let time = |seconds: u64, part: u64| Timespec { tv_sec: seconds as i64, tv_nsec: part as _ };
    let times = Timestamps { last_access: time(access, access_part), last_modification: time(change, change_part) };
    rustix::fs::utimensat(rustix::fs::CWD, file, &times, AtFlags::empty()).map_err(rustix::io::Errno::raw_os_error)
}

/// Where a path of the asker leads from, as this process sees it. None when its memory cannot be read.
fn place(question: &Question, folder: Option<u8>, path: u8) -> Option<PathBuf> {
    let text = memory::text(question.thread, argument(question, path))?;
    let path = Path::new(OsStr::from_bytes(&text));
    let thread = question.thread;
    for (name, own) in [("/proc/self", format!("/proc/{thread}")), ("/proc/thread-self", format!("/proc/{thread}"))] {
        if let Ok(rest) = path.strip_prefix(name) {
            return Some(Path::new(&own).join(rest));
        }
    }
    if path.is_absolute() {
        return Some(path.to_path_buf());
    }
    let base = match folder.map(|index| signed(argument(question, index))) {
        None | Some(libc::AT_FDCWD) => format!("/proc/{thread}/cwd"),
        Some(_) => return Some(join(descriptor(question, folder.unwrap_or(0)), path)),
    };
    Some(join(PathBuf::from(base), path))
}

/// Behind the link, so that `..` in the path means what it means to the asker.
fn join(base: PathBuf, path: &Path) -> PathBuf {
    let base = fs::read_link(&base).unwrap_or(base);
    if path.as_os_str().is_empty() { base } else { base.join(path) }
}

fn descriptor(question: &Question, index: u8) -> PathBuf {
    PathBuf::from(format!("/proc/{}/fd/{}", question.thread, signed(argument(question, index))))
}

fn argument(question: &Question, index: u8) -> u64 {
    question.arguments.get(usize::from(index)).copied().unwrap_or(0)
}

/// A number of the kernel's type `int`, which is the lower half.
fn signed(argument: u64) -> i32 {
    argument as i32
}

fn has(question: &Question, flags: Option<u8>, flag: AtFlags) -> bool {
    flags.is_some_and(|index| argument(question, index) & u64::from(flag.bits()) != 0)
}

/// A path that may hold anything, for a line.
fn shown(path: &Path) -> String {
    let mut text: String = path.to_string_lossy().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if let Some((at, _)) = text.char_indices().nth(512) {
        text.truncate(at);
        text.push('…');
    }
    text
}

/// On what a call that is always refused was tried.
fn describe(name: &str, question: &Question) -> String {
    let first = argument(question, 0);
    match name {
        "socket" | "socketpair" => {
            let family = match signed(first) {
                libc::AF_UNIX => "unix".to_owned(),
                libc::AF_INET => "inet".to_owned(),
                libc::AF_INET6 => "inet6".to_owned(),
                libc::AF_NETLINK => "netlink".to_owned(),
                libc::AF_PACKET => "packet".to_owned(),
                other => format!("family {other}"),
            };
            let kind = match signed(argument(question, 1)) & 0xf {
                libc::SOCK_STREAM => "stream".to_owned(),
                libc::SOCK_DGRAM => "datagram".to_owned(),
                libc::SOCK_RAW => "raw".to_owned(),
                other => format!("type {other}"),
            };
            format!("{family} {kind}")
        }
        "ptrace" => format!("request {}, process {}", first, signed(argument(question, 1))),
        "process_vm_readv" | "process_vm_writev" | "kcmp" | "migrate_pages" | "move_pages" => format!("process {}", signed(first)),
        "clone" | "unshare" => format!("flags {first:#x}"),
        _ => String::new(),
    }
}
