//! Hooks that change, stop and fail, at every place of a turn: what becomes of the turn, and who is told.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bespoke_agent::{Agent, Session};
use bespoke_host::Candidate;
use bespoke_plugin_api::{
    CallCx, Contribution, Error, Hook, HookEvent, HookReply, HookSpec, Result, Role, ToolOutput,
    serde_json::{Value, json},
};
use expect_test::expect;

use crate::kit::{Brain, Journal, Step, agent, broken, hook, plain, plug, tool, turn, within};

/// The places at which something can be changed or stopped, in the order of a turn.
const PLACES: [Hook; 4] = [Hook::BeforeAgentRun, Hook::BeforeToolExecute, Hook::AfterToolExecute, Hook::AfterAgentRun];

/// The places at which hooks look on.
const BORDERS: [Hook; 2] = [Hook::OnSessionCreate, Hook::OnSessionEnd];

/// An agent whose model asks for the clock in each turn, which says what it was asked.
async fn with_clock(guards: impl IntoIterator<Item = Candidate>) -> Agent {
    let (asks, answers) = ([Step::Call("1", "clock", json!({ "zone": "zone" }))], [Step::Say("Ok.")]);
    let brain = Brain::new("brain", std::array::from_fn::<_, 24, _>(|n| if n % 2 == 0 { &asks[..] } else { &answers[..] }));
    let clock = tool("clock", |_, args| async move { Ok(ToolOutput::text(format!("noon in {}", args["zone"].as_str().unwrap()))) });
    agent(plain(), [brain.plug(), plug("clock", [clock])].into_iter().chain(guards)).await
}

/// What the model read of the user and of the tool, and what the user got; or the error, after which the session is as before.
async fn outcome(agent: &Agent) -> String {
    let mut session = Session::new("s");
    let told = turn(agent, &mut session, "hi").await;
    let late = if told.took.is_zero() { String::new() } else { format!(" after {} s", told.took.as_secs()) };
    match told.result {
        Ok(turn) => {
            let read = session.messages().iter().filter(|m| matches!(m.role, Role::User | Role::Tool)).map(|m| m.text.as_str());
            assert_eq!(session.messages().last().unwrap().text, turn.text);
            format!("{} | {}{late}", read.collect::<Vec<_>>().join(" | "), turn.text)
        }
        Err(error) => {
            assert_eq!(session.messages(), []);
            format!("{} {error}{late}", error.kind())
        }
    }
}

/// The event with a mark on what it carries.
fn marked(event: HookEvent, mark: &str) -> HookEvent {
    match event {
        HookEvent::BeforeAgentRun { session, input, .. } => HookEvent::before_agent_run(session, input + mark),
        HookEvent::BeforeToolExecute { session, mut call, .. } => {
            call.args["zone"] = Value::from(call.args["zone"].as_str().unwrap().to_owned() + mark);
            HookEvent::before_tool_execute(session, call)
        }
        HookEvent::AfterToolExecute { session, call, output, .. } => {
            HookEvent::after_tool_execute(session, call, ToolOutput::text(output.to_text() + mark))
        }
        HookEvent::AfterAgentRun { session, output, .. } => HookEvent::after_agent_run(session, output + mark),
        other => panic!("nothing in it can be changed: {other:?}"),
    }
}

/// A plugin that leaves its mark at one place.
fn marks(id: &'static str, spec: HookSpec, mark: &'static str) -> Candidate {
    plug(id, [hook(spec, move |_, event| async move { Ok(HookReply::replace(marked(event, mark))) })])
}

