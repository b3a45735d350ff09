//! What the verbs of plugins leave to a server that runs: there plugins run, so there is what they look like, and there a change counts.

use std::path::{Path, PathBuf};

use bespoke_host::Row;
use serde_json::{Value, json};

use crate::{
    exit::{Failure, Result},
    output::Style,
    running::Running,
    setup::Setup,
};

/// The server of this home, if it goes by the configuration that this verb works on.
pub(in crate::cmd) async fn find(setup: &Setup) -> Result<Option<Running>> {
    let Some(mut running) = Running::find(&setup.paths).await? else { return Ok(None) };
    let status: Value = running.look("status", json!({})).await?;
    let theirs = PathBuf::from(status["config"].as_str().unwrap_or_default());
    let same = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if same(&theirs) == same(&setup.paths.config_to_be()) {
        return Ok(Some(running));
    }
    setup.out.note(format!("the server that runs goes by another configuration, {}, and is not asked", theirs.display()));
    Ok(None)
}

/// Has the server take over what this verb has changed for a plugin: its row there afterwards; `None` when no server runs.
pub(super) async fn apply(setup: &Setup, id: &str, method: &str) -> Result<Option<Row>> {
    let Some(mut running) = find(setup).await? else { return Ok(None) };
    running.ask::<Value>(method, json!({ "id": id })).await?;
    let rows: Vec<Row> = running.look("plugin.list", json!({})).await?;
    Ok(rows.into_iter().find(|row| row.id == id))
}

/// Has the server read a file that was changed: why it does not take it, if so.
pub(super) async fn read_again(setup: &Setup) -> Result<Option<Failure>> {
    let Some(mut running) = find(setup).await? else { return Ok(None) };
    Ok(running.ask::<Value>("reload", json!({})).await.err())
}

/// Has the server start what lacked something that is here now. What it has to say of its configuration is no matter of this verb.
pub(super) async fn look_again(setup: &Setup, is_only_shown: bool) -> Result<()> {
    if is_only_shown {
        return Ok(());
    }
    let Some(mut running) = find(setup).await? else { return Ok(()) };
    match running.ask::<Value>("reload", json!({})).await {
        Ok(_) => setup.out.note("the server that runs has looked for it: bespoke status"),
        Err(failure) => setup.out.note(format!("the server that runs does not take it up: {failure}")),
    }
    Ok(())
}

/// Has the server of this home, whatever configuration it goes by, take over what a plugin was granted: grants are the home's. Its row
/// there afterwards, if it is known there; `None` when no server runs.
pub(super) async fn consent(setup: &Setup, id: &str) -> Result<Option<Row>> {
    let Some(mut running) = Running::find(&setup.paths).await? else { return Ok(None) };
    running.ask::<Value>("plugin.consent", json!({ "id": id })).await?;
    let rows: Vec<Row> = running.look("plugin.list", json!({})).await?;
    Ok(rows.into_iter().find(|row| row.id == id))
}

/// Tells what became of it.
pub(super) fn tell(setup: &Setup, row: &Row) {
    let why = row.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
    let text = format!("the server that runs has it {}{why}", row.state.name());
    let is_well = matches!(row.state, bespoke_host::State::Ready | bespoke_host::State::Disabled | bespoke_host::State::Unloaded);
    setup.out.note(setup.out.paint(if is_well { Style::Green } else { Style::Yellow }, &text));
}
