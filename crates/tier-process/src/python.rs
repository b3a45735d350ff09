//! What a plugin in Python runs with: the interpreter, the SDK that this program carries, and an environment of its own for packages.
//! The interpreter's own packages are never touched.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fs,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use bespoke_host::Grounds;
use bespoke_manifest::is_requirement;
use bespoke_plugin_api::{Code, Error, Result};
use bespoke_sandbox::Policy;
use include_dir::{Dir, DirEntry, include_dir};
use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

use crate::{
    errand::{Errand, Ran},
    program::on_path,
};

bespoke_plugin_api::notice! {
    name: "python-sdk",
    files: ["sdk/src"],
    license: "Apache-2.0",
    text: include_str!("../../../LICENSES/python-sdk.txt"),
}

static SDK: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/sdk/src");

/// A file that is there while packages are being installed.
const UNFINISHED: &str = ".unfinished";

/// Most bytes of a requirements.txt.
const MOST_BYTES: u64 = 64 << 10;
/// How long an interpreter has to say where it is, and to compile the SDK.
const SHORT: Duration = Duration::from_secs(30);

/// What of this program's environment pip needs: its own settings (`PIP_…`, too), the way out, and which certificates to trust.
const FOR_PIP: [&str; 13] = [
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "XDG_CONFIG_HOME",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
];

/// Where its settings lie, below the home of its user; and the passwords for an index of their own.
const SETTINGS_OF_PIP: [&str; 3] = [".config/pip", ".pip", ".netrc"];

/// The settings of the machine, and its name, which pip tells the index and does not do without.
const FACTS_FOR_PIP: [&str; 10] = [
    "/etc/pip.conf",
    "/etc/xdg/pip",
    "/etc/os-release",
    "/etc/lsb-release",
    "/etc/debian_version",
    "/etc/redhat-release",
    "/etc/fedora-release",
    "/etc/SuSE-release",
    "/etc/arch-release",
    "/etc/alpine-release",
];

/// What a script needs that stands on PATH for an interpreter and looks for it.
const FOR_SHIMS: [&str; 7] = ["PATH", "HOME", "PYENV_ROOT", "PYENV_VERSION", "ASDF_DIR", "ASDF_DATA_DIR", "MISE_DATA_DIR"];

/// The interpreter: that of `BESPOKE_PYTHON`, else `python3`.
///
/// # Errors
/// `DEPENDENCY_MISSING`.
pub(crate) fn interpreter() -> Result<PathBuf> {
    let named = env::var_os("BESPOKE_PYTHON").filter(|name| !name.is_empty());
    let name = named.clone().unwrap_or_else(|| "python3".into());
    on_path(Path::new(&name)).map(|path| itself(&path)).ok_or_else(|| {
        let name = name.to_string_lossy();
        let message = match named {
            Some(_) => format!("BESPOKE_PYTHON names `{name}`, which is no program"),
            None => "it is written in Python, and there is no python3 here".to_owned(),
        };
        Error::new(Code::DEPENDENCY_MISSING, message).with_help("install Python 3.9 or later, or name one in BESPOKE_PYTHON")
    })
}

/// The interpreter itself: what is found on PATH may be a script that looks for it, again at each start, and behind a wall in vain.
///
/// **Invariant:** it is run without a wall, so that it is called only for what the user's own PATH, or `BESPOKE_PYTHON`, leads to.
pub(crate) fn itself(found: &Path) -> PathBuf {
    static KNOWN: Mutex<BTreeMap<PathBuf, PathBuf>> = Mutex::new(BTreeMap::new());
    let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner).get(found).cloned();
    known.unwrap_or_else(|| {
        let asked = short_of(found, &["-I", "-S", "-c", "import sys; print(sys.executable)"], |name| FOR_SHIMS.contains(&name));
        let said = asked.ok().filter(|ran| ran.succeeded).and_then(|ran| String::from_utf8(ran.stdout).ok());
        let real = said.map(|path| PathBuf::from(path.trim())).filter(|path| path.is_absolute() && path.is_file());
        let real = real.unwrap_or_else(|| found.to_owned());
        KNOWN.lock().unwrap_or_else(PoisonError::into_inner).insert(found.to_owned(), real.clone());
        real
    })
}

