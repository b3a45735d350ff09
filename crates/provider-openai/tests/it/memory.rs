//! A server in memory: what it is asked, and what comes of each kind of answer. The clock jumps, so waits cost no time.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bespoke_plugin_api::{
    BoxStream, CallCx, ChatDelta, ChatRequest, Code, Contract, Error, Health, HostApi, HttpReply, HttpRequest, Instance, Message, Provider,
    Result, Timestamp,
    bytes::Bytes,
    serde_json::{Value, json},
};
use bespoke_plugin_testkit::{Clock, TestHost, block_on};
use bespoke_provider_openai::BESPOKE_PLUGIN;
use futures_util::{StreamExt, stream};

/// An answer of a stream, as servers send it.
pub(crate) const ANSWER: &str = concat!(
    ": hello\r\n\r\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":null}}]}\r\n\r\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"naïve \"}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\ndata: \"delta\":{\"content\":\"😀\"}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c1\",\"function\":{\"name\":\"clock\",\"arguments\":\"{\\\"a\\\":\"}}]}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"1}\"}}]}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n",
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4}}\n\n",
    "data: [DONE]\n\n",
);

/// What [`ANSWER`] comes to.
pub(crate) const TOLD: &str = "naïve |😀|clock(c1, {\"a\":1})|ToolCalls 9+4";

/// A short stream of one text.
pub(crate) fn says(text: &str) -> String {
    let delta = json!({ "choices": [{ "index": 0, "delta": { "content": text } }] });
    format!("data: {delta}\n\ndata: {{\"choices\":[{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"stop\"}}]}}\n\ndata: [DONE]\n\n")
}

/// An answer with these headers and pieces.
pub(crate) fn reply(status: u16, headers: &[(&str, &str)], pieces: Vec<Result<Bytes>>) -> HttpReply {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    HttpReply::new(status, headers, Box::pin(stream::iter(pieces)))
}

/// An answer of one piece.
pub(crate) fn whole(status: u16, text: impl Into<String>) -> HttpReply {
    reply(status, &[], vec![Ok(Bytes::from(text.into()))])
}

/// A server in memory that answers by the number of the request, and keeps what it was asked.
pub(crate) struct Memory {
    pub(crate) host: Arc<TestHost>,
    pub(crate) instance: Instance,
    asked: Arc<Mutex<Vec<HttpRequest>>>,
}

impl Memory {
    pub(crate) fn new(config: Value, answer: impl Fn(usize) -> Result<HttpReply> + Send + Sync + 'static) -> Self {
        Self::with_clock(Clock::Jump, config, answer)
    }

    pub(crate) fn with_clock(clock: Clock, config: Value, answer: impl Fn(usize) -> Result<HttpReply> + Send + Sync + 'static) -> Self {
        Self::on(TestHost::with_clock(clock), config, answer)
    }

    pub(crate) fn on(host: Arc<TestHost>, mut config: Value, answer: impl Fn(usize) -> Result<HttpReply> + Send + Sync + 'static) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (seen, number) = (asked.clone(), AtomicUsize::new(0));
        host.on_http_later(move |request| {
            seen.lock().unwrap().push(request);
            let answer = answer(number.fetch_add(1, Ordering::SeqCst));
            Box::pin(std::future::ready(answer))
        });
        for (key, value) in [("base_url", "http://127.0.0.1:9/v1"), ("model", "m")] {
            config.as_object_mut().unwrap().entry(key).or_insert(value.into());
        }
        let instance = block_on(BESPOKE_PLUGIN.start(host.context("openai"), config)).unwrap();
        Memory { host, instance, asked }
    }

    pub(crate) fn of<T: Contract + ?Sized>(&self) -> Arc<T> {
        self.instance.contributions.iter().find_map(T::of).unwrap().1.clone()
    }

    /// All requests so far.
    pub(crate) fn asked(&self) -> Vec<HttpRequest> {
        self.asked.lock().unwrap().clone()
    }

    /// The body of the last request.
    pub(crate) fn body(&self) -> Value {
        bespoke_plugin_api::serde_json::from_slice(&self.asked().last().unwrap().body).unwrap()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.host.now()
    }

    pub(crate) fn chat(&self) -> Result<String> {
        block_on(async { told(self.of::<dyn Provider>().chat(&CallCx::new(), hello()).await?).await })
    }
}

