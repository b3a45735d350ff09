//! Servers on loopback that misbehave, behind the real client of the host.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use bespoke_host::{HttpAllowed, HttpClient};
use bespoke_http::{
    Client,
    testing::{Peer, Server},
};
use bespoke_plugin_api::{
    CallCx, ChatDelta, Code, Contract, HostApi, Instance, Provider, Result,
    serde_json::{Value, json},
};
use bespoke_plugin_testkit::{Clock, TestHost};
use bespoke_provider_openai::BESPOKE_PLUGIN;
use futures_util::StreamExt;
use tokio::sync::oneshot;

use crate::memory::{ANSWER, TOLD, hello, says, told};

/// The head of a stream whose end is the end of the connection.
const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";

const HALF: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}\n\n";

/// The plugin before a server, with the clock of the test and the network of the machine.
struct Set {
    host: Arc<TestHost>,
    instance: Instance,
}

impl Set {
    async fn new(server: &Server, mut config: Value) -> Self {
        let host = TestHost::with_clock(Clock::Manual);
        let (client, allowed) = (Client::new(), HttpAllowed::new("openai").private(server.address().to_string()));
        host.on_http_later(move |request| client.send(allowed.clone(), request));
        config["base_url"] = json!(server.url("/v1"));
        config["model"] = json!("m");
        let instance = BESPOKE_PLUGIN.start(host.context("openai"), config).await.unwrap();
        Set { host, instance }
    }

    fn provider(&self) -> Arc<dyn Provider> {
        self.instance.contributions.iter().find_map(<dyn Provider>::of).unwrap().1.clone()
    }

    async fn chat(&self) -> Result<String> {
        told(self.provider().chat(&CallCx::new(), hello()).await?).await
    }

    /// Moves the clock as often as somebody sleeps, until the work is done.
    async fn chat_while_time_passes(&self) -> Result<String> {
        let mut chat = std::pin::pin!(self.chat());
        loop {
            tokio::select! {
                biased;
                done = &mut chat => return done,
                () = tokio::time::sleep(Duration::from_millis(5)) => self.host.advance(Duration::from_millis(500)),
            }
        }
    }
}

/// A server that answers each request with the text for its number, the last one again and again, and closes.
async fn scripted(answers: &[String]) -> (Server, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (answers, seen) = (answers.to_vec(), asked.clone());
    let server = Server::start(move |mut peer: Peer, n| {
        let (answer, seen) = (answers[n.min(answers.len() - 1)].clone(), seen.clone());
        async move {
            let request = peer.request().await?;
            seen.lock().unwrap().push(request);
            peer.send(answer).await
        }
    })
    .await;
    (server, asked)
}

fn refusal(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n{body}", body.len())
}

