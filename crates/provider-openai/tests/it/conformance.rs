//! Equal bytes compiled in and behind the wire, for each kind that the plugin contributes and for its failures.

use bespoke_plugin_api::{
    ChatRequest, Code, Error, HttpReply, HttpRequest, Message, Result, ToolChoice, ToolSpec,
    bytes::Bytes,
    serde_json::{Value, json},
};
use bespoke_plugin_testkit::{Clock, Conformance, TestHost};
use bespoke_provider_openai::BESPOKE_PLUGIN;
use futures_util::{StreamExt, stream};

use crate::memory::{ANSWER, reply, says, whole};

/// A server that knows all of the protocol. What it says depends on nothing but the request.
fn serve(request: &HttpRequest) -> Result<HttpReply> {
    let path = request.url.rsplit("/v1").next().unwrap_or_default();
    let body: Value = bespoke_plugin_api::serde_json::from_slice(&request.body).unwrap_or_default();
    let said = body["messages"].as_array().and_then(|m| m.last()).and_then(|m| m["content"].as_str()).unwrap_or_default();
    Ok(match (path, said) {
        ("/models", _) => whole(200, r#"{"data":[{"id":"m","meta":{"n_ctx":2048}},{"id":"n"}]}"#),
        ("/chat/completions", "break off") => {
            whole(200, ANSWER.split("data: {\"choices\":[{\"index\":0,\ndata").next().unwrap_or_default())
        }
        ("/chat/completions", "refuse") => whole(401, r#"{"error":{"message":"who are you?"}}"#),
        ("/chat/completions", "be slow") => {
            let first = says("Well").replace("\"stop\"", "null").replace("data: [DONE]", ": no end");
            let body = stream::iter([Ok(Bytes::from(first))]).chain(stream::pending());
            HttpReply::new(200, Vec::new(), Box::pin(body))
        }
        ("/chat/completions", "tool") => reply(200, &[], ANSWER.as_bytes().chunks(7).map(|c| Ok(Bytes::copy_from_slice(c))).collect()),
        ("/chat/completions", "unreachable") => return Err(Error::new(Code::NETWORK_FAILED, "connection refused").retryable()),
        ("/chat/completions", _) => whole(200, says("Hello.")),
        ("/audio/transcriptions", _) => whole(200, format!("{{\"text\":\"{} bytes\"}}", request.body.len())),
        ("/audio/speech", _) if body["voice"] == "no such voice" => whole(400, r#"{"error":{"message":"unknown voice"}}"#),
        ("/audio/speech", _) => {
            let samples: Vec<u8> = (0..10_001u32).flat_map(|n| ((n * 3) as i16).to_le_bytes()).collect();
            reply(200, &[], samples.chunks(999).map(|c| Ok(Bytes::copy_from_slice(c))).collect())
        }
        ("/embeddings", _) => {
            let texts = body["input"].as_array().map_or(0, Vec::len);
            let items: Vec<Value> = (0..texts).rev().map(|n| json!({ "index": n, "embedding": [n, 1.5, -2] })).collect();
            whole(200, json!({ "data": items }).to_string())
        }
        _ => whole(404, "no such page"),
    })
}

fn ask(text: &str) -> ChatRequest {
    ChatRequest::new(vec![Message::system("Be brief."), Message::user(text)])
}

fn prepare(host: &TestHost) {
    host.set_secret("api_key", "sk-1234");
    host.on_http_later(|request| Box::pin(std::future::ready(serve(&request))));
}

#[test]
fn behaves_the_same_in_every_tier() {
    let tools = ask("tool").tools(vec![ToolSpec::new("clock", "Tells the time.")]).tool_choice(ToolChoice::Required);
    Conformance::new(&BESPOKE_PLUGIN)
        .config(json!({ "base_url": "http://127.0.0.1:9/v1", "max_retries": 0 }))
        // Nothing is to be waited for: silence is bounded, and every jump of the clock would be one.
        .clock(Clock::Manual)
        .host(prepare)
        .chat(tools)
        .chat(ask("break off"))
        .chat(ask("refuse"))
        .chat(ask("unreachable"))
        .slow_chat(ask("be slow"))
        .check();
}
