//! Hook dispatch: who may change or stop what the host is about to do. A hook that nobody wants costs one load.

mod asking;
mod files;
mod listening;
mod trying;

use std::{
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use bespoke_plugin_api::{BoxFuture, CallCx, Hook, HookEvent, HookHandler, HookReply, Inbound, Outbound, Result, ToolCall, ToolOutput};
use tokio::runtime::Handle;

use self::{
    asking::{STOPPABLE, Subscribed, Telling, ask, is_guard, missed, no},
    listening::Listening,
};
use crate::{
    Events, Redactor, Registry, Slot, UserHook,
    breaker::{Breaker, Policy},
    candidate::State,
    plugin::PluginCell,
};

pub use self::listening::ToldRow;
pub use self::trying::{Answer, HookRow, Tried};

/// The subscriptions of all plugins, in order.
///
/// A hook that fails closed guards as long as its plugin is switched on: one that did not start, was stopped or broke says no, with
/// the reason. One that is there for nothing but hooks and never got so far as to say which stops whatever a hook can stop, as long as
/// the user counts on it; one that is there for something else, too, guards nothing then, and its row says that it failed. A handler
/// that fails five times within a minute is left alone for half a minute, which is a no where it fails closed; then one event tries
/// it again.
pub struct Hooks {
    /// One bit per hook that somebody wants. Written after the snapshot it speaks of.
    mask: AtomicU64,
    table: Arc<ArcSwap<Table>>,
    /// Held while a snapshot is made: of two plugins that come up at once, none may overwrite the other's with an older one.
    update: Mutex<()>,
    telling: Telling,
    /// Who is told of events.
    listening: Listening,
}

/// Who is asked, as things stand.
#[derive(Default)]
struct Table {
    /// In order.
    handlers: Vec<Subscribed>,
    /// Plugins that would be among them, had they not come to nothing before they said for which hooks.
    missed: Vec<Arc<PluginCell>>,
}

/// A plugin that does not run, while nobody knows what it would have stopped: whatever a hook can stop is stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Missed {
    /// Its id.
    pub plugin: String,
    /// Why, for the user, and what helps.
    pub reason: String,
}

/// What the handlers made of an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Go on, with this event.
    Proceed(HookEvent),
    /// Do not.
    Vetoed {
        /// The plugin that stopped it.
        plugin: String,
        /// Why: what its handler said, for the user; else, for who runs the program, why it could not be asked.
        reason: String,
        /// Whether its handler said so.
        said: bool,
    },
}

/// Why a message goes no further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The plugin that stopped it.
    pub plugin: String,
    /// Why: what its handler said, for the user; else, for who runs the program, why it could not be asked.
    pub reason: String,
    /// Whether its handler said so.
    pub said: bool,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused by {}: {}", self.plugin, self.reason)
    }
}

impl std::error::Error for Refused {}

impl Hooks {
    /// Whether anybody subscribed: the check that stands before building a payload.
    #[inline]
    pub fn wants(&self, hook: Hook) -> bool {
        self.mask.load(Ordering::Relaxed) & hook.bit() != 0
    }

    /// Asks the handlers of a hook, if there are any; `None` when nobody wants it, and then `event` was not built.
    ///
    /// Handlers that may change the event run one after the other, the highest priority first, ties by plugin id; each sees
    /// what the one before made of it. Observers run side by side after them. A handler that fails, panics or is late counts
    /// as its subscription says: open goes on with the event as it was, closed is a veto. Neither is silent.
    #[inline]
    pub fn run(&self, cx: &CallCx, hook: Hook, event: impl FnOnce() -> HookEvent) -> impl Future<Output = Option<Outcome>> + Send {
        // Boxed: what nobody wants must not pay for moving the state of the asking around.
        let asking = (self.wants(hook) && cx.fires(hook)).then(|| self.asking(cx, event()));
        async move {
            match asking {
                Some(asking) => Some(asking.await),
                None => None,
            }
        }
    }

