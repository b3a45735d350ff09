//! What is run. No decision, no execution.

use std::{ffi::OsString, path::PathBuf, time::Duration};

/// A program to run, with all that it gets.
#[derive(Clone)]
pub struct Job {
    /// The file, absolute.
    pub program: PathBuf,
    /// Its arguments; nothing reads them but the program.
    pub args: Vec<String>,
    /// What it reads; closed at once when empty.
    pub stdin: Vec<u8>,
    /// Where it works.
    pub folder: PathBuf,
    /// All of its environment.
    pub environment: Vec<(String, OsString)>,
    /// When it is killed.
    pub timeout: Duration,
    /// Most bytes that are kept of its output, and of its errors.
    pub max_output: usize,
}
