//! What is said over a connection.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bespoke_control::{
    BindError, Client, ClientError, Fault, Handler, Held, Items, LONGEST_REQUEST, MOST_CONNECTIONS, MOST_REQUESTS, Peer, Server,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    sync::{Notify, oneshot},
};

/// Longer than anything takes, even where two cores are shared by many.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// A server that does what it is told, and counts.
#[derive(Default)]
pub(crate) struct Answers {
    refuse: AtomicBool,
    connected: AtomicUsize,
    disconnected: AtomicUsize,
    /// Requests that wait now.
    waiting: Arc<AtomicUsize>,
    sent: AtomicUsize,
    go: Notify,
    changed: Arc<Notify>,
}

/// Counts while it is there.
struct Waiting(Arc<AtomicUsize>, Arc<Notify>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
        self.1.notify_waiters();
    }
}

impl Answers {
    /// Waits until something is so.
    async fn until(&self, is_so: impl Fn(&Self) -> bool) {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if is_so(self) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(LIMIT, wait).await.expect("it does not come to that");
    }

    fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }
}

impl Handler for Answers {
    async fn connected(&self, peer: &Peer) -> Result<(), Fault> {
        assert_eq!(peer.pid, Some(std::process::id().cast_signed()));
        self.connected.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_waiters();
        if self.refuse.load(Ordering::SeqCst) {
            return Err(Fault::new(-32053, "not today").with_help(Some("come tomorrow".into())));
        }
        Ok(())
    }

