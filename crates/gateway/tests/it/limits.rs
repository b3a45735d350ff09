//! Peers and plugins that are slow, large or many.

use crate::{
    peer::Peer,
    world::{BLOCKED, CANCELLED, HELD, World, within},
};

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_before_it_is_kept() {
    let world = World::new().await;
    let mut peer = Peer::new(world.address).await;
    assert_eq!(peer.ask(&"x".repeat(1000)).await.status, 202);
    // By what it says of itself: not a byte of it is sent.
    peer.send("POST /hooks/door/bell HTTP/1.1\r\nhost: x\r\ncontent-length: 1001\r\n\r\n").await;
    let answer = peer.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (413, Some("close")));
    assert_eq!(answer.body, r#"{"error":{"code":"PAYLOAD_TOO_LARGE","message":"the body is longer than this endpoint takes"}}"#);
    // By what comes, when it does not say.
    let mut peer = Peer::new(world.address).await;
    peer.send("POST /hooks/door/bell HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n").await;
    peer.send(format!("3E9\r\n{}\r\n", "x".repeat(1001))).await;
    assert_eq!(peer.answer().await.status, 413);
}

#[tokio::test]
async fn who_is_slow_to_ask_is_told_and_cut() {
    let world = World::with(|config| config.read_timeout_ms = 300).await;
    // A head that does not end.
    let mut peer = Peer::new(world.address).await;
    peer.send("POST /hooks/door/bell HTTP/1.1\r\nhost:").await;
    let answer = peer.answer().await;
    assert_eq!(answer.status, 408);
    assert_eq!(answer.body, r#"{"error":{"code":"REQUEST_TIMEOUT","message":"the head of the request did not arrive in time"}}"#);
    peer.closed().await;
    // A body that does not come.
    let mut peer = Peer::new(world.address).await;
    peer.send("POST /hooks/door/bell HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nab").await;
    assert_eq!(peer.answer().await.status, 408);
    peer.closed().await;
    // One that says nothing is closed without a word, before and after a request.
    let mut peer = Peer::new(world.address).await;
    peer.closed().await;
    let mut peer = Peer::new(world.address).await;
    peer.ask("hello").await;
    peer.closed().await;
}

#[tokio::test]
async fn a_body_that_breaks_off_asks_nobody() {
    let world = World::new().await;
    let mut peer = Peer::new(world.address).await;
    peer.send("POST /hooks/door/bell HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nwa").await;
    drop(peer);
    let mut peer = Peer::new(world.address).await;
    assert_eq!(peer.ask("hello").await.status, 202);
    assert_eq!(HELD.arrived.available_permits(), 0);
}

#[tokio::test]
async fn a_plugin_that_takes_too_long_is_not_waited_for() {
    let world = World::with(|config| config.answer_timeout_ms = 300).await;
    let mut peer = Peer::new(world.address).await;
    let answer = peer.ask("hang").await;
    assert_eq!(answer.body, r#"{"error":{"code":"GATEWAY_TIMEOUT","message":"the plugin took too long"}}"#);
    assert_eq!((answer.status, peer.ask("hello").await.status), (504, 202));
    // It is told that nobody waits any more.
    assert_eq!(peer.ask("until-cancelled").await.status, 504);
    within(CANCELLED.acquire()).await.unwrap().forget();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_that_blocks_its_thread_blocks_nobody_else() {
    let world = World::with(|config| config.answer_timeout_ms = 1_000).await;
    let lock = BLOCKED.clone();
    let (locked, ready) = std::sync::mpsc::channel();
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let holder = std::thread::spawn(move || {
        let _held = lock.lock().unwrap();
        locked.send(()).unwrap();
        let _ = wait.recv();
    });
    ready.recv().unwrap();
    let mut blocked = Peer::new(world.address).await;
    blocked.post("/hooks/door/bell", "block").await;
    within(HELD.arrived.acquire()).await.unwrap().forget();
    let mut peer = Peer::new(world.address).await;
    assert_eq!(peer.ask("hello").await.status, 202);
    assert_eq!(blocked.answer().await.status, 504);
    drop(release);
    holder.join().unwrap();
}

#[tokio::test]
async fn a_peer_that_goes_cancels_what_it_asked() {
    let world = World::new().await;
    let mut peer = Peer::new(world.address).await;
    peer.post("/hooks/door/bell", "until-cancelled").await;
    within(HELD.arrived.acquire()).await.unwrap().forget();
    drop(peer);
    within(CANCELLED.acquire()).await.unwrap().forget();
}

#[tokio::test]
async fn too_many_connections_are_told_so_and_places_come_back() {
    let world = World::with(|config| config.max_connections = 2).await;
    let mut first = Peer::new(world.address).await;
    first.ask("hello").await;
    let mut second = Peer::new(world.address).await;
    second.ask("hello").await;
    let mut third = Peer::new(world.address).await;
    let answer = third.answer().await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    third.closed().await;
    drop(first);
    // As soon as the gateway has seen that one is gone.
    within(async {
        loop {
            let mut next = Peer::new(world.address).await;
            next.post("/hooks/door/bell", "hello").await;
            if next.try_answer().await.is_some_and(|answer| answer.status == 202) {
                break;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn too_many_requests_are_told_so() {
    let world = World::with(|config| config.max_requests = 1).await;
    let mut first = Peer::new(world.address).await;
    first.post("/hooks/door/bell", "wait").await;
    within(HELD.arrived.acquire()).await.unwrap().forget();
    let mut second = Peer::new(world.address).await;
    let answer = second.ask("hello").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    HELD.released.add_permits(1);
    assert_eq!(first.answer().await.body, "waited");
    assert_eq!(second.ask("hello").await.status, 202);
}

#[tokio::test]
async fn a_peer_that_does_not_read_its_answer_is_cut_and_its_place_is_free() {
    let world = World::with(|config| {
        config.max_connections = 1;
        config.read_timeout_ms = 300;
    })
    .await;
    // More than the buffers of both systems hold.
    let mut deaf = Peer::new(world.address).await;
    deaf.post("/hooks/door/gate", "big 67108864").await;
    within(async {
        loop {
            let mut next = Peer::new(world.address).await;
            next.post("/hooks/door/bell", "hello").await;
            if next.try_answer().await.is_some_and(|answer| answer.status == 202) {
                break;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}
