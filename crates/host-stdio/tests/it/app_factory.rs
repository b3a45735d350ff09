//! What App Factory's host did wrong, each defect by its name: none of it happens here. What only a plugin in another process can do is
//! tried with the whole program, in `bespoke`.

use std::sync::atomic::Ordering;

use bespoke_host_stdio::Ended;
use serde_json::{Value, json};

use crate::kit::{Client, LIMIT, STARTS, recording};

#[tokio::test]
async fn defect_1_plugin_call_is_there() {
    let mut client = Client::new("");
    client.ok("plugin/load", json!({ "name": "fake" })).await;
    let called = client.ok("plugin/call", json!({ "plugin": "fake", "method": "voices" })).await;
    assert_eq!(called, client.ok("tts/voices", json!({})).await);
    assert_eq!(called[0]["id"], "beep", "{called}");
}

#[tokio::test]
async fn defect_2_bytes_and_structures_are_answers() {
    let mut client = Client::new("");
    client.ok("plugin/load", json!({ "name": "fake" })).await;
    let spoken = client.ok("tts/synthesize", json!({ "text": "Hello there." })).await;
    assert!(spoken.to_string().contains("base64"), "{spoken}");
}

#[tokio::test]
async fn defect_3_methods_that_do_not_wait_are_answered() {
    let mut client = Client::new("");
    client.ok("plugin/load", json!({ "name": "fake" })).await;
    assert_eq!(client.ok("accelerator/devices", json!({})).await.as_array().map(Vec::is_empty), Some(false));
}

#[tokio::test]
async fn defect_4_a_line_of_more_than_64_kib_is_read_and_one_over_the_limit_is_refused_with_its_id() {
    let mut client = Client::with("", |options| options.longest_line = 1 << 20);
    client.ok("plugin/load", json!({ "name": "ear", "config": { "word": "heard" } })).await;
    // Ten seconds of 16 kHz.
    assert_eq!(client.ok("stt/transcribe", recording(320_000)).await["text"], "heard");
    let error = client.error("stt/transcribe", recording(2_000_000)).await;
    assert_eq!((&error["code"], &error["kind"]), (&json!(-32050), &json!("RESOURCE_EXHAUSTED")));
    assert!(error["message"].as_str().unwrap().contains("1048576 are the most"), "{error}");
    assert_eq!(client.ok("ping", json!({})).await, "pong");
}

#[tokio::test(flavor = "multi_thread")]
async fn defect_6_a_limit_holds_against_code_that_blocks() {
    let mut client = Client::new("[plugins]\ncall_timeout_ms = 200\n");
    client.ok("plugin/load", json!({ "name": "dumb" })).await;
    let error = client.error("plugin/call", json!({ "plugin": "dumb", "method": "block", "args": { "ms": 3_000 } })).await;
    assert_eq!((&error["code"], &error["plugin"]), (&json!(-32060), &json!("dumb")), "{error}");
}

#[tokio::test]
async fn defect_7_a_plugin_that_breaks_breaks_its_own_call() {
    let mut client = Client::new("");
    client.ok("plugin/load", json!({ "name": "fake" })).await;
    let error = client.error("plugin/call", json!({ "plugin": "fake", "method": "fake_echo", "args": { "panic": "at the disco" } })).await;
    assert_eq!((&error["code"], &error["kind"], &error["plugin"]), (&json!(-32061), &json!("PLUGIN_EXCEPTION"), &json!("fake")), "{error}");
    assert_eq!(client.ok("ping", json!({})).await, "pong");
}

#[tokio::test(flavor = "multi_thread")]
async fn defect_8_a_slow_call_holds_up_nobody() {
    let mut client = Client::new("");
    client.ok("plugin/load", json!({ "name": "fake" })).await;
    client.ok("plugin/load", json!({ "name": "ear" })).await;
    let slow = client.request("plugin/call", json!({ "plugin": "fake", "method": "fake_wait", "args": { "ms": 600_000 } })).await;
    // Each of these is answered next, so none waited.
    assert_eq!(client.ok("ping", json!({})).await, "pong");
    assert_eq!(client.ok("plugin/health", json!({ "name": "fake" })).await["status"], "busy");
    client.ok("plugin/list", json!({})).await;
    client.ok("stt/transcribe", recording(64)).await;
    client.ok("plugin/load", json!({ "name": "ear2" })).await;
    let answer = client.ask("shutdown", json!({})).await;
    assert_eq!(answer["result"]["status"], "shutting_down");
    client.stop.cancel();
    let (lines, ended) = tokio::time::timeout(LIMIT, client.rest()).await.unwrap();
    assert_eq!((lines.len(), &lines[0]["id"], &lines[0]["error"]["code"], ended), (1, &json!(slow), &json!(-32800), Ended::Shutdown));
}