#[tokio::test]
async fn a_stream_with_calls_arrives_whole() {
    let chunked: String = ANSWER.as_bytes().chunks(40).map(|c| format!("{:x}\r\n{}\r\n", c.len(), String::from_utf8_lossy(c))).collect();
    // Cut between characters: the text above is put together as text.
    assert!(!chunked.contains('\u{fffd}'));
    let head = STREAM.replace("connection: close", "transfer-encoding: chunked");
    let (server, asked) = scripted(&[format!("{head}{chunked}0\r\n\r\n")]).await;
    assert_eq!(Set::new(&server, json!({})).await.chat().await.unwrap(), TOLD);
    let request = asked.lock().unwrap()[0].clone();
    assert!(request.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{request}");
    let body: Value = bespoke_plugin_api::serde_json::from_str(request.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!((&body["stream"], &body["messages"][0]["content"]), (&json!(true), &json!("Hello?")));
}

#[tokio::test]
async fn a_slow_drip_arrives_whole() {
    let server = Server::start(|mut peer: Peer, _| async move {
        peer.request().await?;
        peer.send(STREAM).await?;
        for byte in ANSWER.as_bytes() {
            peer.send([*byte]).await?;
            tokio::task::yield_now().await;
        }
        Ok(())
    })
    .await;
    assert_eq!(Set::new(&server, json!({})).await.chat().await.unwrap(), TOLD);
}

#[tokio::test]
async fn an_answer_that_is_cut_short_is_an_error_and_never_an_end() {
    let short = "HTTP/1.1 200 OK\r\ncontent-length: 9000\r\nconnection: close\r\n\r\n";
    for answer in [format!("{STREAM}{HALF}"), format!("{short}{HALF}")] {
        let (server, _) = scripted(&[answer]).await;
        let set = Set::new(&server, json!({})).await;
        let mut answer = set.provider().chat(&CallCx::new(), hello()).await.unwrap();
        assert_eq!(answer.next().await.unwrap().unwrap(), ChatDelta::text("Hel"));
        let error = answer.next().await.unwrap().unwrap_err();
        assert!(error.message().contains("broke off"), "{error}");
        assert_eq!((error.code(), error.is_retryable()), (Code::LLM_COMPLETION_FAILED, true));
        assert!(answer.next().await.is_none());
        assert_eq!(server.accepted(), 1, "what was begun is not begun again");
    }
}

#[tokio::test]
async fn what_passes_is_tried_again() {
    let good = format!("{STREAM}{}", says("Hi"));
    let limited = refusal("429 Too Many Requests", "retry-after: 2\r\n", "slow down");
    let broken = refusal("500 Internal Server Error", "", "boom");
    let (server, _) = scripted(&[limited, broken, STREAM.to_owned(), good]).await;
    let set = Set::new(&server, json!({ "first_token_timeout_ms": 3_600_000 })).await;
    let begun = set.host.now();
    assert_eq!(set.chat_while_time_passes().await.unwrap(), "Hi|Stop");
    assert_eq!(server.accepted(), 4);
    assert!(begun.until(set.host.now()) >= Duration::from_secs(2 + 1 + 2));
}

#[tokio::test]
async fn refusals_are_told_once_with_what_helps() {
    for (answer, message, help) in [
        (
            refusal("401 Unauthorized", "", "{\"error\":{\"message\":\"no key\"}}"),
            "answered 401 Unauthorized: no key",
            "export OPENAI_API_KEY=…",
        ),
        (refusal("404 Not Found", "", "<h1>nothing here</h1>"), "answered 404 Not Found: <h1>nothing here</h1>", "plugins.openai.base_url"),
        (
            refusal("302 Found", "location: http://169.254.169.254/latest/meta-data\r\n", ""),
            "redirects to the host `169.254.169.254`, and redirects are not followed",
            "plugins.openai.base_url",
        ),
        (format!("{STREAM}data: {{\"choices\": [\n\n"), "answered with no JSON", "plugins.openai.base_url"),
    ] {
        let (server, _) = scripted(&[answer]).await;
        let error = Set::new(&server, json!({})).await.chat().await.unwrap_err();
        assert!(error.message().contains(message), "{error}");
        assert!(error.help().unwrap().contains(help), "{error:?}");
        assert_eq!((server.accepted(), error.is_retryable()), (1, false));
    }
}

#[tokio::test]
async fn nobody_there_is_tried_again_and_then_told() {
    let server = Server::of("").await;
    let set = Set::new(&server, json!({ "max_retries": 2, "first_token_timeout_ms": 3_600_000 })).await;
    drop(server);
    let error = set.chat_while_time_passes().await.unwrap_err();
    assert_eq!((error.code(), error.is_retryable()), (Code::NETWORK_FAILED, true));
    assert!(error.help().unwrap().contains("is the server running?"), "{error:?}");
}

/// Whether a future is still under way.
async fn waits<F: Future + Unpin>(future: &mut F) -> bool {
    std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx).is_pending())).await
}

/// A server that sends this after the request, and then nothing.
async fn silent_after(sent: String) -> Server {
    Server::start(move |mut peer: Peer, _| {
        let sent = sent.clone();
        async move {
            peer.request().await?;
            peer.send(sent).await?;
            peer.closed().await;
            Ok(())
        }
    })
    .await
}

