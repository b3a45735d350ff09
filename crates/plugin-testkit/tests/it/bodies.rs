//! Answers of HTTP servers through the wire: the head first, then a body that is bounded, that breaks off, that nobody wants.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bespoke_plugin_api::{
    BoxStream, CancelToken, Code, Error, FeedSender, HttpReply, HttpResponse, Result, feed, futures_core::Stream, serde_json::json,
};
use bespoke_plugin_testkit::{Conformance, TestHost, block_on_for};
use bespoke_protocol::{BODY_PIECE, BODY_WINDOW};
use bytes::Bytes;

use crate::{
    host_api::{ask, start},
    world::WORLD,
};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn the_head_is_there_before_the_body_and_each_piece_when_it_comes() {
    let (world, host, probe) = start();
    let body = fed(&host, 8);
    let begun = ask(&world, json!({ "begin": "https://example.test/" })).unwrap();
    assert_eq!(begun["begin"], json!({ "status": 207, "headers": [["x-a", "1"], ["x-a", "2"]] }));
    for len in [1, 9, 70] {
        body.send(Ok(Bytes::from(vec![7; len]))).unwrap();
        assert_eq!(ask(&world, json!({ "piece": null })).unwrap()["piece"], json!(len));
    }
    drop(body);
    assert_eq!(ask(&world, json!({ "piece": null })).unwrap()["piece"], json!(null));
    assert!(probe.wait_idle(SOON));
}

#[test]
fn long_pieces_are_split_and_empty_ones_left_out_and_nothing_is_lost() {
    let (world, host, _probe) = start();
    let body = fed(&host, usize::MAX);
    let (mut all, mut sum) = (0, 0_u64);
    for len in [0, 1, BODY_PIECE, BODY_PIECE + 1, 0, 40 * BODY_PIECE + 17, 3] {
        let piece: Vec<u8> = (0..len).map(|n| (n * 7 + all) as u8).collect();
        all += len;
        sum = piece.iter().fold(sum, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        body.send(Ok(piece.into())).unwrap();
    }
    drop(body);
    ask(&world, json!({ "begin": "https://example.test/" })).unwrap();
    for len in [1, BODY_PIECE, BODY_PIECE, 1] {
        assert_eq!(ask(&world, json!({ "piece": null })).unwrap()["piece"], json!(len));
        all -= len;
    }
    let rest = ask(&world, json!({ "rest": null })).unwrap()["rest"].clone();
    assert_eq!(rest["bytes"], json!(all));

    // The same once more in one go, for the bytes themselves.
    host.on_http_later(move |_| {
        let pieces = [0, 1, BODY_PIECE, BODY_PIECE + 1, 0, 40 * BODY_PIECE + 17, 3];
        let (sender, feed) = feed(usize::MAX);
        let mut before = 0;
        for len in pieces {
            sender.send(Ok((0..len).map(|n| (n * 7 + before) as u8).collect::<Vec<u8>>().into())).unwrap();
            before += len;
        }
        answer(Box::pin(feed))
    });
    let whole = ask(&world, json!({ "begin": "https://example.test/", "rest": null })).unwrap()["rest"].clone();
    assert_eq!(whole["sum"], json!(sum));
}

#[test]
fn an_empty_body_is_one() {
    let (world, host, probe) = start();
    host.on_http(|_| Ok(HttpResponse::new(204)));
    assert_eq!(ask(&world, json!({ "begin": "https://example.test/", "piece": null })).unwrap()["piece"], json!(null));
    drop(fed(&host, 1));
    assert_eq!(ask(&world, json!({ "begin": "https://example.test/", "rest": null })).unwrap()["rest"]["bytes"], json!(0));
    assert!(probe.wait_idle(SOON));
}

#[test]
fn an_error_in_the_middle_comes_after_what_was_there() {
    let (world, host, probe) = start();
    let body = fed(&host, 8);
    body.send(Ok(Bytes::from_static(b"half"))).unwrap();
    body.send(Err(Error::new(Code::EXECUTION_TIMEOUT, "the server fell asleep").with_help("wake it"))).unwrap();
    assert_eq!(ask(&world, json!({ "begin": "https://example.test/", "piece": null })).unwrap()["piece"], json!(4));
    let error = ask(&world, json!({ "piece": null })).unwrap_err();
    assert_eq!((error.code(), error.message(), error.help()), (Code::EXECUTION_TIMEOUT, "the server fell asleep", Some("wake it")));
    assert!(block_on_for(SOON, closed(body)).is_some(), "the host still holds a body that has broken off");
    assert!(probe.wait_idle(SOON));
}

#[test]
fn a_refusal_is_no_answer() {
    let (world, host, probe) = start();
    host.on_http(|_| Err(Error::new(Code::PERMISSION_DENIED, "not there")));
    let error = ask(&world, json!({ "begin": "https://example.test/" })).unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::PERMISSION_DENIED, "not there"));
    assert!(probe.wait_idle(SOON));
}