/// Runs an interpreter of the user's for a moment, with these of the variables.
fn short_of(interpreter: &Path, args: &[&str], variables: impl Fn(&str) -> bool) -> io::Result<Ran> {
    let env = env::vars_os().filter(|(name, _)| name.to_str().is_some_and(&variables)).collect();
    let args = args.iter().map(OsString::from).collect();
    Errand { program: interpreter, args, env, folder: Path::new("/"), limit: SHORT, wall: None }.run()
}

/// The folder of the SDK, unpacked when this program has not done so before.
///
/// # Errors
/// `LOAD_FAILED` when it cannot be written.
pub(crate) fn sdk(cache: &Path, interpreter: &Path) -> Result<PathBuf> {
    let folder = cache.join(format!("sdk-{}", sdk_digest()));
    if folder.is_dir() {
        return Ok(folder);
    }
    let failed =
        |e: io::Error| Error::new(Code::LOAD_FAILED, format!("the Python SDK could not be unpacked into {}: {e}", cache.display()));
    fs::create_dir_all(cache).map_err(failed)?;
    // All of it or nothing: whoever sees the folder sees all files.
    let staged = tempfile::Builder::new().prefix(".sdk-").tempdir_in(cache).map_err(failed)?;
    for (path, contents) in sdk_files() {
        let path = staged.path().join(path);
        path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, contents)).map_err(failed)?;
    }
    compile(interpreter, staged.path());
    match fs::rename(staged.path(), &folder) {
        Ok(()) => {
            // It is not there any more under its first name.
            let _moved = staged.keep();
            readable(&folder);
            Ok(folder)
        }
        // Another program was faster.
        Err(_) if folder.is_dir() => Ok(folder),
        Err(e) => Err(failed(e)),
    }
}

/// A temporary folder is its owner's alone; a plugin may be somebody else.
fn readable(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let _ = fs::set_permissions(folder, fs::Permissions::from_mode(0o755));
}

