//! `plugin install`, `update`, `uninstall`, `verify` and `rollback`. The command is the consent: nobody is asked again.

use std::sync::atomic::AtomicBool;

use bespoke_runtimes::{Hardware, Installed, Outcome, Plan, Spec, State, Verified};
use serde_json::{Value, json};

use super::{detect, set_for, set_of, shown, specs, usable, with_bar};
use crate::{
    cli::Packing,
    exit::{Exit, Failure, Result},
    output::bytes,
    progress::cancel_on_interrupt,
    setup::Setup,
};

pub(crate) async fn install(setup: &Setup, names: &[String], auto: bool, how: &Packing) -> Result<()> {
    let mut hardware = None;
    let wanted = if auto { called_for(setup, hardware.insert(detect())) } else { specs(names)? };
    let packs = setup.packs.from(how)?;
    each(setup, &wanted, how, |spec, cancel| {
        let set = set_for(setup.out, spec, how.cuda, &mut hardware);
        let plan = packs.plan(spec, set)?;
        if !plan.installed {
            setup.out.note(format!("{}, into {}", shown(&plan), plan.folder.display()));
        }
        if how.dry_run {
            return Ok(planned(setup, &plan));
        }
        Ok(told(setup, with_bar(spec, |report| packs.install(spec, set, report, cancel))?))
    })
}

/// What the hardware calls for; why nothing, where it calls for nothing.
fn called_for(setup: &Setup, hardware: &Hardware) -> Vec<Spec> {
    let wanted: Vec<Spec> = hardware.wanted(usable(&setup.host)).into_iter().map(|wanted| wanted.spec).collect();
    if wanted.is_empty() {
        let why = match (&hardware.nvidia, &hardware.tpu) {
            (Err(nvidia), Err(tpu)) => format!("{nvidia}; {tpu}"),
            _ => "no plugin of this program can use what was found".into(),
        };
        setup.out.note(format!("nothing to install: {why}"));
    }
    wanted
}

pub(crate) async fn update(setup: &Setup, names: &[String], how: &Packing) -> Result<()> {
    let packs = setup.packs.from(how)?;
    let mut wanted = specs(names)?;
    if let Some(spec) = wanted.iter().find(|spec| packs.row(**spec).versions.is_empty()) {
        return Err(bespoke_runtimes::Error::NotInstalled { spec: *spec }.into());
    }
    if names.is_empty() {
        wanted = packs.rows().into_iter().filter(|row| !row.versions.is_empty()).map(|row| row.spec).collect();
        if wanted.is_empty() {
            setup.out.note("no runtime is installed");
        }
    }
    // What is installed says for which generation of NVIDIA's libraries, unless the command does.
    let set = how.cuda.map(set_of);
    each(setup, &wanted, how, |spec, cancel| {
        if how.dry_run {
            let row = packs.row(spec);
            let plan = packs.plan(spec, set.or_else(|| packs.find(spec).ok().and_then(|found| found.set)))?;
            if set.is_none() && !row.outdated {
                setup.out.note(format!("{spec} {} stays", row.version.as_deref().unwrap_or_default()));
                return Ok(json!({ "id": spec.as_str(), "version": row.version, "installed": true }));
            }
            setup.out.note(format!("{}, into {}", shown(&plan), plan.folder.display()));
            return Ok(planned(setup, &plan));
        }
        Ok(told(setup, with_bar(spec, |report| packs.update(spec, set, report, cancel))?))
    })
}

/// Does it with each pack. One that fails does not keep the others from it.
fn each(setup: &Setup, wanted: &[Spec], how: &Packing, mut work: impl FnMut(Spec, &AtomicBool) -> Result<Value>) -> Result<()> {
    let cancel = cancel_on_interrupt();
    let (mut done, mut failures) = (Vec::new(), Vec::new());
    for spec in wanted {
        match work(*spec, &cancel) {
            Ok(value) => done.push(value),
            Err(failure) if failure.exit == Exit::Interrupted => return Err(failure),
            Err(failure) => {
                if wanted.len() > 1 {
                    setup.out.note(failure.to_string());
                }
                failures.push(failure);
            }
        }
    }
    if setup.out.json {
        setup.out.json(&done, true)?;
    }
    let verb = if how.dry_run { "planned" } else { "done" };
    match failures.pop() {
        None => Ok(()),
        Some(failure) if wanted.len() == 1 => Err(failure),
        Some(failure) => Err(Failure::new(failure.exit, format!("{} of {} could not be {verb}", failures.len() + 1, wanted.len()))),
    }
}

fn planned(setup: &Setup, plan: &Plan) -> Value {
    if plan.installed {
        setup.out.note(format!("{} {} is installed", plan.spec, plan.version));
    }
    json!({
        "id": plan.spec.as_str(), "version": plan.version, "installed": plan.installed, "download": plan.download,
        "disk": plan.disk, "free": plan.free, "path": plan.folder,
        "wheels": plan.wheels.iter().map(|wheel| &wheel.file).collect::<Vec<_>>(),
    })
}

