//! How much may be said at once, by how many, and what a child sees of its host.

use std::collections::BTreeMap;

use bespoke_plugin_api::{
    Code,
    serde_json::{self, Value, json},
};

use crate::kit::{World, act, echo, within};

#[tokio::test(flavor = "multi_thread")]
async fn messages_up_to_the_limit_pass_and_longer_ones_are_refused_either_way() {
    let world = World::new();
    let host = world.host([world.plugin("wide", "ok"), world.plugin("small", "small")]).await;
    let long = |n: usize| "x".repeat(n);
    // To the plugin, as much as it takes.
    assert_eq!(act(&host, "wide", json!({ "do": "length", "value": long(20 << 20) })).await.unwrap(), (20 << 20).to_string());
    let e = act(&host, "wide", json!({ "do": "length", "value": long(65 << 20) })).await.unwrap_err();
    assert_eq!(e.code(), Code::RESOURCE_EXHAUSTED, "{e}");
    assert_eq!(act(&host, "small", json!({ "do": "length", "value": long(2000) })).await.unwrap(), "2000");
    let e = act(&host, "small", json!({ "do": "length", "value": long(5000) })).await.unwrap_err();
    assert_eq!(e.code(), Code::RESOURCE_EXHAUSTED, "{e}");
    assert!(e.message().contains("4096"), "{e}");
    // From it, as much as the host takes.
    assert_eq!(act(&host, "wide", json!({ "do": "big", "bytes": 20 << 20 })).await.unwrap().len(), 20 << 20);
    let e = act(&host, "wide", json!({ "do": "big", "bytes": 65 << 20 })).await.unwrap_err();
    assert_eq!(e.code(), Code::RESOURCE_EXHAUSTED, "{e}");
    // Nothing of it has cost the link.
    for id in ["wide", "small"] {
        assert_eq!(echo(&host, id).await.unwrap(), "1");
    }
    within(host.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_callers_are_answered_each_with_its_own() {
    let world = World::new();
    let host = world.host([world.plugin("wide", "ok")]).await;
    let callers: Vec<_> = (0..64)
        .map(|caller| {
            let host = host.clone();
            tokio::spawn(async move {
                for turn in 0..20 {
                    let value = json!([caller, turn, "y".repeat(caller * 37)]);
                    let text = act(&host, "wide", json!({ "value": value })).await.unwrap();
                    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
                }
            })
        })
        .collect();
    for caller in callers {
        within(caller).await.unwrap();
    }
    within(host.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_sees_of_the_environment_what_every_program_needs_and_what_was_granted() {
    let world = World::new();
    // SAFETY: this test is alone in its process, and nothing else reads the environment yet.
    #[allow(unsafe_code, reason = "the environment is what is tested")]
    unsafe {
        for (name, value) in [
            ("BESPOKE_TEST_SECRET", "no"),
            ("BESPOKE_TEST_GRANTED", "yes"),
            ("LD_PRELOAD", ""),
            ("LC_TIME", "C"),
            ("HTTP_PROXY", "http://127.0.0.1:1"),
            // Which decides nothing.
            ("ORT_DISABLE_TELEMETRY", ""),
        ] {
            std::env::set_var(name, value);
        }
    }
    let host = world
        .host([world.plugin_with("nosy", "ok", "[permissions]\nenv = [\"BESPOKE_TEST_GRANTED\"]\nreasons.env = \"it is nosy\"")])
        .await;
    let seen: Value = serde_json::from_str(&act(&host, "nosy", json!({ "do": "env" })).await.unwrap()).unwrap();
    let env: BTreeMap<String, String> = serde_json::from_value(seen["env"].clone()).unwrap();
    let data = world.path().join("data/nosy").display().to_string();
    assert_eq!(env["HOME"], data);
    assert_eq!(env["TMPDIR"], format!("{data}/tmp"));
    assert_eq!((env["BESPOKE_PLUGIN_ID"].as_str(), env["BESPOKE_TEST_GRANTED"].as_str()), ("nosy", "yes"));
    assert_eq!(seen["cwd"], json!(world.path().join("plugins/nosy").display().to_string()));
    // So that no build of ONNX Runtime in it reports to its maker.
    assert!(env.get("ORT_DISABLE_TELEMETRY").is_some_and(|value| value == "1"));
    let known = ["PATH", "HOME", "TMPDIR", "LANG", "TZ", "BESPOKE_PLUGIN_ID", "BESPOKE_TEST_GRANTED", "ORT_DISABLE_TELEMETRY"];
    let others: Vec<_> = env.keys().filter(|name| !known.contains(&name.as_str()) && !name.starts_with("LC_")).collect();
    assert_eq!(others, [""; 0]);
    // Its three pipes, and the folder that it looks into.
    assert_eq!(seen["fds"].as_array().unwrap().len(), 4, "{}", seen["fds"]);
    within(host.shutdown()).await;
}
