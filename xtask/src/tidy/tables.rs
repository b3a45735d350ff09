//! The tables of docs/security.md: each test that one names has to be there. What it tries is for people to read.

use anyhow::Result;

use crate::workspace::Workspace;

const PAGE: &str = "docs/security.md";

pub(super) fn check(workspace: &Workspace) -> Result<Vec<String>> {
    Ok(problems(&workspace.read(PAGE)?, &|path| workspace.path(path).exists()))
}

/// The last cell of each row of a table whose last column is called `Tests`.
fn problems(page: &str, exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let (mut problems, mut of_tests) = (Vec::new(), false);
    for (n, line) in page.lines().enumerate() {
        let Some(row) = line.strip_prefix('|').and_then(|row| row.trim_end().strip_suffix('|')) else {
            of_tests = false;
            continue;
        };
        let last = row.rsplit('|').next().unwrap_or_default().trim();
        if last == "Tests" {
            of_tests = true;
        } else if of_tests && !last.starts_with("---") {
            let row = format!("{PAGE}:{}", n + 1);
            problems.extend(missing(last, exists).into_iter().map(|what| format!("{row}: there is no test {what}")));
        }
    }
    problems
}

/// `crate: file, file` is below that crate's tests; what ends in `.rs` is a file of the crate that stands before it, or with its crate.
fn missing(cell: &str, exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let (mut missing, mut of) = (Vec::new(), "");
    for named in cell.split('`').skip(1).step_by(2) {
        let places: Vec<(String, Vec<String>)> = if let Some((krate, files)) = named.split_once(": ") {
            of = krate;
            let below = |file: &str| {
                ["tests/it/", "tests/"]
                    .map(|folder| [format!("crates/{krate}/{folder}{file}.rs"), format!("crates/{krate}/{folder}{file}")])
            };
            files.split(", ").map(|file| (format!("`{krate}: {file}`"), below(file).concat())).collect()
        } else if named.ends_with(".rs") {
            vec![(format!("`{named}`"), vec![format!("crates/{named}"), format!("crates/{of}/{named}")])]
        } else {
            vec![(format!("`{named}`; write `crate: file`"), Vec::new())]
        };
        missing.extend(places.into_iter().filter(|(_, places)| !places.iter().any(|place| exists(place))).map(|(what, _)| what));
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_table_names_is_there() {
        let there = ["crates/sandbox/tests/it/life.rs", "crates/bespoke/tests/tiers", "crates/tool-fetch/src/html.rs"];
        let page = "| Threat | Tests |\n|---|---|\n| a | `sandbox: life, lives` |\n| b | `bespoke: tiers`, and in `src/html.rs` |\n\
                    | c | `tool-fetch: limits`, and in `src/html.rs`, `tool-fetch/src/html.rs` |\n| d | by hand |\n| e | `life` |\n\n\
                    | Other | Column |\n|---|---|\n| f | `nothing: here` |\n";
        let expected = [
            "docs/security.md:3: there is no test `sandbox: lives`",
            "docs/security.md:4: there is no test `src/html.rs`",
            "docs/security.md:5: there is no test `tool-fetch: limits`",
            "docs/security.md:7: there is no test `life`; write `crate: file`",
        ];
        assert_eq!(problems(page, &|path| there.contains(&path)), expected);
    }
}