    async fn disconnected(&self, _: &Peer) {
        self.disconnected.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    async fn call(&self, _: &Peer, method: &str, params: Value, items: &Items) -> Result<Value, Fault> {
        match method {
            "echo" => Ok(params),
            "fail" => Err(Fault::new(1203, "slow down").with_help(Some("wait".into())).with_data(json!({ "exit": 7 }))),
            "panic" => panic!("as it was told"),
            "count" => {
                let to = params["to"].as_u64().unwrap_or(0);
                for n in 0..to {
                    items.send(&json!({ "n": n, "pad": params["pad"] })).await?;
                    self.sent.fetch_add(1, Ordering::SeqCst);
                    self.changed.notify_waiters();
                }
                Ok(json!(to))
            }
            "wait" => {
                self.waiting.fetch_add(1, Ordering::SeqCst);
                let _waiting = Waiting(self.waiting.clone(), self.changed.clone());
                self.changed.notify_waiters();
                self.go.notified().await;
                Ok(json!("went"))
            }
            other => Err(Fault::no_method(other)),
        }
    }
}

struct Running {
    _folder: TempDir,
    path: PathBuf,
    answers: Arc<Answers>,
    stop: Option<oneshot::Sender<()>>,
    served: tokio::task::JoinHandle<Held>,
}

fn running() -> Running {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run/control.sock");
    let server = Server::bind(&path).unwrap();
    let answers = Arc::new(Answers::default());
    let (stop, stopped) = oneshot::channel();
    let served = tokio::spawn(server.serve(answers.clone(), async move { _ = stopped.await }));
    Running { _folder: folder, path, answers, stop: Some(stop), served }
}

impl Running {
    async fn client(&self) -> Client {
        Client::connect(&self.path).await.unwrap().expect("it serves")
    }
}

#[tokio::test]
async fn what_is_asked_is_answered_and_errors_keep_what_they_say() {
    let server = running();
    let mut client = server.client().await;
    assert_eq!(client.call("echo", json!({ "ä": [1, null] })).await.unwrap(), json!({ "ä": [1, null] }));
    let Err(ClientError::Fault(fault)) = client.call("fail", json!({})).await else { panic!("it fails") };
    let known = (fault.code, fault.message.as_str(), fault.help.as_deref(), fault.data.as_deref());
    assert_eq!(known, (1203, "slow down", Some("wait"), Some(&json!({ "exit": 7 }))));
    let Err(ClientError::Fault(fault)) = client.call("nothing", json!({})).await else { panic!("nobody knows it") };
    assert_eq!(fault.code, -32601);
    let Err(ClientError::Fault(fault)) = client.call("panic", json!({})).await else { panic!("it breaks") };
    assert_eq!(fault.code, -32603);
    assert_eq!(client.call("echo", json!({ "after": "all" })).await.unwrap(), json!({ "after": "all" }), "and the connection holds");
}

#[tokio::test]
async fn items_come_in_order_and_the_answer_after_them() {
    let server = running();
    let mut client = server.client().await;
    let mut counted = client.stream("count", json!({ "to": 1000 })).await.unwrap();
    let mut numbers = Vec::new();
    while let Some(item) = counted.next().await.unwrap() {
        numbers.push(item["n"].as_u64().unwrap());
    }
    assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
    assert_eq!(counted.answer(), Some(&json!(1000)));
    assert_eq!(counted.next().await.unwrap(), None);
    // One that is left in the middle is not in the way of the next request.
    let mut left = client.stream("count", json!({ "to": 100 })).await.unwrap();
    left.next().await.unwrap();
    assert_eq!(client.call("echo", json!({})).await.unwrap(), json!({}));
}

#[tokio::test]
async fn a_request_is_cancelled_by_word_and_by_going() {
    let server = running();
    let mut client = server.client().await;
    let mut waits = client.stream("wait", json!({})).await.unwrap();
    server.answers.until(|a| a.waiting() == 1).await;
    waits.cancel().await.unwrap();
    let Err(ClientError::Fault(fault)) = waits.next().await else { panic!("it is cancelled") };
    assert_eq!(fault.code, -32800);
    server.answers.until(|a| a.waiting() == 0).await;
    let mut waits = client.stream("wait", json!({})).await.unwrap();
    server.answers.until(|a| a.waiting() == 1).await;
    // Nothing comes, and the future is dropped; then so is the client.
    assert!(tokio::time::timeout(Duration::ZERO, waits.next()).await.is_err());
    drop(client);
    server.answers.until(|a| a.waiting() == 0 && a.disconnected.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn requests_of_a_connection_run_at_once_and_not_too_many() {
    let server = running();
    let (input, mut output) = UnixStream::connect(&server.path).await.unwrap().into_split();
    let mut lines = BufReader::new(input).lines();
    let mut next = async || serde_json::from_str::<Value>(&lines.next_line().await.unwrap().unwrap()).unwrap();
    for id in 0..MOST_REQUESTS {
        output.write_all(format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"wait\"}}\n").as_bytes()).await.unwrap();
    }
    server.answers.until(|a| a.waiting() == MOST_REQUESTS).await;
    output.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":\"more\",\"method\":\"echo\"}\n").await.unwrap();
    assert_eq!(next().await["error"]["code"], -32050);
    output.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"echo\"}\n").await.unwrap();
    assert_eq!(next().await["error"]["code"], -32600, "an id that is in use");
    output.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":\"c\",\"method\":\"$/cancel\",\"params\":{\"id\":5}}\n").await.unwrap();
    let (one, two) = (next().await, next().await);
    let (said, cancelled) = if one["id"] == "c" { (one, two) } else { (two, one) };
    assert_eq!((&said["result"], &cancelled["id"], &cancelled["error"]["code"]), (&json!(true), &json!(5), &json!(-32800)));
    output.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"echo\"}\n").await.unwrap();
    assert_eq!(next().await["result"], json!({}), "there is room again");
    server.answers.go.notify_waiters();
    let mut ids = Vec::new();
    for _ in 1..MOST_REQUESTS {
        ids.push(next().await["id"].as_u64().unwrap());
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..MOST_REQUESTS as u64).filter(|id| *id != 5).collect::<Vec<_>>());
    output.write_all(b"no json\n").await.unwrap();
    assert_eq!(next().await["error"]["code"], -32700, "which ends nothing");
    let long = vec![b'x'; LONGEST_REQUEST + 1];
    // It may be closed before all of it is read.
    let _ = output.write_all(&long).await;
    assert_eq!(next().await["error"]["code"], -32050);
    assert!(!matches!(lines.next_line().await, Ok(Some(_))), "it is closed");
}

