//! Linux: the supervisor, the wall, and the host's end.

mod spawn;

use std::{ffi::OsString, process::ExitCode};

pub use self::spawn::{Child, Reports, spawn};
use crate::Ability;

/// Becomes the supervisor of one command, and returns when nothing is left of it. To be called before a program does anything else: it
/// must have one thread. The arguments are only for people to see.
pub fn supervise(_arguments: &[OsString]) -> ExitCode {
    ExitCode::FAILURE
}

pub(crate) fn abilities() -> Vec<Ability> {
    Vec::new()
}
