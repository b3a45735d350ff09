//! Turns over a real provider, the real client of the host, and servers: scripted ones on loopback that misbehave, and a real one.
//! The clock is the machine's; what is waited for on purpose is short.

use std::{
    env,
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use bespoke_agent::{Agent, Session, TurnEvent};
use bespoke_host::{Candidate, Config, Host, Selection};
use bespoke_http::{
    Client,
    testing::{Peer, Server},
};
use bespoke_plugin_api::{
    CallCx, CancelToken, Code, ToolOutput, ToolSpec,
    serde_json::{self, Value, json},
};
use expect_test::expect;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};

use crate::kit::{config, line, lines, plug, with_spec};

/// Longer than any of this takes on a machine that has more to do.
const LONG: Duration = Duration::from_secs(300);

/// The head of a stream whose end is the end of the connection.
const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";

/// An event of a stream.
fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}

fn text(text: &str) -> String {
    event(&json!({ "choices": [{ "index": 0, "delta": { "content": text } }] }))
}

/// The end of an answer that came whole.
fn end(reason: &str) -> String {
    let usage = json!({ "choices": [], "usage": { "prompt_tokens": 9, "completion_tokens": 4 } });
    event(&json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": reason }] })) + &event(&usage) + "data: [DONE]\n\n"
}

fn refusal(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n{body}", body.len())
}

/// The bodies of the chats that a server was asked for.
type Asked = Arc<Mutex<Vec<Value>>>;

/// What comes after what a server sends.
#[derive(Clone, Copy)]
enum Then {
    Close,
    /// Nothing more, over a connection that stays.
    Silence,
}

/// A server with one model, that answers each chat with the bytes for its number, the last ones again and again.
async fn scripted(answers: Vec<String>, then: Then) -> (Server, Asked) {
    let (asked, answers) = (Asked::default(), Arc::new(answers));
    let seen = asked.clone();
    let server = Server::start(move |mut peer: Peer, _| {
        let (seen, answers) = (seen.clone(), answers.clone());
        async move {
            let Some(body) = chat(&mut peer).await? else { return Ok(()) };
            let n = {
                let mut seen = seen.lock().unwrap();
                seen.push(body);
                seen.len() - 1
            };
            peer.send(&answers[n.min(answers.len() - 1)]).await?;
            if let Then::Silence = then {
                peer.closed().await;
            }
            Ok(())
        }
    })
    .await;
    (server, asked)
}

/// Reads a request. A question for models is answered here; of a chat the body is left to the caller.
async fn chat(peer: &mut Peer) -> std::io::Result<Option<Value>> {
    let request = peer.request().await?;
    if request.starts_with("GET /v1/models ") {
        peer.send(refusal("200 OK", "", "{\"data\":[{\"id\":\"m\"}]}")).await?;
        return Ok(None);
    }
    assert!(request.starts_with("POST /v1/chat/completions "), "{request}");
    let body = request.split_once("\r\n\r\n").map(|(_, body)| serde_json::from_str(body).unwrap());
    Ok(Some(body.unwrap()))
}

/// An agent over the server, and a second provider that says "Second." each time. Tries cost no time unless they are asked for.
async fn over(url: &str, openai: Value, agent: Value) -> Agent {
    over_with([], url, openai, agent).await
}

/// As [`over`], with further plugins.
async fn over_with(more: impl IntoIterator<Item = Candidate>, url: &str, openai: Value, agent: Value) -> Agent {
    let mut table = json!({ "base_url": format!("{url}/v1"), "max_retries": 0 });
    table.as_object_mut().unwrap().extend(openai.as_object().unwrap().clone());
    let replies = vec![json!([{ "text": "Second." }]); 8];
    let written = json!({ "plugins": { "openai": table, "fake": { "replies": replies } } });
    let config = Config::parse("bespoke.toml", &toml::to_string(&written).unwrap()).unwrap();
    let plugins = [&bespoke_provider_openai::BESPOKE_PLUGIN, &bespoke_fake::BESPOKE_PLUGIN, &bespoke_tool_clock::BESPOKE_PLUGIN];
    let host = Host::builder().config(config).plugins(plugins).plugins(more).http(Arc::new(Client::new())).build().unwrap();
    host.start(Selection::All).await;
    let mut keys = json!({ "provider": ["openai", "fake"], "system": "Be brief." });
    keys.as_object_mut().unwrap().extend(agent.as_object().unwrap().clone());
    Agent::new(host, self::config(keys)).unwrap()
}

/// A turn as text: its events, pieces of text joined, then who answered or why nobody did. The server's address is `HOST`.
async fn told(agent: &Agent, session: &mut Session, input: &str, url: &str) -> String {
    let (mut out, mut said) = (String::new(), String::new());
    let cx = CallCx::new();
    let turn = agent.turn(&cx, session, input, |event| match event {
        TurnEvent::Text(piece) => said += &piece,
        other => {
            if !said.is_empty() {
                out += &format!("{:?}\n", shortened(&std::mem::take(&mut said)));
            }
            out += &(line(&other) + "\n");
        }
    });
    let result = tokio::time::timeout(LONG, turn).await.expect("it hangs");
    if !said.is_empty() {
        out += &format!("{:?}\n", shortened(&said));
    }
    out += &match result {
        Ok(turn) => format!("= {} of {}: {}\n", turn.text, turn.provider, turn.model),
        Err(error) => format!("= {} {error}{}\n", error.kind(), if error.is_retryable() { " (retryable)" } else { "" }),
    };
    out.replace(url.trim_start_matches("http://"), "HOST")
}

fn shortened(text: &str) -> String {
    if text.len() > 100 { format!("{}… {} bytes", &text[..8], text.len()) } else { text.to_owned() }
}

/// A fault of a server, by name: what it sends, what it does then, and the table of the plugin.
fn faults(shown: &str) -> Vec<(&'static str, String, Then, Value)> {
    let begun = || if shown.is_empty() { STREAM.to_owned() } else { STREAM.to_owned() + &text(shown) };
    // Long enough for the head, and for the first piece where there is one.
    let silence = if shown.is_empty() { json!({ "first_token_timeout_ms": 2000 }) } else { json!({ "silence_timeout_ms": 100 }) };
    let mut faults = vec![
        ("cut off", begun(), Then::Close, json!({})),
        ("cut off in an event", begun() + "data: {\"choices\":[{\"del", Then::Close, json!({})),
        ("wrong JSON", begun() + "data: {\"choices\": [\n\n", Then::Close, json!({})),
        ("an error in the stream", begun() + &event(&json!({ "error": { "message": "out of memory" } })), Then::Close, json!({})),
        ("silence", begun(), Then::Silence, silence),
    ];
    if shown.is_empty() {
        faults.extend([
            ("silence before the head", String::new(), Then::Silence, json!({ "first_token_timeout_ms": 100 })),
            (
                "429",
                refusal("429 Too Many Requests", "retry-after: 3600\r\n", "{\"error\":{\"message\":\"slow down\"}}"),
                Then::Close,
                json!({}),
            ),
            (
                "429, and too long to wait",
                refusal("429 Too Many Requests", "retry-after: 3600\r\n", "slow down"),
                Then::Close,
                json!({ "max_retries": 3 }),
            ),
            ("500", refusal("500 Internal Server Error", "retry-after-ms: 1\r\n", "boom"), Then::Close, json!({ "max_retries": 2 })),
            ("401", refusal("401 Unauthorized", "", "{\"error\":\"no key\"}"), Then::Close, json!({})),
            (
                "a redirect to a private address",
                refusal("307 Temporary Redirect", "location: http://169.254.169.254/latest/meta-data\r\n", ""),
                Then::Close,
                json!({}),
            ),
            ("a page", refusal("200 OK", "content-type: text/html\r\n", "<html><body>Welcome</body></html>"), Then::Close, json!({})),
            ("no HTTP at all", "SSH-2.0-server\r\n".to_owned(), Then::Close, json!({})),
        ]);
    }
    faults
}

#[tokio::test]
async fn whatever_a_server_does_before_its_answer_the_next_provider_gives_one() {
    let mut all = String::new();
    for (name, answer, then, table) in faults("") {
        let (server, asked) = scripted(vec![answer], then).await;
        let agent = over(&server.url(""), table, json!({})).await;
        let mut session = Session::new("s");
        let told = told(&agent, &mut session, "hi", &server.url("")).await;
        let tries = asked.lock().unwrap().len();
        all += &format!("# {name}: asked {tries}\n{told}");
        assert_eq!(lines(session.messages()), "user: hi\nassistant: Second.\n", "{name}");
        agent.host().shutdown().await;
    }
    expect![[r##"
        # cut off: asked 1
        ! openai: the answer of http://HOST/v1/chat/completions broke off: the connection ended before it was complete
        "Second."
        = Second. of fake: fake
        # cut off in an event: asked 1
        ! openai: the answer of http://HOST/v1/chat/completions broke off: the connection ended before it was complete
        "Second."
        = Second. of fake: fake
        # wrong JSON: asked 1
        ! openai: http://HOST/v1/chat/completions answered with no JSON: EOF while parsing a list at line 1 column 13: {"choices": [
        "Second."
        = Second. of fake: fake
        # an error in the stream: asked 1
        ! openai: http://HOST/v1/chat/completions ended its answer with an error: out of memory
        "Second."
        = Second. of fake: fake
        # silence: asked 1
        ! openai: the server said nothing for 2 s
        "Second."
        = Second. of fake: fake
        # silence before the head: asked 1
        ! openai: http://HOST/v1/chat/completions did not answer within 0.1 s
        "Second."
        = Second. of fake: fake
        # 429: asked 1
        ! openai: http://HOST/v1/chat/completions answered 429 Too Many Requests: slow down
        "Second."
        = Second. of fake: fake
        # 429, and too long to wait: asked 1
        ! openai: http://HOST/v1/chat/completions answered 429 Too Many Requests: slow down; it is to be asked again in 3600 s, which is too long to wait
        "Second."
        = Second. of fake: fake
        # 500: asked 3
        ! openai: http://HOST/v1/chat/completions answered 500 Internal Server Error: boom
        "Second."
        = Second. of fake: fake
        # 401: asked 1
        ! openai: http://HOST/v1/chat/completions answered 401 Unauthorized: no key
        "Second."
        = Second. of fake: fake
        # a redirect to a private address: asked 1
        ! openai: http://HOST/v1/chat/completions answered 307 Temporary Redirect: it redirects to the host `169.254.169.254`, and redirects are not followed
        "Second."
        = Second. of fake: fake
        # a page: asked 1
        ! openai: http://HOST/v1/chat/completions answered with a page instead of an answer: <html><body>Welcome</body></html>
        "Second."
        = Second. of fake: fake
        # no HTTP at all: asked 1
        ! openai: HOST gave no answer: invalid HTTP version parsed
        "Second."
        = Second. of fake: fake
    "##]].assert_eq(&all);
}

#[tokio::test]
async fn what_was_shown_is_not_ended_by_another_unless_that_is_configured() {
    let mut all = String::new();
    for (name, answer, then, table) in faults("Half") {
        let (server, asked) = scripted(vec![answer.clone(), STREAM.to_owned() + &text("Whole.") + &end("stop")], then).await;
        let agent = over(&server.url(""), table.clone(), json!({})).await;
        let mut session = Session::new("s");
        all += &format!("# {name}\n{}", told(&agent, &mut session, "hi", &server.url("")).await);
        assert_eq!((session.messages(), asked.lock().unwrap().len()), (&[][..], 1), "{name}: the session is as before");
        if let Then::Close = then {
            let again = told(&agent, &mut session, "again", &server.url("")).await;
            assert_eq!(again, "\"Whole.\"\n= Whole. of openai: m\n", "{name}");
            assert_eq!(lines(session.messages()), "user: again\nassistant: Whole.\n");
        }
        agent.host().shutdown().await;

        let (server, _) = scripted(vec![answer], then).await;
        let agent = over(&server.url(""), table, json!({ "failover_after_text": true })).await;
        let mut session = Session::new("s");
        all += &told(&agent, &mut session, "hi", &server.url("")).await;
        assert_eq!(lines(session.messages()), "user: hi\nassistant: Second.\n", "{name}");
        agent.host().shutdown().await;
    }
    expect![[r##"
        # cut off
        "Half"
        = LLM_COMPLETION_FAILED openai: the answer of http://HOST/v1/chat/completions broke off: the connection ended before it was complete (retryable)
        "Half"
        ! openai: the answer of http://HOST/v1/chat/completions broke off: the connection ended before it was complete (shown)
        "Second."
        = Second. of fake: fake
        # cut off in an event
        "Half"
        = LLM_COMPLETION_FAILED openai: the answer of http://HOST/v1/chat/completions broke off: the connection ended before it was complete (retryable)
        "Half"
        ! openai: the answer of http://HOST/v1/chat/completions broke off: the connection ended before it was complete (shown)
        "Second."
        = Second. of fake: fake
        # wrong JSON
        "Half"
        = LLM_COMPLETION_FAILED openai: http://HOST/v1/chat/completions answered with no JSON: EOF while parsing a list at line 1 column 13: {"choices": [
        "Half"
        ! openai: http://HOST/v1/chat/completions answered with no JSON: EOF while parsing a list at line 1 column 13: {"choices": [ (shown)
        "Second."
        = Second. of fake: fake
        # an error in the stream
        "Half"
        = LLM_COMPLETION_FAILED openai: http://HOST/v1/chat/completions ended its answer with an error: out of memory
        "Half"
        ! openai: http://HOST/v1/chat/completions ended its answer with an error: out of memory (shown)
        "Second."
        = Second. of fake: fake
        # silence
        "Half"
        = EXECUTION_TIMEOUT openai: the server said nothing for 0.1 s (retryable)
        "Half"
        ! openai: the server said nothing for 0.1 s (shown)
        "Second."
        = Second. of fake: fake
    "##]].assert_eq(&all);
}

#[tokio::test]
async fn a_server_that_is_busy_for_a_moment_is_asked_again_and_answers() {
    let busy = |status| refusal(status, "retry-after-ms: 1\r\n", "busy");
    let good = STREAM.to_owned() + &text("Here I am.") + &end("stop");
    let (server, asked) = scripted(vec![busy("429 Too Many Requests"), busy("503 Service Unavailable"), good], Then::Close).await;
    let agent = over(&server.url(""), json!({ "max_retries": 2 }), json!({})).await;
    let mut session = Session::new("s");
    let told = told(&agent, &mut session, "hi", &server.url("")).await;
    assert_eq!((told.as_str(), asked.lock().unwrap().len()), ("\"Here I am.\"\n= Here I am. of openai: m\n", 3));
    assert_eq!(session.usage().total(), 13);
    agent.host().shutdown().await;
}

/// Byte by byte the silence between two pieces stays short, however long the whole takes.
#[tokio::test]
async fn a_slow_drip_is_an_answer() {
    let server = Server::start(|mut peer: Peer, _| async move {
        if chat(&mut peer).await?.is_some() {
            for byte in (STREAM.to_owned() + &text("naïve ") + &text("😀") + &end("stop")).as_bytes() {
                peer.send([*byte]).await?;
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    })
    .await;
    let agent = over(&server.url(""), json!({}), json!({})).await;
    let mut session = Session::new("s");
    assert_eq!(told(&agent, &mut session, "hi", &server.url("")).await, "\"naïve 😀\"\n= naïve 😀 of openai: m\n");
    agent.host().shutdown().await;
}

/// It is ended long before it is whole, and nothing of it stays.
#[tokio::test]
async fn an_answer_of_a_hundred_megabytes_ends_the_turn_and_not_the_program() {
    let server = Server::start(|mut peer: Peer, _| async move {
        if chat(&mut peer).await?.is_some() {
            peer.send(STREAM).await?;
            let piece = text(&"x".repeat(60_000));
            for _ in 0..100_000_000 / piece.len() {
                peer.send(&piece).await?;
            }
        }
        Ok(())
    })
    .await;
    let agent = over(&server.url(""), json!({}), json!({})).await;
    let mut session = Session::new("s");
    let told = told(&agent, &mut session, "hi", &server.url("")).await;
    let (shown, end) = told.trim_end().split_once('\n').unwrap();
    assert!(shown.starts_with("\"xxxxxxxx… ") && end.starts_with("= RESOURCE_EXHAUSTED "), "{told}");
    assert_eq!(session.messages(), []);
    agent.host().shutdown().await;
}

/// Deltas of calls, as servers cut them, come to a call of a real tool, and go back in the form of the protocol.
#[tokio::test]
async fn deltas_of_calls_become_calls_of_a_tool_and_its_answers_go_back() {
    let piece = |calls: Value| event(&json!({ "choices": [{ "index": 0, "delta": { "tool_calls": calls } }] }));
    let asks = STREAM.to_owned()
        + &text("Let me look.")
        + &piece(json!([{ "index": 0, "id": "c1", "type": "function", "function": { "name": "clock", "arguments": "" } }]))
        + &piece(json!([{ "index": 0, "function": { "arguments": "{\"time_" } }]))
        + &piece(json!([{ "index": 1, "id": "c2", "type": "function", "function": { "name": "clock", "arguments": "{\"zone\":" } }]))
        + &piece(json!([{ "index": 0, "function": { "arguments": "zone\":\"UTC\"}" } }]))
        + &piece(json!([{ "index": 1, "function": { "arguments": "1}" } }]))
        + &end("tool_calls");
    let answers = STREAM.to_owned() + &text("It is late.") + &end("stop");
    let (server, asked) = scripted(vec![asks, answers], Then::Close).await;
    let agent = over(&server.url(""), json!({}), json!({})).await;
    let mut session = Session::new("s");
    let told = told(&agent, &mut session, "What time is it?", &server.url("")).await;
    // The time itself is the machine's.
    let time = session.messages()[2].text.clone();
    assert!(time.starts_with("It is ") && time.ends_with("(UTC)."), "{time}");
    expect![[r#"
        "Let me look."
        > clock {"time_zone":"UTC"}
        > clock {"zone":1}
        < clock {"zone":1}: error: INVALID_PARAMS: the arguments do not fit the tool `clock`: zone: is unknown; there is time_zone
        < clock {"time_zone":"UTC"}: TIME
        "It is late."
        = It is late. of openai: m
    "#]]
    .assert_eq(&told.replace(&time, "TIME"));
    let asked = asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 2);
    let tools: Vec<_> = asked[0]["tools"].as_array().unwrap().iter().map(|tool| tool["function"]["name"].clone()).collect();
    assert_eq!(tools, ["clock"]);
    expect![[r#"
        [
          {
            "role": "system",
            "content": "Be brief."
          },
          {
            "role": "user",
            "content": "What time is it?"
          },
          {
            "role": "assistant",
            "content": "Let me look.",
            "tool_calls": [
              {
                "id": "c1",
                "type": "function",
                "function": {
                  "name": "clock",
                  "arguments": "{\"time_zone\":\"UTC\"}"
                }
              },
              {
                "id": "c2",
                "type": "function",
                "function": {
                  "name": "clock",
                  "arguments": "{\"zone\":1}"
                }
              }
            ]
          },
          {
            "role": "tool",
            "tool_call_id": "c1",
            "content": "TIME"
          },
          {
            "role": "tool",
            "tool_call_id": "c2",
            "content": "error: INVALID_PARAMS: the arguments do not fit the tool `clock`: zone: is unknown; there is time_zone"
          }
        ]"#]]
    .assert_eq(&serde_json::to_string_pretty(&asked[1]["messages"]).unwrap().replace(&time, "TIME"));
    agent.host().shutdown().await;
}

/// A call that cannot be run was shown to nobody: the next provider is asked.
#[tokio::test]
async fn a_call_that_is_cut_off_is_not_run() {
    let call = json!([{ "index": 0, "id": "c1", "function": { "name": "clock", "arguments": "{\"time_zone\":\"U" } }]);
    let begun = STREAM.to_owned() + &event(&json!({ "choices": [{ "index": 0, "delta": { "tool_calls": call } }] }));
    let mut all = String::new();
    for answer in [begun.clone(), begun + &end("tool_calls")] {
        let (server, _) = scripted(vec![answer], Then::Close).await;
        let agent = over(&server.url(""), json!({}), json!({})).await;
        let mut session = Session::new("s");
        all += &told(&agent, &mut session, "hi", &server.url("")).await;
        assert_eq!(lines(session.messages()), "user: hi\nassistant: Second.\n");
        agent.host().shutdown().await;
    }
    expect![[r#"
        ! openai: the answer of http://HOST/v1/chat/completions broke off: the connection ended before it was complete
        "Second."
        = Second. of fake: fake
        ! openai: the model made a call that cannot be run: it calls `clock` with arguments that are no JSON (EOF while parsing a string at line 1 column 15)
        "Second."
        = Second. of fake: fake
    "#]].assert_eq(&all);
}

/// The connection is what a server sees of a turn that has ended.
#[tokio::test]
async fn a_turn_that_is_cancelled_closes_its_connection() {
    let (gone, mut closed) = mpsc::unbounded_channel();
    let server = Server::start(move |mut peer: Peer, _| {
        let gone = gone.clone();
        async move {
            if chat(&mut peer).await?.is_some() {
                peer.send(STREAM.to_owned() + &text("Once ")).await?;
                peer.closed().await;
                let _ = gone.send(());
            }
            Ok(())
        }
    })
    .await;
    let agent = over(&server.url(""), json!({}), json!({})).await;
    let (cancel, mut session) = (CancelToken::new(), Session::new("s"));
    let cx = CallCx::new().with_cancel(cancel.clone());
    let turn = agent.turn(&cx, &mut session, "hi", |_| cancel.cancel());
    let error = tokio::time::timeout(LONG, turn).await.expect("it hangs").unwrap_err();
    assert_eq!((error.code(), lines(session.messages()).as_str()), (Code::CANCELLED, "user: hi\nassistant: Once \n"));
    tokio::time::timeout(LONG, closed.recv()).await.expect("the connection is open").unwrap();
    agent.host().shutdown().await;
}

/// llama.cpp with SmolLM2, ended with the test. The variables that say where both lie are set by `cargo xtask test`.
struct Real {
    server: Child,
    url: String,
}

impl Real {
    async fn start() -> Self {
        let mut server = Command::new(variable("BESPOKE_PYTHON"))
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../provider-openai/tests/openai_server.py"))
            .arg(model())
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
        let output = BufReader::new(server.stdout.take().unwrap());
        let url = tokio::task::spawn_blocking(|| {
            let mut lines = output.lines().map_while(Result::ok);
            lines.find_map(|line| line.strip_prefix("listening ").map(|url| url.trim().to_owned()))
        });
        let Some(url) = url.await.unwrap() else {
            let _ = server.wait();
            panic!("the server did not start:\n{}", log.join().unwrap());
        };
        Real { server, url }
    }

    /// The one place in which it answers.
    async fn slot(&self) -> Value {
        let mut stream = TcpStream::connect(self.url.trim_start_matches("http://")).await.unwrap();
        stream.write_all(b"GET /slots HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let slots = &answer[answer.find("\r\n\r\n").unwrap()..];
        let slots: Vec<Value> = serde_json::from_str(&slots[slots.find('[').unwrap()..=slots.rfind(']').unwrap()]).unwrap();
        slots.into_iter().next().unwrap()
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

/// One start for all: loading the model is what takes time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_server_answers_remembers_calls_a_tool_and_stops() {
    let real = Real::start().await;
    let keys = |tools: Value| json!({ "provider": ["openai"], "temperature": 0.0, "max_tokens": 24, "tools": tools });

    // Two turns: of the second the server remembers what it has read and written in the first.
    let agent = over(&real.url, json!({ "tools": "schema" }), keys(json!([]))).await;
    let mut session = Session::new("s");
    let cx = CallCx::new();
    let first = agent.turn(&cx, &mut session, "What is the capital of France?", |_| {}).await.unwrap();
    assert!(first.text.contains("Paris") && first.provider == "openai", "{first:?}");
    let second = agent.turn(&cx, &mut session, "And of Italy?", |_| {}).await.unwrap();
    let (before, usage) = (first.usage.unwrap(), second.usage.unwrap());
    assert!((before.prompt_tokens..usage.prompt_tokens).contains(&usage.cached_tokens), "{before:?} {usage:?}");
    assert_eq!(session.usage(), before.plus(usage));
    assert_eq!(session.messages().len(), 4);

    // A story of more than 900 tokens, cut off at its beginning: the server stops to write it.
    let keys_of_story = json!({ "provider": ["openai"], "temperature": 0.0, "max_tokens": 1900, "tools": [] });
    let long = over(&real.url, json!({}), keys_of_story).await;
    let (cancel, mut story, mut heard) = (CancelToken::new(), Session::new("story"), String::new());
    let cancelled = CallCx::new().with_cancel(cancel.clone());
    let turn = long.turn(&cancelled, &mut story, "Tell me a very long story.", |event| {
        if let TurnEvent::Text(piece) = event {
            heard += &piece;
            if heard.len() > 20 {
                cancel.cancel();
            }
        }
    });
    assert_eq!(turn.await.unwrap_err().code(), Code::CANCELLED);
    assert_eq!(story.messages().last().unwrap().text, heard);
    let stopped = async {
        loop {
            let slot = real.slot().await;
            if slot["is_processing"] == false {
                break;
            }
            let written = slot["next_token"][0]["n_decoded"].as_u64().unwrap();
            assert!(written < 900, "it writes for nobody: {written} tokens");
        }
    };
    tokio::time::timeout(LONG, stopped).await.expect("its place is taken");
    let next = agent.turn(&cx, &mut Session::new("next"), "What is the capital of France?", |_| {}).await.unwrap();
    assert_eq!(next.text, first.text, "greedy, and from the same words");

    // A model that knows no calls is led to a tool by schemas, and answers with what it learned.
    let spec = ToolSpec::new("calendar", "Tells which day it is today. Call it whenever the answer depends on the day.")
        .input(json!({ "type": "object", "properties": {}, "additionalProperties": false }));
    let calendar = plug("calendar", [with_spec(spec, |_, _| async { Ok(ToolOutput::text("It is Friday, 20 November.")) })]);
    let led = over_with([calendar], &real.url, json!({ "tools": "schema" }), keys(json!(["calendar"]))).await;
    let (mut session, mut events) = (Session::new("led"), Vec::new());
    let question = "Which day of the week is it?";
    let turn = led.turn(&cx, &mut session, question, |event| events.push(line(&event))).await.unwrap();
    assert_eq!(&events[..2], ["> calendar {}", "< calendar {}: It is Friday, 20 November."]);
    assert!(turn.text.contains("Friday") && turn.tool_calls == 1, "{turn:?}");
    let kept = format!(
        "user: {question}\nassistant: [call-0-0 calendar {{}}]\ntool call-0-0: It is Friday, 20 November.\nassistant: {}\n",
        turn.text
    );
    assert_eq!(lines(session.messages()), kept);

    // Arguments are written under the schema of the tool. What a model this small writes is seldom of use; it is told so, and
    // answers before its rounds are over.
    let clock = over(&real.url, json!({ "tools": "schema" }), keys(json!(["clock"]))).await;
    let (mut session, mut asked) = (Session::new("clock"), Vec::new());
    let turn = clock.turn(&cx, &mut session, "What day is it today?", |event| {
        if let TurnEvent::ToolFinished { call, output } = event {
            asked.push((call, output));
        }
    });
    let turn = turn.await.unwrap();
    assert!((1..clock.config().max_tool_steps).contains(&turn.tool_calls) && !turn.text.is_empty(), "{turn:?} {asked:?}");
    for (call, output) in asked {
        assert!(call.args.as_object().unwrap().iter().all(|(key, zone)| key == "time_zone" && zone.is_string()), "{call:?}");
        assert!(!output.to_text().contains("do not fit"), "{output:?}");
    }
}
