//! Packs below a folder, by hand: `pack ROOT list`, `pack ROOT install|find|verify|update|rollback|uninstall SPEC`.
#![allow(clippy::print_stdout, reason = "it is a program that prints")]

use std::{error::Error, sync::atomic::AtomicBool};

use bespoke_fetch::Index;
use bespoke_runtimes::{Features, Packs, Phase, Progress, Spec};

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [root, verb, rest @ ..] = words.as_slice() else { return Err("pack ROOT VERB [SPEC]".into()) };
    let mut packs = Packs::new(root);
    packs.features = Features::ALL;
    packs.fetcher.index = Index::choose(None, None)?;
    if verb == "list" {
        for row in packs.rows() {
            println!("{:<10} {:?} {:?} {:?} bytes", row.spec, row.state, row.version, row.size);
        }
        return Ok(());
    }
    let spec: Spec = rest.first().ok_or("a spec is missing")?.parse()?;
    let (mut step, cancel) = (String::new(), AtomicBool::new(false));
    let mut report = |p: Progress<'_>| {
        let next = format!("{:?} {}", p.phase, p.file);
        if p.phase != Phase::Waiting && next != step {
            println!("{:>5.1} % {next}", 100.0 * p.pack_done as f64 / p.pack_total.max(1) as f64);
            step = next;
        }
    };
    match verb.as_str() {
        "install" => println!("{:#?}", packs.install(spec, None, &mut report, &cancel)?),
        "update" => println!("{:#?}", packs.update(spec, None, &mut report, &cancel)?),
        "verify" => println!("{:#?}", packs.verify(spec, None, &mut report, &cancel)?),
        "find" => println!("{:#?}", packs.find(spec)?),
        "rollback" => println!("{:#?}", packs.rollback(spec)?),
        "uninstall" => println!("{:#?}", packs.uninstall(spec, None)?),
        _ => return Err(format!("there is no verb {verb}").into()),
    }
    Ok(())
}
