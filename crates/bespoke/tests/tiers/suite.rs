//! The conformance suite through the transport of each tier.

use bespoke_plugin_api::serde_json::json;
use bespoke_plugin_testkit::Conformance;
use chimes::BESPOKE_PLUGIN;

use crate::built::{TIERS, candidate, facts, runtime, starts};

#[test]
fn a_tool_with_state_and_progress_and_a_voice_say_the_same_in_all_four_tiers() {
    let place = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let _entered = runtime.enter();
    let mut suite = Conformance::new(&BESPOKE_PLUGIN)
        .config(json!({ "pause_ms": 10 }))
        .tool("strike", json!({ "times": 3 }))
        // The count goes on.
        .tool("strike", json!({ "times": 24 }))
        .tool("strike", json!({ "times": 25 }))
        .tool("strike", json!({ "times": "many" }))
        .tool("strike", json!({ "text": "\u{0}\u{1b}[31m\u{2028}\n\r\n\u{10ffff}", "": "x".repeat(200_000) }))
        .texts(&["Ding, dong. ", "Über den ", "Wolken; ", "ünïcödé \u{10ffff}", "\u{0}"]);
    for &tier in TIERS {
        suite = suite.tier(tier.name(), facts(), starts(candidate("examples/plugins/chimes", tier, place.path())));
    }
    suite.check();
}