fn told(setup: &Setup, done: Installed) -> Value {
    let Installed { spec, version, outcome, folder, size, previous, .. } = done;
    let (word, line) = match outcome {
        Outcome::Installed => ("installed", format!("{spec} {version} is installed ({})", bytes(size))),
        Outcome::AlreadyInstalled => ("already_installed", format!("{spec} {version} is already installed")),
        Outcome::Switched => ("switched", format!("{spec} {version} was installed before, and is in use now")),
        Outcome::Repaired => ("repaired", format!("{spec} {version} was broken, and is whole again")),
    };
    let before =
        previous.as_ref().map_or(String::new(), |previous| format!("; before it {previous}, which plugin rollback {spec} brings back"));
    setup.out.note(format!("{line}{before}"));
    json!({ "id": spec.as_str(), "version": version, "outcome": word, "path": folder, "size": size, "previous": previous })
}

pub(crate) fn uninstall(setup: &Setup, name: &str, version: Option<&str>, dry_run: bool) -> Result<()> {
    let spec = specs(&[name.to_owned()])?[0];
    let packs = setup.packs.changeable()?;
    let row = packs.row(spec);
    if dry_run {
        let versions: Vec<&String> = row.versions.iter().filter(|there| version.is_none_or(|version| version == *there)).collect();
        return match versions.as_slice() {
            // The same words as without --dry-run.
            [] => Err(missing(setup, spec, version)),
            _ => {
                versions.iter().for_each(|version| setup.out.note(format!("{spec} {version} would be removed")));
                Ok(())
            }
        };
    }
    let removed = packs.uninstall(spec, version)?;
    let versions = removed.versions.join(", ");
    let now = removed.active.as_ref().map_or(String::new(), |active| format!("; {active} is in use now"));
    setup.out.note(format!("{spec} {versions} is removed: {} are free again{now}", bytes(removed.freed)));
    if setup.out.json {
        let value = json!({ "id": spec.as_str(), "versions": removed.versions, "freed": removed.freed, "active": removed.active });
        return setup.out.json(&value, true);
    }
    Ok(())
}

/// Why there is nothing to remove.
fn missing(setup: &Setup, spec: Spec, version: Option<&str>) -> Failure {
    let row = setup.packs.packs.row(spec);
    let error = match (row.state, row.path, version) {
        (State::Bundled, Some(folder), _) => bespoke_runtimes::Error::Bundled { spec, folder },
        (_, _, Some(version)) if !row.versions.is_empty() => {
            bespoke_runtimes::Error::NoVersion { spec, version: version.to_owned(), installed: row.versions }
        }
        _ => bespoke_runtimes::Error::NotInstalled { spec },
    };
    error.into()
}

pub(crate) async fn verify(setup: &Setup, names: &[String]) -> Result<()> {
    let packs = setup.packs.changeable()?;
    let mut wanted = specs(names)?;
    if wanted.is_empty() {
        let here = packs.rows().into_iter().filter(|row| !row.versions.is_empty() || row.state == State::Bundled);
        wanted = here.map(|row| row.spec).collect();
        if wanted.is_empty() {
            setup.out.note("no runtime is installed");
        }
    }
    let cancel = cancel_on_interrupt();
    let mut all: Vec<Verified> = Vec::new();
    for spec in wanted {
        all.extend(with_bar(spec, |report| packs.verify(spec, None, report, &cancel))?);
    }
    let mut wrong = Vec::new();
    for one in &all {
        if one.problems.is_empty() {
            setup.out.note(format!("{} {}: every file is as it was installed", one.spec, one.version));
            continue;
        }
        wrong.push(one.spec);
        for problem in &one.problems {
            setup.out.note(format!("{} {}: {problem}", one.spec, one.version));
        }
    }
    if setup.out.json {
        let rows: Vec<Value> = all
            .iter()
            .map(|one| json!({ "id": one.spec.as_str(), "version": one.version, "path": one.folder, "ok": one.problems.is_empty(), "problems": one.problems }))
            .collect();
        setup.out.json(&rows, true)?;
    }
    match wrong.first() {
        None => Ok(()),
        Some(spec) => {
            let failure = Failure::new(Exit::Verification, "not every file is as it was installed; what is wrong is not used");
            Err(failure.help(format!("bespoke plugin install {spec}")))
        }
    }
}

pub(crate) fn rollback(setup: &Setup, name: &str) -> Result<()> {
    let spec = specs(&[name.to_owned()])?[0];
    let done = setup.packs.changeable()?.rollback(spec)?;
    setup.out.note(format!("{spec} {} is in use now, instead of {}", done.to, done.from));
    if setup.out.json { setup.out.json(&json!({ "id": spec.as_str(), "from": done.from, "to": done.to }), true) } else { Ok(()) }
}
