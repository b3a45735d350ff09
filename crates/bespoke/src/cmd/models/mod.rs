//! `models`: which files plugins need, which are here, whether they are right. Fetching them is `plugin download-files`.

mod kept;
mod remove;

use std::path::{Path, PathBuf};

use bespoke_host::{Row, Selection, State, Tier};
use bespoke_manifest::Model;
use serde_json::{Value, json};

use self::kept::Kept;
use crate::{
    cli::Models,
    exit::{Exit, Failure, Result},
    models::{self, Consent, Listed},
    output::{self, Style},
    setup::Setup,
};

pub(crate) async fn run(setup: &Setup, verb: Option<Models>) -> Result<()> {
    match verb {
        None | Some(Models::List) => list(setup).await,
        Some(Models::Verify { plugins }) => verify(setup, &plugins).await,
        Some(Models::Remove(args)) => remove::run(setup, &args),
    }
}

/// Starts the plugins of this binary, to see which files they do without. Nothing of others is run: not even one that a plugin of this
/// binary works with.
pub(crate) async fn look(setup: &Setup) {
    let rows = setup.host.rows();
    let mut ours: Vec<String> = rows.iter().filter(|row| row.tier == Tier::Compiled).map(|row| row.id.clone()).collect();
    loop {
        let before = ours.len();
        let known = ours.clone();
        let is_ours = |id: &String| known.contains(id) || !rows.iter().any(|row| row.id == *id);
        ours.retain(|id| setup.host.manifest(id).is_none_or(|m| m.requires.iter().all(|other| is_ours(&other.plugin))));
        if ours.len() == before {
            break;
        }
    }
    setup.host.start(Selection::Ids(&ours)).await;
}

/// Whether a plugin needs the files that it lacks, as far as is known: one that serves does without, and one that is switched off needs
/// nothing.
pub(crate) fn needs(row: &Row) -> bool {
    !matches!(row.state, State::Ready | State::Disabled)
}

async fn list(setup: &Setup) -> Result<()> {
    look(setup).await;
    let (mut rows, mut is_missing) = (Vec::new(), false);
    for row in setup.host.rows() {
        let Some(manifest) = setup.host.manifest(&row.id) else { continue };
        for Listed { model, path, from } in setup.models.list(&row.id, &manifest.models, &Consent::default())? {
            let state = match &path {
                Some(_) => "here",
                None if needs(&row) => "missing",
                None => "not needed",
            };
            is_missing |= state == "missing";
            rows.push(Line { from, path, ..Line::of(&row.id, &model, state) });
        }
    }
    let unused = unused(setup);
    rows.extend(unused.iter().map(Line::of_unused));
    let out = setup.out;
    if out.json {
        return out.json(&rows.iter().map(Line::value).collect::<Vec<_>>(), true);
    }
    if rows.is_empty() {
        return out.line("no plugin of this program needs a model file");
    }
    let table: Vec<Vec<String>> = rows
        .iter()
        .map(|line| {
            let place = line.path.as_deref().map(models::folder).unwrap_or_default();
            let [plugin, file, version, license] = [&line.plugin, &line.file, &line.version, &line.license].map(Clone::clone);
            vec![plugin, file, version, output::bytes(line.size), license, line.state.to_owned(), place]
        })
        .collect();
    out.table(&["PLUGIN", "FILE", "VERSION", "SIZE", "LICENCE", "STATE", "PLACE"], &table)?;
    if is_missing {
        out.note("  try: bespoke plugin download-files");
    }
    if !unused.is_empty() {
        out.note("  try: bespoke models remove --unused --dry-run");
    }
    Ok(())
}

/// Every file is read, whatever was verified before.
async fn verify(setup: &Setup, ids: &[String]) -> Result<()> {
    known(setup, ids)?;
    look(setup).await;
    let mut lines = Vec::new();
    let chosen = |id: &str| ids.is_empty() || ids.iter().any(|asked| asked == id);
    for row in setup.host.rows().into_iter().filter(|row| chosen(&row.id)) {
        let Some(manifest) = setup.host.manifest(&row.id) else { continue };
        for model in &manifest.models {
            let line = |state, path: Option<PathBuf>, why: String| Line { path, why, ..Line::of(&row.id, model, state) };
            let checked = setup.models.verify(&row.id, model)?;
            lines.extend(checked.wrong.iter().map(|(path, why)| line("wrong", Some(path.clone()), why.clone())));
            match checked.right.is_empty() {
                false => lines.extend(checked.right.iter().map(|path| line("right", Some(path.clone()), String::new()))),
                // One that is wrong is not missing, too.
                true if !checked.wrong.is_empty() => {}
                true => lines.push(line(if needs(&row) { "missing" } else { "not needed" }, None, String::new())),
            }
        }
    }
    lines.extend(unused(setup).iter().filter(|kept| chosen(kept.plugin())).map(Line::of_unused));
    let out = setup.out;
    if out.json {
        out.json(&lines.iter().map(Line::value).collect::<Vec<_>>(), true)?;
    } else if lines.is_empty() {
        out.line("no plugin of this program needs a model file")?;
    } else {
        for line in &lines {
            let style = match line.state {
                "right" => Style::Green,
                "wrong" | "missing" => Style::Red,
                _ => Style::Dim,
            };
            let state = format!("{:<10}", line.state);
            let place = line.path.as_ref().map_or_else(|| format!("{}/{}", line.plugin, line.file), |path| path.display().to_string());
            let why = if line.why.is_empty() { String::new() } else { format!(" {}", line.why) };
            out.line(format!("{} {place}{why}", out.paint(style, &state)))?;
        }
    }
    verdict(setup, &lines)
}

