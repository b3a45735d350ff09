//! Commands of plugins: which there are, and running one. Who reads a command line or a chat is the program's; what a command does is the
//! plugin's.

mod arguments;
mod names;
mod output;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    slice,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bespoke_plugin_api::{CallCx, Code, Command, CommandRequest, CommandSpec, Contribution, Error, Kind, Output, Result, Spec};
use bespoke_screen::plain;
use serde::Serialize;

pub(crate) use arguments::cleaned;
pub use arguments::split_arguments;
pub(crate) use names::Names;
use output::{Bounded, Closes};

use crate::{
    Host, Selection,
    api::Services,
    candidate::{State, Tier},
    plugin::PluginCell,
};

/// Most characters of a line about a command, and of its usage: they stand in listings.
const LONGEST_LINE: usize = 200;

/// A command of a plugin, as it can be listed without starting the plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CommandInfo {
    /// The verb.
    pub name: String,
    /// Id of the plugin.
    pub plugin: String,
    /// One line on what it does; empty when the plugin says nothing before it runs.
    pub about: String,
    /// How it is called.
    pub usage: String,
    /// Whether only a user with a login may run it.
    pub require_auth: bool,
}

/// Who runs a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// `local` for the user of this machine, else `CHANNEL:SENDER`.
    pub user: String,
    /// Whether that user has a login.
    pub authenticated: bool,
}

impl Caller {
    /// The user of this machine, whose home the program serves.
    pub fn local() -> Self {
        Caller { user: "local".into(), authenticated: true }
    }
}

impl Host {
    /// The commands that can be run, by name, of plugins that run and of those that would: nothing is started. Not those whose name was
    /// refused; their plugins' rows say why.
    pub fn commands(&self) -> Vec<CommandInfo> {
        let services = &self.inner().services;
        let mut commands: Vec<CommandInfo> = Vec::new();
        for slot in services.registry.all::<dyn Command>() {
            if self.refused(slot.cell(), slot.name()).is_none() {
                commands.push(CommandInfo::of(slot.cell(), slot.name(), Some(slot.spec())));
            }
        }
        for plugin in self.plugins().iter().filter(|p| p.may_serve() && p.state() != State::Missing) {
            let declared = plugin.manifest.iter().flat_map(|m| &m.provides).filter(|p| p.kind == Kind::Command && !p.dynamic);
            for name in declared.filter_map(|p| p.name.as_deref()) {
                if self.refused(plugin, name).is_none() && !commands.iter().any(|known| known.name == name) {
                    commands.push(CommandInfo::of(plugin, name, self.registered(plugin, name).as_ref()));
                }
            }
        }
        commands.sort_by(|a, b| a.name.cmp(&b.name));
        commands
    }

    /// One of [`commands`](Self::commands).
    ///
    /// # Errors
    /// `PLUGIN_NOT_FOUND` when nobody has it, or its name was refused; `NOT_READY` or `PERMISSION_DENIED` when its plugin cannot serve.
    pub fn command(&self, name: &str) -> Result<CommandInfo> {
        self.commands().into_iter().find(|command| command.name == name).ok_or_else(|| self.no_command(name))
    }

