//! What reaches a plugin, and what reaches its peer.

use bespoke_gateway::{Gateway, GatewayConfig};
use bespoke_plugin_api::{
    Code,
    serde_json::{Value, from_str, json},
};

use crate::{
    peer::Peer,
    world::{World, within},
};

#[tokio::test]
async fn a_request_reaches_its_endpoint_as_it_came() {
    let world = World::new().await;
    let mut peer = Peer::new(world.address).await;
    peer.send("POST /hooks/door/bell?a=1&b=%20 HTTP/1.1\r\nHost: x\r\nX-Thing: One\r\nx-thing: two\r\nContent-Length: 7\r\n\r\n{\"a\":1}")
        .await;
    let answer = peer.answer().await;
    assert_eq!((answer.status, answer.header("content-type")), (202, Some("application/json")));
    assert_eq!(
        from_str::<Value>(&answer.body).unwrap(),
        json!({
            "method": "POST", "url": "/hooks/door/bell?a=1&b=%20", "body": "{\"a\":1}",
            "headers": [["host", "x"], ["x-thing", "One"], ["x-thing", "two"], ["content-length", "7"]],
        })
    );
    // The connection is kept, and a body in chunks is the same body.
    peer.send("POST /hooks/door/bell HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n").await;
    assert_eq!(from_str::<Value>(&peer.answer().await.body).unwrap()["body"], "abcde");
    // Two at once are answered in their order.
    peer.post("/hooks/door/bell", "one").await;
    peer.post("/hooks/door/bell", "two").await;
    for body in ["one", "two"] {
        assert_eq!(from_str::<Value>(&peer.answer().await.body).unwrap()["body"], body);
    }
    // An endpoint that nobody may GET says so itself.
    peer.send("GET /hooks/door/bell HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let answer = peer.answer().await;
    assert_eq!((answer.status, answer.header("allow"), answer.body.as_str()), (405, Some("POST"), r#"{"error":"POST only"}"#));
}

#[tokio::test]
async fn what_is_not_there_is_said_in_json() {
    let world = World::new().await;
    for path in [
        "/",
        "/hooks",
        "/hooks/door",
        "/hooks/door/none",
        "/hooks/none/bell",
        "/hooks/door/bell/",
        "/hooks/door/%62ell",
        "/hooks/../x",
        "//",
    ] {
        let mut peer = Peer::new(world.address).await;
        peer.post(path, "").await;
        let answer = peer.answer().await;
        assert_eq!((answer.status, answer.header("content-type")), (404, Some("application/json")), "{path}");
        assert_eq!(answer.body, r#"{"error":{"code":"NOT_FOUND","message":"nothing is mounted at this path"}}"#);
    }
}

#[tokio::test]
async fn what_is_no_request_is_refused() {
    let world = World::new().await;
    let long = "x".repeat(40_000);
    let many = "a: b\r\n".repeat(70);
    for (request, status) in [
        ("nonsense\r\n\r\n".to_owned(), 400),
        ("POST /hooks/door/bell HTTP/1.1\r\nbad header\r\n\r\n".to_owned(), 400),
        (format!("POST /hooks/door/bell HTTP/1.1\r\nhost: x\r\nx: {long}\r\n\r\n"), 431),
        (format!("POST /hooks/door/bell HTTP/1.1\r\nhost: x\r\n{many}\r\n"), 431),
        ("POST /hooks/door/bell HTTP/1.1\r\nhost: x\r\ncontent-length: 5, 6\r\n\r\nabcdef".to_owned(), 400),
        ("POST /hooks/door/bell HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n".to_owned(), 400),
        ("POST /hooks/door/bell HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_owned(), 400),
    ] {
        let mut peer = Peer::new(world.address).await;
        peer.send(&request).await;
        let answer = peer.answer().await;
        assert_eq!(answer.status, status, "{:?}: {answer:?}", &request[..60.min(request.len())]);
        peer.closed().await;
    }
}

#[tokio::test]
async fn a_plugin_that_fails_fails_alone_and_its_words_stay_inside() {
    let world = World::new().await;
    let mut peer = Peer::new(world.address).await;
    for body in ["fail", "panic", "status 99", "status 101", "status 600", "header a b=c", "header x=a\nb", "header =x"] {
        let answer = peer.ask(body).await;
        assert_eq!(answer.status, 500, "{body}");
        assert_eq!(answer.body, r#"{"error":{"code":"INTERNAL_SERVER_ERROR","message":"the plugin failed"}}"#, "{body}");
    }
    // How the body travels is not for the plugin to say.
    for header in ["header content-length=1", "header transfer-encoding=chunked", "header connection=close"] {
        let answer = peer.ask(header).await;
        assert_eq!((answer.status, answer.body.as_str(), answer.header("content-length")), (200, "body", Some("4")), "{header}");
    }
    assert_eq!(peer.ask("hello").await.status, 202);
    within(world.host.shutdown()).await;
    let answer = peer.ask("hello").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{answer:?}");
}

#[tokio::test]
async fn a_place_that_is_taken_is_told() {
    let world = World::new().await;
    let mut config = GatewayConfig::default();
    config.listen = world.address.to_string();
    let error = Gateway::bind(world.host.clone(), config).await.unwrap_err();
    assert_eq!(error.code(), Code::CONFLICT);
    assert!(error.message().contains(&world.address.to_string()) && error.help().is_some(), "{error}");
}
