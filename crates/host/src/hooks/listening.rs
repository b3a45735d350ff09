//! Who is told of events: handlers of `on_event`, and methods that the user named. Each has a queue and a task, so that it hears events
//! in order and nobody waits for it. Which events there are is the bus's.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bespoke_plugin_api::{CallCx, CancelToken, Code, Event, Hook, HookEvent, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{runtime::Handle, task::JoinHandle, time::Instant};

use super::asking::{Subscribed, Telling, ask, keep};
use crate::{
    Topics, UserHook,
    breaker::{Breaker, Policy},
    events::{Listener, topics},
    invoke::own_method,
    plugin::PluginCell,
};

/// Events that one handler may be behind.
const BEHIND: usize = 1024;
/// How long a method may take that the user named.
const METHOD_LIMIT: Duration = Duration::from_secs(5);

/// The handlers that are told of events.
pub(super) struct Listening {
    runtime: Handle,
    telling: Telling,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    /// What the user wants, with the plugins that it names, as far as they are there.
    wanted: Vec<(UserHook, Arc<PluginCell>)>,
    ears: Vec<Running>,
    over: bool,
}

/// One that is told, and the task that tells it.
struct Running {
    ear: Ear,
    topics: Topics,
    /// Topics that it asks for and may not hear: told once.
    refused: Vec<String>,
    end: CancelToken,
    task: JoinHandle<()>,
}

/// What the user wants told to a plugin, as things stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ToldRow {
    /// Whom, of what.
    #[serde(flatten)]
    pub hook: UserHook,
    /// Whether it failed too often and is left alone for a while.
    pub tripped: bool,
}

impl ToldRow {
    /// One of which nothing is known but that the user wants it.
    pub fn of(hook: UserHook) -> Self {
        ToldRow { hook, tripped: false }
    }
}

/// Who is told.
#[derive(Clone)]
enum Ear {
    Handler(Subscribed),
    /// A method that the plugin has under a name of its own.
    Method {
        plugin: Arc<PluginCell>,
        name: String,
        breaker: Arc<Mutex<Breaker>>,
    },
}

impl Listening {
    pub(super) fn new(runtime: Handle, telling: Telling) -> Self {
        Listening { runtime, telling, told: Mutex::default() }
    }

    /// What the user wants from now on. Entries whose plugin is not here count for nothing.
    pub(super) fn wanted(&self, wanted: Vec<UserHook>, plugins: &[Arc<PluginCell>]) {
        let known = wanted.into_iter().filter_map(|hook| {
            let plugin = plugins.iter().find(|plugin| plugin.id() == hook.plugin)?.clone();
            Some((hook, plugin))
        });
        let known = known.collect();
        self.told.lock().unwrap_or_else(PoisonError::into_inner).wanted = known;
    }

