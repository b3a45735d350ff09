//! Where there are no process groups, nothing is run: a hook that fails closed says no.

use std::time::Duration;

use bespoke_plugin_api::{CallCx, Error, HookEvent, Result};

use crate::{Asked, reply::Said};

pub(crate) async fn run(_asked: &Asked, _cx: &CallCx, _event: &HookEvent, _limit: Duration) -> Result<Said> {
    Err(Error::unsupported("exec"))
}
