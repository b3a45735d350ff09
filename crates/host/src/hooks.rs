//! Hook dispatch: who may change or stop what the host is about to do. A hook that nobody wants costs one load.

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
use bespoke_plugin_api::{BoxFuture, CallCx, Error, Hook, HookEvent, HookHandler, HookReply, OnFailure, Result, ToolCall, ToolOutput};

use crate::{Registry, Slot, clock};

/// The longest a handler may take, whatever its subscription says: more could not be added to a clock.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The subscriptions of all plugins, in order.
#[derive(Default)]
pub struct Hooks {
    /// One bit per hook that somebody wants. Written after the snapshot it speaks of.
    mask: AtomicU64,
    table: ArcSwap<Vec<Slot<dyn HookHandler>>>,
    /// Held while a snapshot is made: of two plugins that come up at once, none may overwrite the other's with an older one.
    update: Mutex<()>,
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
        /// Why, for the user.
        reason: String,
    },
}

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
        let (table, cx) = (self.table.load_full(), cx.quieting(event.hook()));
        Box::pin(async move { dispatch(&table, &cx, event).await })
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
            Some(Outcome::Vetoed { plugin, reason }) => return Ok((call, ToolOutput::error(format!("refused by {plugin}: {reason}")))),
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
            Some(Outcome::Vetoed { plugin, reason }) => ToolOutput::error(format!("withheld by {plugin}: {reason}")),
            _ => result?,
        };
        Ok((call, output))
    }

    /// Takes over the subscriptions of a registry.
    pub(crate) fn update(&self, registry: &Registry) {
        let updating = self.update.lock().unwrap_or_else(PoisonError::into_inner);
        let mut slots = registry.all::<dyn HookHandler>();
        slots.retain(Slot::is_ready);
        slots.sort_by(|a, b| b.spec().priority.cmp(&a.spec().priority).then_with(|| a.plugin().cmp(b.plugin())));
        let mask = slots.iter().fold(0, |mask, slot| mask | slot.spec().hook.bit());
        let before = self.table.swap(Arc::new(slots));
        self.mask.store(mask, Ordering::Relaxed);
        drop(updating);
        // It may hold the last of a plugin's objects: not dropped under the lock.
        drop(before);
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.table.load().iter().map(|slot| (slot.spec().hook, slot.name().to_owned()))).finish()
    }
}

async fn dispatch(table: &[Slot<dyn HookHandler>], cx: &CallCx, mut event: HookEvent) -> Outcome {
    let hook = event.hook();
    let subscribed = |observer: bool| table.iter().filter(move |slot| slot.spec().hook == hook && slot.spec().observer == observer);
    for slot in subscribed(false) {
        let reply = ask(slot, cx, &event).await.and_then(|reply| match reply {
            HookReply::Replace { event: new, .. } if new.hook() != hook => {
                Err(Error::internal(format!("answered {} with an event of {}", hook.name(), new.hook().name())))
            }
            reply => Ok(reply),
        });
        match reply {
            Ok(HookReply::Continue) => {}
            Ok(HookReply::Replace { event: new, .. }) => event = *new,
            Ok(HookReply::Veto { reason, .. }) => return Outcome::Vetoed { plugin: slot.plugin().to_owned(), reason },
            // `HookReply` may grow: an answer that this host does not know is a failure, not a consent.
            reply => {
                let error = reply.err().unwrap_or_else(|| Error::internal("answered something that this host does not know"));
                if let Some(veto) = failed(slot, hook, &error) {
                    return veto;
                }
            }
        }
    }
    futures_util::future::join_all(subscribed(true).map(async |slot| {
        if let Err(error) = ask(slot, cx, &event).await {
            tracing::warn!(plugin = slot.plugin(), hook = hook.name(), %error, "observer failed");
        }
    }))
    .await;
    Outcome::Proceed(event)
}

async fn ask(slot: &Slot<dyn HookHandler>, cx: &CallCx, event: &HookEvent) -> Result<HookReply> {
    let limit = Duration::from_millis(slot.spec().timeout_ms).min(LONGEST);
    let (cx, event) = (cx.with_deadline(clock::now().plus(limit)), event.clone());
    // Apart: a guard that blocks must not keep the turn waiting past its limit.
    slot.apart_within(limit, &cx, move |handler, cx| async move { handler.on(&cx, &event).await }).await
}

fn failed(slot: &Slot<dyn HookHandler>, hook: Hook, error: &Error) -> Option<Outcome> {
    let closed = slot.spec().on_failure == OnFailure::Closed;
    tracing::warn!(plugin = slot.plugin(), hook = hook.name(), %error, closed, "hook handler failed");
    closed.then(|| Outcome::Vetoed {
        plugin: slot.plugin().to_owned(),
        reason: format!("`{}` could not decide and fails closed: {}", slot.name(), error.message()),
    })
}
