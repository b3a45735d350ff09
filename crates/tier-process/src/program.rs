//! From a plugin's folder to what is started: the program, its arguments, its environment, its wall. It starts nothing.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs, io,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use bespoke_host::{Grounds, PluginFolder, Sandbox, Terms};
use bespoke_manifest::Run;
use bespoke_plugin_api::{Code, Error, Result};
use bespoke_sandbox::{Disk, Policy};

use crate::{child::Launch, python};

/// Processes and threads of a plugin, all together, where nothing else is said: enough for any library that computes, and the end of
/// a loop that forks.
const MOST_PROCESSES: u32 = 512;

/// What a plugin is started with.
#[derive(Debug)]
pub(crate) struct Program {
    path: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    /// Beside its own folder, what it has to read to start at all.
    reads: Vec<PathBuf>,
    interpreter: Option<PathBuf>,
}

impl Program {
    /// Finds the program of a plugin, and makes what it needs.
    ///
    /// # Errors
    /// `LOAD_FAILED` when there is none; `DEPENDENCY_MISSING`.
    pub(crate) fn find(folder: &PluginFolder, grounds: &Grounds) -> Result<Self> {
        let manifest = &folder.manifest;
        let Some(process) = &manifest.process else {
            let message = format!("{}: it does not say how it is started in a process of its own", manifest.path);
            return Err(Error::new(Code::LOAD_FAILED, message).with_help("add [process] with command = [\"…\"] or python = \"…\""));
        };
        match &process.run {
            Run::Command(command) => Self::of_command(folder, command),
            Run::Python(_) => {
                let base = python::interpreter()?;
                let requirements = python::requirements(&folder.path, &process.requirements)?;
                let (path, environment) = python::with_packages(&base, &requirements, &manifest.id, &grounds.cache)?;
                let sdk = python::sdk(&grounds.cache, &base)?;
                Ok(Program {
                    args: ["-m", "bespoke_sdk.guest", "--plugin-dir"]
                        .map(OsString::from)
                        .into_iter()
                        .chain([folder.path.clone().into()])
                        .collect(),
                    env: [
                        // The SDK before the plugin's folder, which the guest adds itself: a `json.py` in there is its own affair.
                        ("PYTHONPATH", sdk.as_os_str()),
                        ("PYTHONSAFEPATH", OsStr::new("1")),
                        ("PYTHONNOUSERSITE", OsStr::new("1")),
                        ("PYTHONDONTWRITEBYTECODE", OsStr::new("1")),
                        ("PYTHONUTF8", OsStr::new("1")),
                    ]
                    .map(|(name, value)| (name.into(), value.into()))
                    .to_vec(),
                    reads: std::iter::once(sdk).chain(environment).collect(),
                    path,
                    // Not that of the environment: what its settings name is a package's word.
                    interpreter: Some(base),
                })
            }
            other => Err(Error::new(Code::LOAD_FAILED, format!("{}: this program cannot run {other:?}", manifest.path))),
        }
    }

    /// Whether there is one, as far as that shows without asking Python.
    ///
    /// # Errors
    /// `LOAD_FAILED`.
    pub(crate) fn look(folder: &PluginFolder) -> Result<()> {
        match folder.manifest.process.as_ref().map(|process| &process.run) {
            Some(Run::Command(command)) => Self::of_command(folder, command).map(drop),
            _ => Ok(()),
        }
    }

    fn of_command(folder: &PluginFolder, command: &[String]) -> Result<Self> {
        let [name, args @ ..] = command else {
            return Err(Error::new(Code::LOAD_FAILED, format!("{}: its command is empty", folder.manifest.path)));
        };
        let path = locate(&folder.path, Path::new(name)).ok_or_else(|| lacks(folder, name))?;
        let (path, interpreter) = vetted(&folder.path, &path).ok_or_else(|| {
            let message = format!("{}: `{name}` leads to a program that is neither in its folder nor on PATH", folder.manifest.path);
            Error::new(Code::LOAD_FAILED, message).with_help("name a program of its folder or of PATH in command under [process]")
        })?;
        Ok(Program { interpreter, path, args: args.iter().map(OsString::from).collect(), env: Vec::new(), reads: Vec::new() })
    }

