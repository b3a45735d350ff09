//! Programs of the user as hooks: asked before something happens, or told after. There is no shell: a command is a list, and nothing
//! reads its arguments but the program.
//!
//! ```toml
//! [plugins.exec]
//! hooks = [
//!   { name = "guard", hook = "before_tool_execute", command = ["~/bin/guard"], on_failure = "closed" },
//!   { name = "steps", topics = ["step_*"], command = ["logger", "-t", "bespoke"], observer = true },
//! ]
//! ```
//!
//! The event is JSON on the program's standard input. What it answers:
//!
//! * nothing, and exit code 0: go on;
//! * JSON on its standard output, and exit code 0: `{"reply":"continue"}`, `{"reply":"veto","reason":"…"}`, or
//!   `{"reply":"replace","event":{…}}` with the whole event as it is to be;
//! * exit code 2: a veto, whose reason is the first line of its standard error;
//! * anything else is a failure, and `on_failure` says what that means.
//!
//! **Invariant:** a program gets a process group of its own, sees no variable of the environment but PATH and those that `env` names,
//! and is killed with its group when its time is over, when whoever asked has gone, and when it has ended itself.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bespoke_plugin_api::{
    CallCx, CancelToken, Code, Contribution, Error, Facts, Health, HookEvent, HookHandler, HookReply, Plugin, PluginApi, PluginContext,
    Result, async_trait,
};

mod config;
mod reply;
#[cfg(unix)]
mod run;
#[cfg(not(unix))]
#[path = "run_disabled.rs"]
mod run;

use crate::config::Command;
pub use crate::config::{Config, Entry, OnFailure};

/// Most programs of one subscription at the same time: one that hangs must not gather processes until the machine has no more.
const MOST_AT_ONCE: usize = 16;

/// One instance.
pub struct Exec {
    /// What there is, for people.
    hooks: Vec<String>,
    /// Cancelled when the plugin stops.
    stopped: CancelToken,
}

impl Plugin for Exec {
    type Config = Config;

    /// Nothing that is always there: what is asked is the user's to say.
    fn register(_api: &mut PluginApi<Self>) {}

    async fn start(cx: PluginContext, config: Config) -> Result<Self> {
        let own = cx.data_dir().cloned();
        let found = cx.blocking(move || config.look_up(own.as_deref())).await??;
        let stopped = CancelToken::new();
        let hooks = found.iter().map(|(spec, _)| format!("{} ({})", spec.name, spec.hook.name())).collect();
        let contributions: Vec<_> = found
            .into_iter()
            .map(|(spec, command)| {
                let name = spec.name.clone();
                let asked = Asked { cx: cx.clone(), name, command, stopped: stopped.clone(), running: Arc::default() };
                Contribution::Hook(spec, Arc::new(asked))
            })
            .collect();
        if !contributions.is_empty() {
            cx.host().publish(contributions)?;
        }
        Ok(Exec { hooks, stopped })
    }

    fn health(&self) -> Health {
        if self.hooks.is_empty() { Health::Degraded(OFF.into()) } else { Health::Ok }
    }

    fn facts(&self) -> Facts {
        let mut facts = Facts::new();
        facts.insert("hooks".into(), self.hooks.join(", "));
        facts
    }

    async fn shutdown(&self) {
        self.stopped.cancel();
    }
}

bespoke_plugin_api::plugin!("exec", Exec);

/// What a user reads while no program is named.
const OFF: &str = "no program is asked until plugins.exec.hooks names one; docs/hooks.md has examples";

/// One program, and who asks it.
struct Asked {
    cx: PluginContext,
    name: String,
    command: Command,
    stopped: CancelToken,
    running: Arc<AtomicUsize>,
}

#[async_trait]
impl HookHandler for Asked {
    async fn on(&self, cx: &CallCx, event: &HookEvent) -> Result<HookReply> {
        if let HookEvent::OnEvent { event, .. } = event
            && !self.command.hears(&event.topic)
        {
            return Ok(HookReply::Continue);
        }
        cx.check()?;
        let _running = Running::begin(&self.running)
            .ok_or_else(|| Error::new(Code::RESOURCE_EXHAUSTED, format!("`{}` runs {MOST_AT_ONCE} times already", self.name)))?;
        let outcome = run::run(self, cx, event).await?;
        reply::read(&self.name, outcome)
    }
}

/// One of the programs that run.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn begin(count: &Arc<AtomicUsize>) -> Option<Self> {
        let one = Running(count.clone());
        (count.fetch_add(1, Ordering::Relaxed) < MOST_AT_ONCE).then_some(one)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
