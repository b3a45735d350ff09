//! The wall around a child process on Linux: who starts it, what it may touch, how much it may use, and that it never outlives its host.
//! It knows nothing of plugins or of what is said over the pipes.
//!
//! A program that uses this crate starts itself again: [`spawn`] runs `<program> <verb>`, which calls [`supervise`] before anything else
//! and becomes the **supervisor** of one command. It has one thread, reads its orders from a socket that is its standard input, forks,
//! puts up the wall in the fork, and executes the command there. The command's pipes go straight to the host.
//!
//! ```text
//!   host ── socket: orders, lifeline, reports ──► supervisor ── fork, wall, exec ──► command ──► whatever it starts
//!     └────────────── stdin, stdout, stderr ─────────────────────────────────────────────┘
//! ```
//!
//! * **Nothing is left behind.** The socket ends when the host does, however it does. The supervisor then asks the command to end, waits
//!   for the policy's grace, refuses further forks, and kills all that descends from it; what was re-parented comes to it, as it is
//!   their subreaper. The supervisor is a pair of processes, so that when either is killed the other cleans up.
//! * **The wall** is no-new-privileges, no capabilities, Landlock (files, TCP, abstract sockets, signals) and a seccomp filter. The
//!   filter is made here and not by a library, as none of those for Rust can ask a supervisor, which is how refusals are reported.
//! * **Refusals are reported.** Calls that are always refused are answered by the supervisor. Calls on paths are let through to Landlock,
//!   which decides; the supervisor reads the path first and says what Landlock will refuse. A wrong guess is a wrong line in a log.
//! * **Limits** of a group are measured, not given to control groups: version 2 wants a group without processes of its own, which a
//!   program that somebody just started does not have, and version 1 wants root. Processes and threads are counted where they are
//!   made, so that a fork bomb does not get off the ground.
//! * **No namespaces.** A process namespace would make the command process 1, whose signals work differently; user namespaces are
//!   switched off on many machines. What they would add is had by other means.
//!
//! Costs, with an optimised build on two cores of a virtual machine: 1.2 ms to start a command under a supervisor, 2 ms with the wall; 16 µs
//! for each file that is opened, as the supervisor is asked, which makes 2 ms of the start of Python; 0.3 MB of memory of its own.
//! The question is worth it: no other way tells an unprivileged program which path Landlock has refused.
//!
//! What this does not do: it hides no file's name, size or date (`stat` is not refused), it does not keep a program from executing code
//! that it brought along, and it is no answer to a hole in the kernel. A supervisor looks at paths that are asked for, so that a
//! network file system that hangs can hold it up.
//!
//! ```no_run
//! use bespoke_sandbox::{Policy, Spawn, missing, spawn};
//!
//! let mut policy = Policy::closed().python("/usr/bin/python3".as_ref()).write(["/var/lib/plugin"]);
//! policy.limits.memory = Some(256 << 20);
//! for part in missing(&policy) {
//!     // A caller that needs all of it does not start here.
//!     assert!(!part.enforced, "{}", part.detail);
//! }
//! let mut child = spawn(Spawn {
//!     program: std::env::current_exe()?,
//!     verb: vec!["__exec".into()],
//!     policy,
//!     command: vec!["/usr/bin/python3".into(), "-c".into(), "print(1)".into()],
//!     env: vec![("PATH".into(), "/usr/bin:/bin".into())],
//!     cwd: "/var/lib/plugin".into(),
//! })?;
//! for report in child.reports.take().into_iter().flatten() {
//!     drop(report?);
//! }
//! child.wait()?;
//! # std::io::Result::Ok(())
//! ```

mod ability;
mod policy;
mod python;
mod report;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as system;

#[cfg(not(target_os = "linux"))]
mod other;
#[cfg(not(target_os = "linux"))]
use other as system;

use std::{ffi::OsString, path::PathBuf};

pub use self::{
    ability::{Ability, Part, abilities, missing},
    policy::{Disk, Files, Limits, Network, Policy},
    report::{Acted, Limit, Report, What},
    system::{Child, Reports, spawn, supervise},
};

/// What is started, and behind which wall.
#[derive(Debug, Clone)]
pub struct Spawn {
    /// The program that becomes the supervisor, usually this one. Absolute.
    pub program: PathBuf,
    /// Its arguments that make it call [`supervise`], such as `__exec`. What stands after the first is only for people to see.
    pub verb: Vec<OsString>,
    /// The wall and the limits.
    pub policy: Policy,
    /// The command: an absolute path, and its arguments.
    pub command: Vec<OsString>,
    /// The command's whole environment. The supervisor's is empty.
    pub env: Vec<(OsString, OsString)>,
    /// Where the command runs. Absolute.
    pub cwd: PathBuf,
}
