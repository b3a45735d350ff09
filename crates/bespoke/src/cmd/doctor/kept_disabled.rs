//! A binary without the feature `state` keeps nothing.

use super::report::Report;
use crate::paths::Paths;

pub(crate) fn check(report: &mut Report, _: &Paths) {
    report.skip("conversations", "this binary keeps none");
}
