//! Which provider answers, and what becomes of one that cannot.

use std::{future::pending, sync::Arc};

use bespoke_agent::Session;
use bespoke_plugin_api::{Code, Contribution, Error, ModelInfo, ProviderSpec, serde_json::json};
use expect_test::expect;

use crate::kit::{Brain, Step, agent, broken, config, lines, plain, plug, says, stand_in, turn};

/// What a first provider's answer comes to with a healthy second one: the events, and the error if there is one.
async fn first_does(steps: &[Step]) -> String {
    let (first, second) = (Brain::new("first", [steps]), Brain::new("second", []));
    let agent = agent(config(json!({ "provider": ["first", "second"] })), [first.plug(), second.plug()]).await;
    let mut session = Session::new("s");
    let told = turn(&agent, &mut session, "hi").await;
    assert_eq!((first.open(), second.open()), (0, 0));
    match &told.result {
        Ok(turn) => {
            assert_eq!(turn.provider, "second");
            assert_eq!(lines(session.messages()), "user: hi\nassistant: Ok.\n");
            told.events
        }
        Err(error) => {
            assert_eq!(second.requests().len(), 0, "nobody should hear the end of another answer");
            assert_eq!(session.messages(), [], "the session is as before");
            format!("{}{}{}\n", told.events, told.error(), if error.is_retryable() { " (retryable)" } else { "" })
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_one_is_asked_while_nothing_was_shown() {
    let mut told = String::new();
    for steps in [
        vec![Step::Fail(Code::LLM_RATE_LIMITED, "slow down")],
        vec![Step::Say(""), Step::Fail(Code::LLM_RATE_LIMITED, "slow down")],
        // A wish for a tool was shown to nobody.
        vec![Step::Call("1", "clock", json!({})), Step::Fail(Code::LLM_RATE_LIMITED, "slow down")],
        vec![Step::BreakOff],
        vec![Step::Panic("on purpose")],
        vec![Step::Stall],
        // Nobody cancelled: it says so all the same.
        vec![Step::Fail(Code::CANCELLED, "cancelled")],
    ] {
        told += &first_does(&steps).await;
    }
    expect![[r#"
        ! first: slow down
        "Ok."
        ! first: slow down
        "Ok."
        ! first: slow down
        "Ok."
        ! first: the answer of first broke off
        "Ok."
        ! first: the stream panicked: on purpose
        "Ok."
        ! first: first said nothing for 60 s
        "Ok."
        ! first: cancelled
        "Ok."
    "#]]
    .assert_eq(&told);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_begun_is_not_ended_by_another() {
    let mut told = String::new();
    for end in [
        Step::Fail(Code::LLM_COMPLETION_FAILED, "out of memory"),
        Step::BreakOff,
        Step::Panic("on purpose"),
        Step::Stall,
        Step::Fail(Code::CANCELLED, "cancelled"),
    ] {
        told += &first_does(&[Step::Say("It is"), end]).await;
    }
    expect![[r#"
        "It is"
        LLM_COMPLETION_FAILED first: out of memory
        "It is"
        LLM_COMPLETION_FAILED first: the answer of first broke off (retryable)
        "It is"
        PLUGIN_EXCEPTION first: the stream panicked: on purpose
        "It is"
        EXECUTION_TIMEOUT first: first said nothing for 60 s
          try: bespoke config set agent.silence_ms N, which is in milliseconds, or ask for less at once (retryable)
        "It is"
        CANCELLED first: cancelled
    "#]]
    .assert_eq(&told);
}

#[tokio::test(start_paused = true)]
async fn one_that_does_not_even_name_its_models_is_passed_over() {
    let healthy = || Brain::new("second", []);
    let config = || config(json!({ "provider": ["first", "second"] }));
    for (first, event) in [
        (Brain::new("first", []).models(|| async { Err(Error::internal("no key")) }), "! first: no key\n\"Ok.\"\n"),
        (Brain::new("first", []).models(|| async { panic!("on purpose") }), "! first: the call panicked: on purpose\n\"Ok.\"\n"),
        (Brain::new("first", []).models(|| async { Ok(Vec::new()) }), "! first: first has no models\n\"Ok.\"\n"),
        (Brain::new("first", []).models(pending), "! first: first said nothing for 60 s\n\"Ok.\"\n"),
    ] {
        let agent = agent(config(), [first.plug(), healthy().plug()]).await;
        assert_eq!(turn(&agent, &mut Session::new("s"), "hi").await.events, event);
    }
}

#[tokio::test(start_paused = true)]
async fn when_none_answers_every_reason_is_told() {
    let a = Brain::new("a", [&[Step::Fail(Code::LLM_RATE_LIMITED, "slow down")]]);
    let b = Brain::new("b", [&[Step::Fail(Code::LLM_COMPLETION_FAILED, "out of memory")]]);
    let agent = agent(config(json!({ "provider": ["a", "nonsense", "b"] })), [a.plug(), b.plug()]).await;
    let mut session = Session::new("s");
    let told = turn(&agent, &mut session, "hi").await;
    assert_eq!(told.events, "! a: slow down\n! nonsense: no provider named `nonsense`; there is a, b\n");
    expect![[r#"
        LLM_RATE_LIMITED no provider answered: a: slow down; nonsense: no provider named `nonsense`; there is a, b; b: out of memory
          try: bespoke plugin list"#]]
    .assert_eq(&told.error());
    assert_eq!(session.messages(), []);
    // A later turn begins anew.
    assert_eq!(turn(&agent, &mut session, "hi").await.text(), "Ok.");
}

#[tokio::test(start_paused = true)]
async fn a_name_or_a_model_that_is_not_there_is_told_with_what_is() {
    let brain = Brain::new("brain", []).models(|| async { Ok(vec![ModelInfo::new("small", 0), ModelInfo::new("large", 0)]) });
    let mut told = String::new();
    for keys in [json!({ "provider": ["brian"] }), json!({ "model": "huge" })] {
        let agent = agent(config(keys), [brain.plug()]).await;
        told += &(turn(&agent, &mut Session::new("s"), "hi").await.error() + "\n");
    }
    let nobody = agent(plain(), []).await;
    told += &turn(&nobody, &mut Session::new("s"), "hi").await.error();
    expect![[r#"
        PLUGIN_NOT_FOUND no provider named `brian`; there is brain
          try: bespoke plugin list
        LLM_MODEL_NOT_AVAILABLE brain has no model `huge`; it has small, large
          try: bespoke config set agent.model NAME, or leave it out
        PLUGIN_NOT_FOUND there is no provider to ask
          try: bespoke init, or name one in agent.provider; the feature `smol` builds one in"#]]
    .assert_eq(&told);
}

#[tokio::test(start_paused = true)]
async fn of_one_that_did_not_start_the_reason_is_told() {
    let lost = Contribution::Provider(ProviderSpec::new("lost"), Brain::new("lost", []));
    let why = Error::new(Code::MODEL_NOT_FOUND, "model.gguf is missing").with_help("bespoke plugin download-files lost");
    let agent = agent(plain(), [broken("lost", lost, why)]).await;
    expect![[r#"
        NOT_READY lost: is failed: model.gguf is missing
          try: bespoke plugin download-files lost"#]]
    .assert_eq(&turn(&agent, &mut Session::new("s"), "hi").await.error());
}

#[tokio::test(start_paused = true)]
async fn without_a_configuration_all_are_asked_by_name_and_stand_ins_never() {
    let brains = [Brain::new("b", []), Brain::new("a", [&[Step::BreakOff]])];
    let scripted = Brain::new("aa", []);
    let plugins = || brains.iter().map(Brain::plug).chain([stand_in(scripted.plug())]);
    let by_default = agent(plain(), plugins()).await;
    assert_eq!(by_default.providers(), ["a", "b"]);
    assert_eq!(turn(&by_default, &mut Session::new("s"), "hi").await.events, "! a: the answer of a broke off\n\"Ok.\"\n");
    assert_eq!(scripted.requests().len(), 0);

    let alone = agent(plain(), [stand_in(scripted.plug())]).await;
    assert_eq!(turn(&alone, &mut Session::new("s"), "hi").await.code(), Code::PLUGIN_NOT_FOUND);

    let named = agent(config(json!({ "provider": ["aa"] })), plugins()).await;
    assert_eq!(turn(&named, &mut Session::new("s"), "hi").await.text(), "Ok.");
    assert_eq!(scripted.requests().len(), 1);
}

/// The second request of a turn may go to another provider: nothing of its answer was shown yet.
#[tokio::test(start_paused = true)]
async fn a_provider_that_fails_after_a_tool_hands_over_to_the_next() {
    let first = Brain::new("first", [&[Step::Say("Wait. "), Step::Call("1", "none", json!({}))], &[Step::BreakOff]]);
    let second = Brain::new("second", []);
    let agent = agent(config(json!({ "provider": ["first", "second"], "system": "" })), [first.plug(), second.plug()]).await;
    let told = turn(&agent, &mut Session::new("s"), "hi").await;
    assert_eq!(told.text(), "Ok.");
    assert_eq!(second.read(), first.read());
    assert_eq!(told.result.unwrap().provider, "second");
}

#[tokio::test(start_paused = true)]
async fn a_configuration_that_cannot_work_makes_no_agent() {
    let brain: Arc<Brain> = Brain::new("brain", []);
    let host = agent(plain(), [brain.plug()]).await.host().clone();
    let error = bespoke_agent::Agent::new(host, config(json!({ "temperature": 3.0 }))).unwrap_err();
    assert_eq!(error.code(), Code::INVALID_PARAMS);
    assert_eq!(error.data(), Some(&json!({ "path": "temperature" })));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_begun_is_begun_anew_where_that_is_configured() {
    let first = Brain::new("first", [&[Step::Say("It is"), Step::BreakOff]]);
    let second = Brain::new("second", [&[Step::Say("At noon.")]]);
    let config = config(json!({ "provider": ["first", "second"], "failover_after_text": true }));
    let agent = agent(config, [first.plug(), second.plug()]).await;
    let mut session = Session::new("s");
    let told = turn(&agent, &mut session, "hi").await;
    assert_eq!(told.events, "\"It is\"\n! first: the answer of first broke off (shown)\n\"At noon.\"\n");
    assert_eq!(lines(session.messages()), "user: hi\nassistant: At noon.\n");
    let turn = told.result.unwrap();
    assert_eq!((turn.text.as_str(), turn.provider.as_str(), turn.model.as_str()), ("At noon.", "second", "large"));
    assert_eq!(turn.failures, [("first".to_owned(), "the answer of first broke off".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn each_provider_may_be_asked_for_a_model_of_its_own() {
    let models = |ids: &'static [&'static str]| move || async move { Ok(ids.iter().map(|id| ModelInfo::new(*id, 8_192)).collect()) };
    let first = Brain::new("first", [&[Step::Fail(Code::LLM_RATE_LIMITED, "slow down")]]).models(models(&["a", "b:1"]));
    let second = Brain::new("second", []).models(models(&["c", "d"]));
    let agent = agent(config(json!({ "provider": ["first:b:1", "second"], "model": "d" })), [first.plug(), second.plug()]).await;
    let told = turn(&agent, &mut Session::new("s"), "hi").await;
    assert_eq!(told.events, "! first:b:1: slow down\n\"Ok.\"\n");
    assert_eq!((first.requests()[0].model.as_deref(), second.requests()[0].model.as_deref()), (Some("b:1"), Some("d")));
    assert_eq!(told.result.unwrap().provider, "second");
}

#[tokio::test(start_paused = true)]
async fn silence_is_bounded_by_the_configuration() {
    let silent = Brain::new("silent", [&[Step::Stall]]);
    let agent = agent(config(json!({ "provider": ["silent"], "silence_ms": 1500 })), [silent.plug()]).await;
    let told = turn(&agent, &mut Session::new("s"), "hi").await;
    assert_eq!(
        told.error(),
        "EXECUTION_TIMEOUT silent: silent said nothing for 1.5 s\n  try: bespoke config set agent.silence_ms N, which is in milliseconds, or ask for less at once"
    );
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_is_spent_ends_the_turn_or_the_conversation() {
    let calls = |n| [Step::Call("1", "clock", json!({})), Step::Count(n, 10)];
    let brain = Brain::new("brain", [&calls(90)]);
    let plugins = |brain: &Arc<Brain>| [brain.plug(), plug("clock", [says("clock", "noon")])];
    let small = agent(config(json!({ "turn_tokens": 100 })), plugins(&brain)).await;
    let told = turn(&small, &mut Session::new("s"), "hi").await;
    expect![[r#"
        RESOURCE_EXHAUSTED the turn has cost 100 tokens, and agent.turn_tokens allows 100
          try: bespoke config set agent.turn_tokens N, or 0 for no limit"#]]
    .assert_eq(&told.error());
    assert_eq!(brain.requests().len(), 1);

    let brain = Brain::new("brain", [&[Step::Say("One."), Step::Count(90, 10)], &[Step::Say("Two.")]]);
    let small = agent(config(json!({ "session_tokens": 100 })), plugins(&brain)).await;
    let mut session = Session::new("s");
    assert_eq!(turn(&small, &mut session, "hi").await.text(), "One.");
    assert_eq!(session.usage().total(), 100);
    expect![[r#"
        RESOURCE_EXHAUSTED the conversation has cost 100 tokens, and agent.session_tokens allows 100; a new conversation has as many again
          try: bespoke config set agent.session_tokens N, or 0 for no limit"#]]
    .assert_eq(&turn(&small, &mut session, "hi").await.error());
    assert_eq!(lines(session.messages()), "user: hi\nassistant: One.\n", "what was said stays");

    // One that does not count is estimated.
    let brain = Brain::new("brain", []);
    let small = agent(config(json!({ "session_tokens": 1 })), plugins(&brain)).await;
    let mut session = Session::new("s");
    let told = turn(&small, &mut session, "hi").await;
    assert_eq!(told.result.unwrap().usage, None);
    assert!(session.usage().total() >= 1);
    assert!(turn(&small, &mut session, "hi").await.result.is_err());
}
