//! `ci`: every check, cheap ones first, then the tests. All checks run even when one fails, and a table closes them.

use std::{path::Path, process::ExitCode, time::Instant};

use anyhow::Result;

use crate::{app_manifest::AppManifest, shell, test, tidy, workspace::Workspace};

/// Targets that are checked where their standard library is installed.
const TARGETS: &[&str] =
    &["aarch64-unknown-linux-gnu", "x86_64-apple-darwin", "aarch64-apple-darwin", "x86_64-pc-windows-msvc", "x86_64-pc-windows-gnu"];

/// What is checked for them: the crates that need no C compiler for the target.
const PORTABLE: &[&str] = &[
    "-p",
    "bespoke-host",
    "-p",
    "bespoke-agent",
    "-p",
    "bespoke-voice",
    "-p",
    "bespoke-tool-clock",
    "-p",
    "bespoke-vad-energy",
    "-p",
    "bespoke-channel-terminal",
];

/// Crates that a wasm guest is made of.
const GUEST: &[&str] = &["-p", "bespoke-plugin-api", "-p", "bespoke-protocol", "-p", "bespoke-plugin-guest", "-p", "bespoke-guest-wasm"];

struct Outcome {
    name: String,
    good: bool,
    seconds: f64,
}

/// Runs the checks, and the tests unless `no_test`.
pub(crate) fn run(workspace: &Workspace, voice_kit: Option<&Path>, no_test: bool) -> Result<ExitCode> {
    let outcomes = checks(workspace)?;
    let failed = outcomes.iter().filter(|o| !o.good).count() as u64;
    eprintln!();
    for Outcome { name, good, seconds } in &outcomes {
        eprintln!("{} {seconds:6.1} s  {name}", if *good { "ok    " } else { "FAILED" });
    }
    if no_test {
        println!("{} checks passed, {failed} checks failed", outcomes.len() as u64 - failed);
        return Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    // A failed check counts as a failed test: the closing line must not look better than what happened.
    let mut counts = test::all(workspace, voice_kit, &[])?;
    counts.failed += failed;
    println!("{counts}");
    Ok(if counts.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn checks(workspace: &Workspace) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    let mut step = |name: &str, work: &mut dyn FnMut() -> Result<()>| {
        eprintln!("\n== {name}");
        let start = Instant::now();
        let result = work();
        if let Err(error) = &result {
            eprintln!("error: {error:#}");
        }
        outcomes.push(Outcome { name: name.to_owned(), good: result.is_ok(), seconds: start.elapsed().as_secs_f64() });
    };
    let cargo = |args: &[&str]| shell::run(&mut shell::cargo(&workspace.root, args));
    step("format", &mut || cargo(&["fmt", "--all", "--check"]));
    step("tidy", &mut || tidy::run(workspace));
    if shell::answers("cargo", &["deny", "--version"]) {
        step("deny", &mut || cargo(&["deny", "--all-features", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"]));
    } else {
        eprintln!("\n== deny: cargo-deny is not installed, so licences and bans are not checked here");
    }
    step("clippy", &mut || cargo(&["clippy", "--workspace", "--all-targets", "--features", "bespoke/full", "--", "-D", "warnings"]));
    step("documentation", &mut || {
        let mut command = shell::cargo(&workspace.root, &["doc", "--workspace", "--no-deps", "--features", "bespoke/full"]);
        shell::run(command.env("RUSTDOCFLAGS", "-D warnings"))
    });
    for features in feature_sets(&workspace.app()?) {
        let name = if features.is_empty() { "features: none".to_owned() } else { format!("features: {features}") };
        step(&name, &mut || cargo(&["check", "-p", "bespoke", "--no-default-features", "--features", &features]));
    }
    for target in TARGETS.iter().filter(|t| installed(t)) {
        let args: Vec<&str> = ["check", "--target", target].into_iter().chain(PORTABLE.iter().copied()).collect();
        step(&format!("target {target}"), &mut || cargo(&args));
    }
    if installed("wasm32-unknown-unknown") {
        let args: Vec<&str> = ["check", "--target", "wasm32-unknown-unknown"].into_iter().chain(GUEST.iter().copied()).collect();
        step("target wasm32-unknown-unknown", &mut || cargo(&args));
    } else {
        eprintln!("\n== target wasm32-unknown-unknown is not installed, so guests are not checked here");
    }
    Ok(outcomes)
}

/// Some together whose parts need each other: a channel beside native runtimes, without plugins in processes.
const TOGETHER: &str = "telegram,silero,cuda";

/// None, each alone, and [`TOGETHER`]. Everything together is what clippy has checked.
fn feature_sets(app: &AppManifest) -> Vec<String> {
    let none = std::iter::once(String::new());
    none.chain(app.names().map(str::to_owned)).chain([TOGETHER.to_owned()]).collect()
}

fn installed(target: &str) -> bool {
    let sysroot = shell::output(std::process::Command::new("rustc").args(["--print", "sysroot"])).unwrap_or_default();
    Path::new(sysroot.trim()).join("lib/rustlib").join(target).join("lib").is_dir()
}