#[tokio::test(start_paused = true)]
async fn each_hook_sees_what_the_one_before_made_of_it_and_the_last_word_counts() {
    let mut told = String::new();
    for place in PLACES {
        let seen = Journal::default();
        let noted = seen.clone();
        let looks = hook(HookSpec::new("looks", place).observer().priority(9), move |_, event| {
            noted.note(format!("{event:?}"));
            // It looks on: nobody asked what it thinks.
            async { Ok(HookReply::veto("no")) }
        });
        let agent = with_clock([
            marks("low", HookSpec::new("h1", place).priority(-5), "-last"),
            marks("b", HookSpec::new("h2", place), "-b"),
            marks("a", HookSpec::new("h3", place), "-a"),
            marks("high", HookSpec::new("h4", place).priority(5), "-first"),
            plug("looks", [looks]),
        ])
        .await;
        told += &format!("{}: {}\n", place.name(), outcome(&agent).await);
        assert!(seen.text().contains("-first-a-b-last"), "one that looks on sees what came of it: {}", seen.text());
    }
    expect![[r#"
        before_agent_run: hi-first-a-b-last | noon in zone | Ok.
        before_tool_execute: hi | noon in zone-first-a-b-last | Ok.
        after_tool_execute: hi | noon in zone-first-a-b-last | Ok.
        after_agent_run: hi | noon in zone | Ok.-first-a-b-last
    "#]]
    .assert_eq(&told);
}

#[tokio::test(start_paused = true)]
async fn a_veto_is_told_to_whom_it_concerns_and_spares_the_later_hooks() {
    let mut told = String::new();
    for place in PLACES {
        let stops = hook(HookSpec::new("stops", place).priority(1), |_, _| async { Ok(HookReply::veto("not on Sundays")) });
        let later = hook(HookSpec::new("later", place), |_, _| async { panic!("it was asked") });
        let agent = with_clock([plug("guard", [stops]), plug("later", [later])]).await;
        told += &format!("{}: {}\n", place.name(), outcome(&agent).await);
    }
    expect![[r#"
        before_agent_run: PERMISSION_DENIED stopped by guard: not on Sundays
        before_tool_execute: hi | error: refused by guard: not on Sundays | Ok.
        after_tool_execute: hi | error: withheld by guard: not on Sundays | Ok.
        after_agent_run: PERMISSION_DENIED stopped by guard: not on Sundays
    "#]]
    .assert_eq(&told);
}

/// Ways to fail, with a name each.
const FAILURES: [&str; 4] = ["hangs", "panics", "errs", "babbles"];

fn failing(spec: HookSpec, how: &'static str) -> Contribution {
    hook(spec, move |_, _| async move { fail(how).await })
}

async fn fail(how: &str) -> Result<HookReply> {
    match how {
        "hangs" => pending().await,
        "panics" => panic!("on purpose"),
        "errs" => Err(Error::internal("the list is gone")),
        // An event of another place is no answer.
        "babbles" => Ok(HookReply::replace(HookEvent::on_gateway_start())),
        other => panic!("no failure is called {other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_open_changes_nothing_and_one_that_fails_closed_stops_what_it_guards() {
    let mut told = String::new();
    for place in PLACES {
        for how in FAILURES {
            let spec = || HookSpec::new("words", place);
            let well = || marks("well", HookSpec::new("well", place).priority(-1), "!");
            let open = with_clock([plug("guard", [failing(spec(), how)]), well()]).await;
            let closed = with_clock([plug("guard", [failing(spec().fail_closed(), how)]), well()]).await;
            told += &format!("{} {how}\n  open: {}\n  closed: {}\n", place.name(), outcome(&open).await, outcome(&closed).await);
        }
    }
    expect![[r#"
        before_agent_run hangs
          open: hi! | noon in zone | Ok. after 5 s
          closed: PERMISSION_DENIED stopped by guard: `words` could not decide and fails closed: no answer within 5 s after 5 s
        before_agent_run panics
          open: hi! | noon in zone | Ok.
          closed: PERMISSION_DENIED stopped by guard: `words` could not decide and fails closed: the call panicked: on purpose
        before_agent_run errs
          open: hi! | noon in zone | Ok.
          closed: PERMISSION_DENIED stopped by guard: `words` could not decide and fails closed: the list is gone
        before_agent_run babbles
          open: hi! | noon in zone | Ok.
          closed: PERMISSION_DENIED stopped by guard: `words` could not decide and fails closed: answered before_agent_run with an event of on_gateway_start
        before_tool_execute hangs
          open: hi | noon in zone! | Ok. after 5 s
          closed: hi | error: refused by guard: `words` could not decide and fails closed: no answer within 5 s | Ok. after 5 s
        before_tool_execute panics
          open: hi | noon in zone! | Ok.
          closed: hi | error: refused by guard: `words` could not decide and fails closed: the call panicked: on purpose | Ok.
        before_tool_execute errs
          open: hi | noon in zone! | Ok.
          closed: hi | error: refused by guard: `words` could not decide and fails closed: the list is gone | Ok.
        before_tool_execute babbles
          open: hi | noon in zone! | Ok.
          closed: hi | error: refused by guard: `words` could not decide and fails closed: answered before_tool_execute with an event of on_gateway_start | Ok.
        after_tool_execute hangs
          open: hi | noon in zone! | Ok. after 5 s
          closed: hi | error: withheld by guard: `words` could not decide and fails closed: no answer within 5 s | Ok. after 5 s
        after_tool_execute panics
          open: hi | noon in zone! | Ok.
          closed: hi | error: withheld by guard: `words` could not decide and fails closed: the call panicked: on purpose | Ok.
        after_tool_execute errs
          open: hi | noon in zone! | Ok.
          closed: hi | error: withheld by guard: `words` could not decide and fails closed: the list is gone | Ok.
        after_tool_execute babbles
          open: hi | noon in zone! | Ok.
          closed: hi | error: withheld by guard: `words` could not decide and fails closed: answered after_tool_execute with an event of on_gateway_start | Ok.
        after_agent_run hangs
          open: hi | noon in zone | Ok.! after 5 s
          closed: PERMISSION_DENIED stopped by guard: `words` could not decide and fails closed: no answer within 5 s after 5 s
        after_agent_run panics
          open: hi | noon in zone | Ok.!
          closed: PERMISSION_DENIED stopped by guard: `words` could not decide and fails closed: the call panicked: on purpose
        after_agent_run errs
          open: hi | noon in zone | Ok.!
          closed: PERMISSION_DENIED stopped by guard: `words` could not decide and fails closed: the list is gone
        after_agent_run babbles
          open: hi | noon in zone | Ok.!
          closed: PERMISSION_DENIED stopped by guard: `words` could not decide and fails closed: answered after_agent_run with an event of on_gateway_start
    "#]].assert_eq(&told);
}

/// A session that begins or ends cannot be stopped, and so a hook that fails there stops nothing, closed or not.
#[tokio::test(start_paused = true)]
async fn what_looks_on_at_the_borders_of_a_session_stops_nothing() {
    for place in BORDERS {
        for how in FAILURES {
            for closed in [false, true] {
                let seen = Journal::default();
                let notes = |id: &'static str, priority| {
                    let seen = seen.clone();
                    hook(HookSpec::new(id, place).priority(priority), move |_, _| {
                        seen.note(id);
                        async { Ok(HookReply::Continue) }
                    })
                };
                let spec = HookSpec::new("fails", place).priority(5);
                let fails = failing(if closed { spec.fail_closed() } else { spec }, how);
                let looks = [notes("low", -1), notes("high", 1)];
                let agent = agent(plain(), [Brain::new("brain", []).plug(), plug("fails", [fails]), plug("looks", looks)]).await;
                let (mut session, begun) = (Session::new("s"), tokio::time::Instant::now());
                let case = format!("{} {how} {closed}", place.name());
                assert_eq!(turn(&agent, &mut session, "hi").await.text(), "Ok.", "{case}");
                within(agent.end(&CallCx::new(), session)).await;
                assert_eq!(begun.elapsed().as_secs(), if how == "hangs" { 5 } else { 0 }, "{case}");
                // Only the later hooks of the same event are spared by a no.
                assert_eq!(seen.text(), if closed { "" } else { "high\nlow" }, "{case}");
            }
        }
    }
}

/// Who is switched on to guard, and does not run, guards all the same.
#[tokio::test(start_paused = true)]
async fn a_guard_that_did_not_start_stops_what_it_guards_with_its_reason_and_its_fix() {
    let mut told = String::new();
    for place in PLACES {
        let why = || Error::internal("words.txt is missing").with_help("bespoke plugin download-files guard");
        let never = |spec: HookSpec| broken("guard", hook(spec, |_, _| async { panic!("it was asked") }), why());
        let closed = with_clock([never(HookSpec::new("words", place).fail_closed())]).await;
        let open = with_clock([never(HookSpec::new("words", place))]).await;
        told += &format!("{}\n  closed: {}\n  open: {}\n", place.name(), outcome(&closed).await, outcome(&open).await);
    }
    expect![[r#"
        before_agent_run
          closed: PERMISSION_DENIED stopped by guard: guard `words` is not running: its plugin is failed: words.txt is missing; bespoke plugin download-files guard
          open: hi | noon in zone | Ok.
        before_tool_execute
          closed: hi | error: refused by guard: guard `words` is not running: its plugin is failed: words.txt is missing; bespoke plugin download-files guard | Ok.
          open: hi | noon in zone | Ok.
        after_tool_execute
          closed: hi | error: withheld by guard: guard `words` is not running: its plugin is failed: words.txt is missing; bespoke plugin download-files guard | Ok.
          open: hi | noon in zone | Ok.
        after_agent_run
          closed: PERMISSION_DENIED stopped by guard: guard `words` is not running: its plugin is failed: words.txt is missing; bespoke plugin download-files guard
          open: hi | noon in zone | Ok.
    "#]].assert_eq(&told);
}

/// A handler that fails until it is mended, and how often it was asked.
struct Mendable {
    asked: Arc<AtomicUsize>,
    broken: Arc<AtomicUsize>,
}

impl Mendable {
    /// That fails so often before it goes well.
    fn new(failures: usize) -> Self {
        Mendable { asked: Arc::default(), broken: Arc::new(AtomicUsize::new(failures)) }
    }

    fn plug(&self, spec: HookSpec) -> Candidate {
        let (asked, broken) = (self.asked.clone(), self.broken.clone());
        let on = move |_, event| {
            asked.fetch_add(1, Ordering::Relaxed);
            let fails = broken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok();
            async move { if fails { fail("errs").await } else { Ok(HookReply::replace(marked(event, "!"))) } }
        };
        plug("guard", [hook(spec, on)])
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

/// Five failures within a minute trip it; half a minute later one event tries it again.
#[tokio::test(start_paused = true)]
async fn a_handler_that_keeps_failing_is_left_alone_and_comes_back() {
    let mut told = String::new();
    for place in PLACES {
        for closed in [false, true] {
            // It fails once more when it is tried for the first time.
            let handler = Mendable::new(6);
            let spec = HookSpec::new("words", place);
            let guard = handler.plug(if closed { spec.fail_closed() } else { spec });
            let agent = with_clock([guard]).await;
            told += &format!("{} {}\n", place.name(), if closed { "closed" } else { "open" });
            let mut said = String::new();
            for (wait, turns) in [(0, 7), (29, 1), (1, 2), (30, 2)] {
                tokio::time::advance(Duration::from_secs(wait)).await;
                for _ in 0..turns {
                    let before = handler.asked();
                    let now = outcome(&agent).await;
                    let asked = if handler.asked() > before { "asked" } else { "left alone" };
                    let line = format!("  {asked}: {now}\n");
                    if line != said {
                        told += &line;
                    }
                    said = line;
                }
            }
            // Five, one try that fails, one that does not, and the turn after it.
            assert_eq!(handler.asked(), 8, "{told}");
        }
    }
    expect![[r#"
        before_agent_run open
          asked: hi | noon in zone | Ok.
          left alone: hi | noon in zone | Ok.
          asked: hi | noon in zone | Ok.
          left alone: hi | noon in zone | Ok.
          asked: hi! | noon in zone | Ok.
        before_agent_run closed
          asked: PERMISSION_DENIED stopped by guard: `words` could not decide and fails closed: the list is gone
          left alone: PERMISSION_DENIED stopped by guard: guard `words` has failed too often and is left alone for a while
          asked: PERMISSION_DENIED stopped by guard: `words` could not decide and fails closed: the list is gone
          left alone: PERMISSION_DENIED stopped by guard: guard `words` has failed too often and is left alone for a while
          asked: hi! | noon in zone | Ok.
        before_tool_execute open
          asked: hi | noon in zone | Ok.
          left alone: hi | noon in zone | Ok.
          asked: hi | noon in zone | Ok.
          left alone: hi | noon in zone | Ok.
          asked: hi | noon in zone! | Ok.
        before_tool_execute closed
          asked: hi | error: refused by guard: `words` could not decide and fails closed: the list is gone | Ok.
          left alone: hi | error: refused by guard: guard `words` has failed too often and is left alone for a while | Ok.
          asked: hi | error: refused by guard: `words` could not decide and fails closed: the list is gone | Ok.
          left alone: hi | error: refused by guard: guard `words` has failed too often and is left alone for a while | Ok.
          asked: hi | noon in zone! | Ok.
        after_tool_execute open
          asked: hi | noon in zone | Ok.
          left alone: hi | noon in zone | Ok.
          asked: hi | noon in zone | Ok.
          left alone: hi | noon in zone | Ok.
          asked: hi | noon in zone! | Ok.
        after_tool_execute closed
          asked: hi | error: withheld by guard: `words` could not decide and fails closed: the list is gone | Ok.
          left alone: hi | error: withheld by guard: guard `words` has failed too often and is left alone for a while | Ok.
          asked: hi | error: withheld by guard: `words` could not decide and fails closed: the list is gone | Ok.
          left alone: hi | error: withheld by guard: guard `words` has failed too often and is left alone for a while | Ok.
          asked: hi | noon in zone! | Ok.
        after_agent_run open
          asked: hi | noon in zone | Ok.
          left alone: hi | noon in zone | Ok.
          asked: hi | noon in zone | Ok.
          left alone: hi | noon in zone | Ok.
          asked: hi | noon in zone | Ok.!
        after_agent_run closed
          asked: PERMISSION_DENIED stopped by guard: `words` could not decide and fails closed: the list is gone
          left alone: PERMISSION_DENIED stopped by guard: guard `words` has failed too often and is left alone for a while
          asked: PERMISSION_DENIED stopped by guard: `words` could not decide and fails closed: the list is gone
          left alone: PERMISSION_DENIED stopped by guard: guard `words` has failed too often and is left alone for a while
          asked: hi | noon in zone | Ok.!
    "#]]
    .assert_eq(&told);
}
