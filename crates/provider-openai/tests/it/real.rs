//! A real server: llama.cpp with SmolLM2, started by `openai_server.py` and ended with the test. The variables that say where both
//! lie are set by `cargo xtask test`.

use std::{
    env,
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use bespoke_host::{HttpAllowed, HttpClient};
use bespoke_http::Client;
use bespoke_plugin_api::{
    CallCx, ChatDelta, ChatRequest, Code, Contract, EmbedRequest, Embedder, FinishReason, Instance, Message, Provider, ToolSpec, Usage,
    serde_json::{self, Value, json},
};
use bespoke_plugin_testkit::{Clock, TestHost};
use bespoke_provider_openai::BESPOKE_PLUGIN;
use futures_util::StreamExt;

/// The server, and the plugin before it.
struct Real {
    server: Child,
    host: Arc<TestHost>,
    instance: Instance,
}

impl Real {
    async fn start(args: &[&str], mut config: Value) -> Self {
        let mut server = Command::new(variable("BESPOKE_PYTHON"))
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/openai_server.py"))
            .arg(model())
            .args(args)
            .env("PYTHONPATH", variable("BESPOKE_XLLAMACPP"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("BESPOKE_PYTHON cannot be run: {e}"));
        // Read to its end beside the test: a full pipe would stop the server. What it said last tells why it did not start.
        let mut errors = server.stderr.take().unwrap();
        let log = std::thread::spawn(move || {
            let mut log = Vec::new();
            let _ = errors.read_to_end(&mut log);
            String::from_utf8_lossy(&log).into_owned()
        });
        let mut output = BufReader::new(server.stdout.take().unwrap());
        let url = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            while output.read_line(&mut line).is_ok_and(|n| n > 0) {
                if let Some(url) = line.strip_prefix("listening ") {
                    return Some(url.trim().to_owned());
                }
                line.clear();
            }
            None
        });
        let Some(url) = url.await.unwrap() else {
            let _ = server.wait();
            panic!("the server did not start:\n{}", log.join().unwrap());
        };
        let host = TestHost::with_clock(Clock::Real);
        let (client, allowed) = (Client::new(), HttpAllowed::new("openai").private(url.trim_start_matches("http://")));
        host.on_http_later(move |request| client.send(allowed.clone(), request));
        config["base_url"] = json!(format!("{url}/v1"));
        let instance = BESPOKE_PLUGIN.start(host.context("openai"), config).await.unwrap();
        Real { server, host, instance }
    }

    fn of<T: Contract + ?Sized>(&self) -> Arc<T> {
        self.instance.contributions.iter().find_map(T::of).unwrap().1.clone()
    }

    async fn chat(&self, request: ChatRequest) -> (String, FinishReason, Usage) {
        let mut answer = self.of::<dyn Provider>().chat(&CallCx::new(), request).await.unwrap();
        let mut text = String::new();
        loop {
            match answer.next().await.unwrap().unwrap() {
                ChatDelta::Text { text: more, .. } => text += &more,
                ChatDelta::Finish { reason, usage, .. } => {
                    assert!(answer.next().await.is_none());
                    return (text, reason, usage.unwrap());
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn variable(name: &str) -> PathBuf {
    let value = env::var_os(name).filter(|value| !value.is_empty());
    value.unwrap_or_else(|| panic!("{name} is not set: run `cargo xtask test`, which brings the server and says where it is")).into()
}

fn model() -> PathBuf {
    const FILE: &str = "smol/smollm2-135m-instruct-q4_1.gguf";
    let path = env::var_os("BESPOKE_MODEL_PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|folder| folder.join(FILE)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("no {FILE} in BESPOKE_MODEL_PATH ({path:?}): run `cargo xtask test`, which fetches it"))
}

fn ask(text: &str) -> ChatRequest {
    let system = "You are a helpful assistant.";
    ChatRequest::new(vec![Message::system(system), Message::user(text)]).temperature(0.0).seed(1)
}

/// One start for all: loading the model is what takes time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_server_chats() {
    let real = Real::start(&[], json!({ "tools": "schema" })).await;
    let provider = real.of::<dyn Provider>();

    let models = provider.models(&CallCx::new()).await.unwrap();
    assert_eq!(models.len(), 1);
    assert_eq!((models[0].context_window, models[0].tools, models[0].json_schema), (2048, false, true));
    assert!(models[0].id.ends_with("smollm2-135m-instruct-q4_1.gguf"), "{models:?}");

    let (text, reason, usage) = real.chat(ask("What is the capital of France?").max_tokens(24)).await;
    assert!(text.contains("Paris"), "{text}");
    assert!(matches!(reason, FinishReason::Stop | FinishReason::Length));
    assert!(usage.prompt_tokens > 5 && (1..=24).contains(&usage.completion_tokens), "{usage:?}");

    // The limit is kept, and called by its name; the same question again is partly remembered.
    let (short, reason, usage) = real.chat(ask("What is the capital of France?").max_tokens(3)).await;
    assert!(text.starts_with(&short) && !short.is_empty(), "{short:?} of {text:?}");
    assert_eq!((reason, usage.completion_tokens), (FinishReason::Length, 3));
    assert!(usage.cached_tokens > 0, "{usage:?}");

    let schema = json!({
        "type": "object",
        "properties": { "city": { "type": "string", "maxLength": 20 }, "known": { "type": "boolean" } },
        "required": ["city", "known"],
        "additionalProperties": false,
    });
    let (text, reason, _) = real.chat(ask("Which city is the capital of France?").json_schema(schema).max_tokens(64)).await;
    let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert_eq!(reason, FinishReason::Stop);
    assert!(value["city"].is_string() && value["known"].is_boolean() && value.as_object().unwrap().len() == 2, "{value}");

    let (stopped, reason, _) = real.chat(ask("Count: one, two, three, four, five.").stop(vec![" ".into()]).max_tokens(32)).await;
    assert!(!stopped.contains(' ') && reason == FinishReason::Stop, "{stopped:?}");

    // A tool is offered and its answer told; this model makes no calls of its own, so what it says is all that counts.
    let tools = vec![ToolSpec::new("clock", "Tells the time.")];
    let call = bespoke_plugin_api::ToolCall::new("c1", "clock", json!({}));
    let messages = vec![
        Message::system("Answer in one sentence."),
        Message::user("What time is it?"),
        Message::assistant("").tool_calls(vec![call]),
        Message::tool("c1", "It is noon."),
    ];
    let (text, _, _) = real.chat(ChatRequest::new(messages).tools(tools).temperature(0.0).max_tokens(16)).await;
    assert!(!text.is_empty());

    // Refused by the server, in its own words.
    let long = provider.chat(&CallCx::new(), ask(&"many words ".repeat(3000))).await.err().unwrap();
    assert_eq!(long.code(), Code::LLM_CONTEXT_TOO_LONG, "{long:?}");

    // Whoever drops a long answer frees the server at once: it has one place, and the next question gets it.
    let mut dropped = provider.chat(&CallCx::new(), ask("Tell me a very long story.").max_tokens(1900)).await.unwrap();
    assert!(dropped.next().await.unwrap().is_ok());
    drop(dropped);
    let (text, _, usage) = real.chat(ask("What is the capital of France?").max_tokens(8)).await;
    assert!(!text.is_empty() && usage.completion_tokens <= 8);

    assert!(real.host.lines().is_empty(), "{:?}", real.host.lines());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_server_makes_vectors() {
    let real = Real::start(&["embeddings"], json!({})).await;
    let texts = ["The cat sleeps.", "The cat sleeps.", "Interest rates rise.", "ünïcödé"].map(str::to_owned).to_vec();
    let vectors = real.of::<dyn Embedder>().embed(&CallCx::new(), EmbedRequest::new(texts)).await.unwrap().vectors;
    assert_eq!(vectors.iter().map(Vec::len).collect::<Vec<_>>(), [576; 4]);
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    for vector in &vectors {
        assert!((dot(vector, vector) - 1.0).abs() < 1e-4);
    }
    assert!(dot(&vectors[0], &vectors[1]) > 0.999);
    assert!(dot(&vectors[0], &vectors[2]) < 0.999);
}