pub(crate) fn hello() -> ChatRequest {
    ChatRequest::new(vec![Message::user("Hello?")])
}

/// All of an answer on one line, or its error.
pub(crate) async fn told(mut answer: BoxStream<ChatDelta>) -> Result<String> {
    let mut parts = Vec::new();
    while let Some(delta) = answer.next().await {
        parts.push(match delta? {
            ChatDelta::Text { text, .. } => text,
            ChatDelta::ToolCall { call, .. } => format!("{}({}, {})", call.name, call.id, call.args),
            ChatDelta::Finish { reason, usage, .. } => {
                let usage = usage.map_or(String::new(), |u| format!(" {}+{}", u.prompt_tokens, u.completion_tokens));
                format!("{reason:?}{usage}")
            }
            other => panic!("{other:?}"),
        });
    }
    Ok(parts.join("|"))
}

fn refused() -> Error {
    Error::new(Code::INTERNAL_ERROR, "connection refused").retryable()
}

#[test]
fn an_answer_is_the_same_wherever_the_network_cuts_it() {
    let bytes = Bytes::from_static(ANSWER.as_bytes());
    let (length, body) = (bytes.len(), bytes.clone());
    let server = Memory::new(json!({}), move |at| Ok(reply(200, &[], vec![Ok(body.slice(..at)), Ok(body.slice(at..))])));
    for at in 0..=length {
        assert_eq!(server.chat().unwrap(), TOLD, "cut at {at}");
    }
    let single = Memory::new(json!({}), move |_| Ok(reply(200, &[], (0..length).map(|n| Ok(bytes.slice(n..n + 1))).collect())));
    assert_eq!(single.chat().unwrap(), TOLD);
}

#[test]
fn servers_that_end_in_their_own_way_are_understood() {
    let stop = "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"},\"finish_reason\":\"stop\"}]}";
    let completion = json!({ "choices": [{ "message": { "content": "Hi" }, "finish_reason": "stop" }], "usage": { "prompt_tokens": 1, "completion_tokens": 2 } });
    for (what, answer, expected) in [
        ("without [DONE]", format!("{stop}\n\n"), "Hi|Stop"),
        ("without the last empty line", stop.to_owned(), "Hi|Stop"),
        ("with [DONE] and no reason", "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\ndata: [DONE]\n\n".into(), "Hi|Stop"),
        ("with more behind [DONE]", format!("{stop}\n\ndata: [DONE]\n\ndata: nonsense\n\n"), "Hi|Stop"),
        ("with a mark at the beginning", format!("\u{feff}{stop}\n\n"), "Hi|Stop"),
        ("whole, although a stream was asked for", completion.to_string(), "Hi|Stop 1+2"),
        ("whole, with blanks around", format!("\n  {completion:#}\n"), "Hi|Stop 1+2"),
    ] {
        let server = Memory::new(json!({ "max_retries": 0 }), move |_| Ok(whole(200, answer.clone())));
        assert_eq!(server.chat().unwrap(), expected, "{what}");
    }
}

