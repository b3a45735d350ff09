//! What becomes of a plugin when nobody asks: one that ends by itself is brought back, one that ends too often is left alone, one
//! that may rest is started by its next call. How plugins are started at all is `lifecycle`.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bespoke_plugin_api::{Error, Result, State as Captured};
use serde_json::json;
use tokio::sync::Notify;

use crate::{
    candidate::State,
    events::topics,
    generation::Generation,
    lifecycle::{Inner, Launch},
    needs,
    plugin::PluginCell,
    slot::shown,
};

/// How often a plugin is brought back, and after how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Supervision {
    /// Ends within [`window`](Self::window) after which a plugin is left alone.
    pub most: usize,
    /// How long an end counts.
    pub window: Duration,
    /// The pause before the second start; each further one is twice as long. The first follows at once.
    pub pause: Duration,
    /// The longest pause.
    pub longest: Duration,
}

impl Default for Supervision {
    fn default() -> Self {
        Supervision { most: 5, window: Duration::from_secs(600), pause: Duration::from_millis(250), longest: Duration::from_secs(30) }
    }
}

/// Callers wait through a pause that is no longer than this; through a longer one they are told to come again.
const WORTH_WAITING: Duration = Duration::from_secs(1);

/// Whether and how a plugin rests, and how often it ended.
#[derive(Default)]
pub(crate) struct Watch {
    /// The host, for who wakes it.
    host: OnceLock<Weak<Inner>>,
    /// It is known and does not run; its next call starts it.
    resting: AtomicBool,
    /// It is started by its first call and not before.
    lazy: AtomicBool,
    /// Milliseconds without a call after which it rests; zero for never.
    idle_ms: AtomicU64,
    /// Told when that changes.
    changed: Arc<Notify>,
    /// What it left when it went to rest.
    left: Mutex<Option<Captured>>,
    ends: Mutex<VecDeque<Instant>>,
}

/// What to do about a plugin that ended.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Again(Duration),
    LeftAlone { ends: usize },
}

impl Watch {
    pub(crate) fn belongs_to(&self, host: Weak<Inner>) {
        // Once, when the host is made or the plugin is added.
        let _ = self.host.set(host);
    }

    pub(crate) fn configure(&self, lazy: bool, idle: Option<Duration>) {
        self.lazy.store(lazy, Ordering::Relaxed);
        let ms = idle.map_or(0, |idle| u64::try_from(idle.as_millis()).unwrap_or(u64::MAX).max(1));
        if self.idle_ms.swap(ms, Ordering::Relaxed) != ms {
            self.changed.notify_waiters();
        }
    }

    pub(crate) fn is_lazy(&self) -> bool {
        self.lazy.load(Ordering::Relaxed)
    }

    fn idle(&self) -> Option<Duration> {
        Some(self.idle_ms.load(Ordering::Relaxed)).filter(|ms| *ms > 0).map(Duration::from_millis)
    }

    pub(crate) fn is_resting(&self) -> bool {
        self.resting.load(Ordering::Acquire)
    }

    pub(crate) fn rest(&self, resting: bool) {
        self.resting.store(resting, Ordering::Release);
    }

    /// It rests no longer; what it left comes back.
    pub(crate) fn get_up(&self) -> Option<Captured> {
        self.rest(false);
        self.left(None)
    }

    fn left(&self, state: Option<Captured>) -> Option<Captured> {
        std::mem::replace(&mut *self.left.lock().unwrap_or_else(PoisonError::into_inner), state)
    }

    /// Notes an end. `random` is of 0–255.
    fn ended(&self, how: &Supervision, now: Instant, random: u8) -> Verdict {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        while ends.front().is_some_and(|at| now.saturating_duration_since(*at) > how.window) {
            ends.pop_front();
        }
        ends.push_back(now);
        let so_far = ends.len();
        if so_far >= how.most {
            return Verdict::LeftAlone { ends: so_far };
        }
        if so_far == 1 {
            return Verdict::Again(Duration::ZERO);
        }
        let doublings = u32::try_from(so_far - 2).unwrap_or(u32::MAX).min(16);
        let pause = (how.pause * (1 << doublings)).min(how.longest);
        // Between three quarters and five quarters of it, so that many do not come back in one moment.
        Verdict::Again(pause.mul_f64(0.75 + f64::from(random) / 510.0))
    }

