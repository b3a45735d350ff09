//! Servers without end: silent, slow, endless, in circles. On a clock that the test moves.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bespoke_host::{Config, Host, HttpAllowed, HttpClient};
use bespoke_http::{Client, testing::Names};
use bespoke_plugin_api::{
    BoxFuture, CallCx, CancelToken, Code, Contract, HttpReply, HttpRequest, Result, Tool, ToolOutput, ToolRequest,
    bytes::Bytes,
    feed,
    futures_core::Stream,
    serde_json::{Value, json},
};
use bespoke_plugin_testkit::{Clock, TestHost, block_on, block_on_for};
use bespoke_tool_fetch::BESPOKE_PLUGIN;
use expect_test::expect;

use crate::kit::LONG;

fn start(config: Value) -> Arc<TestHost> {
    let host = TestHost::with_clock(Clock::Manual);
    let mut table = json!({ "allow": ["a.test"] });
    table.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    block_on(BESPOKE_PLUGIN.start(host.context("fetch"), table)).unwrap();
    host
}

fn tool(host: &TestHost) -> Arc<dyn Tool> {
    <dyn Tool>::of(&host.published()[0]).unwrap().1.clone()
}

fn request() -> ToolRequest {
    ToolRequest::new(json!({ "url": "https://a.test/" }))
}

fn text(body: impl Stream<Item = Result<Bytes>> + Send + 'static) -> Result<HttpReply> {
    Ok(HttpReply::new(200, vec![("content-type".into(), "text/plain".into())], Box::pin(body)))
}

/// The answer, or none yet.
fn poll(call: &mut BoxFuture<'_, Result<ToolOutput>>) -> Option<Result<ToolOutput>> {
    match call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

fn is_late(output: Result<ToolOutput>) {
    let output = output.unwrap();
    assert_eq!(output.to_text(), "Not fetched: there was no whole answer within 15000 ms (`plugins.fetch.timeout_ms`).");
    assert_eq!(output.data.unwrap()["error"], "EXECUTION_TIMEOUT");
}

#[test]
fn silence_ends_when_the_time_is_over() {
    let host = start(json!({}));
    host.on_http_later(|_| Box::pin(std::future::pending()));
    let cx = CallCx::new();
    let tool = tool(&host);
    let mut call: BoxFuture<'_, _> = Box::pin(tool.call(&cx, request()));
    assert!(poll(&mut call).is_none());
    host.advance(Duration::from_millis(14_999));
    assert!(poll(&mut call).is_none());
    host.advance(Duration::from_millis(1));
    is_late(poll(&mut call).unwrap());
}

/// Each byte comes in time; all of them do not. The transfer ends with the call.
#[test]
fn a_slow_drip_ends_when_the_time_is_over() {
    let host = start(json!({}));
    let (sender, body) = feed(usize::MAX);
    let body = std::sync::Mutex::new(Some(body));
    host.on_http_later(move |_| Box::pin(std::future::ready(text(body.lock().unwrap().take().unwrap()))));
    let cx = CallCx::new();
    let tool = tool(&host);
    let mut call: BoxFuture<'_, _> = Box::pin(tool.call(&cx, request()));
    for _ in 0..14 {
        sender.send(Ok(Bytes::from_static(b"x"))).unwrap();
        assert!(poll(&mut call).is_none());
        host.advance(Duration::from_secs(1));
    }
    host.advance(Duration::from_secs(1));
    is_late(poll(&mut call).unwrap());
    drop(call);
    assert!(sender.is_closed());
}

/// A body without end, in pieces of 64 KiB: no more is taken than may be read.
#[test]
fn an_endless_body_is_cut_off() {
    struct Endless(Arc<AtomicU64>);
    impl Stream for Endless {
        type Item = Result<Bytes>;
        fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Poll::Ready(Some(Ok(Bytes::from(vec![b'x'; 64 << 10]))))
        }
    }
    let host = start(json!({}));
    let made = Arc::new(AtomicU64::new(0));
    let count = made.clone();
    host.on_http_later(move |_| Box::pin(std::future::ready(text(Endless(count.clone())))));
    let output = block_on_for(LONG, tool(&host).call(&CallCx::new(), request())).unwrap().unwrap();
    assert_eq!(made.load(Ordering::SeqCst), 17);
    assert!(output.to_text().contains("only its first 1048576 bytes were read"), "{}", output.to_text());
    assert_eq!(output.data.unwrap()["bytes"], json!(1 << 20));
}

