//! Machines for tests: a driver built from driver.c and nvml.c in a process of its own, and the NVRTC of the test packs.

// Several crates test with this, and none uses all of it.
#![allow(dead_code, reason = "shared by the tests of several crates")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// The variable that tells a process that it is the one apart, and which test it is for.
const APART: &str = "BESPOKE_TEST_APART";

/// A folder of libraries for one process to find first.
pub(crate) struct Machine {
    folder: PathBuf,
    variables: Vec<(String, String)>,
}

impl Machine {
    /// A folder of that name, empty; what other libraries the real machine has are found after it.
    pub(crate) fn bare(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder for libraries");
        Machine { folder, variables: Vec::new() }
    }

    /// With the driver of driver.c; `defines` are those of its `#ifdef`s.
    pub(crate) fn with_driver(name: &str, defines: &[&str]) -> Self {
        let machine = Self::bare(name);
        machine.build("driver.c", "libcuda.so", defines);
        machine
    }

    /// With NVML.
    pub(crate) fn nvml(self) -> Self {
        self.build("nvml.c", "libnvidia-ml.so.1", &[]);
        self
    }

    /// With a variable that driver.c or nvml.c reads.
    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// One of its libraries.
    pub(crate) fn library(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What the test `test` says by [`here`] on this machine, in a process of its own. One that does not end well fails the test.
    pub(crate) fn run(&self, test: &str) -> String {
        let mut command = Command::new(std::env::current_exe().expect("a test program"));
        command.env(APART, test).env("LD_LIBRARY_PATH", &self.folder).env_remove("CUDA_VISIBLE_DEVICES");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        let output = command.args(["--exact", test, "--nocapture", "--test-threads=1"]).output().expect("starts itself");
        said(&output).unwrap_or_else(|| panic!("{test} apart: {}\n{}", output.status, all(&output)))
    }

    fn build(&self, source: &str, library: &str, defines: &[&str]) {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cuda/tests/support").join(source);
        let mut command = Command::new("gcc");
        command.args(["-shared", "-fPIC", "-Wall", "-Werror", "-O1", "-o"]).arg(self.folder.join(library)).arg(source);
        command.args(defines.iter().map(|define| format!("-D{define}")));
        let output = command.output().expect("gcc, which these tests need");
        assert!(output.status.success(), "{}", all(&output));
    }
}

/// In the process that [`Machine::run`] started: says what `work` gives, and ends it. Nothing elsewhere; so it stands first in a test.
pub(crate) fn here(test: &str, work: impl FnOnce() -> String) {
    if std::env::var_os(APART).is_some_and(|name| name == test) {
        println!("<<<{}>>>", work());
        std::process::exit(0);
    }
}

/// The library of NVRTC in the test packs.
pub(crate) fn nvrtc() -> PathBuf {
    let root = std::env::var_os("BESPOKE_TEST_RUNTIMES")
        .filter(|root| !root.is_empty())
        .map(PathBuf::from)
        .expect("BESPOKE_TEST_RUNTIMES names the folder of the test packs, with cuda:nvrtc in it: run the tests with `cargo xtask test`");
    let found = find(&root, 7).unwrap_or_else(|| panic!("{} has no libnvrtc.so.*: run the tests with `cargo xtask test`", root.display()));
    found.canonicalize().expect("a library")
}

/// The newest `libnvrtc.so.*` below a folder.
fn find(folder: &Path, depth: u32) -> Option<PathBuf> {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    let named = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("libnvrtc.so."));
    if let Some(library) = entries.iter().rev().find(|path| named(path) && path.is_file()) {
        return Some(library.clone());
    }
    let below = depth.checked_sub(1)?;
    entries.iter().rev().filter(|path| path.is_dir()).find_map(|path| find(path, below))
}

fn said(output: &Output) -> Option<String> {
    let text = String::from_utf8_lossy(&output.stdout);
    let (_, rest) = text.split_once("<<<").filter(|_| output.status.success())?;
    Some(rest.split_once(">>>")?.0.to_owned())
}

fn all(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
