//! Model files: which are here and right, which would be fetched, how large they are, whether they fit.

use super::{
    files::free,
    report::{Report, Verdict},
};
use crate::{
    models::{Consent, Listed},
    output::bytes,
    paths::Paths,
    setup::Setup,
};

pub(crate) fn check(report: &mut Report, setup: &Setup) {
    report.group("Models");
    let path = Paths::model_path();
    if path.is_empty() {
        report.skip("model path", "BESPOKE_MODEL_PATH is not set; models are in the home folder");
    }
    for folder in path {
        let name = folder.display();
        match folder.is_dir() {
            true => report.ok("model path", format!("{name}")),
            false => {
                let message = format!("{name} of BESPOKE_MODEL_PATH is no folder");
                report.add("model path", Verdict::Warning, message, Some("unset BESPOKE_MODEL_PATH".into()));
            }
        }
    }
    let lacking = setup.host.lacking_models();
    let (mut files, mut missing) = (0, 0_u64);
    for row in setup.host.rows() {
        let Some(manifest) = setup.host.manifest(&row.id).filter(|m| !m.models.is_empty()) else { continue };
        let fetch = format!("bespoke plugin download-files {}", row.id);
        match setup.models.list(&row.id, &manifest.models, &Consent::default()) {
            Err(failure) => report.add("model files", Verdict::Problem, format!("{}: {}", row.id, failure.message), Some(fetch)),
            Ok(listed) => {
                files += listed.len();
                let (here, absent): (Vec<_>, Vec<_>) = listed.into_iter().partition(|listed| listed.path.is_some());
                let what = |listed: &[Listed]| {
                    let names: Vec<_> =
                        listed.iter().map(|l| format!("{} ({}, {})", l.model.file, bytes(l.model.size), l.model.license)).collect();
                    format!("{}: {}", row.id, names.join(", "))
                };
                if let Some(path) = here.first().and_then(|listed| listed.path.as_deref()) {
                    report.ok("model files", format!("{}; right, in {}", what(&here), crate::models::folder(path)));
                }
                if absent.is_empty() {
                    continue;
                }
                if !lacking.contains(&row.id) {
                    report.skip("model files", format!("{}; not here, and not needed", what(&absent)));
                    continue;
                }
                missing += absent.iter().map(|listed| listed.model.size).sum::<u64>();
                let mut sources: Vec<String> = absent.iter().filter_map(|listed| listed.from.clone()).collect();
                sources.dedup();
                let from =
                    if sources.is_empty() { "nothing may bring it".into() } else { format!("it would come from {}", sources.join(", ")) };
                report.add("model files", Verdict::Warning, format!("{}; missing, {from}", what(&absent)), Some(fetch));
            }
        }
    }
    if files == 0 {
        report.skip("model files", "no plugin of this binary needs one");
    }
    match (missing, free(&setup.paths.home)) {
        (0, _) => report.ok("room for models", "nothing is missing"),
        // A package and what comes out of it lie beside each other for a moment.
        (missing, Some(free)) if free < missing.saturating_mul(2) => {
            let message = format!("{} are missing and need twice the room for a moment; {} are free", bytes(missing), bytes(free));
            report.add("room for models", Verdict::Problem, message, Some(format!("df -h {}", setup.paths.home.display())));
        }
        (missing, _) => report.ok("room for models", format!("{} are missing, and fit", bytes(missing))),
    }
}
