//! Turns that end before they are done: cancelled, late, or dropped. At once, whatever a plugin does, with a session that goes on.

use std::{
    future::pending,
    pin::pin,
    time::{Duration, SystemTime},
};

use bespoke_agent::{Agent, Session};
use bespoke_host::Candidate;
use bespoke_plugin_api::{CallCx, CancelToken, Code, Hook, HookSpec, Timestamp, ToolOutput, serde_json::json};
use expect_test::expect;

use crate::kit::{Brain, Step, act, agent, config, hook, lines, plain, plug, poll_once, tool, turn, turn_with, within};

/// Cancels when it is come to.
fn cancels(cancel: &CancelToken) -> Step {
    let cancel = cancel.clone();
    act(move || cancel.cancel())
}

/// A turn that is cancelled while it runs: at once, with the right code. The session then serves the next turn.
async fn cancelled(agent: &Agent, cancel: &CancelToken, session: &mut Session) -> String {
    let told = turn_with(agent, &CallCx::new().with_cancel(cancel.clone()), session, "hi").await;
    assert_eq!(told.code(), Code::CANCELLED);
    assert!(told.took < Duration::from_millis(10), "it took {:?}", told.took);
    let left = lines(session.messages());
    assert_eq!(turn(agent, session, "go on").await.text(), "Ok.");
    assert_eq!(lines(session.messages()), format!("{left}user: go on\nassistant: Ok.\n"));
    left
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_never_answers_is_left() {
    let cancel = CancelToken::new();
    let brain = Brain::new("brain", [&[cancels(&cancel), Step::Stall]]);
    let agent = agent(plain(), [brain.plug()]).await;
    assert_eq!(cancelled(&agent, &cancel, &mut Session::new("s")).await, "user: hi\n");
    assert_eq!(brain.open(), 0, "the model would go on writing for nobody");
    assert!(brain.contexts()[0].is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_never_names_its_models_is_left_too() {
    let cancel = CancelToken::new();
    let token = cancel.clone();
    let brain = Brain::new("brain", []).models(move || {
        token.cancel();
        pending()
    });
    let agent = agent(plain(), [brain.plug()]).await;
    let mut session = Session::new("s");
    let told = turn_with(&agent, &CallCx::new().with_cancel(cancel), &mut session, "hi").await;
    assert_eq!((told.code(), told.took), (Code::CANCELLED, Duration::ZERO));
    assert_eq!(lines(session.messages()), "user: hi\n");
}

#[tokio::test(start_paused = true)]
async fn what_was_shown_until_then_stays_in_the_session() {
    let cancel = CancelToken::new();
    let brain = Brain::new("brain", [&[Step::Say("Once "), Step::Say("upon "), cancels(&cancel), Step::Stall]]);
    let agent = agent(plain(), [brain.plug()]).await;
    assert_eq!(cancelled(&agent, &cancel, &mut Session::new("s")).await, "user: hi\nassistant: Once upon \n");
}

/// A provider need not know of cancellation, and may call it what it likes.
#[tokio::test(start_paused = true)]
async fn what_a_provider_makes_of_it_does_not_matter() {
    let cancel = CancelToken::new();
    let brain = Brain::new("brain", [&[Step::Say("Once "), cancels(&cancel), Step::Fail(Code::LLM_COMPLETION_FAILED, "socket closed")]]);
    let other = Brain::new("other", []);
    let agent = agent(plain(), [brain.plug(), other.plug()]).await;
    assert_eq!(cancelled(&agent, &cancel, &mut Session::new("s")).await, "user: hi\nassistant: Once \n");

    let cancel = CancelToken::new();
    let brain = Brain::new("brain", [&[cancels(&cancel), Step::Fail(Code::LLM_COMPLETION_FAILED, "socket closed")]]);
    let agent = crate::kit::agent(plain(), [brain.plug(), other.plug()]).await;
    assert_eq!(cancelled(&agent, &cancel, &mut Session::new("s")).await, "user: hi\n");
    assert_eq!(other.requests().len(), 0, "nobody waits for another answer");
}

/// Text that is always at hand never lets its reader wait, and so never lets anybody else run.
#[tokio::test(start_paused = true)]
async fn an_endless_answer_ends_when_its_listener_has_enough() {
    let agent = agent(plain(), [Brain::new("brain", [&[Step::Babble]]).plug()]).await;
    let (cancel, mut session, mut heard) = (CancelToken::new(), Session::new("s"), 0);
    let cx = CallCx::new().with_cancel(cancel.clone());
    let turn = agent.turn(&cx, &mut session, "hi", |_| {
        heard += 1;
        if heard == 3 {
            cancel.cancel();
        }
    });
    assert_eq!(within(turn).await.unwrap_err().code(), Code::CANCELLED);
    assert_eq!(heard, 3);
    assert_eq!(lines(session.messages()), "user: hi\nassistant: blah blah blah \n");
}

fn hangs(name: &'static str, cancel: &CancelToken) -> Candidate {
    let cancel = cancel.clone();
    let done = tool("done", |_, _| async { Ok(ToolOutput::text("sent")) });
    let hangs = tool(name, move |_, _| {
        let cancel = cancel.clone();
        async move {
            // A tool runs beside the turn: what has answered before is heard before.
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            cancel.cancel();
            pending().await
        }
    });
    plug("tools", [done, hangs])
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_is_cut_off_leaves_no_call_without_an_answer() {
    let cancel = CancelToken::new();
    let brain = Brain::new("brain", [&[Step::Say("Wait. "), Step::Call("1", "wait", json!({}))]]);
    let agent = agent(plain(), [brain.plug(), hangs("wait", &cancel)]).await;
    assert_eq!(cancelled(&agent, &cancel, &mut Session::new("s")).await, "user: hi\nassistant: Wait. \n");
}

/// What a tool has done is done: a model that forgot it would do it again.
#[tokio::test(start_paused = true)]
async fn tools_that_have_answered_are_remembered() {
    let cancel = CancelToken::new();
    let brain = Brain::new("brain", [&[Step::Call("1", "done", json!({})), Step::Call("2", "wait", json!({}))]]);
    let agent = agent(plain(), [brain.plug(), hangs("wait", &cancel)]).await;
    expect![[r#"
        user: hi
        assistant: [1 done {}]
        tool 1: sent
    "#]]
    .assert_eq(&cancelled(&agent, &cancel, &mut Session::new("s")).await);
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_hangs_does_not_hold_up_a_cancellation() {
    for (place, left) in [(Hook::BeforeAgentRun, ""), (Hook::AfterAgentRun, "user: hi\nassistant: Ok.\n")] {
        let cancel = CancelToken::new();
        let token = cancel.clone();
        let guard = hook(HookSpec::new("guard", place), move |_, _| {
            token.cancel();
            pending()
        });
        let agent = agent(plain(), [Brain::new("brain", []).plug(), plug("guard", [guard])]).await;
        let mut session = Session::new("s");
        let told = turn_with(&agent, &CallCx::new().with_cancel(cancel), &mut session, "hi").await;
        assert_eq!((told.code(), told.took), (Code::CANCELLED, Duration::ZERO));
        // What no hook has let pass is no part of the conversation.
        assert_eq!(lines(session.messages()), left);
    }
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_is_cancelled_before_it_begins_does_nothing() {
    let brain = Brain::new("brain", []);
    let agent = agent(plain(), [brain.plug()]).await;
    let (cancel, mut session) = (CancelToken::new(), Session::new("s"));
    cancel.cancel();
    assert_eq!(cancelled(&agent, &cancel, &mut session).await, "");
    assert_eq!(brain.requests().len(), 1, "that of the next turn");
}

/// A context whose deadline is so far away.
fn due_in(time: Duration) -> CallCx {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    CallCx::new().with_deadline(Timestamp(u64::try_from(now.as_micros()).unwrap()).plus(time))
}

#[tokio::test(start_paused = true)]
async fn a_deadline_holds_in_the_middle_of_an_answer() {
    let (first, second) = (Brain::new("first", [&[Step::Stall]]), Brain::new("second", []));
    let agent = agent(config(json!({ "provider": ["first", "second"] })), [first.plug(), second.plug()]).await;
    let mut session = Session::new("s");
    let told = turn_with(&agent, &due_in(Duration::from_secs(3)), &mut session, "hi").await;
    assert_eq!((told.error().as_str(), told.events.as_str()), ("EXECUTION_TIMEOUT the turn was not done before its deadline", ""));
    assert!((2.5..=3.1).contains(&told.took.as_secs_f64()), "it took {:?}", told.took);
    assert_eq!((first.open(), second.requests().len()), (0, 0));
    assert_eq!(session.messages(), [], "the session is as before");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_holds_while_a_tool_runs() {
    let brain = Brain::new("brain", [&[Step::Call("1", "wait", json!({}))]]);
    let agent = agent(plain(), [brain.plug(), plug("wait", [tool("wait", |_, _| pending())])]).await;
    let told = turn_with(&agent, &due_in(Duration::from_secs(3)), &mut Session::new("s"), "hi").await;
    assert_eq!(told.code(), Code::EXECUTION_TIMEOUT);
    assert_eq!(brain.requests().len(), 1, "it makes no sense to ask on");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_an_endless_answer() {
    let agent = agent(plain(), [Brain::new("brain", [&[Step::Babble]]).plug()]).await;
    // The clock would stand still: this answer can always run.
    tokio::time::resume();
    let told = turn_with(&agent, &due_in(Duration::from_millis(20)), &mut Session::new("s"), "hi").await;
    assert_eq!(told.code(), Code::EXECUTION_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn a_turn_whose_future_is_dropped_counts_as_cancelled() {
    let brain = Brain::new("brain", [&[Step::Call("1", "done", json!({}))], &[Step::Say("Once "), Step::Stall]]);
    let agent = agent(plain(), [brain.plug(), hangs("wait", &CancelToken::new())]).await;
    let mut session = Session::new("s");
    {
        let cx = CallCx::new();
        let mut turn = pin!(agent.turn(&cx, &mut session, "hi", |_| {}));
        // The tool runs on a task of its own.
        for _ in 0..10 {
            assert!(poll_once(turn.as_mut()).is_pending());
            tokio::task::yield_now().await;
        }
        assert_eq!((brain.requests().len(), brain.open()), (2, 1));
    }
    assert_eq!(brain.open(), 0);
    assert!(brain.contexts()[1].is_cancelled());
    expect![[r#"
        user: hi
        assistant: [1 done {}]
        tool 1: sent
        assistant: Once 
    "#]]
    .assert_eq(&lines(session.messages()));
    assert_eq!(turn(&agent, &mut session, "go on").await.text(), "Ok.");
}
