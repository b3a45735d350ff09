//! The session itself: what is answered, in which order, and how it ends.

use std::time::Duration;

use bespoke_host_stdio::Ended;
use serde_json::{Value, json};

use crate::kit::{Client, recording};

#[tokio::test]
async fn the_host_says_who_it_is_and_what_it_can() {
    let mut client = Client::new("");
    assert_eq!(client.ok("ping", json!({})).await, "pong");
    let status = client.ok("status", json!({})).await;
    assert_eq!((&status["version"], &status["request_count"], &status["error_count"]), (&json!("1.2.3"), &json!(2), &json!(0)));
    assert_eq!(status["last_request"]["method"], "status");
    assert!(status["last_request"]["timestamp"].as_f64().unwrap() > 1.7e9);
    client.error("plugin/lod", json!({})).await;
    client.ok("plugin/load", json!({ "name": "ear" })).await;
    client.ok("plugin/load", json!({ "name": "dumb" })).await;
    let status = client.ok("status", json!({})).await;
    assert_eq!((&status["error_count"], &status["loaded"]), (&json!(1), &json!(["ear", "dumb"])));
    let methods = status["registered_methods"].as_array().unwrap();
    for method in ["ping", "plugin/call", "stt/transcribe", "tool/block"] {
        assert!(methods.contains(&json!(method)), "{method}: {methods:?}");
    }
}