    /// Runs a command, apart from its caller and in bounded time, and returns its exit code, 0–255. A plugin that does not run is started.
    /// The arguments reach it without control characters, escape sequences and what cannot be seen. What it says is bounded, holds no
    /// secret that the host knows, and is not made harmless for a terminal: that is for whoever shows it.
    ///
    /// # Errors
    /// `PLUGIN_NOT_FOUND`; `PERMISSION_DENIED` for a caller without a login, unless the command needs none; `INVALID_PARAMS` for too many
    /// or too long arguments; `NOT_READY`; what the guard says of a call, such as `EXECUTION_TIMEOUT`; what the command says.
    pub async fn run_command(&self, cx: &CallCx, name: &str, args: Vec<String>, caller: Caller, out: Output) -> Result<i32> {
        let services = &self.inner().services;
        let known = self.command(name)?;
        // Before anything of the plugin runs, and again when it has said what it is.
        admit(known.require_auth, name, &caller)?;
        let args = cleaned(args)?;
        if let Some(plugin) = services.plugin(&known.plugin) {
            if plugin.state() == State::Unloaded && !plugin.rests() {
                self.start(Selection::Ids(slice::from_ref(&known.plugin))).await;
            }
            plugin.started().await;
        }
        let slot = services.find::<dyn Command>(name)?;
        admit(slot.spec().require_auth, name, &caller)?;
        let user: String = plain(&caller.user).chars().filter(|c| !c.is_control()).take(LONGEST_LINE).collect();
        let request = CommandRequest::new(args).user(user).authenticated(caller.authenticated);
        let bounded = Bounded::new(out, self.redactor().clone());
        let _closes = Closes(bounded.clone());
        let _running = Running::of(slot.cell());
        let out = Output::new(bounded);
        let limit = self.command_limit(slot.plugin());
        let run = slot.apart_within(limit, cx, move |command, cx| async move { command.run(&cx, request, out).await });
        let code = run.await.map_err(|error| match error.code() {
            Code::EXECUTION_TIMEOUT if error.help().is_none() => {
                let ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
                let help = format!("bespoke config set plugins.{}.command_timeout_ms {}", slot.plugin(), ms.saturating_mul(2));
                error.with_help(help)
            }
            _ => error,
        })?;
        if !(0..=255).contains(&code) {
            let message = format!("the command `{name}` returned the exit code {code}, which is none: 0 to 255");
            return Err(Error::new(Code::CONTRACT_MISMATCH, message).with_plugin(slot.plugin()));
        }
        Ok(code)
    }

    /// What a plugin that is part of the program registers: its own words on a command, without an instance.
    fn registered(&self, plugin: &PluginCell, name: &str) -> Option<CommandSpec> {
        if plugin.candidate.tier != Tier::Compiled {
            return None;
        }
        let terms = self.inner().terms_of(&self.config(), plugin).ok()?;
        let specs = catch_unwind(AssertUnwindSafe(|| plugin.candidate.artifact.declare(&terms))).ok()?.ok()?;
        specs.into_iter().find_map(|spec| match spec {
            Spec::Command(spec) if spec.name == name => Some(spec),
            _ => None,
        })
    }

    /// Why a command of a plugin cannot be run under its name.
    fn refused(&self, plugin: &PluginCell, name: &str) -> Option<String> {
        plugin.refused_command(name).or_else(|| self.inner().services.names.refuse(name))
    }

    fn command_limit(&self, plugin: &str) -> Duration {
        let config = self.config();
        let own = config.plugin_settings(plugin).ok().and_then(|settings| settings.command_timeout_ms);
        let all = || config.plugin_defaults().unwrap_or_default().command_timeout_ms;
        Duration::from_millis(own.unwrap_or_else(all))
    }

    /// The error of a name that no command has.
    fn no_command(&self, name: &str) -> Error {
        let services = &self.inner().services;
        let known = |plugin: &Arc<PluginCell>| {
            plugin.manifest.iter().flat_map(|m| &m.provides).any(|p| p.kind == Kind::Command && p.name.as_deref() == Some(name))
        };
        if let Some(plugin) = services.plugins.load().iter().find(|p| known(p)) {
            return match self.refused(plugin, name) {
                Some(why) => Error::new(Code::PLUGIN_NOT_FOUND, why).with_plugin(plugin.id()),
                None => plugin.not_ready(),
            };
        }
        let commands = self.commands();
        let close = bespoke_manifest::closest(name, commands.iter().map(|command| command.name.as_str()));
        let meant = close.map_or(String::new(), |close| format!("; did you mean `{close}`?"));
        Error::new(Code::PLUGIN_NOT_FOUND, format!("there is no command `{}`{meant}", names::shown(name))).with_help("bespoke --help")
    }
}

