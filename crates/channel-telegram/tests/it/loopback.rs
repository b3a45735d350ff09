//! Servers on loopback that misbehave as only sockets can, behind the real client of the host.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bespoke_channel_telegram::BESPOKE_PLUGIN;
use bespoke_host::{HttpAllowed, HttpClient};
use bespoke_http::{
    Client,
    testing::{Peer, Server},
};
use bespoke_plugin_api::{
    Attachment, CallCx, CancelToken, Channel, Code, Inbox, Instance, Outbound,
    serde_json::{Value, json},
};
use bespoke_plugin_testkit::{Clock, TestHost};

use crate::kit::{Kept, LONG, TOKEN, of, update};

struct Set {
    host: Arc<TestHost>,
    instance: Instance,
}

impl Set {
    async fn new(server: &Server) -> Self {
        let host = TestHost::with_clock(Clock::Real);
        let (client, allowed) = (Client::new(), HttpAllowed::new("telegram").private(server.address().to_string()));
        host.on_http_later(move |request| client.send(allowed.clone(), request));
        let config = json!({ "token": TOKEN, "base_url": server.url(""), "allowed_users": [7] });
        let instance = BESPOKE_PLUGIN.start(host.context("telegram"), config).await.unwrap();
        Set { host, instance }
    }
}

