//! What is in the workspace: crates, plugins with their manifests, and the app's features. Reads; never writes.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use bespoke_manifest::{Inherited, Manifest};
use cargo_metadata::{CargoOpt, Metadata, MetadataCommand, Package};

use crate::app_manifest::AppManifest;

/// The package of the app.
pub(crate) const APP: &str = "bespoke";

/// A workspace by its root. The one of the project, or a copy of it in a test.
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
}

/// One plugin crate.
pub(crate) struct Plugin {
    /// Folder under `crates/`.
    pub(crate) folder: String,
    /// Name of the package.
    pub(crate) package: String,
    /// What plugin.toml says.
    pub(crate) manifest: Manifest,
}

impl Workspace {
    /// The workspace that this program was built in, or that cargo runs it in.
    pub(crate) fn here() -> Result<Self> {
        let own = env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = own.parent().ok_or_else(|| anyhow!("{}: no parent", own.display()))?;
        Workspace::at(root)
    }

    pub(crate) fn at(root: &Path) -> Result<Self> {
        ensure!(root.join("Cargo.toml").is_file(), "{}: no Cargo.toml; run this inside the workspace", root.display());
        Ok(Workspace { root: root.to_owned() })
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    pub(crate) fn read(&self, relative: &str) -> Result<String> {
        let path = self.path(relative);
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    }

    /// `cargo metadata`; with `tree`, also which crate resolves to what, whatever the features.
    pub(crate) fn metadata(&self, tree: bool) -> Result<Metadata> {
        let mut command = MetadataCommand::new();
        command.manifest_path(self.path("Cargo.toml"));
        if tree {
            command.features(CargoOpt::AllFeatures);
        } else {
            command.no_deps();
        }
        command.exec().context("cargo metadata")
    }

    /// Where cargo builds.
    pub(crate) fn target(&self) -> Result<PathBuf> {
        Ok(self.metadata(false)?.target_directory.into_std_path_buf())
    }

    /// The features of the app.
    pub(crate) fn app(&self) -> Result<AppManifest> {
        AppManifest::parse(&self.read("crates/bespoke/Cargo.toml")?)
    }

    /// All plugins, sorted by id.
    pub(crate) fn plugins(&self) -> Result<Vec<Plugin>> {
        let metadata = self.metadata(false)?;
        let mut plugins = Vec::new();
        let mut problems = Vec::new();
        for package in &metadata.packages {
            match self.plugin(package) {
                Ok(plugin) => plugins.extend(plugin),
                Err(error) => problems.push(format!("{error:#}")),
            }
        }
        ensure!(problems.is_empty(), "{}", problems.join("\n"));
        plugins.sort_by(|a, b| a.manifest.id.cmp(&b.manifest.id));
        for pair in plugins.windows(2) {
            if let [a, b] = pair
                && a.manifest.id == b.manifest.id
            {
                bail!("crates/{} and crates/{} both have id `{}`; rename one", a.folder, b.folder, a.manifest.id);
            }
        }
        Ok(plugins)
    }

    /// `None` for a crate that is no plugin: it has no plugin.toml.
    fn plugin(&self, package: &Package) -> Result<Option<Plugin>> {
        let Some(folder) = folder(package) else { return Ok(None) };
        let path = format!("crates/{folder}/plugin.toml");
        if !self.path(&path).exists() {
            return Ok(None);
        }
        let inherited = Inherited { version: &package.version.to_string(), license: package.license.as_deref().unwrap_or_default() };
        let manifest = Manifest::parse(&path, &self.read(&path)?, Some(inherited))?;
        Ok(Some(Plugin { folder, package: package.name.to_string(), manifest }))
    }
}

/// The folder of a crate under `crates/`, `None` for one elsewhere.
pub(crate) fn folder(package: &Package) -> Option<String> {
    let folder = package.manifest_path.parent()?;
    (folder.parent()?.file_name()? == "crates").then(|| folder.file_name().map(str::to_owned))?
}

/// How the folder of a plugin is called: its kind, shortened where that is usual, and its id.
pub(crate) fn folder_of(kind: &str, id: &str) -> String {
    let kind = if kind == "accelerator" { "accel" } else { kind };
    format!("{kind}-{id}")
}
