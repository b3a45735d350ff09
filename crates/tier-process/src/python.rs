//! What a plugin in Python runs with: the interpreter, the SDK that this program carries, and an environment of its own for packages.
//! The interpreter's own packages are never touched.

use std::{
    collections::BTreeMap,
    env, fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, OnceLock, PoisonError},
};

use bespoke_plugin_api::{Code, Error, Result};
use include_dir::{Dir, DirEntry, include_dir};
use sha2::{Digest as _, Sha256};

use crate::program::on_path;

static SDK: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/sdk/src");

/// A file that is there while packages are being installed.
const UNFINISHED: &str = ".unfinished";

/// What of this program's environment pip needs: its own settings, the way out, and which certificates to trust.
const FOR_PIP: [&str; 14] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "LANG",
    "LC_ALL",
    "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
];

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
pub(crate) fn itself(found: &Path) -> PathBuf {
    static KNOWN: Mutex<BTreeMap<PathBuf, PathBuf>> = Mutex::new(BTreeMap::new());
    let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner).get(found).cloned();
    known.unwrap_or_else(|| {
        let asked = Command::new(found).args(["-I", "-S", "-c", "import sys; print(sys.executable)"]).stdin(Stdio::null()).output();
        let said = asked.ok().filter(|output| output.status.success()).and_then(|output| String::from_utf8(output.stdout).ok());
        let real = said.map(|path| PathBuf::from(path.trim())).filter(|path| path.is_absolute() && path.is_file());
        let real = real.unwrap_or_else(|| found.to_owned());
        KNOWN.lock().unwrap_or_else(PoisonError::into_inner).insert(found.to_owned(), real.clone());
        real
    })
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
    let mut command = Command::new(interpreter);
    command.args(["-I", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]).arg(folder);
    let _ = command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
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

/// The packages that a plugin needs: those of its manifest, and those of its requirements.txt.
///
/// # Errors
/// `LOAD_FAILED` when that file cannot be read.
pub(crate) fn requirements(folder: &Path, listed: &[String]) -> Result<Vec<String>> {
    let path = folder.join("requirements.txt");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(Error::new(Code::LOAD_FAILED, format!("{}: {e}", path.display()))),
    };
    let mut all = listed.to_vec();
    for line in text.lines() {
        // A comment begins a line, or stands behind a space.
        let line = line.split_once(" #").map_or(line, |(before, _)| before).trim();
        if !line.is_empty() && !line.starts_with('#') && !all.iter().any(|one| one == line) {
            all.push(line.to_owned());
        }
    }
    Ok(all)
}

/// The interpreter that has these packages: one in an environment of the plugin's own, made when it is missing and that is wanted.
///
/// # Errors
/// `DEPENDENCY_MISSING`, with the command that installs them.
pub(crate) fn with_packages(interpreter: &Path, requirements: &[String], id: &str, cache: &Path, install: bool) -> Result<PathBuf> {
    if requirements.is_empty() {
        return Ok(interpreter.to_owned());
    }
    let mut hash = Sha256::new();
    for part in std::iter::once(interpreter.as_os_str().as_encoded_bytes()).chain(requirements.iter().map(String::as_bytes)) {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    let folder = cache.join("venv").join(format!("{id}-{}", short(hash)));
    let program = folder.join("bin/python");
    let is_there = || program.exists() && !folder.join(UNFINISHED).exists();
    if is_there() {
        return Ok(program);
    }
    if !install {
        let quoted: Vec<_> = requirements.iter().map(|one| format!("'{}'", one.replace('\'', r"'\''"))).collect();
        let (folder, base) = (folder.display(), interpreter.display());
        let help = format!(
            "bespoke config set plugins.auto_install true, or: {base} -m venv '{folder}' && '{}' -m pip install {}",
            program.display(),
            quoted.join(" ")
        );
        let message = format!("needs packages of Python that are not installed: {}", requirements.join(", "));
        return Err(Error::new(Code::DEPENDENCY_MISSING, message).with_help(help));
    }
    let failed = |e: io::Error| Error::new(Code::DEPENDENCY_MISSING, format!("no environment in {}: {e}", folder.display()));
    fs::create_dir_all(&folder).map_err(failed)?;
    let lock = fs::File::create(folder.with_extension("lock")).map_err(failed)?;
    lock.lock().map_err(failed)?;
    // Somebody else may have done it while this one waited.
    if is_there() {
        return Ok(program);
    }
    fs::write(folder.join(UNFINISHED), []).map_err(failed)?;
    run(interpreter, &["-m", "venv", "--clear", &folder.to_string_lossy()])?;
    // `--clear` has taken it away.
    fs::write(folder.join(UNFINISHED), []).map_err(failed)?;
    let mut pip = vec!["-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--quiet"];
    pip.extend(requirements.iter().map(String::as_str));
    run(&program, &pip)?;
    fs::remove_file(folder.join(UNFINISHED)).map_err(failed)?;
    Ok(program)
}

/// Runs the interpreter until it ends.
fn run(program: &Path, args: &[&str]) -> Result<()> {
    let shown = || format!("{} {}", program.display(), args.join(" "));
    let failed = |why: &str| Error::new(Code::DEPENDENCY_MISSING, format!("its packages could not be installed: {why}")).with_help(shown());
    let of_pip = env::vars_os().filter(|(name, _)| {
        let name = name.to_string_lossy();
        FOR_PIP.contains(&&*name) || name.starts_with("PIP_")
    });
    tracing::info!(command = shown(), "installing packages of Python");
    let mut command = Command::new(program);
    command.args(args).env_clear().envs(of_pip).stdin(Stdio::null()).stdout(Stdio::null());
    let output = command.output().map_err(|e| failed(&e.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last: Vec<_> = said.lines().map(str::trim).filter(|line| !line.is_empty()).rev().take(3).collect();
    Err(failed(&last.into_iter().rev().collect::<Vec<_>>().join("; ")))
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
        fs::write(folder.path().join("requirements.txt"), "# none\n\nnumpy>=1 # fast\nrequests\nx @ file:///a#egg\n").unwrap();
        let all = requirements(folder.path(), &["requests".into()]).unwrap();
        assert_eq!(all, ["requests", "numpy>=1", "x @ file:///a#egg"]);
    }

    #[test]
    fn packages_that_are_missing_are_named_with_the_command() {
        let cache = tempfile::tempdir().unwrap();
        let needs = ["it's>=1".to_owned()];
        let e = with_packages(Path::new("/usr/bin/python3"), &needs, "a", cache.path(), false).unwrap_err();
        assert_eq!(e.code(), Code::DEPENDENCY_MISSING);
        assert!(e.help().unwrap().contains(r"pip install 'it'\''s>=1'"), "{:?}", e.help());
        assert_eq!(with_packages(Path::new("/p"), &[], "a", cache.path(), false).unwrap(), Path::new("/p"));
    }
}
