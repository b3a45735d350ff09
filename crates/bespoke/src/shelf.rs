//! Plugins that are not part of this binary: in which folders they are searched, and what is found. It reads, and runs nothing of them.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use bespoke_host::{Candidate, Config, Grounds, Tier, find, open_folder, tiers};
use bespoke_manifest::{Inherited, Manifest};
use bespoke_plugin_api::{Code, Error, Result};

use crate::{paths::Paths, setup::build_with};

/// Where plugins lie.
#[derive(Clone)]
pub(crate) struct Shelf {
    config: Config,
    /// Folders of plugin folders, beside the one that the configuration names.
    folders: Vec<PathBuf>,
    grounds: Grounds,
    /// Found already, by somebody else; they go before others of the same id.
    more: Arc<Vec<Candidate>>,
}

impl Shelf {
    /// The folder in `BESPOKE_HOME`, those of `BESPOKE_PLUGIN_PATH`, then `more`, and what the configuration names.
    pub(crate) fn of(paths: &Paths, config: &Config, more: &[PathBuf], install_dependencies: bool) -> Self {
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let mut folders = vec![paths.plugins()];
        folders.extend(Paths::plugin_path().iter().chain(more).map(absolute));
        let mut grounds = Grounds::new(paths.cache()).install_dependencies(install_dependencies).rebuild(build_with);
        if let Ok(program) = this_program() {
            grounds = grounds.program(program);
        }
        Shelf { config: config.clone(), folders, grounds, more: Arc::default() }
    }

    /// The same folders, and what this configuration names.
    pub(crate) fn by(&self, config: &Config) -> Self {
        Shelf { config: config.clone(), ..self.clone() }
    }

    /// With plugins that were found already.
    pub(crate) fn with(mut self, more: Vec<Candidate>) -> Self {
        self.more = Arc::new(more);
        self
    }

    /// The same, where what plugins depend on is installed without a question.
    pub(crate) fn installing(mut self) -> Self {
        self.grounds = self.grounds.install_dependencies(true);
        self
    }

    /// What is found now.
    pub(crate) fn found(&self) -> Vec<Candidate> {
        let mut all: Vec<Candidate> = self.more.to_vec();
        for candidate in find(&self.config, &self.folders, &self.grounds) {
            // One that is both named and searched for is one plugin; two of one id in two folders are two, and the host says so.
            let is_known = |known: &Candidate| known.id == candidate.id && known.origin == candidate.origin;
            if !all.iter().any(is_known) && !self.more.iter().any(|more| more.id == candidate.id) {
                all.push(candidate);
            }
        }
        all
    }

    /// All plugins there are: those of this binary, and those that are found.
    pub(crate) fn all(&self) -> Vec<Candidate> {
        bespoke_plugin_api::compiled_in().into_iter().map(Candidate::from).chain(self.found()).collect()
    }

    /// The plugin of that id that was found, as it is now.
    pub(crate) fn find(&self, id: &str) -> Option<Candidate> {
        self.found().into_iter().find(|candidate| candidate.id == id)
    }

    /// The plugin in a folder.
    ///
    /// # Errors
    /// When there is none, or it cannot be read; with the command that builds it, when the folder holds its source.
    pub(crate) fn open_folder(&self, folder: &Path) -> Result<Candidate> {
        if let Some(tier) = unbuilt(folder) {
            let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
            let message = format!("{}: it is the source of a plugin, of which nothing is built there", folder.display());
            let help = format!("bespoke plugin build {} --tier {tier}", folder.display());
            return Err(Error::new(Code::LOAD_FAILED, message).with_help(help));
        }
        let install = self.grounds.install_dependencies || self.config.plugin_defaults().is_ok_and(|defaults| defaults.auto_install_deps);
        let grounds = self.grounds.clone().install_dependencies(install);
        let candidate = open_folder(&std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned()), &grounds);
        candidate.manifest.clone()?;
        Ok(candidate)
    }

    /// Where a plugin lies that is not part of this binary.
    pub(crate) fn folder_of(&self, candidate: &Candidate) -> Option<PathBuf> {
        (candidate.tier != Tier::Compiled).then(|| PathBuf::from(&candidate.origin))
    }

    /// Whether a plugin in this folder is found by itself.
    pub(crate) fn searches(&self, folder: &Path) -> bool {
        folder.parent().is_some_and(|parent| self.folders().iter().any(|searched| searched == parent))
    }

    /// Folders of plugin folders, there or not.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        let dir = self.config.plugin_dir().ok().flatten();
        let mut all: Vec<PathBuf> = self.folders.iter().take(1).cloned().chain(dir).chain(self.folders.iter().skip(1).cloned()).collect();
        let mut seen = Vec::new();
        all.retain(|folder| {
            let is_new = !seen.contains(folder);
            seen.push(folder.clone());
            is_new
        });
        all
    }
}

/// The tier to build a plugin for, where a folder holds its source and nothing that could be loaded; `None` for any other folder.
pub(crate) fn unbuilt(folder: &Path) -> Option<&'static str> {
    use bespoke_manifest::Tier as Ships;
    let file = folder.join("plugin.toml");
    let is_short = fs::metadata(&file).is_ok_and(|meta| meta.is_file() && meta.len() <= MOST_BYTES);
    if !is_short || !folder.join("Cargo.toml").is_file() {
        return None;
    }
    // What it inherits of its crate does not matter for this.
    let inherited = Inherited { version: "0.0.0", license: "MIT" };
    let manifest = Manifest::parse("plugin.toml", &fs::read_to_string(&file).ok()?, Some(inherited)).ok()?;
    if manifest.process.is_some() || manifest.dylib.is_some() || manifest.wasm.is_some() {
        return None;
    }
    // Of those that this program can load, first what every Rust builds and a wall holds.
    let loaded =
        [Ships::Process, Ships::Wasm, Ships::Dylib].into_iter().filter(|tier| tiers().iter().any(|d| d.tier.name() == tier.name()));
    let tier = loaded.chain([Ships::Compiled]).find(|tier| manifest.tiers.contains(tier));
    tier.or(manifest.tiers.first().copied()).map(|tier| tier.name())
}

/// Bytes of a manifest; the manifest itself takes no more.
const MOST_BYTES: u64 = 1 << 20;

/// This program, to be started again. Not by its path where there is another way: an upgrade puts another program there, or none.
pub(crate) fn this_program() -> std::io::Result<PathBuf> {
    let itself = Path::new("/proc/self/exe");
    if cfg!(target_os = "linux") && itself.exists() { Ok(itself.to_owned()) } else { env::current_exe() }
}

#[cfg(feature = "process")]
impl bespoke_host_stdio::Source for Shelf {
    fn all(&self) -> Vec<Candidate> {
        Shelf::all(self)
    }

    fn open(&self, folder: &Path) -> Result<Candidate> {
        self.open_folder(folder)
    }
}
