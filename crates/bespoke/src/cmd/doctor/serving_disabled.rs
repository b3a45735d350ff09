//! What serves, in a binary that does not.

use super::report::Report;
use crate::{paths::Paths, setup::Setup};

pub(super) async fn check(report: &mut Report, _: &Paths) {
    report.group("Server");
    for name in ["server", "control socket", "outbox"] {
        report.skip(name, "this binary serves no channels");
    }
}

pub(super) fn channels(report: &mut Report, _: &Setup) {
    report.group("Channels");
    report.skip("channels", "this binary serves no channels");
}
