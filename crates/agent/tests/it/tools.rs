//! Calls of tools: what reaches the tool, what the model is told of it, and when it is enough.

use std::{future::pending, sync::Arc, time::Duration};

use bespoke_agent::Session;
use bespoke_plugin_api::{Code, Error, ModelInfo, ToolChoice, ToolOutput, ToolSpec, serde_json::json};
use expect_test::expect;

use crate::kit::{Brain, Journal, Step, agent, broken, config, lines, plain, plug, says, stand_in, tool, turn, with_spec};

fn call(name: &'static str) -> Step {
    Step::Call("1", name, json!({}))
}

#[tokio::test(start_paused = true)]
async fn the_tool_gets_the_arguments_and_the_model_the_answer() {
    let brain = Brain::new(
        "brain",
        [&[Step::Say("Let me look. "), Step::Call("c7", "clock", json!({ "zone": "Europe/Paris" }))], &[Step::Say("It is noon.")]],
    );
    let clock = tool("clock", |_, args| async move { Ok(ToolOutput::text(format!("12:00 in {}", args["zone"]))) });
    let agent = agent(plain(), [brain.plug(), plug("clock", [clock])]).await;
    let mut session = Session::new("s");
    let told = turn(&agent, &mut session, "What time is it?").await;
    expect![[r#"
        "Let me look. "
        > clock {"zone":"Europe/Paris"}
        < clock {"zone":"Europe/Paris"}: 12:00 in "Europe/Paris"
        "It is noon."
    "#]]
    .assert_eq(&told.events);
    assert_eq!(told.text(), "It is noon.");
    assert_eq!(told.result.unwrap().tool_calls, 1);
    let asked_again = expect![[r#"
        system: Be brief.
        user: What time is it?
        assistant: Let me look.  [c7 clock {"zone":"Europe/Paris"}]
        tool c7: 12:00 in "Europe/Paris"
    "#]];
    asked_again.assert_eq(&brain.read());
    assert_eq!(format!("system: Be brief.\n{}", lines(session.messages())), brain.read() + "assistant: It is noon.\n");
    assert_eq!(brain.requests()[0].tools.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>(), ["clock"]);
}

#[tokio::test(start_paused = true)]
async fn calls_of_one_answer_run_side_by_side_and_are_told_in_their_order() {
    let brain = Brain::new("brain", [&[Step::Call("1", "clock", json!({})), Step::Call("2", "dice", json!({}))]]);
    // Each waits for the other; the second is done first.
    let both = Arc::new(tokio::sync::Barrier::new(2));
    let (first, second) = (both.clone(), both);
    let clock = tool("clock", move |_, _| {
        let both = first.clone();
        async move {
            both.wait().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(ToolOutput::text("noon"))
        }
    });
    let dice = tool("dice", move |_, _| {
        let both = second.clone();
        async move {
            both.wait().await;
            Ok(ToolOutput::text("six"))
        }
    });
    let agent = agent(plain(), [brain.plug(), plug("tools", [clock, dice])]).await;
    let told = turn(&agent, &mut Session::new("s"), "hi").await;
    assert_eq!(told.events, "> clock {}\n> dice {}\n< dice {}: six\n< clock {}: noon\n\"Ok.\"\n");
    expect![[r#"
        system: Be brief.
        user: hi
        assistant: [1 clock {}] [2 dice {}]
        tool 1: noon
        tool 2: six
    "#]]
    .assert_eq(&brain.read());
}

/// What goes wrong with a tool is the model's to mend; the user gets an answer all the same.
#[tokio::test(start_paused = true)]
async fn whatever_goes_wrong_is_told_to_the_model_and_not_to_the_user() {
    let bad = [
        tool("errs", |_, _| async { Err(Error::invalid_params("arguments: `zone` is missing")) }),
        tool("refuses", |_, _| async { Ok(ToolOutput::error("no such zone")) }),
        tool("panics", |_, _| async { panic!("on purpose") }),
        tool("hangs", |_, _| pending()),
        // Nobody cancelled: it says so all the same.
        tool("quits", |_, _| async { Err(Error::cancelled()) }),
    ];
    let names = ["errs", "refuses", "panics", "hangs", "quits", "nonsense"];
    let calls: Vec<_> = names.iter().map(|name| Step::Call(name, name, json!({}))).collect();
    let brain = Brain::new("brain", [&calls]);
    let agent = agent(plain(), [brain.plug(), plug("bad", bad)]).await;
    let told = turn(&agent, &mut Session::new("s"), "hi").await;
    assert_eq!(told.text(), "Ok.");
    expect![[r#"
        system: Be brief.
        user: hi
        assistant: [errs errs {}] [refuses refuses {}] [panics panics {}] [hangs hangs {}] [quits quits {}] [nonsense nonsense {}]
        tool errs: error: INVALID_PARAMS: arguments: `zone` is missing
        tool refuses: error: no such zone
        tool panics: error: PLUGIN_EXCEPTION: the call panicked: on purpose
        tool hangs: error: EXECUTION_TIMEOUT: no answer within 120 s
        tool quits: error: CANCELLED: cancelled by the caller
        tool nonsense: error: PLUGIN_NOT_FOUND: there is no tool `nonsense`; there is errs, hangs, panics, quits, refuses
    "#]]
    .assert_eq(&brain.read());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_too_long_is_cut() {
    let brain = Brain::new("brain", [&[call("essay")]]);
    let essay = tool("essay", |_, _| async { Ok(ToolOutput::text("ä".repeat(100_000))) });
    let agent = agent(plain(), [brain.plug(), plug("essay", [essay])]).await;
    assert_eq!(turn(&agent, &mut Session::new("s"), "hi").await.text(), "Ok.");
    let read = brain.requests()[1].messages.last().unwrap().text.clone();
    assert_eq!(read, format!("{}\n[183616 more bytes left out]", "ä".repeat(8_192)));
}

#[tokio::test(start_paused = true)]
async fn a_model_that_never_stops_asking_is_stopped() {
    let asks: [&[Step]; 3] = [&[call("clock")], &[call("clock")], &[call("clock")]];
    let runs = Journal::default();
    let counted = runs.clone();
    let clock = tool("clock", move |_, _| {
        counted.note("ran");
        async { Ok(ToolOutput::text("noon")) }
    });
    let plugins = |brain: &std::sync::Arc<Brain>| [brain.plug(), plug("clock", [clock.clone()])];
    let brain = Brain::new("brain", asks);
    let two = agent(config(json!({ "max_tool_steps": 2 })), plugins(&brain)).await;
    let mut session = Session::new("s");
    expect![[r#"
        RESOURCE_EXHAUSTED the model still asks for tools after 2 rounds
          try: raise agent.max_tool_steps"#]]
    .assert_eq(&turn(&two, &mut session, "hi").await.error());
    assert_eq!(runs.text(), "ran\nran");
    assert_eq!(session.messages(), []);
    let choices: Vec<_> = brain.requests().into_iter().map(|request| request.tool_choice).collect();
    assert_eq!(choices, [ToolChoice::Auto, ToolChoice::Auto, ToolChoice::None], "it was told to answer before it was given up");
    let brain = Brain::new("brain", asks);
    let three = agent(config(json!({ "max_tool_steps": 3 })), plugins(&brain)).await;
    assert_eq!(turn(&three, &mut session, "hi").await.text(), "Ok.");
}

/// The names of the tools that the model was offered, by configuration.
async fn offered(tools: Option<&[&str]>) -> String {
    let brain = Brain::new("brain", []);
    let plugins = [
        brain.plug(),
        plug("real", [says("clock", "noon"), says("dice", "six")]),
        stand_in(plug("scripted", [says("scripted", "")])),
        broken("broken", says("broken", ""), Error::internal("on purpose")),
    ];
    let agent = agent(config(json!({ "tools": tools })), plugins).await;
    turn(&agent, &mut Session::new("s"), "hi").await.result.unwrap();
    brain.requests()[0].tools.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>().join(" ")
}

#[tokio::test(start_paused = true)]
async fn the_model_is_offered_what_is_configured_and_serves() {
    assert_eq!(offered(None).await, "clock dice");
    assert_eq!(offered(Some(&["dice"])).await, "dice");
    // The id of a plugin stands for all its tools; none is offered twice.
    assert_eq!(offered(Some(&["dice", "real"])).await, "dice clock");
    assert_eq!(offered(Some(&[])).await, "");
    assert_eq!(offered(Some(&["scripted"])).await, "scripted");
    // A tool that is not there, or did not come up, takes nothing else with it.
    assert_eq!(offered(Some(&["broken", "nonsense", "clock"])).await, "clock");
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_was_not_offered_does_not_run() {
    let brain = Brain::new("brain", [&[call("clock")]]);
    let clock = tool("clock", |_, _| async { panic!("it ran") });
    let agent = agent(config(json!({ "system": "", "tools": [] })), [brain.plug(), plug("clock", [clock])]).await;
    turn(&agent, &mut Session::new("s"), "hi").await.result.unwrap();
    assert_eq!(
        brain.read(),
        "user: hi\nassistant: [1 clock {}]\ntool 1: error: PLUGIN_NOT_FOUND: there is no tool `clock`; there is none\n"
    );
}

#[tokio::test(start_paused = true)]
async fn a_model_that_knows_no_tools_is_offered_none() {
    let brain = Brain::new("brain", []).models(|| async { Ok(vec![ModelInfo::new("plain", 4_096)]) });
    let agent = agent(plain(), [brain.plug(), plug("clock", [says("clock", "noon")])]).await;
    turn(&agent, &mut Session::new("s"), "hi").await.result.unwrap();
    assert!(brain.requests()[0].tools.is_empty());
}

#[tokio::test(start_paused = true)]
async fn ids_that_do_not_tell_calls_apart_are_replaced() {
    let brain = Brain::new(
        "brain",
        [&[Step::Call("", "clock", json!({})), Step::Call("1", "dice", json!({})), Step::Call("1", "dice", json!({}))]],
    );
    let agent = agent(plain(), [brain.plug(), plug("tools", [says("clock", "noon"), says("dice", "six")])]).await;
    turn(&agent, &mut Session::new("s"), "hi").await.result.unwrap();
    expect![[r#"
        system: Be brief.
        user: hi
        assistant: [call-0-0 clock {}] [1 dice {}] [call-0-2 dice {}]
        tool call-0-0: noon
        tool 1: six
        tool call-0-2: six
    "#]]
    .assert_eq(&brain.read());
}

/// A model without tool calls that keeps to schemas.
fn led<const N: usize>(answers: [&[Step]; N]) -> Arc<Brain> {
    Brain::new("brain", answers).models(|| async { Ok(vec![ModelInfo::new("small", 8_192).json_schema(true)]) })
}

#[tokio::test(start_paused = true)]
async fn a_model_without_tool_calls_is_led_to_a_tool_by_schemas() {
    let brain = led([
        &[Step::Say("{\"tool\":"), Step::Say("\"clock\"}")],
        &[Step::Say("{\"zone\":\"UTC\"}")],
        &[Step::Say("{\"tool\":\"none\"}")],
        &[Step::Say("It is noon.")],
    ]);
    let clock = ToolSpec::new("clock", "Tells the time.").input(json!({
        "type": "object", "properties": { "zone": { "type": "string" } }, "required": ["zone"], "additionalProperties": false
    }));
    let plugin =
        plug("clock", [with_spec(clock.clone(), |_, args| async move { Ok(ToolOutput::text(format!("noon in {}", args["zone"]))) })]);
    let agent = agent(plain(), [brain.plug(), plugin]).await;
    let mut session = Session::new("s");
    let told = turn(&agent, &mut session, "What time is it?").await;
    expect![[r#"
        > clock {"zone":"UTC"}
        < clock {"zone":"UTC"}: noon in "UTC"
        "It is noon."
    "#]]
    .assert_eq(&told.events);
    let requests = brain.requests();
    assert!(requests.iter().all(|request| request.tools.is_empty()), "such a model is not offered what it does not know");
    let schemas: Vec<_> = requests.iter().map(|request| request.json_schema.clone()).collect();
    let choice = json!({ "type": "object", "properties": { "tool": { "type": "string", "enum": ["clock", "none"] } },
        "required": ["tool"], "additionalProperties": false });
    assert_eq!(schemas, [Some(choice.clone()), Some(clock.input_schema), Some(choice), None]);
    // The conversation that is kept is told as any other.
    expect![[r#"
        user: What time is it?
        assistant: [call-0-0 clock {"zone":"UTC"}]
        tool call-0-0: noon in "UTC"
        assistant: It is noon.
    "#]]
    .assert_eq(&lines(session.messages()));
    expect![[r#"
        system: Be brief.
        user: What time is it?
        assistant: [I call clock with {"zone":"UTC"}]
        user: [The tool answered: noon in "UTC"]
    "#]]
    .assert_eq(&brain.read());
}

#[tokio::test(start_paused = true)]
async fn a_model_that_does_not_keep_to_the_choice_answers_without_a_tool() {
    for broken in ["I would look at the clock.", "{\"tool\":\"shell\"}", "[]"] {
        let brain = led([&[Step::Say(broken)], &[Step::Say("No idea.")]]);
        let agent = agent(plain(), [brain.plug(), plug("clock", [says("clock", "noon")])]).await;
        let told = turn(&agent, &mut Session::new("s"), "hi").await;
        assert_eq!(told.events, "\"No idea.\"\n", "{broken}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_ends_its_choice_is_given_up() {
    let brain = led([&[Step::Babble]]);
    let agent = agent(plain(), [brain.plug(), plug("clock", [says("clock", "noon")])]).await;
    let told = turn(&agent, &mut Session::new("s"), "hi").await;
    assert_eq!(told.error(), "LLM_COMPLETION_FAILED brain does not keep its answer to the schema");
}

fn zoned() -> ToolSpec {
    ToolSpec::new("clock", "Tells the time.").input(json!({
        "type": "object", "properties": { "zone": { "type": "string" } }, "required": ["zone"], "additionalProperties": false
    }))
}

/// It has read the answer: asking again would bring the same, until there are no rounds left.
#[tokio::test(start_paused = true)]
async fn a_model_that_is_led_to_the_same_call_again_answers_with_what_it_has() {
    let choice = [Step::Say("{\"tool\":\"clock\"}")];
    let utc = [Step::Say("{\"zone\":\"UTC\"}")];
    let brain = led([&choice, &utc, &choice, &utc, &[Step::Say("It is noon.")], &choice, &utc]);
    let plugin = plug("clock", [with_spec(zoned(), |_, _| async { Ok(ToolOutput::text("noon")) })]);
    let agent = agent(plain(), [brain.plug(), plugin]).await;
    let mut session = Session::new("s");
    let told = turn(&agent, &mut session, "hi").await;
    assert_eq!(told.events, "> clock {\"zone\":\"UTC\"}\n< clock {\"zone\":\"UTC\"}: noon\n\"It is noon.\"\n");
    assert_eq!(brain.requests().len(), 5);
    // The next turn may make the call again.
    assert_eq!(turn(&agent, &mut session, "and now?").await.result.unwrap().tool_calls, 1);
}

/// Such as one whose server does not keep schemas, or one that comes to the end of its tokens.
#[tokio::test(start_paused = true)]
async fn a_model_that_does_not_keep_to_the_arguments_is_told_or_answers_without_the_tool() {
    let choice = [Step::Say("{\"tool\":\"clock\"}")];
    for cut_off in ["{\"zone\":\"UT", "[]", ""] {
        let brain = led([&choice, &[Step::Say(cut_off)], &[Step::Say("No idea.")]]);
        let plugin = plug("clock", [with_spec(zoned(), |_, _| async { panic!("it ran") })]);
        let agent = agent(plain(), [brain.plug(), plugin]).await;
        assert_eq!(turn(&agent, &mut Session::new("s"), "hi").await.events, "\"No idea.\"\n", "{cut_off}");
    }

    // Whole, and not what the tool takes: it is told so each time, and its rounds are counted.
    let wrong = ["{\"zone\":1}", "{\"zone\":2}", "{\"zone\":3}"].map(|args| [Step::Say(args)]);
    let brain = led([&choice, &wrong[0], &choice, &wrong[1], &choice, &wrong[2]]);
    let plugin = plug("clock", [with_spec(zoned(), |_, _| async { panic!("it ran") })]);
    let agent = agent(config(json!({ "system": "", "max_tool_steps": 2 })), [brain.plug(), plugin]).await;
    let mut session = Session::new("s");
    let told = turn(&agent, &mut session, "hi").await;
    assert_eq!(told.text(), "{\"tool\":\"clock\"}", "what it says when it may call no more is its answer");
    expect![[r#"
        user: hi
        assistant: [I call clock with {"zone":1}]
        user: [The tool answered: error: INVALID_PARAMS: the arguments do not fit the tool `clock`: zone: must be a string, is 1]
        assistant: [I call clock with {"zone":2}]
        user: [The tool answered: error: INVALID_PARAMS: the arguments do not fit the tool `clock`: zone: must be a string, is 2]
    "#]]
    .assert_eq(&brain.read());
    assert_eq!(brain.requests().len(), 5);
}

/// The budget is looked at before each request, also between the choice of a tool and its arguments.
#[tokio::test(start_paused = true)]
async fn a_budget_holds_for_the_questions_that_lead_to_a_tool() {
    let brain = led([&[Step::Say("{\"tool\":\"clock\"}"), Step::Count(90, 10)]]);
    let other = Brain::new("other", []);
    let plugin = plug("clock", [with_spec(zoned(), |_, _| async { panic!("it ran") })]);
    let keys = json!({ "provider": ["brain", "other"], "turn_tokens": 100 });
    let agent = agent(config(keys), [brain.plug(), other.plug(), plugin]).await;
    let told = turn(&agent, &mut Session::new("s"), "hi").await;
    expect![[r#"
        RESOURCE_EXHAUSTED the turn has cost 100 tokens, and agent.turn_tokens allows 100
          try: bespoke config set agent.turn_tokens N, or 0 for no limit"#]]
    .assert_eq(&told.error());
    assert_eq!((brain.requests().len(), other.requests().len(), told.events.as_str()), (1, 0, ""));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_no_schema_answers_without_a_tool() {
    let brain = led([&[Step::Fail(Code::INVALID_PARAMS, "response_format is not known")], &[Step::Say("No idea.")]]);
    let agent = agent(plain(), [brain.plug(), plug("clock", [says("clock", "noon")])]).await;
    let told = turn(&agent, &mut Session::new("s"), "hi").await;
    assert_eq!(told.events, "\"No idea.\"\n");
}
