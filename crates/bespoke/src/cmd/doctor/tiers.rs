//! Plugins outside of this binary: the folders where they lie, the wall that this machine can build, what waits for consent, and those
//! that need more of a wall than there is.

use std::{fs, io, path::PathBuf, process::Command};

use bespoke_host::{Sandbox, State, Tier, tiers};

use super::report::{Report, Verdict};
use crate::{
    setup::{Setup, build_with},
    shelf::Shelf,
};

pub(crate) fn check(report: &mut Report, setup: &Setup) {
    report.group("Plugins outside of this binary");
    folders(report, &setup.shelf);
    let rows = setup.host.rows();
    let outside = rows.iter().filter(|row| row.tier != Tier::Compiled).count();
    if tiers().is_empty() {
        let verdict = if outside > 0 { Verdict::Problem } else { Verdict::Skipped };
        let fix = (outside > 0).then(|| build_with(&["process"]));
        report.add("wall", verdict, "this binary runs no plugins in processes of their own", fix);
        return;
    }
    let mut lacking = Vec::new();
    // A library has no wall on any machine: what it asks of its user is trust.
    for driver in tiers().into_iter().filter(|driver| driver.tier != Tier::Dylib) {
        for ability in (driver.abilities)() {
            let name = format!("wall: {}", ability.name);
            if ability.enforced {
                report.ok(&name, format!("{}: {}", driver.tier.name(), ability.detail));
            } else {
                // With no plugin behind it, a lower wall is worth knowing, and no more.
                let verdict = if outside > 0 { Verdict::Warning } else { Verdict::Skipped };
                report.add(&name, verdict, format!("{}: not enforced here: {}", driver.tier.name(), ability.detail), None);
                lacking.push(ability.name);
            }
        }
    }
    python(report, outside > 0);
    match rows.iter().filter(|row| row.state == State::Blocked).map(|row| row.id.as_str()).collect::<Vec<_>>() {
        waiting if waiting.is_empty() => report.ok("consent", "no plugin waits for it"),
        waiting => {
            let message = format!("{} do not start until you have looked at what they ask for", waiting.join(", "));
            report.add("consent", Verdict::Warning, message, Some(format!("bespoke plugin info {}", waiting[0])));
        }
    }
    let everywhere = setup.config.plugin_defaults().map_or(Sandbox::Auto, |defaults| defaults.sandbox);
    for row in rows.iter().filter(|row| row.tier != Tier::Compiled) {
        let own = setup.config.plugin_settings(&row.id).ok().and_then(|settings| settings.sandbox);
        if own.unwrap_or(everywhere) == Sandbox::Required && !lacking.is_empty() && row.state != State::Ready {
            let reason = row.reason.clone().unwrap_or_else(|| format!("this machine does not enforce {}", lacking.join(", ")));
            let fix = format!("bespoke plugin info {}", row.id);
            report.add(&format!("sandbox of {}", row.id), Verdict::Problem, format!("required, so it does not start: {reason}"), Some(fix));
        }
    }
}

fn folders(report: &mut Report, shelf: &Shelf) {
    for folder in shelf.folders() {
        match fs::read_dir(&folder) {
            Ok(_) => {
                let of_folder = shelf.found().iter().filter(|found| PathBuf::from(&found.origin).parent() == Some(&folder)).count();
                report.ok("plugin folders", format!("{}: {of_folder} found", folder.display()));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                report.skip("plugin folders", format!("{} is not there", folder.display()));
            }
            Err(error) => {
                let fix = format!("ls -ld {}", folder.display());
                report.add("plugin folders", Verdict::Problem, format!("{} cannot be read: {error}", folder.display()), Some(fix));
            }
        }
    }
}

/// Whether plugins in Python would run.
fn python(report: &mut Report, needed: bool) {
    let name = std::env::var_os("BESPOKE_PYTHON").filter(|name| !name.is_empty()).unwrap_or_else(|| "python3".into());
    let shown = name.to_string_lossy().into_owned();
    match Command::new(&name).arg("--version").output() {
        Ok(output) if output.status.success() => {
            let version = String::from_utf8_lossy(if output.stdout.is_empty() { &output.stderr } else { &output.stdout }).trim().to_owned();
            report.ok("python", format!("{version} ({shown})"));
        }
        _ => {
            let verdict = if needed { Verdict::Warning } else { Verdict::Skipped };
            let fix = needed.then(|| "export BESPOKE_PYTHON=/a/python3".to_owned());
            report.add("python", verdict, format!("{shown} does not run: plugins in Python do not start"), fix);
        }
    }
}
