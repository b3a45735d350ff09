//! The table `[plugins.exec]`, and what it means on this machine.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use bespoke_plugin_api::{
    Error, Hook, HookSpec, Result,
    serde::{self, Deserialize, Deserializer, de},
    serde_json::json,
};

/// Where programs are looked up, and what they see as PATH unless `env` names it.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// Most subscriptions; more are a slip, or a list that somebody else writes.
const MOST_HOOKS: usize = 64;

/// The table `[plugins.exec]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize), schemars(extend("additionalProperties" = false)))]
pub struct Config {
    /// The programs, and what each is asked or told of. At most 64.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub hooks: Vec<Entry>,
}

/// One program.
#[derive(Debug, Clone, Deserialize)]
#[serde(crate = "serde", deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize), schemars(extend("additionalProperties" = false)))]
pub struct Entry {
    /// Name of the subscription: small letters, digits, `-` and `_`. No other hook may have it.
    pub name: String,
    /// What it is asked about; `on_event` when `topics` says which events it is told of.
    #[serde(default, deserialize_with = "hook")]
    #[cfg_attr(test, schemars(schema_with = "hooks"))]
    pub hook: Option<Hook>,
    /// Topics of events that it is told of, such as `step_completed`; with a star at the end, all that begin so.
    #[serde(default)]
    pub topics: Vec<String>,
    /// The program and its arguments: an absolute path, one that begins with ~/, or a name that is looked up in the system's folders.
    pub command: Vec<String>,
    /// Names of variables of this program's environment that it sees, besides a PATH of the system's folders.
    #[serde(default)]
    pub env: Vec<String>,
    /// The folder that it works in: absolute, or beginning with ~/. When empty, the folder of the plugin.
    #[serde(default)]
    pub cwd: String,
    /// Milliseconds after which it is killed, with all that it has started.
    #[serde(default = "timeout_ms")]
    #[cfg_attr(test, schemars(range(min = 10, max = 3_600_000)))]
    pub timeout_ms: u64,
    /// Higher runs earlier.
    #[serde(default)]
    pub priority: i32,
    /// Whether things go on when it fails or is late: `open`, or not: `closed`.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Whether it only looks: it runs beside others, and its answer does not count.
    #[serde(default)]
    pub observer: bool,
}

/// What a failure means. A word that is neither is an error here, where somebody wrote it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(crate = "serde", rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize))]
pub enum OnFailure {
    /// Goes on.
    #[default]
    Open,
    /// Stops what was about to happen.
    Closed,
}

/// What a subscription runs.
pub(crate) struct Command {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) environment: Vec<(String, OsString)>,
    pub(crate) folder: PathBuf,
    pub(crate) timeout: Duration,
    /// Of events, those with one of these topics; each with whether it is only the beginning.
    pub(crate) topics: Vec<(String, bool)>,
}

impl Config {
    /// The subscriptions and what they run. Looks at the disk.
    pub(crate) fn look_up(&self, own: Option<&Path>) -> Result<Vec<(HookSpec, Command)>> {
        if self.hooks.len() > MOST_HOOKS {
            return Err(bad("hooks".into(), format!("{} hooks, and {MOST_HOOKS} are the most", self.hooks.len())));
        }
        self.hooks.iter().enumerate().map(|(at, entry)| self.one(at, entry, own)).collect()
    }

