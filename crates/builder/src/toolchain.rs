//! The toolchain that is there for a tier: cargo itself for what runs on this machine, one that knows wasm32 for components. It brings
//! nothing; it says what would.

use std::{
    env,
    path::{Path, PathBuf},
};

use bespoke_manifest::Tier;

use crate::{
    Request,
    cargo::{self, Cargo, Outcome},
    error::BuildError,
    shim::Shim,
};

/// What components are built for: no WASI, so that a component imports our world and nothing else.
pub(crate) const WASM: &str = "wasm32-unknown-unknown";
/// Names a folder with the program `cargo-wasm`, which builds as cargo does, for [`WASM`].
const VARIABLE: &str = "BESPOKE_WASM_TOOLCHAIN";
/// The linker that makes a component of what the compiler made.
const LINKER: &str = "wasm-component-ld";

/// What builds.
#[derive(Debug)]
pub(crate) enum Toolchain {
    /// Cargo, for this machine.
    Native,
    /// Cargo, for wasm32.
    Wasm,
    /// A program that does as cargo would, for wasm32.
    Given(PathBuf),
}

impl Toolchain {
    /// What is there for a tier.
    pub(crate) fn find(cargo: &Cargo, tier: Tier) -> Result<Self, BuildError> {
        if tier != Tier::Wasm {
            return Ok(Toolchain::Native);
        }
        if let Some(folder) = env::var_os(VARIABLE).filter(|folder| !folder.is_empty()) {
            let program = Path::new(&folder).join("cargo-wasm");
            if program.is_file() {
                return Ok(Toolchain::Given(program));
            }
            let what = format!("{VARIABLE} names {}, which has no cargo-wasm", Path::new(&folder).display());
            return Err(BuildError::Missing { what, fix: format!("unset {VARIABLE}") });
        }
        let print = |args: &[&str]| {
            let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
            let output = cargo.prepared(rustc).args(args).output().ok()?;
            let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
            Some(PathBuf::from(text.trim()))
        };
        let Some(sysroot) = print(&["--print", "sysroot"]) else {
            let what = "rustc does not run, which is part of Rust as cargo is".to_owned();
            return Err(BuildError::Missing { what, fix: "install Rust with rustup, https://rustup.rs".to_owned() });
        };
        let has_target = print(&["--print", "target-libdir", "--target", WASM]).is_some_and(|libraries| holds_core(&libraries));
        if !has_target {
            let what = format!("your Rust has no target {WASM}, which wasm components are built for");
            return Err(BuildError::Missing { what, fix: bring_target(&sysroot) });
        }
        let tools = print(&["--print", "target-libdir"]).and_then(|libraries| Some(libraries.parent()?.join("bin")));
        let path = env::var_os("PATH").unwrap_or_default();
        let linker = format!("{LINKER}{}", env::consts::EXE_SUFFIX);
        if !tools.into_iter().chain(env::split_paths(&path)).any(|folder| folder.join(&linker).is_file()) {
            let what = format!("there is no {LINKER}, which makes a component of what the compiler made");
            return Err(BuildError::Missing { what, fix: format!("cargo install {LINKER}") });
        }
        Ok(Toolchain::Wasm)
    }

    /// Builds a shim, and returns the library, component or program.
    pub(crate) fn build(&self, cargo: &Cargo, shim: &Shim, request: &Request, tell: &mut dyn FnMut(&str)) -> Result<PathBuf, BuildError> {
        let mut command = match self {
            Toolchain::Given(program) => cargo.prepared(program),
            _ => cargo.command(),
        };
        command.arg("build").arg("--manifest-path").arg(shim.manifest()).arg("--target-dir").arg(&shim.target);
        if request.release {
            command.arg("--release");
        }
        match self {
            Toolchain::Wasm => {
                command.args(["--target", WASM]).env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", LINKER);
            }
            Toolchain::Native | Toolchain::Given(_) => {}
        }
        match cargo::build(command, &shim.package, tell).map_err(|e| BuildError::io(&shim.manifest(), e))? {
            Outcome::Artefact(path) => Ok(path),
            Outcome::Failure(said) => Err(failed(&shim.package, request.tier, &said)),
        }
    }
}

/// Which crate it was, by what cargo says last.
fn failed(shim: &str, tier: Tier, said: &[String]) -> BuildError {
    let named = said.iter().rev().find_map(|line| {
        let rest = line
            .strip_prefix("error: could not compile `")
            .or_else(|| line.strip_prefix("error: failed to run custom build command for `"))?;
        rest.split(['`', ' ']).next()
    });
    BuildError::Failed { package: named.unwrap_or(shim).to_owned(), tier, said: said.join("\n") }
}

fn holds_core(libraries: &Path) -> bool {
    let Ok(entries) = libraries.read_dir() else { return false };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
}

/// How the target comes: rustup's toolchains lie where rustup keeps them, others come from somewhere else.
fn bring_target(sysroot: &Path) -> String {
    let parents: Vec<_> = sysroot.components().rev().take(2).map(|c| c.as_os_str().to_string_lossy().into_owned()).collect();
    match &parents[..] {
        [_, folder] if folder == "toolchains" => format!("rustup target add {WASM}"),
        _ => format!("rustup target add {WASM}   with Rust from rustup; that of {} comes from elsewhere (docs/wasm.md)", sysroot.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crate_that_failed_is_named() {
        for (line, package) in [
            ("error: could not compile `mio` (lib) due to 44 previous errors", "mio"),
            ("error: failed to run custom build command for `ring v0.17.14`", "ring"),
            ("error: linking with `wasm-component-ld` failed: exit status: 1", "shim"),
        ] {
            let said = [line.to_owned(), "warning: build failed, waiting for other jobs to finish...".to_owned()];
            let BuildError::Failed { package: found, .. } = failed("shim", Tier::Wasm, &said) else { panic!() };
            assert_eq!(found, package);
        }
    }

    #[test]
    fn the_target_comes_from_where_rust_comes_from() {
        assert_eq!(bring_target(Path::new("/srv/.rustup/toolchains/1.95.0-x86_64-unknown-linux-gnu")), format!("rustup target add {WASM}"));
        assert!(bring_target(Path::new("/usr")).contains("/usr comes from elsewhere"));
    }
}