/// Bytecode, once: a plugin may not write it, and would compile all modules again at each start. Without it, that is what happens.
fn compile(interpreter: &Path, folder: &Path) {
    let Some(folder) = folder.to_str() else { return };
    let _ = short_of(interpreter, &["-I", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", folder], |_| false);
}

/// Names the SDK that this program carries.
pub(crate) fn sdk_digest() -> &'static str {
    static DIGEST: OnceLock<String> = OnceLock::new();
    DIGEST.get_or_init(|| {
        let mut hash = Sha256::new();
        for (path, contents) in sdk_files() {
            for part in [path.as_os_str().as_encoded_bytes(), contents] {
                hash.update(part.len().to_le_bytes());
                hash.update(part);
            }
        }
        short(hash)
    })
}

/// Twelve digits of a digest: enough to tell versions apart.
pub(crate) fn short(hash: Sha256) -> String {
    hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// Its sources, by name; what an interpreter left beside them is not among them.
fn sdk_files() -> Vec<(&'static Path, &'static [u8])> {
    fn add(dir: &'static Dir<'static>, files: &mut Vec<(&'static Path, &'static [u8])>) {
        for entry in dir.entries() {
            match entry {
                DirEntry::Dir(dir) if dir.path().ends_with("__pycache__") => {}
                DirEntry::Dir(dir) => add(dir, files),
                DirEntry::File(file) => files.push((file.path(), file.contents())),
            }
        }
    }
    let mut files = Vec::new();
    add(&SDK, &mut files);
    files.sort_unstable_by_key(|(path, _)| *path);
    files
}

/// The packages that a plugin needs: those of its manifest, and those of its requirements.txt, a line each. Of what pip would read in such
/// a file, names and versions are taken; options, paths and addresses are refused, as they lead elsewhere than to the user's index.
///
/// # Errors
/// `MANIFEST_INVALID`, naming the line.
pub(crate) fn requirements(folder: &Path, listed: &[String]) -> Result<Vec<String>> {
    let path = folder.join("requirements.txt");
    let invalid = |at: String, why: &str| Error::new(Code::MANIFEST_INVALID, format!("{}{at}: {why}", path.display()));
    let text = match own_text(folder, &path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(invalid(String::new(), &e.to_string())),
    };
    let mut all = listed.to_vec();
    let lines = text.lines().enumerate().map(|(at, line)| {
        // A comment begins a line, or stands behind a space.
        (at + 1, line.split_once(" #").map_or(line, |(before, _)| before).trim())
    });
    for (at, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        if !is_requirement(line) {
            let help = "write its name and the versions that fit, such as numpy>=1.24; options, paths and addresses are not taken";
            return Err(invalid(format!(":{at}"), "it is no package").with_help(help));
        }
        if !all.iter().any(|one| one == line) {
            all.push(line.to_owned());
        }
    }
    match all.iter().find(|one| !is_requirement(one)) {
        Some(_) => Err(Error::new(Code::MANIFEST_INVALID, "what it requires is no list of packages")),
        None => Ok(all),
    }
}

/// A file of the plugin's own: not one that a link leads to elsewhere, whose lines would be told, and not one that never ends.
fn own_text(folder: &Path, path: &Path) -> io::Result<String> {
    let wrong = |why: &'static str| io::Error::new(io::ErrorKind::InvalidData, why);
    if !fs::canonicalize(path)?.starts_with(fs::canonicalize(folder)?) {
        return Err(wrong("it leads out of the plugin's folder"));
    }
    // Opening a pipe would wait for whoever writes into it.
    let file = fs::File::options().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(wrong("it is no file"));
    }
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(wrong("it is too long"));
    }
    String::from_utf8(bytes).map_err(|_| wrong("it is no UTF-8"))
}

