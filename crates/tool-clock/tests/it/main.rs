//! The clock in every tier, and what it says at a moment that the test chooses.

use bespoke_plugin_api::{
    CallCx, Contract, Instance, Reload, Timestamp, Tool, ToolOutput, ToolRequest,
    serde_json::{Value, json},
};
use bespoke_plugin_testkit::{Conformance, TestHost, block_on};
use bespoke_tool_clock::BESPOKE_PLUGIN;

#[test]
fn behaves_the_same_in_every_tier() {
    Conformance::new(&BESPOKE_PLUGIN)
        .tool("clock", json!({ "time_zone": "Asia/Tokyo" }))
        .tool("clock", json!({ "time_zone": "Middle/Earth" }))
        .check();
}

#[test]
fn tells_the_hosts_time_in_the_zone_that_is_meant() {
    let (host, clock) = start(json!({ "time_zone": "Europe/Paris" }));
    // 8 July 2024, 22:30 UTC: summer in Paris, the next day in Tokyo.
    host.set_now(Timestamp(1_720_477_800_000_000));
    assert_eq!(ask(&clock, json!({})).to_text(), "It is Tuesday, 9 July 2024, 00:30 (CEST).");
    let tokyo = ask(&clock, json!({ "time_zone": "Asia/Tokyo" }));
    assert_eq!(tokyo.data.unwrap(), json!({ "iso": "2024-07-09T07:30:00+09:00", "weekday": "Tuesday" }));
}

#[test]
fn a_zone_that_the_model_made_up_is_an_answer_and_one_of_the_user_an_error() {
    let (_host, clock) = start(json!({}));
    let output = ask(&clock, json!({ "time_zone": "Middle/Earth" }));
    assert!(output.is_error && output.to_text().contains("`Middle/Earth` is no time zone"), "{output:?}");
    let refused = block_on(BESPOKE_PLUGIN.start(TestHost::new().context("clock"), json!({ "time_zone": "Middle/Earth" })));
    assert!(refused.unwrap_err().help().unwrap().contains("IANA"));
}

#[test]
fn a_new_zone_applies_to_the_running_instance_and_a_bad_one_changes_nothing() {
    let (host, clock) = start(json!({}));
    host.set_now(Timestamp(0));
    assert_eq!(block_on(clock.life.reconfigure(json!({ "time_zone": "Asia/Tokyo" }))).unwrap(), Reload::Applied);
    assert!(block_on(clock.life.reconfigure(json!({ "time_zone": "nowhere" }))).is_err());
    assert_eq!(ask(&clock, json!({})).to_text(), "It is Thursday, 1 January 1970, 09:00 (JST).");
}

fn start(config: Value) -> (std::sync::Arc<TestHost>, Instance) {
    let host = TestHost::new();
    let clock = block_on(BESPOKE_PLUGIN.start(host.context("clock"), config)).unwrap();
    (host, clock)
}

fn ask(clock: &Instance, args: Value) -> ToolOutput {
    let (_, tool) = <dyn Tool>::of(&clock.contributions[0]).unwrap();
    block_on(tool.call(&CallCx::new(), ToolRequest::new(args))).unwrap()
}
