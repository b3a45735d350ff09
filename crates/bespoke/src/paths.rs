//! Where a user's files are.

use std::{
    env,
    path::{Path, PathBuf},
};

use bespoke_host::Grants;

use crate::{
    cli::Global,
    exit::{Exit, Failure, Result},
};

/// The files of a user: `BESPOKE_HOME`, and the configuration in use.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    pub(crate) home: PathBuf,
    /// The configuration file that was asked for or found; it may be absent.
    pub(crate) config: Option<PathBuf>,
}

impl Paths {
    /// `--config`, else `BESPOKE_CONFIG`, else `./bespoke.toml`, else the one in `BESPOKE_HOME` (default `~/.bespoke`).
    ///
    /// # Errors
    /// When a file that was asked for is not there, or there is no home folder.
    pub(crate) fn find(config: Option<&Path>) -> Result<Self> {
        let home = Self::home()?;
        let asked = Self::asked(config);
        let config = match asked {
            Some(path) if path.is_file() => Some(path),
            Some(path) => return Err(Failure::new(Exit::NotFound, format!("{}: no such configuration file", path.display()))),
            None => [PathBuf::from("bespoke.toml"), home.join("bespoke.toml")].into_iter().find(|path| path.is_file()),
        };
        Ok(Paths { home, config })
    }

    /// For who asks a server, or looks at what it left: the home alone says which. The file that is asked for need not be there.
    ///
    /// # Errors
    /// When there is no home folder.
    #[cfg_attr(not(feature = "serve"), expect(dead_code, reason = "there is no server to ask"))]
    pub(crate) fn of_server(global: &Global) -> Result<Self> {
        Ok(Paths { home: Self::home()?, config: Self::asked(global.config.as_deref()) })
    }

    /// `BESPOKE_HOME`, there or not.
    ///
    /// # Errors
    /// When there is no home folder.
    pub(crate) fn home() -> Result<PathBuf> {
        let home = match env::var_os("BESPOKE_HOME").filter(|v| !v.is_empty()) {
            Some(home) => PathBuf::from(home),
            None => env::home_dir()
                .filter(|home| !home.as_os_str().is_empty())
                .ok_or_else(|| Failure::failed("there is no home folder").help("export BESPOKE_HOME=/a/folder"))?
                .join(".bespoke"),
        };
        Ok(std::path::absolute(&home)?)
    }

    /// The configuration file that somebody named, there or not.
    pub(crate) fn asked(config: Option<&Path>) -> Option<PathBuf> {
        config.map(Path::to_owned).or_else(|| env::var_os("BESPOKE_CONFIG").filter(|v| !v.is_empty()).map(PathBuf::from))
    }

    /// The configuration file in use, or the one that would be if it were there.
    pub(crate) fn config_to_be(&self) -> PathBuf {
        let config = self.config.clone().unwrap_or_else(|| self.home.join("bespoke.toml"));
        std::path::absolute(&config).unwrap_or(config)
    }

    pub(crate) fn models(&self) -> PathBuf {
        self.home.join("models")
    }

    /// Where plugins lie that were put there.
    pub(crate) fn plugins(&self) -> PathBuf {
        self.home.join("plugins")
    }

    /// What can be made again.
    pub(crate) fn cache(&self) -> PathBuf {
        self.home.join("cache")
    }

    /// What the user granted plugins.
    pub(crate) fn granted(&self) -> Grants {
        Grants::at(self.home.join("grants.toml"))
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    #[cfg_attr(not(feature = "state"), expect(dead_code, reason = "nothing is kept"))]
    pub(crate) fn state(&self) -> PathBuf {
        self.home.join("state.db")
    }

    /// Where a server of this user is asked.
    #[cfg_attr(not(feature = "serve"), expect(dead_code, reason = "nothing is served"))]
    pub(crate) fn socket(&self) -> PathBuf {
        self.home.join("run/control.sock")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.home.join("logs")
    }

    /// More folders with models: `BESPOKE_MODEL_PATH`, separated as `PATH` is.
    pub(crate) fn model_path() -> Vec<PathBuf> {
        list("BESPOKE_MODEL_PATH")
    }

    /// More folders of plugin folders: `BESPOKE_PLUGIN_PATH`, separated as `PATH` is.
    pub(crate) fn plugin_path() -> Vec<PathBuf> {
        list("BESPOKE_PLUGIN_PATH").into_iter().map(|path| std::path::absolute(&path).unwrap_or(path)).collect()
    }
}

fn list(variable: &str) -> Vec<PathBuf> {
    env::var_os(variable).map(|v| env::split_paths(&v).filter(|p| !p.as_os_str().is_empty()).collect()).unwrap_or_default()
}
