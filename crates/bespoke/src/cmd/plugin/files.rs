//! `plugin download-files`: every model file that plugins lack, of every tier. Nothing of a plugin that is not part of this binary is run.

use serde_json::{Value, json};

use crate::{
    cli::DownloadFiles,
    cmd::models::{known, look, needs},
    exit::{Exit, Failure, Result},
    models::{Consent, Listed},
    output,
    setup::Setup,
};

/// A file that is not here.
struct Wanted {
    plugin: String,
    listed: Listed,
}

pub(super) async fn run(setup: &Setup, args: &DownloadFiles) -> Result<()> {
    let consent = Consent { yes: true, ..Consent::from(&args.fetching) };
    let asked: Vec<String> = args.ids.iter().chain(&args.plugins).cloned().collect();
    known(setup, &asked)?;
    // Whoever is named gets all its files, and so do all with --all: no need to see who does without.
    if asked.is_empty() && !args.all {
        look(setup).await;
    }
    let mut wanted = Vec::new();
    for row in setup.host.rows() {
        let is_chosen = if asked.is_empty() { args.all || needs(&row) } else { asked.contains(&row.id) };
        let Some(manifest) = setup.host.manifest(&row.id).filter(|_| is_chosen) else { continue };
        let listed = setup.models.list(&row.id, &manifest.models, &consent)?;
        let missing = listed.into_iter().filter(|listed| listed.path.is_none());
        wanted.extend(missing.map(|listed| Wanted { plugin: row.id.clone(), listed }));
    }
    if args.dry_run { announce(setup, &wanted) } else { fetch(setup, &wanted, &consent) }
}

fn announce(setup: &Setup, wanted: &[Wanted]) -> Result<()> {
    let out = setup.out;
    if out.json {
        return out.json(&wanted.iter().map(Wanted::value).collect::<Vec<_>>(), true);
    }
    if wanted.is_empty() {
        out.note("every model file that is needed is here");
        return Ok(());
    }
    let table: Vec<Vec<String>> = wanted.iter().map(Wanted::row).collect();
    out.table(&["PLUGIN", "FILE", "VERSION", "SIZE", "LICENCE", "SOURCE"], &table)?;
    let size = wanted.iter().map(|wanted| wanted.listed.model.size).sum();
    out.note(format!("{} ({}) would be fetched into {}", count(wanted.len()), output::bytes(size), setup.paths.models().display()));
    Ok(())
}

fn fetch(setup: &Setup, wanted: &[Wanted], consent: &Consent) -> Result<()> {
    let out = setup.out;
    if wanted.is_empty() {
        out.note("every model file that is needed is here");
        return if out.json { out.json(&Vec::<Value>::new(), true) } else { Ok(()) };
    }
    let (mut told, mut fetched, mut lacking) = (Vec::new(), 0, Vec::new());
    for of_one in wanted.chunk_by(|a, b| a.plugin == b.plugin) {
        let plugin = &of_one[0].plugin;
        for Wanted { listed, .. } in of_one {
            let model = &listed.model;
            let from = source(listed);
            out.note(format!("{plugin}: {} {} ({}, {}) from {from}", model.file, model.version, output::bytes(model.size), model.license));
        }
        let models: Vec<_> = of_one.iter().map(|wanted| wanted.listed.model.clone()).collect();
        setup.models.fetch_each(plugin, &models, consent, |model, outcome| {
            let error = outcome.err().map(|failure| line(&failure.message));
            match &error {
                None => fetched += 1,
                Some(error) => {
                    out.note(format!("{plugin}: {} not fetched: {error}", model.file));
                    lacking.push(format!("{plugin}/{}", model.file));
                }
            }
            told.push(json!({ "plugin": plugin, "file": model.file, "fetched": error.is_none(), "error": error }));
        })?;
    }
    if out.json {
        out.json(&told, true)?;
    }
    let into = setup.paths.models();
    if lacking.is_empty() {
        out.note(format!("{} fetched into {}", count(fetched), into.display()));
        return Ok(());
    }
    let message = format!("{} fetched, {} not: {}", count(fetched), lacking.len(), lacking.join(", "));
    Err(Failure::new(Exit::Failed, message).help("bespoke models list"))
}

impl Wanted {
    fn row(&self) -> Vec<String> {
        let model = &self.listed.model;
        let [file, version, license] = [&model.file, &model.version, &model.license].map(Clone::clone);
        vec![self.plugin.clone(), file, version, output::bytes(model.size), license, source(&self.listed)]
    }

    fn value(&self) -> Value {
        let Listed { model, from, .. } = &self.listed;
        json!({
            "plugin": self.plugin, "file": model.file, "version": model.version, "size": model.size, "sha256": model.sha256,
            "license": model.license, "source": from,
        })
    }
}

fn source(listed: &Listed) -> String {
    listed.from.clone().unwrap_or_else(|| "nowhere: no source may be used".into())
}

/// What every source answered, in one line.
fn line(message: &str) -> String {
    message.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

fn count(files: usize) -> String {
    if files == 1 { "1 file".into() } else { format!("{files} files") }
}
