//! A Rust that knows wasm32, for the tests that build components: that of the machine where it has the target, else one made of Debian's
//! packages below the target folder. Nothing is installed, and nothing of the machine is changed.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use crate::shell;

/// What components are built for.
const TARGET: &str = "wasm32-unknown-unknown";
/// Debian's newest Rust, with the source of its standard library, which is built with each component: the packages of the usual Rust are
/// older than ours has to be.
const PACKAGES: [&str; 5] = ["rustc-web", "cargo-web", "rust-web-src", "rust-web-llvm", "libstd-rust-web-dev"];
/// The recipe below: another one makes it anew.
const RECIPE: &str = "1";

/// The program that builds components, as `cargo` does. Debian's rustc finds its linkers by the PATH.
const CARGO_WASM: &str = r#"#!/bin/sh
R=$(cd "$(dirname "$0")" && pwd)/usr
L=$(echo "$R"/lib/*-linux-gnu*)
export LD_LIBRARY_PATH="$L" RUSTC="$R/bin/rustc" RUSTDOC="$R/bin/rustdoc" PATH="$R/bin:$PATH" RUSTC_BOOTSTRAP=1
export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=wasm-component-ld
unset CARGO RUSTUP_TOOLCHAIN
cmd=$1; shift
exec "$R/bin/cargo" "$cmd" --target wasm32-unknown-unknown -Zbuild-std=std,panic_abort "$@"
"#;

/// The same where the Rust of the machine knows wasm32, and has the linker that makes components.
const CARGO_OF_MACHINE: &str = r#"#!/bin/sh
export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=wasm-component-ld
cmd=$1; shift
exec cargo "$cmd" --target wasm32-unknown-unknown "$@"
"#;

/// The folder with `cargo-wasm`.
pub(crate) fn prepare(target: &Path) -> Result<PathBuf> {
    if let Some(given) = env::var_os("BESPOKE_WASM_TOOLCHAIN").filter(|given| !given.is_empty()) {
        return Ok(given.into());
    }
    if has_target() {
        let home = target.join("wasm-toolchain-of-machine");
        fs::create_dir_all(&home)?;
        write_program(&home.join("cargo-wasm"), CARGO_OF_MACHINE)?;
        return Ok(home);
    }
    let home = target.join("wasm-toolchain");
    if fs::read_to_string(home.join("recipe")).is_ok_and(|made| made == RECIPE) {
        return Ok(home);
    }
    let debian = ["apt-get", "apt-cache", "dpkg-deb"].iter().all(|tool| shell::answers(tool, &["--version"]));
    ensure!(debian, "your Rust has no target {TARGET}, and there is no apt to fetch another one with; run: rustup target add {TARGET}");
    eprintln!("fetching a Rust for wasm32 through apt: about 150 MB, 900 MB unpacked");
    fs::create_dir_all(target)?;
    // Made aside and renamed, so that a run that was interrupted leaves nothing that looks complete.
    let staging = tempfile::tempdir_in(target)?;
    let made = staging.path().join("toolchain");
    fs::create_dir(&made)?;
    unpack(staging.path(), &made).with_context(|| format!("no Rust for wasm32 from Debian's packages; run: rustup target add {TARGET}"))?;
    write_program(&made.join("cargo-wasm"), CARGO_WASM)?;
    fs::write(made.join("recipe"), RECIPE)?;
    if home.exists() {
        fs::remove_dir_all(&home)?;
    }
    fs::rename(&made, &home)?;
    Ok(home)
}

/// Whether the Rust of the machine has the target, and the linker for it.
fn has_target() -> bool {
    let print = |args: &[&str]| {
        let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        shell::output(rustc.args(["--print", "target-libdir"]).args(args)).ok().map(|folder| PathBuf::from(folder.trim()))
    };
    let Some(Ok(entries)) = print(&["--target", TARGET]).map(fs::read_dir) else { return false };
    let mut files = entries.flatten().map(|entry| entry.file_name());
    let tools = print(&[]).and_then(|libraries| Some(libraries.parent()?.join("bin")));
    let path = env::var_os("PATH").unwrap_or_default();
    files.any(|file| file.to_string_lossy().starts_with("libcore-"))
        && tools.into_iter().chain(env::split_paths(&path)).any(|folder| folder.join("wasm-component-ld").is_file())
}

/// Downloads what the packages need that the machine does not have, and unpacks it.
fn unpack(staging: &Path, made: &Path) -> Result<()> {
    let (apt, archives) = (Apt::new(staging)?, staging.join("archives"));
    fs::create_dir(&archives)?;
    shell::run(apt.get().arg("update"))?;
    let install = ["--no-install-recommends", "--print-uris", "--yes", "install"];
    let plan = shell::output(apt.get().args(install).args(PACKAGES))?;
    // Lines of: 'address' file bytes digest. The name of a package ends at the first `_` of its file.
    let files = plan.lines().filter_map(|line| line.split(' ').nth(1)?.split_once('_'));
    let mut names: Vec<String> = files.map(|(name, _)| name.to_owned()).filter(|name| !name.starts_with("llvm-")).collect();
    let llvm = names.iter().find_map(|name| name.strip_prefix("libllvm")).map(str::to_owned);
    let Some(llvm) = llvm else { bail!("apt plans to install {}, and no LLVM with it", names.join(", ")) };
    // The linker behind rust-lld, which its package only suggests.
    names.push(format!("lld-{llvm}"));
    shell::run(apt.get().arg("download").args(&names).current_dir(&archives))?;
    for archive in fs::read_dir(&archives)? {
        let archive = archive?.path();
        shell::output(Command::new("dpkg-deb").arg("--extract").arg(&archive).arg(made))?;
        fs::remove_file(&archive)?;
    }
    ensure!(made.join("usr/bin/cargo").exists(), "Debian's packages brought no usr/bin/cargo");
    Ok(())
}

/// apt with lists of packages of its own: those of the machine may be old, and are not ours to renew.
struct Apt {
    options: Vec<String>,
}

impl Apt {
    fn new(staging: &Path) -> Result<Self> {
        let (state, cache) = (staging.join("apt/state"), staging.join("apt/cache"));
        fs::create_dir_all(state.join("lists/partial"))?;
        fs::create_dir_all(cache.join("archives/partial"))?;
        let settings = [
            format!("Dir::State={}", state.display()),
            "Dir::State::status=/var/lib/dpkg/status".to_owned(),
            format!("Dir::Cache={}", cache.display()),
            // Root's apt becomes somebody else to download, who may not write here.
            "APT::Sandbox::User=root".to_owned(),
            "Debug::NoLocking=1".to_owned(),
        ];
        Ok(Apt { options: settings.into_iter().flat_map(|setting| ["-o".to_owned(), setting]).collect() })
    }

    fn get(&self) -> Command {
        let mut command = Command::new("apt-get");
        command.arg("-qq").args(&self.options);
        command
    }
}

fn write_program(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}