fn answer(body: &Value) -> String {
    let body = body.to_string();
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

/// The method, and the body of a request.
fn parts(request: &str) -> (String, String) {
    let path = request.split(' ').nth(1).unwrap_or_default();
    let method = path.rsplit('/').next().unwrap_or_default().to_owned();
    (method, request.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

/// A server whose answers to `getUpdates` break off in each way that there is, before it has a message.
#[tokio::test(flavor = "multi_thread")]
async fn answers_that_break_off_are_asked_for_again() {
    let message = json!({ "ok": true, "result": [update(1, 1, "hello")] });
    let whole = answer(&message);
    let faults = [
        String::new(),
        "HTTP/1.1 200 OK\r\ncontent-le".to_owned(),
        whole[..whole.len() - 20].to_owned(),
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"ok\"\r\n".to_owned(),
    ];
    let count = Arc::new(Mutex::new(0));
    let server = Server::start(move |mut peer: Peer, _| {
        let (faults, count, whole) = (faults.clone(), count.clone(), whole.clone());
        async move {
            let (method, body) = parts(&peer.request().await?);
            if method == "getMe" {
                return peer.send(answer(&json!({ "ok": true, "result": { "id": 4711, "username": "bespoke_bot" } }))).await;
            }
            if body.contains("\"offset\":2") {
                peer.closed().await;
                return Ok(());
            }
            let n = {
                let mut count = count.lock().unwrap();
                *count += 1;
                *count - 1
            };
            peer.send(faults.get(n).unwrap_or(&whole)).await
        }
    })
    .await;
    let set = Set::new(&server).await;
    let (inbox, token) = (Kept::new(), CancelToken::new());
    let (channel, cx) = (of::<dyn Channel>(&set.instance), CallCx::new().with_cancel(token.clone()));
    let sink = Inbox::new(inbox.clone());
    let running = tokio::spawn(async move { channel.run(&cx, sink).await });
    let texts = tokio::task::spawn_blocking(move || inbox.texts(1)).await.unwrap();
    assert_eq!(texts, ["7 1 hello"]);
    token.cancel();
    tokio::time::timeout(LONG, running).await.expect("it ends when it is told to").unwrap().unwrap();
    for (_, line) in set.host.lines() {
        assert!(!line.contains("secret-Token"), "{line}");
    }
}

/// A long poll that nobody answers ends at once when the channel is stopped.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_under_way_ends_with_the_channel() {
    let (gone, seen) = tokio::sync::oneshot::channel();
    let gone = Arc::new(Mutex::new(Some(gone)));
    let (arrived, asked) = tokio::sync::oneshot::channel();
    let arrived = Arc::new(Mutex::new(Some(arrived)));
    let server = Server::start(move |mut peer: Peer, _| {
        let (gone, arrived) = (gone.clone(), arrived.clone());
        async move {
            let (method, _) = parts(&peer.request().await?);
            if method == "getMe" {
                return peer.send(answer(&json!({ "ok": true, "result": { "id": 4711, "username": "bespoke_bot" } }))).await;
            }
            if let Some(arrived) = arrived.lock().unwrap().take() {
                let _ = arrived.send(());
            }
            peer.closed().await;
            if let Some(gone) = gone.lock().unwrap().take() {
                let _ = gone.send(());
            }
            Ok(())
        }
    })
    .await;
    let set = Set::new(&server).await;
    let token = CancelToken::new();
    let (channel, cx) = (of::<dyn Channel>(&set.instance), CallCx::new().with_cancel(token.clone()));
    let running = tokio::spawn(async move { channel.run(&cx, Inbox::new(Kept::new())).await });
    tokio::time::timeout(LONG, asked).await.expect("it asks for messages").unwrap();
    token.cancel();
    tokio::time::timeout(LONG, running).await.expect("it ends").unwrap().unwrap();
    tokio::time::timeout(LONG, seen).await.expect("the connection is closed").unwrap();
}

/// A form arrives as servers read forms, and its bytes unchanged.
#[tokio::test(flavor = "multi_thread")]
async fn a_voice_note_goes_over_a_socket() {
    let seen = Arc::new(Mutex::new(String::new()));
    let kept = seen.clone();
    let server = Server::start(move |mut peer: Peer, _| {
        let kept = kept.clone();
        async move {
            *kept.lock().unwrap() = peer.request().await?;
            peer.send(answer(&json!({ "ok": true, "result": { "message_id": 5 } }))).await
        }
    })
    .await;
    let set = Set::new(&server).await;
    let channel = of::<dyn Channel>(&set.instance);
    let message = Outbound::new("7", "").attachments(vec![Attachment::voice("audio/ogg", "OggS".repeat(20_000))]);
    let sent = tokio::time::timeout(LONG, channel.send(&CallCx::new(), message)).await.expect("it is sent").unwrap();
    assert_eq!(sent.id, "5");
    let request = seen.lock().unwrap().clone();
    assert!(request.starts_with(&format!("POST /bot{TOKEN}/sendVoice HTTP/1.1\r\n")), "{}", &request[..200]);
    assert!(request.contains(&"OggS".repeat(20_000)));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_told_without_the_token() {
    let server = Server::of("").await;
    let set = Set::new(&server).await;
    drop(server);
    let channel = of::<dyn Channel>(&set.instance);
    let cx = CallCx::new().with_deadline(bespoke_plugin_api::HostApi::now(&*set.host).plus(Duration::from_secs(30)));
    let error = tokio::time::timeout(LONG, channel.send(&cx, Outbound::new("7", "hello"))).await.expect("it ends").unwrap_err();
    assert!(error.is_retryable() && !format!("{error:?}").contains("secret-Token"), "{error:?}");
    assert_eq!(error.data().unwrap(), &json!({ "may_have_arrived": false }));
}

/// The message has arrived, and nobody hears of it: it is not sent a second time here.
#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_breaks_after_the_message_is_left_to_the_host() {
    for fault in ["", "HTTP/1.1 200 OK\r\ncontent-length: 90\r\n\r\n{\"ok\":true,"] {
        let count = Arc::new(Mutex::new(0));
        let arrived = count.clone();
        let server = Server::start(move |mut peer: Peer, _| {
            let arrived = arrived.clone();
            async move {
                peer.request().await?;
                *arrived.lock().unwrap() += 1;
                peer.send(fault).await
            }
        })
        .await;
        let set = Set::new(&server).await;
        let (channel, cx) = (of::<dyn Channel>(&set.instance), CallCx::new());
        let sent = channel.send(&cx, Outbound::new("7", "hello"));
        let error = tokio::time::timeout(LONG, sent).await.expect("it ends").unwrap_err();
        assert!(error.code() == Code::NETWORK_FAILED && error.is_retryable(), "{error:?}");
        assert!(error.data().is_none_or(|data| data["may_have_arrived"] == true), "{error:?}");
        assert_eq!(*count.lock().unwrap(), 1, "{fault:?}");
    }
}
