//! Runs the binary: in a folder of its own, with a home of its own, with nothing of the environment that it was not given,
//! and never for ever.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;
use tempfile::TempDir;

/// Longer than anything takes, even where two cores are shared by many.
const LIMIT: Duration = Duration::from_secs(240);

/// Variables of the environment that would change what the program does.
const FOREIGN: &[&str] = &[
    "BESPOKE_INDEX_URL",
    "BESPOKE_COMPONENTIZE",
    "BESPOKE_NODE",
    "BESPOKE_PYTHON",
    "BESPOKE_TELEGRAM_EMULATOR",
    "BESPOKE_TEST_RUNTIMES",
    "BESPOKE_VOICE_KIT",
    "BESPOKE_XLLAMACPP",
    "BESPOKE_HOME",
    "BESPOKE_CONFIG",
    "BESPOKE_MODEL_PATH",
    "BESPOKE_PLUGIN_PATH",
    "OPENAI_API_KEY",
    "ONNXRUNTIME_ROOT",
    "ORT_DYLIB_PATH",
    "PJRT_PLUGIN_LIBRARY_PATH",
    "NO_COLOR",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// A user: a home, a folder to work in, and no model files unless they are given.
pub(crate) struct User {
    folder: TempDir,
    variables: Vec<(&'static str, PathBuf)>,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl User {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("work")).unwrap();
        User { folder, variables: Vec::new() }
    }

    /// A user who has the model files already, in a folder beside the home.
    pub(crate) fn with_models() -> Self {
        let user = User::new();
        let path = std::env::var_os("BESPOKE_MODEL_PATH").filter(|path| !path.is_empty());
        let path = path.expect("this test needs model files; run it with: cargo xtask test");
        user.with("BESPOKE_MODEL_PATH", path)
    }

    /// A user of ONNX Runtime.
    pub(crate) fn with_onnxruntime(self) -> Self {
        let path = std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty());
        let path = path.expect("this test needs ONNX Runtime; run it with: cargo xtask test");
        self.with("ORT_DYLIB_PATH", path)
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<PathBuf>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// A user whose home holds this configuration.
    pub(crate) fn configured(self, text: &str) -> Self {
        fs::create_dir_all(self.home()).unwrap();
        fs::write(self.config(), text).unwrap();
        self
    }

    /// Absent until the program makes it.
    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// Waits for a file of this name below the home: what a plugin leaves there as a sign that it has come so far.
    #[track_caller]
    pub(crate) fn appears(&self, name: &str) {
        let until = Instant::now() + LIMIT;
        while !files_below(&self.home()).iter().any(|path| path.ends_with(name)) {
            assert!(Instant::now() < until, "{name} does not appear");
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.home().join("bespoke.toml")
    }

    /// A path in the folder that the program runs in.
    pub(crate) fn work(&self, name: &str) -> PathBuf {
        self.folder.path().join("work").join(name)
    }

    pub(crate) fn command(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bespoke"));
        FOREIGN.iter().for_each(|name| _ = command.env_remove(name));
        command.env("BESPOKE_HOME", self.home()).current_dir(self.work(""));
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it to its end, without input.
    pub(crate) fn run(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Ended {
        end(&mut self.command(args), None)
    }

    /// Runs it to its end with this text on stdin.
    pub(crate) fn piped(&self, input: &str, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Ended {
        end(&mut self.command(args), Some(input))
    }

    /// Runs it to its end with its data on a terminal.
    pub(crate) fn on_terminal(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Ended {
        let (ours, theirs) = terminal();
        let mut command = self.command(args);
        let child = command.stdout(theirs).spawn().unwrap();
        drop(command);
        let shown = thread::spawn(move || shown_on(ours));
        Ended { out: shown.join().unwrap(), ..wait(child) }
    }

    /// Runs it, which has to succeed, and reads what it printed as JSON.
    pub(crate) fn json(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Value {
        self.run(args).ok().value()
    }
}

impl Ended {
    /// The same, after a success.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.code(0)
    }

    /// The same, after this exit code.
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// The same, having said this on stderr.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(self.err.contains(text), "`{text}` is not in: {}", self.err);
        self
    }

    /// The same, with no data.
    #[track_caller]
    pub(crate) fn nothing(self) -> Self {
        assert_eq!(self.out, "");
        self
    }

    #[track_caller]
    pub(crate) fn value(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}", self.out))
    }

    /// One JSON value a line.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }
}

fn end(command: &mut Command, input: Option<&str>) -> Ended {
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn().unwrap();
    if let Some(input) = input {
        let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_owned());
        // One that does not read all of it closes the pipe, which is its right.
        thread::spawn(move || _ = stdin.write_all(input.as_bytes()));
    }
    wait(child)
}

/// Waits for the end, but not for ever.
pub(crate) fn wait(mut child: Child) -> Ended {
    let (sender, ended) = mpsc::channel();
    let reader = |pipe: Option<Box<dyn Read + Send>>| {
        let sender = sender.clone();
        thread::spawn(move || {
            let mut bytes = Vec::new();
            pipe.map_or(Ok(0), |mut pipe| pipe.read_to_end(&mut bytes)).unwrap();
            _ = sender.send(());
            String::from_utf8(bytes).unwrap()
        })
    };
    let out = reader(child.stdout.take().map(|pipe| Box::new(pipe) as _));
    let err = reader(child.stderr.take().map(|pipe| Box::new(pipe) as _));
    for _ in 0..2 {
        if ended.recv_timeout(LIMIT).is_err() {
            child.kill().unwrap();
            panic!("it did not end; stderr: {}", err.join().unwrap());
        }
    }
    let code = exit_code(&mut child);
    Ended { code, out: out.join().unwrap(), err: err.join().unwrap() }
}

/// A program whose output somebody else reads may still run.
fn exit_code(child: &mut Child) -> i32 {
    let until = Instant::now() + LIMIT;
    while Instant::now() < until {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap_or(-1);
        }
        thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    panic!("it closed its output and did not end");
}

/// A terminal: our side of it and the program's.
pub(crate) fn terminal() -> (File, File) {
    // No child of ours has it, or it would never be closed.
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
    (File::from(ours), File::options().read(true).write(true).open(name).unwrap())
}

/// What a terminal shows until nobody has its other side any more.
pub(crate) fn shown_on(mut ours: File) -> String {
    let mut shown = Vec::new();
    // That is an error.
    let _ = ours.read_to_end(&mut shown);
    String::from_utf8_lossy(&shown).replace("\r\n", "\n")
}

/// Recordings of the project.
pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../vad-silero/tests/fixtures")
}

/// All files below a folder; none when it is absent.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}
