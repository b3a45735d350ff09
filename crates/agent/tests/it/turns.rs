//! Turns that go well: what streams out, what the model is shown, what the session keeps.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
};

use bespoke_agent::Session;
use bespoke_plugin_api::{CallCx, FinishReason, Hook, HookReply, HookSpec, ModelInfo, Timestamp, ToolOutput, Usage, serde_json::json};
use expect_test::expect;

use crate::kit::{Brain, Journal, Step, act, agent, config, hook, lines, plain, plug, poll_once, says, tool, turn, turn_with, within};

#[tokio::test(start_paused = true)]
async fn text_streams_out_piece_by_piece_and_the_session_has_the_whole() {
    let said_when_shown = Journal::default();
    let noted = said_when_shown.clone();
    let brain = Brain::new(
        "brain",
        [&[Step::Say("It "), Step::Say(""), act(move || noted.note("next")), Step::Say("is noon."), Step::Count(7, 3)]],
    );
    let agent = agent(plain(), [brain.plug()]).await;
    let mut session = Session::new("s");
    let shown = said_when_shown.clone();
    let cx = CallCx::new();
    let answer = agent.turn(&cx, &mut session, "What time is it?", |event| shown.note(crate::kit::line(&event)));
    let answer = within(answer).await.unwrap();
    // Each piece is out before the next one is asked for; empty ones are none.
    assert_eq!(said_when_shown.text(), "\"It \"\nnext\n\"is noon.\"");
    assert_eq!((answer.text.as_str(), answer.provider.as_str()), ("It is noon.", "brain"));
    assert_eq!((answer.finish, answer.usage, answer.tool_calls), (FinishReason::Length, Some(Usage::new(7, 3)), 0));
    assert!(answer.first_token.unwrap() <= answer.total);
    assert_eq!(lines(session.messages()), "user: What time is it?\nassistant: It is noon.\n");
    assert_eq!(brain.open(), 0);
}

