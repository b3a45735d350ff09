//! Answers: as they come, cut short, malformed, endless.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake},
    time::Duration,
};

use bespoke_host::HttpClient;
use bespoke_http::{
    Client, Network,
    testing::{Peer, Server},
};
use bespoke_plugin_api::{BoxFuture, Code, HttpRequest};
use expect_test::expect;
use serde_json::json;
use tokio::{
    net::TcpStream,
    sync::{Notify, mpsc, oneshot},
};

use crate::kit::{get, loopback, next, told, within};

#[tokio::test]
async fn an_answer_comes_with_status_headers_in_order_and_body() {
    let answer = b"HTTP/1.1 429 Slow Down\r\nRetry-After: 7\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nX-Name: J\xfcrgen\r\ncontent-length: 5\r\n\r\nhello";
    let server = Server::of(answer).await;
    let mut reply = get(&Client::new(), server.url("/x?y#z")).await.unwrap();
    let headers: Vec<_> = reply.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    assert_eq!(headers, ["retry-after: 7", "set-cookie: a=1", "set-cookie: b=2", "x-name: Jürgen", "content-length: 5"]);
    assert_eq!((reply.status, within(reply.read(5)).await.unwrap().as_ref()), (429, &b"hello"[..]));
}

#[tokio::test]
async fn a_request_arrives_as_it_was_asked_for() {
    let (tx, mut rx) = mpsc::unbounded_channel();
    let server = Server::start(move |mut peer, _| {
        let tx = tx.clone();
        async move {
            tx.send(peer.request().await?).unwrap();
            peer.send("HTTP/1.1 204 No Content\r\n\r\n").await
        }
    })
    .await;
    let request = HttpRequest::new("PATCH", server.url("/a%20b/ü?q=ä#fragment")).header("Authorization", "Bearer x").header("x-twice", "1");
    let request = request.header("X-Twice", "2").body("hello".into());
    assert_eq!(within(Client::new().send(loopback(), request)).await.unwrap().status, 204);
    let said = rx.recv().await.unwrap().replace(&server.address().to_string(), "ADDRESS");
    expect![[r#"
        PATCH /a%20b/%C3%BC?q=%C3%A4 HTTP/1.1
        authorization: Bearer x
        x-twice: 1
        x-twice: 2
        host: ADDRESS
        content-length: 5

        hello"#]]
    .assert_eq(&said.replace("\r\n", "\n"));
}

#[tokio::test]
async fn a_long_body_is_sent_whole_and_any_character_in_a_path() {
    let server = Server::start(|mut peer, _| async move {
        let request = peer.request().await?;
        let line = request.lines().next().unwrap();
        peer.send(format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{line} {}",
            line.len() + 8,
            request.len() - request.find("\r\n\r\n").unwrap() - 4
        ))
        .await
    })
    .await;
    let printable: String = ('!'..='~').filter(|c| !"#?\\".contains(*c)).collect();
    let body = vec![b'x'; 5_000_000];
    let request = HttpRequest::new("POST", server.url(&format!("/{printable}?{printable}"))).body(body.into());
    let mut reply = within(Client::new().send(loopback(), request)).await.unwrap();
    let said = String::from_utf8(within(reply.read(1000)).await.unwrap().to_vec()).unwrap();
    expect!["POST /!%22$%&'()*+,-./0123456789:;%3C=%3E@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_%60abcdefghijklmnopqrstuvwxyz%7B|%7D~?!%22$%&%27()*+,-./0123456789:;%3C=%3E@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_`abcdefghijklmnopqrstuvwxyz{|}~ HTTP/1.1 5000000"].assert_eq(&said);
}

#[tokio::test]
async fn a_body_arrives_piece_by_piece() {
    let go = Arc::new(Notify::new());
    let gate = go.clone();
    let server = Server::start(move |mut peer, _| {
        let gate = gate.clone();
        async move {
            peer.request().await?;
            peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
            for piece in ["3\r\none\r\n", "3\r\ntwo\r\n", "0\r\nx-trailer: x\r\n\r\n"] {
                gate.notified().await;
                peer.send(piece).await?;
            }
            Ok(())
        }
    })
    .await;
    let mut reply = get(&Client::new(), server.url("/")).await.unwrap();
    for expected in [Some("one"), Some("two"), None] {
        // The next piece is not sent before this one was asked for.
        go.notify_one();
        let piece = within(next(&mut reply)).await.map(Result::unwrap);
        assert_eq!(piece.as_deref(), expected.map(str::as_bytes));
    }
}

#[tokio::test]
async fn dropping_a_body_or_a_request_closes_the_connection() {
    let (closed, mut all_closed) = mpsc::unbounded_channel();
    let (began, mut beginning) = mpsc::unbounded_channel();
    let server = Server::start(move |mut peer, n| {
        let (closed, began) = (closed.clone(), began.clone());
        async move {
            peer.request().await?;
            if n == 0 {
                peer.send("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nbegin").await?;
            }
            began.send(()).unwrap();
            peer.closed().await;
            closed.send(n).unwrap();
            Ok(())
        }
    })
    .await;
    let client = Client::new();
    let mut reply = get(&client, server.url("/")).await.unwrap();
    assert_eq!(within(next(&mut reply)).await.unwrap().unwrap(), "begin");
    drop(reply);
    assert_eq!(within(all_closed.recv()).await, Some(0), "of an answer that is silent, too");
    let request = client.send(loopback(), HttpRequest::new("GET", server.url("/")));
    within(beginning.recv()).await.unwrap();
    tokio::select! {
        biased;
        answer = request => panic!("{answer:?}"),
        () = async { within(beginning.recv()).await.unwrap() } => {}
    }
    assert_eq!(within(all_closed.recv()).await, Some(1));
}

#[tokio::test]
async fn silence_ends_at_the_limit_for_the_head_and_not_in_the_body() {
    let (release, released) = oneshot::channel::<()>();
    let released = Arc::new(tokio::sync::Mutex::new(Some(released)));
    let server = Server::start(move |mut peer, n| {
        let released = released.clone();
        async move {
            peer.request().await?;
            if n == 0 {
                peer.send("HTTP/1.1 200 OK\r\n").await?;
                peer.closed().await;
                return Ok(());
            }
            peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\na").await?;
            let released = released.lock().await.take().unwrap();
            let _ = released.await;
            peer.send("b").await
        }
    })
    .await;
    let client = Client::new();
    let limit = Duration::from_millis(200);
    let request = || HttpRequest::new("GET", server.url("/secret-path")).timeout(limit);
    let error = within(client.send(loopback(), request())).await.unwrap_err();
    assert_eq!(told(&error).replace(&server.address().to_string(), "ADDRESS"), "EXECUTION_TIMEOUT ADDRESS did not answer within 0.2 s\n");
    assert!(error.is_retryable());
    let mut reply = within(client.send(loopback(), request())).await.unwrap();
    assert_eq!(within(next(&mut reply)).await.unwrap().unwrap(), "a");
    // The limit for the head passes while the body is silent, and means nothing to it.
    tokio::time::pause();
    tokio::time::advance(limit * 2).await;
    tokio::time::resume();
    release.send(()).unwrap();
    assert_eq!(within(next(&mut reply)).await.unwrap().unwrap(), "b");
}

#[tokio::test]
async fn a_drip_of_a_body_is_for_its_reader_to_end() {
    let (closed, was_closed) = oneshot::channel();
    let closed = std::sync::Mutex::new(Some(closed));
    let server = Server::start(move |mut peer, _| {
        let closed = closed.lock().unwrap().take();
        async move {
            peer.request().await?;
            peer.send("HTTP/1.1 200 OK\r\n\r\n").await?;
            while peer.send("x").await.is_ok() {
                tokio::task::yield_now().await;
            }
            closed.unwrap().send(()).unwrap();
            Ok(())
        }
    })
    .await;
    let mut reply = get(&Client::new(), server.url("/")).await.unwrap();
    let error = within(reply.read(1000)).await.unwrap_err();
    assert_eq!(told(&error), "RESOURCE_EXHAUSTED the answer is longer than 1000 bytes\n");
    drop(reply);
    within(was_closed).await.unwrap();
}

#[tokio::test]
async fn what_is_cut_short_or_no_http_is_an_error() {
    let endless_name = format!("HTTP/1.1 200 OK\r\n{}", "a".repeat(1 << 20));
    let endless_head = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "a".repeat(200 << 10));
    let many_headers = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(200));
    let interim = format!("{}HTTP/1.1 200 OK\r\n\r\nafter 100", "HTTP/1.1 100 Continue\r\n\r\n".repeat(3));
    let answers: &[(&str, &str)] = &[
        ("nothing", ""),
        ("half a head", "HTTP/1.1 200 OK\r\ncontent-"),
        ("no HTTP", "SSH-2.0-OpenSSH_9.6\r\n"),
        ("HTTP/0.9", "<html>hello</html>"),
        ("bad status", "HTTP/1.1 abc OK\r\n\r\n"),
        ("bad header", "HTTP/1.1 200 OK\r\nno colon\r\n\r\n"),
        ("folded header", "HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n"),
        ("bad length", "HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n"),
        ("two lengths", "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"),
        ("endless header name", &endless_name),
        ("endless header value", &endless_head),
        ("200 headers", &many_headers),
        ("truncated by length", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"),
        ("truncated chunk", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nA\r\nabc"),
        ("no last chunk", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"),
        ("bad chunk size", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nxyz\r\n"),
        ("chunk size overflow", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFFF\r\nabc"),
        ("until the end", "HTTP/1.1 200 OK\r\n\r\nabc"),
        ("a switch of protocols", "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\nabc"),
        ("interim answers", &interim),
        ("more than its length", "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcdef"),
        ("redirect", "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"),
    ];
    let mut table = String::new();
    for (name, answer) in answers {
        let server = Server::of(*answer).await;
        let said = match get(&Client::new(), server.url("/path-s3cret?key=s3cret")).await {
            Err(error) => told(&error),
            Ok(mut reply) => match within(reply.read(1 << 20)).await {
                Ok(body) => format!("{} {:?}\n", reply.status, body),
                Err(error) => {
                    assert!(within(next(&mut reply)).await.is_none(), "nothing follows the error");
                    format!("{} then {}", reply.status, told(&error))
                }
            },
        };
        assert!(!said.contains("s3cret"), "{said}");
        assert_eq!(server.accepted(), 1, "{name}: nothing is sent twice, no redirect is followed");
        table += &format!("{name}: {}", said.replace(&server.address().to_string(), "ADDRESS"));
    }
    expect![[r#"
        nothing: NETWORK_FAILED ADDRESS gave no answer: connection closed before message completed
        half a head: NETWORK_FAILED ADDRESS gave no answer: connection closed before message completed
        no HTTP: NETWORK_FAILED ADDRESS gave no answer: invalid HTTP version parsed
        HTTP/0.9: NETWORK_FAILED ADDRESS gave no answer: invalid HTTP version parsed
        bad status: NETWORK_FAILED ADDRESS gave no answer: invalid HTTP status-code parsed
        bad header: NETWORK_FAILED ADDRESS gave no answer: invalid HTTP header parsed
        folded header: NETWORK_FAILED ADDRESS gave no answer: invalid HTTP header parsed
        bad length: NETWORK_FAILED ADDRESS gave no answer: invalid content-length parsed
        two lengths: NETWORK_FAILED ADDRESS gave no answer: invalid content-length parsed
        endless header name: RESOURCE_EXHAUSTED the head of the answer of ADDRESS is larger than 65536 bytes or 128 headers
        endless header value: RESOURCE_EXHAUSTED the head of the answer of ADDRESS is larger than 65536 bytes or 128 headers
        200 headers: RESOURCE_EXHAUSTED the head of the answer of ADDRESS is larger than 65536 bytes or 128 headers
        truncated by length: 200 then NETWORK_FAILED the answer of ADDRESS broke off: error reading a body from connection: end of file before message length reached
        truncated chunk: 200 then NETWORK_FAILED the answer of ADDRESS broke off: error reading a body from connection: end of file before message length reached
        no last chunk: 200 then NETWORK_FAILED the answer of ADDRESS broke off: error reading a body from connection: unexpected EOF during chunk size line
        bad chunk size: 200 then NETWORK_FAILED the answer of ADDRESS broke off: error reading a body from connection: Invalid chunk size line: missing size digit
        chunk size overflow: 200 then NETWORK_FAILED the answer of ADDRESS broke off: error reading a body from connection: invalid chunk size: overflow
        until the end: 200 b"abc"
        a switch of protocols: 101 b""
        interim answers: 200 b"after 100"
        more than its length: 200 b"abc"
        redirect: 302 b""
    "#]].assert_eq(&table);
}

#[tokio::test]
async fn a_hundred_megabytes_with_a_limit_of_one_end_early() {
    const PIECE: usize = 64 << 10;
    let (sent, mut how_much) = mpsc::unbounded_channel();
    let server = Server::start(move |mut peer, _| {
        let sent = sent.clone();
        async move {
            peer.request().await?;
            peer.send("HTTP/1.1 200 OK\r\ncontent-length: 104857600\r\n\r\n").await?;
            let (mut all, piece) = (0, vec![b'x'; PIECE]);
            while all < 104_857_600 && peer.send(&piece).await.is_ok() {
                all += PIECE;
            }
            sent.send(all).unwrap();
            Ok(())
        }
    })
    .await;
    let mut reply = get(&Client::new(), server.url("/")).await.unwrap();
    let first = within(next(&mut reply)).await.unwrap().unwrap();
    assert!(first.len() <= PIECE, "{}", first.len());
    let error = within(reply.read(1 << 20)).await.unwrap_err();
    assert_eq!(error.code(), Code::RESOURCE_EXHAUSTED);
    drop(reply);
    // What was on its way fits into the buffers of two sockets.
    let all = within(how_much.recv()).await.unwrap();
    assert!(all < 32 << 20, "{all} bytes were sent");
}

#[tokio::test]
async fn a_connection_is_used_again_by_the_same_list_only() {
    let server = Server::start(|mut peer: Peer, n| async move {
        loop {
            peer.request().await?;
            peer.send(format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{n}")).await?;
        }
    })
    .await;
    let client = Client::new();
    let mut said = Vec::new();
    for allowed in [loopback(), loopback(), loopback().host("more.example"), loopback()] {
        let mut reply = within(client.send(allowed, HttpRequest::new("GET", server.url("/")))).await.unwrap();
        said.push(String::from_utf8(within(reply.read(1)).await.unwrap().to_vec()).unwrap());
        assert!(within(next(&mut reply)).await.is_none());
    }
    assert_eq!(said, ["0", "0", "1", "0"]);
}

#[test]
fn a_request_can_be_polled_outside_any_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (client, server) = runtime.block_on(async { (Client::new(), Server::of("HTTP/1.1 200 OK\r\n\r\nhello").await) });
    let body = block_on(async {
        let mut reply = client.send(loopback(), HttpRequest::new("GET", server.url("/"))).await.unwrap();
        reply.read(5).await.unwrap()
    });
    assert_eq!(body, "hello");
}

/// Polls on this thread, with nothing of a runtime around.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut work = pin!(work);
    loop {
        match work.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(done) => return done,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// What was not sent may be sent again, whatever it does there; of the rest nobody knows.
#[tokio::test]
async fn a_request_that_did_not_leave_says_so() {
    let nobody = {
        let server = Server::of("").await;
        server.url("/")
    };
    let error = get(&Client::new(), nobody).await.unwrap_err();
    assert_eq!((error.code(), error.data()), (Code::NETWORK_FAILED, Some(&json!({ "may_have_arrived": false }))));
    let silent = Client::builder().network(Silent).connect_limit(Duration::from_millis(1)).build();
    let error = get(&silent, "http://127.0.0.1:9/").await.unwrap_err();
    assert_eq!(error.data(), Some(&json!({ "may_have_arrived": false })));
    let error = get(&Client::new(), Server::of("").await.url("/")).await.unwrap_err();
    assert_eq!((error.code(), error.data()), (Code::NETWORK_FAILED, None));
}

/// A network in which nobody ever answers.
struct Silent;

impl Network for Silent {
    fn look_up(&self, _: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        Box::pin(std::future::pending())
    }

    fn connect(&self, _: SocketAddr) -> BoxFuture<'static, io::Result<TcpStream>> {
        Box::pin(std::future::pending())
    }
}
