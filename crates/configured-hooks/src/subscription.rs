//! A subscription as it is published: who asks, of which events, and how often at once. Whom, is the plugin's.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bespoke_plugin_api::{
    CallCx, Code, Contribution, Error, HookEvent, HookHandler, HookReply, HookSpec, PluginContext, Result, async_trait,
};

use crate::Entry;

/// Most calls of one subscription at the same time: one that hangs must not gather them until the machine has no more room.
const MOST_AT_ONCE: usize = 16;

/// Asks one program, one server, or whoever stands in the entry.
#[async_trait]
pub trait Ask: Send + Sync + 'static {
    /// Asks, and waits no longer than `limit`. Dropping the future ends whatever was begun.
    ///
    /// # Errors
    /// Whatever went wrong; what that means, the entry says.
    async fn ask(&self, cx: &CallCx, event: &HookEvent, limit: Duration) -> Result<HookReply>;
}

/// The contribution of an entry, by its [spec](crate::specs).
pub fn subscription(cx: &PluginContext, spec: HookSpec, entry: &impl Entry, who: impl Ask) -> Contribution {
    let topics = entry.said().topics();
    let asked = Asked {
        cx: cx.clone(),
        name: spec.name.clone(),
        limit: Duration::from_millis(spec.timeout_ms),
        topics,
        running: Arc::default(),
        who,
    };
    Contribution::Hook(spec, Arc::new(asked))
}

/// One subscription.
struct Asked<A> {
    cx: PluginContext,
    name: String,
    limit: Duration,
    /// Of events, those with one of these topics; each with whether it is only the beginning.
    topics: Vec<(String, bool)>,
    running: Arc<AtomicUsize>,
    who: A,
}

#[async_trait]
impl<A: Ask> HookHandler for Asked<A> {
    async fn on(&self, cx: &CallCx, event: &HookEvent) -> Result<HookReply> {
        if let HookEvent::OnEvent { event, .. } = event
            && !self.hears(&event.topic)
        {
            return Ok(HookReply::Continue);
        }
        cx.check()?;
        let _running = Running::begin(&self.running)
            .ok_or_else(|| Error::new(Code::RESOURCE_EXHAUSTED, format!("`{}` is asked {MOST_AT_ONCE} times already", self.name)))?;
        // Whoever asks stops waiting at the deadline.
        let limit = cx.deadline().map_or(self.limit, |deadline| self.cx.now().until(deadline).min(self.limit));
        self.who.ask(cx, event, limit).await
    }
}

impl<A> Asked<A> {
    /// Whether it wants to know of events of this topic.
    fn hears(&self, topic: &str) -> bool {
        self.topics.iter().any(|(own, begins)| if *begins { topic.starts_with(own.as_str()) } else { topic == own })
    }
}

/// One of the calls that are under way.
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
