//! Composition, proved by building: what is named is what ships, a new plugin needs no other edit, a fork needs ten lines.
//!
//! These are tests that build programs, so they are not tests of a crate. The copy of the workspace that they change lies
//! in the target folder and shares it, so that dependencies are built once.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, anyhow, ensure};

use crate::{
    codegen,
    counts::Counts,
    dist, features, new_plugin,
    setup::Environment,
    shell, tidy,
    workspace::{APP, Workspace, folder_of},
};

type Check = fn(&Workspace, &Environment) -> Result<()>;

const CHECKS: &[(&str, Check)] = &[
    ("composition::the_sample_configurations_need_these_features", samples),
    ("composition::a_dev_build_lists_exactly_what_was_named", dev_build),
    ("composition::a_new_plugin_of_every_kind_builds_is_listed_and_answers", every_kind),
    ("composition::an_app_outside_the_workspace_has_its_own_plugin", fork),
    ("composition::a_plugin_becomes_a_program_with_it_compiled_in", program_of_a_plugin),
    ("composition::a_distributed_build_lists_exactly_what_was_named", dist_build),
];

/// Runs those whose name contains one of the filters; all without filters.
pub(crate) fn run(workspace: &Workspace, environment: &Environment, filters: &[String]) -> Result<Counts> {
    let mut counts = Counts::default();
    for (name, check) in CHECKS.iter().filter(|(name, _)| filters.is_empty() || filters.iter().any(|f| name.contains(f.as_str()))) {
        let start = Instant::now();
        let result = check(workspace, environment);
        let seconds = start.elapsed().as_secs_f64();
        match result {
            Ok(()) => {
                counts.passed += 1;
                eprintln!("        PASS [{seconds:8.3}s] {name}");
            }
            Err(error) => {
                counts.failed += 1;
                eprintln!("        FAIL [{seconds:8.3}s] {name}\n{error:#}");
            }
        }
    }
    forget(workspace)?;
    Ok(counts)
}

/// Removes the copy. Cargo gives what is built in it the names of what is built in the workspace, and asks the files of the copy, where
/// they are still there, whether it is fresh: what changed in the workspace since would not be seen.
pub(crate) fn forget(workspace: &Workspace) -> Result<()> {
    match fs::remove_dir_all(place(workspace)?) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context("the copy of the workspace cannot be removed"),
        _ => Ok(()),
    }
}

fn place(workspace: &Workspace) -> Result<PathBuf> {
    Ok(workspace.target()?.join("composition/workspace"))
}

fn samples(workspace: &Workspace, _: &Environment) -> Result<()> {
    for (config, expected) in [
        ("examples/configs/text.toml", "clock,smol,terminal"),
        ("examples/configs/voice.toml", "clock,energy,flite,moonshine,silero,smol"),
        ("examples/configs/kiosk.toml", "energy,flite,moonshine,smol"),
        ("examples/configs/python.toml", "process,smol,terminal"),
    ] {
        let found = features::needed_by(workspace, &workspace.path(config))?.join(",");
        ensure!(found == expected, "{config} needs {expected}, and features-for says {found}");
    }
    Ok(())
}

fn dev_build(workspace: &Workspace, _: &Environment) -> Result<()> {
    let folder = tempfile::tempdir()?;
    for features in ["", "clock,silero"] {
        let binary = build(workspace, &["--no-default-features", "--features", features])?;
        let expected: BTreeSet<String> = features.split(',').filter(|f| !f.is_empty()).map(str::to_owned).collect();
        let linked = dist::compiled_in(&binary, folder.path())?;
        ensure!(linked == expected, "a build with `{features}` lists {linked:?}");
    }
    Ok(())
}

