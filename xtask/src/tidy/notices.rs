//! What is put into a program comes with its terms: every bundled file has a `notice!` beside it, and every text of LICENSES/ a user. What
//! linked crates bring with them is `third_party`'s; texts and tables of our own, which `include_str!` brings, need none.

use std::fs;

use anyhow::Result;

use crate::workspace::Workspace;

/// The largest file that is bundled. What is larger is fetched when it is needed.
const LARGEST: u64 = 5_000_000;

/// What puts a file, or a folder of them, into a program.
const BUNDLING: &[&str] = &["include_bytes!(", "include_dir!("];

pub(super) fn check(workspace: &Workspace, files: &[String]) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let mut texts: Vec<String> = Vec::new();
    for file in files.iter().filter(|file| is_source(file)) {
        // Deleted, and not committed.
        let Ok(text) = fs::read_to_string(workspace.path(file)) else { continue };
        let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
        for bundled in bundled(&text) {
            problems.extend(unsaid(file, &text, bundled));
            let size = fs::metadata(workspace.path(folder).join(bundled)).map_or(0, |found| if found.is_file() { found.len() } else { 0 });
            if size > LARGEST {
                problems.push(format!("{file}: {bundled} has {size} bytes; what is larger than {LARGEST} is fetched, not bundled"));
            }
        }
        texts.extend(notices(&text).flat_map(|notice| literals(notice, "include_str!(")).map(str::to_owned));
    }
    let readme = workspace.read("LICENSES/README.md")?;
    for file in files.iter().filter_map(|file| file.strip_prefix("LICENSES/")).filter(|file| *file != "README.md") {
        if !workspace.path("LICENSES").join(file).is_file() {
            continue;
        }
        if !texts.iter().any(|text| text.ends_with(&format!("LICENSES/{file}"))) {
            problems.push(format!("LICENSES/{file}: no `notice!` has it as its text; whoever bundles what it is about says so"));
        }
        if !readme.contains(&format!("({file})")) {
            problems.push(format!("LICENSES/README.md: {file} is not in its table"));
        }
    }
    Ok(problems)
}

/// Of a crate, not of its tests.
fn is_source(file: &str) -> bool {
    let mut parts = file.split('/');
    file.ends_with(".rs") && parts.next() == Some("crates") && parts.nth(1) == Some("src")
}

/// Why a bundled file is not covered by a notice in the same source file.
fn unsaid(file: &str, text: &str, bundled: &str) -> Option<String> {
    let covers = |name: &str| !name.is_empty() && (bundled == name || bundled.ends_with(&format!("/{name}")));
    let said =
        notices(text).filter_map(|notice| notice.split_once("files:")?.1.split_once(']')).any(|(names, _)| strings(names).any(covers));
    (!said).then(|| format!("{file}: {bundled} is bundled without its terms; write a `notice!` beside it that names it in `files`"))
}

/// What the file puts into the program: paths as they are written.
fn bundled(text: &str) -> impl Iterator<Item = &str> {
    BUNDLING.iter().flat_map(|opening| literals(text, opening))
}

/// The bodies of `notice!`.
fn notices(text: &str) -> impl Iterator<Item = &str> {
    code(text, "notice! {").map(|rest| rest.split_once("\n}").map_or(rest, |(body, _)| body))
}

/// The first string behind each occurrence; what stands there where it is no literal.
fn literals<'t>(text: &'t str, opening: &'static str) -> impl Iterator<Item = &'t str> {
    code(text, opening).map(|rest| match rest.trim_start().strip_prefix('"').and_then(|rest| rest.split_once('"')) {
        Some((literal, _)) => literal,
        None => rest.lines().next().unwrap_or_default().trim(),
    })
}

/// What stands behind each occurrence that is not in a comment.
fn code<'t>(text: &'t str, opening: &'static str) -> impl Iterator<Item = &'t str> {
    text.match_indices(opening).filter_map(move |(at, _)| {
        let line = text[..at].rsplit('\n').next().unwrap_or_default().trim_start();
        (!line.starts_with("//")).then(|| &text[at + opening.len()..])
    })
}

fn strings(list: &str) -> impl Iterator<Item = &str> {
    list.split('"').skip(1).step_by(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        bundled(text).filter_map(|bundled| unsaid("a.rs", text, bundled)).collect()
    }

    #[test]
    fn a_bundled_file_needs_a_notice_that_names_it() {
        const SAID: &str =
            "bespoke_plugin_api::notice! {\n    name: \"x\",\n    files: [\"b.onnx\", \"sdk/src\"],\n    license: \"MIT\",\n}\n";
        for (text, count) in [
            ("static A: &[u8] = include_bytes!(\"../models/b.onnx\");".to_owned(), 1),
            (format!("{SAID}static A: &[u8] = include_bytes!(\"../models/b.onnx\");"), 0),
            (format!("{SAID}static A: &[u8] = include_bytes!(\n    \"../models/c.onnx\"\n);"), 1),
            (format!("{SAID}static A: &[u8] = include_bytes!(\"../models/bb.onnx\");"), 1),
            (format!("{SAID}static S: Dir = include_dir!(\"$CARGO_MANIFEST_DIR/sdk/src\");"), 0),
            (format!("{SAID}static A: &[u8] = include_bytes!(concat!(env!(\"OUT_DIR\"), \"/b\"));"), 1),
            ("/// include_bytes!(\"x\")\nstatic T: &str = include_str!(\"t.sql\");".to_owned(), 0),
        ] {
            assert_eq!(problems(&text).len(), count, "{text}");
        }
    }

    #[test]
    fn only_sources_of_crates_are_looked_at() {
        for (file, is) in
            [("crates/a/src/b/c.rs", true), ("crates/a/tests/it/c.rs", false), ("xtask/src/c.rs", false), ("crates/a/src/c.md", false)]
        {
            assert_eq!(is_source(file), is, "{file}");
        }
    }
}
