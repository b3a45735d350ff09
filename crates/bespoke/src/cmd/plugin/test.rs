//! `plugin test`: a plugin against what it owes its host, through the transport that its users get. What it owes is the testkit's to know;
//! here it is found, allowed, and told.

use std::{path::Path, sync::Arc, time::Duration};

use bespoke_audio::read_wav;
use bespoke_host::{Candidate, ModelStore as _, NoTerms, Terms, Tier};
use bespoke_manifest::Manifest;
use bespoke_plugin_api::Audio;
use bespoke_plugin_testkit::{Cases, Check, Examination, Outcome};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    exit::{Exit, Failure, Result},
    output::{Out, Style},
    setup::Setup,
    shelf,
};

/// How long a start may take where neither the manifest nor the configuration says.
const START: Duration = Duration::from_secs(10);
/// No check takes so long, as each thing that it waits for has a limit; a thread that is blocked cannot keep one.
const STUCK: Duration = Duration::from_secs(300);

pub(super) async fn run(setup: &Setup, what: Option<&str>, cases: Option<&Path>, yes: bool) -> Result<()> {
    let candidate = found(setup, what)?;
    let manifest = candidate.manifest.clone()?;
    let terms = terms(setup, &candidate, &manifest, yes)?;
    let folder = setup.shelf.folder_of(&candidate);
    let cases = read(cases, folder.as_deref())?;
    let models: Vec<_> = manifest.models.iter().filter_map(|m| Some((m.file.clone(), setup.models.find(&manifest.id, m).ok()?))).collect();
    let (out, id, tier) = (setup.out, manifest.id.clone(), candidate.tier.name());
    if !out.json {
        out.note(format!("{id} {} in the tier {tier}", manifest.version));
    }
    let runtime = tokio::runtime::Handle::current();
    let (told, mut heard) = mpsc::unbounded_channel();
    // It waits for the plugin in its own way, which a thread of the runtime must not.
    let examined = tokio::task::spawn_blocking(move || {
        let _entered = runtime.enter();
        // Nobody hears it any more when the plugin was given up.
        examine(&candidate, &manifest, &terms, cases, models, out, |check| _ = told.send(check.clone()))
    });
    let mut checks: Vec<Check> = Vec::new();
    while let Some(check) = tokio::time::timeout(STUCK, heard.recv()).await.map_err(|_| stuck(&id, checks.last()))? {
        if !out.json {
            // Nobody reads on when the pipe is closed; the exit code is still the answer.
            let _ = show(out, &check);
        }
        checks.push(check);
    }
    examined.await.map_err(|e| Failure::failed(format!("the test itself broke off: {e}")))??;
    tell(out, &id, tier, &checks)
}

/// A plugin that does not give back the thread that called it.
fn stuck(id: &str, last: Option<&Check>) -> Failure {
    let after = last.map_or("its start".to_owned(), |check| format!("`{} {}`", check.subject, check.rule));
    Failure::failed(format!(
        "{id}: nothing was heard of it for {} s, in what comes after {after}: it blocks the thread that calls it",
        STUCK.as_secs()
    ))
    .help("let it wait in async code, or on a thread of its own (docs/testing.md)")
}

/// The plugin of an id, or in a folder; in this folder when nothing is said.
fn found(setup: &Setup, what: Option<&str>) -> Result<Candidate> {
    let what = what.unwrap_or(".");
    let known = setup.shelf.all().into_iter().find(|candidate| candidate.id == what);
    let candidate = match known {
        Some(known) => known,
        None if Path::new(what).is_dir() => {
            setup.shelf.open_folder(&std::path::absolute(what)?).map_err(|error| unbuilt(what, error.into()))?
        }
        None if what.contains(['/', '\\']) => return Err(Failure::new(Exit::NotFound, format!("{what} is no folder"))),
        None => return Err(setup.no_plugin(what)),
    };
    match candidate.artifact.refusal() {
        None => Ok(candidate),
        Some((_, why)) => Err(unbuilt(what, why.with_plugin(&candidate.id).into())),
    }
}

/// The source of a plugin is no plugin yet.
fn unbuilt(folder: &str, failure: Failure) -> Failure {
    match shelf::unbuilt(Path::new(folder)) {
        Some(tier) => failure.help(format!("bespoke plugin test \"$(bespoke plugin build {folder} --tier {tier})\"")),
        None => failure,
    }
}

