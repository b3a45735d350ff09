//! What events tell of turns: that they were, how long they took and how they ended. Nothing that was said.

use std::future::pending;

use bespoke_agent::{Agent, Session};
use bespoke_host::Candidate;
use bespoke_plugin_api::{
    CallCx, CancelToken, Hook, HookReply, HookSpec, ToolOutput,
    serde_json::{Value, json},
};
use expect_test::expect;
use futures_util::FutureExt;

use crate::kit::{Brain, Step, agent, hook, plain, plug, poll_once, tool, turn, turn_with};

/// What was told, a line each, without the numbers that differ from run to run.
fn told(agent: &Agent) -> String {
    let events = agent.host().events().history("", 0);
    let turns = events.into_iter().filter(|e| ["workflow_", "step_", "session_"].iter().any(|of| e.topic.starts_with(of)));
    let line = |mut payload: Value, topic: &str| {
        let Value::Object(fields) = &mut payload else { panic!("{payload}") };
        fields.shift_remove("workflow");
        if let Some(ms) = fields.shift_remove("ms") {
            assert!(ms.is_u64());
        }
        if fields.get("session").is_some() {
            fields.insert("session".into(), json!("…"));
        }
        format!("{topic} {payload}\n")
    };
    turns.map(|event| line(event.payload, &event.topic)).collect()
}

fn clock() -> Candidate {
    plug(
        "clock",
        [tool("clock", |_, args| async move {
            Ok(if args["zone"] == "UTC" { ToolOutput::text("SECRET noon") } else { ToolOutput::error("SECRET zone") })
        })],
    )
}

#[tokio::test(start_paused = true)]
async fn each_request_and_each_tool_is_a_step_and_nothing_that_was_said_is_told() {
    let call = |id, name, zone| Step::Call(id, name, json!({ "zone": zone, "why": "SECRET" }));
    let brain = Brain::new("brain", [&[call("1", "clock", "UTC"), call("2", "clock", "Mars"), call("3", "SECRET tool", "")]]);
    let agent = agent(plain(), [brain.plug(), clock()]).await;
    let _listener = agent.host().events().subscribe("", None);
    let mut session = Session::new("s");
    assert_eq!(turn(&agent, &mut session, "SECRET question").await.text(), "Ok.");
    agent.end(&CallCx::new(), session).await;
    let told = told(&agent);
    assert!(!told.contains("SECRET"), "{told}");
    expect![[r#"
        workflow_started {"kind":"agent","session":"…"}
        session_created {"session":"…"}
        step_started {"step":1,"kind":"model","name":"brain"}
        step_completed {"step":1,"kind":"model","name":"brain","ok":true,"first_ms":0}
        step_started {"step":2,"kind":"tool","name":"clock"}
        step_started {"step":3,"kind":"tool","name":"clock"}
        step_started {"step":4,"kind":"tool","name":null}
        step_completed {"step":4,"kind":"tool","name":null,"ok":false,"error":"TOOL_FAILED"}
        step_completed {"step":2,"kind":"tool","name":"clock","ok":true}
        step_completed {"step":3,"kind":"tool","name":"clock","ok":false,"error":"TOOL_FAILED"}
        step_started {"step":5,"kind":"model","name":"brain"}
        step_completed {"step":5,"kind":"model","name":"brain","ok":true,"first_ms":0}
        workflow_completed {"kind":"agent","session":"…","steps":5,"ok":true,"first_ms":0}
        session_ended {"session":"…"}
    "#]]
    .assert_eq(&told);
    let events = agent.host().events().history("", 0);
    let ids: std::collections::BTreeSet<_> = events.iter().filter_map(|e| e.payload["workflow"].as_str()).collect();
    assert_eq!(ids.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_is_stopped_fails_or_is_given_up_is_told_to_be_over() {
    let guard = hook(HookSpec::new("guard", Hook::BeforeAgentRun), |_, _| async { Ok(HookReply::veto("SECRET")) });
    let stopped = agent(plain(), [Brain::new("brain", []).plug(), plug("guard", [guard])]).await;
    let _listener = stopped.host().events().subscribe("", None);
    turn(&stopped, &mut Session::new("s"), "hi").await.error();

    let slow = || plug("slow", [tool("slow", |_, _| pending())]);
    let brain = Brain::new("brain", [&[Step::Call("1", "slow", json!({}))], &[Step::Call("1", "slow", json!({}))]]);
    let given_up = agent(plain(), [brain.plug(), slow()]).await;
    let _listener = given_up.host().events().subscribe("", None);
    let cancel = CancelToken::new();
    let cx = CallCx::new().with_cancel(cancel.clone());
    let mut session = Session::new("s");
    {
        let mut turning = Box::pin(turn_with(&given_up, &cx, &mut session, "hi"));
        while !told(&given_up).contains("\"tool\"") {
            assert!(poll_once(turning.as_mut()).is_pending());
            tokio::task::yield_now().await;
        }
        cancel.cancel();
        assert_eq!(turning.await.error(), "CANCELLED cancelled by the caller");
    }
    // Dropped, and nobody asked it to stop.
    let mut session = Session::new("s");
    let mut turning = Box::pin(turn(&given_up, &mut session, "hi"));
    while told(&given_up).matches("\"tool\"").count() < 3 {
        assert!(turning.as_mut().now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    drop(turning);
    expect![[r#"
        workflow_started {"kind":"agent","session":"…"}
        session_created {"session":"…"}
        workflow_completed {"kind":"agent","session":"…","steps":0,"ok":false,"error":"PERMISSION_DENIED"}
        --
        workflow_started {"kind":"agent","session":"…"}
        session_created {"session":"…"}
        step_started {"step":1,"kind":"model","name":"brain"}
        step_completed {"step":1,"kind":"model","name":"brain","ok":true,"first_ms":0}
        step_started {"step":2,"kind":"tool","name":"slow"}
        step_completed {"step":2,"kind":"tool","name":"slow","ok":false,"error":"CANCELLED"}
        workflow_completed {"kind":"agent","session":"…","steps":2,"ok":false,"first_ms":0,"error":"CANCELLED"}
        workflow_started {"kind":"agent","session":"…"}
        session_created {"session":"…"}
        step_started {"step":1,"kind":"model","name":"brain"}
        step_completed {"step":1,"kind":"model","name":"brain","ok":true,"first_ms":0}
        step_started {"step":2,"kind":"tool","name":"slow"}
        step_completed {"step":2,"kind":"tool","name":"slow","ok":false,"error":"CANCELLED"}
        workflow_completed {"kind":"agent","session":"…","steps":2,"ok":false,"first_ms":0,"error":"CANCELLED"}
    "#]]
    .assert_eq(&format!("{}--\n{}", told(&stopped), told(&given_up)));
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_nobody_listens_to_is_not_told_of() {
    let agent = agent(plain(), [Brain::new("brain", []).plug()]).await;
    turn(&agent, &mut Session::new("s"), "hi").await.text();
    assert_eq!(told(&agent), "");
    let _listener = agent.host().events().subscribe("plugin_", None);
    turn(&agent, &mut Session::new("s"), "hi").await.text();
    assert_eq!(told(&agent).matches("workflow_completed").count(), 1, "what one does not hear another may look up");
}