#[test]
fn a_body_that_is_dropped_ends_the_transfer() {
    let (world, host, probe) = start();
    let body = fed(&host, 1);
    ask(&world, json!({ "begin": "https://example.test/" })).unwrap();
    assert!(!body.is_closed());
    ask(&world, json!({ "let_go": null })).unwrap();
    assert!(block_on_for(SOON, closed(body)).is_some(), "the host goes on with a body that nobody reads");
    assert!(probe.wait_idle(SOON));
}

/// The plugin, its proxy and all handles on it are gone while a server is silent.
#[test]
fn a_guest_that_is_gone_ends_its_transfers() {
    for crash in [true, false] {
        let (world, host, probe) = start();
        let body = fed(&host, 1);
        ask(&world, json!({ "begin": "https://example.test/" })).unwrap();
        if crash {
            probe.crash();
        }
        drop(world);
        assert!(block_on_for(SOON, closed(body)).is_some(), "the host goes on for a guest that is gone, crash: {crash}");
    }
}

#[test]
fn a_slow_reader_holds_the_server_and_memory_is_bounded() {
    let (world, host, probe) = start();
    let made = Arc::new(AtomicUsize::new(0));
    let full = CancelToken::new();
    let (count, reached) = (made.clone(), full.clone());
    host.on_http_later(move |_| answer(Box::pin(Endless { made: count.clone(), reached: reached.clone() })));
    ask(&world, json!({ "begin": "https://example.test/" })).unwrap();
    block_on_for(SOON, full.cancelled()).expect("the window is not used");
    assert!(probe.wait_quiet(SOON));
    let window = BODY_WINDOW as usize;
    assert_eq!(made.load(Ordering::SeqCst), window);
    // What is read makes room again, half a window at a time.
    let mut read = 0;
    for _ in 0..window * 3 {
        assert_eq!(ask(&world, json!({ "piece": null })).unwrap()["piece"], json!(BODY_PIECE));
        read += 1;
        let ahead = made.load(Ordering::SeqCst) - read;
        assert!(ahead <= window, "{ahead} pieces ahead of the reader");
    }
    ask(&world, json!({ "let_go": null })).unwrap();
    assert!(probe.wait_idle(SOON));
}

#[test]
fn bodies_are_the_same_in_both_tiers() {
    let mut suite = Conformance::new(&WORLD).host(|host| {
        host.on_http_later(|request| match request.url.as_str() {
            "https://none.test/" => Box::pin(std::future::ready(Err(Error::new(Code::PERMISSION_DENIED, "no")))),
            url => {
                let (sender, body) = feed(usize::MAX);
                sender.send(Ok(vec![1; 200_000].into())).unwrap();
                if url == "https://broken.test/" {
                    sender.send(Err(Error::new(Code::EXECUTION_TIMEOUT, "gone"))).unwrap();
                }
                answer(Box::pin(body))
            }
        });
    });
    // The suite tries the streams of the plugin, too, which wait for this.
    suite = suite.tool("world", json!({ "open_gate": null }));
    for url in ["https://whole.test/", "https://broken.test/", "https://none.test/"] {
        suite = suite.tool("world", json!({ "begin": url, "rest": null }));
    }
    let (compiled, wired) = suite.transcripts().unwrap();
    assert_eq!(String::from_utf8(compiled).unwrap(), String::from_utf8(wired.clone()).unwrap());
    let wired = String::from_utf8(wired).unwrap();
    for expected in [r#""bytes":200000"#, "gone", "no"] {
        assert!(wired.contains(expected), "{expected} is not in {wired}");
    }
}

type Answer = bespoke_plugin_api::BoxFuture<'static, Result<HttpReply>>;

fn answer(body: BoxStream<Bytes>) -> Answer {
    let headers = [("x-a", "1"), ("x-a", "2")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    Box::pin(std::future::ready(Ok(HttpReply::new(207, headers.into(), body))))
}

/// Answers the next request with what is sent.
fn fed(host: &TestHost, capacity: usize) -> FeedSender<Bytes> {
    let (sender, body) = feed(capacity);
    let body = Mutex::new(Some(body));
    host.on_http_later(move |_| match body.lock().unwrap().take() {
        Some(body) => answer(Box::pin(body)),
        None => Box::pin(std::future::ready(Err(Error::internal("there is one answer")))),
    });
    sender
}

/// Waits on a thread of its own until the reader of a body is gone.
async fn closed(body: FeedSender<Bytes>) {
    let (sender, mut done) = feed::<()>(1);
    std::thread::spawn(move || {
        // The queue holds a few: one of these waits until the reader is gone.
        for _ in 0..1000 {
            if body.send(Ok(Bytes::from_static(b"x"))).is_err() {
                let _ = sender.send(Ok(()));
                return;
            }
        }
    });
    std::future::poll_fn(|cx| done.poll_item(cx)).await.expect("a thousand pieces were taken").unwrap();
}

/// Pieces without end, and a word when the window must be full.
struct Endless {
    made: Arc<AtomicUsize>,
    reached: CancelToken,
}

impl Stream for Endless {
    type Item = Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.made.fetch_add(1, Ordering::SeqCst) + 1 == BODY_WINDOW as usize {
            self.reached.cancel();
        }
        Poll::Ready(Some(Ok(Bytes::from(vec![0; BODY_PIECE]))))
    }
}