    /// The program itself.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What is started, in a folder of its own where it has one, on these terms.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` when a folder cannot be made; `PERMISSION_DENIED` when it must have a wall that this machine does not have.
    pub(crate) fn launch(
        &self,
        folder: &PluginFolder,
        grounds: &Grounds,
        data: Option<&Path>,
        reads: &[PathBuf],
        terms: &Terms,
    ) -> Result<Launch> {
        let failed = |e: io::Error| Error::new(Code::RESOURCE_EXHAUSTED, format!("no folder for its data: {e}"));
        let scratch = match data {
            Some(_) => None,
            None => {
                fs::create_dir_all(&grounds.cache).map_err(failed)?;
                Some(Arc::new(tempfile::Builder::new().prefix(".run-").tempdir_in(&grounds.cache).map_err(failed)?))
            }
        };
        let home = match (&scratch, data) {
            (_, Some(data)) => data.to_owned(),
            (Some(scratch), None) => scratch.path().to_owned(),
            (None, None) => return Err(Error::internal("a plugin without a folder")),
        };
        let temporary = home.join("tmp");
        fs::create_dir_all(&temporary).map_err(failed)?;

        let policy = self.policy(folder, &home, reads, terms);
        let missing = bespoke_sandbox::missing(&policy);
        if terms.sandbox == Sandbox::Required && (grounds.program.is_none() || !missing.is_empty()) {
            let what: Vec<_> = missing.iter().map(|part| format!("{} ({})", part.part.name(), part.detail)).collect();
            let what = if what.is_empty() { "there is no program to supervise it".to_owned() } else { what.join(", ") };
            let message = format!("its sandbox is required, and this machine does not enforce all of it: {what}");
            return Err(Error::new(Code::PERMISSION_DENIED, message).with_help("bespoke doctor"));
        }
        Ok(Launch {
            program: self.path.clone(),
            args: self.args.clone(),
            env: self.environment(&folder.manifest.id, &home, &temporary, terms),
            folder: folder.path.clone(),
            wall: grounds.program.clone().map(|program| (program, policy)),
            scratch,
            used: terms.used.clone(),
        })
    }

    /// All that it sees of the environment. Nothing of this program's own but what every program needs and what was granted.
    fn environment(&self, id: &str, home: &Path, temporary: &Path, terms: &Terms) -> Vec<(OsString, OsString)> {
        let mut all: Vec<(OsString, OsString)> = env::vars_os()
            .filter(|(name, _)| {
                let name = name.to_string_lossy();
                matches!(&*name, "PATH" | "LANG" | "TZ")
                    || name.starts_with("LC_")
                    || terms.granted.env.iter().any(|granted| *granted == name)
            })
            .collect();
        // Builds of ONNX Runtime, from whatever package, report to their maker unless they find this.
        const NO_TELEMETRY: &str = "ORT_DISABLE_TELEMETRY";
        let no_telemetry = env::var_os(NO_TELEMETRY).filter(|value| !value.is_empty()).unwrap_or_else(|| "1".into());
        let own = [
            ("HOME", home.as_os_str()),
            ("TMPDIR", temporary.as_os_str()),
            ("BESPOKE_PLUGIN_ID", OsStr::new(id)),
            (NO_TELEMETRY, &no_telemetry),
        ];
        for (name, value) in own.map(|(name, value)| (OsString::from(name), value.to_owned())).into_iter().chain(self.env.iter().cloned()) {
            all.retain(|(known, _)| *known != name);
            all.push((name, value));
        }
        all
    }

