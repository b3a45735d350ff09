//! `plugin build` in a binary that does not build plugins.

use crate::{
    cli::Building,
    exit::{Exit, Failure, Result},
    output::Out,
    setup::build_with,
};

pub(crate) async fn run(_: Out, _: Building) -> Result<()> {
    Err(Failure::new(Exit::NotFound, "this program builds no plugins").help(build_with(&["build"])))
}
