//! This binary: what it is, and how it was built.

use super::report::{Report, Verdict};
use crate::setup::build_with;

pub(crate) fn check(report: &mut Report) {
    report.group("Program");
    let command = build_with(&[]);
    let features = command.rsplit_once("--features ").map_or("", |(_, features)| features);
    let version = env!("CARGO_PKG_VERSION");
    match features {
        "" => report.add("binary", Verdict::Warning, format!("version {version}, without a single plugin"), Some(build_with(&["local"]))),
        features => report.ok("binary", format!("version {version}, built with {}", features.replace(',', ", "))),
    }
    // Under the other strategy the program refuses to run.
    report.ok("panics", "a plugin that panics is caught and told");
    match cfg!(debug_assertions) {
        false => report.ok("build", "optimised"),
        true => report.ok("build", "for development; a release build answers many times faster"),
    }
}
