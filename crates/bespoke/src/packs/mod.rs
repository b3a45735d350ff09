//! Packs of native runtimes, as the program uses them: where they lie, what its plugins find, and how they come here. What a pack is,
//! and how one is put into place, is in `bespoke-runtimes`.

use std::{env, path::PathBuf, str::FromStr, sync::atomic::AtomicBool};

use bespoke_fetch::{Class, Index};
use bespoke_host::{Config, Host, RuntimeStore, State as PluginState};
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

mod arm;
mod check;
mod listing;
mod verbs;

pub(crate) use arm::arm;
pub(crate) use check::check;
pub(crate) use listing::{info, rows, table};
pub(crate) use verbs::{install, rollback, uninstall, update, verify};

/// The packs of this user, and those beside this program.
#[derive(Debug, Clone)]
pub(crate) struct Packs {
    packs: bespoke_runtimes::Packs,
    /// The index of the configuration.
    index_url: Option<String>,
}

impl Packs {
    pub(crate) fn new(paths: &Paths, config: &Config) -> Self {
        let dir = config.plugin_dir().ok().flatten();
        let mut packs = bespoke_runtimes::Packs::new(dir.unwrap_or_else(|| paths.home.clone()).join("runtimes"));
        if let Some(bundled) = beside_program() {
            packs = packs.with_bundled(bundled);
        }
        Packs { packs, index_url: config.plugin_defaults().ok().and_then(|defaults| defaults.index_url) }
    }

    /// The same, with the sources that a command names.
    fn from(&self, how: &Packing) -> Result<bespoke_runtimes::Packs> {
        let mut packs = self.packs.clone();
        packs.fetcher.index = Index::choose(how.index_url.as_deref(), self.index_url.as_deref())?;
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
        let found = self.packs.find(spec).map_err(|error| match error {
            bespoke_runtimes::Error::NotInstalled { .. } | bespoke_runtimes::Error::Broken { .. } => {
                missing(error.to_string(), format!("bespoke plugin install {spec}"))
            }
            other => missing(other.to_string(), "bespoke doctor".into()),
        })?;
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

/// The packs that plugins of this program can use, without those of plugins that are switched off.
fn usable(host: &Host) -> Vec<Spec> {
    let rows = host.rows();
    let on = rows.iter().filter(|row| !matches!(row.state, PluginState::Disabled | PluginState::Missing | PluginState::Blocked));
    let named = on.filter_map(|row| host.manifest(&row.id)).flat_map(|manifest| manifest.runtimes.clone());
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
    match asked {
        Some(12) => return Some(Set::Cu12),
        Some(_) => return Some(Set::Cu13),
        None => {}
    }
    let hardware = hardware.get_or_insert_with(Hardware::detect);
    if let Err(missing) = &hardware.nvidia {
        out.note(format!(
            "{spec} is for NVIDIA devices, and here is none: {missing}. It is chosen for CUDA 13; --cuda 12 is for older drivers"
        ));
    }
    hardware.set()
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

/// Installs with a progress bar. Blocks its thread, which may be one of the runtime's.
fn bring(
    packs: &bespoke_runtimes::Packs,
    spec: Spec,
    set: Option<Set>,
    cancel: &AtomicBool,
) -> std::result::Result<bespoke_runtimes::Installed, bespoke_runtimes::Error> {
    let bar = Bar::new(spec.as_str());
    let mut report = |p: bespoke_runtimes::Progress<'_>| bar.step(&words(&p), p.done, p.total);
    let done = tokio::task::block_in_place(|| packs.install(spec, set, &mut report, cancel));
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
        let help = match &error {
            bespoke_runtimes::Error::Feature { spec } => Some(build_with(&[spec.runtime()])),
            _ => None,
        };
        let exit = match error.class() {
            Class::NotFound => Exit::NotFound,
            Class::Verification => Exit::Verification,
            Class::Network => Exit::Network,
            Class::Conflict => Exit::Conflict,
            Class::Cancelled => Exit::Interrupted,
            _ => Exit::Failed,
        };
        let failure = Failure::new(exit, error.to_string());
        match help {
            Some(help) => failure.help(help),
            None => failure,
        }
    }
}
