//! `test`: unit, integration and documentation tests of all crates, those of the Python SDK beside them, then the composition
//! tests; one count at the end.

use std::{path::Path, process::ExitCode, thread, time::Instant};

use anyhow::Result;

use crate::{
    composition,
    counts::{Counts, Runner},
    sdk,
    setup::{self, Environment},
    shell,
    workspace::Workspace,
};

/// All tests run with every plugin in the app.
const FULL: &[&str] = &["--workspace", "--features", "bespoke/full"];

/// Prints `N passed, N failed` as the last line; success only if nothing failed.
pub(crate) fn run(workspace: &Workspace, voice_kit: Option<&Path>, filters: &[String]) -> Result<ExitCode> {
    let counts = all(workspace, voice_kit, filters)?;
    println!("{counts}");
    Ok(if counts.failed == 0 && counts.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs everything. A run that does not even start counts as one failure, so that the count can never look better than
/// what happened.
pub(crate) fn all(workspace: &Workspace, voice_kit: Option<&Path>, filters: &[String]) -> Result<Counts> {
    let start = Instant::now();
    // One that a run left behind that was ended.
    composition::forget(workspace)?;
    let (environment, python) = setup::prepare(workspace, voice_kit)?;
    let mut counts = Counts::default();
    // Building every test to run none of them takes minutes.
    if filters.is_empty() || !filters.iter().all(|f| f.starts_with("composition")) {
        counts += thread::scope(|scope| {
            let sdk = sdk::start(scope, workspace, &python, filters);
            let crates = crates(workspace, &environment, filters);
            // Whatever became of the crates, the thread is waited for: here what it says is shown.
            let sdk = sdk.finish();
            let mut counts = crates?;
            counts += sdk?;
            anyhow::Ok(counts)
        })?;
        counts += documentation(workspace, &environment, filters)?;
    }
    counts += composition::run(workspace, &environment, filters)?;
    eprintln!("all tests: {:.0} s", start.elapsed().as_secs_f64());
    Ok(counts)
}

fn crates(workspace: &Workspace, environment: &Environment, filters: &[String]) -> Result<Counts> {
    let nextest = shell::answers("cargo", &["nextest", "--version"]);
    let mut args: Vec<&str> = if nextest { vec!["nextest", "run", "--no-tests=pass"] } else { vec!["test", "--lib", "--bins", "--tests"] };
    args.extend(FULL);
    args.push("--no-fail-fast");
    let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
    if !nextest && !filters.is_empty() {
        args.push("--");
    }
    args.extend(filters);
    counted(workspace, environment, if nextest { Runner::Nextest } else { Runner::Harness }, &args)
}

fn documentation(workspace: &Workspace, environment: &Environment, filters: &[String]) -> Result<Counts> {
    let mut args = vec!["test", "--doc"];
    args.extend(FULL);
    args.push("--no-fail-fast");
    if !filters.is_empty() {
        args.push("--");
    }
    args.extend(filters.iter().map(String::as_str));
    counted(workspace, environment, Runner::Harness, &args)
}

fn counted(workspace: &Workspace, environment: &Environment, runner: Runner, args: &[&str]) -> Result<Counts> {
    let mut counts = Counts::default();
    let mut command = shell::cargo(&workspace.root, args);
    command.envs(environment.iter().map(|(k, v)| (k, v)));
    let good = shell::watched(&mut command, |line| {
        if let Some(more) = Counts::of_line(runner, line) {
            counts += more;
        }
    })?;
    if !good && counts.failed == 0 {
        counts.failed = 1;
    }
    Ok(counts)
}