    fn one(&self, at: usize, entry: &Entry, own: Option<&Path>) -> Result<(HookSpec, Command)> {
        let fault = |key: &str, message: String| bad(format!("hooks[{at}].{key}"), message);
        let name = &entry.name;
        let letters = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
        if name.is_empty() || name.len() > 64 || !letters {
            return Err(fault("name", format!("{name:?} is no name: write up to 64 small letters, digits, `-` and `_`")));
        }
        if self.hooks[..at].iter().any(|other| other.name == *name) {
            return Err(fault("name", format!("`{name}` stands there twice")));
        }
        if !(10..=3_600_000).contains(&entry.timeout_ms) {
            return Err(fault("timeout_ms", format!("`timeout_ms` is {}; it has to be from 10 to 3600000", entry.timeout_ms)));
        }
        let hook = match (entry.hook, entry.topics.is_empty()) {
            (Some(Hook::OnEvent) | None, false) => Hook::OnEvent,
            (Some(hook), true) if hook != Hook::OnEvent => hook,
            (Some(Hook::OnEvent), _) => return Err(fault("topics", "names no event; write topics = [\"step_*\"]".into())),
            (Some(hook), _) => return Err(fault("topics", format!("{} has no topics; leave them out, or the hook", hook.name()))),
            (None, true) => return Err(fault("hook", "neither a hook nor topics; write hook = \"before_tool_execute\"".into())),
        };
        let mut spec = HookSpec::new(name, hook).priority(entry.priority).timeout(Duration::from_millis(entry.timeout_ms));
        if entry.on_failure == OnFailure::Closed {
            spec = spec.fail_closed();
        }
        if entry.observer {
            spec = spec.observer();
        }
        let topics: Vec<(String, bool)> = entry.topics.iter().map(|topic| topic_of(topic)).collect();
        let spec = spec.topics(topics.iter().map(|(topic, _)| topic));
        let (program, args) = entry.command.split_first().ok_or_else(|| fault("command", "names no program".into()))?;
        if entry.command.iter().any(|part| part.contains('\0')) {
            return Err(fault("command", "holds a NUL byte, which no program can take".into()));
        }
        let program = program_of(program).map_err(|why| fault("command", why))?;
        let environment = environment(&entry.env).map_err(|why| fault("env", why))?;
        let folder = folder_of(&entry.cwd, own).map_err(|why| fault("cwd", why))?;
        let timeout = Duration::from_millis(entry.timeout_ms);
        Ok((spec, Command { program, args: args.to_vec(), environment, folder, timeout, topics }))
    }
}

impl Command {
    /// Whether it wants to know of events of this topic.
    pub(crate) fn hears(&self, topic: &str) -> bool {
        self.topics.iter().any(|(own, begins)| if *begins { topic.starts_with(own.as_str()) } else { topic == own })
    }
}

fn timeout_ms() -> u64 {
    5_000
}

/// `workflow_*` is all that begins so.
fn topic_of(topic: &str) -> (String, bool) {
    topic.strip_suffix('*').map_or_else(|| (topic.to_owned(), false), |beginning| (beginning.to_owned(), true))
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

fn environment(names: &[String]) -> Result<Vec<(String, OsString)>, String> {
    if let Some(name) = names.iter().find(|name| name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')) {
        return Err(format!("{name:?} is no name of a variable"));
    }
    let passed = names.iter().filter_map(|name| Some((name.clone(), std::env::var_os(name)?)));
    let mut all: Vec<_> = passed.collect();
    if !all.iter().any(|(name, _)| name == "PATH") {
        all.push(("PATH".to_owned(), PATH.into()));
    }
    Ok(all)
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

/// A hook by its name, or the name that was probably meant.
fn hook<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Hook>, D::Error> {
    let name = String::deserialize(value)?;
    Hook::from_name(&name).map(Some).ok_or_else(|| {
        let names = Hook::ALL.iter().map(|hook| hook.name());
        let near = names.min_by_key(|known| strsim::damerau_levenshtein(known, &name.to_ascii_lowercase()));
        de::Error::custom(format!("there is no hook {name:?}; did you mean `{}`?", near.unwrap_or_default()))
    })
}

#[cfg(test)]
fn hooks(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "string", "enum": Hook::ALL.iter().map(|hook| hook.name()).collect::<Vec<_>>() })
}

/// A value that does not fit, with the key it stands under.
fn bad(path: String, message: String) -> Error {
    Error::invalid_params(message).with_data(json!({ "path": path }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_fresh() {
        bespoke_plugin_testkit::check_config_schema(env!("CARGO_MANIFEST_DIR"), schemars::schema_for!(Config));
    }

    #[test]
    fn a_star_is_a_beginning() {
        assert_eq!(topic_of("workflow_*"), ("workflow_".into(), true));
        assert_eq!(topic_of("*"), (String::new(), true));
        assert_eq!(topic_of("step_completed"), ("step_completed".into(), false));
    }
}
