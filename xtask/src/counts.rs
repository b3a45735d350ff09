//! How many tests passed and failed, read from the summary lines of cargo-nextest and of the built-in test harness.

use std::{fmt, ops::AddAssign};

/// Tests of one or more runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

/// Who prints the summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runner {
    /// `Summary [ 1.3s] 21 tests run: 20 passed (1 slow), 1 failed, 1 timed out, 2 skipped`
    Nextest,
    /// `test result: ok. 3 passed; 0 failed; …`
    Harness,
}

impl Counts {
    /// The tests that a line of a runner's output sums up; none if it is no summary. A test that timed out or could not run
    /// counts as failed.
    ///
    /// A runner's own words are known by their place: nextest shows the output of failed tests too, and in it the summary
    /// of the harness, indented.
    pub(crate) fn of_line(runner: Runner, line: &str) -> Option<Counts> {
        let summary = match runner {
            Runner::Harness => line.strip_prefix("test result: ")?,
            Runner::Nextest => line.trim_start().strip_prefix("Summary [")?.split_once(" run: ")?.1,
        };
        let mut counts = Counts::default();
        let mut any = false;
        let words: Vec<&str> = summary.split([' ', ',', ';', '.', '(', ')', ':']).filter(|w| !w.is_empty()).collect();
        for pair in words.windows(2) {
            let (Ok(n), what) = (pair[0].parse::<u64>(), pair[1]) else { continue };
            match what {
                "passed" => counts.passed += n,
                "failed" | "timed" | "exec" => counts.failed += n,
                _ => continue,
            }
            any = true;
        }
        any.then_some(counts)
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::{Runner::*, *};

    #[test]
    fn reads_the_summaries_of_both_runners() {
        for (runner, line, passed, failed) in [
            (Nextest, "     Summary [   1.301s] 21 tests run: 21 passed, 0 skipped", 21, 0),
            (Nextest, "     Summary [   1.301s] 12/21 tests run: 11 passed, 1 failed, 0 skipped", 11, 1),
            (Nextest, "     Summary [  90.000s] 4 tests run: 2 passed (1 slow), 1 failed, 1 timed out, 0 skipped", 2, 2),
            (Nextest, "     Summary [   0.1s] 2 tests run: 1 passed (1 leaky), 1 exec failed, 0 skipped", 1, 1),
            (Harness, "test result: ok. 19 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out; finished in 4.08s", 19, 0),
            (Harness, "test result: FAILED. 17 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 3.00s", 17, 2),
        ] {
            assert_eq!(Counts::of_line(runner, line), Some(Counts { passed, failed }), "{line}");
        }
    }

    #[test]
    fn other_lines_count_nothing() {
        for line in ["", "test a ... ok", "error: 3 failed", "   Summary", "4 passed", "Summary [", "test result: "] {
            assert_eq!((Counts::of_line(Nextest, line), Counts::of_line(Harness, line)), (None, None), "{line}");
        }
    }

    #[test]
    fn a_failed_test_that_nextest_shows_counts_once() {
        let shown = "    test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 69 filtered out; finished in 0.05s";
        assert_eq!((Counts::of_line(Nextest, shown), Counts::of_line(Nextest, shown.trim_start())), (None, None));
        assert_eq!(Counts::of_line(Harness, shown), None);
    }
}
