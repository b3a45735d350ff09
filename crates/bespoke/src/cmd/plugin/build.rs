//! `plugin build`: a plugin's crate becomes an artefact of a tier. What is done for it is `bespoke-builder`'s; this says how it goes.

use bespoke_builder::{BuildError, Class, Request, Tier, build};
use serde_json::json;

use crate::{
    cli::Building,
    exit::{Exit, Failure, Result},
    output::{self, Out, Style},
};

pub(crate) async fn run(out: Out, building: Building) -> Result<()> {
    let Building { folder, tier, release, out: to, features } = building;
    let tier = Tier::ALL.iter().copied().find(|known| known.name() == tier);
    let tier = tier.ok_or_else(|| Failure::new(Exit::Usage, "that is no tier"))?;
    if tier != Tier::Compiled && !features.is_empty() {
        let failure = Failure::new(Exit::Usage, "--features are those of a program, and only --tier compiled builds one");
        return Err(failure.help(format!("bespoke plugin build {} --tier {}", folder.display(), tier.name())));
    }
    let mut request = Request::new(folder, tier);
    (request.release, request.out, request.features) = (release, to, features);
    let work = tokio::task::spawn_blocking(move || build(&request, &mut |line| out.note(line)));
    let built = work.await.map_err(|e| Failure::failed(e.to_string()))?.map_err(|error| told(out, error))?;
    let path = built.path.display();
    if out.json {
        let value = json!({ "id": built.id, "version": built.version, "tier": tier.name(), "path": built.path, "bytes": built.bytes });
        return out.json(&value, true);
    }
    let what = format!("{} {} is built as {}: {}", built.id, built.version, tier.name(), output::bytes(built.bytes));
    out.note(out.paint(Style::Green, &what));
    out.raw(&format!("{path}\n"))?;
    out.note(if tier == Tier::Compiled { format!("  try: {path} plugin list") } else { format!("  try: bespoke plugin load {path}") });
    Ok(())
}

/// What a compiler says was told line by line, unless nothing is to be told: it is not said twice.
fn told(out: Out, error: BuildError) -> Failure {
    match error {
        BuildError::Failed { package, tier, .. } if !out.is_quiet() => {
            Failure::failed(format!("{package} does not build as {}: what is wrong stands above", tier.name()))
        }
        error => error.into(),
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        let exit = match error.class() {
            Class::NotFound => Exit::NotFound,
            Class::Unsolvable => Exit::Conflict,
            _ => Exit::Failed,
        };
        let failure = Failure::new(exit, error.to_string());
        match error.help() {
            Some(help) => failure.help(help),
            None => failure,
        }
    }
}
