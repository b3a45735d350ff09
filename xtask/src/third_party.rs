//! THIRD-PARTY.txt: the crates that a binary links, with their licences and the texts that come with them. What is not a
//! crate, such as models and voices, stands in LICENSES/.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow};
use cargo_metadata::Package;

use crate::{
    shell,
    workspace::{APP, Workspace},
};

/// What the names of files with terms begin with, in capitals.
const BEGINNINGS: &[&str] = &["LICENSE", "LICENCE", "NOTICE", "COPYING", "COPYRIGHT", "UNLICENSE", "THIRD-PARTY", "THIRD_PARTY"];

/// Folders that hold one file per licence.
const FOLDERS: &[&str] = &["LICENSES", "LICENCES"];

/// What stands between two texts.
const RULE: &str = "================================================================================";

/// One crate of others.
pub(crate) struct Crate {
    name: String,
    version: String,
    /// SPDX expression as its manifest has it.
    license: String,
    /// File names and texts, sorted by name.
    texts: Vec<(String, String)>,
}

/// The crates of others that the app links with these features on this target, sorted.
pub(crate) fn crates(workspace: &Workspace, features: &[String], target: &str) -> Result<Vec<Crate>> {
    let linked = linked(workspace, features, target)?;
    let metadata = workspace.metadata(true)?;
    let mut crates = Vec::new();
    for (name, version) in &linked {
        let package = metadata.packages.iter().find(|p| p.name == *name && p.version.to_string() == *version);
        let package = package.ok_or_else(|| anyhow!("cargo tree lists {name} {version}, cargo metadata does not"))?;
        // Without a source it is ours.
        if package.source.is_some() {
            crates.push(read(package)?);
        }
    }
    Ok(crates)
}

/// Each with its licence, a line each.
pub(crate) fn list(crates: &[Crate]) -> String {
    let line = |c: &Crate| format!("{} {}: {}\n", c.name, c.version, c.license);
    crates.iter().map(line).collect()
}

/// Name and version of what the app links: `cargo tree` knows the features of one package alone, where `cargo metadata`
/// takes those of the whole workspace together.
fn linked(workspace: &Workspace, features: &[String], target: &str) -> Result<BTreeSet<(String, String)>> {
    let list = features.join(",");
    let mut args = vec!["tree", "--locked", "-p", APP, "--no-default-features", "--features", &list, "--target", target];
    args.extend(["--edges", "normal", "--prefix", "none", "--format", "{p}"]);
    let tree = shell::output(&mut shell::cargo(&workspace.root, &args))?;
    Ok(rows(&tree))
}

/// A line is `name v1.2.3`, with a path, `(proc-macro)` or `(*)` behind it.
fn rows(tree: &str) -> BTreeSet<(String, String)> {
    let row = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.strip_prefix('v')?.to_owned()))
    };
    tree.lines().filter_map(row).collect()
}

fn read(package: &Package) -> Result<Crate> {
    let folder = package.manifest_path.parent().map(|p| p.as_std_path()).unwrap_or(Path::new("."));
    let mut files = files_with_terms(folder)?;
    files.extend(package.license_file().map(|p| p.into_std_path_buf()).filter(|p| p.is_file()));
    files.sort();
    files.dedup();
    let mut texts = Vec::new();
    for file in files {
        let bytes = fs::read(&file).with_context(|| file.display().to_string())?;
        let name = file.strip_prefix(folder).unwrap_or(&file).display().to_string();
        texts.push((name, plain(&String::from_utf8_lossy(&bytes))));
    }
    let license = package.license.clone().unwrap_or_else(|| "see its text".into());
    Ok(Crate { name: package.name.to_string(), version: package.version.to_string(), license, texts })
}

fn files_with_terms(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().to_uppercase()).unwrap_or_default();
        if path.is_dir() && FOLDERS.contains(&name.as_str()) {
            for entry in fs::read_dir(&path)? {
                found.extend(Some(entry?.path()).filter(|p| p.is_file()));
            }
        } else if path.is_file() && !name.ends_with(".RS") && BEGINNINGS.iter().any(|b| name.starts_with(b)) {
            found.push(path);
        }
    }
    Ok(found)
}

/// The same text whatever the editor: no space at the ends of lines, no empty lines around.
fn plain(text: &str) -> String {
    let lines: Vec<&str> = text.trim_start_matches('\u{feff}').lines().map(str::trim_end).collect();
    lines.join("\n").trim_matches('\n').to_owned()
}

