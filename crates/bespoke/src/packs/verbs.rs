//! `plugin install`, `update`, `uninstall`, `verify` and `rollback`. The command is the consent: nobody is asked again.

use bespoke_runtimes::{Hardware, Installed, Outcome, Spec, State, Verified};
use serde_json::{Value, json};

use super::{bring, set_for, shown, specs, usable, words};
use crate::{
    cli::Packing,
    exit::{Exit, Failure, Result},
    output::bytes,
    progress::{Bar, cancel_on_interrupt},
    setup::Setup,
};

pub(crate) async fn install(setup: &Setup, names: &[String], auto: bool, how: &Packing) -> Result<()> {
    let mut hardware = None;
    let wanted = if auto {
        let found = hardware.insert(Hardware::detect());
        let wanted: Vec<Spec> = found.wanted(usable(&setup.host)).into_iter().map(|wanted| wanted.spec).collect();
        if wanted.is_empty() {
            let nvidia = found.nvidia.as_ref().err().map(ToString::to_string);
            let tpu = found.tpu.as_ref().err().map(ToString::to_string);
            let why: Vec<String> = [nvidia, tpu].into_iter().flatten().collect();
            let why = if why.len() == 2 { why.join("; ") } else { "no plugin of this program can use what was found".into() };
            setup.out.note(format!("nothing to install: {why}"));
            return if setup.out.json { setup.out.json(&json!([]), true) } else { Ok(()) };
        }
        wanted
    } else {
        specs(names)?
    };
    put(setup, &wanted, how, &mut hardware)
}

pub(crate) async fn update(setup: &Setup, names: &[String], how: &Packing) -> Result<()> {
    let mut wanted = specs(names)?;
    if let Some(spec) = wanted.iter().find(|spec| setup.packs.packs.row(**spec).versions.is_empty()) {
        return Err(bespoke_runtimes::Error::NotInstalled { spec: *spec }.into());
    }
    if names.is_empty() {
        wanted = setup.packs.packs.rows().into_iter().filter(|row| !row.versions.is_empty()).map(|row| row.spec).collect();
        if wanted.is_empty() {
            setup.out.note("no runtime is installed");
        }
    }
    // What is installed says for which generation of NVIDIA's libraries, unless the command does.
    let packs = setup.packs.from(how)?;
    let cancel = cancel_on_interrupt();
    let mut done = Vec::new();
    for spec in wanted {
        if how.dry_run {
            let row = packs.row(spec);
            let (now, pinned) = (row.version.unwrap_or_default(), row.pinned.unwrap_or_default());
            let news =
                if now == pinned { format!("{spec} {now} is what this program installs") } else { format!("{spec} {now} → {pinned}") };
            setup.out.note(news);
            continue;
        }
        let bar = Bar::new(spec.as_str());
        let mut report = |p: bespoke_runtimes::Progress<'_>| bar.step(&words(&p), p.done, p.total);
        let installed = tokio::task::block_in_place(|| packs.update(spec, &mut report, &cancel));
        bar.end();
        done.push(told(setup, installed?));
    }
    if setup.out.json { setup.out.json(&done, true) } else { Ok(()) }
}

/// Says what will come, and puts it there. One that fails does not keep the others from being installed.
fn put(setup: &Setup, wanted: &[Spec], how: &Packing, hardware: &mut Option<Hardware>) -> Result<()> {
    let packs = setup.packs.from(how)?;
    let cancel = cancel_on_interrupt();
    let (mut done, mut failures) = (Vec::new(), Vec::new());
    for spec in wanted {
        let set = set_for(setup.out, *spec, how.cuda, hardware);
        let plan = packs.plan(*spec, set)?;
        if !plan.installed {
            setup.out.note(format!("{}, into {}", shown(&plan), plan.folder.display()));
        }
        if how.dry_run {
            if plan.installed {
                setup.out.note(format!("{spec} {} is installed", plan.version));
            }
            done.push(json!({
                "id": spec.as_str(), "version": plan.version, "installed": plan.installed, "download": plan.download,
                "disk": plan.disk, "free": plan.free, "path": plan.folder,
                "wheels": plan.wheels.iter().map(|wheel| &wheel.file).collect::<Vec<_>>(),
            }));
            continue;
        }
        match bring(&packs, *spec, set, &cancel) {
            Ok(installed) => done.push(told(setup, installed)),
            Err(error) => {
                let failure = Failure::from(error);
                if failure.exit == Exit::Interrupted {
                    return Err(failure);
                }
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
    match failures.pop() {
        None => Ok(()),
        Some(failure) if wanted.len() == 1 => Err(failure),
        Some(failure) => Err(Failure::new(failure.exit, format!("{} of {} are not installed", failures.len() + 1, wanted.len()))),
    }
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
    let packs = &setup.packs.packs;
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
    let packs = &setup.packs.packs;
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
        let bar = Bar::new(spec.as_str());
        let mut report = |p: bespoke_runtimes::Progress<'_>| bar.step(&words(&p), p.done, p.total);
        let verified = tokio::task::block_in_place(|| packs.verify(spec, None, &mut report, &cancel));
        bar.end();
        all.extend(verified?);
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
    let done = setup.packs.packs.rollback(spec)?;
    setup.out.note(format!("{spec} {} is in use now, instead of {}", done.to, done.from));
    if setup.out.json { setup.out.json(&json!({ "id": spec.as_str(), "from": done.from, "to": done.to }), true) } else { Ok(()) }
}
