//! Turns that end before they are done: cancelled, late, or dropped. At once, whatever a plugin does, with a session that goes on.

use std::{
    future::pending,
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bespoke_agent::{Agent, Session};
use bespoke_host::Candidate;
use bespoke_plugin_api::{CallCx, CancelToken, Code, Hook, HookSpec, Timestamp, ToolOutput, serde_json::json};
use expect_test::expect;

use crate::kit::{Brain, Journal, Step, act, agent, config, hook, line, lines, plain, plug, poll_once, tool, turn, turn_with, within};

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

/// Says what happened to the code that holds it, when it is dropped.
struct Held {
    cx: CallCx,
    name: &'static str,
    log: Journal,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.log.note(format!("{} is gone, told: {}", self.name, self.cx.is_cancelled()));
    }
}

/// Waits until the log has so many lines: what was aborted is dropped soon, not at once.
async fn logged(log: &Journal, lines: usize) -> String {
    for _ in 0..1000 {
        if log.text().lines().count() >= lines {
            break;
        }
        tokio::task::yield_now().await;
    }
    log.text()
}

/// A tool runs on a task of its own, and may have begun others: all of them learn of it.
#[tokio::test(start_paused = true)]
async fn a_tool_of_a_turn_that_ended_early_is_ended_and_told() {
    for way in ["cancelled", "dropped", "late"] {
        let (log, running) = (Journal::default(), Arc::new(tokio::sync::Notify::new()));
        let (noted, started) = (log.clone(), running.clone());
        let wait = tool("wait", move |cx, _| {
            let (log, started) = (noted.clone(), started.clone());
            async move {
                let (log_of_helper, of_helper) = (log.clone(), cx.clone());
                tokio::spawn(async move {
                    of_helper.cancelled().await;
                    log_of_helper.note("its helper is told");
                });
                let _held = Held { cx, name: "the tool", log };
                started.notify_one();
                pending().await
            }
        });
        let brain = Brain::new("brain", [&[Step::Call("1", "wait", json!({}))]]);
        let agent = agent(plain(), [brain.plug(), plug("wait", [wait])]).await;
        let mut session = Session::new("s");
        let cancel = CancelToken::new();
        let cx = match way {
            "late" => due_in(Duration::from_secs(3)),
            _ => CallCx::new().with_cancel(cancel.clone()),
        };
        {
            let mut turn = pin!(agent.turn(&cx, &mut session, "hi", |_| {}));
            tokio::select! {
                biased;
                _ = turn.as_mut() => panic!("it ended before its tool"),
                () = running.notified() => {}
            }
            assert_eq!(log.text(), "", "{way}: it runs");
            match way {
                "cancelled" => cancel.cancel(),
                "late" => tokio::time::advance(Duration::from_secs(4)).await,
                _ => {}
            }
            if way != "dropped" {
                assert!(within(turn).await.is_err());
            }
        }
        let told = logged(&log, 2).await;
        let mut told: Vec<_> = told.lines().collect();
        told.sort_unstable();
        assert_eq!(told, ["its helper is told", "the tool is gone, told: true"], "{way}");
        assert_eq!(lines(session.messages()), if way == "late" { "" } else { "user: hi\n" }, "{way}");
    }
}

/// However close the two are, a call is remembered with its answer or not at all.
#[tokio::test(start_paused = true)]
async fn a_tool_that_answers_as_the_turn_is_cancelled_is_remembered_whole_or_not_at_all() {
    let (mut whole, mut none) = (0, 0);
    for yields_before in 0..4 {
        for yields_after in 0..4 {
            let cancel = CancelToken::new();
            let token = cancel.clone();
            let quick = tool("quick", move |_, _| {
                let token = token.clone();
                async move {
                    for _ in 0..yields_before {
                        tokio::task::yield_now().await;
                    }
                    let canceller = token.clone();
                    tokio::spawn(async move {
                        for _ in 0..yields_after {
                            tokio::task::yield_now().await;
                        }
                        canceller.cancel();
                    });
                    Ok(ToolOutput::text("sent"))
                }
            });
            // The turn goes on until it is cancelled.
            let brain = Brain::new("brain", [&[Step::Call("1", "quick", json!({}))], &[Step::Stall]]);
            let agent = agent(plain(), [brain.plug(), plug("quick", [quick])]).await;
            let mut session = Session::new("s");
            let told = turn_with(&agent, &CallCx::new().with_cancel(cancel), &mut session, "hi").await;
            assert_eq!((told.code(), told.took), (Code::CANCELLED, Duration::ZERO));
            match lines(session.messages()).as_str() {
                "user: hi\n" => none += 1,
                "user: hi\nassistant: [1 quick {}]\ntool 1: sent\n" => whole += 1,
                half => panic!("{half}"),
            }
        }
    }
    assert!(whole > 0 && whole + none == 16, "{whole} {none}");
}

