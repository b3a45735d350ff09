//! `status` and `reload` in a binary without channels.

use super::serve::not_here;
use crate::{cli::Global, exit::Result};

pub(super) async fn status(_: &Global) -> Result<()> {
    Err(not_here())
}

pub(super) async fn reload(_: &Global) -> Result<()> {
    Err(not_here())
}
