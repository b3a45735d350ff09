//! What lies in the folder of model files, known to a plugin or not. It looks, and follows no links.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// How deep folders are looked into: files of plugins lie two or three deep.
const DEEPEST: usize = 16;

/// A file below the folder of model files, or a link.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    /// `plugin/file`, with `/` between.
    pub(super) name: String,
    pub(super) path: PathBuf,
    /// Bytes that are free when it is gone: of a link none.
    pub(super) size: u64,
    pub(super) is_link: bool,
}

impl Kept {
    /// The plugin whose folder it lies in; the name of the file where it lies in none.
    pub(super) fn plugin(&self) -> &str {
        self.name.split_once('/').map_or(&self.name, |(plugin, _)| plugin)
    }

    /// Its path in the folder of the plugin.
    pub(super) fn file(&self) -> &str {
        self.name.split_once('/').map_or("", |(_, file)| file)
    }
}

/// All files, sorted. The folder itself may be a link: its user put it elsewhere.
pub(super) fn all(folder: &Path) -> Vec<Kept> {
    let mut found = Vec::new();
    below(folder, "", DEEPEST, &mut found);
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn below(folder: &Path, name: &str, deep: usize, found: &mut Vec<Kept>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        // What fetching keeps for itself.
        if name.is_empty() && file.starts_with('.') {
            continue;
        }
        let name = if name.is_empty() { file } else { format!("{name}/{file}") };
        // Of the entry, not of what a link leads to.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            if deep > 0 {
                below(&entry.path(), &name, deep - 1, found);
            }
        } else {
            let is_link = metadata.is_symlink();
            found.push(Kept { name, path: entry.path(), size: if is_link { 0 } else { metadata.len() }, is_link });
        }
    }
}