    fn asking(&self, cx: &CallCx, event: HookEvent) -> BoxFuture<'static, Outcome> {
        let (table, cx, telling) = (self.table.clone(), cx.quieting(event.hook()), self.telling.clone());
        Box::pin(async move {
            loop {
                let now = table.load_full();
                let Some(plugin) = missed(&now.missed, event.hook()) else { return dispatch(&now.handlers, &telling, &cx, event).await };
                if plugin.state() != State::Starting {
                    return asking::stopped(plugin, event.hook());
                }
                // It is tried again: within the limit of a start it runs, or has failed.
                plugin.started().await;
            }
        })
    }

    /// The plugins for want of which whatever a hook can stop is stopped.
    pub fn missed(&self) -> Vec<Missed> {
        let table = self.table.load();
        let missed = table.missed.iter().filter(|plugin| plugin.is_unheard());
        missed.map(|plugin| Missed { plugin: plugin.id().to_owned(), reason: asking::why_missed(plugin) }).collect()
    }

    /// Runs a tool with the hooks around it, whoever asked for it. A veto becomes an answer that says who refused. Hooks see a
    /// failure as the answer that a model would read of it; one that they leave as it is stays the error that it was.
    ///
    /// # Errors
    /// Only those of `run`.
    pub async fn around_tool<F>(&self, cx: &CallCx, call: ToolCall, run: impl FnOnce(ToolCall) -> F) -> Result<(ToolCall, ToolOutput)>
    where
        F: Future<Output = Result<ToolOutput>> + Send,
    {
        let session = || cx.session().unwrap_or_default().to_owned();
        let event = || HookEvent::before_tool_execute(session(), call.clone());
        let call = match self.run(cx, Hook::BeforeToolExecute, event).await {
            Some(Outcome::Proceed(HookEvent::BeforeToolExecute { call, .. })) => call,
            Some(Outcome::Vetoed { plugin, reason, .. }) => return Ok((call, ToolOutput::error(format!("refused by {plugin}: {reason}")))),
            _ => call,
        };
        let result = run(call.clone()).await;
        if cx.is_cancelled() || !self.wants(Hook::AfterToolExecute) {
            return result.map(|output| (call, output));
        }
        let seen = result.as_ref().map_or_else(|error| ToolOutput::error(format!("{}: {}", error.kind(), error.message())), Clone::clone);
        let event = || HookEvent::after_tool_execute(session(), call.clone(), seen.clone());
        let output = match self.run(cx, Hook::AfterToolExecute, event).await {
            Some(Outcome::Proceed(HookEvent::AfterToolExecute { output, .. })) if output != seen => output,
            Some(Outcome::Vetoed { plugin, reason, .. }) => ToolOutput::error(format!("withheld by {plugin}: {reason}")),
            _ => result?,
        };
        Ok((call, output))
    }

    /// A message that came in over a channel, as hooks leave it. Whose it is stays: `chat`, `sender` and `id`. Handlers see its files
    /// without their bytes, may take them away and rename them, and whatever they leave keeps its bytes.
    ///
    /// # Errors
    /// When one of them refuses it.
    pub async fn receive(&self, cx: &CallCx, channel: &str, message: Inbound) -> Result<Inbound, Refused> {
        match self.run(cx, Hook::AfterMessageReceive, || HookEvent::after_message_receive(channel, message.clone())).await {
            Some(Outcome::Proceed(HookEvent::AfterMessageReceive { message, .. })) => Ok(message),
            Some(Outcome::Vetoed { plugin, reason, said }) => Err(Refused { plugin, reason, said }),
            _ => Ok(message),
        }
    }

    /// A message that is about to leave over a channel, as hooks leave it. Where it goes stays, and its `idempotency_key`; files as in
    /// [`receive`](Self::receive).
    ///
    /// # Errors
    /// When one of them refuses it.
    pub async fn send(&self, cx: &CallCx, channel: &str, message: Outbound) -> Result<Outbound, Refused> {
        match self.run(cx, Hook::BeforeMessageSend, || HookEvent::before_message_send(channel, message.clone())).await {
            Some(Outcome::Proceed(HookEvent::BeforeMessageSend { message, .. })) => Ok(message),
            Some(Outcome::Vetoed { plugin, reason, said }) => Err(Refused { plugin, reason, said }),
            _ => Ok(message),
        }
    }

    /// That tells on this bus what becomes of handlers.
    pub(crate) fn telling(runtime: Handle, events: Events, redactor: Redactor) -> Self {
        let telling = Telling { events, redactor };
        let listening = Listening::new(runtime, telling.clone());
        Hooks { mask: AtomicU64::new(0), table: Arc::default(), update: Mutex::default(), telling, listening }
    }

    /// Takes over who is told of events, as the user says.
    pub(crate) fn told(&self, wanted: Vec<UserHook>, plugins: &[Arc<PluginCell>]) {
        let _updating = self.update.lock().unwrap_or_else(PoisonError::into_inner);
        self.listening.wanted(wanted, plugins);
        self.listening.update(&self.table.load().handlers);
    }

    /// Lets handlers of events hear what they have not heard yet, within bounded time, and no more after that.
    pub(crate) async fn finish(&self, limit: Duration) {
        self.listening.finish(limit).await;
    }

    /// Takes over the subscriptions of a registry, and the plugins that are missed.
    pub(crate) fn update(&self, registry: &Registry, missed: impl FnOnce() -> Vec<Arc<PluginCell>>) {
        let updating = self.update.lock().unwrap_or_else(PoisonError::into_inner);
        let mut slots = registry.all::<dyn HookHandler>();
        let comes_back = |slot: &Slot<dyn HookHandler>| slot.spec().hook == Hook::OnEvent && slot.cell().state() == State::Starting;
        let counts = |slot: &Slot<dyn HookHandler>| slot.is_ready() || slot.cell().is_replacing() || comes_back(slot);
        slots.retain(|slot| counts(slot) || is_guard(slot) && slot.cell().is_enabled());
        slots.sort_by(|a, b| {
            let (priority, plugin) = (b.spec().priority.cmp(&a.spec().priority), a.plugin().cmp(b.plugin()));
            priority.then(plugin).then_with(|| a.name().cmp(b.name()))
        });
        let known = self.table.load_full();
        let mut missed = missed();
        // One that is tried again is missed until it has said what it hooks into.
        missed.extend(known.missed.iter().filter(|plugin| plugin.is_tried()).cloned());
        let stopped = if missed.is_empty() { &[] } else { STOPPABLE };
        let mask = slots.iter().map(|slot| slot.spec().hook).chain(stopped.iter().copied()).fold(0, |mask, hook| mask | hook.bit());
        let handlers = slots.into_iter().map(|slot| {
            let before = known.handlers.iter().find(|s| (s.slot.plugin(), s.slot.name()) == (slot.plugin(), slot.name()));
            Subscribed::new(slot, before.map(|s| s.breaker.clone()))
        });
        let before = self.table.swap(Arc::new(Table { handlers: handlers.collect(), missed }));
        self.mask.store(mask, Ordering::Relaxed);
        self.listening.update(&self.table.load().handlers);
        drop(updating);
        // It may hold the last of a plugin's objects: not dropped under the lock.
        drop(before);
    }

    /// A new generation of a plugin begins without a record, however it came.
    pub(crate) fn forgive(&self, plugin: &PluginCell) {
        for subscribed in self.table.load().handlers.iter().filter(|s| s.slot.plugin() == plugin.id()) {
            *subscribed.lock() = Breaker::new(Policy::DEFAULT);
        }
        self.listening.forgive(plugin.id());
        plugin.hooks_forgiven();
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.table.load().handlers.iter().map(|s| (s.slot.spec().hook, s.slot.name().to_owned()))).finish()
    }
}

