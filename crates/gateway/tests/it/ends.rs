//! An orderly end: what was asked is answered, and nobody new comes in.

use tokio::net::TcpStream;

use crate::{
    peer::Peer,
    world::{HELD, World, within},
};

#[tokio::test]
async fn what_was_asked_is_answered_before_the_end() {
    let mut world = World::new().await;
    let mut idle = Peer::new(world.address).await;
    idle.ask("hello").await;
    let mut silent = Peer::new(world.address).await;
    let mut busy = Peer::new(world.address).await;
    busy.post("/hooks/door/bell", "wait").await;
    within(HELD.arrived.acquire()).await.unwrap().forget();
    world.stop.cancel();
    idle.closed().await;
    silent.closed().await;
    // The port is free at once: another may take it over while this one ends.
    within(async {
        while TcpStream::connect(world.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    HELD.released.add_permits(1);
    let answer = busy.answer().await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "waited"));
    busy.closed().await;
    world.ended().await;
}

#[tokio::test]
async fn who_hangs_does_not_keep_it_from_ending() {
    let mut world = World::with(|config| {
        config.read_timeout_ms = 300;
        config.answer_timeout_ms = 600;
    })
    .await;
    let mut asking = Peer::new(world.address).await;
    asking.send("POST /hooks/door/bell HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nab").await;
    let mut waiting = Peer::new(world.address).await;
    waiting.post("/hooks/door/bell", "wait").await;
    within(HELD.arrived.acquire()).await.unwrap().forget();
    world.stop.cancel();
    world.ended().await;
}

#[tokio::test]
async fn one_that_is_stopped_before_it_serves_ends_at_once() {
    let mut world = World::new().await;
    world.stop.cancel();
    world.ended().await;
}