/// A model that is sent the last words only knows nothing of what was said before.
#[tokio::test(start_paused = true)]
async fn the_model_is_sent_the_history_and_not_only_the_last_words() {
    let brain = Brain::new("brain", [&[Step::Say("Hello "), Step::Say("Ada.")], &[Step::Say("Ada.")]]);
    let agent = agent(plain(), [brain.plug()]).await;
    let mut session = Session::new("s");
    turn(&agent, &mut session, "I am Ada.").await.result.unwrap();
    turn(&agent, &mut session, "Who am I?").await.result.unwrap();
    expect![[r#"
        system: Be brief.
        user: I am Ada.
        assistant: Hello Ada.
        user: Who am I?
    "#]]
    .assert_eq(&brain.read());
}

#[tokio::test(start_paused = true)]
async fn ten_turns_in_a_row_are_all_remembered() {
    let brain = Brain::new("brain", []);
    let agent = agent(plain(), [brain.plug()]).await;
    let mut session = Session::new("s");
    for n in 0..10 {
        assert_eq!(turn(&agent, &mut session, &format!("question {n}")).await.text(), "Ok.");
    }
    let requests = brain.requests();
    let sizes: Vec<_> = requests.iter().map(|request| request.messages.len()).collect();
    assert_eq!(sizes, [2, 4, 6, 8, 10, 12, 14, 16, 18, 20]);
    let questions: Vec<_> = requests[9].messages.iter().filter(|m| m.text.starts_with("question")).map(|m| m.text.as_str()).collect();
    assert_eq!(questions.join(" "), (0..10).map(|n| format!("question {n}")).collect::<Vec<_>>().join(" "));
    session.clear().unwrap();
    turn(&agent, &mut session, "anew").await.result.unwrap();
    assert_eq!(brain.read(), "system: Be brief.\nuser: anew\n");
}

#[tokio::test(start_paused = true)]
async fn older_turns_are_left_out_whole_and_the_system_prompt_never() {
    let asks = [Step::Call("1", "clock", json!({}))];
    let brain = Brain::new("brain", [&asks, &[Step::Say("Noon.")], &asks, &[Step::Say("Noon again.")]]);
    // Forty tokens or so: the turn at hand and one before it, by the estimate of four bytes and a frame of four.
    let config = config(json!({ "system": "Be brief.", "history_tokens": 40 }));
    let agent = agent(config, [brain.plug(), plug("clock", [says("clock", "12:00")])]).await;
    let mut session = Session::new("s");
    for input in ["First?", "Second?", "Third?"] {
        turn(&agent, &mut session, input).await.result.unwrap();
    }
    expect![[r#"
        system: Be brief.
        user: Second?
        assistant: [1 clock {}]
        tool 1: 12:00
        assistant: Noon again.
        user: Third?
    "#]]
    .assert_eq(&brain.read());
    assert_eq!(session.messages().len(), 10, "the session itself forgets nothing");
    // However long it is, what the user says now is sent.
    turn(&agent, &mut session, &"long ".repeat(100)).await.result.unwrap();
    assert_eq!(brain.read(), format!("system: Be brief.\nuser: {}\n", "long ".repeat(100)));
}

#[tokio::test(start_paused = true)]
async fn a_model_with_a_small_window_is_sent_less_history() {
    let models = || async { Ok(vec![ModelInfo::new("small", 560)]) };
    let brain = Brain::new("brain", []).models(models);
    let agent = agent(plain(), [brain.plug()]).await;
    let mut session = Session::new("s");
    for n in 0..4 {
        turn(&agent, &mut session, &format!("question {n}")).await.result.unwrap();
    }
    // 560 less 512 for the answer less 6 for the system prompt is 42: four questions of 6 and three answers of 4 fit.
    assert_eq!(brain.requests()[3].messages.len(), 8);
    turn(&agent, &mut session, &"x".repeat(80)).await.result.unwrap();
    // 24 for this one, 10 for the turn before; one more would make 44.
    assert_eq!(brain.requests()[4].messages.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn the_request_carries_what_the_configuration_says() {
    let brain = Brain::new("brain", []).models(|| async { Ok(vec![ModelInfo::new("a", 0), ModelInfo::new("b", 0)]) });
    let one = agent(config(json!({ "system": "" })), [brain.plug()]).await;
    turn(&one, &mut Session::new("s"), "hi").await.result.unwrap();
    let keys = json!({ "model": "b", "temperature": 0.5, "max_tokens": 99, "system": "S" });
    let other = agent(config(keys), [brain.plug()]).await;
    turn(&other, &mut Session::new("s"), "hi").await.result.unwrap();
    let requests = brain.requests();
    assert_eq!((requests[0].model.as_deref(), requests[0].max_tokens, requests[0].temperature), (Some("a"), Some(512), None));
    assert_eq!(lines(&requests[0].messages), "user: hi\n");
    assert_eq!((requests[1].model.as_deref(), requests[1].max_tokens, requests[1].temperature), (Some("b"), Some(99), Some(0.5)));
    assert_eq!(lines(&requests[1].messages), "system: S\nuser: hi\n");
}

#[tokio::test(start_paused = true)]
async fn tokens_of_all_requests_are_added_up_and_no_number_of_a_plugin_is_too_large() {
    let calls = |read| [Step::Call("1", "clock", json!({})), Step::Count(read, 2)];
    let brain =
        Brain::new("brain", [&calls(10), &[Step::Say("a"), Step::Count(20, 3)], &calls(u32::MAX), &[Step::Say("b"), Step::Count(20, 3)]]);
    let agent = agent(plain(), [brain.plug(), plug("clock", [says("clock", "noon")])]).await;
    let mut session = Session::new("s");
    assert_eq!(turn(&agent, &mut session, "a").await.result.unwrap().usage, Some(Usage::new(30, 5)));
    assert_eq!(turn(&agent, &mut session, "b").await.result.unwrap().usage, Some(Usage::new(u32::MAX, 5)));
}

#[tokio::test(start_paused = true)]
async fn two_sessions_talk_at_once_and_do_not_mix() {
    let both = Arc::new(tokio::sync::Barrier::new(2));
    // Each answer waits for the other one: one after the other they would never end.
    let answer = [Step::Say("one "), Step::Meet(both.clone()), Step::Say("two")];
    let brain = Brain::new("brain", [&answer, &answer]);
    let agent = agent(plain(), [brain.plug()]).await;
    let (mut a, mut b) = (Session::new("a"), Session::new("b"));
    let (told_a, told_b) = tokio::join!(turn(&agent, &mut a, "I am a"), turn(&agent, &mut b, "I am b"));
    assert_eq!((told_a.text(), told_b.text()), ("one two", "one two"));
    assert_eq!(lines(a.messages()), "user: I am a\nassistant: one two\n");
    assert_eq!(lines(b.messages()), "user: I am b\nassistant: one two\n");
    let of: Vec<_> = brain.contexts().iter().map(|cx| cx.session().unwrap().to_owned()).collect();
    assert_eq!(of, ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn plugins_learn_of_the_session_the_trace_the_depth_and_the_deadline() {
    let seen = Journal::default();
    let note = |what: &'static str| {
        let seen = seen.clone();
        move |cx: &CallCx| {
            let (session, caller) = (cx.session().unwrap_or("none").to_owned(), cx.caller().unwrap_or("none").to_owned());
            let deadline = cx.deadline().is_some_and(|at| at <= Timestamp(u64::MAX - 1));
            seen.note(format!("{what} {session} {caller} {} {} {deadline}", cx.trace(), cx.depth()));
        }
    };
    let in_tool = note("tool");
    let clock = tool("clock", move |cx, _| {
        in_tool(&cx);
        async { Ok(ToolOutput::text("noon")) }
    });
    let in_hook = note("hook");
    let looks = hook(HookSpec::new("looks", Hook::BeforeAgentRun), move |cx, _| {
        in_hook(&cx);
        async { Ok(HookReply::Continue) }
    });
    let brain = Brain::new("brain", [&[Step::Call("1", "clock", json!({}))]]);
    let agent = agent(plain(), [brain.plug(), plug("clock", [clock]), plug("looks", [looks])]).await;
    let cx = CallCx::new().with_trace(7).with_deadline(Timestamp(u64::MAX - 1)).nested("caller").unwrap();
    turn_with(&agent, &cx, &mut Session::new("s"), "hi").await.result.unwrap();
    brain.contexts().iter().for_each(note("provider"));
    expect![[r#"
        hook s caller 7 1 true
        tool s caller 7 1 true
        provider s caller 7 1 true
        provider s caller 7 1 true"#]]
    .assert_eq(&seen.text());
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_words_is_an_answer() {
    let brain = Brain::new("brain", [&[]]);
    let agent = agent(plain(), [brain.plug()]).await;
    let told = turn(&agent, &mut Session::new("s"), "hi").await;
    assert_eq!((told.text(), told.events.as_str()), ("", ""));
    assert_eq!(told.result.unwrap().first_token, None);
}

/// It is the caller's own code: the panic is the caller's to handle, and the session is fit for the next turn.
#[tokio::test(start_paused = true)]
async fn a_panic_of_the_listener_goes_through_and_leaves_the_session_in_order() {
    let brain = Brain::new("brain", [&[Step::Say("Half "), Step::Say("an answer")]]);
    let agent = agent(plain(), [brain.plug()]).await;
    let mut session = Session::new("s");
    {
        let cx = CallCx::new();
        let mut turning = pin!(agent.turn(&cx, &mut session, "hi", |_| panic!("on purpose")));
        assert!(catch_unwind(AssertUnwindSafe(|| poll_once(turning.as_mut()))).is_err());
    }
    assert_eq!(lines(session.messages()), "user: hi\nassistant: Half \n");
    assert_eq!(brain.open(), 0);
    assert_eq!(turn(&agent, &mut session, "again").await.text(), "Ok.");
}
