//! The plugin before the emulator, with an agent that repeats what it is told: text, voice, an answer that grows, a restart in the middle.

use std::sync::Arc;

use bespoke_channel_telegram::BESPOKE_PLUGIN;
use bespoke_host::HttpClient;
use bespoke_plugin_api::{
    Attachment, BoxFuture, CallCx, CancelToken, Channel, Code, Error, Inbound, Inbox, InboxSink, Instance, MessageRef, Outbound, Result,
    serde_json::json,
};
use bespoke_plugin_testkit::{Clock, TestHost};
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{
    kit::{LONG, TOKEN, of},
    person::Emulator,
};

/// An agent that answers each message after the other: with what was said, piece by piece, and aloud what was spoken.
struct Agent {
    instance: Arc<Instance>,
    token: CancelToken,
    running: JoinHandle<Result<()>>,
    answering: JoinHandle<()>,
}

/// Takes messages until it has so many, and then none any more.
struct Sink {
    queue: mpsc::UnboundedSender<Inbound>,
    left: std::sync::atomic::AtomicI64,
}

impl InboxSink for Sink {
    fn accept(&self, message: Inbound) -> BoxFuture<'static, Result<()>> {
        let taken = self.left.fetch_sub(1, std::sync::atomic::Ordering::SeqCst) > 0 && self.queue.send(message).is_ok();
        Box::pin(std::future::ready(if taken { Ok(()) } else { Err(Error::new(Code::INTERNAL_ERROR, "the disk is full")) }))
    }
}

impl Agent {
    async fn start(emulator: &Emulator, host: Arc<TestHost>, takes: i64) -> Self {
        let (client, allowed) = emulator.client();
        host.on_http_later(move |request| client.send(allowed.clone(), request));
        let config = json!({ "token": TOKEN, "base_url": emulator.url, "allowed_users": (1..=20).collect::<Vec<_>>(), "paced": false });
        let instance = Arc::new(BESPOKE_PLUGIN.start(host.context("telegram"), config).await.unwrap());
        let token = CancelToken::new();
        let (queue, messages) = mpsc::unbounded_channel();
        let inbox = Inbox::new(Arc::new(Sink { queue, left: takes.into() }));
        let (channel, cx) = (of::<dyn Channel>(&instance), CallCx::new().with_cancel(token.clone()));
        let running = tokio::spawn(async move { channel.run(&cx, inbox).await });
        let answering = tokio::spawn(answer(of::<dyn Channel>(&instance), messages));
        Agent { instance, token, running, answering }
    }

    /// Ends the channel, and waits for the answers to what was taken.
    async fn stop(self) {
        self.token.cancel();
        tokio::time::timeout(LONG, self.running).await.expect("it ends").unwrap().unwrap();
        tokio::time::timeout(LONG, self.answering).await.expect("all is answered").unwrap();
        drop(self.instance);
    }
}

async fn answer(channel: Arc<dyn Channel>, mut messages: mpsc::UnboundedReceiver<Inbound>) {
    let cx = CallCx::new();
    while let Some(message) = messages.recv().await {
        channel.typing(&cx, &message.chat).await.unwrap();
        let outbound = |text: String| Outbound::new(&message.chat, text).idempotency_key(message.id.clone()).reply_to(message.id.clone());
        if let Some(voice) = message.attachments.iter().find(|a| a.voice) {
            let spoken = Attachment::voice("audio/ogg", voice.data.iter().rev().copied().collect::<Vec<u8>>());
            channel.send(&cx, outbound("You **said**:".into()).attachments(vec![spoken])).await.unwrap();
            continue;
        }
        let mut sent: Option<MessageRef> = None;
        let mut text = String::new();
        for word in format!("You wrote *{}*", message.text).split_inclusive(' ') {
            text.push_str(word);
            match &sent {
                None => sent = Some(channel.send(&cx, outbound(text.clone())).await.unwrap()),
                Some(sent) => channel.edit(&cx, sent.clone(), Outbound::new(&message.chat, &text)).await.unwrap(),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_writes_speaks_and_is_answered() {
    let emulator = Emulator::start().await;
    let agent = Agent::start(&emulator, TestHost::with_clock(Clock::Real), i64::MAX).await;
    emulator.writes(1, "good day to you").await;
    let seen = emulator.until(1, |seen| seen.iter().any(|m| m.text == "You wrote good day to you")).await;
    assert_eq!(seen.len(), 1, "it was edited: {seen:?}");
    assert_eq!(seen[0].edits, 5);
    assert_eq!(seen[0].whole["entities"], json!([{ "type": "italic", "offset": 10, "length": 15 }]));
    assert_eq!(emulator.typing(1).await, 1);

    emulator.speaks(1, "T2dnUwABAv8=").await;
    let seen = emulator.until(1, |seen| seen.len() == 3).await;
    assert_eq!(seen[1].text, "You said:");
    assert_eq!(seen[2].whole["kind"], "voice");
    assert_eq!(emulator.file(&seen[2]).await.as_ref(), [0xff, 2, 1, 0, b'S', b'g', b'g', b'O']);

    // A stranger is not heard, and a long answer comes in parts.
    emulator.writes(99, "let me in").await;
    let long: String = (0..1_000).map(|n| format!("_{n}_")).collect();
    emulator.writes(1, &long).await;
    let seen = emulator.until(1, |seen| seen.len() >= 5).await;
    assert!(seen[3..].iter().all(|m| m.text.encode_utf16().count() <= 4096), "{seen:?}");
    assert!(emulator.sees(99).await.is_empty());
    agent.stop().await;
}

/// What was taken before the end is answered once, and what was not is asked for again.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_the_middle_loses_nothing_and_answers_nothing_twice() {
    let emulator = Emulator::start().await;
    let host = TestHost::with_clock(Clock::Real);
    let agent = Agent::start(&emulator, host.clone(), 30).await;
    for n in 0..10 {
        for user in 1..=6 {
            emulator.writes(user, &format!("{n}")).await;
        }
    }
    // The thirty-first is refused, which is logged.
    let end = std::time::Instant::now() + LONG;
    while !host.lines().iter().any(|(_, line)| line.contains("the disk is full")) {
        assert!(std::time::Instant::now() < end);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    agent.stop().await;
    let agent = Agent::start(&emulator, host, i64::MAX).await;
    for user in 1..=6 {
        let seen = emulator.until(user, |seen| seen.len() >= 10 && seen.iter().all(|m| m.text.len() > "You wrote ".len())).await;
        let texts: Vec<&str> = seen.iter().map(|m| m.text.as_str()).collect();
        assert_eq!(texts, (0..10).map(|n| format!("You wrote {n}")).collect::<Vec<_>>(), "person {user}");
    }
    agent.stop().await;
}
