//! The table `[plugins.exec]`, and what it means on this machine.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use bespoke_configured_hooks::{specs, wrong};
use bespoke_plugin_api::{
    HookSpec, Result,
    serde::{self, Deserialize},
};

/// Where programs are looked up, and what they see as PATH unless `env` names it.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The table `[plugins.exec]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize), schemars(extend("additionalProperties" = false)))]
pub struct Config {
    /// The programs, and what each is asked or told of. At most 64.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub hooks: Vec<Entry>,
}

bespoke_configured_hooks::entry! {
    /// One program.
    pub struct Entry {
        /// The program and its arguments: an absolute path, one that begins with ~/, or a name that is looked up in the system's folders.
        pub command: Vec<String>,
        /// Names of variables of this program's environment that it sees, besides a PATH of the system's folders.
        #[serde(default)]
        pub env: Vec<String>,
        /// The folder that it works in: absolute, or beginning with ~/. When empty, the folder of the plugin.
        #[serde(default)]
        pub cwd: String,
    }
}

/// What an entry runs, as far as the disk has it.
pub(crate) struct Found {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) environment: Vec<(String, OsString)>,
    pub(crate) folder: PathBuf,
}

impl Config {
    /// The subscriptions, in the order of the entries. Looks at nothing but the table.
    pub(crate) fn specs(&self) -> Result<Vec<HookSpec>> {
        let specs = specs(&self.hooks)?;
        for (at, entry) in self.hooks.iter().enumerate() {
            let Some(program) = entry.command.first() else { return Err(wrong(at, "command", "names no program")) };
            if entry.command.iter().any(|part| part.contains('\0')) {
                return Err(wrong(at, "command", "holds a NUL byte, which no program can take"));
            }
            if program.contains('/') {
                absolute(program).map_err(|why| wrong(at, "command", why))?;
            }
            let is_name = |name: &String| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if let Some(name) = entry.env.iter().find(|name| !is_name(name)) {
                return Err(wrong(at, "env", format!("{name:?} is no name of a variable")));
            }
            if !entry.cwd.is_empty() {
                absolute(&entry.cwd).map_err(|why| wrong(at, "cwd", why))?;
            }
        }
        Ok(specs)
    }
}

impl Entry {
    /// What it runs, as the disk has it now. `own` is the folder of the plugin, which is made.
    ///
    /// # Errors
    /// What is not there.
    pub(crate) fn look_up(&self, own: Option<&Path>) -> Result<Found, String> {
        let (program, args) = self.command.split_first().ok_or("`command` names no program")?;
        let passed = self.env.iter().filter_map(|name| Some((name.clone(), std::env::var_os(name)?)));
        let mut environment: Vec<_> = passed.collect();
        if !environment.iter().any(|(name, _)| name == "PATH") {
            environment.push(("PATH".to_owned(), PATH.into()));
        }
        Ok(Found { program: program_of(program)?, args: args.to_vec(), environment, folder: folder_of(&self.cwd, own)? })
    }
}

fn program_of(program: &str) -> Result<PathBuf, String> {
    let found = if program.contains('/') {
        let path = absolute(program)?;
        is_program(&path).then_some(path)
    } else {
        PATH.split(':').map(|folder| Path::new(folder).join(program)).find(|path| !program.is_empty() && is_program(path))
    };
    let sought = if program.contains('/') { "at this path".into() } else { format!("in {PATH}") };
    found.ok_or_else(|| format!("there is no program `{program}` {sought}"))
}

#[cfg(unix)]
fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(path: &Path) -> bool {
    path.is_file()
}

/// The configured folder, which must be there; or the plugin's own, which is made.
fn folder_of(cwd: &str, own: Option<&Path>) -> Result<PathBuf, String> {
    if cwd.is_empty() {
        let own = own.ok_or("there is no folder of the plugin here; name one: cwd = \"~/hooks\"")?;
        std::fs::create_dir_all(own).map_err(|e| format!("{}: {e}", own.display()))?;
        return Ok(own.to_owned());
    }
    let path = absolute(cwd)?;
    if path.is_dir() { Ok(path) } else { Err(format!("there is no folder {}", path.display())) }
}

fn absolute(path: &str) -> Result<PathBuf, String> {
    let full = match path.strip_prefix("~/") {
        Some(below) => std::env::home_dir().ok_or("it begins with ~/, and this machine tells no home folder")?.join(below),
        None => PathBuf::from(path),
    };
    if full.is_absolute() { Ok(full) } else { Err(format!("{path:?} is not absolute")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_fresh() {
        bespoke_plugin_testkit::check_config_schema(env!("CARGO_MANIFEST_DIR"), schemars::schema_for!(Config));
    }
}