    fn policy(&self, folder: &PluginFolder, home: &Path, reads: &[PathBuf], terms: &Terms) -> Policy {
        let mut policy = if terms.sandbox == Sandbox::Off { Policy::open() } else { Policy::closed() };
        // Places that this program has made or was told of. A wall does not go through links.
        let real = |path: &PathBuf| fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        let home = real(&home.to_owned());
        policy = policy.read(std::iter::once(&folder.path).chain(&self.reads).chain(reads).map(real)).write([home.clone()]);
        if let Some(interpreter) = &self.interpreter {
            policy = policy.python(interpreter);
        }
        let granted = &terms.granted;
        // As they were when they were granted: where a link stands there now, it is not followed.
        for path in granted.read_files.iter().chain(&granted.write_files) {
            if fs::canonicalize(path).is_ok_and(|real| real != Path::new(path)) {
                let plugin = &*folder.manifest.id;
                tracing::warn!(plugin, path, "what was granted has become a link, which is not followed: bespoke plugin grant {plugin}");
            }
        }
        policy = policy.read(&granted.read_files).write(&granted.write_files);
        for program in &granted.system_access {
            let name = Path::new(program);
            policy = match program.as_str() {
                "*" => policy.any_program(),
                _ if name.is_absolute() => policy.execute([name]),
                _ => policy.execute(on_path(name).map(|path| real(&path))),
            };
        }
        if granted.direct_network {
            policy = policy.network();
        }
        let (mib, asked) = (|mb: u32| u64::from(mb) << 20, &terms.limits);
        policy.limits.memory = asked.memory_mb.map(mib);
        policy.limits.address_space = asked.address_space_mb.map(mib);
        policy.limits.cpu_percent = asked.cpu_percent;
        policy.limits.cpu_seconds = asked.cpu_seconds.map(u64::from);
        policy.limits.open_files = asked.open_files.map(u64::from);
        policy.limits.file_size = asked.file_mb.map(mib);
        policy.limits.threads = Some(asked.processes.unwrap_or(MOST_PROCESSES));
        policy.limits.disk = asked.disk_mb.map(|mb| Disk { folder: home, bytes: mib(mb) });
        policy
    }
}

/// The error of a program that is not there, or that nobody may execute.
fn lacks(folder: &PluginFolder, name: &str) -> Error {
    // Without the `.` of `./run`.
    let (manifest, own) = (&folder.manifest.path, folder.path.join(name).components().collect::<PathBuf>());
    let refused = |message: String, help: String| Error::new(Code::LOAD_FAILED, format!("{manifest}: {message}")).with_help(help);
    if own.is_file() {
        return refused(format!("`{name}` may not be executed"), format!("chmod +x {}", own.display()));
    }
    if Path::new(name).is_relative() && Path::new(name).components().count() > 1 {
        let help = bespoke_tier::build_again(&folder.path, "process");
        return refused(format!("`{name}` is not in its folder"), format!("mend command under [process]; or {help}"));
    }
    refused(format!("`{name}` is no program in its folder and none on PATH"), format!("install {name}, or mend command under [process]"))
}

/// A program by name: absolute, in the plugin's folder, or where a shell would find it.
fn locate(folder: &Path, name: &Path) -> Option<PathBuf> {
    if name.is_absolute() {
        return is_program(name).then(|| name.to_owned());
    }
    if name.components().any(|part| part == Component::ParentDir) {
        return None;
    }
    let own = folder.join(name);
    if is_program(&own) { Some(own) } else { on_path(name) }
}

/// Whether a manifest may name this program, how it is started, and which interpreter of Python it needs the folders of.
///
/// A program in the plugin's folder has that folder and nothing more, whatever it is called and whatever lies beside it. One outside must
/// be of PATH, or the interpreter that plugins in Python have: what a link or an absolute path leads to could be any file otherwise, and
/// whoever executes may read.
fn vetted(folder: &Path, path: &Path) -> Option<(PathBuf, Option<PathBuf>)> {
    let real = fs::canonicalize(path).ok()?;
    if real.starts_with(fs::canonicalize(folder).ok()?) {
        return Some((path.to_owned(), None));
    }
    let is_python = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("python"));
    let named = |path: &Path| path.parent().and_then(|parent| fs::canonicalize(parent).ok()).is_some_and(|parent| is_of_path(&parent));
    if named(path) {
        let path = if is_python(path) { python::itself(path) } else { path.to_owned() };
        let interpreter = is_python(&path).then(|| path.clone());
        return Some((path, interpreter));
    }
    let known = || python::interpreter().ok().and_then(|known| fs::canonicalize(known).ok()).is_some_and(|known| known == real);
    (named(&real) || known()).then(|| (path.to_owned(), is_python(&real).then_some(real)))
}

/// Whether it is one of the folders in which a shell looks for programs.
fn is_of_path(folder: &Path) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).filter(|one| one.is_absolute()).filter_map(|one| fs::canonicalize(one).ok()).any(|one| one == folder)
}

/// A program where a shell would find it.
pub(crate) fn on_path(name: &Path) -> Option<PathBuf> {
    if name.is_absolute() {
        return is_program(name).then(|| name.to_owned());
    }
    if name.components().count() != 1 {
        return None;
    }
    env::split_paths(&env::var_os("PATH")?)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