    /// Tells those in this table, as far as they handle events, and the methods that the user named. One that was told before and hears
    /// the same as before goes on where it was.
    pub(super) fn update(&self, table: &[Subscribed]) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.over {
            return;
        }
        let before = std::mem::take(&mut told.ears);
        let mut refusals = Vec::new();
        let handlers = table.iter().filter(|s| s.slot.spec().hook == Hook::OnEvent).map(|s| Ear::Handler(s.clone()));
        let methods = told.wanted.iter().filter(|(hook, plugin)| {
            // Its own word for it goes before a method of that name.
            !table.iter().any(|s| s.slot.name() == hook.callback && s.slot.plugin() == plugin.id()) && plugin.is_up()
        });
        let methods = methods.map(|(hook, plugin)| Ear::Method {
            plugin: plugin.clone(),
            name: hook.callback.clone(),
            breaker: Arc::new(Mutex::new(Breaker::new(Policy::DEFAULT))),
        });
        let mut before = before;
        let mut ears: Vec<Running> = Vec::new();
        for ear in handlers.chain(methods) {
            if ears.iter().any(|other| other.ear.is(&ear)) {
                continue;
            }
            let known = before.iter().position(|known| known.ear.is(&ear)).map(|at| before.swap_remove(at));
            let (own, refused) = ear.may_hear(known.as_ref());
            let named = told.wanted.iter().filter(|(hook, _)| hook.plugin == ear.plugin().id() && hook.callback == ear.name());
            let topics = named.fold(own, |topics, (hook, _)| topics.and(Topics::named(&hook.events)));
            if known.as_ref().is_none_or(|known| known.refused != refused) && !refused.is_empty() {
                refusals.push((ear.clone(), refused.clone()));
            }
            match known {
                Some(known) if known.topics == topics => ears.push(Running { refused, ..known }),
                known => {
                    if let Some(known) = known {
                        known.task.abort();
                    }
                    if !topics.is_empty() {
                        ears.push(self.tell(ear, topics, refused));
                    }
                }
            }
        }
        before.iter().for_each(|gone| gone.task.abort());
        told.ears = ears;
        drop(told);
        drop(before);
        for (ear, refused) in refusals {
            let message = format!("may not hear events `{}`, which it asks for", refused.join("`, `"));
            tracing::warn!(plugin = ear.plugin().id(), name = ear.name(), "{message}");
            let reason = format!("{message}: plugin.toml does not ask for \"event:{}\", or the user has not granted it", refused[0]);
            let payload = json!({ "plugin": ear.plugin().id(), "hook": Hook::OnEvent.name(), "name": ear.name(), "reason": reason });
            self.telling.events.emit(topics::HOOK_FAILED, None, payload);
        }
    }

    /// What the user wants told, and whether it is left alone for a while.
    pub(super) fn list(&self) -> Vec<ToldRow> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_tripped = |hook: &UserHook| {
            let ear =
                told.ears.iter().map(|running| &running.ear).find(|ear| ear.plugin().id() == hook.plugin && ear.name() == hook.callback);
            ear.is_some_and(|ear| ear.breaker().lock().unwrap_or_else(PoisonError::into_inner).is_tripped())
        };
        told.wanted.iter().map(|(hook, _)| ToldRow { hook: hook.clone(), tripped: is_tripped(hook) }).collect()
    }

    /// Methods of a plugin begin without a record. That of a handler is kept where it is registered.
    pub(super) fn forgive(&self, plugin: &str) {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for running in told.ears.iter().filter(|running| running.ear.plugin().id() == plugin) {
            if let Ear::Method { breaker, .. } = &running.ear {
                *breaker.lock().unwrap_or_else(PoisonError::into_inner) = Breaker::new(Policy::DEFAULT);
            }
        }
    }

    fn tell(&self, ear: Ear, topics: Topics, refused: Vec<String>) -> Running {
        let end = CancelToken::new();
        let listener = self.telling.events.listen(topics.clone(), Some(ear.plugin().id()), None, BEHIND);
        let teller = Teller { ear: ear.clone(), telling: self.telling.clone(), lost: 0, burst: false };
        Running { ear, topics, refused, end: end.clone(), task: self.runtime.spawn(teller.run(listener, end)) }
    }

    /// Lets all hear what waits for them, within bounded time.
    pub(super) async fn finish(&self, limit: Duration) {
        let ears = {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            told.over = true;
            std::mem::take(&mut told.ears)
        };
        ears.iter().for_each(|ear| ear.end.cancel());
        let deadline = Instant::now() + limit;
        for mut ear in ears {
            if tokio::time::timeout_at(deadline, &mut ear.task).await.is_err() {
                ear.task.abort();
            }
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let told = self.told.get_mut().unwrap_or_else(PoisonError::into_inner);
        told.ears.iter().for_each(|ear| ear.task.abort());
    }
}

impl Ear {
    fn plugin(&self) -> &Arc<PluginCell> {
        match self {
            Ear::Handler(handler) => handler.slot.cell(),
            Ear::Method { plugin, .. } => plugin,
        }
    }

    fn name(&self) -> &str {
        match self {
            Ear::Handler(handler) => handler.slot.name(),
            Ear::Method { name, .. } => name,
        }
    }

    fn breaker(&self) -> &Mutex<Breaker> {
        match self {
            Ear::Handler(handler) => &handler.breaker,
            Ear::Method { breaker, .. } => breaker,
        }
    }

