//! Starts commands behind walls, and collects what becomes of them.

use std::{
    ffi::OsString,
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use bespoke_sandbox::{Child, Policy, Report, Spawn, What, spawn};

/// How long anything may take here; against hanging, not to measure.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// The interpreter itself, not a script that looks for it.
pub(crate) fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let output = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().unwrap();
        PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
    })
}

/// Names another supervisor than the one that was built, for those who cannot reach that one.
pub(crate) const PROGRAM: &str = "BESPOKE_TEST_EXEC";

fn program() -> PathBuf {
    std::env::var_os(PROGRAM).unwrap_or_else(|| env!("CARGO_BIN_EXE_bespoke-exec").into()).into()
}

/// A folder that is gone after the test.
pub(crate) struct Place(pub(crate) PathBuf);

impl Place {
    pub(crate) fn new() -> Self {
        let name = format!("bespoke-sandbox-{}-{}", std::process::id(), unique());
        let path = fs::canonicalize(std::env::temp_dir()).unwrap().join(name);
        fs::create_dir_all(&path).unwrap();
        Place(path)
    }

    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn unique() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// What became of a command.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) reports: Vec<Report>,
}

impl Outcome {
    pub(crate) fn code(&self) -> Option<i32> {
        self.reports.iter().find_map(|report| match report {
            Report::Ended { code, .. } => *code,
            _ => None,
        })
    }

    pub(crate) fn denied(&self, what: What) -> Vec<&str> {
        let of = |report| match report {
            &Report::Denied { what: is, ref argument, .. } if is == what => Some(argument.as_str()),
            _ => None,
        };
        self.reports.iter().filter_map(of).collect()
    }
}

pub(crate) fn closed_for_python() -> Policy {
    Policy::closed().python(python())
}

pub(crate) fn of_python(policy: Policy, cwd: &Path, code: &str) -> Spawn {
    Spawn {
        program: program(),
        verb: vec!["__exec".into(), "test".into()],
        policy,
        command: vec![python().into(), "-c".into(), code.into()],
        env: vec![("PATH".into(), "/usr/bin:/bin".into()), ("PYTHONDONTWRITEBYTECODE".into(), OsString::from("1"))],
        cwd: cwd.to_path_buf(),
    }
}

pub(crate) fn run(order: Spawn) -> Outcome {
    collect(spawn(order).unwrap())
}

/// Reads everything until nothing is left of it.
pub(crate) fn collect(mut child: Child) -> Outcome {
    drop(child.stdin.take());
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let reports = child.reports.take().unwrap();
    let reader = |mut from: Box<dyn Read + Send>| {
        thread::spawn(move || {
            let mut text = Vec::new();
            from.read_to_end(&mut text).unwrap();
            String::from_utf8_lossy(&text).into_owned()
        })
    };
    let (stdout, stderr) = (reader(Box::new(move_out(&mut stdout))), reader(Box::new(move_out(&mut stderr))));
    let reports = thread::spawn(move || reports.map(|report| report.unwrap()).collect());
    eventually("the supervisor ends", || child.try_wait().unwrap().is_some());
    Outcome { stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap(), reports: reports.join().unwrap() }
}

fn move_out<T: std::os::fd::AsFd>(stream: &mut T) -> fs::File {
    stream.as_fd().try_clone_to_owned().unwrap().into()
}

/// Waits for something that has to come.
#[track_caller]
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !done() {
        assert!(Instant::now() < end, "{what}: not after {LONG:?}");
        thread::sleep(Duration::from_millis(2));
    }
}
