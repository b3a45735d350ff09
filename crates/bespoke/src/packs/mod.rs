//! Packs of native runtimes, as the program uses them: where they lie, what its plugins find, and how they come here. What a pack is,
//! and how one is put into place, is in `bespoke-runtimes`.

use std::{env, path::PathBuf, str::FromStr};

use bespoke_fetch::Index;
use bespoke_host::{Config, ConfigError, Host, RuntimeStore};
use bespoke_plugin_api::{Code, Error, RuntimePack};
use bespoke_runtimes::{Hardware, Plan, Set, Spec};

use crate::{
    cli::Packing,
    exit::{Exit, Failure, Result},
    output::{Out, bytes},
    paths::Paths,
    progress::Bar,
    setup::build_with,
};

#[cfg(any(feature = "process", feature = "serve"))]
mod arm;
mod check;
mod listing;
mod terms;
mod verbs;

#[cfg(any(feature = "process", feature = "serve"))]
pub(crate) use arm::arm;
pub(crate) use check::check;
pub(crate) use listing::{info, rows, table};
pub(crate) use terms::bundled_terms;
pub(crate) use verbs::{install, rollback, uninstall, update, verify};

/// The packs of this user, and those beside this program.
#[derive(Debug, Clone)]
pub(crate) struct Packs {
    packs: bespoke_runtimes::Packs,
    /// The index of the configuration, or what is wrong with `[plugins]`: then nothing is brought or removed, because it might be of
    /// another place than the user meant.
    index_url: std::result::Result<Option<String>, ConfigError>,
}

impl Packs {
    pub(crate) fn new(paths: &Paths, config: &Config) -> Self {
        let dir = config.plugin_dir().ok().flatten();
        let mut packs = bespoke_runtimes::Packs::new(dir.unwrap_or_else(|| paths.home.clone()).join("runtimes"));
        if let Some(bundled) = beside_program() {
            packs = packs.with_bundled(bundled);
        }
        Packs { packs, index_url: config.plugin_defaults().map(|defaults| defaults.index_url) }
    }

    /// For who changes something.
    fn changeable(&self) -> Result<&bespoke_runtimes::Packs> {
        match &self.index_url {
            Ok(_) => Ok(&self.packs),
            Err(error) => Err(error.clone().into()),
        }
    }

    /// The same, with the sources that a command names.
    fn from(&self, how: &Packing) -> Result<bespoke_runtimes::Packs> {
        let mut packs = self.changeable()?.clone();
        let configured = self.index_url.as_ref().ok().cloned().flatten();
        packs.fetcher.index = Index::choose(how.index_url.as_deref(), configured.as_deref())?;
        packs.fetcher.offline = how.offline;
        if let Some(from) = &how.from {
            if !from.exists() {
                return Err(Failure::new(Exit::NotFound, format!("{} is not there", from.display())));
            }
            packs.fetcher.from.push(from.clone());
        }
        Ok(packs)
    }
}

impl RuntimeStore for Packs {
    fn find(&self, spec: &str) -> bespoke_plugin_api::Result<RuntimePack> {
        let missing = |message: String, help: String| Error::new(Code::DEPENDENCY_MISSING, message).with_help(help);
        let spec = Spec::from_str(spec).map_err(|unknown| Error::internal(unknown.to_string()))?;
        // The command is the help of the error here, and not a part of its words.
        let install = format!("bespoke plugin install {spec}");
        let found = self.packs.find(spec).map_err(|error| match error {
            bespoke_runtimes::Error::NotInstalled { .. } => missing(format!("{spec} is not installed"), install),
            bespoke_runtimes::Error::Broken { version, why, .. } => missing(format!("{spec} {version} is broken: {why}"), install),
            other => missing(other.to_string(), "bespoke doctor".into()),
        })?;
        if let Some(why) = &found.passed_over {
            tracing::warn!("{spec}: the bundled {} is used: {why}; it is repaired by: bespoke plugin install {spec}", found.version);
        }
        let origin = found.origin.as_str();
        Ok(RuntimePack::new(spec.as_str(), found.version, origin, found.folder, found.library).preload(found.preload))
    }
}

/// What a release ships lies beside its program.
fn beside_program() -> Option<PathBuf> {
    let program = env::current_exe().and_then(|program| program.canonicalize()).ok()?;
    Some(program.parent()?.join("runtimes")).filter(|folder| folder.is_dir())
}