async fn dispatch(table: &[Subscribed], telling: &Telling, cx: &CallCx, mut event: HookEvent) -> Outcome {
    let hook = event.hook();
    let subscribed = |observer: bool| table.iter().filter(move |s| s.slot.spec().hook == hook && s.slot.spec().observer == observer);
    for handler in subscribed(false) {
        let Some(reply) = ask(handler, telling, cx, &event).await else {
            if is_guard(&handler.slot) {
                let (name, plugin) = (handler.slot.name(), handler.slot.plugin().to_owned());
                let reason = format!("guard `{name}` has failed too often and is left alone for a while");
                return Outcome::Vetoed { plugin, reason, said: false };
            }
            continue;
        };
        match reply {
            Ok(HookReply::Replace { event: new, .. }) => event = *new,
            Ok(HookReply::Veto { reason, .. }) => {
                return Outcome::Vetoed { plugin: handler.slot.plugin().to_owned(), reason, said: true };
            }
            Ok(_) => {}
            Err(error) => {
                let closed = is_guard(&handler.slot);
                tracing::warn!(plugin = handler.slot.plugin(), hook = hook.name(), %error, closed, "hook handler failed");
                if closed {
                    let (plugin, reason) = (handler.slot.plugin().to_owned(), no(&handler.slot, &error));
                    return Outcome::Vetoed { plugin, reason, said: false };
                }
            }
        }
    }
    futures_util::future::join_all(subscribed(true).map(async |handler| {
        if let Some(Err(error)) = ask(handler, telling, cx, &event).await {
            tracing::warn!(plugin = handler.slot.plugin(), hook = hook.name(), %error, "observer failed");
        }
    }))
    .await;
    Outcome::Proceed(event)
}
