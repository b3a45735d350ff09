//! What can be in the way of a build, each with the command or the change that helps. Exit codes are the app's.

use std::{
    io,
    path::{Path, PathBuf},
};

use bespoke_manifest::{ManifestError, Tier};

/// Why nothing was built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// What was named is no folder.
    #[error("{} is no folder", path.display())]
    NoFolder {
        /// What was named.
        path: PathBuf,
    },
    /// The folder has no such file: `Cargo.toml` or `plugin.toml`.
    #[error("{} has no {file}: {what}", folder.display())]
    NoFile {
        /// The plugin's folder.
        folder: PathBuf,
        /// The file.
        file: &'static str,
        /// What it would be for.
        what: &'static str,
    },
    /// `plugin.toml` cannot be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The crate is no plugin.
    #[error("{}: {why}", manifest.display())]
    NoPlugin {
        /// Its Cargo.toml.
        manifest: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A dependency by a path where no crate is.
    #[error("{}:{line}: `{name}` leads nowhere: there is no {}", manifest.display(), path.join("Cargo.toml").display())]
    LeadsNowhere {
        /// The plugin's Cargo.toml.
        manifest: PathBuf,
        /// The line of the dependency.
        line: usize,
        /// The dependency.
        name: String,
        /// Where it leads.
        path: PathBuf,
    },
    /// The manifest does not list the tier.
    #[error("{}:{line}: `{id}` does not ship as {}: tiers = [{}]", manifest.display(), tier.name(), names(listed))]
    NotListed {
        /// The id.
        id: String,
        /// Its plugin.toml.
        manifest: PathBuf,
        /// The line of `tiers`.
        line: u32,
        /// What was asked for.
        tier: Tier,
        /// What it lists.
        listed: Vec<Tier>,
    },
    /// Something of the toolchain is not here.
    #[error("{what}")]
    Missing {
        /// What.
        what: String,
        /// The command that brings it.
        fix: String,
    },
    /// A dependency that cannot be in a component.
    #[error("{plugin} is not portable: {dependency} {why} ({})", way.join(" → "))]
    NotPortable {
        /// Id of the plugin.
        plugin: String,
        /// Its folder.
        folder: PathBuf,
        /// The dependency, with its version.
        dependency: String,
        /// Why it cannot.
        why: String,
        /// From the plugin to the dependency.
        way: Vec<String>,
    },
    /// Cargo says no before it builds.
    #[error("cargo cannot read {}:\n{said}", manifest.display())]
    Unreadable {
        /// The Cargo.toml.
        manifest: PathBuf,
        /// What cargo says.
        said: String,
    },
    /// The compiler or the linker says no.
    #[error("{} does not build as {}:\n{said}", package, tier.name())]
    Failed {
        /// Which crate.
        package: String,
        /// For which tier.
        tier: Tier,
        /// The last lines of what cargo says.
        said: String,
    },
    /// What is where the result goes is no former result.
    #[error("{} is in the way: it is no plugin that was built before", path.display())]
    InTheWay {
        /// Where.
        path: PathBuf,
    },
    /// A file.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What kind of trouble it is, for exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Class {
    /// What was named, or a tool that is needed, is not here.
    NotFound,
    /// The plugin cannot be built like that.
    Unsolvable,
    /// It was tried, and failed.
    Failed,
}

impl BuildError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        BuildError::Io { path: path.to_owned(), source }
    }

    /// What kind of trouble it is.
    pub fn class(&self) -> Class {
        match self {
            BuildError::NoFolder { .. } | BuildError::NoFile { .. } | BuildError::Missing { .. } => Class::NotFound,
            BuildError::LeadsNowhere { .. }
            | BuildError::NotListed { .. }
            | BuildError::NotPortable { .. }
            | BuildError::InTheWay { .. } => Class::Unsolvable,
            _ => Class::Failed,
        }
    }

    /// What to type or to change.
    pub fn help(&self) -> Option<String> {
        match self {
            BuildError::NoFile { file: "Cargo.toml", folder, .. } => {
                Some(format!("bespoke plugin load {}   if it needs no building", folder.display()))
            }
            BuildError::LeadsNowhere { name, .. } => Some(match name.strip_prefix("bespoke-") {
                Some(folder) => format!(
                    "write where it is: {name} = {{ path = \"CHECKOUT/crates/{folder}\" }} with the absolute path of a checkout of Bespoke, or {name} = {{ git = \"URL\" }}"
                ),
                None => format!("write where it is: {name} = {{ path = \"/ABSOLUTE/PATH\" }}, or where else it comes from"),
            }),
            BuildError::Unreadable { said, .. } if said.contains("failed to find a workspace root") => {
                Some("write out what it has of a workspace (what ends in `.workspace = true`), or put it into one".to_owned())
            }
            BuildError::NotListed { manifest, line, tier, listed, .. } => {
                let all: Vec<Tier> = Tier::ALL.iter().copied().filter(|t| t == tier || listed.contains(t)).collect();
                Some(format!("write tiers = [{}] in line {line} of {}, if it can", names(&all), manifest.display()))
            }
            BuildError::Missing { fix, .. } => Some(fix.clone()),
            BuildError::NotPortable { folder, .. } => {
                Some(format!("do without it, or build it as a process: bespoke plugin build {} --tier process", folder.display()))
            }
            BuildError::InTheWay { .. } => Some("name another folder with --out".to_owned()),
            _ => None,
        }
    }
}

fn names(tiers: &[Tier]) -> String {
    tiers.iter().map(|tier| format!("\"{}\"", tier.name())).collect::<Vec<_>>().join(", ")
}
