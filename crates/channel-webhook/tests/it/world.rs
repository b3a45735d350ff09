//! A running channel with an inbox, and a service that signs.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    task::{Context, Waker},
    time::Duration,
};

use bespoke_channel_webhook::BESPOKE_PLUGIN;
use bespoke_plugin_api::{
    BoxFuture, CallCx, CancelToken, Channel, Contribution, Error, HttpEndpoint, HttpRequest, HttpResponse, Inbound, Inbox, InboxSink,
    Instance, Level, MessageRef, Outbound, Result,
    serde_json::{Value, from_slice, json},
};
use bespoke_plugin_testkit::{TestHost, block_on, block_on_for};
use bespoke_signed::{SIGNATURE, TIMESTAMP, sign};

pub(crate) const KEY: &str = "s3cret-key-of-both-sides";
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) host: Arc<TestHost>,
    instance: Instance,
    pub(crate) taken: Arc<Taken>,
    running: Mutex<Option<(CancelToken, BoxFuture<'static, Result<()>>)>>,
}

/// What came in, and how the next ones are refused.
#[derive(Default)]
pub(crate) struct Taken {
    pub(crate) messages: Mutex<Vec<Inbound>>,
    pub(crate) refusals: Mutex<VecDeque<Error>>,
}

struct Sink(Arc<Taken>);

impl InboxSink for Sink {
    fn accept(&self, message: Inbound) -> BoxFuture<'static, Result<()>> {
        let refusal = self.0.refusals.lock().unwrap().pop_front();
        if refusal.is_none() {
            self.0.messages.lock().unwrap().push(message);
        }
        Box::pin(std::future::ready(refusal.map_or(Ok(()), Err)))
    }
}

impl World {
    /// With the key, and running.
    pub(crate) fn new() -> Self {
        let world = Self::quiet();
        world.host.set_secret("signing_key", KEY);
        world.run();
        world
    }

    /// Without a key, and not running.
    pub(crate) fn quiet() -> Self {
        let host = TestHost::new();
        let config = json!({ "url": "https://example.com/answers?key=s3cret" });
        let instance = block_on(BESPOKE_PLUGIN.start(host.context("webhook"), config)).unwrap();
        World { host, instance, taken: Arc::default(), running: Mutex::default() }
    }

    fn channel(&self) -> Arc<dyn Channel> {
        let found =
            self.instance.contributions.iter().find_map(|one| if let Contribution::Channel(_, it) = one { Some(it.clone()) } else { None });
        found.unwrap()
    }

    fn endpoint(&self) -> Arc<dyn HttpEndpoint> {
        let found =
            self.instance.contributions.iter().find_map(|one| if let Contribution::Http(_, it) = one { Some(it.clone()) } else { None });
        found.unwrap()
    }

    /// Lets the channel run until it waits.
    pub(crate) fn run(&self) {
        let (channel, inbox, token) = (self.channel(), Inbox::new(Arc::new(Sink(self.taken.clone()))), CancelToken::new());
        let cx = CallCx::new().with_cancel(token.clone());
        let mut running: BoxFuture<'static, Result<()>> = Box::pin(async move { channel.run(&cx, inbox).await });
        assert!(running.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        *self.running.lock().unwrap() = Some((token, running));
    }

    pub(crate) fn stop(&self) {
        let (token, running) = self.running.lock().unwrap().take().unwrap();
        token.cancel();
        block_on_for(LIMIT, running).expect("it hangs").unwrap();
    }

    /// What happens when the channel cannot run.
    pub(crate) fn run_fails(&self) -> Error {
        let inbox = Inbox::new(Arc::new(Sink(self.taken.clone())));
        block_on_for(LIMIT, self.channel().run(&CallCx::new(), inbox)).expect("it runs").unwrap_err()
    }

    pub(crate) fn second(&self) -> u64 {
        use bespoke_plugin_api::HostApi;
        self.host.now().0 / 1_000_000
    }

    /// A request that is signed now.
    pub(crate) fn signed(&self, body: &str) -> HttpRequest {
        let second = self.second();
        HttpRequest::new("POST", "/hooks/webhook/messages")
            .header(TIMESTAMP, second.to_string())
            .header(SIGNATURE, sign(KEY.as_bytes(), second, body.as_bytes()))
            .body(body.to_owned().into())
    }

    pub(crate) fn receive(&self, request: HttpRequest) -> HttpResponse {
        block_on_for(LIMIT, self.endpoint().handle(&CallCx::new(), request)).expect("it hangs").unwrap()
    }

    /// Status and body of what a body is answered with.
    pub(crate) fn post(&self, body: &Value) -> (u16, Value) {
        let answer = self.receive(self.signed(&body.to_string()));
        (answer.status, from_slice(&answer.body).unwrap())
    }

    pub(crate) fn send(&self, message: Outbound) -> Result<MessageRef> {
        block_on_for(LIMIT, self.channel().send(&CallCx::new(), message)).expect("it hangs")
    }

    pub(crate) fn logged(&self) -> Vec<(Level, String)> {
        self.host.lines()
    }
}