#[test]
fn what_is_no_answer_says_so() {
    let key = "sk-very-secret";
    for (status, answer, code, again, message) in [
        (
            200,
            "<!DOCTYPE html><p>Welcome</p>",
            Code::LLM_COMPLETION_FAILED,
            false,
            "answered with a page instead of an answer: <!DOCTYPE html>",
        ),
        (200, "Not an API.", Code::LLM_COMPLETION_FAILED, false, "answered with something that is no answer: Not an API."),
        (200, "{\"hello\": ", Code::LLM_COMPLETION_FAILED, false, "answered with no JSON: EOF"),
        (200, "data: {oops}\n\n", Code::LLM_COMPLETION_FAILED, false, "answered with no JSON: key must be a string"),
        (200, "data: {\"choices\": 7}\n\n", Code::LLM_COMPLETION_FAILED, false, "no chunk of an answer"),
        (200, "", Code::LLM_COMPLETION_FAILED, true, "broke off"),
        (200, ": ping\n\n", Code::LLM_COMPLETION_FAILED, true, "broke off"),
        (200, "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n", Code::LLM_COMPLETION_FAILED, true, "broke off"),
        (
            200,
            "data: {\"error\":{\"message\":\"out of memory\",\"code\":500}}\n\n",
            Code::LLM_COMPLETION_FAILED,
            true,
            "ended its answer with an error: out of memory",
        ),
        (
            200,
            "{\"error\":\"sk-very-secret is no key\"}",
            Code::LLM_COMPLETION_FAILED,
            false,
            "ended its answer with an error: *** is no key",
        ),
        (400, "sk-very-secret is wrong", Code::LLM_COMPLETION_FAILED, false, "answered 400 Bad Request: *** is wrong"),
        (418, "", Code::LLM_COMPLETION_FAILED, false, "answered 418 I'm a teapot"),
        (302, "", Code::LLM_COMPLETION_FAILED, false, "redirects without saying where"),
    ] {
        let server = Memory::new(json!({ "max_retries": 0 }), move |_| Ok(whole(status, answer)));
        server.host.set_secret("api_key", key);
        let error = server.chat().unwrap_err();
        assert!(error.message().contains(message), "{answer}: {error}");
        assert!(error.message().contains("http://127.0.0.1:9/v1/chat/completions"), "{error}");
        assert_eq!((error.code(), error.is_retryable()), (code, again), "{answer}: {error}");
        assert!(!format!("{error:?}").contains(key), "{error:?}");
    }
}

#[test]
fn a_request_carries_the_key_the_headers_and_the_limits() {
    let config = json!({ "organization": "org-1", "headers": { "X-Team": "red" }, "first_token_timeout_ms": 5000 });
    let server = Memory::new(config, |_| Ok(whole(200, says("Hi"))));
    server.chat().unwrap();
    server.host.set_secret("api_key", " sk-1234\n");
    server.chat().unwrap();
    let [without, with] = &server.asked()[..] else { panic!("two requests") };
    let headers = |request: &HttpRequest| request.headers.iter().map(|(n, v)| format!("{n}: {v}")).collect::<Vec<_>>();
    assert_eq!(headers(without), ["content-type: application/json", "openai-organization: org-1", "x-team: red"]);
    assert_eq!(headers(with)[3], "authorization: Bearer sk-1234");
    assert_eq!((with.method.as_str(), with.url.as_str(), with.timeout_ms), ("POST", "http://127.0.0.1:9/v1/chat/completions", Some(5000)));
    assert_eq!(server.body()["model"], "m");

    // The caller's deadline is nearer than the limit.
    let cx = CallCx::new().with_deadline(Timestamp(server.now().0 + 2_000_000));
    block_on(async { told(server.of::<dyn Provider>().chat(&cx, hello()).await?).await }).unwrap();
    assert_eq!(server.asked()[2].timeout_ms, Some(2000));

    let own = Memory::new(json!({ "headers": { "Authorization": "Basic x" } }), |_| Ok(whole(200, says("Hi"))));
    own.host.set_secret("api_key", "sk-1234");
    own.chat().unwrap();
    assert_eq!(headers(&own.asked()[0])[1..], ["authorization: Basic x"]);
}

#[test]
fn a_key_that_no_header_can_carry_is_told_without_it() {
    let server = Memory::new(json!({}), |_| Ok(whole(200, says("Hi"))));
    server.host.set_secret("api_key", "sk-12\n34");
    let error = server.chat().unwrap_err();
    assert!(error.message().contains("characters that no header may have") && !format!("{error:?}").contains("sk-12"), "{error:?}");
    assert!(server.asked().is_empty());
}

/// A server that asks for a key would answer 401, and the user would look for the mistake in the wrong place.
#[test]
fn a_key_that_is_set_but_cannot_be_had_is_the_error_that_is_told() {
    let server = Memory::new(json!({}), |_| Ok(whole(200, says("Hi"))));
    let broken = Error::invalid_params("plugins.openai.secrets.api_key refers to a file that is missing").with_help("ls -l /a/key");
    server.host.fail_secret("api_key", broken.clone());
    let error = server.chat().unwrap_err();
    assert_eq!((error.code(), error.message(), error.help()), (broken.code(), broken.message(), broken.help()));
    assert!(server.asked().is_empty());
}

