//! What this kernel can enforce. It asks for versions, and changes nothing.
#![allow(unsafe_code, reason = "the version of Landlock is asked for by a system call")]

use std::{path::Path, ptr};

use super::listener;
use crate::ability::{Ability, Part};

/// The flag that asks for a version instead of making a rule set.
const VERSION: u32 = 1;
/// The first version of Landlock that knows of truncation, so that reading is all that readers can do.
const FILES: i64 = 3;
const TCP: i64 = 4;
pub(super) const SCOPES: i64 = 6;

/// The version of Landlock, 0 where there is none.
pub(super) fn landlock() -> i64 {
    // SAFETY: with this flag the kernel reads no structure.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, ptr::null::<u8>(), 0usize, VERSION) };
    version.max(0)
}

/// Whether there is a table of calls for this processor, and a kernel that takes it.
pub(super) fn filter() -> bool {
    cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) && listener::action(libc::SECCOMP_RET_ERRNO)
}

/// Whether a filter can ask the supervisor.
pub(super) fn questions() -> bool {
    filter() && listener::available()
}

pub(crate) fn abilities() -> Vec<Ability> {
    let (landlock, filter, questions) = (landlock(), filter(), questions());
    let proc = Path::new("/proc/self/stat").exists();
    let ability = |part, enforced, detail: String| Ability { part, enforced, detail };
    let by_landlock = |since: i64, what: &str| match landlock {
        0 => "this kernel has no Landlock, or it is switched off".to_owned(),
        version if version < since => format!("Landlock {version} does not know {what}; {since} does"),
        version => format!("Landlock {version}"),
    };
    let by_filter = if filter { "seccomp" } else { "no seccomp filter on this kernel or processor" };
    let by_questions = if questions { "seccomp, answered by the supervisor" } else { "filters cannot ask on this kernel" };
    let by_proc = |how: &str| if proc { how.to_owned() } else { "/proc is not mounted".to_owned() };
    vec![
        ability(Part::Files, landlock >= FILES && filter, if filter { by_landlock(FILES, "truncation") } else { by_filter.to_owned() }),
        ability(Part::Tcp, filter || landlock >= TCP, if filter { by_filter.to_owned() } else { by_landlock(TCP, "TCP") }),
        ability(Part::Sockets, filter, by_filter.to_owned()),
        ability(Part::Syscalls, filter, by_filter.to_owned()),
        ability(
            Part::Signals,
            landlock >= SCOPES || questions,
            if landlock >= SCOPES || !questions { by_landlock(SCOPES, "signals") } else { by_questions.to_owned() },
        ),
        ability(Part::Reports, questions, by_questions.to_owned()),
        ability(Part::Memory, proc, by_proc("measured, 5 to 20 times a second; then killed")),
        ability(Part::CpuShare, proc, by_proc("measured, up to 50 times a second; halted in between")),
        ability(Part::ResourceLimits, true, "setrlimit".to_owned()),
        ability(Part::Disk, true, "measured, once a second; then killed; no file larger than the quota".to_owned()),
        ability(Part::Processes, questions, by_questions.to_owned()),
        ability(Part::NoOrphans, proc, by_proc("a supervisor that ends with the host, and kills what descends from it")),
    ]
}
