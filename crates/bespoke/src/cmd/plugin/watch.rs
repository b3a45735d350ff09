//! `plugin reload --watch`: a plugin that is being written runs here, and every saved change of its files takes the place of what was
//! before. What happens when nobody edits is `change`.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use bespoke_host::{SCHEMA_FILE, State};
use bespoke_manifest::Manifest;
use notify::{RecursiveMode, Watcher};
use serde_json::json;

use crate::{
    exit::{Exit, Failure, Result},
    output::Style,
    setup::Setup,
    watching::{Changes, watcher},
};

pub(super) async fn run(setup: &Setup, id: &str) -> Result<()> {
    let folder = setup.shelf.find(id).and_then(|candidate| setup.shelf.folder_of(&candidate));
    let failed = |error: notify::Error| Failure::failed(format!("the files cannot be watched: {error}"));
    let (mut watcher, changes) = watcher(|_| true).map_err(failed)?;
    if let Some(folder) = &folder {
        watcher.watch(folder, RecursiveMode::Recursive).map_err(failed)?;
    }
    // Editors replace the file, so its folder is watched.
    let config = setup.paths.config.as_deref().map(std::path::absolute).transpose()?;
    if let Some(around) = config.as_deref().and_then(Path::parent) {
        watcher.watch(around, RecursiveMode::NonRecursive).map_err(failed)?;
    }
    if folder.is_none() && config.is_none() {
        return Err(Failure::new(Exit::Usage, format!("{id} is part of this program, and there is no configuration to watch")));
    }
    // Around everything: a Ctrl-C ends a reload too.
    tokio::select! {
        ended = follow(setup, id, folder.as_deref(), config.as_deref(), changes) => ended,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

async fn follow(setup: &Setup, id: &str, folder: Option<&Path>, config: Option<&Path>, mut changes: Changes) -> Result<()> {
    let places: Vec<String> = [folder, config].into_iter().flatten().map(|path| path.display().to_string()).collect();
    setup.out.note(format!("watching {}; Ctrl-C ends", places.join(" and ")));
    loop {
        let Some(changed) = changes.next().await else { return Err(Failure::failed("the watcher ended")) };
        let of_plugin: Vec<&PathBuf> = changed.iter().filter(|path| folder.is_some_and(|folder| counts(path, folder))).collect();
        let of_config = config.is_some_and(|config| changed.iter().any(|path| path == config));
        if of_config {
            tell(setup, id, "configuration", Instant::now(), configuration(setup).await)?;
        }
        if let Some(path) = of_plugin.first() {
            let began = Instant::now();
            let name = folder.and_then(|folder| path.strip_prefix(folder).ok()).unwrap_or(path).display().to_string();
            tell(setup, id, &name, began, files(setup, id, &of_plugin).await)?;
        }
    }
}

/// Whether a file is one that somebody writes.
fn counts(path: &Path, folder: &Path) -> bool {
    let Ok(inner) = path.strip_prefix(folder) else { return false };
    let made = inner.ancestors().skip(1).any(|below| !below.as_os_str().is_empty() && bespoke_host::is_made(&folder.join(below)));
    let name = inner.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    !made && !name.is_empty() && !name.ends_with('~') && !name.ends_with(".swp") && !name.ends_with(".pyc") && !name.starts_with(".#")
}

/// Another manifest is another plugin as far as the host knows: then it is taken out and put in again. Any other file is code.
async fn files(setup: &Setup, id: &str, changed: &[&PathBuf]) -> Result<&'static str> {
    let mut manifests = Manifest::FILES.iter().chain([&SCHEMA_FILE]);
    let is_manifest = |path: &&PathBuf| path.file_name().is_some_and(|name| manifests.any(|manifest| name == *manifest));
    let runs = setup.host.rows().iter().any(|row| row.id == id && row.state == State::Ready);
    if runs && !changed.iter().any(is_manifest) {
        setup.host.restart(id).await?;
        return Ok("reloaded");
    }
    let candidate = setup.shelf.find(id).ok_or_else(|| Failure::new(Exit::NotFound, format!("{id} is not found any more")))?;
    // What cannot be read takes nobody's place.
    if let Err(error) = &candidate.manifest {
        return Err(error.clone().into());
    }
    if setup.host.rows().iter().any(|row| row.id == id) {
        setup.host.unload(id).await?;
    }
    setup.host.load(candidate, None).await?;
    Ok("loaded anew")
}

async fn configuration(setup: &Setup) -> Result<&'static str> {
    let reloaded = setup.reload(&["agent"]).await?;
    reloaded.told().lines().for_each(|line| setup.out.note(format!("  {line}")));
    Ok("configuration read")
}

/// One line for each change. What fails is told, and the watching goes on: the next save may mend it.
fn tell(setup: &Setup, id: &str, what: &str, began: Instant, result: Result<&'static str>) -> Result<()> {
    let ms = (began.elapsed().as_secs_f64() * 1e4).round() / 10.0;
    if setup.out.json {
        let error = result.as_ref().err().map(|failure| failure.to_string());
        let row = json!({ "id": id, "changed": what, "ok": result.is_ok(), "what": result.ok(), "error": error, "ms": ms });
        return setup.out.json(&row, false);
    }
    match result {
        Ok(done) => setup.out.line(setup.out.paint(Style::Green, &format!("{what}: {done} in {ms} ms"))),
        Err(failure) => {
            setup.out.line(setup.out.paint(Style::Red, &format!("{what}: {failure}")))?;
            let runs = setup.host.rows().iter().any(|row| row.id == id && row.state == State::Ready);
            let now = if runs { "what ran before goes on" } else { "it does not run" };
            setup.out.line(format!("  {now}; save again to try again"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_somebody_writes_counts() {
        let folder = Path::new("/p");
        for (path, is_counted) in [
            ("/p/__init__.py", true),
            ("/p/sub/a.txt", true),
            ("/p/target/a.py", true),
            ("/p/node_modules/a/index.js", false),
            ("/p/__pycache__/a.pyc", false),
            ("/p/.git/HEAD", false),
            ("/p/a.py~", false),
            ("/p/.a.py.swp", false),
            ("/p", false),
            ("/other/a.py", false),
        ] {
            assert_eq!(counts(Path::new(path), folder), is_counted, "{path}");
        }
    }
}
