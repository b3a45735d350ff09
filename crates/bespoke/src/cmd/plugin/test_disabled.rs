//! `plugin test` in a binary without the testkit: it says which build has it.

use std::path::Path;

use crate::{
    exit::{Exit, Failure, Result},
    setup::{Setup, build_with},
};

pub(super) async fn run(_: &Setup, _: Option<&str>, _: Option<&Path>, _: bool) -> Result<()> {
    let failure = Failure::new(Exit::NotFound, "this program was built without what plugins are tested with");
    Err(failure.help(build_with(&["testkit"])))
}
