//! A turn as events tell of it: a workflow of steps. It knows names, times and outcomes; nothing that was said, and not what a turn is.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use bespoke_plugin_api::{Code, Error};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::{Events, events::topics};

/// Tells workflows of this process from those of others, so that they do not mix in a history.
static PROCESS: LazyLock<u32> = LazyLock::new(|| RandomState::new().build_hasher().finish() as u32);
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A turn that is told of while it runs; of nothing, when nobody listened at its beginning. One that is dropped was cancelled.
#[derive(Debug)]
pub struct Workflow(Option<Arc<Running>>);

#[derive(Debug)]
struct Running {
    events: Events,
    id: String,
    kind: &'static str,
    session: Option<String>,
    begun: Instant,
    steps: AtomicU64,
}

/// A step of a workflow. One that is dropped was cancelled.
#[derive(Debug)]
pub struct Step(Option<OfStep>);

#[derive(Debug)]
struct OfStep {
    workflow: Arc<Running>,
    number: u64,
    kind: &'static str,
    name: Option<String>,
    begun: Instant,
}

impl Workflow {
    /// Begins one. Costs a load while nobody listens.
    pub fn begin(events: &Events, kind: &'static str, session: Option<&str>) -> Self {
        Workflow(events.is_heard().then(|| Arc::new(Running::begin(events.clone(), kind, session.map(str::to_owned)))))
    }

    /// Begins a step; `name` is who does it, where that is known by now. Steps may run side by side; their numbers are in the order in which they began.
    pub fn step(&self, kind: &'static str, name: Option<&str>) -> Step {
        Step(self.0.as_ref().map(|workflow| workflow.step(kind, name)))
    }

    /// It is over.
    pub fn complete(mut self, result: Result<(), &Error>) {
        if let Some(running) = self.0.take() {
            running.complete(result.err().map(Error::kind));
        }
    }
}

impl Drop for Workflow {
    fn drop(&mut self) {
        if let Some(running) = self.0.take() {
            running.complete(Some(Code::CANCELLED.name()));
        }
    }
}

impl Running {
    fn begin(events: Events, kind: &'static str, session: Option<String>) -> Self {
        let id = format!("{:08x}-{}", *PROCESS, NEXT.fetch_add(1, Ordering::Relaxed));
        let running = Running { events, id, kind, session, begun: Instant::now(), steps: AtomicU64::new(0) };
        running.tell(topics::WORKFLOW_STARTED, json!({ "workflow": running.id, "kind": kind, "session": running.session }));
        running
    }

    fn step(self: &Arc<Self>, kind: &'static str, name: Option<&str>) -> OfStep {
        let number = self.steps.fetch_add(1, Ordering::Relaxed) + 1;
        self.tell(topics::STEP_STARTED, json!({ "workflow": self.id, "step": number, "kind": kind, "name": name }));
        OfStep { workflow: self.clone(), number, kind, name: name.map(str::to_owned), begun: Instant::now() }
    }

    fn complete(&self, error: Option<&str>) {
        let payload = json!({
            "workflow": self.id, "kind": self.kind, "session": self.session, "steps": self.steps.load(Ordering::Relaxed),
        });
        self.tell(topics::WORKFLOW_COMPLETED, ended(payload, self.begun, error));
    }

    fn tell(&self, topic: &str, payload: Value) {
        self.events.tell(topic, || payload);
    }
}

impl Step {
    /// Who does it, where that is known only now.
    pub fn by(&mut self, name: &str) {
        if let Some(step) = &mut self.0 {
            step.name = Some(name.to_owned());
        }
    }

    /// It is over.
    pub fn complete(self, result: Result<(), &Error>) {
        self.end(result.err().map(Error::kind));
    }

    /// It is over, and went wrong without an error, as a tool says that it could not.
    pub fn fail(self, why: &'static str) {
        self.end(Some(why));
    }

    fn end(mut self, error: Option<&str>) {
        if let Some(step) = self.0.take() {
            step.end(error);
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(step) = self.0.take() {
            step.end(Some(Code::CANCELLED.name()));
        }
    }
}

impl OfStep {
    fn end(self, error: Option<&str>) {
        let payload = json!({ "workflow": self.workflow.id, "step": self.number, "kind": self.kind, "name": self.name });
        self.workflow.tell(topics::STEP_COMPLETED, ended(payload, self.begun, error));
    }
}

/// With how it went and how long it took.
fn ended(mut payload: Value, begun: Instant, error: Option<&str>) -> Value {
    let more = Map::from_iter([
        ("ok".to_owned(), Value::from(error.is_none())),
        ("ms".to_owned(), Value::from(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX))),
    ]);
    if let Value::Object(payload) = &mut payload {
        payload.extend(more);
        payload.extend(error.map(|error| ("error".to_owned(), Value::from(error))));
    }
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(events: &Events) -> Vec<String> {
        let line = |mut payload: Value, topic: &str| {
            let Value::Object(fields) = &mut payload else { panic!("{payload}") };
            assert!(fields.shift_remove("workflow").is_some_and(|id| id.as_str().is_some_and(|id| id.len() > 8)));
            fields.shift_remove("ms");
            format!("{topic} {payload}")
        };
        events.history("", 0).into_iter().map(|event| line(event.payload, &event.topic)).collect()
    }

    #[tokio::test]
    async fn a_turn_is_told_of_to_its_end_however_it_ends() {
        let events = Events::default();
        let _listener = events.subscribe("", None);
        let turn = Workflow::begin(&events, "agent", Some("s"));
        turn.step("model", Some("smol")).complete(Ok(()));
        let mut both = (turn.step("tool", None), turn.step("tool", Some("b")));
        both.0.by("a");
        both.1.fail("TOOL_FAILED");
        drop(both.0);
        turn.complete(Err(&Error::internal("what was said")));
        drop(Workflow::begin(&events, "voice", None));
        expect_test::expect![[r#"
            workflow_started {"kind":"agent","session":"s"}
            step_started {"step":1,"kind":"model","name":"smol"}
            step_completed {"step":1,"kind":"model","name":"smol","ok":true}
            step_started {"step":2,"kind":"tool","name":null}
            step_started {"step":3,"kind":"tool","name":"b"}
            step_completed {"step":3,"kind":"tool","name":"b","ok":false,"error":"TOOL_FAILED"}
            step_completed {"step":2,"kind":"tool","name":"a","ok":false,"error":"CANCELLED"}
            workflow_completed {"kind":"agent","session":"s","steps":3,"ok":false,"error":"INTERNAL_ERROR"}
            workflow_started {"kind":"voice","session":null}
            workflow_completed {"kind":"voice","session":null,"steps":0,"ok":false,"error":"CANCELLED"}"#]]
        .assert_eq(&told(&events).join("\n"));
    }

    #[tokio::test]
    async fn nobody_who_listens_is_told_nothing_and_pays_nothing() {
        let events = Events::default();
        let turn = Workflow::begin(&events, "agent", Some("s"));
        assert!(turn.0.is_none());
        turn.step("model", Some("smol")).complete(Ok(()));
        turn.complete(Ok(()));
        assert!(events.history("", 0).is_empty());
    }
}
