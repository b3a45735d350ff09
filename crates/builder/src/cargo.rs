//! Cargo, as it is asked here: what a crate is, what it depends on, and to build it. What it says while it builds is passed on.

use std::{
    env,
    ffi::OsString,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use cargo_metadata::{Message, Metadata, MetadataCommand, TargetKind};

use crate::{error::BuildError, toolchain::WASM};

/// Lines of what cargo says that an error shows.
const SHOWN: usize = 40;
/// Bytes of a line of it that are kept.
const LINE: u64 = 4096;

/// The program.
#[derive(Debug)]
pub(crate) struct Cargo {
    program: OsString,
    /// Where it runs: the plugin's folder, so that its `rust-toolchain.toml` and `.cargo/config.toml` hold.
    folder: PathBuf,
}

/// What came of a build.
pub(crate) enum Outcome {
    /// The library, component or program of the crate that was named.
    Artefact(PathBuf),
    /// The last lines that cargo said.
    Failure(Vec<String>),
}

impl Cargo {
    /// That of the variable `CARGO`, which cargo sets itself; else that of the PATH.
    pub(crate) fn find(folder: &Path) -> Result<Self, BuildError> {
        let program = env::var_os("CARGO").filter(|program| !program.is_empty()).unwrap_or_else(|| "cargo".into());
        let folder = std::path::absolute(folder).map_err(|e| BuildError::io(folder, e))?;
        if !folder.is_dir() {
            return Err(BuildError::NoFolder { path: folder });
        }
        let cargo = Cargo { program, folder };
        let said = cargo.command().arg("--version").stdin(Stdio::null()).output();
        match said {
            Ok(output) if output.status.success() => Ok(cargo),
            Ok(output) => Err(missing(format!("cargo does not run: {}", String::from_utf8_lossy(&output.stderr).trim()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(missing("there is no cargo on the PATH".to_owned())),
            Err(error) => Err(missing(format!("cargo does not run: {error}"))),
        }
    }

    /// Cargo in the plugin's folder.
    pub(crate) fn command(&self) -> Command {
        self.prepared(&self.program)
    }

    /// A program in the plugin's folder, without what a cargo that runs this program has set for another crate.
    pub(crate) fn prepared(&self, program: impl Into<OsString>) -> Command {
        let mut command = Command::new(program.into());
        command.current_dir(&self.folder).stdin(Stdio::null());
        for (name, _) in env::vars_os() {
            let is_of_package = name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"));
            if is_of_package {
                command.env_remove(name);
            }
        }
        command
    }

    /// The packages of a workspace, without what they depend on: nothing is fetched for it.
    pub(crate) fn packages(&self, manifest: &Path) -> Result<Metadata, BuildError> {
        self.metadata(manifest, &["--no-deps"])
    }

    /// A crate and all that it depends on as a component. Writes its Cargo.lock.
    pub(crate) fn tree(&self, manifest: &Path) -> Result<Metadata, BuildError> {
        self.metadata(manifest, &["--filter-platform", WASM])
    }

    fn metadata(&self, manifest: &Path, args: &[&str]) -> Result<Metadata, BuildError> {
        let mut command = self.command();
        command.args(["metadata", "--format-version", "1", "--color", "never", "--manifest-path"]).arg(manifest).args(args);
        let output = command.output().map_err(|e| BuildError::io(Path::new(&self.program), e))?;
        let unreadable = |said: &str| BuildError::Unreadable { manifest: manifest.to_owned(), said: said.trim_end().to_owned() };
        if !output.status.success() {
            return Err(unreadable(&String::from_utf8_lossy(&output.stderr)));
        }
        MetadataCommand::parse(String::from_utf8_lossy(&output.stdout)).map_err(|e| unreadable(&e.to_string()))
    }
}

/// Runs a build, passes on what it says, and finds what it made of the package of that name.
pub(crate) fn build(mut command: Command, package: &str, tell: &mut dyn FnMut(&str)) -> io::Result<Outcome> {
    command.args(["--message-format=json-render-diagnostics", "--color", "never"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let messages = child.stdout.take().map(|out| {
        let package = package.to_owned();
        thread::spawn(move || artefact(out, &package))
    });
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        each_line(stderr, |line| {
            tell(line);
            if said.len() == SHOWN {
                said.remove(0);
            }
            said.push(line.to_owned());
        });
    }
    // A reader that panicked has found nothing.
    let artefact = messages.and_then(|messages| messages.join().ok().flatten());
    let good = child.wait()?.success();
    Ok(match artefact.filter(|_| good) {
        Some(path) => Outcome::Artefact(path),
        None => Outcome::Failure(said),
    })
}

/// Calls with each line, cut where it is too long. Ends with the stream.
fn each_line(stream: impl Read, mut see: impl FnMut(&str)) {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    while (&mut stream).take(LINE).read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
        see(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
}

/// The file that was made of a package: its program, or its library for C.
fn artefact(messages: impl Read, package: &str) -> Option<PathBuf> {
    let mut found = None;
    // Read to the end in any case: cargo waits for whoever listens.
    for message in Message::parse_stream(BufReader::new(messages)).map_while(Result::ok) {
        let Message::CompilerArtifact(made) = message else { continue };
        let kind = |kind: &TargetKind| matches!(kind, TargetKind::CDyLib | TargetKind::Bin);
        if !made.target.kind.iter().any(kind) || !is_of(&made.package_id.repr, package) {
            continue;
        }
        let made = made.executable.or_else(|| made.filenames.into_iter().find(|file| is_artefact(file.as_str())));
        found = made.map(|path| path.into_std_path_buf()).or(found);
    }
    found
}

/// A package's id ends in `/NAME#VERSION` where the folder has its name, else in `#NAME@VERSION`.
fn is_of(id: &str, package: &str) -> bool {
    let (source, rest) = id.rsplit_once('#').unwrap_or(("", id));
    match rest.split_once('@') {
        Some((name, _)) => name == package,
        None => source.rsplit(['/', '\\']).next() == Some(package),
    }
}

fn is_artefact(file: &str) -> bool {
    file.ends_with(".wasm") || file.ends_with(env::consts::DLL_SUFFIX)
}

fn missing(what: String) -> BuildError {
    BuildError::Missing {
        what: format!("{what}; plugins are built by Rust's"),
        fix: "install Rust with rustup, https://rustup.rs".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_known_by_its_id() {
        for (id, package, is) in [
            ("path+file:///w/shims/bespoke-shim-chimes-wasm#0.0.0", "bespoke-shim-chimes-wasm", true),
            ("path+file:///w/chimes#chimes-2@0.1.0", "chimes-2", true),
            ("path+file:///w/chimes#chimes-2@0.1.0", "chimes", false),
            ("registry+https://host.example/index#serde@1.0.0", "chimes", false),
            ("", "chimes", false),
        ] {
            assert_eq!(is_of(id, package), is, "{id}");
        }
    }

    #[test]
    fn a_line_without_an_end_is_cut() {
        let mut lines = 0;
        each_line(io::repeat(b'x').take(10 * LINE), |line| {
            assert!(line.len() as u64 <= LINE);
            lines += 1;
        });
        assert_eq!(lines, 10);
    }
}