/// The dist profile has fat LTO, which may drop what only a link section names: plugins, and the tier of processes. The binary alone
/// has all that a plugin in Python needs but the interpreter.
fn dist_build(workspace: &Workspace, environment: &Environment) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let features = if cfg!(target_os = "linux") { "clock,process,silero" } else { "clock,silero" };
    let binary = build(workspace, &["--profile", "dist", "--no-default-features", "--features", features])?;
    let linked = dist::compiled_in(&binary, folder.path())?;
    ensure!(linked == BTreeSet::from(["clock".to_owned(), "silero".to_owned()]), "a build with `{features}` lists {linked:?}");
    if cfg!(target_os = "linux") {
        let (home, example) = (folder.path().join("home"), workspace.path("examples/plugins/dice"));
        let bespoke = |args: &[&str]| {
            let mut command = Command::new(&binary);
            let python = environment.iter().filter(|(name, _)| *name == "BESPOKE_PYTHON");
            command.args(args).current_dir(folder.path()).env("HOME", folder.path()).env("BESPOKE_HOME", &home);
            command.envs(python.map(|(name, value)| (name, value)));
            for name in ["BESPOKE_MODEL_PATH", "BESPOKE_PLUGIN_PATH", "BESPOKE_CONFIG"] {
                command.env_remove(name);
            }
            shell::output(&mut command)
        };
        bespoke(&["plugin", "load", &example.to_string_lossy(), "--yes"])?;
        let rolled = bespoke(&["plugin", "call", "dice", "call", r#"{"sides": 1, "count": 3}"#])?;
        let rolled: serde_json::Value = serde_json::from_str(&rolled).with_context(|| rolled.clone())?;
        ensure!(rolled["data"] == serde_json::json!([1, 1, 1]), "three dice of one side show {rolled}");
    }
    Ok(())
}

fn every_kind(workspace: &Workspace, environment: &Environment) -> Result<()> {
    let copy = copy(workspace)?;
    let mut ids = BTreeSet::new();
    let mut packages = Vec::new();
    for kind in new_plugin::KINDS {
        let id = if *kind == "tool" { "weather".to_owned() } else { format!("new{kind}") };
        new_plugin::run(&copy, kind, &id, false)?;
        packages.push(format!("bespoke-{}", folder_of(kind, &id)));
        ids.insert(id);
    }
    let problems = tidy::plugin_problems(&copy)?;
    ensure!(problems.is_empty(), "after new-plugin, tidy finds:\n{}", problems.join("\n"));
    let named: Vec<&str> = packages.iter().flat_map(|p| ["-p", p.as_str()]).collect();
    let cargo = |before: &[&str], after: &[&str]| {
        let args: Vec<&str> = before.iter().chain(&named).chain(after).copied().collect();
        let mut command = shell::cargo(&copy.root, &args);
        shell::run(command.env("CARGO_TARGET_DIR", workspace.target()?).envs(environment.iter().map(|(k, v)| (k, v))))
    };
    cargo(&["fmt", "--check"], &[])?;
    cargo(&["clippy", "--all-targets"], &["--", "-D", "warnings"])?;
    cargo(&["test"], &[])?;
    let list = ids.iter().cloned().collect::<Vec<_>>().join(",");
    let binary = build(&copy, &["--no-default-features", "--features", &list])?;
    let folder = tempfile::tempdir()?;
    let rows = dist::plugin_list(&binary, folder.path())?;
    let of = |row: &serde_json::Value, key: &str| row.get(key).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
    let compiled: Vec<_> = rows.iter().filter(|row| of(row, "tier") == "compiled").collect();
    ensure!(compiled.iter().map(|row| of(row, "id")).collect::<BTreeSet<_>>() == ids, "the build lists {compiled:?}");
    for row in &compiled {
        ensure!(of(row, "state") == "ready" && of(row, "health") == "ok", "a new plugin does not run: {row}");
    }
    Ok(())
}

fn fork(workspace: &Workspace, _: &Environment) -> Result<()> {
    let copy = copy(workspace)?;
    let fork = copy.path("examples/fork");
    let main = fs::read_to_string(fork.join("src/main.rs"))?;
    let code = main.lines().filter(|l| !l.trim().is_empty() && !l.starts_with("//")).count();
    ensure!(code <= 10, "examples/fork/src/main.rs has {code} lines of code; it shows that ten do");
    // The versions that the workspace was tested with; cargo drops what the fork does not use.
    fs::copy(copy.path("Cargo.lock"), fork.join("Cargo.lock"))?;
    let target = workspace.target()?;
    let profile = dev_profile(workspace, &target.join("composition/profile.toml"))?;
    shell::run(shell::cargo(&fork, &["build", "--config", &profile]).env("CARGO_TARGET_DIR", &target))?;
    let folder = tempfile::tempdir()?;
    let binary = target.join("debug").join(if cfg!(windows) { "parrot.exe" } else { "parrot" });
    let linked = dist::compiled_in(&binary, folder.path())?;
    ensure!(linked == BTreeSet::from(["clock".to_owned(), "echo".to_owned()]), "the fork lists {linked:?}");
    let said = shell::output(Command::new(&binary).arg("--version"))?;
    ensure!(said.starts_with("parrot 7.0.0"), "the fork calls itself `{}`, not by its own name and version", said.trim());
    Ok(())
}

/// `plugin build --tier compiled`, in the copy that the fork was built in, with the same features: little is left to compile.
fn program_of_a_plugin(workspace: &Workspace, _: &Environment) -> Result<()> {
    let copy = copy(workspace)?;
    let (binary, folder) = (build(workspace, &["--no-default-features", "--features", "build"])?, tempfile::tempdir()?);
    let mut command = Command::new(binary);
    command.args(["plugin", "build", "--tier", "compiled", "--features", "clock", "--out"]).arg(folder.path().join("chimes"));
    command.arg(copy.path("examples/plugins/chimes")).env("CARGO_TARGET_DIR", workspace.target()?).env("BESPOKE_HOME", folder.path());
    let program = PathBuf::from(shell::output(&mut command)?.trim_end());
    let linked = dist::compiled_in(&program, folder.path())?;
    ensure!(linked == BTreeSet::from(["chimes".to_owned(), "clock".to_owned()]), "the program lists {linked:?}");
    let said = shell::output(Command::new(&program).arg("--version"))?;
    ensure!(said.starts_with("chimes 1.0.0"), "the program calls itself `{}`, not by the plugin's name and version", said.trim());
    Ok(())
}

/// Writes the dev profile of the workspace as a configuration of cargo. With it the fork, which has a profile of its own,
/// finds its dependencies built.
fn dev_profile(workspace: &Workspace, path: &Path) -> Result<String> {
    let root: toml::Table = toml::from_str(&workspace.read("Cargo.toml")?)?;
    let dev = root.get("profile").and_then(|p| p.get("dev")).ok_or_else(|| anyhow!("Cargo.toml: no [profile.dev]"))?;
    let config = toml::Table::from_iter([("profile".to_owned(), toml::Table::from_iter([("dev".to_owned(), dev.clone())]).into())]);
    codegen::put(path, &toml::to_string(&config)?)?;
    path.to_str().map(str::to_owned).ok_or_else(|| anyhow!("{}: not UTF-8", path.display()))
}

/// Builds the app and returns the binary.
fn build(workspace: &Workspace, args: &[&str]) -> Result<PathBuf> {
    let target = Workspace::here()?.target()?;
    let args: Vec<&str> = ["build", "-p", APP].iter().chain(args).copied().collect();
    shell::run(shell::cargo(&workspace.root, &args).env("CARGO_TARGET_DIR", &target))?;
    let profile = if args.contains(&"dist") { "dist" } else { "debug" };
    let binary = target.join(profile).join(if cfg!(windows) { "bespoke.exe" } else { "bespoke" });
    ensure!(binary.is_file(), "{}: cargo has built no binary here", binary.display());
    Ok(binary)
}

/// A copy of the files of the project in the target folder. Files that are equal are left alone, so that cargo, which
/// looks at their times, builds again only what differs; files that are not in the project any more are removed.
fn copy(workspace: &Workspace) -> Result<Workspace> {
    let root = place(workspace)?;
    let files = tidy::project_files(workspace)?;
    fs::create_dir_all(&root)?;
    for file in &files {
        let (from, to) = (workspace.path(file), root.join(file));
        let Ok(bytes) = fs::read(&from) else { continue };
        if fs::read(&to).is_ok_and(|old| old == bytes) {
            continue;
        }
        let folder = to.parent().ok_or_else(|| anyhow!("{}: no parent", to.display()))?;
        fs::create_dir_all(folder)?;
        fs::write(&to, bytes).with_context(|| to.display().to_string())?;
    }
    let wanted: BTreeSet<PathBuf> = files.iter().map(|f| root.join(f)).collect();
    prune(&root, &wanted)?;
    Workspace::at(&root)
}

fn prune(folder: &Path, wanted: &BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            prune(&path, wanted)?;
            // An empty folder under crates/ would be a member without Cargo.toml.
            let _ = fs::remove_dir(&path);
        } else if !wanted.contains(&path) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}