/// The environment of a plugin's own for these packages: its folder, which need not be there.
fn environment(interpreter: &Path, requirements: &[String], id: &str, cache: &Path) -> PathBuf {
    let mut hash = Sha256::new();
    for part in std::iter::once(interpreter.as_os_str().as_encoded_bytes()).chain(requirements.iter().map(String::as_bytes)) {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    cache.join("venv").join(format!("{id}-{}", short(hash)))
}

/// Its interpreter, if it is complete.
fn complete(environment: &Path) -> Option<PathBuf> {
    let program = environment.join("bin/python");
    (program.exists() && !environment.join(UNFINISHED).exists()).then_some(program)
}

/// The interpreter that has these packages, and the environment in which they are, where that is not the interpreter's own.
///
/// # Errors
/// `DEPENDENCY_MISSING`, with the command that installs them.
pub(crate) fn with_packages(interpreter: &Path, requirements: &[String], id: &str, cache: &Path) -> Result<(PathBuf, Option<PathBuf>)> {
    if requirements.is_empty() {
        return Ok((interpreter.to_owned(), None));
    }
    let folder = environment(interpreter, requirements, id, cache);
    if let Some(program) = complete(&folder) {
        return Ok((program, Some(folder)));
    }
    let quoted: Vec<_> = requirements.iter().map(|one| format!("'{}'", one.replace('\'', r"'\''"))).collect();
    let (shown, base) = (folder.display(), interpreter.display());
    let help = format!(
        "bespoke config set plugins.auto_install_deps true, or: {base} -m venv '{shown}' && '{shown}/bin/python' -m pip install {}",
        quoted.join(" ")
    );
    let message = format!("needs packages of Python that are not installed: {}", requirements.join(", "));
    Err(Error::new(Code::DEPENDENCY_MISSING, message).with_help(help))
}

/// Makes the environment with these packages, unless it is there. It asks the network, and takes no longer than `limit`.
///
/// No code of a package runs: only wheels are taken, which are unpacked. Around it is a wall all the same, in which nothing but the new
/// environment can be written.
///
/// # Errors
/// `DEPENDENCY_MISSING`, with what pip says.
pub(crate) fn install(interpreter: &Path, requirements: &[String], id: &str, grounds: &Grounds, limit: Duration) -> Result<()> {
    if requirements.is_empty() {
        return Ok(());
    }
    let folder = environment(interpreter, requirements, id, &grounds.cache);
    let failed = |e: io::Error| Error::new(Code::DEPENDENCY_MISSING, format!("no environment in {}: {e}", folder.display()));
    fs::create_dir_all(&folder).map_err(failed)?;
    let lock = fs::File::create(folder.with_extension("lock")).map_err(failed)?;
    // As long as somebody else's installation may take.
    let until = Instant::now() + limit;
    while let Err(e) = lock.try_lock() {
        match e {
            fs::TryLockError::WouldBlock if Instant::now() < until => std::thread::sleep(Duration::from_millis(50)),
            fs::TryLockError::WouldBlock => {
                return Err(failed(io::Error::other("another program has been installing into it all the time")));
            }
            fs::TryLockError::Error(e) => return Err(failed(e)),
        }
    }
    // Somebody else may have done it while this one waited.
    if complete(&folder).is_some() {
        return Ok(());
    }
    // Without links, as a wall wants it.
    let folder = fs::canonicalize(&folder).map_err(failed)?;
    let scratch = tempfile::Builder::new().prefix(".pip-").tempdir_in(&grounds.cache).map_err(failed)?;
    let scratch_path = fs::canonicalize(scratch.path()).map_err(failed)?;
    let downloads = grounds.cache.join("pip");
    fs::create_dir_all(&downloads).map_err(failed)?;
    let downloads = fs::canonicalize(downloads).map_err(failed)?;

    let pip = Pip { interpreter, folder: &folder, scratch: &scratch_path, downloads: &downloads, grounds, until: Instant::now() + limit };
    fs::write(folder.join(UNFINISHED), []).map_err(failed)?;
    pip.run(interpreter, &["-I", "-m", "venv", "--without-pip", "--clear", &folder.to_string_lossy()])?;
    // `--clear` has taken it away.
    fs::write(folder.join(UNFINISHED), []).map_err(failed)?;
    let program = folder.join("bin/python");
    pip.run(&program, &["-I", "-m", "ensurepip", "--default-pip"])?;
    // What is in the environment has come from nobody but the interpreter until here.
    let mut args = vec!["-I", "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--quiet", "--only-binary=:all:"];
    args.extend(requirements.iter().map(String::as_str));
    pip.run(&program, &args)?;
    fs::remove_file(folder.join(UNFINISHED)).map_err(failed)
}

/// How pip is run.
struct Pip<'a> {
    interpreter: &'a Path,
    folder: &'a Path,
    scratch: &'a Path,
    downloads: &'a Path,
    grounds: &'a Grounds,
    until: Instant,
}

