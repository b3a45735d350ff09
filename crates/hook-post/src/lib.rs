//! Servers of the user as hooks: asked before something happens, or told after, by a POST of the event.
//!
//! ```toml
//! [plugins.post]
//! hooks = [
//!   { name = "guard", hook = "before_tool_execute", url = "http://127.0.0.1:9000/guard", on_failure = "closed" },
//!   { name = "steps", topics = ["step_*"], url = "https://example.com/steps", observer = true },
//! ]
//! ```
//!
//! Portable: a request is the host's to make, to the hosts of these addresses and to no others. The body is the event as JSON; with the
//! secret `signing_key`, it is signed as `bespoke-signed` says. What the server answers:
//!
//! * any 2xx without a body: go on;
//! * any 2xx with JSON: `{"reply":"continue"}`, `{"reply":"veto","reason":"…"}`, or `{"reply":"replace","event":{…}}` with the whole
//!   event as it is to be;
//! * 403 with `{"reason":"…"}`: a veto;
//! * anything else, redirects too, is a failure, and `on_failure` says what that means.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bespoke_plugin_api::{
    CallCx, Code, Contribution, Error, Facts, Health, HookEvent, HookHandler, HookReply, HttpRequest, Plugin, PluginApi, PluginContext,
    Result, async_trait, serde_json,
};
use bespoke_signed::{SIGNATURE, TIMESTAMP, sign};

mod config;
mod reply;

use crate::config::Address;
pub use crate::config::{Config, Entry, OnFailure};

/// Most requests of one subscription at the same time.
const MOST_AT_ONCE: usize = 16;

/// One instance.
pub struct Post {
    /// What there is, for people.
    hooks: Vec<String>,
}

impl Plugin for Post {
    type Config = Config;

    /// Nothing that is always there: what is asked is the user's to say.
    fn register(_api: &mut PluginApi<Self>) {}

    async fn start(cx: PluginContext, config: Config) -> Result<Self> {
        let found = config.read()?;
        let hooks = found.iter().map(|(spec, _)| format!("{} ({})", spec.name, spec.hook.name())).collect();
        let contributions: Vec<_> = found
            .into_iter()
            .map(|(spec, address)| {
                let asked = Asked { cx: cx.clone(), name: spec.name.clone(), address, running: Arc::default() };
                Contribution::Hook(spec, Arc::new(asked))
            })
            .collect();
        if !contributions.is_empty() {
            cx.host().publish(contributions)?;
        }
        Ok(Post { hooks })
    }

    fn health(&self) -> Health {
        if self.hooks.is_empty() { Health::Degraded(OFF.into()) } else { Health::Ok }
    }

    fn facts(&self) -> Facts {
        let mut facts = Facts::new();
        facts.insert("hooks".into(), self.hooks.join(", "));
        facts
    }
}

bespoke_plugin_api::plugin!("post", Post);

/// What a user reads while no address is named.
const OFF: &str = "no server is asked until plugins.post.hooks names one; docs/hooks.md has examples";

/// One address, and who asks there.
struct Asked {
    cx: PluginContext,
    name: String,
    address: Address,
    running: Arc<AtomicUsize>,
}

#[async_trait]
impl HookHandler for Asked {
    async fn on(&self, cx: &CallCx, event: &HookEvent) -> Result<HookReply> {
        if let HookEvent::OnEvent { event, .. } = event
            && !self.address.hears(&event.topic)
        {
            return Ok(HookReply::Continue);
        }
        cx.check()?;
        let _running = Running::begin(&self.running)
            .ok_or_else(|| Error::new(Code::RESOURCE_EXHAUSTED, format!("`{}` is asked {MOST_AT_ONCE} times already", self.name)))?;
        // Whoever asks stops waiting at the deadline.
        let own = self.address.timeout;
        let limit = cx.deadline().map_or(own, |deadline| self.cx.now().until(deadline).min(own));
        let late = || Error::new(Code::EXECUTION_TIMEOUT, format!("`{}` did not answer within {} ms", self.name, limit.as_millis()));
        within(&self.cx, cx, limit, self.ask(event, limit)).await?.ok_or_else(late)?
    }
}

impl Asked {
    async fn ask(&self, event: &HookEvent, limit: Duration) -> Result<HookReply> {
        let body = serde_json::to_vec(event).map_err(|e| Error::internal(format!("the event is no JSON: {e}")))?;
        let mut request = HttpRequest::new("POST", &self.address.url).header("content-type", "application/json").timeout(limit);
        if let Some(key) = self.key().await? {
            let second = self.cx.now().0 / 1_000_000;
            request = request.header(TIMESTAMP, second.to_string()).header(SIGNATURE, sign(key.as_bytes(), second, &body));
        }
        let mut answer = self.cx.http(request.body(body.into())).await?;
        let body = answer.read(reply::MOST_BODY).await;
        reply::read(&self.name, answer.status, body)
    }

    /// The key that signs, if the user has set one.
    async fn key(&self) -> Result<Option<String>> {
        match self.cx.secret("signing_key").await {
            Ok(key) => Ok(Some(key).filter(|key| !key.is_empty())),
            Err(error) if error.data().is_some_and(|data| data.get("unset").is_some()) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Awaits `work` for so long; `None` when it takes longer. Dropping the work ends its transfer.
async fn within<T>(host: &PluginContext, cx: &CallCx, limit: Duration, work: impl Future<Output = T>) -> Result<Option<T>> {
    let mut work = pin!(work);
    let mut cancelled = pin!(cx.cancelled());
    let mut sleep = host.sleep(limit);
    poll_fn(|task| {
        if cancelled.as_mut().poll(task).is_ready() {
            return Poll::Ready(Err(Error::cancelled()));
        }
        if let Poll::Ready(done) = work.as_mut().poll(task) {
            return Poll::Ready(Ok(Some(done)));
        }
        sleep.as_mut().poll(task).map(|()| Ok(None))
    })
    .await
}

/// One of the requests that are on their way.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn begin(count: &Arc<AtomicUsize>) -> Option<Self> {
        let one = Running(count.clone());
        (count.fetch_add(1, Ordering::Relaxed) < MOST_AT_ONCE).then_some(one)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
