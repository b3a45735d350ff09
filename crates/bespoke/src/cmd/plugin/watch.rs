//! `plugin reload --watch`: a plugin that is being written runs here, and every saved change of its files takes the place of what was
//! before. What happens when nobody edits is `change`.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use bespoke_host::State;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use serde_json::json;

use crate::{
    exit::{Exit, Failure, Result},
    output::Style,
    setup::Setup,
    watching::{Changes, watcher},
};

pub(super) async fn run(setup: &Setup, id: &str) -> Result<()> {
    let folder = setup.shelf.find(id).and_then(|candidate| setup.shelf.folder_of(&candidate));
    let config = setup.paths.config.as_deref().map(std::path::absolute).transpose()?;
    if folder.is_none() && config.is_none() {
        return Err(Failure::new(Exit::Usage, format!("{id} is part of this program, and there is no configuration to watch")));
    }
    let (ours, file) = (folder.clone(), config.clone());
    let wanted = move |path: &Path| ours.as_ref().is_some_and(|ours| path.starts_with(ours)) || file.as_deref() == Some(path);
    let (mut watcher, changes) = watcher(wanted).map_err(failed)?;
    if let Some(folder) = &folder {
        watcher.watch(folder, RecursiveMode::Recursive).map_err(failed)?;
    }
    // Editors put a new file in the place of the old one, and builds a new folder: what was watched is gone then, and the folder around it
    // tells.
    for around in [&folder, &config].into_iter().flatten().filter_map(|path| path.parent()) {
        watcher.watch(around, RecursiveMode::NonRecursive).map_err(failed)?;
    }
    // Around everything: a Ctrl-C ends a reload too.
    tokio::select! {
        ended = follow(setup, id, folder.as_deref(), config.as_deref(), watcher, changes) => ended,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

fn failed(error: notify::Error) -> Failure {
    Failure::failed(format!("the files cannot be watched: {error}"))
}

async fn follow(
    setup: &Setup,
    id: &str,
    folder: Option<&Path>,
    config: Option<&Path>,
    mut watcher: RecommendedWatcher,
    mut changes: Changes,
) -> Result<()> {
    let places: Vec<String> = [folder, config].into_iter().flatten().map(|path| path.display().to_string()).collect();
    setup.out.note(format!("watching {}; Ctrl-C ends", places.join(" and ")));
    loop {
        let Some(changed) = changes.next().await else { return Err(Failure::failed("the watcher ended")) };
        if config.is_some_and(|config| changed.iter().any(|path| path == config)) {
            tell(setup, id, "configuration", Instant::now(), configuration(setup).await)?;
        }
        let Some(folder) = folder else { continue };
        let is_replaced = changed.iter().any(|path| path == folder);
        if is_replaced && folder.is_dir() {
            // Before it is read: what changes from here on is told. One that was watched until now may be gone already.
            let _ = watcher.unwatch(folder);
            if let Err(error) = watcher.watch(folder, RecursiveMode::Recursive) {
                // A build took it away again; when it is back, the folder around it tells.
                tell(setup, id, &folder.display().to_string(), Instant::now(), Err(failed(error)))?;
                continue;
            }
        }
        let of_plugin = changed.iter().map(PathBuf::as_path).find(|path| counts(path, folder));
        if let Some(path) = of_plugin.or(is_replaced.then_some(folder)) {
            let began = Instant::now();
            let name = path.strip_prefix(folder).ok().filter(|inner| !inner.as_os_str().is_empty()).unwrap_or(path);
            tell(setup, id, &name.display().to_string(), began, files(setup, id).await)?;
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

/// Another manifest is another plugin as far as the host knows: then the host lets the one that runs give way to it. Any other file is
/// code.
async fn files(setup: &Setup, id: &str) -> Result<&'static str> {
    let candidate = setup.shelf.find(id).ok_or_else(|| Failure::new(Exit::NotFound, format!("{id} is not found any more")))?;
    if setup.host.renew(candidate).await? {
        return Ok("loaded anew");
    }
    setup.host.restart(id).await?;
    Ok("reloaded")
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
