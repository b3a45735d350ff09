//! The tests of the Python SDK: those of the standard library's runner, and the one file that needs pytest. They mostly wait for
//! processes, so they run beside the tests of the crates; what they say is kept until those are done.

use std::{
    path::Path,
    process::Command,
    thread::{Scope, ScopedJoinHandle},
    time::Instant,
};

use anyhow::{Result, anyhow};

use crate::{counts::Counts, shell, workspace::Workspace};

/// Where it lies.
pub(crate) const SDK: &str = "crates/tier-process/sdk";
/// The file that needs pytest, by which a filter names it.
const WITH_PYTEST: &str = "with_pytest";

/// The tests while they run.
pub(crate) struct Running<'scope>(ScopedJoinHandle<'scope, Result<Vec<Ran>>>);

/// One run of one runner.
struct Ran {
    command: String,
    counts: Counts,
    good: bool,
    seconds: f64,
    text: String,
}

/// Starts those whose name contains one of the filters; all without filters.
pub(crate) fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    workspace: &'scope Workspace,
    python: &'scope str,
    filters: &'scope [String],
) -> Running<'scope> {
    Running(scope.spawn(move || all(workspace, python, filters)))
}

impl Running<'_> {
    /// Waits for the end. What a run said is shown whole when it failed, else its last line.
    pub(crate) fn finish(self) -> Result<Counts> {
        if !self.0.is_finished() {
            eprintln!("waiting for the tests of the Python SDK");
        }
        let runs = self.0.join().map_err(|_| anyhow!("the thread of the Python tests panicked"))??;
        let mut counts = Counts::default();
        for run in &runs {
            eprintln!("$ {}", run.command);
            if run.good {
                eprintln!("  {} ({:.0} s)", run.counts, run.seconds);
            } else {
                eprintln!("{}", run.text.trim_end());
            }
            counts += run.counts;
        }
        Ok(counts)
    }
}

fn all(workspace: &Workspace, python: &str, filters: &[String]) -> Result<Vec<Ran>> {
    let folder = workspace.path(SDK);
    let target = workspace.target()?;
    // Bytecode beside the sources would be built into the next binary.
    let bytecode = tempfile::tempdir_in(&target)?;
    let interpreter = || {
        let mut command = Command::new(python);
        command.current_dir(&folder).env("PYTHONPYCACHEPREFIX", bytecode.path());
        command
    };
    let mut runs = vec![run(of_unittest, own(interpreter(), filters))?];
    if filters.is_empty() || filters.iter().any(|f| WITH_PYTEST.contains(f.as_str())) {
        runs.push(run(of_pytest, guide(interpreter(), &target))?);
    }
    Ok(runs)
}

fn own(mut python: Command, filters: &[String]) -> Command {
    python.args(["-m", "unittest", "discover", "-s", "tests", "-t", "."]);
    for filter in filters {
        python.args(["-k", filter]);
    }
    python
}

/// pytest and the SDK in an environment of their own, which the next run finds.
fn guide(mut python: Command, target: &Path) -> Command {
    python.arg(format!("tests/{WITH_PYTEST}.py")).arg(target.join("sdk-environment"));
    python
}

fn run(summary: fn(&str) -> Option<Counts>, mut command: Command) -> Result<Ran> {
    let start = Instant::now();
    let (good, text) = shell::kept(&mut command)?;
    let counts = counted(summary, good, &text);
    Ok(Ran { command: shell::shown(&command), counts, good: counts.failed == 0, seconds: start.elapsed().as_secs_f64(), text })
}

/// A run that fails without a failed test, or has no summary, counts as a failure.
fn counted(summary: fn(&str) -> Option<Counts>, good: bool, text: &str) -> Counts {
    let found = summary(text);
    // The runner of Python 3.12 and later fails when a filter leaves nothing.
    let good = found.is_some() && (good || text.lines().any(|line| line == "NO TESTS RAN"));
    let mut counts = found.unwrap_or_default();
    if !good && counts.failed == 0 {
        counts.failed = 1;
    }
    counts
}

/// `Ran 4 tests in 0.1s`, and some lines below `OK`, or `FAILED (failures=1, errors=1, skipped=1)`. A test may fail more than once.
fn of_unittest(text: &str) -> Option<Counts> {
    let ran = text.lines().rev().find_map(|line| line.strip_prefix("Ran ")?.split_once(" test")?.0.parse::<u64>().ok())?;
    let verdict = text.lines().rev().find(|line| ["OK", "FAILED", "NO TESTS RAN"].iter().any(|word| line.starts_with(word)))?;
    let (mut failed, mut skipped) = (0, 0);
    let details = verdict.split_once('(').map_or("", |(_, details)| details.trim_end_matches(')'));
    for (what, n) in details.split(", ").filter_map(|part| part.split_once('=')) {
        let n: u64 = n.parse().ok()?;
        match what {
            "failures" | "errors" | "unexpected successes" => failed += n,
            "skipped" => skipped += n,
            _ => {}
        }
    }
    Some(Counts { passed: ran.saturating_sub(failed + skipped), failed })
}

/// `===== 1 failed, 2 passed, 1 error in 0.12s =====`.
fn of_pytest(text: &str) -> Option<Counts> {
    let line = text.lines().rev().find(|line| line.starts_with("==") && line.contains(" in "))?;
    let mut counts = Counts::default();
    for part in line.trim_matches(['=', ' ']).split(" in ").next()?.split(", ") {
        let (n, what) = part.split_once(' ')?;
        let n: u64 = n.parse().ok()?;
        match what {
            "passed" => counts.passed += n,
            "failed" | "error" | "errors" => counts.failed += n,
            _ => {}
        }
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_of_both_runners_are_read() {
        type Summary = fn(&str) -> Option<Counts>;
        let cases: [(Summary, bool, &str, (u64, u64)); 11] = [
            (of_unittest, true, "....\n-----\nRan 85 tests in 108.507s\n\nOK\n", (85, 0)),
            (of_unittest, true, "Ran 1 test in 0.1s\n\nOK (skipped=1)\n", (0, 0)),
            (of_unittest, false, "Ran 9 tests in 1s\n\nFAILED (failures=1, errors=2, skipped=1, expected failures=1)\n", (5, 3)),
            // All passed, and then the interpreter broke.
            (of_unittest, false, "Ran 4 tests in 1s\n\nOK\nSegmentation fault\n", (4, 1)),
            (of_unittest, false, "Ran 0 tests in 0.0s\n\nNO TESTS RAN\n", (0, 0)),
            // What a test prints is not what the runner says.
            (of_unittest, false, "Ran 3 tests in 1s\n\nOK\nRan 2 tests in 1s\n\nFAILED (failures=1)\n", (1, 1)),
            (of_unittest, false, "ImportError: no module\n", (0, 1)),
            (of_unittest, true, "", (0, 1)),
            (of_pytest, true, "===== 3 passed in 0.02s =====\n", (3, 0)),
            (of_pytest, false, "== FAILURES ==\n== 1 failed, 2 passed, 1 error, 3 warnings in 0.12s ==\nx\n", (2, 2)),
            (of_pytest, false, "pip: no such package\n", (0, 1)),
        ];
        for (summary, good, text, (passed, failed)) in cases {
            assert_eq!(counted(summary, good, text), Counts { passed, failed }, "{text}");
        }
    }
}
