//! A dry run: what the handlers of a hook would make of an event. They are asked as they would be, and nothing comes of it: no record
//! is kept, nobody is told, nothing is stopped. What a handler itself does while it is asked, it does.

use std::time::Duration;

use bespoke_plugin_api::{CallCx, Event, Hook, HookEvent, HookReply, Inbound, Outbound, ToolCall, ToolOutput};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;

use super::{
    Hooks, Outcome, ToldRow,
    asking::{Subscribed, answer, is_guard, missed, no, why_missed},
};
use crate::{candidate::State, clock, events::topics};

/// What one handler would do.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Tried {
    /// Its plugin.
    pub plugin: String,
    /// Its name.
    pub name: String,
    /// Higher ones are asked earlier.
    pub priority: i32,
    /// Whether it only looks.
    pub observer: bool,
    /// Whether its failure is a veto.
    pub fails_closed: bool,
    /// What it said.
    pub answer: Answer,
    /// Why, where there is something to say.
    pub reason: Option<String>,
    /// The event that it wants instead.
    pub event: Option<HookEvent>,
    /// How long it took.
    pub ms: u64,
}

/// What a handler said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Answer {
    /// Go on.
    Continue,
    /// Go on with another event.
    Replace,
    /// Do not.
    Veto,
    /// Nothing: it failed, panicked, was late, or is not running.
    Failed,
    /// It stands behind a veto.
    NotAsked,
}

/// A handler as it is registered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HookRow {
    /// Where it is asked.
    pub hook: Hook,
    /// Its plugin.
    pub plugin: String,
    /// Its name.
    pub name: String,
    /// Higher ones are asked earlier.
    pub priority: i32,
    /// Most time that it may take.
    pub timeout_ms: u64,
    /// Whether it only looks.
    pub observer: bool,
    /// Whether its failure is a veto.
    pub fails_closed: bool,
    /// For `on_event`: what topics begin with that it asks for.
    pub topics: Vec<String>,
    /// That of its plugin.
    pub state: State,
    /// Whether it failed too often and is left alone for a while.
    pub tripped: bool,
}

impl Hooks {
    /// The handlers, by hook and in the order in which they are asked.
    pub fn list(&self) -> Vec<HookRow> {
        let table = self.table.load_full();
        let row = |handler: &Subscribed| {
            let spec = handler.slot.spec();
            HookRow {
                hook: spec.hook,
                plugin: handler.slot.plugin().to_owned(),
                name: spec.name.clone(),
                priority: spec.priority,
                timeout_ms: spec.timeout_ms,
                observer: spec.observer,
                fails_closed: is_guard(&handler.slot),
                topics: spec.topics.clone(),
                state: handler.slot.cell().state(),
                tripped: handler.lock().is_tripped(),
            }
        };
        let mut rows: Vec<HookRow> = table.handlers.iter().map(row).collect();
        // Stable: within a hook the order stays, but observers come last.
        rows.sort_by_key(|row| (row.hook, row.observer));
        rows
    }

    /// What the user wants told to plugins, in the order of the configuration.
    pub fn told_rows(&self) -> Vec<ToldRow> {
        self.listening.list()
    }

    /// Something that may happen at a hook, for those who try it out.
    pub fn example(hook: Hook) -> HookEvent {
        let call = || ToolCall::new("call-1", "clock", json!({}));
        let session = "example";
        match hook {
            Hook::BeforeAgentRun => HookEvent::before_agent_run(session, "What time is it?"),
            Hook::AfterAgentRun => HookEvent::after_agent_run(session, "It is noon."),
            Hook::BeforeMessageSend => HookEvent::before_message_send("example", Outbound::new("chat", "It is noon.")),
            Hook::AfterMessageReceive => {
                HookEvent::after_message_receive("example", Inbound::new("chat", "somebody", "1", "What time is it?"))
            }
            Hook::BeforeToolExecute => HookEvent::before_tool_execute(session, call()),
            Hook::AfterToolExecute => HookEvent::after_tool_execute(session, call(), ToolOutput::text("12:00")),
            Hook::OnSessionCreate => HookEvent::on_session_create(session),
            Hook::OnSessionEnd => HookEvent::on_session_end(session),
            Hook::OnGatewayStart => HookEvent::on_gateway_start(),
            Hook::OnGatewayShutdown => HookEvent::on_gateway_shutdown(),
            Hook::OnClientConnect => HookEvent::on_client_connect("client-1"),
            Hook::OnClientDisconnect => HookEvent::on_client_disconnect("client-1"),
            // `Hook` may grow: what is not known here happens as an event.
            _ => {
                let payload = json!({ "workflow": "00000000-1", "kind": "agent", "session": session });
                HookEvent::on_event(Event::new(topics::WORKFLOW_STARTED, 1, clock::time_of_day(), None, payload))
            }
        }
    }

    /// Asks the handlers of a hook what they would do, one after the other. Those behind a veto are not asked, as they would not be.
    pub async fn dry_run(&self, cx: &CallCx, mut event: HookEvent) -> (Vec<Tried>, Outcome) {
        let (table, hook) = (self.table.load_full(), event.hook());
        let cx = cx.quieting(hook);
        let missed = missed(&table.missed, hook);
        let mut vetoed = missed.map(|plugin| Outcome::Vetoed { plugin: plugin.id().to_owned(), reason: why_missed(plugin), said: false });
        let mut tried = Vec::new();
        let handlers = &table.handlers;
        let subscribed = |observer: bool| handlers.iter().filter(move |s| s.slot.spec().hook == hook && s.slot.spec().observer == observer);
        // Nobody is stopped by what is over.
        let decides = hook != Hook::OnEvent;
        for handler in subscribed(false).chain(subscribed(true)) {
            if vetoed.is_some() {
                tried.push(one(handler, Answer::NotAsked, None, None, Duration::ZERO));
                continue;
            }
            let begun = Instant::now();
            let said = answer(handler, &self.telling.redactor, &cx, &event).await;
            let took = begun.elapsed();
            let veto = |reason: &str, said| Outcome::Vetoed { plugin: handler.slot.plugin().to_owned(), reason: reason.to_owned(), said };
            let counts = decides && !handler.slot.spec().observer;
            tried.push(match said {
                Ok(HookReply::Replace { event: new, .. }) => {
                    if counts {
                        event = (*new).clone();
                    }
                    one(handler, Answer::Replace, None, Some(*new), took)
                }
                Ok(HookReply::Veto { reason, .. }) => {
                    vetoed = counts.then(|| veto(&reason, true));
                    one(handler, Answer::Veto, Some(reason), None, took)
                }
                Ok(_) => one(handler, Answer::Continue, None, None, took),
                Err(error) => {
                    vetoed = (counts && is_guard(&handler.slot)).then(|| veto(&no(&handler.slot, &error), false));
                    one(handler, Answer::Failed, Some(error.message().to_owned()), None, took)
                }
            });
        }
        let outcome = vetoed.unwrap_or(Outcome::Proceed(event));
        (tried, outcome)
    }
}

fn one(handler: &Subscribed, answer: Answer, reason: Option<String>, event: Option<HookEvent>, took: Duration) -> Tried {
    let spec = handler.slot.spec();
    Tried {
        plugin: handler.slot.plugin().to_owned(),
        name: spec.name.clone(),
        priority: spec.priority,
        observer: spec.observer,
        fails_closed: is_guard(&handler.slot),
        answer,
        reason,
        event,
        ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    }
}