impl Pip<'_> {
    fn run(&self, program: &Path, args: &[&str]) -> Result<()> {
        let shown = || format!("{} {}", program.display(), args.join(" "));
        let failed = |why: &str| {
            let message = format!("its packages could not be installed: {why}");
            Error::new(Code::DEPENDENCY_MISSING, message).with_help(format!(
                "see why, or, for a package that must be built, install it by hand: {}",
                shown().replace(" --only-binary=:all:", "")
            ))
        };
        let mut env: Vec<(OsString, OsString)> = env::vars_os()
            .filter(|(name, _)| {
                let name = name.to_string_lossy();
                FOR_PIP.contains(&&*name) || name.starts_with("PIP_")
            })
            .collect();
        for (name, value) in [("TMPDIR", self.scratch), ("PIP_CACHE_DIR", self.downloads)] {
            env.retain(|(known, _)| known != name);
            env.push((name.into(), value.into()));
        }
        tracing::info!(command = shown(), "installing packages of Python");
        let wall = self.grounds.program.clone().map(|supervisor| (supervisor, self.policy(&env)));
        let args = args.iter().map(OsString::from).collect();
        let errand = Errand { program, args, env, folder: self.scratch, limit: self.until.saturating_duration_since(Instant::now()), wall };
        let ran = errand.run().map_err(|e| match e.kind() {
            io::ErrorKind::TimedOut => failed("it took too long, and was ended"),
            _ => failed(&e.to_string()),
        })?;
        if ran.succeeded {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        let last: Vec<_> = said.lines().map(str::trim).filter(|line| !line.is_empty()).rev().take(3).collect();
        let mut why = last.into_iter().rev().collect::<Vec<_>>().join("; ");
        if !ran.refused.is_empty() {
            why = format!("{why} (its wall refused {})", ran.refused.join(", "));
        }
        Err(failed(&why))
    }

    fn policy(&self, env: &[(OsString, OsString)]) -> Policy {
        let home = env::home_dir();
        let settings = SETTINGS_OF_PIP.iter().filter_map(|name| Some(home.as_ref()?.join(name)));
        // What the user's own variables name: settings, certificates, folders of packages.
        let named = env.iter().filter(|(name, _)| name != "PATH" && name != "HOME").flat_map(|(_, value)| env::split_paths(value));
        let read = settings.chain(named).chain(FACTS_FOR_PIP.map(PathBuf::from));
        Policy::closed()
            .network()
            .python(self.interpreter)
            .execute(fs::canonicalize(self.interpreter))
            .read(read.filter(|path| path.is_absolute()).filter_map(|path| fs::canonicalize(path).ok()))
            .write([self.folder, self.scratch, self.downloads])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sdk_is_unpacked_once_and_holds_sources_only() {
        let cache = tempfile::tempdir().unwrap();
        let python = interpreter().unwrap();
        let folder = sdk(cache.path(), &python).unwrap();
        assert!(folder.join("bespoke_sdk/__init__.py").is_file());
        assert_eq!(sdk(cache.path(), &python).unwrap(), folder);
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 1, "nothing is left beside it");
        assert!(sdk_files().iter().all(|(path, _)| !path.to_string_lossy().contains("__pycache__")));
    }

    #[test]
    fn requirements_are_those_of_both_places_without_comments() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("requirements.txt");
        fs::write(&list, "# none\n\nnumpy>=1 # fast\nrequests\nx[y] ~= 1.0 ; python_version < \"3.8\"\n").unwrap();
        let all = requirements(folder.path(), &["requests".into()]).unwrap();
        assert_eq!(all, ["requests", "numpy>=1", "x[y] ~= 1.0 ; python_version < \"3.8\""]);
        for line in ["--log=/x", "-e .", "./x", "x @ https://y", "file:x.whl", "git+https://y", "a\u{301}", "$X", &"x".repeat(300)] {
            fs::write(&list, format!("requests\n{line}\n")).unwrap();
            let e = requirements(folder.path(), &[]).unwrap_err();
            assert!(e.message().contains("requirements.txt:2"), "{line}: {e}");
        }
        fs::write(&list, "x\n".repeat(64 << 10)).unwrap();
        assert_eq!(requirements(folder.path(), &[]).unwrap_err().code(), Code::MANIFEST_INVALID);
    }

    #[test]
    fn packages_that_are_missing_are_named_with_the_command() {
        let cache = tempfile::tempdir().unwrap();
        let needs = ["it's>=1".to_owned()];
        let e = with_packages(Path::new("/usr/bin/python3"), &needs, "a", cache.path()).unwrap_err();
        assert_eq!(e.code(), Code::DEPENDENCY_MISSING);
        assert!(e.help().unwrap().contains(r"pip install 'it'\''s>=1'"), "{:?}", e.help());
        assert_eq!(with_packages(Path::new("/p"), &[], "a", cache.path()).unwrap(), (PathBuf::from("/p"), None));
    }
}