/// Whoever shows the answer may have enough at any moment. Nothing is begun after that.
#[tokio::test(start_paused = true)]
async fn a_listener_may_cancel_at_every_event() {
    let asks = [Step::Say("Wait. "), Step::Call("1", "clock", json!({}))];
    let mut told = String::new();
    for at in 1..=6 {
        let failing = Brain::new("failing", [&[Step::Fail(Code::LLM_RATE_LIMITED, "slow down")], &[Step::BreakOff]]);
        let brain = Brain::new("brain", [&asks[..], &[Step::Say("Noon.")]]);
        let clock = tool("clock", |_, _| async { Ok(ToolOutput::text("noon")) });
        let config = config(json!({ "provider": ["failing", "brain"], "system": "" }));
        let agent = agent(config, [failing.plug(), brain.plug(), plug("clock", [clock])]).await;
        let (cancel, mut session, mut seen) = (CancelToken::new(), Session::new("s"), 0);
        let cx = CallCx::new().with_cancel(cancel.clone());
        let mut last = String::new();
        let result = within(agent.turn(&cx, &mut session, "hi", |event| {
            seen += 1;
            last = line(&event);
            if seen == at {
                cancel.cancel();
            }
        }))
        .await;
        assert_eq!((result.unwrap_err().code(), seen), (Code::CANCELLED, at), "{last}");
        let asked = failing.requests().len() + brain.requests().len();
        told += &format!("{last}: {asked} asked\n  {}\n", lines(session.messages()).trim_end().replace('\n', "\n  "));
        assert_eq!((failing.open(), brain.open()), (0, 0));
        turn(&agent, &mut session, "go on").await.result.unwrap();
    }
    expect![[r#"
        ! failing: slow down: 1 asked
          user: hi
        "Wait. ": 2 asked
          user: hi
          assistant: Wait.
        > clock {}: 2 asked
          user: hi
          assistant: Wait.
        < clock {}: noon: 2 asked
          user: hi
          assistant: Wait.  [1 clock {}]
          tool 1: noon
        ! failing: the answer of failing broke off: 3 asked
          user: hi
          assistant: Wait.  [1 clock {}]
          tool 1: noon
        "Noon.": 4 asked
          user: hi
          assistant: Wait.  [1 clock {}]
          tool 1: noon
          assistant: Noon.
    "#]]
    .assert_eq(&told);
}

#[tokio::test(start_paused = true)]
async fn a_hook_around_a_tool_or_at_the_beginning_does_not_hold_up_a_cancellation_either() {
    for (place, left) in [
        (Hook::OnSessionCreate, ""),
        (Hook::BeforeToolExecute, "user: hi\n"),
        // The tool has run; what came of it no hook has let pass.
        (Hook::AfterToolExecute, "user: hi\n"),
    ] {
        let (cancel, log) = (CancelToken::new(), Journal::default());
        let (token, noted) = (cancel.clone(), log.clone());
        let guard = hook(HookSpec::new("guard", place).fail_closed(), move |cx, _| {
            token.cancel();
            let held = Held { cx, name: "the hook", log: noted.clone() };
            async move {
                let _held = held;
                pending().await
            }
        });
        let brain = Brain::new("brain", [&[Step::Call("1", "clock", json!({}))]]);
        let clock = tool("clock", |_, _| async { Ok(ToolOutput::text("noon")) });
        let agent = agent(plain(), [brain.plug(), plug("clock", [clock]), plug("guard", [guard])]).await;
        let mut session = Session::new("s");
        let told = turn_with(&agent, &CallCx::new().with_cancel(cancel), &mut session, "hi").await;
        assert_eq!((told.code(), told.took), (Code::CANCELLED, Duration::ZERO), "{}", place.name());
        assert_eq!(lines(session.messages()), left, "{}", place.name());
        assert_eq!(logged(&log, 1).await, "the hook is gone, told: true", "{}", place.name());
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_holds_in_a_hook_and_before_a_turn() {
    let guard = hook(HookSpec::new("guard", Hook::BeforeAgentRun).timeout(Duration::from_secs(60)), |_, _| pending());
    let brain = Brain::new("brain", []);
    let agent = agent(plain(), [brain.plug(), plug("guard", [guard])]).await;
    let mut session = Session::new("s");
    for time in [Duration::from_secs(3), Duration::ZERO] {
        let told = turn_with(&agent, &due_in(time), &mut session, "hi").await;
        assert_eq!(told.error(), "EXECUTION_TIMEOUT the turn was not done before its deadline");
        assert!(told.took <= Duration::from_millis(3100), "it took {:?}", told.took);
    }
    assert_eq!((brain.requests().len(), session.messages().len()), (0, 0));
}
