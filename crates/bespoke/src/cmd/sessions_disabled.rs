//! A binary without the feature `state` keeps no conversations, so there are none to look at.

use crate::{cli::Sessions, exit::Result, setup::Setup, state::not_here};

pub(crate) fn run(_: &Setup, _: Sessions) -> Result<()> {
    Err(not_here())
}
