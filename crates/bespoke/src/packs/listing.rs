//! Packs in `plugin list` and `plugin info`. Looks at names and sizes of files; loads nothing.

use bespoke_runtimes::{Row, Spec, State};
use serde_json::{Value, json};

use crate::{
    exit::Result,
    output::{Style, bytes},
    setup::{Setup, build_with},
};

/// All packs, in the shape of the rows of plugins.
pub(crate) fn rows(setup: &Setup) -> Vec<Value> {
    setup.packs.packs.rows().iter().map(value).collect()
}

fn value(row: &Row) -> Value {
    json!({
        "id": row.spec.as_str(), "kinds": ["runtime"], "tier": "none", "version": row.version, "state": state(&row.state),
        "health": "unknown", "reason": reason(row), "fix": fix(row), "versions": row.versions, "previous": row.previous, "pinned": row.pinned,
        "size": row.size, "download": row.download, "path": row.path,
    })
}

/// Those that can be of use here; `after` another table.
pub(crate) fn table(setup: &Setup, after: bool) -> Result<()> {
    let rows = setup.packs.packs.rows();
    let rows: Vec<Vec<String>> = rows
        .iter()
        .filter(|row| !matches!(row.state, State::NotForPlatform))
        .map(|row| {
            let place = row.path.as_ref().map(|path| path.display().to_string());
            let size = match (row.download, row.size) {
                (Some(download), _) => format!("{} to download", bytes(download)),
                (None, Some(size)) => bytes(size),
                _ => String::new(),
            };
            let why = reason(row).or(place).into_iter().chain(fix(row).map(|fix| format!("→ {fix}"))).collect::<Vec<_>>().join("  ");
            vec![row.spec.to_string(), row.version.clone().unwrap_or_default(), state(&row.state).into(), size, why]
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    if after {
        setup.out.line("")?;
    }
    setup.out.table(&["RUNTIME", "VERSION", "STATE", "SIZE", "WHERE"], &rows)
}

/// One of them in detail; `None` when it is called otherwise.
pub(crate) fn info(setup: &Setup, name: &str) -> Option<Result<()>> {
    name.parse().ok().map(|spec| of(setup, spec))
}

fn of(setup: &Setup, spec: Spec) -> Result<()> {
    let row = setup.packs.packs.row(spec);
    let out = setup.out;
    if out.json {
        return out.json(&value(&row), true);
    }
    let line = |key: &str, value: &str| if value.is_empty() { Ok(()) } else { out.line(format!("{key:<12} {value}")) };
    out.line(format!("{} {}", out.paint(Style::Bold, spec.as_str()), row.version.clone().unwrap_or_default()))?;
    line("state", state(&row.state))?;
    line("why", &reason(&row).unwrap_or_default())?;
    line("try", &fix(&row).unwrap_or_default())?;
    line("size", &row.size.map(bytes).unwrap_or_default())?;
    line("download", &row.download.map(bytes).unwrap_or_default())?;
    line("folder", &row.path.as_ref().map(|path| path.display().to_string()).unwrap_or_default())?;
    line("versions", &row.versions.join(", "))?;
    line("previous", row.previous.as_deref().unwrap_or_default())?;
    if let Ok(found) = setup.packs.packs.find(spec) {
        line("library", &found.library.display().to_string())?;
        for (n, library) in found.preload.iter().enumerate() {
            line(if n == 0 { "before it" } else { "" }, &library.display().to_string())?;
        }
    }
    Ok(())
}

fn state(state: &State) -> &'static str {
    match state {
        State::Installed => "installed",
        State::Bundled => "bundled",
        State::Broken(_) => "broken",
        State::NeedsFeature(_) => "missing",
        State::NotForPlatform => "unsupported",
        _ => "available",
    }
}

fn reason(row: &Row) -> Option<String> {
    match &row.state {
        State::Broken(why) => Some(why.clone()),
        State::NeedsFeature(feature) => Some(format!("this binary lacks the feature {feature}")),
        State::NotForPlatform => Some("there is none for this system".into()),
        _ => None,
    }
}

fn fix(row: &Row) -> Option<String> {
    match &row.state {
        State::Broken(_) | State::Available => Some(format!("bespoke plugin install {}", row.spec)),
        State::NeedsFeature(feature) => Some(build_with(&[feature])),
        State::Installed if row.outdated => Some(format!("bespoke plugin update {}", row.spec)),
        _ => None,
    }
}
