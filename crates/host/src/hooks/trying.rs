//! A dry run: what the handlers of a hook would make of an event. They are asked as they would be, and nothing comes of it: no record
//! is kept, nobody is told, nothing is stopped. What a handler itself does while it is asked, it does.

use std::time::Duration;

use bespoke_plugin_api::{CallCx, Hook, HookEvent, HookReply};
use serde::Serialize;
use tokio::time::Instant;

use super::{
    Hooks, Outcome,
    asking::{Subscribed, answer, is_guard, no},
};

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

impl Hooks {
    /// Asks the handlers of a hook what they would do, one after the other. Those behind a veto are not asked, as they would not be.
    pub async fn dry_run(&self, cx: &CallCx, mut event: HookEvent) -> (Vec<Tried>, Outcome) {
        let (table, hook) = (self.table.load_full(), event.hook());
        let cx = cx.quieting(hook);
        let (mut tried, mut vetoed) = (Vec::new(), None);
        let subscribed = |observer: bool| table.iter().filter(move |s| s.slot.spec().hook == hook && s.slot.spec().observer == observer);
        // Nobody is stopped by what is over.
        let decides = hook != Hook::OnEvent;
        for handler in subscribed(false).chain(subscribed(true)) {
            if vetoed.is_some() {
                tried.push(one(handler, Answer::NotAsked, None, None, Duration::ZERO));
                continue;
            }
            let begun = Instant::now();
            let said = answer(handler, &cx, &event).await;
            let took = begun.elapsed();
            let veto = |reason: &str| Outcome::Vetoed { plugin: handler.slot.plugin().to_owned(), reason: reason.to_owned() };
            let counts = decides && !handler.slot.spec().observer;
            tried.push(match said {
                Ok(HookReply::Replace { event: new, .. }) => {
                    if counts {
                        event = (*new).clone();
                    }
                    one(handler, Answer::Replace, None, Some(*new), took)
                }
                Ok(HookReply::Veto { reason, .. }) => {
                    vetoed = counts.then(|| veto(&reason));
                    one(handler, Answer::Veto, Some(reason), None, took)
                }
                Ok(_) => one(handler, Answer::Continue, None, None, took),
                Err(error) => {
                    vetoed = (counts && is_guard(&handler.slot)).then(|| veto(&no(&handler.slot, &error)));
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
