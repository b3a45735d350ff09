//! Asking one handler: within its time, with its record kept and what went wrong told. What becomes of its answer is the caller's.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bespoke_plugin_api::{CallCx, Code, Error, Hook, HookEvent, HookHandler, HookReply, OnFailure, Result};
use serde_json::json;
use tokio::time::Instant;

use super::{Outcome, files};
use crate::{
    Events, Redactor, Slot,
    breaker::{Breaker, Policy},
    candidate::State,
    clock,
    events::topics,
    plugin::PluginCell,
};

/// The longest a handler may take, whatever its subscription says: more could not be added to a clock.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// Most characters of the reason of a veto: it is shown to people.
const LONGEST_REASON: usize = 500;

/// The hooks at which something is stopped by a veto.
pub(super) const STOPPABLE: &[Hook] = &[
    Hook::BeforeAgentRun,
    Hook::AfterAgentRun,
    Hook::BeforeMessageSend,
    Hook::AfterMessageReceive,
    Hook::BeforeToolExecute,
    Hook::AfterToolExecute,
    Hook::OnClientConnect,
];

/// Where it is told what becomes of handlers, and what must not be told with it.
#[derive(Clone)]
pub(super) struct Telling {
    pub(super) events: Events,
    pub(super) redactor: Redactor,
}

/// One subscription and its record.
#[derive(Clone)]
pub(super) struct Subscribed {
    pub(super) slot: Slot<dyn HookHandler>,
    pub(super) breaker: Arc<Mutex<Breaker>>,
}

pub(super) fn is_guard(slot: &Slot<dyn HookHandler>) -> bool {
    slot.spec().on_failure == OnFailure::Closed && !slot.spec().observer
}

impl Subscribed {
    pub(super) fn new(slot: Slot<dyn HookHandler>, breaker: Option<Arc<Mutex<Breaker>>>) -> Self {
        Subscribed { slot, breaker: breaker.unwrap_or_else(|| Arc::new(Mutex::new(Breaker::new(Policy::DEFAULT)))) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first of these plugins that a hook is stopped for: a guard that is missing is no consent.
pub(super) fn missed(plugins: &[Arc<PluginCell>], hook: Hook) -> Option<&Arc<PluginCell>> {
    plugins.iter().find(|plugin| STOPPABLE.contains(&hook) && plugin.is_unheard())
}

/// What becomes of an event for want of a plugin.
pub(super) fn stopped(plugin: &PluginCell, hook: Hook) -> Outcome {
    let reason = why_missed(plugin);
    tracing::warn!(plugin = plugin.id(), hook = hook.name(), reason, "stopped, as nobody knows what this plugin would have said");
    Outcome::Vetoed { plugin: plugin.id().to_owned(), reason, said: false }
}

pub(super) fn why_missed(plugin: &PluginCell) -> String {
    let (id, (why, fix)) = (plugin.id(), plugin.why_missed());
    let runs = if plugin.state() == State::Ready { "run as it is configured" } else { "run" };
    let fix = fix.map_or(String::new(), |fix| format!("; {fix}"));
    format!("{id} does not {runs}: {why}{fix}; or go on without it: bespoke plugin disable {id}")
}

/// Asks one handler and keeps its record; `None` when it is left alone.
pub(super) async fn ask(handler: &Subscribed, telling: &Telling, cx: &CallCx, event: &HookEvent) -> Option<Result<HookReply>> {
    let (slot, hook) = (&handler.slot, event.hook());
    if !handler.lock().admits(Instant::now().into_std()) {
        return None;
    }
    let reply = answer(handler, &telling.redactor, cx, event).await;
    // Whoever asked has gone: that says nothing of the handler.
    if !(reply.is_err() && cx.is_cancelled()) {
        keep(slot.cell(), hook, slot.name(), &handler.breaker, telling, reply.as_ref().map(drop));
    }
    Some(reply)
}

/// What one handler says, in bounded time and without secrets. A reply that makes no sense is an error.
pub(super) async fn answer(handler: &Subscribed, redactor: &Redactor, cx: &CallCx, event: &HookEvent) -> Result<HookReply> {
    let (slot, hook) = (&handler.slot, event.hook());
    let limit = Duration::from_millis(slot.spec().timeout_ms).min(LONGEST);
    let (limited, given) = (cx.with_deadline(clock::now().plus(limit)), files::shown(event));
    // Apart: a guard that blocks must not keep the turn waiting past its limit.
    let asked = slot.apart_within(limit, &limited, move |handler, cx| async move { handler.on(&cx, &given).await }).await;
    let reply = asked.and_then(|reply| match reply {
        HookReply::Replace { event: new, .. } if new.hook() != hook => {
            Err(Error::internal(format!("answered {} with an event of {}", hook.name(), new.hook().name())))
        }
        HookReply::Replace { event: new, .. } => Ok(HookReply::replace(files::settled(event, *new)?)),
        HookReply::Veto { reason, .. } => Ok(HookReply::veto(redactor.redact(&reason).chars().take(LONGEST_REASON).collect::<String>())),
        HookReply::Continue => Ok(reply),
        // `HookReply` may grow: an answer that this host does not know is a failure, not a consent.
        _ => Err(Error::internal("answered something that this host does not know")),
    });
    reply.map_err(|error| redactor.redact_error(&error))
}

/// Keeps the record of a handler, and tells what changed. The error is without secrets.
pub(super) fn keep(
    plugin: &PluginCell,
    hook: Hook,
    name: &str,
    breaker: &Mutex<Breaker>,
    Telling { events, .. }: &Telling,
    result: std::result::Result<(), &Error>,
) {
    let lock = || breaker.lock().unwrap_or_else(PoisonError::into_inner);
    let told =
        |error: Option<&Error>| json!({ "plugin": plugin.id(), "hook": hook.name(), "name": name, "reason": error.map(Error::message) });
    match result {
        Ok(()) => {
            if lock().succeeded() {
                plugin.hook_tripped(name, false);
                events.emit(topics::HOOK_RECOVERED, None, told(None));
            }
        }
        // One that does not run did not fail.
        Err(error) if error.code() == Code::NOT_READY && plugin.state() != State::Ready => {}
        Err(error) => {
            events.emit(topics::HOOK_FAILED, None, told(Some(error)));
            if lock().failed(Instant::now().into_std()) {
                plugin.hook_tripped(name, true);
                tracing::warn!(plugin = plugin.id(), hook = hook.name(), "handler failed too often and is left alone for a while");
                events.emit(topics::HOOK_TRIPPED, None, told(Some(error)));
            }
        }
    }
}

/// Why a guard that gave no answer is a veto.
pub(super) fn no(slot: &Slot<dyn HookHandler>, error: &Error) -> String {
    if error.code() == Code::NOT_READY && !slot.is_ready() {
        let fix = error.help().map_or(String::new(), |fix| format!("; {fix}"));
        return format!("guard `{}` is not running: its plugin {}{fix}", slot.name(), error.message());
    }
    format!("`{}` could not decide and fails closed: {}", slot.name(), error.message())
}
