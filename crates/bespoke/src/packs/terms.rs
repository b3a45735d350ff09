//! The terms of packs that came with the program. Those that users install came from an index, and their terms lie with them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use bespoke_runtimes::{Packs, Row};

use crate::{
    cmd::licenses::Terms,
    exit::{Failure, Result},
};

/// Where a pack has its licences and notices.
const FOLDER: &str = "licenses";
/// Folders in folders: a file below the name of its project is two.
const DEPTH: usize = 4;

/// Of every pack in the folder beside the program, whether or not its user has installed another version.
pub(crate) fn bundled_terms() -> Result<Vec<Terms>> {
    super::beside_program().map_or_else(|| Ok(Vec::new()), |folder| within(&folder))
}

fn within(folder: &Path) -> Result<Vec<Terms>> {
    // As if nothing else was installed.
    let packs = Packs::new(folder).with_bundled(folder);
    packs.rows().iter().filter_map(|row| Some((row, row.path.as_ref()?))).map(|(row, path)| of(&packs, row, path)).collect()
}

fn of(packs: &Packs, row: &Row, folder: &Path) -> Result<Terms> {
    let from = folder.join(FOLDER);
    let failed = |error: io::Error| Failure::failed(format!("{}: {error}", from.display()));
    let mut text = String::new();
    for path in files(&from, DEPTH).map_err(failed)? {
        let name = path.strip_prefix(&from).unwrap_or(&path).display().to_string();
        let words = fs::read(&path).map_err(failed)?;
        text.push_str(&format!("{name}\n\n{}\n\n", String::from_utf8_lossy(&words).trim()));
    }
    let pinned = packs.table().packs().iter().find(|pack| pack.spec == row.spec && Some(&pack.version) == row.version.as_ref());
    let mut licenses: Vec<&str> = pinned.iter().flat_map(|pack| pack.all()).map(|wheel| wheel.license.as_str()).collect();
    licenses.sort_unstable();
    licenses.dedup();
    Ok(Terms {
        name: row.spec.to_string(),
        license: if licenses.is_empty() { "see its text".into() } else { licenses.join(" AND ") },
        package: None,
        files: vec![folder.display().to_string()],
        text: if text.is_empty() { "no text of its terms came with it".into() } else { text },
    })
}

/// The files below a folder, in their order; none where it is not there.
fn files(folder: &Path, depth: usize) -> io::Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    entries.sort();
    let mut all = Vec::new();
    for path in entries {
        if path.is_file() {
            all.push(path);
        } else if depth > 0 {
            all.extend(files(&path, depth - 1)?);
        }
    }
    Ok(all)
}
