//! `licenses`: the terms of this program, and of what others made and it contains. Each crate that contains such a file says so itself
//! (`notice!` of the plugin API); what is fetched later is not here: `models list` has its licences.

use std::path::Path;

use bespoke_plugin_api::{Notice, notices};
use serde_json::{Value, json};

use crate::{
    cli::Licenses,
    exit::{Exit, Failure, Result},
    output::{Out, Style},
    shelf::this_program,
};

bespoke_plugin_api::notice! {
    name: "bespoke",
    files: [],
    license: "Apache-2.0",
    text: include_str!("../../../../LICENSE"),
}

/// The crates that were linked, a line each, where whoever built the program listed them: `cargo xtask dist` does.
const CRATES: Option<&str> = option_env!("BESPOKE_CRATES");

/// Their texts, beside the program in a release.
const TEXTS: &str = "THIRD-PARTY.txt";

pub(crate) fn run(out: Out, args: &Licenses) -> Result<()> {
    if args.crates {
        return crates(out);
    }
    let mut all = notices();
    // Its own licence first, then what is in it.
    all.sort_by_key(|notice| !notice.files.is_empty());
    match &args.name {
        Some(name) => one(out, &all, name),
        None if out.json => out.json(&all.iter().map(|notice| value(notice)).collect::<Vec<_>>(), true),
        None => every(out, &all),
    }
}

fn every(out: Out, all: &[&Notice]) -> Result<()> {
    let row = |notice: &&Notice| [notice.name, notice.license, notice.package, &notice.files.join(", ")].map(str::to_owned).to_vec();
    out.table(&["NAME", "LICENCE", "CRATE", "FILES"], &all.iter().map(row).collect::<Vec<_>>())?;
    for notice in all {
        let name = format!("{}: {}", notice.name, notice.license);
        out.line(format!("\n{}\n\n{}", out.paint(Style::Bold, &name), notice.text.trim_end()))?;
    }
    let crates = CRATES.map_or(0, |list| list.lines().count());
    out.note(match crates {
        0 => "the crates that it was linked from keep their own licences: bespoke licenses --crates".to_owned(),
        n => format!("the {n} crates that it was linked from keep their own licences: bespoke licenses --crates"),
    });
    Ok(())
}

fn one(out: Out, all: &[&Notice], name: &str) -> Result<()> {
    let found = all.iter().find(|notice| notice.name == name).or_else(|| all.iter().find(|notice| notice.files.contains(&name)));
    let Some(notice) = found else {
        let near = bespoke_manifest::closest(name, all.iter().map(|notice| notice.name));
        let near = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        return Err(Failure::new(Exit::NotFound, format!("this program contains nothing called `{name}`{near}"))
            .help("bespoke licenses --json | jq -r '.[].name'"));
    };
    if out.json { out.json(&value(notice), true) } else { out.line(notice.text.trim_end()) }
}

fn value(notice: &Notice) -> Value {
    json!({
        "name": notice.name, "license": notice.license, "crate": notice.package, "files": notice.files, "text": notice.text,
    })
}

/// The list that was built in; without one, what a release has beside the program.
fn crates(out: Out) -> Result<()> {
    let beside = this_program().ok().and_then(|program| Some(program.canonicalize().ok()?.with_file_name(TEXTS)));
    let beside = beside.filter(|texts| texts.is_file());
    let Some(list) = CRATES else {
        return match beside {
            Some(texts) if !out.json => print(out, &texts),
            _ => Err(Failure::new(Exit::NotFound, "whoever built this program put no list of its crates into it")
                .help("cargo xtask dist")
                .or("cargo tree -p bespoke --edges normal --format '{p}: {l}'")),
        };
    };
    if out.json {
        let row = |line: &str| {
            let (name, license) = line.split_once(": ").unwrap_or((line, ""));
            let (name, version) = name.rsplit_once(' ').unwrap_or((name, ""));
            json!({ "name": name, "version": version, "license": license })
        };
        return out.json(&list.lines().map(row).collect::<Vec<_>>(), true);
    }
    out.line(list.trim_end())?;
    if let Some(texts) = beside {
        out.note(format!("their texts are in {}", texts.display()));
    }
    Ok(())
}

fn print(out: Out, texts: &Path) -> Result<()> {
    out.line(std::fs::read_to_string(texts).map_err(|e| Failure::failed(format!("{}: {e}", texts.display())))?.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_has_the_notices_of_its_features() {
        let contained: &[&str] = &[
            "bespoke",
            #[cfg(feature = "flite")]
            "flite",
            #[cfg(feature = "process")]
            "python-sdk",
            #[cfg(feature = "demo")]
            "recording-austen",
            #[cfg(feature = "demo")]
            "recording-question",
            #[cfg(feature = "silero-bundled")]
            "silero-vad",
        ];
        assert_eq!(notices().iter().map(|notice| notice.name).collect::<Vec<_>>(), contained);
    }
}