#[tokio::test]
async fn defect_9_scalars_are_invalid_requests_and_batches_are_read() {
    let mut client = Client::new("");
    for scalar in ["42", "null", "true", "\"ping\""] {
        client.send(scalar).await;
        let answer = client.line().await.unwrap();
        assert_eq!(
            (&answer["id"], &answer["error"]["code"], &answer["error"]["kind"]),
            (&Value::Null, &json!(-32600), &json!("INVALID_REQUEST"))
        );
    }
    client.send(r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#).await;
    assert_eq!(client.line().await.unwrap(), json!([{ "jsonrpc": "2.0", "id": 1, "result": "pong" }]));
}

#[tokio::test]
async fn defect_10_why_a_plugin_cannot_be_loaded_is_said() {
    let mut client = Client::new("");
    let error = client.error("plugin/load", json!({ "name": "broken" })).await;
    assert_eq!((&error["code"], &error["kind"]), (&json!(-32012), &json!("MANIFEST_INVALID")));
    assert_eq!(
        (&error["message"], &error["help"]),
        (&json!("broken/manifest.json:3:1: version: it is missing"), &json!("write a version"))
    );
    let error = client.error("plugin/load", json!({ "name": "deaf" })).await;
    assert_eq!((&error["code"], &error["plugin"], &error["help"]), (&json!(-32603), &json!("deaf"), &json!("shout")), "{error}");
    assert!(error["message"].as_str().unwrap().contains("hears nothing"), "{error}");
}

#[tokio::test]
async fn defect_11_loading_again_applies_the_configuration_or_says_so() {
    let mut client = Client::new("");
    client.ok("plugin/load", json!({ "name": "ear", "config": { "word": "one" } })).await;
    let error = client.error("plugin/load", json!({ "name": "ear" })).await;
    assert_eq!((&error["code"], &error["kind"]), (&json!(-32005), &json!("ALREADY_LOADED")));
    client.ok("plugin/load", json!({ "name": "ear", "config": { "word": "two" } })).await;
    assert_eq!(client.ok("stt/transcribe", recording(64)).await["text"], "two");
}

#[tokio::test]
async fn defect_12_codes_say_what_was_wrong() {
    let mut client = Client::new("");
    let mut code = async |method: &str, params: Value| client.error(method, params).await["code"].as_i64().unwrap();
    assert_eq!(code("plugin/call", json!({ "plugin": "nobody", "method": "x" })).await, -32000);
    assert_eq!(code("plugin/call", json!({ "plugin": "fake", "method": "x" })).await, -32001);
    assert_eq!(code("nonsense", json!({})).await, -32601);
    assert_eq!(code("plugin/nonsense", json!({})).await, -32601);
    assert_eq!(code("nonsense/x", json!({})).await, -32011);
    assert_eq!(code("tts/synthesize", json!({ "text": "x" })).await, -32001);
    client.ok("plugin/load", json!({ "name": "fake" })).await;
    // A method that is missing is not a plugin that is missing.
    let error = client.error("plugin/call", json!({ "plugin": "fake", "method": "not_found" })).await;
    assert_eq!((&error["code"], &error["plugin"]), (&json!(-32601), &json!("fake")), "{error}");
    let error = client.error("tts/synthesize", json!({ "text": "x", "voice": "nobody" })).await;
    assert_eq!((&error["code"], &error["kind"]), (&json!(1001), &json!("TTS_VOICE_NOT_FOUND")), "{error}");
    assert_eq!(client.error("tts/synthesize", json!({ "txt": "x" })).await["code"], -32602);
}

#[tokio::test]
async fn defect_13_one_of_several_plugins_of_a_contract_can_be_named() {
    let mut client = Client::new("");
    client.ok("plugin/load", json!({ "name": "ear2" })).await;
    client.ok("plugin/load", json!({ "name": "ear", "config": { "word": "named" } })).await;
    // Without a name the first one serves.
    assert_eq!(client.ok("stt/transcribe", recording(64)).await["text"], "second");
    let mut named = recording(64);
    named["plugin"] = json!("ear");
    assert_eq!(client.ok("stt/transcribe", named).await["text"], "named");
    let mut unknown = recording(64);
    unknown["plugin"] = json!("nobody");
    assert_eq!(client.error("stt/transcribe", unknown).await["code"], -32000);
}

#[tokio::test]
async fn defect_15_a_configuration_that_breaks_the_schema_never_reaches_the_plugin() {
    let mut client = Client::new("");
    let schema = client.ok("plugin/get_config_schema", json!({ "plugin_id": "mute" })).await;
    assert_eq!(schema["config_schema"]["properties"]["word"]["type"], "string");
    for config in [json!({ "word": 5 }), json!({ "wrod": "x" })] {
        let error = client.error("plugin/load", json!({ "name": "mute", "config": config })).await;
        assert_eq!(
            (&error["code"], &error["kind"], &error["plugin"]),
            (&json!(-32602), &json!("INVALID_PARAMS"), &json!("mute")),
            "{error}"
        );
    }
    assert_eq!(client.error("plugin/load", json!({ "name": "mute", "config": "x" })).await["code"], -32602);
    assert_eq!(STARTS.load(Ordering::SeqCst), 0);
    client.ok("plugin/load", json!({ "name": "mute", "config": { "word": "fits" } })).await;
    assert_eq!(client.error("plugin/load", json!({ "name": "mute", "config": { "word": 5 } })).await["code"], -32602);
    assert_eq!(STARTS.load(Ordering::SeqCst), 1);
    assert_eq!(client.ok("plugin/health", json!({ "name": "mute" })).await["status"], "ready");
}
