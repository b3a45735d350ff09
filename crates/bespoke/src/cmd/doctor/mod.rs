//! `doctor`: what is wrong with this machine and this set-up, and what would mend it.
//!
//! It looks, and changes nothing. With `--fix` it mends what harms nobody: a folder that is missing, a file of the user that others
//! can read, temporary files that nobody uses any more.
//!
//! **Invariant:** no fix, told or made, grants anything: none enables a plugin, names a host or a program, agrees to a download, or
//! lets a guard go.

mod agent;
mod configuration;
mod files;
#[cfg(feature = "state")]
mod kept;
#[cfg(not(feature = "state"))]
#[path = "kept_disabled.rs"]
mod kept;
mod machine;
mod models;
mod plugins;
mod program;
pub(crate) mod report;
#[cfg(feature = "serve")]
mod serving;
#[cfg(not(feature = "serve"))]
#[path = "serving_disabled.rs"]
mod serving;
mod terminal;
mod tiers;

use bespoke_host::Selection;

use self::report::{Report, Verdict};
use crate::{
    cli::{Doctor, Global},
    exit::Result,
    output::Out,
    paths::Paths,
    setup::Setup,
};

pub(crate) async fn run(global: &Global, args: &Doctor) -> Result<()> {
    let mut report = Report::new(args.fix);
    program::check(&mut report);
    match Paths::find(global.config.as_deref()) {
        Ok(paths) => {
            // Before anything is started: what starts may make what was missing.
            files::check(&mut report, &paths);
            kept::check(&mut report, &paths);
            serving::check(&mut report, &paths).await;
            configuration::found(&mut report, &paths);
            match Setup::looking(global) {
                Ok(setup) => {
                    of_setup(&mut report, &setup, args.online).await;
                    setup.host.shutdown().await;
                }
                Err(failure) => {
                    let fix = failure.help.unwrap_or_else(|| "bespoke config edit".into());
                    report.group("Configuration");
                    report.add("configuration", Verdict::Problem, failure.message, Some(fix));
                    skip(&mut report, "the configuration cannot be read");
                }
            }
        }
        Err(failure) => {
            report.group("Files");
            report.add("configuration file", Verdict::Problem, failure.message, failure.help.or(Some("bespoke init".into())));
            skip(&mut report, "the files are not found");
        }
    }
    machine::check(&mut report).await;
    terminal::check(&mut report);
    report.show(Out::with(global.json, global.quiet), global.quiet)
}

async fn of_setup(report: &mut Report, setup: &Setup, online: bool) {
    configuration::check(report, setup).await;
    setup.host.start(Selection::All).await;
    plugins::check(report, setup);
    tiers::check(report, setup);
    models::check(report, setup);
    crate::packs::check(report, setup);
    agent::check(report, setup, online).await;
    serving::channels(report, setup);
}

/// What stands and falls with the set-up.
fn skip(report: &mut Report, why: &str) {
    for (group, names) in [
        ("Plugins", &["plugins", "guards", "start times", "threads"][..]),
        ("Plugins outside of this binary", &["plugin folders", "wall", "consent"]),
        ("Models", &["model files"]),
        ("Agent", &["providers", "tool calls", "tools", "voice", "network"]),
        ("Channels", &["channels"]),
    ] {
        report.group(group);
        names.iter().for_each(|name| report.skip(name, format!("not looked at: {why}")));
    }
}