#[tokio::test]
async fn silence_is_bounded_before_the_head_before_the_answer_and_within_it() {
    // The head is the client's to wait for, by the machine's clock.
    let server = silent_after(String::new()).await;
    let error = Set::new(&server, json!({ "first_token_timeout_ms": 50 })).await.chat().await.unwrap_err();
    assert!(error.message().ends_with("/v1/chat/completions did not answer within 0.05 s"), "{error}");
    assert_eq!((error.code(), error.is_retryable(), server.accepted()), (Code::EXECUTION_TIMEOUT, true, 1));

    for (sent, limit) in [(STREAM.to_owned(), 60), (format!("{STREAM}{HALF}"), 30)] {
        let server = silent_after(sent).await;
        let set = Set::new(&server, json!({})).await;
        let mut answer = set.provider().chat(&CallCx::new(), hello()).await.unwrap();
        if limit == 30 {
            assert_eq!(answer.next().await.unwrap().unwrap(), ChatDelta::text("Hel"));
        }
        let mut next = answer.next();
        assert!(waits(&mut next).await);
        set.host.advance(Duration::from_secs(limit) - Duration::from_millis(1));
        assert!(waits(&mut next).await);
        set.host.advance(Duration::from_millis(1));
        let error = next.await.unwrap().unwrap_err();
        assert_eq!(error.message(), format!("the server said nothing for {limit} s"));
        assert_eq!((error.code(), error.is_retryable(), server.accepted()), (Code::EXECUTION_TIMEOUT, true, 1));
    }
}

#[tokio::test]
async fn a_server_sees_that_nobody_reads_any_more() {
    // Dropped in the middle of the answer; cancelled there; dropped before its head.
    for way in ["dropped", "cancelled", "before the head"] {
        let (gone, seen) = oneshot::channel();
        let (arrived, asked) = oneshot::channel();
        let once = Arc::new(Mutex::new(Some((gone, arrived))));
        let server = Server::start(move |mut peer: Peer, _| {
            let once = once.lock().unwrap().take();
            async move {
                let (gone, arrived) = once.ok_or(io::ErrorKind::Other)?;
                peer.request().await?;
                let _ = arrived.send(());
                if way != "before the head" {
                    peer.send(format!("{STREAM}{HALF}")).await?;
                }
                peer.closed().await;
                let _ = gone.send(());
                Ok(())
            }
        })
        .await;
        let set = Set::new(&server, json!({})).await;
        let cx = CallCx::new();
        if way == "before the head" {
            let chat = set.provider();
            let chat = chat.chat(&cx, hello());
            tokio::select! {
                _ = chat => panic!("there is no answer"),
                arrived = asked => arrived.unwrap(),
            }
        } else {
            let mut answer = set.provider().chat(&cx, hello()).await.unwrap();
            assert_eq!(answer.next().await.unwrap().unwrap(), ChatDelta::text("Hel"));
            if way == "cancelled" {
                cx.cancel_token().cancel();
                assert_eq!(answer.next().await.unwrap().unwrap_err().code(), Code::CANCELLED);
                assert!(answer.next().await.is_none());
            }
        }
        tokio::time::timeout(Duration::from_secs(30), seen).await.unwrap_or_else(|_| panic!("{way}: the connection is open")).unwrap();
    }
}

#[tokio::test]
async fn an_answer_of_a_hundred_megabytes_is_ended_and_not_kept() {
    let server = Server::start(|mut peer: Peer, _| async move {
        peer.request().await?;
        peer.send(STREAM).await?;
        let piece = says(&"x".repeat(60_000)).split("\n\n").next().map(|first| format!("{first}\n\n")).unwrap_or_default();
        for _ in 0..100 * 1_000_000 / piece.len() {
            peer.send(&piece).await?;
        }
        Ok(())
    })
    .await;
    let set = Set::new(&server, json!({})).await;
    let mut answer = set.provider().chat(&CallCx::new(), hello()).await.unwrap();
    let mut text = 0;
    let error = loop {
        match answer.next().await.unwrap() {
            Ok(ChatDelta::Text { text: more, .. }) => text += more.len(),
            Ok(other) => panic!("{other:?}"),
            Err(e) => break e,
        }
    };
    assert_eq!(error.code(), Code::RESOURCE_EXHAUSTED);
    assert!((60_000_000..(64 << 20)).contains(&text), "{text}");
    assert!(answer.next().await.is_none());
}