    /// What was before a person stepped in does not count.
    pub(crate) fn forgive(&self) {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl PluginCell {
    /// Whether its next call would start it.
    pub(crate) fn rests(&self) -> bool {
        self.watch.is_resting() && self.state() == State::Unloaded
    }

    /// Starts it if it rests. Returns at once; callers wait as for any plugin that starts.
    pub(crate) fn wake(self: &Arc<Self>) {
        if !self.rests() || !self.change(State::Unloaded, State::Starting) {
            return;
        }
        self.watch.rest(false);
        match self.watch.host.get().and_then(Weak::upgrade) {
            Some(inner) => drop(self.runtime().spawn(inner.start_resting(self.clone()))),
            None => self.set(State::Stopped, "the host was shut down", None),
        }
    }
}

impl Inner {
    /// Watches over a generation that serves, until it is stopped or replaced.
    pub(crate) fn watch_over(self: &Arc<Self>, plugin: &Arc<PluginCell>, generation: &Arc<Generation>) {
        let Some(life) = generation.life() else { return };
        let ended = life.ended();
        drop(life);
        let (inner, cell, weak) = (Arc::downgrade(self), Arc::downgrade(plugin), Arc::downgrade(generation));
        let (runtime, changed) = (self.services.runtime.clone(), plugin.watch.changed.clone());
        let watching = async move {
            let mut ended = ended;
            let mut calls = u64::MAX;
            loop {
                let heard = changed.notified();
                let idle = cell.upgrade().and_then(|plugin| plugin.watch.idle());
                let passed = async {
                    match idle {
                        Some(idle) => tokio::time::sleep(idle).await,
                        None => std::future::pending().await,
                    }
                };
                let passed = tokio::select! {
                    error = &mut ended => Some(Err(error)),
                    () = passed => Some(Ok(())),
                    () = heard => None,
                };
                let (Some(inner), Some(plugin), Some(generation)) = (inner.upgrade(), cell.upgrade(), weak.upgrade()) else { return };
                match passed {
                    // Not on this task, which ends with the generation.
                    Some(Err(error)) => return drop(runtime.spawn(inner.fell(plugin, generation, error))),
                    None => calls = u64::MAX,
                    Some(Ok(())) => {
                        let now = plugin.metrics().read().0;
                        if now == std::mem::replace(&mut calls, now) && generation.in_flight() == 0 {
                            drop(runtime.spawn(inner.lay_down(plugin, generation)));
                        }
                    }
                }
            }
        };
        // Ends with the generation.
        if let Err(error) = generation.footing.spawn(&self.services.runtime, Box::pin(watching)) {
            tracing::warn!(plugin = plugin.id(), %error, "nobody watches over it");
        }
    }

    /// A generation has ended by itself.
    async fn fell(self: Arc<Self>, plugin: Arc<PluginCell>, generation: Arc<Generation>, error: Error) {
        let turn = plugin.turn.lock().await;
        let serves = plugin.generation.load().as_ref().is_some_and(|serving| Arc::ptr_eq(serving, &generation));
        // Whoever stopped it knows that it ended. From here on its callers wait, as for one that starts.
        if !serves || self.closing.is_cancelled() || !plugin.change(State::Ready, State::Starting) {
            return;
        }
        let error = self.clean(&error);
        tracing::warn!(plugin = plugin.id(), %error, "ended by itself");
        self.wrong(&plugin, "ended", &error);
        let withdrawn = self.take_out(&plugin, &generation);
        plugin.generation.store(None);
        self.services.offers_changed();
        if let Err(error) = self.shut(generation, withdrawn).await {
            tracing::warn!(plugin = plugin.id(), %error, "what was left of it did not end well");
        }
        drop(turn);
        self.bring_back(&plugin, error).await;
    }

    /// Starts a plugin again that ended, until it stays up or has ended too often, or until somebody else decides what becomes of it:
    /// nobody has its turn while it pauses.
    async fn bring_back(self: &Arc<Self>, plugin: &Arc<PluginCell>, mut why: Error) {
        loop {
            let mut random = [0];
            // Without randomness the pauses are equal, which is no reason to fail.
            let _ = getrandom::fill(&mut random);
            match plugin.watch.ended(&self.supervision, Instant::now(), random[0]) {
                Verdict::LeftAlone { ends } => {
                    let reason = format!("ended {ends} times within {}; last: {}", shown(self.supervision.window), why.message());
                    let fix = format!("bespoke plugin reload {}", plugin.id());
                    plugin.set(State::Quarantined, reason.clone(), Some(fix));
                    self.services.offers_changed();
                    self.wrong(plugin, "quarantined", &Error::new(why.code(), reason));
                    return;
                }
                // It is not needed before somebody calls it.
                Verdict::Again(_) if plugin.watch.is_lazy() => {
                    return self.lies_down(plugin, format!("ended by itself: {}", why.message()));
                }
                Verdict::Again(pause) => {
                    if pause > WORTH_WAITING {
                        let reason = format!("ended by itself and is started again in {}: {}", shown(pause), why.message());
                        plugin.set(State::Failed, reason, None);
                    }
                    tokio::select! {
                        () = self.closing.cancelled() => return plugin.set(State::Stopped, "the host was shut down", None),
                        () = tokio::time::sleep(pause) => {}
                    }
                }
            }
            let _turn = plugin.turn.lock().await;
            plugin.change(State::Failed, State::Starting);
            if plugin.state() != State::Starting || plugin.generation.load().is_some() {
                return;
            }
            match self.start_in_place(plugin, None).await {
                Ok(()) => return,
                Err(_) if self.closing.is_cancelled() => return plugin.set(State::Stopped, "the host was shut down", None),
                Err(error) => {
                    why = self.clean(&error);
                    tracing::warn!(plugin = plugin.id(), error = %why, "did not come back");
                }
            }
        }
    }

    /// Starts a plugin whose names are known and whose slots are empty. The caller has its turn.
    ///
    /// # Errors
    /// Whatever went wrong; its slots are as they were.
    pub(crate) async fn start_in_place(self: &Arc<Self>, plugin: &Arc<PluginCell>, state: Option<Captured>) -> Result<()> {
        needs::ready(&self.services.plugins.load_full(), plugin).await?;
        let begun = Instant::now();
        self.bring_up(plugin, &self.services.config(), Launch { state, ..Launch::default() }).await?;
        plugin.report(bespoke_plugin_api::Health::Unknown);
        self.came_up(plugin, begun.elapsed());
        Ok(())
    }

    /// Starts a plugin that rested, whose state is `Starting` already.
    async fn start_resting(self: Arc<Self>, plugin: Arc<PluginCell>) {
        let _turn = plugin.turn.lock().await;
        if plugin.state() != State::Starting {
            return;
        }
        let left = plugin.watch.get_up();
        if let Err(error) = self.start_in_place(&plugin, left).await {
            let error = self.clean(&error);
            tracing::warn!(plugin = plugin.id(), %error, "did not start at its first call");
            self.wrong(&plugin, "did_not_start", &error);
            plugin.fail(error);
            self.services.offers_changed();
        }
    }

    /// Lets a plugin rest that nobody has called for a while, unless one that runs needs it.
    async fn lay_down(self: Arc<Self>, plugin: Arc<PluginCell>, generation: Arc<Generation>) {
        let _turn = plugin.turn.lock().await;
        let serves = plugin.generation.load().as_ref().is_some_and(|serving| Arc::ptr_eq(serving, &generation));
        let needed = self.services.plugins.load().iter().any(|other| {
            matches!(other.state(), State::Ready | State::Starting) && needs::requires(other).iter().any(|id| id == plugin.id())
        });
        if !serves || needed || generation.in_flight() > 0 || self.closing.is_cancelled() || !plugin.change(State::Ready, State::Starting) {
            return;
        }
        let withdrawn = self.take_out(&plugin, &generation);
        let stays_up = |withdrawn: crate::registry::Withdrawn| {
            generation.resume();
            generation.footing.serves(&generation);
            withdrawn.put_back();
            plugin.change(State::Starting, State::Ready);
        };
        // A call that came in between keeps it awake.
        if !generation.drain(Duration::ZERO).await {
            return stays_up(withdrawn);
        }
        match self.capture(&generation).await {
            Ok(state) => drop(plugin.watch.left(state)),
            Err(error) => {
                tracing::warn!(plugin = plugin.id(), %error, "is kept awake: it does not hand over its state");
                return stays_up(withdrawn);
            }
        }
        plugin.generation.store(None);
        if let Err(error) = self.shut(generation, withdrawn).await {
            tracing::warn!(plugin = plugin.id(), %error, "did not end well when it went to rest");
        }
        let idle = plugin.watch.idle().map_or_else(String::new, |idle| format!(" for {}", shown(idle)));
        self.lies_down(&plugin, format!("rests: nobody called it{idle}"));
        self.services.events.emit(topics::PLUGIN_UNLOADED, None, json!({ "plugin": plugin.id(), "reason": "rests" }));
    }

    /// From now on the next call starts it.
    pub(crate) fn lies_down(&self, plugin: &Arc<PluginCell>, why: String) {
        plugin.watch.rest(true);
        plugin.set(State::Unloaded, why, None);
        self.services.offers_changed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_is_brought_back_after_longer_and_longer_pauses_until_it_is_left_alone() {
        let (watch, how, begin) = (Watch::default(), Supervision::default(), Instant::now());
        let at = |s: u64| begin + Duration::from_secs(s);
        assert_eq!(watch.ended(&how, at(0), 0), Verdict::Again(Duration::ZERO));
        assert_eq!(watch.ended(&how, at(1), 0), Verdict::Again(Duration::from_micros(187_500)));
        assert_eq!(watch.ended(&how, at(2), 255), Verdict::Again(Duration::from_millis(625)));
        // What is long ago does not count.
        assert_eq!(watch.ended(&how, at(10_000), 0), Verdict::Again(Duration::ZERO));
        for _ in 0..3 {
            assert!(matches!(watch.ended(&how, at(10_001), 9), Verdict::Again(_)));
        }
        assert_eq!(watch.ended(&how, at(10_002), 9), Verdict::LeftAlone { ends: 5 });
        watch.forgive();
        assert_eq!(watch.ended(&how, at(10_003), 9), Verdict::Again(Duration::ZERO));
    }

    #[test]
    fn no_pause_is_longer_than_the_longest() {
        let how = Supervision { most: 100, ..Supervision::default() };
        let (watch, now) = (Watch::default(), Instant::now());
        let pauses: Vec<_> = (0..90).map(|_| watch.ended(&how, now, 255)).collect();
        assert!(pauses.iter().all(|v| matches!(v, Verdict::Again(pause) if *pause <= how.longest.mul_f64(1.25))), "{pauses:?}");
    }
}
