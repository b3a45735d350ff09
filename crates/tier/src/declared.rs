//! What a plugin said that it contributes, kept by the digest of all that its answer depends on, so that it is asked once and not at each
//! start of the program. How a plugin is asked is the artifact's.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
};

use bespoke_host::is_made;
use bespoke_plugin_api::{Code, Error, Result, Spec, serde_json};
use bespoke_protocol::PROTOCOL;
use sha2::{Digest as _, Sha256};

/// A file up to this size counts by its bytes, a longer one by its size and date: models are not code.
const READ_UP_TO: u64 = 1 << 20;
/// A folder with more is not looked at any further: its plugin is asked each time.
const MOST_FILES: usize = 4096;

/// The place of an answer of the plugin in a folder; `None` when it cannot be known whether it still holds. `besides` is what it depends
/// on beside the files of the folder and this program.
pub fn place(cache: &Path, id: &str, folder: &Path, besides: &[&[u8]]) -> Option<PathBuf> {
    let mut files = Vec::new();
    collect(folder, Path::new(""), &mut files)?;
    files.sort_unstable();
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update(bytes.len().to_le_bytes());
        hash.update(bytes);
    };
    // Another version of this program may ask otherwise, and read other answers.
    add(env!("CARGO_PKG_VERSION").as_bytes());
    add(&PROTOCOL.to_le_bytes());
    besides.iter().copied().for_each(&mut add);
    for file in files {
        add(file.as_os_str().as_encoded_bytes());
        let path = folder.join(&file);
        let meta = fs::symlink_metadata(&path).ok()?;
        if meta.is_symlink() {
            add(fs::read_link(&path).ok()?.as_os_str().as_encoded_bytes());
            // Code of its own that it leads to stands in the list itself, unless it lies elsewhere.
            add(&fs::metadata(&path).ok().and_then(|_| stamp(&path)).unwrap_or_default());
        } else if meta.len() <= READ_UP_TO {
            add(&fs::read(&path).ok()?);
        } else {
            add(&stamp(&path)?);
        }
    }
    let short: String = hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    Some(cache.join("declared").join(format!("{id}-{short}.json")))
}

/// The answer that lies at `place`, or that of the plugin `id`, which is kept there.
///
/// # Errors
/// Those of `ask`; `RESOURCE_EXHAUSTED` when there is no thread to ask on.
pub fn or_ask(place: Option<PathBuf>, id: &str, ask: impl FnOnce() -> Result<Vec<Spec>> + Send + 'static) -> Result<Vec<Spec>> {
    if let Some(specs) = place.as_deref().and_then(read) {
        return Ok(specs);
    }
    // On a thread of its own: the caller's may belong to a runtime, which does not wait inside itself.
    let asked = thread::Builder::new().name(format!("ask-{id}")).spawn(ask);
    let asked = asked.map_err(|e| Error::new(Code::RESOURCE_EXHAUSTED, format!("no thread to ask the plugin: {e}")))?;
    let specs = asked.join().unwrap_or_else(|_| Err(Error::internal("the thread that asked the plugin panicked")))?;
    if let Some(place) = place {
        keep(&place, &specs);
    }
    Ok(specs)
}

/// The answer that lies there.
fn read(place: &Path) -> Option<Vec<Spec>> {
    serde_json::from_slice(&fs::read(place).ok()?).ok()
}

/// Keeps an answer. Without it, the plugin is asked again.
fn keep(place: &Path, specs: &[Spec]) {
    let Some(folder) = place.parent() else { return };
    let kept = fs::create_dir_all(folder).and_then(|()| {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer(&mut file, specs)?;
        file.persist(place)?;
        Ok(())
    });
    if let Err(e) = kept {
        tracing::debug!(place = %place.display(), error = %e, "what a plugin contributes could not be kept");
    }
    forget_others(folder, place);
}

/// Answers of the same plugin to other versions of its code.
fn forget_others(folder: &Path, place: &Path) {
    let name = |path: &Path| Some(path.file_stem()?.to_str()?.rsplit_once('-')?.0.to_owned());
    let own = name(place);
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path != place && own.is_some() && name(&path) == own {
            let _ = fs::remove_file(path);
        }
    }
}

fn collect(root: &Path, below: &Path, files: &mut Vec<PathBuf>) -> Option<()> {
    for entry in fs::read_dir(root.join(below)).ok()? {
        let entry = entry.ok()?;
        let name = entry.file_name();
        let shown = name.to_string_lossy();
        if shown.starts_with('.') || shown.ends_with(".pyc") {
            continue;
        }
        let path = below.join(&name);
        // A link counts by where it leads, and not by what is there: that may be somebody else's, never end, or lead in a circle.
        let kind = entry.file_type().ok()?;
        if kind.is_dir() {
            if !is_made(&root.join(&path)) {
                collect(root, &path, files)?;
            }
        } else if kind.is_file() || kind.is_symlink() {
            if files.len() == MOST_FILES {
                return None;
            }
            files.push(path);
        }
    }
    Some(())
}

/// Size and date of a file: enough to see that it is another one.
pub fn stamp(path: &Path) -> Option<Vec<u8>> {
    let meta = fs::metadata(path).ok()?;
    let since = meta.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some([meta.len().to_le_bytes().as_slice(), &since.as_nanos().to_le_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bespoke_plugin_api::ToolSpec;

    #[test]
    fn an_answer_holds_until_a_file_changes() {
        let (cache, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let place_of = || place(cache.path(), "a", folder.path(), &[]).unwrap();
        fs::write(folder.path().join("plugin.py"), "1").unwrap();
        let first = place_of();
        assert_eq!(read(&first), None);
        assert_ne!(place(cache.path(), "a", folder.path(), &[b"another program"]), Some(first.clone()));
        let specs = vec![Spec::Tool(ToolSpec::new("a", "b"))];
        keep(&first, &specs);
        assert_eq!(read(&first), Some(specs.clone()));

        // What is no code changes nothing.
        fs::create_dir(folder.path().join("__pycache__")).unwrap();
        fs::write(folder.path().join("__pycache__/x.pyc"), "x").unwrap();
        fs::write(folder.path().join(".hidden"), "x").unwrap();
        fs::create_dir(folder.path().join("env")).unwrap();
        fs::write(folder.path().join("env/pyvenv.cfg"), "x").unwrap();
        assert_eq!(place_of(), first);

        // What is built may be what runs.
        fs::create_dir(folder.path().join("dist")).unwrap();
        fs::write(folder.path().join("dist/index.js"), "x").unwrap();
        assert_ne!(place_of(), first);
        fs::remove_dir_all(folder.path().join("dist")).unwrap();

        fs::write(folder.path().join("plugin.py"), "2").unwrap();
        let second = place_of();
        assert_ne!(second, first);
        keep(&second, &specs);
        assert!(!first.exists() && second.exists(), "only the newest is kept");

        fs::write(&second, "not json").unwrap();
        assert_eq!(read(&second), None);
    }

    #[test]
    fn a_link_in_a_circle_ends() {
        let (cache, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink(folder.path(), folder.path().join("self")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", folder.path().join("endless")).unwrap();
        assert!(place(cache.path(), "a", folder.path(), &[]).is_some());
    }
}
