//! `plugin reload --watch` in a binary without child processes: there are no files of a plugin to watch.

use crate::{
    exit::{Exit, Failure, Result},
    setup::{Setup, build_with},
};

pub(super) async fn run(_: &Setup, id: &str) -> Result<()> {
    Err(Failure::new(Exit::NotFound, format!("{id} is part of this program, and its files are not watched")).help(build_with(&["process"])))
}