#[test]
fn circles_and_long_ways_end() {
    let host = start(json!({}));
    let asked = Arc::new(AtomicU64::new(0));
    let count = asked.clone();
    host.on_http_later(move |request| {
        let n = count.fetch_add(1, Ordering::SeqCst);
        let to = if request.url.contains("circle") {
            if n % 2 == 1 { "/circle".to_owned() } else { "/other-circle".to_owned() }
        } else {
            format!("/{n}")
        };
        Box::pin(std::future::ready(Ok(HttpReply::new(307, vec![("location".into(), to)], Box::pin(feed(1).1)))))
    });
    let ask = |url: &str| {
        block_on_for(LONG, tool(&host).call(&CallCx::new(), ToolRequest::new(json!({ "url": url })))).unwrap().unwrap().to_text()
    };
    let circle = ask("https://a.test/circle");
    assert_eq!(circle, "Not fetched: https://a.test/other-circle redirects to https://a.test/circle, which redirects to it.");
    assert_eq!(asked.swap(0, Ordering::SeqCst), 2);
    assert_eq!(ask("https://a.test/"), "Not fetched: it redirects more than 5 times (`plugins.fetch.max_redirects`).");
    assert_eq!(asked.load(Ordering::SeqCst), 6);
}

#[test]
fn a_redirect_does_not_leave_encryption() {
    let host = start(json!({}));
    host.on_http_later(|_| {
        Box::pin(std::future::ready(Ok(HttpReply::new(301, vec![("location".into(), "http://a.test/".into())], Box::pin(feed(1).1)))))
    });
    let output = block_on_for(LONG, tool(&host).call(&CallCx::new(), request())).unwrap().unwrap();
    assert_eq!(output.to_text(), "Not fetched: https://a.test/ redirects to an address that would go on without encryption.");
}

#[test]
fn a_cancelled_call_ends_and_so_does_its_transfer() {
    let host = start(json!({}));
    let (sender, body) = feed(usize::MAX);
    let body = std::sync::Mutex::new(Some(body));
    host.on_http_later(move |_| Box::pin(std::future::ready(text(body.lock().unwrap().take().unwrap()))));
    let token = CancelToken::new();
    let cx = CallCx::new().with_cancel(token.clone());
    let tool = tool(&host);
    let mut call: BoxFuture<'_, _> = Box::pin(tool.call(&cx, request()));
    assert!(poll(&mut call).is_none());
    token.cancel();
    assert_eq!(poll(&mut call).unwrap().unwrap_err().code(), Code::CANCELLED);
    drop(call);
    assert!(sender.send(Ok(Bytes::new())).is_err());
}

/// What the request says: no cookies, nothing compressed, who asks.
#[test]
fn the_request() {
    let host = start(json!({ "user_agent": "me/1" }));
    host.on_http_later(|request| {
        assert_eq!((request.method.as_str(), request.url.as_str(), request.timeout_ms), ("GET", "https://a.test/p?q=%20%22", Some(15_000)));
        let names: Vec<_> = request.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["accept", "accept-encoding", "user-agent"]);
        assert_eq!((request.headers[1].1.as_str(), request.headers[2].1.as_str()), ("identity", "me/1"));
        Box::pin(std::future::ready(text(feed(1).1)))
    });
    let asked = ToolRequest::new(json!({ "url": "https://A.test:443/x/../p?q=%20\"#frag" }));
    let output = block_on_for(LONG, tool(&host).call(&CallCx::new(), asked)).unwrap().unwrap();
    assert_eq!(output.to_text(), "There is no text in it.");
}

#[test]
fn settings_out_of_range_are_refused() {
    for (key, value) in [
        ("max_bytes", json!(0)),
        ("max_bytes", json!(17 << 20)),
        ("timeout_ms", json!(5)),
        ("max_redirects", json!(21)),
        ("max_chars", json!(1)),
        ("user_agent", json!("a\r\nb: c")),
        ("user_agent", json!(" ")),
    ] {
        let error = block_on(BESPOKE_PLUGIN.start(TestHost::new().context("fetch"), json!({ key: value }))).unwrap_err();
        assert!(error.code() == Code::INVALID_PARAMS && error.message().starts_with(key) && error.help().is_some(), "{error:?}");
    }
}

