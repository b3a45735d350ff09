//! `runtime` in a binary that runs no programs on native runtimes.

use crate::{
    cli::{RuntimeVerb, Verb},
    exit::{Exit, Failure, Result},
    setup::{Setup, build_with},
};

pub(crate) fn before_threads(_: &Verb) {}

pub(super) async fn run(_: &Setup, _: RuntimeVerb) -> Result<()> {
    Err(Failure::new(Exit::NotFound, "this binary was built without the feature `xla`, so it runs no programs on native runtimes")
        .help(build_with(&["xla"])))
}
