//! The webhook channel as it runs in a program: over sockets in both directions, through the host's client and its permissions.

use std::{
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use bespoke_gateway::{Gateway, GatewayConfig};
use bespoke_host::{Config, Host, Selection};
use bespoke_plugin_api::{
    BoxFuture, CallCx, CancelToken, Channel, Code, Inbound, Inbox, InboxSink, MessageRef, Outbound, Result,
    serde_json::{Value, from_str, json},
};
use bespoke_signed::{sign, verify};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use crate::{
    peer::{Answer, Peer},
    world::{LIMIT, within},
};

const KEY: &str = "s3cret-key-of-both-sides";

/// What comes in, in the order in which it was taken.
struct Sink(mpsc::UnboundedSender<Inbound>);

impl InboxSink for Sink {
    fn accept(&self, message: Inbound) -> BoxFuture<'static, Result<()>> {
        self.0.send(message).unwrap();
        Box::pin(std::future::ready(Ok(())))
    }
}

/// A service that answers each request with the next of its answers, and keeps what it was asked.
async fn service(answers: &'static [&'static str]) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/answers", listener.local_addr().unwrap());
    let seen = Arc::<Mutex<Vec<String>>>::default();
    let kept = seen.clone();
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let request = request(&mut stream).await;
            kept.lock().unwrap().push(request);
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (url, seen)
}

async fn request(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    loop {
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
            if body.len() >= length {
                return text;
            }
        }
        let mut chunk = [0; 4096];
        let n = stream.read(&mut chunk).await.unwrap();
        assert!(n > 0, "broke off after {text:?}");
        text += std::str::from_utf8(&chunk[..n]).unwrap();
    }
}

fn header<'a>(request: &'a str, name: &str) -> &'a str {
    let found = request.lines().find_map(|line| line.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)));
    found.unwrap_or_else(|| panic!("no {name} in {request}")).1
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

async fn post(peer: &mut Peer, second: u64, key: &str, body: &str) -> Answer {
    let signature = sign(key.as_bytes(), second, body.as_bytes());
    let head = "POST /hooks/webhook/messages HTTP/1.1\r\nHost: x\r\nContent-Type: application/json";
    let length = body.len();
    peer.send(format!(
        "{head}\r\nX-Bespoke-Timestamp: {second}\r\nX-Bespoke-Signature: {signature}\r\nContent-Length: {length}\r\n\r\n{body}"
    ))
    .await;
    peer.answer().await
}

#[tokio::test]
async fn a_message_comes_in_and_its_answer_goes_out() {
    let (url, seen) = service(&[
        "HTTP/1.1 429 Slow\r\nretry-after: 2\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 12\r\nconnection: close\r\n\r\n{\"id\":\"m-1\"}",
    ])
    .await;
    let file = format!("[plugins.webhook]\nurl = '{url}'\n[plugins.webhook.secrets]\nsigning_key = '{KEY}'\n");
    let config = Config::parse("bespoke.toml", &file).unwrap();
    let host = Host::builder()
        .config(config)
        .plugins([&bespoke_channel_webhook::BESPOKE_PLUGIN])
        .http(Arc::new(bespoke_http::Client::new()))
        .build()
        .unwrap();
    within(host.start(Selection::All)).await;
    let mut settings = GatewayConfig::default();
    settings.listen = "127.0.0.1:0".into();
    let gateway = Gateway::bind(host.clone(), settings).await.unwrap();
    let (address, stop) = (gateway.address(), CancelToken::new());
    let serving = tokio::spawn(gateway.serve(stop.clone()));

    let channel = host.registry().get::<dyn Channel>("webhook").unwrap();
    let (sender, mut taken) = mpsc::unbounded_channel();
    let (inbox, listening) = (Inbox::new(Arc::new(Sink(sender))), CancelToken::new());
    let (line, cx) = (channel.clone(), CallCx::new().with_cancel(listening.clone()));
    let running = tokio::spawn(async move { line.run(&cx, move |channel, cx| async move { channel.run(&cx, inbox).await }).await });

    let mut peer = Peer::new(address).await;
    let body = json!({ "chat": "room", "sender": "ann", "id": "1", "text": "Hello, ünïcode." }).to_string();
    // It runs as soon as it does not say any more that nobody listens.
    let accepted = within(async {
        loop {
            match post(&mut peer, now(), KEY, &body).await {
                answer if answer.status == 503 => tokio::task::yield_now().await,
                answer => return answer,
            }
        }
    })
    .await;
    assert_eq!((accepted.status, from_str::<Value>(&accepted.body).unwrap()), (202, json!({ "status": "accepted", "id": "1" })));
    assert_eq!(within(taken.recv()).await.unwrap(), Inbound::new("room", "ann", "1", "Hello, ünïcode."));
    assert_eq!(post(&mut peer, now(), KEY, &body).await.status, 200, "once");
    assert_eq!(post(&mut peer, now(), "another key of somebody", &body).await.status, 401);
    assert_eq!(post(&mut peer, now() - 400, KEY, &body).await.status, 401);

    let send = async || {
        let message = Outbound::new("room", "Hi, Ann!").idempotency_key("out-1".into());
        within(channel.call(&CallCx::new(), |channel, cx| async move { channel.send(&cx, message).await })).await
    };
    let slow = send().await.unwrap_err();
    assert_eq!((slow.code(), slow.is_retryable(), slow.data()), (Code::NETWORK_FAILED, true, Some(&json!({ "retry_after_ms": 2000 }))));
    assert_eq!(send().await, Ok(MessageRef::new("room", "m-1")));
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen.len(), 2);
    for request in &seen {
        assert!(request.starts_with("POST /answers HTTP/1.1\r\n"), "{request}");
        let body = request.split_once("\r\n\r\n").unwrap().1;
        assert_eq!(from_str::<Value>(body).unwrap(), json!({ "chat": "room", "text": "Hi, Ann!", "idempotency_key": "out-1" }));
        assert_eq!(header(request, "idempotency-key"), "out-1");
        let (time, signature) = (header(request, "x-bespoke-timestamp"), header(request, "x-bespoke-signature"));
        assert_eq!(verify(KEY.as_bytes(), time, signature, body.as_bytes(), now(), LIMIT), Ok(()));
    }

    listening.cancel();
    within(running).await.unwrap().unwrap();
    assert_eq!(post(&mut peer, now(), KEY, &body).await.status, 503);
    stop.cancel();
    within(serving).await.unwrap();
    within(host.shutdown()).await;
}
