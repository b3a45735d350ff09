//! Files that change, gathered until it is quiet. What becomes of them is not its business.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{Event, EventKind, RecommendedWatcher};
use tokio::sync::mpsc;

/// Editors write a file in several steps, and people save several files: a change counts when it was quiet for so long.
const QUIET: Duration = Duration::from_millis(200);
/// However busy a folder is, so long after the first change it counts.
const LONGEST: Duration = Duration::from_secs(2);

/// What changed, as it is told by the system.
#[derive(Debug)]
pub(crate) struct Changes(mpsc::Receiver<PathBuf>);

/// Changes that may wait. Of more, the first ones are enough to know that there were some.
const WAITING: usize = 1024;

/// Somebody who tells what changes in the folders that are named to it, of what is `wanted`, and where it tells it.
pub(crate) fn watcher(wanted: impl Fn(&Path) -> bool + Send + 'static) -> notify::Result<(RecommendedWatcher, Changes)> {
    let (sender, changes) = mpsc::channel(WAITING);
    let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        let Ok(event) = event else { return };
        if matches!(event.kind, EventKind::Access(_) | EventKind::Other) {
            return;
        }
        // An error: there are enough, or nobody watches any more.
        event.paths.into_iter().filter(|path| wanted(path)).for_each(|path| _ = sender.try_send(path));
    })?;
    Ok((watcher, Changes(changes)))
}

impl Changes {
    /// What changed together; `None` when nothing is watched any more.
    pub(crate) async fn next(&mut self) -> Option<Vec<PathBuf>> {
        let mut changed = vec![self.0.recv().await?];
        let until = tokio::time::Instant::now() + LONGEST;
        while let Ok(Some(more)) = tokio::time::timeout_at(until.min(tokio::time::Instant::now() + QUIET), self.0.recv()).await {
            if !changed.contains(&more) {
                changed.push(more);
            }
        }
        Some(changed)
    }
}
