//! `host` in a binary without child processes.

use crate::{
    cli::{Global, HostArgs},
    exit::{Exit, Failure, Result},
    setup::build_with,
};

pub(super) async fn run(_: &Global, _: HostArgs) -> Result<()> {
    Err(Failure::new(Exit::NotFound, "this binary serves no other programs").help(build_with(&["process"])))
}
