//! `licenses`: the terms of this program, and of what others made and it contains. Each crate that contains such a file says so itself
//! (`notice!` of the plugin API), and a runtime that came with the program has its terms beside it. What is fetched later is not here:
//! `models list` has the licences of models.

use std::path::Path;

use bespoke_plugin_api::{Notice, notices};
use serde_json::{Value, json};

use crate::{
    cli::Licenses,
    exit::{Exit, Failure, Result},
    output::{Out, Style},
    packs,
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

/// What somebody else made, with its terms.
#[derive(Debug)]
pub(crate) struct Terms {
    /// What it is called: `silero-vad`, `onnx:cpu`.
    pub(crate) name: String,
    /// SPDX expression, or words where there is none.
    pub(crate) license: String,
    /// The crate that contains it.
    pub(crate) package: Option<String>,
    /// The files that it covers, or the folder.
    pub(crate) files: Vec<String>,
    /// The texts, complete.
    pub(crate) text: String,
}

pub(crate) fn run(out: Out, args: &Licenses) -> Result<()> {
    if args.crates {
        return crates(out);
    }
    let mut all: Vec<Terms> = notices().into_iter().map(Terms::from).collect();
    // Its own licence first, then what is in it, then what lies beside it.
    all.sort_by_key(|terms| !terms.files.is_empty());
    all.extend(packs::bundled_terms()?);
    match &args.name {
        Some(name) => one(out, &all, name),
        None if out.json => out.json(&all.iter().map(value).collect::<Vec<_>>(), true),
        None => every(out, &all),
    }
}

fn every(out: Out, all: &[Terms]) -> Result<()> {
    let row =
        |terms: &Terms| vec![terms.name.clone(), terms.license.clone(), terms.package.clone().unwrap_or_default(), terms.files.join(", ")];
    out.table(&["NAME", "LICENCE", "CRATE", "FILES"], &all.iter().map(row).collect::<Vec<_>>())?;
    for terms in all {
        let name = format!("{}: {}", terms.name, terms.license);
        out.line(format!("\n{}\n\n{}", out.paint(Style::Bold, &name), terms.text.trim_end()))?;
    }
    let crates = CRATES.map_or(0, |list| list.lines().count());
    out.note(match crates {
        0 => "the crates that it was linked from keep their own licences: bespoke licenses --crates".to_owned(),
        n => format!("the {n} crates that it was linked from keep their own licences: bespoke licenses --crates"),
    });
    Ok(())
}

fn one(out: Out, all: &[Terms], name: &str) -> Result<()> {
    let covers = |terms: &&Terms| terms.files.iter().any(|file| file == name);
    let Some(terms) = all.iter().find(|terms| terms.name == name).or_else(|| all.iter().find(covers)) else {
        let near = bespoke_manifest::closest(name, all.iter().map(|terms| &*terms.name));
        let near = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        return Err(Failure::new(Exit::NotFound, format!("this program contains nothing called `{name}`{near}"))
            .help("bespoke licenses --json | jq -r '.[].name'"));
    };
    if out.json { out.json(&value(terms), true) } else { out.line(terms.text.trim_end()) }
}

fn value(terms: &Terms) -> Value {
    json!({ "name": terms.name, "license": terms.license, "crate": terms.package, "files": terms.files, "text": terms.text })
}

impl From<&Notice> for Terms {
    fn from(notice: &Notice) -> Self {
        Terms {
            name: notice.name.to_owned(),
            license: notice.license.to_owned(),
            package: Some(notice.package.to_owned()),
            files: notice.files.iter().map(|&file| file.to_owned()).collect(),
            text: notice.text.to_owned(),
        }
    }
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
