//! A tool that lets the model run programs, those that the user has named and no others. It is no shell: arguments are a list, and
//! nothing reads them but the program.
//!
//! * Off until `plugins.shell.allow` names a program: until then no model is offered `run_program`. Names are looked up in `PATH`
//!   once, at the start; what `PATH` or the folder of work holds later does not matter.
//! * A program that runs what its arguments say (`sh`, `python3`, `env`, `xargs`, `find`, …) is refused at the start unless
//!   `allow_interpreters` is set: with one of them the list would mean nothing. The list of those is a guard against mistakes, not a
//!   proof; a copy of a shell under another name is not known.
//! * `first_args` limits the first argument of a program, as in `git` with `status` and `log` only. Further arguments are not limited.
//! * The environment is `PATH` with the system's folders, and what `env` names. Standard input is closed or what the model gives.
//! * Time, output, arguments and input have limits. Of long output the model sees the beginning and the end.
//! * When the time is over, when the caller has gone, when the program itself has ended and when this process ends, however that ends, its
//!   process group is killed. A process that makes a session of its own leaves the group and lives on; the call does not wait for it.
//!
//! The program runs as the user of this program and may do all that the user may: the list is the protection, there is no sandbox.
//! It has no terminal to read from, but a program that opens `/dev/tty` can write there. What this program has opened is closed
//! in it, as the Rust library does; what this program itself was started with beyond its standard streams is passed on.
//! A program with commands of its own, such as `git` with its aliases, runs others if its arguments say so: limit its first argument.
//!
//! Works on Unix; elsewhere the tool says that it does not.

use std::{ffi::OsString, path::PathBuf, sync::Arc};

use bespoke_plugin_api::{
    CallCx, CancelToken, Contribution, Error, Facts, Health, Level, Plugin, PluginApi, PluginContext, Result, Tool, ToolOutput,
    ToolRequest, ToolSpec, async_trait,
    serde::{self, Deserialize},
    serde_json::json,
};

mod allowed;
mod config;
mod refusal;
#[cfg(unix)]
mod run;
#[cfg(not(unix))]
#[path = "run_disabled.rs"]
mod run;

pub use crate::config::Config;
use crate::{allowed::Allowed, refusal::Refusal};

/// One instance.
pub struct Shell(Arc<Runner>);

/// What the plugin and its tool hold.
struct Runner {
    cx: PluginContext,
    config: Config,
    allowed: Allowed,
    /// Where programs work; `None` where neither the configuration nor the host names a folder.
    folder: Option<PathBuf>,
    /// The whole environment of a program, taken at the start.
    environment: Vec<(String, OsString)>,
    /// Cancelled when the plugin stops.
    stopped: CancelToken,
}

impl Plugin for Shell {
    type Config = Config;

    /// Nothing that is always there: what a user has not switched on, no model is offered.
    fn register(_api: &mut PluginApi<Self>) {}

    async fn start(cx: PluginContext, config: Config) -> Result<Self> {
        config.check()?;
        let configured = config.folder()?;
        // While the tool is off, nothing is made for it.
        let own = cx.data_dir().filter(|_| !config.allow.is_empty());
        let (looked_up, lists) = (configured.clone().or_else(|| own.cloned()), config.clone());
        let (folder, allowed) = cx
            .blocking(move || -> Result<_> {
                let folder = looked_up.map(|place| open_folder(&place, configured.is_some())).transpose()?;
                let allowed = Allowed::look_up(&lists, folder.as_deref())?;
                Ok((folder, allowed))
            })
            .await??;
        let environment = config.environment();
        let runner = Arc::new(Runner { cx, config, allowed, folder, environment, stopped: CancelToken::new() });
        if run::IS_SUPPORTED && !runner.allowed.is_empty() {
            let tool = Contribution::Tool(run_program(&runner.allowed), Arc::new(RunProgram(runner.clone())));
            runner.cx.host().publish(vec![tool])?;
        }
        Ok(Shell(runner))
    }

    fn health(&self) -> Health {
        if !run::IS_SUPPORTED {
            Health::Degraded("programs are run on Unix only".into())
        } else if self.0.allowed.is_empty() {
            Health::Degraded(OFF.into())
        } else {
            Health::Ok
        }
    }

    fn facts(&self) -> Facts {
        let mut facts = Facts::new();
        facts.insert("programs".into(), self.0.allowed.list());
        if let Some(folder) = &self.0.folder {
            facts.insert("folder".into(), folder.display().to_string());
        }
        facts
    }

    async fn shutdown(&self) {
        self.0.stopped.cancel();
    }
}

