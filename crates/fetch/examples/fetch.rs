//! Fetches the pins of a TOML table: `fetch PINS.toml ROOT SUB [--from DIR]… [--plan] [--offline]`.
//!
//! The table has `[[models]]` entries as in a plugin's manifest. Paths go to stdout, progress to stderr.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line program")]

use std::{env, error::Error, fs, process::ExitCode, sync::atomic::AtomicBool, time::Instant};

use bespoke_fetch::{Fetcher, Phase, Pin, Store};

#[derive(serde::Deserialize)]
struct Table {
    models: Vec<Pin>,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut words = env::args().skip(1);
    let mut word = || words.next().ok_or("usage: fetch PINS.toml ROOT SUB [--from DIR] [--plan] [--offline]");
    let (table, root, sub) = (word()?, word()?, word()?);
    let table: Table = toml::from_str(&fs::read_to_string(table)?)?;
    let search = env::var_os("BESPOKE_MODEL_PATH").unwrap_or_default();
    let mut fetcher = Fetcher::new(Store::new(root).with_search(env::split_paths(&search)));
    let mut plan_only = false;
    while let Ok(option) = word() {
        match option.as_str() {
            "--from" => fetcher = fetcher.with_from(word()?),
            "--plan" => plan_only = true,
            "--offline" => fetcher.offline = true,
            other => return Err(format!("unknown option {other}").into()),
        }
    }
    let plan = fetcher.plan(&sub, &table.models)?;
    let (bytes, exact) = plan.download();
    eprintln!(
        "{} there, {} missing, {}{bytes} bytes to download",
        plan.present.len(),
        plan.missing.len(),
        if exact { "" } else { "at least " }
    );
    if plan_only {
        for needed in plan.missing {
            println!("{} {} {} {:?}", needed.file, needed.size, needed.license, needed.sources);
        }
        return Ok(());
    }
    let started = Instant::now();
    let mut last = None;
    let mut report = |p: bespoke_fetch::Progress<'_>| {
        let step = (p.file.to_owned(), p.phase, p.total.map(|total| p.done * 10 / total.max(1)));
        if last.as_ref() != Some(&step) {
            eprintln!("{:7.3} {} {:?} {} {}/{:?}", started.elapsed().as_secs_f64(), p.file, p.phase, p.source, p.done, p.total);
            last = (p.phase != Phase::Done).then_some(step);
        }
    };
    for path in fetcher.ensure(&sub, &table.models, &mut report, &AtomicBool::new(false))? {
        println!("{}", path.display());
    }
    Ok(())
}