#[tokio::test]
async fn a_reader_that_reads_nothing_keeps_nobody_waiting_but_itself() {
    let server = running();
    let mut stuck = server.client().await;
    let pad = "x".repeat(100_000);
    let _never_read = stuck.stream("count", json!({ "to": 1_000_000, "pad": pad })).await.unwrap();
    // As much as fits on the way, and no more: when two others were served meanwhile, it stands still.
    server.answers.until(|a| a.sent.load(Ordering::SeqCst) > 10).await;
    let mut last = usize::MAX;
    let mut other = server.client().await;
    for _ in 0..1000 {
        for _ in 0..20 {
            other.call("echo", json!({})).await.unwrap();
        }
        let sent = server.answers.sent.load(Ordering::SeqCst);
        if sent == last {
            break;
        }
        last = sent;
    }
    let sent = server.answers.sent.load(Ordering::SeqCst);
    assert!(sent < 100, "{sent} items of 100 kB wait");
    drop(stuck);
    server.answers.until(|a| a.disconnected.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn who_is_refused_reads_why() {
    let server = running();
    server.answers.refuse.store(true, Ordering::SeqCst);
    let mut client = server.client().await;
    let Err(ClientError::Fault(fault)) = client.call("echo", json!({})).await else { panic!("it is refused") };
    assert_eq!((fault.message.as_str(), fault.help.as_deref()), ("not today", Some("come tomorrow")));
    assert!(matches!(client.call("echo", json!({})).await, Err(ClientError::Gone)));
    server.answers.refuse.store(false, Ordering::SeqCst);
    assert!(server.client().await.call("echo", json!({})).await.is_ok());
    assert_eq!(server.answers.connected.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let server = running();
    let mut clients = Vec::new();
    for _ in 0..MOST_CONNECTIONS {
        let mut client = server.client().await;
        client.call("echo", json!({})).await.unwrap();
        clients.push(client);
    }
    let Err(ClientError::Fault(fault)) = server.client().await.call("echo", json!({})).await else { panic!("there is no room") };
    assert_eq!(fault.code, -32050);
    clients.pop();
    server.answers.until(|a| a.disconnected.load(Ordering::SeqCst) == 1).await;
    // Its place is free when the server has looked, which it does before it takes the next one.
    let mut tries = 0;
    while server.client().await.call("echo", json!({})).await.is_err() {
        tries += 1;
        assert!(tries < 100, "its place is not free");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_server_that_stops_closes_what_is_open() {
    let mut server = running();
    let mut waits = server.client().await;
    let mut waits = waits.stream("wait", json!({})).await.unwrap();
    server.answers.until(|a| a.waiting() == 1).await;
    let mut silent = UnixStream::connect(&server.path).await.unwrap();
    server.answers.until(|a| a.connected.load(Ordering::SeqCst) == 2).await;
    server.stop.take().unwrap().send(()).unwrap();
    assert!(matches!(waits.next().await, Err(ClientError::Gone)));
    let mut rest = Vec::new();
    assert_eq!(silent.read_to_end(&mut rest).await.unwrap(), 0);
    let held = tokio::time::timeout(LIMIT, &mut server.served).await.unwrap().unwrap();
    assert_eq!(server.answers.disconnected.load(Ordering::SeqCst), 2);
    assert!(Client::connect(&server.path).await.unwrap().is_none(), "nobody answers");
    assert!(matches!(Server::bind(&server.path), Err(BindError::Taken { .. })), "and nobody has its place yet");
    drop(held);
    assert!(!server.path.exists());
    assert!(Client::connect(&server.path).await.unwrap().is_none());
}