#[test]
fn what_passes_is_tried_again_and_nothing_else() {
    type Answer = fn(usize) -> Result<HttpReply>;
    let cases: &[(&str, Answer, usize, bool)] = &[
        ("refused twice", |n| if n < 2 { Err(refused()) } else { Ok(whole(200, says("Hi"))) }, 3, true),
        ("refused always", |_| Err(refused()), 4, false),
        ("500, then good", |n| if n < 1 { Ok(whole(500, "")) } else { Ok(whole(200, says("Hi"))) }, 2, true),
        (
            "429 and 408, then good",
            |n| {
                Ok(match n {
                    0 => whole(429, ""),
                    1 => whole(408, ""),
                    _ => whole(200, says("Hi")),
                })
            },
            3,
            true,
        ),
        ("503 always", |_| Ok(whole(503, "")), 4, false),
        ("400", |_| Ok(whole(400, "")), 1, false),
        ("401", |_| Ok(whole(401, "")), 1, false),
        ("403", |_| Ok(whole(403, "")), 1, false),
        ("404", |_| Ok(whole(404, "")), 1, false),
        ("501", |_| Ok(whole(501, "")), 1, false),
        ("a refusal of the host", |_| Err(Error::new(Code::PERMISSION_DENIED, "not there")), 1, false),
        ("no head in time", |_| Err(Error::new(Code::EXECUTION_TIMEOUT, "late").retryable()), 1, false),
        (
            "broken before anything was said",
            |n| {
                Ok(if n < 1 {
                    reply(200, &[], vec![Ok(Bytes::from_static(b": ping\n\n")), Err(Error::internal("reset"))])
                } else {
                    whole(200, says("Hi"))
                })
            },
            2,
            true,
        ),
        ("broken after something was said", |_| Ok(whole(200, "data: {\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}\n\n")), 1, false),
    ];
    for (what, answer, requests, good) in cases {
        let server = Memory::new(json!({}), *answer);
        let told = server.chat();
        assert_eq!(told.is_ok(), *good, "{what}: {told:?}");
        assert_eq!(server.asked().len(), *requests, "{what}");
    }
}