#[tokio::test]
async fn every_plugin_has_a_row_loaded_or_not() {
    let mut client = Client::new("");
    client.ok("plugin/load", json!({ "name": "ear" })).await;
    let rows = client.ok("plugin/list", json!({})).await;
    let row = |id: &str| rows.as_array().unwrap().iter().find(|row| row["id"] == id).unwrap().clone();
    let ids: Vec<_> = rows.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["broken", "deaf", "dumb", "ear", "ear2", "fake", "mute"]);
    let part = |row: &Value, keys: &[&str]| keys.iter().map(|key| row[*key].to_string()).collect::<Vec<_>>().join(" ");
    let keys = ["name", "contract", "path", "valid", "loaded", "state", "errors"];
    assert_eq!(part(&row("ear"), &keys), r#""ear" "stt" "test-plugin" true true "ready" []"#);
    assert_eq!(part(&row("ear2"), &keys), r#""ear2" "stt" "test-plugin" true false "unloaded" []"#);
    let error = r#"["broken/manifest.json:3:1: version: it is missing"]"#;
    assert_eq!(part(&row("broken"), &keys), format!(r#""broken" null "test-plugin" false false "failed" {error}"#));
    // The same row as in the program's own list.
    for key in
        ["id", "kinds", "provides", "tier", "version", "description", "state", "health", "reason", "fix", "facts", "in_flight", "calls"]
    {
        assert!(row("ear2").get(key).is_some() && row("ear").get(key).is_some(), "{key}");
    }
}

#[tokio::test]
async fn names_are_compared_and_never_become_paths() {
    let mut client = Client::new("");
    for name in ["../../etc", "/plugins/ear", "", ".", "ear/../ear", "ear\u{0}", "EAR"] {
        for (method, params) in [
            ("plugin/load", json!({ "name": name })),
            ("plugin/unload", json!({ "name": name })),
            ("plugin/health", json!({ "name": name })),
            ("plugin/get_config_schema", json!({ "plugin_id": name })),
            ("plugin/call", json!({ "plugin": name, "method": "x" })),
        ] {
            let error = client.error(method, params).await;
            assert_eq!((&error["code"], &error["kind"]), (&json!(-32000), &json!("PLUGIN_NOT_FOUND")), "{method} {name:?}: {error}");
        }
    }
    let error = client.error("plugin/health", json!({ "name": "eer" })).await;
    assert!(error["message"].as_str().unwrap().contains("did you mean `ear`?"), "{error}");
}

#[tokio::test]
async fn batches_are_answered_together_in_their_order_and_notifications_not_at_all() {
    let mut client = Client::new("");
    client.send("[]").await;
    let empty = client.line().await.unwrap();
    assert_eq!((&empty["id"], &empty["error"]["code"]), (&Value::Null, &json!(-32600)));
    // Only notifications: no answer, and the next line is the answer to the next request.
    client.send(r#"[{"jsonrpc":"2.0","method":"ping"},{"jsonrpc":"2.0","method":"nonsense"}]"#).await;
    client.send(r#"{"jsonrpc":"2.0","method":"plugin/load","params":{"name":"dumb"}}"#).await;
    client
        .send(
            r#"[{"jsonrpc":"2.0","id":"a","method":"plugin/call","params":{"plugin":"dumb","method":"block","args":{"ms":50}}},
                1,{"jsonrpc":"2.0","method":"ping"},{"jsonrpc":"2.0","id":"b","method":"ping"},{"jsonrpc":"2.0","id":"c","method":"nope"}]"#
                .replace('\n', " "),
        )
        .await;
    let batch = client.line().await.unwrap();
    let said: Vec<String> = batch.as_array().unwrap().iter().map(|a| format!("{} {}", a["id"], a["error"]["code"])).collect();
    assert_eq!(said, ["\"a\" null", "null -32600", "\"b\" null", "\"c\" -32601"]);
}

#[tokio::test]
async fn a_call_that_was_sent_after_a_load_comes_after_it() {
    let mut client = Client::new("");
    // All at once, as a script sends them: nobody waits for an answer.
    let ids = [
        client.request("plugin/load", json!({ "name": "ear", "config": { "word": "one" } })).await,
        client.request("stt/transcribe", recording(64)).await,
        client.request("plugin/load", json!({ "name": "ear", "config": { "word": "two" } })).await,
        client.request("plugin/call", json!({ "plugin": "ear", "method": "transcribe", "args": recording(64) })).await,
        client.request("plugin/unload", json!({ "name": "ear" })).await,
        client.request("plugin/call", json!({ "plugin": "ear", "method": "transcribe", "args": recording(64) })).await,
    ];
    client.close().await;
    let (mut lines, ended) = client.rest().await;
    assert_eq!(ended, Ended::EndOfInput);
    lines.sort_by_key(|line| line["id"].as_u64());
    assert_eq!(lines.iter().map(|line| line["id"].as_u64().unwrap()).collect::<Vec<_>>(), ids);
    assert_eq!((&lines[1]["result"]["text"], &lines[3]["result"]["text"]), (&json!("one"), &json!("two")), "{lines:?}");
    assert_eq!(lines[5]["error"]["code"], -32001, "{}", lines[5]);
}

#[tokio::test]
async fn a_request_can_be_cancelled() {
    let mut client = Client::new("");
    client.ok("plugin/load", json!({ "name": "fake" })).await;
    let slow = client.request("plugin/call", json!({ "plugin": "fake", "method": "fake_wait", "args": { "ms": 60_000 } })).await;
    let nobody = client.ok("$/cancel", json!({ "id": 4711 })).await;
    assert_eq!(nobody, json!({ "cancelled": false }));
    client.send(json!({ "jsonrpc": "2.0", "method": "$/cancel", "params": { "id": slow } }).to_string()).await;
    let answer = client.line().await.unwrap();
    assert_eq!((&answer["id"], &answer["error"]["code"], &answer["error"]["kind"]), (&json!(slow), &json!(-32800), &json!("CANCELLED")));
}

#[tokio::test]
async fn too_many_requests_are_refused_and_the_host_still_answers() {
    let mut client = Client::with("", |options| options.most_requests = 2);
    client.ok("plugin/load", json!({ "name": "fake" })).await;
    let wait = json!({ "plugin": "fake", "method": "fake_wait", "args": { "ms": 60_000 } });
    let slow = [client.request("plugin/call", wait.clone()).await, client.request("plugin/call", wait.clone()).await];
    let error = client.error("plugin/call", wait).await;
    assert_eq!((&error["code"], &error["retryable"]), (&json!(-32050), &json!(true)));
    assert_eq!(client.ok("ping", json!({})).await, "pong");
    assert_eq!(client.ok("status", json!({})).await["in_flight"], 2);
    for id in slow {
        client.send(json!({ "jsonrpc": "2.0", "method": "$/cancel", "params": { "id": id } }).to_string()).await;
        assert_eq!(client.line().await.unwrap()["error"]["code"], -32800);
    }
}

#[tokio::test]
async fn an_answer_over_the_limit_is_an_error_for_who_waits_for_it() {
    let mut client = Client::with("", |options| options.longest_line = 4096);
    client.ok("plugin/load", json!({ "name": "fake" })).await;
    let error = client.error("plugin/call", json!({ "plugin": "fake", "method": "fake_echo", "args": { "bytes": 100_000 } })).await;
    assert_eq!(error["code"], -32050, "{error}");
    assert_eq!(client.ok("ping", json!({})).await, "pong");
}

#[tokio::test]
async fn a_session_ends_when_it_is_asked_to_at_the_end_of_the_input_and_when_it_is_stopped() {
    let mut client = Client::new("");
    client.ok("plugin/load", json!({ "name": "fake" })).await;
    // What is under way is answered.
    let slow = client.request("plugin/call", json!({ "plugin": "fake", "method": "fake_wait", "args": { "ms": 300 } })).await;
    let answer = client.ask("shutdown", json!({ "reason": "the user left" })).await;
    let result = &answer["result"];
    assert_eq!((&result["status"], &result["reason"], &result["pending"]), (&json!("shutting_down"), &json!("the user left"), &json!(1)));
    let (lines, ended) = client.rest().await;
    assert_eq!((lines.len(), &lines[0]["id"], ended), (1, &json!(slow), Ended::Shutdown));
    assert!(lines[0].get("result").is_some(), "{lines:?}");

    let mut client = Client::with("", |options| options.drain = Duration::from_millis(100));
    client.ok("plugin/load", json!({ "name": "fake" })).await;
    client.request("plugin/call", json!({ "plugin": "fake", "method": "fake_wait", "args": { "ms": 60_000 } })).await;
    client.close().await;
    let (lines, ended) = client.rest().await;
    assert_eq!((lines.len(), &lines[0]["error"]["code"], ended), (1, &json!(-32800), Ended::EndOfInput));

    let client = Client::new("");
    client.stop.cancel();
    assert_eq!(client.rest().await, (Vec::new(), Ended::Stopped));
}

#[tokio::test]
async fn nobody_who_reads_ends_the_session() {
    let mut client = Client::new("");
    client.ok("ping", json!({})).await;
    assert_eq!(client.gone().await, Ended::EndOfInput);
}

#[tokio::test]
async fn a_plugin_takes_the_place_of_another() {
    let mut client = Client::new("");
    client.ok("plugin/load", json!({ "name": "ear", "config": { "word": "first" } })).await;
    assert_eq!(client.ok("stt/transcribe", recording(64)).await["text"], "first");
    let swapped = client.ok("plugin/swap", json!({ "old": "ear", "new": "ear2" })).await;
    assert!(swapped["swap_duration_ms"].as_f64().is_some(), "{swapped}");
    let all = json!({ "success": true, "old_plugin": "ear", "new_plugin": "ear2", "rollback_performed": false, "errors": [] });
    assert!(all.as_object().unwrap().iter().all(|(key, value)| swapped[key] == *value), "{swapped}");
    assert_eq!(client.ok("stt/transcribe", recording(64)).await["text"], "second");
    let error = client.error("plugin/swap", json!({ "old": "ear", "new": "ear2" })).await;
    assert_eq!(error["code"], -32001, "{error}");

    // One that does not start leaves the old one as it was.
    let error = client.error("plugin/swap", json!({ "old": "ear2", "new": "deaf" })).await;
    assert_eq!(
        (&error["code"], &error["data"]["success"], &error["data"]["rollback_performed"]),
        (&json!(-32020), &json!(false), &json!(true))
    );
    assert!(error["message"].as_str().unwrap().contains("hears nothing"), "{error}");
    assert_eq!(client.ok("stt/transcribe", recording(64)).await["text"], "second");
    // So does one of another contract.
    let error = client.error("plugin/swap", json!({ "old": "ear2", "new": "dumb" })).await;
    assert_eq!((&error["code"], &error["kind"]), (&json!(-32010), &json!("CONTRACT_MISMATCH")), "{error}");
    let error = client.error("plugin/swap", json!({ "old": "ear2", "new": "nobody" })).await;
    assert_eq!(error["code"], -32000, "{error}");
    assert_eq!(client.ok("stt/transcribe", recording(64)).await["text"], "second");
}

#[tokio::test]
async fn health_is_told_in_seven_states() {
    let mut client = Client::new("");
    assert_eq!(client.ok("plugin/health", json!({ "name": "ear" })).await["status"], "unloaded");
    client.ok("plugin/load", json!({ "name": "ear" })).await;
    let one = client.ok("plugin/health", json!({ "name": "ear" })).await;
    assert_eq!((&one["plugin"], &one["status"]), (&json!("ear"), &json!("ready")));
    for key in ["message", "details", "latency_ms", "memory_mb"] {
        assert!(one.get(key).is_some(), "{one}");
    }
    client.error("plugin/load", json!({ "name": "deaf" })).await;
    let all = client.ok("plugin/health", json!({})).await;
    assert_eq!(
        (&all["ear"]["status"], &all["deaf"]["status"], &all["ear2"]["status"]),
        (&json!("ready"), &json!("error"), &json!("unloaded"))
    );
    assert!(all["deaf"]["message"].as_str().unwrap().contains("hears nothing"), "{all}");
}

#[tokio::test]
async fn a_plugin_is_loaded_from_a_folder_that_is_named() {
    let mut client = Client::new("");
    assert_eq!(client.ok("plugin/load", json!({ "path": "/plugins/ear" })).await["name"], "ear");
    let error = client.error("plugin/load", json!({ "path": "/plugins/none" })).await;
    assert_eq!((&error["code"], &error["kind"]), (&json!(-32013), &json!("MANIFEST_MISSING")));
    for params in
        [json!({}), json!({ "name": "a", "path": "b" }), json!({ "name": 5 }), json!({ "name": "ear", "cofnig": {} }), json!(["ear"])]
    {
        assert_eq!(client.error("plugin/load", params.clone()).await["code"], -32602, "{params}");
    }
}
