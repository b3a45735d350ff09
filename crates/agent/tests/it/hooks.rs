//! Hooks at their places in a turn.

use std::{
    future::{pending, ready},
    sync::Arc,
};

use bespoke_agent::{Agent, Session};
use bespoke_host::Candidate;
use bespoke_plugin_api::{CallCx, Error, Hook, HookEvent, HookReply, HookSpec, Result, ToolOutput, serde_json::json};
use expect_test::expect;

use crate::kit::{Brain, Journal, Step, agent, hook, lines, plain, plug, tool, turn, within};

/// A plugin whose handler answers at once.
fn on(place: Hook, reply: impl Fn(HookEvent) -> Result<HookReply> + Send + Sync + 'static) -> Candidate {
    plug("guard", [hook(HookSpec::new("guard", place), move |_, event| ready(reply(event)))])
}

fn replace(event: HookEvent) -> Result<HookReply> {
    Ok(HookReply::replace(event))
}

fn veto(reason: &str) -> Result<HookReply> {
    Ok(HookReply::veto(reason))
}

/// A model that asks for the clock, and a clock that says what it was asked; with this plugin.
async fn with_clock(guard: Candidate) -> (Arc<Brain>, Agent) {
    let brain = Brain::new("brain", [&[Step::Call("1", "clock", json!({ "zone": "UTC" }))]]);
    let clock = tool("clock", |_, args| async move { Ok(ToolOutput::text(format!("noon in {}", args["zone"]))) });
    let agent = agent(plain(), [brain.plug(), plug("clock", [clock]), guard]).await;
    (brain, agent)
}

#[tokio::test(start_paused = true)]
async fn the_input_may_be_replaced() {
    let guard = on(Hook::BeforeAgentRun, |event| match event {
        HookEvent::BeforeAgentRun { session, input, .. } => replace(HookEvent::before_agent_run(session, input.replace("1234", "****"))),
        other => panic!("{other:?}"),
    });
    let brain = Brain::new("brain", []);
    let agent = agent(plain(), [brain.plug(), guard]).await;
    let mut session = Session::new("s");
    assert_eq!(turn(&agent, &mut session, "my pin is 1234").await.text(), "Ok.");
    assert_eq!(brain.read(), "system: Be brief.\nuser: my pin is ****\n");
    assert_eq!(lines(session.messages()), "user: my pin is ****\nassistant: Ok.\n");
}