/// First every crate with its licence, then every text once, with the crates that it belongs to.
pub(crate) fn page(crates: &[Crate]) -> String {
    let mut out = String::from(
        "Crates that this program contains or was built with, and their licences.\n\
         The Rust standard library is in it too: MIT OR Apache-2.0. Models, voices and recordings: see LICENSES/.\n\n",
    );
    let mut order: Vec<&str> = Vec::new();
    let mut owners: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for c in crates {
        let without = if c.texts.is_empty() { " (comes without a text)" } else { "" };
        let _ = writeln!(out, "{} {}: {}{without}", c.name, c.version, c.license);
        for (file, text) in &c.texts {
            if !owners.contains_key(text.as_str()) {
                order.push(text);
            }
            owners.entry(text).or_default().insert(format!("{} {} ({file})", c.name, c.version));
        }
    }
    for text in order {
        let names: Vec<&str> = owners.get(text).into_iter().flatten().map(String::as_str).collect();
        let _ = write!(out, "\n{RULE}\n{}\n{RULE}\n\n{text}\n", names.join("\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn rows_of_a_tree_are_read_once() {
        let tree = "bespoke v0.1.0 (/x)\nserde v1.0.229\nserde v1.0.229 (*)\nasync-trait v0.1.92 (proc-macro)\n\n[build-dependencies]\n";
        let found: Vec<_> = rows(tree).into_iter().map(|(name, version)| format!("{name} {version}")).collect();
        assert_eq!(found, ["async-trait 0.1.92", "bespoke 0.1.0", "serde 1.0.229"]);
    }

    #[test]
    fn a_text_stands_once_with_all_its_crates() {
        let one = |name: &str, license: &str, texts: &[(&str, &str)]| Crate {
            name: name.into(),
            version: "1.0.0".into(),
            license: license.into(),
            texts: texts.iter().map(|(file, text)| ((*file).to_owned(), plain(text))).collect(),
        };
        let crates = [
            one("a", "MIT OR Apache-2.0", &[("LICENSE-APACHE", "Apache\r\nterms \r\n"), ("LICENSE-MIT", "MIT of a\n")]),
            one("b", "Apache-2.0", &[("LICENSE", "\nApache\nterms\n")]),
            one("c", "ISC", &[]),
        ];
        expect![[r#"
            Crates that this program contains or was built with, and their licences.
            The Rust standard library is in it too: MIT OR Apache-2.0. Models, voices and recordings: see LICENSES/.

            a 1.0.0: MIT OR Apache-2.0
            b 1.0.0: Apache-2.0
            c 1.0.0: ISC (comes without a text)

            ================================================================================
            a 1.0.0 (LICENSE-APACHE)
            b 1.0.0 (LICENSE)
            ================================================================================

            Apache
            terms

            ================================================================================
            a 1.0.0 (LICENSE-MIT)
            ================================================================================

            MIT of a
        "#]]
        .assert_eq(&page(&crates));
    }

    #[test]
    fn files_with_terms_are_found_and_others_are_not() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("LICENSES")).unwrap();
        for name in ["LICENSE-MIT", "license.md", "COPYING", "Notice.txt", "license.rs", "README.md", "LICENSES/ISC.txt"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let found = files_with_terms(folder.path()).unwrap();
        let mut found: Vec<_> = found.iter().map(|p| p.strip_prefix(folder.path()).unwrap().display().to_string()).collect();
        found.sort();
        assert_eq!(found, ["COPYING", "LICENSE-MIT", "LICENSES/ISC.txt", "Notice.txt", "license.md"]);
    }

    #[test]
    fn what_the_app_links_is_all_there() {
        let workspace = Workspace::here().unwrap();
        let target = crate::dist::host().unwrap();
        // `models` brings crates that nothing else has.
        let crates = crates(&workspace, &["flite".to_owned(), "models".to_owned()], &target).unwrap();
        let text = page(&crates);
        assert!(list(&crates).lines().any(|line| line == "flite-rs 0.2.0: Apache-2.0"), "{}", list(&crates));
        assert!(text.contains("\nflite-rs 0.2.0: Apache-2.0") && text.contains("\nindicatif "), "{text:.2000}");
        assert!(!text.contains("\nbespoke") && !text.contains("\nrten "), "{text:.2000}");
        assert!(text.contains("Permission is hereby granted, free of charge"));
    }
}
