//! `models remove`: files in the folder of model files are deleted. Never outside of it, never through a link.

use std::{fs, path::Path};

use serde_json::json;

use super::{count, kept, kept::Kept, unused};
use crate::{
    cli::RemoveModels,
    exit::{Exit, Failure, Result},
    output,
    setup::Setup,
};

pub(super) fn run(setup: &Setup, args: &RemoveModels) -> Result<()> {
    let (out, root) = (setup.out, setup.paths.models());
    let kept = kept::all(&root);
    let mut chosen = if args.all {
        kept
    } else if args.unused {
        unused(setup)
    } else {
        let mut chosen = Vec::new();
        for what in &args.what {
            chosen.extend(named(setup, &kept, what)?);
        }
        chosen
    };
    chosen.sort_by(|a, b| a.name.cmp(&b.name));
    chosen.dedup_by(|a, b| a.name == b.name);
    let files = count(chosen.len());
    let size = |chosen: &[Kept]| output::bytes(chosen.iter().map(|kept| kept.size).sum());
    if args.dry_run || chosen.is_empty() {
        if out.json {
            return out.json(&json!({ "removed": [], "would_remove": values(&chosen), "bytes": 0 }), true);
        }
        for kept in &chosen {
            out.line(line(kept))?;
        }
        out.note(match chosen.len() {
            0 => "there is nothing to delete".to_owned(),
            _ => format!("{files} would be deleted, {} freed", size(&chosen)),
        });
        return Ok(());
    }
    if !args.yes {
        chosen.iter().for_each(|kept| out.note(line(kept)));
        if !output::can_ask() {
            let message = format!("{files} ({}) would be deleted, and nobody can be asked here", size(&chosen));
            return Err(Failure::new(Exit::Consent, message).help("the same command with --yes"));
        }
        if !output::ask(&format!("Delete {files} ({})?", size(&chosen)))? {
            return Err(Failure::new(Exit::Consent, "nothing was deleted"));
        }
    }
    let (mut removed, mut failed) = (Vec::new(), Vec::new());
    for kept in chosen {
        match remove(&root, &kept) {
            Ok(()) => removed.push(kept),
            Err(why) => failed.push(format!("{}: {why}", kept.path.display())),
        }
    }
    if out.json {
        let bytes: u64 = removed.iter().map(|kept| kept.size).sum();
        out.json(&json!({ "removed": values(&removed), "would_remove": [], "bytes": bytes }), true)?;
    } else {
        out.note(format!("{} deleted, {} freed", count(removed.len()), size(&removed)));
    }
    if failed.is_empty() { Ok(()) } else { Err(Failure::failed(failed.join("\n"))) }
}

/// The files that a word of the user means: a plugin, PLUGIN/FILE, or a name alone that stands for one file.
fn named(setup: &Setup, kept: &[Kept], what: &str) -> Result<Vec<Kept>> {
    let of_plugin: Vec<Kept> = kept.iter().filter(|kept| kept.plugin() == what).cloned().collect();
    if let Some(link) = of_plugin.iter().find(|kept| kept.is_link && kept.file().is_empty()) {
        let message = format!("{} is a link: what lies behind it is not deleted", link.path.display());
        return Err(Failure::new(Exit::Conflict, message).help(format!("rm {}", super::quoted(&link.path))));
    }
    if !of_plugin.is_empty() {
        return Ok(of_plugin);
    }
    let is_named = |kept: &&Kept| {
        let last = kept.name.rsplit('/').next();
        kept.name == what || !what.is_empty() && kept.file() == what || last == Some(what) || kept.path == Path::new(what)
    };
    match &kept.iter().filter(is_named).collect::<Vec<_>>()[..] {
        [one] => return Ok(vec![(*one).clone()]),
        [] => {}
        several => {
            let names: Vec<&str> = several.iter().map(|kept| kept.name.as_str()).collect();
            let message = format!("`{what}` may be {}", names.join(" or "));
            return Err(Failure::new(Exit::Usage, message).help(format!("bespoke models remove {}", names[0])));
        }
    }
    let rows = setup.host.rows();
    let manifests = || rows.iter().filter_map(|row| Some((row.id.as_str(), setup.host.manifest(&row.id)?)));
    let is_model = |(id, file): (&str, &str)| file == what || format!("{id}/{file}") == what || file.rsplit('/').next() == Some(what);
    if rows.iter().any(|row| row.id == what)
        || manifests().any(|(id, manifest)| manifest.models.iter().any(|model| is_model((id, &model.file))))
    {
        // It is gone already, or lies where this program deletes nothing.
        setup.out.note(format!("nothing of {what} is in {}", setup.paths.models().display()));
        return Ok(Vec::new());
    }
    let names = kept.iter().flat_map(|kept| [kept.plugin(), &kept.name]);
    let near = bespoke_manifest::closest(what, names).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
    Err(Failure::new(Exit::NotFound, format!("no plugin and no model file is called `{what}`{near}")).help("bespoke models list"))
}

/// **Invariant:** no folder between the root and the file is a link when the file is deleted; of a link, the link is.
fn remove(root: &Path, kept: &Kept) -> Result<(), String> {
    let mut folder = root.to_owned();
    let mut above = Vec::new();
    let parts: Vec<&str> = kept.name.split('/').collect();
    for part in &parts[..parts.len() - 1] {
        folder.push(part);
        match fs::symlink_metadata(&folder) {
            Ok(found) if found.is_dir() => above.push(folder.clone()),
            Ok(_) => return Err(format!("{} is a link by now", folder.display())),
            Err(error) => return Err(error.to_string()),
        }
    }
    match fs::remove_file(&kept.path) {
        // Somebody was faster.
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.to_string()),
        _ => {}
    }
    // Folders that are empty now go, too; one that is not stays.
    for folder in above.iter().rev() {
        if fs::remove_dir(folder).is_err() {
            break;
        }
    }
    Ok(())
}

fn line(kept: &Kept) -> String {
    let what = if kept.is_link { "a link".to_owned() } else { output::bytes(kept.size) };
    format!("{} ({what})", kept.name)
}

fn values(kept: &[Kept]) -> Vec<serde_json::Value> {
    kept.iter().map(|kept| json!({ "plugin": kept.plugin(), "file": kept.file(), "size": kept.size, "path": kept.path })).collect()
}