#[tokio::test(start_paused = true)]
async fn a_turn_may_be_stopped_before_it_begins() {
    let brain = Brain::new("brain", []);
    let agent = agent(plain(), [brain.plug(), on(Hook::BeforeAgentRun, |_| veto("not on Sundays"))]).await;
    let mut session = Session::new("s");
    assert_eq!(turn(&agent, &mut session, "hi").await.error(), "PERMISSION_DENIED stopped by guard: not on Sundays");
    assert_eq!((brain.requests().len(), session.messages().len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_answer_may_be_replaced_before_it_is_stored() {
    let guard = on(Hook::AfterAgentRun, |event| match event {
        HookEvent::AfterAgentRun { session, output, .. } => replace(HookEvent::after_agent_run(session, output + " (checked)")),
        other => panic!("{other:?}"),
    });
    let agent = agent(plain(), [Brain::new("brain", []).plug(), guard]).await;
    let mut session = Session::new("s");
    let told = turn(&agent, &mut session, "hi").await;
    assert_eq!((told.text(), told.events.as_str()), ("Ok. (checked)", "\"Ok.\"\n"));
    assert_eq!(lines(session.messages()), "user: hi\nassistant: Ok. (checked)\n");
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_be_withheld_from_the_session() {
    let agent = agent(plain(), [Brain::new("brain", []).plug(), on(Hook::AfterAgentRun, |_| veto("too frank"))]).await;
    let mut session = Session::new("s");
    assert_eq!(turn(&agent, &mut session, "hi").await.error(), "PERMISSION_DENIED stopped by guard: too frank");
    assert_eq!(session.messages(), []);
}

#[tokio::test(start_paused = true)]
async fn a_call_may_be_replaced_and_answers_the_same_wish() {
    let guard = on(Hook::BeforeToolExecute, |event| match event {
        HookEvent::BeforeToolExecute { session, mut call, .. } => {
            call.args = json!({ "zone": "Asia/Tokyo" });
            call.id = "other".into();
            replace(HookEvent::before_tool_execute(session, call))
        }
        other => panic!("{other:?}"),
    });
    let (brain, agent) = with_clock(guard).await;
    let told = turn(&agent, &mut Session::new("s"), "hi").await;
    expect![[r#"
        > clock {"zone":"UTC"}
        < clock {"zone":"Asia/Tokyo"}: noon in "Asia/Tokyo"
        "Ok."
    "#]]
    .assert_eq(&told.events);
    expect![[r#"
        system: Be brief.
        user: hi
        assistant: [1 clock {"zone":"UTC"}]
        tool 1: noon in "Asia/Tokyo"
    "#]]
    .assert_eq(&brain.read());
}

#[tokio::test(start_paused = true)]
async fn a_call_may_not_be_turned_into_one_of_a_tool_that_was_not_offered() {
    let guard = on(Hook::BeforeToolExecute, |event| match event {
        HookEvent::BeforeToolExecute { session, mut call, .. } => {
            call.name = "shell".into();
            replace(HookEvent::before_tool_execute(session, call))
        }
        other => panic!("{other:?}"),
    });
    let (brain, agent) = with_clock(guard).await;
    assert_eq!(turn(&agent, &mut Session::new("s"), "hi").await.text(), "Ok.");
    assert_eq!(brain.requests()[1].messages.last().unwrap().text, "error: PLUGIN_NOT_FOUND: there is no tool `shell`; there is clock");
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_does_not_run_and_the_model_learns_why() {
    let brain = Brain::new("brain", [&[Step::Call("1", "clock", json!({}))]]);
    let clock = tool("clock", |_, _| async { panic!("it ran") });
    let guard = on(Hook::BeforeToolExecute, |_| veto("no clocks here"));
    let agent = agent(plain(), [brain.plug(), plug("clock", [clock]), guard]).await;
    assert_eq!(turn(&agent, &mut Session::new("s"), "hi").await.text(), "Ok.");
    assert_eq!(brain.requests()[1].messages.last().unwrap().text, "error: refused by guard: no clocks here");
}

#[tokio::test(start_paused = true)]
async fn the_answer_of_a_tool_may_be_replaced_or_withheld() {
    let (brain, agent) = with_clock(on(Hook::AfterToolExecute, |event| match event {
        HookEvent::AfterToolExecute { session, call, output, .. } => {
            let output = ToolOutput::text(output.to_text().replace("noon", "midnight"));
            replace(HookEvent::after_tool_execute(session, call, output))
        }
        other => panic!("{other:?}"),
    }))
    .await;
    assert_eq!(turn(&agent, &mut Session::new("s"), "hi").await.text(), "Ok.");
    assert_eq!(brain.requests()[1].messages.last().unwrap().text, "midnight in \"UTC\"");

    let (brain, agent) = with_clock(on(Hook::AfterToolExecute, |_| veto("it is late"))).await;
    assert_eq!(turn(&agent, &mut Session::new("s"), "hi").await.text(), "Ok.");
    assert_eq!(brain.requests()[1].messages.last().unwrap().text, "error: withheld by guard: it is late");
}

#[tokio::test(start_paused = true)]
async fn a_session_begins_once_and_ends_once() {
    let seen = Journal::default();
    let notes = |place: Hook| {
        let seen = seen.clone();
        hook(HookSpec::new(place.name(), place), move |cx, event| {
            let id = match event {
                HookEvent::OnSessionCreate { session, .. } | HookEvent::OnSessionEnd { session, .. } => session,
                other => panic!("{other:?}"),
            };
            assert_eq!(cx.session(), Some(id.as_str()));
            seen.note(format!("{} {id}", place.name()));
            // Nothing that it could stop.
            ready(veto("no"))
        })
    };
    let watch = plug("watch", [notes(Hook::OnSessionCreate), notes(Hook::OnSessionEnd)]);
    let agent = agent(plain(), [Brain::new("brain", []).plug(), watch]).await;
    let (mut a, mut b) = (Session::new("a"), Session::new("b"));
    turn(&agent, &mut a, "hi").await.result.unwrap();
    turn(&agent, &mut b, "hi").await.result.unwrap();
    a.clear().unwrap();
    turn(&agent, &mut a, "again").await.result.unwrap();
    within(agent.end(&CallCx::new(), a)).await;
    // Nobody was told that this one began.
    within(agent.end(&CallCx::new(), Session::new("c"))).await;
    assert_eq!(seen.text(), "on_session_create a\non_session_create b\non_session_end a");
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_fails_goes_by_its_subscription() {
    let open = || HookSpec::new("guard", Hook::BeforeAgentRun);
    let told = async |spec: HookSpec, failure: fn() -> Result<HookReply>| {
        let guard = plug("guard", [hook(spec, move |_, _| async move { failure() })]);
        let agent = agent(plain(), [Brain::new("brain", []).plug(), guard]).await;
        let mut session = Session::new("s");
        let told = turn(&agent, &mut session, "hi").await;
        assert_eq!(session.messages().len(), if told.result.is_ok() { 2 } else { 0 });
        told.result.map_or_else(|error| error.to_string(), |turn| turn.text)
    };
    assert_eq!(told(open(), || Err(Error::internal("no list"))).await, "Ok.");
    assert_eq!(told(open(), || panic!("on purpose")).await, "Ok.");
    let closed = "stopped by guard: `guard` could not decide and fails closed: ";
    assert_eq!(told(open().fail_closed(), || Err(Error::internal("no list"))).await, format!("{closed}no list"));
    assert_eq!(told(open().fail_closed(), || panic!("on purpose")).await, format!("{closed}the call panicked: on purpose"));
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_hangs_is_late_and_no_more() {
    let guard = plug("guard", [hook(HookSpec::new("guard", Hook::AfterAgentRun), |_, _| pending())]);
    let agent = agent(plain(), [Brain::new("brain", []).plug(), guard]).await;
    let told = turn(&agent, &mut Session::new("s"), "hi").await;
    assert_eq!((told.text(), told.took.as_secs()), ("Ok.", 5));
}
