//! The plugin through its contract, as a host drives it.

use std::future::poll_fn;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use bespoke_plugin_api::{
    BoxStream, CallCx, ChatDelta, ChatRequest, Code, Contribution, Error, FinishReason, Message, Plugin, PluginContext, Provider, Result,
    Usage,
};
use bespoke_provider_smol::{BESPOKE_PLUGIN, Config, Smol};
use serde_json::json;

use crate::host::{Host, block_on};
use crate::{tiny, weights};

fn context(models: PathBuf) -> PluginContext {
    PluginContext::new("smol", Arc::new(Host { models, jobs: AtomicUsize::new(0) }))
}

fn provider(config: serde_json::Value, models: PathBuf) -> Arc<dyn Provider> {
    let instance = block_on(BESPOKE_PLUGIN.start(context(models), config)).unwrap();
    instance.contributions.into_iter().find_map(|c| if let Contribution::Provider(_, p) = c { Some(p) } else { None }).unwrap()
}

fn tiny_provider() -> (tempfile::TempDir, Arc<dyn Provider>) {
    let (folder, path) = tiny::file();
    let provider = provider(json!({ "model_file": path, "greeting": false }), PathBuf::new());
    (folder, provider)
}

fn next(stream: &mut BoxStream<ChatDelta>) -> Option<Result<ChatDelta>> {
    block_on(poll_fn(|cx| stream.as_mut().poll_next(cx)))
}

fn all(provider: &dyn Provider, cx: &CallCx, request: ChatRequest) -> Result<(String, FinishReason, Usage)> {
    let mut stream = block_on(provider.chat(cx, request))?;
    let mut text = String::new();
    while let Some(delta) = next(&mut stream) {
        match delta? {
            ChatDelta::Text { text: piece, .. } => text += &piece,
            ChatDelta::Finish { reason, usage, .. } => {
                assert!(next(&mut stream).is_none(), "something follows the end");
                return Ok((text, reason, usage.unwrap()));
            }
            other => panic!("{other:?}"),
        }
    }
    panic!("the stream ended without a finish");
}

fn user(text: &str) -> ChatRequest {
    ChatRequest::new(vec![Message::user(text)])
}

#[test]
fn answers_stream_and_a_second_turn_reuses_the_first() {
    let provider = provider(json!({}), weights::folder());
    let models = block_on(provider.models(&CallCx::new())).unwrap();
    assert_eq!((models[0].id.as_str(), models[0].context_window, models[0].tools), ("smollm2-135m-instruct", 8192, false));

    let mut messages = vec![Message::system("You are helpful."), Message::user("What is the capital of France?")];
    let (text, reason, first) = all(&*provider, &CallCx::new(), ChatRequest::new(messages.clone())).unwrap();
    assert!(text.contains("Paris") && reason == FinishReason::Stop, "{text}");
    assert_eq!(first.cached_tokens, 0);

    messages.extend([Message::assistant(text), Message::user("And of Italy?")]);
    let (_, _, second) = all(&*provider, &CallCx::new(), ChatRequest::new(messages)).unwrap();
    assert!(second.cached_tokens >= first.prompt_tokens, "{second:?} after {first:?}");
    assert!(second.prompt_tokens - second.cached_tokens < 20, "{second:?}");
}

#[test]
fn options_of_a_request_go_before_the_configuration() {
    let (_folder, provider) = tiny_provider();
    let answer = |request: ChatRequest| all(&*provider, &CallCx::new(), request).unwrap();
    let (text, reason, usage) = answer(user("hello").max_tokens(4));
    assert!(usage.completion_tokens <= 4 && (reason == FinishReason::Length || usage.completion_tokens < 4));
    assert_eq!(text, answer(user("hello").max_tokens(4)).0, "greedy repeats");
    let warm = |seed| answer(user("hello").temperature(2.0).seed(seed).max_tokens(30)).0;
    assert_eq!(warm(3), warm(3));
    assert_ne!(warm(3), warm(4));
    let error = all(&*provider, &CallCx::new(), user("hello").temperature(9.0)).unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::INVALID_PARAMS, "temperature = 9 is out of range: 0.0 to 2.0"));
}

#[test]
fn a_prompt_beyond_the_context_has_its_code() {
    let (_folder, provider) = tiny_provider();
    let error = all(&*provider, &CallCx::new(), user(&"word ".repeat(1000))).unwrap_err();
    assert_eq!(error.code(), Code::LLM_CONTEXT_TOO_LONG);
    assert_eq!(error.code().value(), 1202);
    assert!(error.help().is_some());
}

#[test]
fn cancelling_ends_the_stream_with_its_code() {
    let provider = provider(json!({}), weights::folder());
    let cx = CallCx::new();
    let mut stream = block_on(provider.chat(&cx, user("Tell me a very long story about a dog."))).unwrap();
    assert!(matches!(next(&mut stream), Some(Ok(ChatDelta::Text { .. }))));
    cx.cancel_token().cancel();
    let mut deltas = 0;
    let error: Error = loop {
        match next(&mut stream) {
            Some(Ok(_)) => deltas += 1,
            Some(Err(error)) => break error,
            None => panic!("the stream ended without an error"),
        }
    };
    // At most what was in the channel and the token under way.
    assert!(deltas <= 40, "{deltas}");
    assert_eq!(error.code(), Code::CANCELLED);
    assert!(next(&mut stream).is_none());
}

#[test]
fn a_dropped_stream_frees_its_place() {
    let provider = provider(json!({ "parallel": 1 }), weights::folder());
    for _ in 0..3 {
        // Long enough to fill the channel: the worker waits for a reader that goes away.
        let mut stream = block_on(provider.chat(&CallCx::new(), user("Tell me a very long story about a dog."))).unwrap();
        assert!(next(&mut stream).unwrap().is_ok());
        drop(stream);
    }
    let (text, ..) = all(&*provider, &CallCx::new(), user("What is the capital of France?")).unwrap();
    assert!(text.contains("Paris"), "{text}");
}

#[test]
fn start_says_what_is_missing_or_wrong() {
    let start = |config| block_on(BESPOKE_PLUGIN.start(context(PathBuf::from("/nonexistent")), config)).err().unwrap();
    assert_eq!(start(json!({})).code(), Code::MODEL_NOT_FOUND);
    let missing = start(json!({ "model_file": "/nonexistent/model.gguf" }));
    assert_eq!(missing.code(), Code::MODEL_NOT_FOUND);
    assert!(missing.message().contains("/nonexistent/model.gguf") && missing.help().is_some());
    assert_eq!(start(json!({ "temprature": 1.0 })).code(), Code::INVALID_PARAMS);
    assert!(start(json!({ "threads": 0 })).message().contains("plugins.smol.threads = 0 is out of range: 1 to 64"));
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.gguf");
    std::fs::write(&broken, &tiny::bytes()[..5000]).unwrap();
    assert_eq!(start(json!({ "model_file": broken })).code(), Code::INITIALIZE_FAILED);
}

#[test]
fn sampling_changes_while_it_runs() {
    let (_folder, path) = tiny::file();
    let config = || Config { model_file: Some(path.clone()), ..Config::default() };
    let smol = block_on(Smol::start(context(PathBuf::new()), config())).unwrap();
    block_on(smol.reconfigure(Config { temperature: 1.0, ..config() })).unwrap();
    assert!(block_on(smol.reconfigure(Config { temperature: -1.0, ..config() })).is_err());
    assert!(smol.facts().contains_key("engine"));
}
