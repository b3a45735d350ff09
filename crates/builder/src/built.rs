//! What a build leaves: a folder that `plugin load` takes, or a program. It takes the place of what was built before as a whole.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use bespoke_manifest::{Manifest, Tier};
use toml_edit::{DocumentMut, Item, Table, value};

use crate::{Request, error::BuildError, source::Source};

/// Where the result goes. What is there already has to be a former result.
pub(crate) fn place(source: &Source, request: &Request) -> Result<PathBuf, BuildError> {
    let out = match &request.out {
        Some(out) => std::path::absolute(out).map_err(|e| BuildError::io(out, e))?,
        None => source.target.join("bespoke").join(request.tier.name()).join(&source.manifest.id),
    };
    if may_go(&out) { Ok(out) } else { Err(BuildError::InTheWay { path: out }) }
}

/// Puts what was built there, and returns what to load.
pub(crate) fn put(source: &Source, tier: Tier, artefact: &Path, out: PathBuf) -> Result<PathBuf, BuildError> {
    let is_program = tier == Tier::Compiled;
    let file = match tier {
        Tier::Dylib => format!("plugin{}", env::consts::DLL_SUFFIX),
        Tier::Wasm => "plugin.wasm".to_owned(),
        Tier::Process => format!("plugin{}", env::consts::EXE_SUFFIX),
        _ => format!("{}{}", source.manifest.id, env::consts::EXE_SUFFIX),
    };
    let parent = out.parent().ok_or_else(|| BuildError::InTheWay { path: out.clone() })?;
    fs::create_dir_all(parent).map_err(|e| BuildError::io(parent, e))?;
    // Beside it, so that it is renamed and not copied; hidden, as somebody may search for plugins there.
    let staging = tempfile::Builder::new().prefix(".building-").tempdir_in(parent).map_err(|e| BuildError::io(parent, e))?;
    let folder = staging.path().join("new");
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|e| BuildError::io(&path, e))
    };
    fs::create_dir(&folder).map_err(|e| BuildError::io(&folder, e))?;
    fs::copy(artefact, folder.join(&file)).map_err(|e| BuildError::io(artefact, e))?;
    write("plugin.toml", &manifest(source, tier, &file)?)?;
    if !is_program {
        let schema = source.folder.join("config.schema.json");
        let schema = fs::read_to_string(&schema).map_err(|e| BuildError::io(&schema, e))?;
        write("config.schema.json", &schema)?;
    }
    let failed = |e| BuildError::io(&out, e);
    // Somebody may be at it: what is the same stays the same folder.
    if !is_same(&folder, &out) {
        let old = staging.path().join("old");
        if out.exists() {
            fs::rename(&out, &old).map_err(failed)?;
        }
        if let Err(e) = fs::rename(&folder, &out) {
            // What was there stays; when that fails, too, there is nothing to say but the first reason.
            let _ = fs::rename(&old, &out);
            return Err(failed(e));
        }
    }
    Ok(if is_program { out.join(file) } else { out })
}

/// Whether what was built is there already, byte for byte, and nothing else is.
fn is_same(new: &Path, old: &Path) -> bool {
    let (Ok(entries), Ok(others)) = (new.read_dir(), old.read_dir()) else { return false };
    let names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    let equal = |name: &OsString| matches!((fs::read(new.join(name)), fs::read(old.join(name))), (Ok(a), Ok(b)) if a == b);
    others.count() == names.len() && names.iter().all(equal)
}

/// Whether what is there may be replaced: nothing, an empty folder, or what was built before.
fn may_go(out: &Path) -> bool {
    if !out.exists() {
        return true;
    }
    let is_built = fs::read_to_string(out.join("plugin.toml")).is_ok_and(|text| text.starts_with(WRITTEN));
    is_built || out.read_dir().is_ok_and(|mut entries| entries.next().is_none())
}

/// The first words of each manifest that is written here.
const WRITTEN: &str = "# Written by `bespoke plugin build`";

/// The manifest of what was built: that of the author, for one tier, with what the crate says filled in.
fn manifest(source: &Source, tier: Tier, file: &str) -> Result<String, BuildError> {
    let path = source.folder.join("plugin.toml");
    let path = path.to_string_lossy();
    // It was parsed before.
    let mut document: DocumentMut = source
        .text
        .parse()
        .map_err(|e: toml_edit::TomlError| BuildError::NoPlugin { manifest: source.folder.join("plugin.toml"), why: e.to_string() })?;
    let table = document.as_table_mut();
    table.insert("tiers", value([tier.name()].into_iter().collect::<toml_edit::Array>()));
    if !table.contains_key("version") {
        table.insert("version", value(source.manifest.version.to_string()));
    }
    if !table.contains_key("license") {
        table.insert("license", value(&source.license));
    }
    for other in ["dylib", "wasm", "process"] {
        table.remove(other);
    }
    let mut runs = Table::new();
    match tier {
        Tier::Dylib | Tier::Wasm => drop(runs.insert("file", value(file))),
        Tier::Process => drop(runs.insert("command", value([format!("./{file}")].into_iter().collect::<toml_edit::Array>()))),
        _ => {}
    }
    if !runs.is_empty() {
        table.insert(tier.name(), Item::Table(runs));
    }
    let text = format!("{WRITTEN} from the crate {}.\n{document}", source.package);
    Manifest::parse(&path, &text, None)?;
    Ok(text)
}
