//! The table `[plugins.shell]`, and what it means on this machine.

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf, time::Duration};

use bespoke_plugin_api::{
    Error, Result,
    serde::{self, Deserialize},
    serde_json::json,
};

/// Where programs that are run look for others: the same whatever the environment of this program says.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The table `[plugins.shell]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize), schemars(extend("additionalProperties" = false)))]
pub struct Config {
    /// Programs that the model may run: names, looked up in PATH at the start, or absolute paths. None when empty.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub allow: Vec<String>,
    /// What the first argument of a program may be, such as `git = ["status", "log"]`. Anything for programs that are not named here.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub first_args: BTreeMap<String, Vec<String>>,
    /// Whether shells and other programs that run what their arguments say may stand in `allow`.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub allow_interpreters: bool,
    /// The folder that programs work in: absolute, or beginning with ~/. When empty, the folder of the plugin itself.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub cwd: String,
    /// Variables of the environment that programs see, besides a PATH of the system's folders.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub env: Vec<String>,
    /// Milliseconds after which a program is killed.
    #[cfg_attr(test, schemars(range(min = 10, max = 3_600_000), extend("x-reload" = "restart")))]
    pub timeout_ms: u64,
    /// Most bytes of output and errors together that the model sees. The agent shows a model 16 KiB of an answer at most.
    #[cfg_attr(test, schemars(range(min = 256, max = 16_777_216), extend("x-reload" = "restart")))]
    pub max_output_bytes: u64,
    /// Most bytes of all arguments together.
    #[cfg_attr(test, schemars(range(min = 0, max = 131_072), extend("x-reload" = "restart")))]
    pub max_args_bytes: u64,
    /// Most bytes of standard input.
    #[cfg_attr(test, schemars(range(min = 0, max = 16_777_216), extend("x-reload" = "restart")))]
    pub max_stdin_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            allow: Vec::new(),
            first_args: BTreeMap::new(),
            allow_interpreters: false,
            cwd: String::new(),
            env: Vec::new(),
            timeout_ms: 30_000,
            max_output_bytes: 12 * 1024,
            max_args_bytes: 32 * 1024,
            max_stdin_bytes: 1 << 20,
        }
    }
}

impl Config {
    pub(crate) fn check(&self) -> Result<()> {
        let ranges = [
            ("timeout_ms", self.timeout_ms, 10, 3_600_000),
            ("max_output_bytes", self.max_output_bytes, 256, 16 << 20),
            ("max_args_bytes", self.max_args_bytes, 0, 128 << 10),
            ("max_stdin_bytes", self.max_stdin_bytes, 0, 16 << 20),
        ];
        for (key, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                return Err(bad(key, format!("`{key}` is {value}; it has to be from {least} to {most}")));
            }
        }
        for name in &self.env {
            let good = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if !good {
                return Err(bad("env", format!("{name:?} is no name of a variable")));
            }
            if name == "PATH" {
                return Err(bad("env", format!("PATH is always {PATH}: name programs outside of it by absolute path in `allow`")));
            }
        }
        Ok(())
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// The folder that the configuration means; `None` when it names none.
    pub(crate) fn folder(&self) -> Result<Option<PathBuf>> {
        if self.cwd.is_empty() {
            return Ok(None);
        }
        let path = match self.cwd.strip_prefix("~/").or((self.cwd == "~").then_some("")) {
            Some(below) => {
                let home = std::env::home_dir().ok_or_else(|| bad("cwd", "`cwd` begins with ~/, and this machine tells no home folder"))?;
                home.join(below)
            }
            None => PathBuf::from(&self.cwd),
        };
        if path.is_absolute() { Ok(Some(path)) } else { Err(bad("cwd", format!("`cwd` is {:?}, which is not absolute", self.cwd))) }
    }

    /// The whole environment of a program.
    pub(crate) fn environment(&self) -> Vec<(String, OsString)> {
        let passed = self.env.iter().filter_map(|name| Some((name.clone(), std::env::var_os(name)?)));
        [("PATH".to_owned(), PATH.into())].into_iter().chain(passed).collect()
    }
}

/// A value that does not fit, with the key it stands under.
pub(crate) fn bad(key: &str, message: impl Into<String>) -> Error {
    Error::invalid_params(message).with_data(json!({ "path": key }))
}