/// What it may have: what the user granted; with `yes` all that it asks for.
fn terms(setup: &Setup, candidate: &Candidate, manifest: &Manifest, yes: bool) -> Result<Terms> {
    match setup.config.terms(manifest, candidate.tier, &setup.paths.granted()) {
        Ok(terms) => Ok(terms),
        // What is wrong in the configuration is wrong with consent, too; and consent widens what it may, not what holds it.
        Err(NoTerms::Blocked(_)) if yes => {
            let (own, all) = (setup.config.plugin_settings(&manifest.id)?, setup.config.plugin_defaults()?);
            let mut terms = Terms::default();
            terms.granted = manifest.permissions.clone();
            terms.limits = setup.config.resources(manifest)?;
            terms.sandbox = own.sandbox.unwrap_or(all.sandbox);
            Ok(terms)
        }
        Err(no_terms) => {
            let failure = Failure::from(no_terms.error(&manifest.id).with_plugin(&manifest.id));
            Err(failure.or(format!("bespoke plugin test {} --yes", candidate.origin)))
        }
    }
}

fn read(named: Option<&Path>, folder: Option<&Path>) -> Result<Cases> {
    let beside = folder.map(|folder| folder.join(Cases::FILE)).filter(|file| file.is_file());
    let Some(file) = named.map(Path::to_owned).or(beside) else { return Ok(Cases::default()) };
    let text = std::fs::read_to_string(&file).map_err(|e| Failure::new(Exit::NotFound, format!("{}: {e}", file.display())))?;
    let folder = file.parent().unwrap_or(Path::new("."));
    Cases::parse(&text, folder).map_err(|why| Failure::new(Exit::Usage, format!("{}: {}", file.display(), why.trim_end())))
}

fn examine(
    candidate: &Candidate,
    manifest: &Arc<Manifest>,
    terms: &Terms,
    cases: Cases,
    models: Vec<(String, std::path::PathBuf)>,
    out: Out,
    told: impl FnMut(&Check),
) -> Result<()> {
    candidate.artifact.prepare(&|line| out.note(line))?;
    let data = tempfile::tempdir()?;
    let artifact = candidate.artifact.clone();
    let (checks, starts) = (candidate.artifact.clone(), terms.clone());
    let start = move |cx, config| artifact.start(cx, config, starts.clone());
    let limit = terms.limits.start_timeout_ms.map_or(START, |ms| Duration::from_millis(ms.into()));
    let schema = serde_json::from_str(&candidate.config_schema).unwrap_or(Value::Null);
    let declared = manifest.clone();
    let described = candidate.tier == Tier::Compiled || !candidate.config_schema.is_empty();
    let examination = Examination::new(&manifest.id, start)
        .cases(cases)
        .start_limit(limit)
        .schema(schema)
        .fits(move |config| checks.check(config))
        .declares(move |specs| declared.check_provides(specs).map_err(|e| e.to_string()))
        .data_dir(data.path().to_owned())
        .host(move |host| models.iter().for_each(|(file, path)| host.set_model(file, path)))
        .hear(|path| {
            let wav = read_wav(path).map_err(|e| e.to_string())?;
            Ok(Audio::new(wav.samples, wav.rate))
        });
    let examination = if described { examination } else { examination.takes_any_config() };
    examination.run(told);
    Ok(())
}

fn show(out: Out, check: &Check) -> Result<()> {
    let (mark, style) = match check.outcome {
        Outcome::Passed => ("✓", Style::Green),
        Outcome::Skipped { .. } => ("-", Style::Dim),
        Outcome::Failed(_) => ("✗", Style::Red),
    };
    let slow = if check.took >= Duration::from_secs(1) { format!("  ({:.1} s)", check.took.as_secs_f64()) } else { String::new() };
    let head = format!("{} {} {}{slow}", out.paint(style, mark), check.subject, check.rule);
    match &check.outcome {
        Outcome::Passed => out.line(head),
        Outcome::Skipped { why } => out.line(format!("{head}: not tried, {why}")),
        Outcome::Failed(fault) => {
            out.line(head)?;
            out.line(format!("    expected  {}", fault.expected))?;
            out.line(format!("    got       {}", fault.got))?;
            if let Some(help) = &fault.help {
                out.line(format!("    try       {help}"))?;
            }
            out.line(format!("    read      {}", fault.read))
        }
    }
}

fn tell(out: Out, id: &str, tier: &str, checks: &[Check]) -> Result<()> {
    let failed = checks.iter().filter(|check| !check.is_fine()).count();
    let skipped = checks.iter().filter(|check| matches!(check.outcome, Outcome::Skipped { .. })).count();
    let passed = checks.len() - failed - skipped;
    if out.json {
        let report = json!({ "id": id, "tier": tier, "passed": passed, "failed": failed, "skipped": skipped, "checks": checks });
        out.json(&report, true)?;
        return if failed == 0 { Ok(()) } else { Err(Failure::new(Exit::Failed, "")) };
    }
    let beside = if skipped > 0 { format!(", {skipped} not tried") } else { String::new() };
    match failed {
        0 => out.note(out.paint(Style::Green, &format!("{id} keeps all {passed} rules{beside}"))),
        1 => return Err(Failure::failed(format!("{id} breaks 1 rule and keeps {passed}{beside}"))),
        n => return Err(Failure::failed(format!("{id} breaks {n} rules and keeps {passed}{beside}"))),
    }
    Ok(())
}
