//! The plugin through its contract, as a host drives it.

use std::future::poll_fn;
use std::path::PathBuf;
use std::sync::Arc;

use bespoke_plugin_api::{
    BoxStream, CallCx, ChatDelta, ChatRequest, Code, Contribution, Error, FinishReason, Message, Plugin, PluginContext, Provider, Result,
    Role, ToolCall, ToolChoice, ToolSpec, Usage,
};
use bespoke_plugin_testkit::{Conformance, TestHost, block_on};
use bespoke_provider_smol::{BESPOKE_PLUGIN, Config, Smol};
use serde_json::json;

use crate::{choice, tiny, weights};

fn context(models: PathBuf) -> PluginContext {
    let host = TestHost::new();
    let file = models.join(weights::FILE);
    if file.is_file() {
        host.set_model(weights::FILE, file);
    }
    host.context("smol")
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
    let (text, call, reason, usage) = all_with_call(provider, cx, request)?;
    assert_eq!(call, None);
    Ok((text, reason, usage))
}

fn all_with_call(provider: &dyn Provider, cx: &CallCx, request: ChatRequest) -> Result<(String, Option<ToolCall>, FinishReason, Usage)> {
    let mut stream = block_on(provider.chat(cx, request))?;
    let (mut text, mut wish) = (String::new(), None);
    while let Some(delta) = next(&mut stream) {
        match delta? {
            ChatDelta::Text { text: piece, .. } => text += &piece,
            ChatDelta::ToolCall { call, .. } => assert!(wish.replace(call).is_none(), "one call a turn"),
            ChatDelta::Finish { reason, usage, .. } => {
                assert!(next(&mut stream).is_none(), "something follows the end");
                return Ok((text, wish, reason, usage.unwrap()));
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
    assert_eq!((models[0].id.as_str(), models[0].context_window), ("smollm2-135m-instruct", 8192));
    assert!(models[0].tools && models[0].json_schema);

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

#[test]
fn behaves_the_same_in_every_tier() {
    let (_folder, path) = tiny::file();
    let object = json!({ "type": "object", "properties": { "a": { "type": "string" } }, "required": ["a"] });
    let slow = || user("Tell me a story.").max_tokens(150);
    Conformance::new(&BESPOKE_PLUGIN)
        .config(json!({ "model_file": path, "greeting": false }))
        .chat(user("Say it in JSON.").json_schema(object).max_tokens(24))
        .chat(user("Say it.").json_schema(json!({ "not": {} })))
        .chat(slow().stop(vec!["e".into()]))
        .check();
}

#[test]
fn the_real_model_behaves_the_same_in_every_tier() {
    let ask = |question: &str| user(question).tools(choice::tools()).max_tokens(24);
    Conformance::new(&BESPOKE_PLUGIN)
        .model(weights::FILE, weights::folder().join(weights::FILE))
        .chat(ask("What time is it?"))
        .chat(ask("What is the capital of France?"))
        .slow_chat(user("Tell me a very long story about a dog.").max_tokens(4000))
        .check();
}

#[test]
fn a_tool_whose_arguments_cannot_be_written_takes_nothing_with_it() {
    let provider = provider(json!({}), weights::folder());
    let odd = ToolSpec::new("time_machine", "Tells the current time, day and date.")
        .input(json!({ "type": "object", "properties": { "again": { "$ref": "#" } }, "required": ["again"] }));
    let ask = |tools: Vec<ToolSpec>| {
        let request = user("What time is it?").tools(tools).max_tokens(12);
        all_with_call(&*provider, &CallCx::new(), request).unwrap()
    };
    let (_, call, ..) = ask([vec![odd.clone()], choice::tools()].concat());
    assert_eq!(call.map(|call| call.name).as_deref(), Some("clock"));
    let (text, call, ..) = ask(vec![odd]);
    assert!(call.is_none() && !text.is_empty(), "{text} {call:?}");
}

/// The choice was measured on sentences; a text that somebody pipes in is not one.
#[test]
fn a_text_is_no_wish_for_a_tool() {
    let provider = provider(json!({}), weights::folder());
    let question = "What time is it?";
    for (message, calls) in
        [(question.to_owned(), true), (format!("{question}\n\nBuy milk.\nCall Anna."), false), (question.repeat(20), false)]
    {
        let request = user(&message).tools(choice::tools()).max_tokens(4);
        let (_, call, ..) = all_with_call(&*provider, &CallCx::new(), request).unwrap();
        assert_eq!(call.is_some(), calls, "{message:?}");
    }
}

#[test]
fn a_tool_is_called_once_and_its_result_told() {
    let provider = provider(json!({}), weights::folder());
    let ask = |messages: &[Message], choice: ToolChoice| {
        let request = ChatRequest::new(messages.to_vec()).tools(choice::tools()).tool_choice(choice).max_tokens(40);
        all_with_call(&*provider, &CallCx::new(), request).unwrap()
    };
    let mut messages = vec![Message::system("You are a helpful assistant."), Message::user("What time is it?")];
    let (text, call, reason, usage) = ask(&messages, ToolChoice::Auto);
    let call = call.unwrap();
    assert_eq!((text.as_str(), call.name.as_str(), reason), ("", "clock", FinishReason::ToolCalls));
    assert_eq!((call.id.as_str(), &call.args), ("call-1", &json!({})));
    assert!(usage.prompt_tokens > 0);
    messages.push(Message::new(Role::Assistant, "").tool_calls(vec![call]));
    messages.push(Message::tool("call-1", "It is Friday, 20 November 2026, 09:41 (UTC)."));
    for choice in [ToolChoice::Auto, ToolChoice::Required] {
        let (text, call, reason, _) = ask(&messages, choice);
        assert!(text.contains("9:41") && call.is_none() && reason == FinishReason::Stop, "{text} {call:?}");
    }
    messages.extend([Message::assistant("It is 09:41."), Message::user("And what is the date today?")]);
    let (_, call, ..) = ask(&messages, ToolChoice::Auto);
    assert_eq!(call.map(|call| (call.id, call.name)), Some(("call-2".to_owned(), "clock".to_owned())));
}

#[test]
fn what_a_tool_answered_is_repeated_and_a_failure_said() {
    let provider = provider(json!({}), weights::folder());
    let tell = |answer: &str| {
        let call = ToolCall::new("call-1".to_owned(), "list_files".to_owned(), json!({}));
        let messages = vec![
            Message::system("You are a helpful assistant."),
            Message::user("Which files do I have?"),
            Message::new(Role::Assistant, "").tool_calls(vec![call]),
            Message::tool("call-1", answer),
        ];
        all(&*provider, &CallCx::new(), ChatRequest::new(messages).tools(choice::tools()).max_tokens(120)).unwrap().0
    };
    for (answer, told) in [
        ("2 files in the folder:\nshopping.txt\ntodo.txt", &["2 files", "shopping.txt", "todo.txt"][..]),
        ("`music` has one entry:\nsong.mp3 (123456 bytes)", &["one entry", "song.mp3", "123456"]),
        ("call mother\nbuy a train ticket\n[`todo.txt` is a file of 32 bytes]", &["call mother", "train ticket"]),
        ("error: there is no `todo.md`; did you mean `todo.txt`?", &["that did not work", "there is no `todo.md`", "`todo.txt`?"]),
        ("error: timeout: the server did not answer in 10 s", &["that did not work", "did not answer in 10 s"]),
    ] {
        let text = tell(answer);
        assert!(told.iter().all(|part| text.contains(part)), "{answer}: {text}");
    }
}

#[test]
fn a_choice_of_the_caller_is_kept() {
    let provider = provider(json!({}), weights::folder());
    let ask = |question: &str, choice: ToolChoice| {
        let request = user(question).tools(choice::tools()).tool_choice(choice).max_tokens(12);
        all_with_call(&*provider, &CallCx::new(), request)
    };
    let (text, call, ..) = ask("What time is it?", ToolChoice::None).unwrap();
    assert!(call.is_none() && !text.is_empty());
    let name = |choice| ask("Hello, how are you?", choice).unwrap().1.unwrap().name;
    assert_eq!(name(ToolChoice::Named("read_file".into())), "read_file");
    assert!(choice::tools().iter().any(|tool| tool.name == name(ToolChoice::Required)));
    let error = ask("Hello", ToolChoice::Named("clocks".into())).unwrap_err();
    assert_eq!(error.code(), Code::INVALID_PARAMS);
    assert!(error.message().contains("`clocks`"), "{error}");
}

#[test]
fn deciding_leaves_the_conversation_computed_and_the_next_decision_reads_little() {
    let provider = provider(json!({}), weights::folder());
    let ask = |messages: &[Message]| {
        let request = ChatRequest::new(messages.to_vec()).tools(choice::tools()).max_tokens(24);
        all(&*provider, &CallCx::new(), request).unwrap()
    };
    let mut messages = vec![Message::system("You are helpful."), Message::user("What is the capital of France?")];
    let (text, _, first) = ask(&messages);
    assert!(text.contains("Paris"), "{text}");
    messages.extend([Message::assistant(text), Message::user("Who wrote Romeo and Juliet?")]);
    let (_, _, second) = ask(&messages);
    // What is new: the answer and the question in the conversation, the question for the choice, and the descriptions.
    let read = |usage: &Usage| usage.prompt_tokens - usage.cached_tokens;
    assert!(second.cached_tokens > 200 && read(&second) < 250 && read(&second) * 3 < read(&first), "{second:?} after {first:?}");
}

#[test]
fn a_schema_that_cannot_be_kept_is_refused_by_name() {
    let (_folder, provider) = tiny_provider();
    let error = all(&*provider, &CallCx::new(), user("hello").json_schema(json!({ "type": "string", "pattern": "a" }))).unwrap_err();
    assert_eq!(error.code(), Code::INVALID_PARAMS);
    assert!(error.message().contains("`pattern`"), "{error}");
    let small = user("hello").json_schema(json!({ "type": "string", "minLength": 20 })).max_tokens(10);
    let error = all(&*provider, &CallCx::new(), small).unwrap_err();
    assert_eq!((error.code(), error.help()), (Code::INVALID_PARAMS, Some("raise max_tokens")));
}