impl CommandInfo {
    /// By what plugin.toml says, else by what the plugin registered. The stricter of the two says who may run it.
    fn of(plugin: &PluginCell, name: &str, spec: Option<&CommandSpec>) -> Self {
        let provides = plugin.manifest.iter().flat_map(|m| &m.provides);
        let declared = provides.filter(|p| p.kind == Kind::Command).find(|p| p.name.as_deref() == Some(name));
        let about = declared.and_then(|p| p.about.as_deref()).or(spec.map(|spec| spec.about.as_str()));
        let usage = declared.and_then(|p| p.usage.as_deref()).or(spec.map(|spec| spec.usage.as_str()));
        let by_manifest = declared.and_then(|p| p.require_auth);
        let by_spec = spec.map(|spec| spec.require_auth);
        CommandInfo {
            name: name.to_owned(),
            plugin: plugin.id().to_owned(),
            about: one_line(about.unwrap_or_default()),
            usage: one_line(usage.filter(|usage| !usage.is_empty()).unwrap_or(name)),
            require_auth: [by_manifest, by_spec].into_iter().flatten().reduce(|a, b| a || b).unwrap_or(true),
        }
    }
}

/// A line for a listing, whatever a plugin wrote.
fn one_line(text: &str) -> String {
    let line: String = plain(text).split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() > LONGEST_LINE { line.chars().take(LONGEST_LINE).chain(['…']).collect() } else { line }
}

/// Lets a caller pass who may run a command.
fn admit(require_auth: bool, name: &str, caller: &Caller) -> Result<()> {
    if !require_auth || caller.authenticated {
        return Ok(());
    }
    let user = names::shown(&caller.user);
    let message = format!("the command `{name}` is for users with a login, and {user} has none");
    Err(Error::new(Code::PERMISSION_DENIED, message)
        .with_help(format!("add \"{user}\" to owners under [serve] in bespoke.toml, if that is you")))
}

/// How many commands of a plugin run. While there is one, the plugin's commands stay what they are.
pub(crate) type RunningCommands = Arc<AtomicUsize>;

/// Counts one run as long as somebody waits for it.
struct Running(RunningCommands);

impl Running {
    fn of(plugin: &PluginCell) -> Self {
        plugin.running_commands.fetch_add(1, Ordering::SeqCst);
        Running(plugin.running_commands.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Services {
    /// Whether a plugin that serves may change its commands to these, and under these names.
    ///
    /// # Errors
    /// `CONTRACT_MISMATCH` for a name that is refused; `CONFLICT` while one of its commands runs, which waits for nobody.
    pub(crate) fn may_publish_commands(&self, plugin: &PluginCell, contributions: &[Contribution], serves: bool) -> Result<()> {
        let new: Vec<CommandSpec> = contributions
            .iter()
            .filter_map(|contribution| match contribution.spec() {
                Spec::Command(spec) => Some(spec),
                _ => None,
            })
            .collect();
        let slots = self.registry.all::<dyn Command>();
        let others: Vec<_> = slots.iter().filter(|slot| slot.plugin() != plugin.id()).map(|slot| (slot.name(), slot.plugin())).collect();
        if let Some(why) = new.iter().find_map(|spec| self.names.refuse_beside(&spec.name, others.iter().copied())) {
            return Err(Error::new(Code::CONTRACT_MISMATCH, why).with_help("rename it"));
        }
        if !serves || plugin.running_commands.load(Ordering::SeqCst) == 0 {
            return Ok(());
        }
        let declared = |name: &str| {
            plugin
                .manifest
                .iter()
                .flat_map(|m| &m.provides)
                .any(|p| p.kind == Kind::Command && !p.dynamic && p.name.as_deref() == Some(name))
        };
        let old: Vec<_> =
            slots.iter().filter(|slot| slot.plugin() == plugin.id() && !declared(slot.name())).map(|slot| slot.spec()).collect();
        let same = old.len() == new.len() && new.iter().all(|spec| old.contains(&spec));
        if same {
            return Ok(());
        }
        let message = "its commands cannot change while one of them runs; what it offered before stays";
        Err(Error::new(Code::CONFLICT, message).retryable().with_help("publish them when the command has returned"))
    }
}