fn verdict(setup: &Setup, lines: &[Line]) -> Result<()> {
    let of = |state: &str| lines.iter().filter(|line| line.state == state).collect::<Vec<_>>();
    let (right, wrong, missing, unused) = (of("right"), of("wrong"), of("missing"), of("unused"));
    if !unused.is_empty() {
        let size = unused.iter().map(|line| line.size).sum();
        setup.out.note(format!(
            "{} that no plugin needs ({})\n  try: bespoke models remove --unused --dry-run",
            count(unused.len()),
            output::bytes(size)
        ));
    }
    if wrong.is_empty() && missing.is_empty() {
        setup.out.note(format!("{} read, all as they should be", count(right.len())));
        return Ok(());
    }
    let told = [(wrong.len(), "wrong"), (missing.len(), "missing")];
    let told: Vec<String> = told.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", count(*n))).collect();
    let mut failure =
        Failure::new(Exit::Verification, format!("{}, of {}", told.join(" and "), count(right.len() + wrong.len() + missing.len())));
    // What lies in a folder of somebody else is not replaced: only whoever put it there can.
    let ours = setup.paths.models();
    let (own, theirs): (Vec<&Line>, Vec<&Line>) =
        wrong.into_iter().partition(|line| line.path.as_ref().is_some_and(|path| path.starts_with(&ours)));
    let mut plugins: Vec<&str> = own.iter().chain(&missing).map(|line| line.plugin.as_str()).collect();
    plugins.sort_unstable();
    plugins.dedup();
    if !plugins.is_empty() {
        failure = failure.help(format!("bespoke plugin download-files {}", plugins.join(" ")));
    }
    for path in theirs.iter().filter_map(|line| line.path.as_deref()) {
        let remove = format!("rm {}", quoted(path));
        failure = if failure.help.is_none() { failure.help(remove) } else { failure.or(remove) };
    }
    Err(failure)
}

/// Refuses ids that nobody has.
pub(crate) fn known(setup: &Setup, ids: &[String]) -> Result<()> {
    let rows = setup.host.rows();
    match ids.iter().find(|id| !rows.iter().any(|row| row.id == **id)) {
        Some(unknown) => Err(setup.no_plugin(unknown)),
        None => Ok(()),
    }
}

/// Files that no plugin needs. Of one whose manifest cannot be read nothing is known, so that its files are left alone.
fn unused(setup: &Setup) -> Vec<Kept> {
    let rows = setup.host.rows();
    let mut kept = kept::all(&setup.paths.models());
    kept.retain(|kept| match setup.host.manifest(kept.plugin()) {
        // A link may stand for the folder of a plugin, or for one in it.
        Some(manifest) if kept.is_link => {
            let leads_to = |file: &str| Path::new(file).starts_with(kept.file());
            !manifest.models.iter().any(|model| leads_to(&model.file))
        }
        Some(manifest) => !manifest.models.iter().any(|model| kept.file() == model.file),
        None => !rows.iter().any(|row| row.id == kept.plugin()),
    });
    kept
}

fn count(files: usize) -> String {
    if files == 1 { "1 file".into() } else { format!("{files} files") }
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

/// A row of what is listed.
#[derive(Debug, Clone, Default)]
struct Line {
    plugin: String,
    file: String,
    version: String,
    size: u64,
    sha256: Option<String>,
    license: String,
    state: &'static str,
    path: Option<PathBuf>,
    /// Where it would come from.
    from: Option<String>,
    /// What differs from what it should be.
    why: String,
}

impl Line {
    fn of(plugin: &str, model: &Model, state: &'static str) -> Self {
        Line {
            plugin: plugin.to_owned(),
            file: model.file.clone(),
            version: model.version.clone(),
            size: model.size,
            sha256: Some(model.sha256.clone()),
            license: model.license.clone(),
            state,
            ..Line::default()
        }
    }

    fn of_unused(kept: &Kept) -> Self {
        let (plugin, file) = kept.name.split_once('/').unwrap_or(("", &kept.name));
        Line {
            plugin: plugin.to_owned(),
            file: file.to_owned(),
            size: kept.size,
            state: "unused",
            path: Some(kept.path.clone()),
            ..Line::default()
        }
    }

    fn value(&self) -> Value {
        let text = |text: &str| if text.is_empty() { Value::Null } else { json!(text) };
        json!({
            "plugin": text(&self.plugin), "file": self.file, "version": text(&self.version), "size": self.size, "sha256": self.sha256,
            "license": text(&self.license), "state": self.state, "path": self.path, "source": self.from, "reason": text(&self.why),
        })
    }
}
