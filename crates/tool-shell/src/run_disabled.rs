//! Where there are no process groups, nothing is run.

use bespoke_plugin_api::{CallCx, Error, Result, ToolOutput};

use crate::{Job, Runner};

pub(crate) const IS_SUPPORTED: bool = false;

pub(crate) async fn run(_runner: &Runner, _cx: &CallCx, _job: Job) -> Result<ToolOutput> {
    Err(Error::unsupported("run_program"))
}