/// A mistake in a list is told when the configuration is read, and by the same rules that a request is held against.
#[tokio::test]
async fn entries_are_read_as_the_client_of_the_host_reads_them() {
    let client = Client::builder().network(Names::new()).build();
    let long = format!("{}.test", "a".repeat(300));
    for (entry, good) in [
        ("a.test", true),
        (" A.Test. ", true),
        ("a.test:8080", true),
        ("a.test:*", true),
        ("*", true),
        ("*:*", true),
        ("*.a.test", true),
        ("*.a.test:81", true),
        ("b\u{fc}cher.test", true),
        ("https://a.test/v1?q#f", true),
        ("HTTP://a.test", true),
        ("http://127.1:8080/v1", true),
        ("http://[::1]:8080", true),
        ("127.0.0.1", true),
        ("0x7f.1:81", true),
        ("::1", true),
        ("[::1]:81", true),
        ("10.0.0.0/8", true),
        ("10.0.0.1/08", true),
        ("10.0.0.0/8:*", true),
        ("[10.0.0.0/8]:81", true),
        ("0.0.0.0/0", true),
        ("fd00::/8", true),
        ("[fd00::/128]:81", true),
        ("a_b.test", true),
        (&long, true),
        ("", false),
        (" ", false),
        ("a b", false),
        ("a\tb.test", false),
        ("a\\b", false),
        ("a.test/path", false),
        ("a.test?q", false),
        ("ftp://a.test", false),
        ("://a.test", false),
        ("http://user:s3cret@a.test/", false),
        ("user@a.test", false),
        ("http://", false),
        ("http:///a.test", false),
        ("http://a.test:0", false),
        ("http://a*.test", false),
        ("a.test:0", false),
        ("a.test:", false),
        ("a.test:x", false),
        ("a.test:65536", false),
        ("a.test:80:80", false),
        ("*.*.test", false),
        ("a*.test", false),
        ("*a.test", false),
        ("**", false),
        ("*.", false),
        ("*..", false),
        ("*.a.test.", false),
        (".", false),
        ("[::1", false),
        ("::1]", false),
        ("10.0.0.0/33", false),
        ("10.0.0.0/", false),
        ("10.0.0.0/+8", false),
        ("10.0.0.0/0008", false),
        ("10.0.0/8", false),
        ("fd00::/129", false),
        ("1.2.3.4.5", false),
        ("256.0.0.1", false),
    ] {
        let sent = client.send(HttpAllowed::new("fetch").host(entry), HttpRequest::new("GET", "http://other.test/")).await;
        assert_eq!(sent.unwrap_err().code() != Code::INVALID_PARAMS, good, "the client, of {entry:?}");
        for key in ["allow", "allow_private"] {
            let checked = BESPOKE_PLUGIN.check(&json!({ key: ["a.test", entry] }));
            assert_eq!(checked.is_ok(), good, "the plugin, of {entry:?}: {checked:?}");
            let Err(error) = checked else { continue };
            let told = format!("{} {}", error.message(), error.help().unwrap_or_default());
            assert!(told.contains("entry 2 is no host") && !told.contains("s3cret"), "{error:?}");
        }
    }
}

/// As a person sees it, from the file.
#[tokio::test]
async fn a_bad_entry_is_told_with_its_key() {
    let config = Config::parse("bespoke.toml", "[plugins.fetch]\nallow = ['example.com']\nallow_private = ['10.0.0.0/33']\n").unwrap();
    let host = Host::builder().config(config).plugins([&BESPOKE_PLUGIN]).build().unwrap();
    let error = host.check_config().await.unwrap_err();
    expect!["bespoke.toml:3:1: plugins.fetch.allow_private: entry 1 is no host, URL or range of addresses; write a host such as example.com, *.example.com, 10.0.0.5:8080 or [::1], a URL, or a range such as 10.0.0.0/8"].assert_eq(&error.to_string());
}
