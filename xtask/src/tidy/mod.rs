//! `tidy`: what the compiler does not check. Each check returns its problems, so that all are shown at once.

mod layers;
mod notices;
mod plugins;
mod portable;
mod tables;
mod texts;

use anyhow::{Result, bail};

use crate::{codegen, workspace::Workspace};

/// Runs all checks.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let mut problems = layers::check(&workspace.metadata(true)?);
    problems.extend(texts::check(workspace)?);
    problems.extend(tables::check(workspace)?);
    problems.extend(notices::check(workspace, &project_files(workspace)?)?);
    match plugin_problems(workspace) {
        Ok(more) => problems.extend(more),
        Err(error) => problems.push(format!("{error:#}")),
    }
    for problem in &problems {
        eprintln!("tidy: {problem}");
    }
    match problems.len() {
        0 => Ok(()),
        1 => bail!("tidy found 1 problem"),
        n => bail!("tidy found {n} problems"),
    }
}

/// What is wrong with plugins and generated files alone: all that a new plugin can break.
pub(crate) fn plugin_problems(workspace: &Workspace) -> Result<Vec<String>> {
    let all = workspace.plugins()?;
    let mut problems = plugins::check(workspace, &all)?;
    problems.extend(portable::check(workspace, &all)?);
    problems.extend(stale(workspace, &all)?);
    Ok(problems)
}

/// Files that belong to the project, relative to its root.
pub(crate) fn project_files(workspace: &Workspace) -> Result<Vec<String>> {
    texts::tracked(workspace)
}

fn stale(workspace: &Workspace, plugins: &[crate::workspace::Plugin]) -> Result<Vec<String>> {
    let files = codegen::files(workspace, plugins)?;
    let stale = files.iter().filter(|(path, text)| workspace.read(path).ok().as_ref() != Some(text));
    Ok(stale.map(|(path, _)| format!("{path} is not what would be generated; run `cargo xtask codegen`")).collect())
}
