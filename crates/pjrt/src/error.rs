//! Why a library, or a program on it, cannot be used.

use std::{fmt, path::PathBuf};

/// Why a PJRT plugin, or a program on one, cannot be used. Every variant leaves the process able to try again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PjrtError {
    /// There is no such file, or it is no library of this machine.
    #[error("{path} cannot be loaded: {reason}", path = path.display())]
    Load {
        /// The file: the plugin, or a library that it needs.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },
    /// A library, and no PJRT plugin.
    #[error("{path} is no usable PJRT plugin: {reason}", path = path.display())]
    NoPlugin {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A plugin of an API that this crate does not speak.
    #[error("{path} cannot be used: its PJRT API {major}.{minor} {reason}", path = path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Major version of its API.
        major: i32,
        /// Minor version of its API.
        minor: i32,
        /// What does not fit, such as `is newer than this program, which speaks 0.x`.
        reason: String,
    },
    /// The plugin refused a call, in its own words.
    #[error("{message} ({code}, from {function})")]
    Call {
        /// The function of the C interface.
        function: &'static str,
        /// What kind of error it is.
        code: ErrorCode,
        /// What the plugin said.
        message: String,
    },
    /// The plugin answered what cannot be.
    #[error("the PJRT plugin answered {function} with {what}")]
    Answer {
        /// The function of the C interface.
        function: &'static str,
        /// What was wrong with the answer.
        what: String,
    },
    /// What was handed in does not fit: a shape, a type, a count, a device.
    #[error("{0}")]
    Mismatch(String),
    /// PJRT has it and this crate does not.
    #[error("{0}")]
    Unsupported(String),
}

/// The kind of an error: those of gRPC, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ErrorCode(pub u32);

impl ErrorCode {
    /// The caller is wrong: a program that does not compile, for one.
    pub const INVALID_ARGUMENT: Self = ErrorCode(3);
    /// Something is not there, such as a device.
    pub const NOT_FOUND: Self = ErrorCode(5);
    /// Memory ran out, as a rule.
    pub const RESOURCE_EXHAUSTED: Self = ErrorCode(8);
    /// The state of the system does not allow it: no driver, for one.
    pub const FAILED_PRECONDITION: Self = ErrorCode(9);
    /// The plugin does not have it.
    pub const UNIMPLEMENTED: Self = ErrorCode(12);
    /// The plugin is broken.
    pub const INTERNAL: Self = ErrorCode(13);
}

const NAMES: [&str; 17] = [
    "ok",
    "cancelled",
    "unknown",
    "invalid argument",
    "deadline exceeded",
    "not found",
    "already exists",
    "permission denied",
    "resource exhausted",
    "failed precondition",
    "aborted",
    "out of range",
    "unimplemented",
    "internal",
    "unavailable",
    "data loss",
    "unauthenticated",
];

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match usize::try_from(self.0).ok().and_then(|n| NAMES.get(n)) {
            Some(name) => f.write_str(name),
            None => write!(f, "error {}", self.0),
        }
    }
}
