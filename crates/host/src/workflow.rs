//! A turn as events tell of it: a workflow of steps. It knows names, times and outcomes; nothing that was said, and not what a turn is.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    sync::{
        Arc, LazyLock, Mutex, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bespoke_plugin_api::{Code, Error};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::{Events, events::topics, generation::lock};

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
    /// Milliseconds from the beginning to the first piece of an answer.
    first: OnceLock<u64>,
    over: AtomicBool,
}

/// The workflows of a bus that are not over.
#[derive(Debug, Default)]
pub(crate) struct Open(Mutex<Vec<Weak<Running>>>);

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
    /// Milliseconds to the first piece of its answer.
    first: Option<u64>,
}

impl Open {
    /// They are over, as the program ends under them.
    pub(crate) fn cut_off(&self) {
        let open = std::mem::take(&mut *lock(&self.0));
        open.iter().filter_map(Weak::upgrade).for_each(|running| running.complete(Some(Code::CANCELLED.name())));
    }
}

impl Workflow {
    /// Begins one. Costs a load while nobody listens.
    pub fn begin(events: &Events, kind: &'static str, session: Option<&str>) -> Self {
        Workflow(events.is_heard().then(|| Running::begin(events.clone(), kind, session.map(str::to_owned))))
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
    fn begin(events: Events, kind: &'static str, session: Option<String>) -> Arc<Self> {
        let id = format!("{:08x}-{}", *PROCESS, NEXT.fetch_add(1, Ordering::Relaxed));
        let (begun, steps, first, over) = (Instant::now(), AtomicU64::new(0), OnceLock::new(), AtomicBool::new(false));
        let running = Arc::new(Running { events, id, kind, session, begun, steps, first, over });
        lock(&running.events.open().0).push(Arc::downgrade(&running));
        running.tell(topics::WORKFLOW_STARTED, json!({ "workflow": running.id, "kind": kind, "session": running.session }));
        running
    }

    fn step(self: &Arc<Self>, kind: &'static str, name: Option<&str>) -> OfStep {
        let number = self.steps.fetch_add(1, Ordering::Relaxed) + 1;
        self.tell(topics::STEP_STARTED, json!({ "workflow": self.id, "step": number, "kind": kind, "name": name }));
        OfStep { workflow: self.clone(), number, kind, name: name.map(str::to_owned), begun: Instant::now(), first: None }
    }

    fn complete(&self, error: Option<&str>) {
        if self.over.swap(true, Ordering::AcqRel) {
            return;
        }
        lock(&self.events.open().0).retain(|one| !std::ptr::eq(one.as_ptr(), self));
        let payload = json!({
            "workflow": self.id, "kind": self.kind, "session": self.session, "steps": self.steps.load(Ordering::Relaxed),
        });
        self.tell(topics::WORKFLOW_COMPLETED, ended(payload, self.begun, self.first.get().copied(), error));
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

    /// The first piece of its answer is there. Further ones change nothing.
    pub fn begins_to_answer(&mut self) {
        if let Some(step) = &mut self.0
            && step.first.is_none()
        {
            step.first = Some(since(step.begun));
            step.workflow.first.get_or_init(|| since(step.workflow.begun));
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
        self.workflow.tell(topics::STEP_COMPLETED, ended(payload, self.begun, self.first, error));
    }
}

/// With how it went and how long it took.
fn ended(mut payload: Value, begun: Instant, first: Option<u64>, error: Option<&str>) -> Value {
    let more = Map::from_iter([("ok".to_owned(), Value::from(error.is_none())), ("ms".to_owned(), Value::from(since(begun)))]);
    if let Value::Object(payload) = &mut payload {
        payload.extend(more);
        payload.extend(first.map(|first| ("first_ms".to_owned(), Value::from(first))));
        payload.extend(error.map(|error| ("error".to_owned(), Value::from(error))));
    }
    payload
}

fn since(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
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

    #[tokio::test(start_paused = true)]
    async fn the_first_piece_of_an_answer_is_told_of_its_step_and_of_the_turn() {
        let events = Events::default();
        let _listener = events.subscribe("", None);
        let turn = Workflow::begin(&events, "agent", None);
        let pass = |ms| tokio::time::sleep(std::time::Duration::from_millis(ms));
        for _ in 0..2 {
            let mut step = turn.step("model", Some("smol"));
            pass(30).await;
            step.begins_to_answer();
            pass(50).await;
            step.begins_to_answer();
            step.complete(Ok(()));
        }
        turn.step("tool", None).complete(Ok(()));
        pass(1).await;
        turn.complete(Ok(()));
        let times = |event: bespoke_plugin_api::Event| {
            event.topic.ends_with("completed").then(|| (event.payload["first_ms"].as_u64(), event.payload["ms"].as_u64()))
        };
        let times: Vec<_> = events.history("", 0).into_iter().filter_map(times).collect();
        assert_eq!(times, [(Some(30), Some(80)), (Some(30), Some(80)), (None, Some(0)), (Some(30), Some(161))]);
    }

    #[tokio::test]
    async fn a_program_that_ends_itself_tells_that_what_was_under_way_is_over_and_once() {
        let events = Events::default();
        let _listener = events.subscribe("", None);
        let turns = [Workflow::begin(&events, "agent", Some("s")), Workflow::begin(&events, "voice", None)];
        Workflow::begin(&events, "agent", Some("done")).complete(Ok(()));
        events.open().cut_off();
        drop(turns);
        assert!(lock(&events.open().0).is_empty());
        expect_test::expect![[r#"
            workflow_started {"kind":"agent","session":"s"}
            workflow_started {"kind":"voice","session":null}
            workflow_started {"kind":"agent","session":"done"}
            workflow_completed {"kind":"agent","session":"done","steps":0,"ok":true}
            workflow_completed {"kind":"agent","session":"s","steps":0,"ok":false,"error":"CANCELLED"}
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
