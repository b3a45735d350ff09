//! `serve` in a binary without channels.

use crate::{
    cli::{Global, Serve},
    exit::{Exit, Failure, Result},
    setup::build_with,
};

pub(super) async fn run(_: &Global, _: Serve) -> Result<()> {
    Err(not_here())
}

/// The error of every verb that asks a server.
pub(super) fn not_here() -> Failure {
    Failure::new(Exit::NotFound, "this binary serves no channels").help(build_with(&["serve"]))
}
