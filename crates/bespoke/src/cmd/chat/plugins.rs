//! Commands about plugins of the running program. What they change ends with it; `bespoke plugin …` changes what the next one does.

use std::{path::Path, time::Instant};

use bespoke_host::State;

use crate::{
    exit::{Exit, Failure, Result},
    setup::Setup,
};

/// `/plugins`.
pub(super) fn list(setup: &Setup) -> String {
    let rows = setup.rows();
    let wide = rows.iter().map(|row| row.id.chars().count()).max().unwrap_or(0);
    let lines = rows.iter().map(|row| {
        let why = row.reason.as_ref().map_or(String::new(), |reason| format!("  {reason}"));
        format!("{:<wide$}  {:<8}  {:<11}  {:<8}{why}", row.id, row.tier.name(), row.state.name(), row.health).trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// `/load`: a plugin that is found by its id, or the one in a folder.
pub(super) async fn load(setup: &Setup, what: &str) -> Result<String> {
    let candidate = match setup.shelf.all().into_iter().find(|candidate| candidate.id == what) {
        Some(candidate) => candidate,
        None if Path::new(what).is_dir() => setup.shelf.open_folder(Path::new(what))?,
        None if what.contains(['/', '\\']) => return Err(Failure::new(Exit::NotFound, format!("{what} is no folder"))),
        None => return Err(unknown(setup, what)),
    };
    let id = candidate.id.clone();
    if let Some(row) = setup.host.rows().into_iter().find(|row| row.id == id) {
        match row.state {
            State::Ready | State::Starting | State::Draining => {
                return Err(Failure::new(Exit::Conflict, format!("{id} runs already")).help(format!("/reload {id}")));
            }
            State::Disabled => {
                let failure = Failure::new(Exit::Conflict, format!("{id} is switched off"));
                return Err(failure.help(format!("bespoke plugin enable {id}, and /reload")));
            }
            // What does not run makes room.
            _ => setup.host.unload(&id).await?,
        }
    }
    let began = Instant::now();
    if let Err(error) = setup.host.load(candidate, None).await {
        let waits = error.help() == Some(format!("bespoke plugin grant {id}").as_str()) && setup.shelf.find(&id).is_none();
        let failure = Failure::from(error);
        // Nobody else knows of this folder: it is granted what it asks for when it is added.
        return Err(if waits { failure.help(format!("bespoke plugin load {what}, then /load {what}")) } else { failure });
    }
    Ok(format!("{id} runs, after {} ms.", began.elapsed().as_millis()))
}

/// `/unload`.
pub(super) async fn unload(setup: &Setup, id: &str) -> Result<String> {
    known(setup, id)?;
    setup.host.unload(id).await?;
    Ok(format!("{id} is taken out."))
}

/// `/swap`.
pub(super) async fn swap(setup: &Setup, old: &str, new: &str) -> Result<String> {
    known(setup, old)?;
    known(setup, new)?;
    let began = Instant::now();
    setup.host.swap(old, new).await?;
    Ok(format!("{new} took the place of {old} in {} ms.", began.elapsed().as_millis()))
}

/// `/reload ID`.
pub(super) async fn reload(setup: &Setup, id: &str) -> Result<String> {
    known(setup, id)?;
    let began = Instant::now();
    setup.host.restart(id).await?;
    Ok(format!("A new instance of {id} took the place of the old one in {} ms.", began.elapsed().as_millis()))
}

fn known(setup: &Setup, id: &str) -> Result<()> {
    if setup.host.rows().iter().any(|row| row.id == id) { Ok(()) } else { Err(unknown(setup, id)) }
}

fn unknown(setup: &Setup, id: &str) -> Failure {
    let failure = setup.no_plugin(id);
    if failure.help.as_deref() == Some("bespoke plugin list") { failure.help("/plugins") } else { failure }
}
