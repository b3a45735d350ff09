//! `outbox` in a binary without channels.

use super::serve::not_here;
use crate::{
    cli::{Global, Outbox},
    exit::Result,
};

pub(super) async fn run(_: &Global, _: Outbox) -> Result<()> {
    Err(not_here())
}