/// Packs by their names.
fn specs(names: &[String]) -> Result<Vec<Spec>> {
    let mut specs: Vec<Spec> = Vec::new();
    for name in names {
        let spec = match name.parse::<Spec>() {
            Ok(spec) => spec,
            // Plugins of other kinds come from folders.
            Err(error) if !name.contains(':') => {
                let failure = Failure::new(Exit::NotFound, format!("{error}; what is installed here are native runtimes"));
                return Err(failure.help("bespoke plugin list runtime").or("bespoke plugin load DIR"));
            }
            Err(error) => return Err(Failure::new(Exit::NotFound, error.to_string()).help("bespoke plugin list runtime")),
        };
        if !specs.contains(&spec) {
            specs.push(spec);
        }
    }
    Ok(specs)
}

/// The packs that plugins can use as they are configured.
fn usable(host: &Host) -> Vec<Spec> {
    let named = host.rows().into_iter().flat_map(|row| host.runtimes(&row.id));
    let mut specs: Vec<Spec> = named.filter_map(|name| name.parse().ok()).collect();
    specs.sort_unstable();
    specs.dedup();
    specs
}

/// Which generation of NVIDIA's libraries a pack is installed for.
fn set_for(out: Out, spec: Spec, asked: Option<u8>, hardware: &mut Option<Hardware>) -> Option<Set> {
    if !spec.needs_nvidia() {
        return None;
    }
    if let Some(version) = asked {
        return Some(set_of(version));
    }
    let hardware = hardware.get_or_insert_with(detect);
    if let Err(missing) = &hardware.nvidia {
        out.note(format!(
            "{spec} is for NVIDIA devices, and here is none: {missing}. It is chosen for CUDA 13; --cuda 12 is for older drivers"
        ));
    }
    hardware.set()
}

/// What `--cuda` says.
fn set_of(version: u8) -> Set {
    if version == 12 { Set::Cu12 } else { Set::Cu13 }
}

/// What this machine has. Asking a driver may take seconds.
fn detect() -> Hardware {
    tokio::task::block_in_place(Hardware::detect)
}

/// What a plan downloads, in words.
fn shown(plan: &Plan) -> String {
    let wheels: Vec<&str> = plan.wheels.iter().map(|wheel| wheel.project.as_str()).collect();
    let local = plan.wheels.iter().filter(|wheel| wheel.local.is_some()).count();
    let copied = if local > 0 { format!(", {local} of {} from a folder", plan.wheels.len()) } else { String::new() };
    format!(
        "{} {}: {} to download, {} on the disk ({}{copied})",
        plan.spec,
        plan.version,
        bytes(plan.download),
        bytes(plan.disk),
        wheels.join(", ")
    )
}

/// Does something with a pack behind a progress bar. It blocks its thread, which may be one of the runtime's.
fn with_bar<T>(spec: Spec, work: impl FnOnce(&mut dyn FnMut(bespoke_runtimes::Progress<'_>)) -> T) -> T {
    let bar = Bar::new(spec.as_str());
    let done = tokio::task::block_in_place(|| work(&mut |p| bar.step(&words(&p), p.done, p.total)));
    bar.end();
    done
}

fn words(p: &bespoke_runtimes::Progress<'_>) -> String {
    use bespoke_runtimes::Phase;
    let share = if p.pack_total > 0 { format!(" ({} of {})", bytes(p.pack_done), bytes(p.pack_total)) } else { String::new() };
    match p.phase {
        Phase::Waiting => format!("{}: waits for another process that installs", p.spec),
        Phase::Downloading => format!("{}: {}{share}", p.spec, p.file),
        Phase::Unpacking => format!("{}: unpacks {}", p.spec, p.file),
        Phase::Verifying => format!("{}: reads {}{share}", p.spec, p.file),
        _ => format!("{}: puts it into place", p.spec),
    }
}

impl From<bespoke_runtimes::Error> for Failure {
    fn from(error: bespoke_runtimes::Error) -> Self {
        let failure = Failure::new(error.class().into(), error.to_string());
        match error {
            bespoke_runtimes::Error::Feature { spec } => failure.help(build_with(&[spec.runtime()])),
            _ => failure,
        }
    }
}
