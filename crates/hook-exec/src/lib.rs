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
//! A program that is not there is a failure of the hook that names it, each time that it is asked: the others go on, and the health of the
//! plugin says which it is.
//!
//! **Invariant:** a program gets a process group of its own, sees no variable of the environment but PATH and those that `env` names,
//! and is killed with its group when its time is over, when whoever asked has gone, when it has ended itself, and when this process ends.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bespoke_configured_hooks::{Ask, subscription};
use bespoke_plugin_api::{CallCx, CancelToken, Facts, Health, HookEvent, HookReply, Plugin, PluginApi, PluginContext, Result, async_trait};

mod config;
mod reply;
#[cfg(unix)]
mod run;
#[cfg(not(unix))]
#[path = "run_disabled.rs"]
mod run;

pub use crate::config::{Config, Entry};

/// One instance.
pub struct Exec {
    /// What there is, for people.
    hooks: Vec<String>,
    lacks: Lacks,
    /// Cancelled when the plugin stops.
    stopped: CancelToken,
}

/// What was not there when it was last looked for, by the name of the hook.
#[derive(Clone, Default)]
struct Lacks(Arc<Mutex<BTreeMap<String, String>>>);

impl Lacks {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps why a hook cannot be asked, or that it can.
    fn note(&self, name: &str, why: Option<String>) {
        match why {
            Some(why) => self.lock().insert(name.to_owned(), why),
            None => self.lock().remove(name),
        };
    }
}

impl Plugin for Exec {
    type Config = Config;

    /// Nothing that is always there: what is asked is the user's to say.
    fn register(_api: &mut PluginApi<Self>) {}

    fn check(config: &Config) -> Result<()> {
        config.specs().map(drop)
    }

    async fn start(cx: PluginContext, config: Config) -> Result<Self> {
        let specs = config.specs()?;
        let hooks = specs.iter().map(|spec| format!("{} ({})", spec.name, spec.hook.name())).collect();
        let (stopped, lacks) = (CancelToken::new(), Lacks::default());
        let (entries, own, found) = (config.hooks.clone(), cx.data_dir().cloned(), lacks.clone());
        let looking = move || entries.iter().for_each(|entry| found.note(&entry.name, entry.look_up(own.as_deref()).err()));
        cx.blocking(looking).await?;
        let published = specs.into_iter().zip(config.hooks).map(|(spec, entry)| {
            let asked = Asked { cx: cx.clone(), entry: Arc::new(entry.clone()), lacks: lacks.clone(), stopped: stopped.clone() };
            subscription(&cx, spec, &entry, asked)
        });
        let published: Vec<_> = published.collect();
        if !published.is_empty() {
            cx.host().publish(published)?;
        }
        Ok(Exec { hooks, lacks, stopped })
    }

    fn health(&self) -> Health {
        if self.hooks.is_empty() {
            return Health::Degraded(OFF.into());
        }
        let lacks: Vec<String> = self.lacks.lock().iter().map(|(name, why)| format!("`{name}` cannot be asked: {why}")).collect();
        if lacks.is_empty() { Health::Ok } else { Health::Degraded(lacks.join("; ")) }
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
    entry: Arc<Entry>,
    lacks: Lacks,
    stopped: CancelToken,
}

#[async_trait]
impl Ask for Asked {
    async fn ask(&self, cx: &CallCx, event: &HookEvent, limit: Duration) -> Result<HookReply> {
        reply::read(&self.entry.name, run::run(self, cx, event, limit).await?)
    }
}