    fn is(&self, other: &Ear) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
            && self.name() == other.name()
            && Arc::ptr_eq(self.plugin(), other.plugin())
    }

    /// What it hears of its own accord, and what it asks for and may not hear.
    fn may_hear(&self, before: Option<&Running>) -> (Topics, Vec<String>) {
        let Ear::Handler(handler) = self else { return (Topics::default(), Vec::new()) };
        let mut heard = Vec::new();
        let mut refused = Vec::new();
        for prefix in &handler.slot.spec().topics {
            match self.plugin().may_hear(prefix) {
                Some(true) => heard.push(format!("{prefix}*")),
                Some(false) => refused.push(prefix.clone()),
                // It rests, and has what it had.
                None if before.is_some_and(|known| known.refused.contains(prefix)) => refused.push(prefix.clone()),
                None if before.is_some() => heard.push(format!("{prefix}*")),
                None => {}
            }
        }
        (Topics::named(heard), refused)
    }

    /// `None` when it is left alone for a while.
    async fn hear(&self, telling: &Telling, event: Event) -> Option<Result<()>> {
        match self {
            Ear::Handler(handler) => {
                let cx = CallCx::new().quieting(Hook::OnEvent);
                ask(handler, telling, &cx, &HookEvent::on_event(event)).await.map(|reply| reply.map(drop))
            }
            Ear::Method { plugin, name, breaker } => {
                if !breaker.lock().unwrap_or_else(PoisonError::into_inner).admits(Instant::now().into_std()) {
                    return None;
                }
                let args = json!([serde_json::to_value(event).unwrap_or(Value::Null)]);
                let result = own_method(&CallCx::new(), plugin, name, args, METHOD_LIMIT).await.map(drop);
                let result = result.map_err(|error| telling.redactor.redact_error(&error));
                keep(plugin, Hook::OnEvent, name, breaker, telling, result.as_ref().copied());
                Some(result)
            }
        }
    }
}

/// Telling one of them.
struct Teller {
    ear: Ear,
    telling: Telling,
    /// Lost and not told yet.
    lost: u64,
    /// Whether a loss was told since it was last up to date.
    burst: bool,
}

impl Teller {
    async fn run(mut self, mut listener: Listener, end: CancelToken) {
        loop {
            let next = match listener.next_now() {
                Some(next) => Some(next),
                None => {
                    // Up to date: what was lost in the meantime is known.
                    self.tell_of_losses();
                    self.burst = false;
                    tokio::select! {
                        biased;
                        next = listener.next() => next,
                        () = end.cancelled() => None,
                    }
                }
            };
            match next {
                None => return,
                Some(Err(lost)) => self.lose(lost),
                Some(Ok(event)) => self.hear(Event::clone(&event)).await,
            }
        }
    }

    async fn hear(&mut self, event: Event) {
        // What is said of itself it would answer for ever.
        if event.topic.starts_with("hook_") && event.payload["plugin"] == self.ear.plugin().id() {
            return;
        }
        match self.ear.hear(&self.telling, event).await {
            None => self.lose(1),
            Some(Err(error)) => {
                tracing::warn!(plugin = self.ear.plugin().id(), name = self.ear.name(), %error, "handler of events failed");
                if error.code() == Code::NOT_READY {
                    self.lose(1);
                }
            }
            Some(Ok(())) => {}
        }
    }

    fn lose(&mut self, lost: u64) {
        self.lost += lost;
        self.ear.plugin().hook_lost(self.ear.name(), lost);
        // The first of a burst is told at once, the rest together when it is over.
        if !std::mem::replace(&mut self.burst, true) {
            self.tell_of_losses();
        }
    }

    fn tell_of_losses(&mut self) {
        if self.lost > 0 {
            let lost = std::mem::take(&mut self.lost);
            let payload = json!({ "plugin": self.ear.plugin().id(), "name": self.ear.name(), "lost": lost });
            self.telling.events.emit(topics::HOOK_LOST, None, payload);
        }
    }
}
