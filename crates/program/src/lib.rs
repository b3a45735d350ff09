//! Programs of the user's machine, run without a shell and never left behind: a group of their own, limits of time and output, only the
//! environment that they are given. It decides nothing: which program, with which arguments, is the caller's to say.
//!
//! A process that makes a session of its own leaves the group and lives on; nobody waits for it. There is no sandbox: `sandbox` has one.
//! Works on Unix; elsewhere there is no `supervise`.

mod capture;
mod job;
#[cfg(unix)]
mod running;

pub use capture::{Capture, share};
pub use job::Job;
#[cfg(unix)]
pub use running::{End, Outcome, supervise};
