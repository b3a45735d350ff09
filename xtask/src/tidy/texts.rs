//! Rules for the text of files: what modules open with, words that must not stand anywhere, and paths on pages that have to be there.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{shell, workspace::Workspace};

/// Hosts of package registries, in two halves so that this file does not name them. Packages come through the tools of
/// their ecosystem, with the user's own settings.
const REGISTRIES: &[(&str, &str)] = &[
    ("pypi", ".org"),
    ("files.python", "hosted.org"),
    ("crates", ".io"),
    ("npm", "js.com"),
    ("npm", "js.org"),
    ("registry.yarn", "pkg.com"),
    ("ruby", "gems.org"),
];

/// Where programs and people live on some machines, in two halves as above. `/home` counts with a name behind it.
const MACHINE_FOLDERS: &[(&str, &str)] = &[("/wo", "rk/"), ("/ro", "ot/"), ("/ho", "me/")];

/// What a path of the project begins with, where a page names one as code.
const FOLDERS: &[&str] = &["benches/", "crates/", "docs/", "examples/", "xtask/"];

/// Files that tools write, which name their registry.
const BY_TOOLS: &[&str] = &["Cargo.lock", "package-lock.json"];

pub(super) fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let places = machine_places(&workspace.root);
    for file in tracked(workspace)? {
        // Binary files, and files that were deleted but not committed.
        let Ok(text) = fs::read_to_string(workspace.path(&file)) else { continue };
        if file.ends_with(".rs") && is_module(&file) && !text.starts_with("//!") {
            problems.push(format!("{file}:1: a module opens with `//!`: what it is, and what it is not"));
        }
        if file.ends_with(".md") {
            problems.extend(lost(&file, &text, &|path| workspace.path(path).exists()));
        }
        if BY_TOOLS.iter().any(|name| file.ends_with(name)) {
            continue;
        }
        for (n, line) in text.lines().enumerate() {
            for (a, b) in REGISTRIES {
                if line.contains(&format!("{a}{b}")) {
                    problems.push(format!("{file}:{}: names the host of a package registry; name the tool instead", n + 1));
                }
            }
            if let Some(place) = machine_folder(line) {
                problems.push(format!("{file}:{}: `{place}` is a path of one machine; write a relative one", n + 1));
            } else if let Some(place) = places.iter().find(|place| line.contains(place.as_str())) {
                problems.push(format!("{file}:{}: `{place}` is a path of one machine; write a relative one", n + 1));
            }
        }
    }
    Ok(problems)
}

/// All Rust files below a folder.
pub(super) fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Files that belong to the project: known to git, or new and not ignored.
pub(crate) fn tracked(workspace: &Workspace) -> Result<Vec<String>> {
    let mut git = std::process::Command::new("git");
    git.current_dir(&workspace.root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let listing = shell::output(&mut git)?;
    Ok(listing.split('\0').filter(|f| !f.is_empty()).map(str::to_owned).collect())
}

/// Rust files but build scripts and what tests only read.
fn is_module(file: &str) -> bool {
    !file.ends_with("/build.rs") && !file.contains("/fixtures/") && !file.contains("/templates/")
}

/// What a page names that is not there: links from where it lies, and paths of the project in code. What stands in blocks is for typing.
fn lost(page: &str, text: &str, exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let folder = page.rsplit_once('/').map_or_else(String::new, |(folder, _)| format!("{folder}/"));
    let (mut lost, mut block) = (Vec::new(), false);
    for (n, line) in text.lines().enumerate() {
        block ^= line.trim_start().starts_with("```");
        if block {
            continue;
        }
        let code = line.split('`').skip(1).step_by(2);
        let named = code.filter(|code| FOLDERS.iter().any(|top| code.starts_with(top)) && !code.contains(' ')).map(str::to_owned);
        let links = line.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
        let links = links.filter(|link| !link.starts_with('#') && !link.contains("://")).map(|link| format!("{folder}{link}"));
        for path in named.chain(links) {
            if !exists(path.split('#').next().unwrap_or_default()) {
                lost.push(format!("{page}:{}: there is no {path}", n + 1));
            }
        }
    }
    lost
}

/// The first path of a line that lies in one of [`MACHINE_FOLDERS`], up to the folder.
fn machine_folder(line: &str) -> Option<String> {
    MACHINE_FOLDERS.iter().find_map(|(a, b)| {
        let folder = format!("{a}{b}");
        line.match_indices(&folder).find_map(|(at, _)| {
            // `crates/x/work/` is a folder of the project, `https://example.com/home/` an address.
            let inside = line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-})*".contains(c));
            let name: String = line[at + folder.len()..].chars().take_while(|c| c.is_alphanumeric() || "._-".contains(*c)).collect();
            let person = !b.starts_with("me") || !name.is_empty() && line[at + folder.len() + name.len()..].starts_with('/');
            let named = if b.starts_with("me") { format!("{folder}{name}/") } else { folder.clone() };
            (!inside && person).then_some(named)
        })
    })
}

/// This machine's folders for the project and for its user: whoever writes them down ties the project to the machine.
fn machine_places(root: &Path) -> Vec<String> {
    let home = std::env::home_dir();
    let places = [Some(root.to_owned()), home];
    // A home such as `/` or `/a` would be found everywhere.
    places.into_iter().flatten().map(|p| format!("{}/", p.display())).filter(|p| p.len() > 4).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_told_from_other_files() {
        for yes in ["crates/a/src/lib.rs", "crates/a/tests/it/main.rs", "xtask/src/main.rs", "examples/x.rs"] {
            assert!(is_module(yes), "{yes}");
        }
        for no in ["crates/a/build.rs", "crates/a/tests/fixtures/x.rs", "xtask/src/new_plugin/templates/tool.rs"] {
            assert!(!is_module(no), "{no}");
        }
    }

    #[test]
    fn what_a_page_names_is_there() {
        let there = ["crates/a", "docs/b.md"];
        let page = "`crates/a`, `crates/c` [b](b.md#x) [c](c.md) [here](#x) [far](https://example.com/) `a/b`\n```sh\n`crates/d`\n```\n`docs/e f`\n";
        let expected = ["docs/p.md:1: there is no crates/c", "docs/p.md:1: there is no docs/c.md"];
        assert_eq!(lost("docs/p.md", page, &|path| there.contains(&path)), expected);
    }

    #[test]
    fn folders_of_a_machine_are_told_from_other_paths() {
        let [work, root, home] = [0, 1, 2].map(|n| format!("{}{}", MACHINE_FOLDERS[n].0, MACHINE_FOLDERS[n].1));
        for (line, found) in [
            (format!("cd {work}main"), Some(work.clone())),
            (format!("\"{root}x\""), Some(root.clone())),
            (format!("see {home}me/models"), Some(format!("{home}me/"))),
            (format!("{home}<name>"), None),
            (format!("crates/x{work}y"), None),
            (format!("https://example.com{home}me/"), None),
            ("net/working/".to_owned(), None),
        ] {
            assert_eq!(machine_folder(&line), found, "{line}");
        }
    }

    #[test]
    fn places_of_this_machine_are_long_enough_to_mean_something() {
        let places = machine_places(Path::new("/somewhere/project"));
        assert!(places.contains(&"/somewhere/project/".to_owned()));
        assert!(places.iter().all(|p| p.len() > 4));
    }
}
