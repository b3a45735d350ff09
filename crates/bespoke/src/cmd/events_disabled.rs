//! `events` in a binary that neither serves nor keeps what happened.

use super::serve::not_here;
use crate::{
    cli::{Events, Global},
    exit::Result,
};

pub(super) async fn run(_: &Global, _: Events) -> Result<()> {
    Err(not_here())
}