bespoke_plugin_api::plugin!("shell", Shell);

/// What a user reads while no program is named.
const OFF: &str = "no program may be run until some are named: bespoke config set plugins.shell.allow '[\"git\"]'";

/// The tool. It names the programs, so that a model that is kept to the schema asks for one of them.
fn run_program(allowed: &Allowed) -> ToolSpec {
    let what = "Runs a program on the user's machine and returns its output. There is no shell: no pipes, no variables, no wildcards.";
    ToolSpec::new("run_program", what).input(json!({
        "type": "object",
        "properties": {
            "program": { "type": "string", "enum": allowed.names(), "description": "Name of the program" },
            "args": {
                "type": "array", "items": { "type": "string" },
                "description": "Its arguments, each as one item, without quotes"
            },
            "stdin": { "type": "string", "description": "Text for its standard input" }
        },
        "required": ["program"],
        "additionalProperties": false
    }))
}

/// The folder of work, without links. The user's must be there; the plugin's own is made.
fn open_folder(place: &std::path::Path, configured: bool) -> Result<PathBuf> {
    let made = if configured { Ok(()) } else { std::fs::create_dir_all(place) };
    let opened = made.and_then(|()| std::fs::canonicalize(place));
    let opened = opened.and_then(|path| if path.is_dir() { Ok(path) } else { Err(std::io::ErrorKind::NotADirectory.into()) });
    opened.map_err(|e| {
        Error::invalid_params(format!("`cwd`: {}: {e}", place.display()))
            .with_help("make the folder, or choose another: bespoke config set plugins.shell.cwd ~/work")
            .with_data(json!({ "path": "cwd" }))
    })
}

#[derive(Deserialize)]
#[serde(crate = "serde", deny_unknown_fields)]
struct Args {
    program: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    stdin: Option<String>,
}

struct RunProgram(Arc<Runner>);

#[async_trait]
impl Tool for RunProgram {
    async fn call(&self, cx: &CallCx, request: ToolRequest) -> Result<ToolOutput> {
        cx.check()?;
        let args: Args = request.parse()?;
        match self.0.job(cx, args) {
            Ok(job) => run::run(&self.0, cx, job).await,
            Err(refusal) => {
                if refusal.is_attempt() {
                    self.0.cx.log(Level::Warn, &format!("refused: {refusal}"));
                }
                Ok(ToolOutput::error(refusal.to_string()).with_data(json!({ "refused": refusal.word() })))
            }
        }
    }
}

/// A program to run, and what the model calls it.
#[cfg_attr(not(unix), allow(dead_code, reason = "nothing is run there"))]
struct Job {
    name: String,
    job: bespoke_program::Job,
}

impl Runner {
    /// What to run, if it may be run.
    fn job(&self, cx: &CallCx, args: Args) -> Result<Job, Refusal> {
        if !run::IS_SUPPORTED {
            return Err(Refusal::NotSupported);
        }
        let program = self.allowed.find(&args.program, &args.args)?.to_path_buf();
        let folder = self.folder.clone().ok_or(Refusal::NoFolder)?;
        let config = &self.config;
        let bytes: usize = args.args.iter().map(|arg| arg.len() + 1).sum();
        if bytes as u64 > config.max_args_bytes {
            return Err(Refusal::TooMuch("arguments", bytes as u64, config.max_args_bytes, "max_args_bytes"));
        }
        if args.args.iter().any(|arg| arg.contains('\0')) {
            return Err(Refusal::Nul);
        }
        let stdin = args.stdin.unwrap_or_default();
        if stdin.len() as u64 > config.max_stdin_bytes {
            return Err(Refusal::TooMuch("standard input", stdin.len() as u64, config.max_stdin_bytes, "max_stdin_bytes"));
        }
        let most = config.timeout();
        // A caller that stops waiting earlier gets what there is until then.
        let timeout = cx.deadline().map_or(most, |deadline| self.cx.now().until(deadline).min(most));
        let job = bespoke_program::Job {
            program,
            args: args.args,
            stdin: stdin.into_bytes(),
            folder,
            environment: self.environment.clone(),
            timeout,
            // At most 16 MiB, by its range.
            max_output: usize::try_from(config.max_output_bytes).unwrap_or(usize::MAX),
        };
        Ok(Job { name: args.program, job })
    }
}

#[cfg(test)]
mod tests {
    use super::Config;

    #[test]
    fn the_schema_is_fresh() {
        bespoke_plugin_testkit::check_config_schema(env!("CARGO_MANIFEST_DIR"), schemars::schema_for!(Config));
    }
}