#[test]
fn a_server_is_waited_for_as_long_as_it_asks_and_no_longer_than_makes_sense() {
    for (headers, waits, good) in [
        (&[("retry-after", "7")][..], 7.0..7.1, true),
        (&[("retry-after", "Wed, 01 Jan 2025 00:00:05 GMT")], 4.9..5.1, true),
        (&[("retry-after-ms", "1500")], 1.5..1.6, true),
        (&[("retry-after", "3600")], 0.0..0.1, false),
        (&[], 0.05..0.2, true),
    ] {
        let server = Memory::new(json!({}), |n| if n == 0 { Ok(reply(429, headers, vec![])) } else { Ok(whole(200, says("Hi"))) });
        let begun = server.now();
        let told = server.chat();
        let waited = begun.until(server.now()).as_secs_f64();
        assert!(waits.contains(&waited), "{headers:?}: {waited}");
        match told {
            Ok(told) => assert!(good && told == "Hi|Stop", "{told}"),
            Err(e) => {
                assert!(!good && e.code() == Code::LLM_RATE_LIMITED && e.is_retryable(), "{e:?}");
                assert_eq!(e.data().unwrap()["retry_after_ms"], 3_600_000);
            }
        }
    }
    // The deadline of the caller is nearer than what the server asks for.
    let server = Memory::new(json!({}), |_| Ok(reply(429, &[("retry-after", "7")], vec![])));
    let cx = CallCx::new().with_deadline(Timestamp(server.now().0 + 3_000_000));
    let error = block_on(server.of::<dyn Provider>().chat(&cx, hello())).err().unwrap();
    assert!(error.message().contains("too long to wait"), "{error}");
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_server_that_only_keeps_the_connection_open_is_silent() {
    for (first, limit) in [("", 60), ("data: {\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}\n\n", 30)] {
        // Each comment takes a second, and there are more of them than anybody waits for.
        let host = TestHost::with_clock(Clock::Manual);
        let clock = host.clone();
        let server = Memory::on(host, json!({}), move |_| {
            let clock = clock.clone();
            let pings = stream::iter(0..1000).map(move |_| {
                clock.advance(Duration::from_secs(1));
                Ok(Bytes::from_static(b": ping\n\n"))
            });
            Ok(HttpReply::new(200, Vec::new(), Box::pin(stream::iter([Ok(Bytes::from_static(first.as_bytes()))]).chain(pings))))
        });
        let begun = server.now();
        let error = server.chat().unwrap_err();
        assert_eq!(begun.until(server.now()).as_secs(), limit);
        assert_eq!((error.code(), error.is_retryable()), (Code::EXECUTION_TIMEOUT, true));
        assert_eq!(error.message(), format!("the server said nothing for {limit} s"));
        assert_eq!(server.asked().len(), 1);
    }
}

#[test]
fn a_reader_that_takes_its_time_makes_no_server_silent() {
    let host = TestHost::with_clock(Clock::Manual);
    let server = Memory::on(host, json!({}), |_| {
        let pieces = [says("a").into_bytes(), says("b").into_bytes()];
        Ok(reply(
            200,
            &[],
            pieces.into_iter().flat_map(|text| text.chunks(20).map(|c| Ok(Bytes::copy_from_slice(c))).collect::<Vec<_>>()).collect(),
        ))
    });
    let told = block_on(async {
        let mut answer = server.of::<dyn Provider>().chat(&CallCx::new(), hello()).await?;
        let first = answer.next().await;
        server.host.advance(Duration::from_secs(3600));
        Ok::<_, Error>((first, told(answer).await?))
    });
    assert_eq!(told.unwrap(), (Some(Ok(ChatDelta::text("a"))), "Stop".to_owned()));
}

#[test]
fn an_answer_that_has_ended_does_not_wait_for_its_connection() {
    // Neither [DONE] nor the end of the body ever comes.
    let server = Memory::new(json!({}), |_| {
        let text = says("Hi").replace("data: [DONE]\n\n", "");
        Ok(HttpReply::new(200, Vec::new(), Box::pin(stream::iter([Ok(Bytes::from(text))]).chain(stream::pending()))))
    });
    let begun = server.now();
    assert_eq!(server.chat().unwrap(), "Hi|Stop");
    assert_eq!(begun.until(server.now()), Duration::from_secs(2));
}

#[test]
fn what_is_too_long_ends_before_it_is_kept() {
    for (piece, message) in [
        ("x", "the server sent a line longer than 1048576 bytes"),
        ("{\"a\": \"x\",", "the answer of the server is longer than 16777216 bytes"),
        (": nothing but comments, and no end of them\n", "the answer of the server is longer than 67108864 bytes"),
    ] {
        let endless = Bytes::from(piece.repeat(65_536 / piece.len()));
        let answer = move |_| Ok(HttpReply::new(200, Vec::new(), Box::pin(stream::repeat(endless.clone()).take(2000).map(Ok))));
        let server = Memory::with_clock(Clock::Manual, json!({}), answer);
        let error = server.chat().unwrap_err();
        assert_eq!((error.code(), error.message()), (Code::RESOURCE_EXHAUSTED, message));
        assert_eq!(server.asked().len(), 1);
    }
}

#[test]
fn a_caller_that_goes_is_not_kept_waiting() {
    type Answer = fn(usize) -> Result<HttpReply>;
    let silent: Answer = |_| {
        Ok(HttpReply::new(
            200,
            Vec::new(),
            Box::pin(stream::iter([Ok(Bytes::from("data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n"))]).chain(stream::pending())),
        ))
    };
    let busy: Answer = |_| Ok(whole(503, ""));
    // In the middle of an answer; while it waits to ask again.
    for (answer, begins) in [(silent, true), (busy, false)] {
        let server = Memory::with_clock(Clock::Manual, json!({}), answer);
        let cx = CallCx::new();
        let error = block_on(async {
            let provider = server.of::<dyn Provider>();
            let asked = async {
                let mut answer = provider.chat(&cx, hello()).await?;
                assert!(begins && answer.next().await.unwrap().is_ok());
                answer.next().await.unwrap()
            };
            let mut asked = std::pin::pin!(asked);
            let waiting = std::future::poll_fn(|task| std::task::Poll::Ready(asked.as_mut().poll(task).is_pending())).await;
            assert!(waiting);
            cx.cancel_token().cancel();
            asked.await
        });
        assert_eq!(error.unwrap_err().code(), Code::CANCELLED);
        assert_eq!(server.asked().len(), 1);
    }
    let server = Memory::new(json!({}), |_| Ok(whole(200, says("Hi"))));
    let cx = CallCx::new();
    cx.cancel_token().cancel();
    let error = block_on(server.of::<dyn Provider>().chat(&cx, hello())).err().unwrap();
    assert_eq!(error.code(), Code::CANCELLED);
    assert!(server.asked().is_empty());
}

#[test]
fn models_are_asked_for_seldom_and_may_come_from_the_configuration_alone() {
    let list = json!({ "data": [{ "id": "a", "meta": { "n_ctx": 2048 } }, { "id": "b" }] }).to_string();
    let server =
        Memory::new(json!({ "models": [{ "id": "b", "context_window": 77, "tools": false }] }), move |_| Ok(whole(200, list.clone())));
    let models = || block_on(server.of::<dyn Provider>().models(&CallCx::new())).unwrap();
    let ids = |models: Vec<bespoke_plugin_api::ModelInfo>| {
        models.into_iter().map(|m| format!("{} {} {}", m.id, m.context_window, m.tools)).collect::<Vec<_>>()
    };
    assert_eq!(ids(models()), ["m 0 true", "b 77 false", "a 2048 true"]);
    models();
    assert_eq!(server.asked().len(), 1);
    assert_eq!((server.asked()[0].method.as_str(), server.asked()[0].url.as_str()), ("GET", "http://127.0.0.1:9/v1/models"));
    assert_eq!(server.asked()[0].timeout_ms, Some(10_000));
    server.host.advance(Duration::from_secs(301));
    models();
    assert_eq!(server.asked().len(), 2);

    let without = Memory::new(json!({}), |_| Ok(whole(404, "no such page")));
    assert_eq!(ids(block_on(without.of::<dyn Provider>().models(&CallCx::new())).unwrap()), ["m 0 true"]);
    for (status, text, why) in [(401, "", "401"), (200, "{}", "no list of models"), (200, "<html>", "no list of models")] {
        let wrong = Memory::new(json!({}), move |_| Ok(whole(status, text)));
        let error = block_on(wrong.of::<dyn Provider>().models(&CallCx::new())).unwrap_err();
        assert!(error.message().contains(why) && error.help().is_some(), "{error:?}");
    }
}

#[test]
fn without_a_configured_model_the_first_that_chats_answers() {
    let list = json!({ "data": [{ "id": "text-embedding-9" }, { "id": "chatty" }] }).to_string();
    let host = TestHost::new();
    let server = Memory::on(host, json!({ "model": null }), move |n| Ok(whole(200, if n == 0 { list.clone() } else { says("Hi") })));
    assert_eq!(server.chat().unwrap(), "Hi|Stop");
    assert_eq!(server.body()["model"], "chatty");
    assert_eq!(server.chat().unwrap(), "Hi|Stop");
    assert_eq!(server.asked().len(), 3, "the list is asked for once");

    let unknown = Memory::new(json!({ "model": null }), |n| {
        Ok(if n == 0 {
            whole(200, "{\"data\":[{\"id\":\"a\"},{\"id\":\"b\"}]}")
        } else {
            whole(404, "{\"error\":{\"message\":\"model x not found\"}}")
        })
    });
    block_on(unknown.of::<dyn Provider>().models(&CallCx::new())).unwrap();
    let error = block_on(unknown.of::<dyn Provider>().chat(&CallCx::new(), hello().model("x".into()))).err().unwrap();
    assert_eq!(error.code(), Code::LLM_MODEL_NOT_AVAILABLE);
    assert!(error.help().unwrap().ends_with("the server has a, b"), "{error:?}");
}

#[test]
fn health_is_what_the_last_request_says_of_the_server() {
    let server = Memory::new(json!({ "max_retries": 0 }), |n| {
        Ok(match n {
            0 => whole(400, "a bad request says nothing of the server"),
            1 => whole(401, "no key"),
            2 => whole(400, ""),
            _ => whole(200, says("Hi")),
        })
    });
    assert_eq!(server.instance.life.health(), Health::Ok);
    server.chat().unwrap_err();
    assert_eq!(server.instance.life.health(), Health::Ok);
    for _ in 0..2 {
        server.chat().unwrap_err();
        assert!(server.instance.life.health().reason().unwrap().contains("401 Unauthorized"));
    }
    server.chat().unwrap();
    assert_eq!(server.instance.life.health(), Health::Ok);
}
