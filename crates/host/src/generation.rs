//! One started life of a plugin: the calls inside it, its tasks, and what it may publish and ask. The plugin itself, which outlives it,
//! is `plugin`.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use bespoke_manifest::Permissions;
use bespoke_plugin_api::{BoxFuture, Code, Contribution, Error, Life, Result};
use tokio::{runtime::Handle, sync::Notify, task::AbortHandle};

use crate::{HttpAllowed, http::Rate, metrics::Metrics, plugin::PluginCell};

/// One started life of a plugin, and how many calls are inside it.
pub(crate) struct Generation {
    plugin: Arc<str>,
    /// Those of the plugin: of all its generations.
    metrics: Arc<Metrics>,
    /// Taken out by whoever ends it, so that a lease that is dropped late has nothing left to end.
    life: Mutex<Option<Arc<dyn Life>>>,
    pub(crate) footing: Arc<Footing>,
    in_flight: AtomicUsize,
    draining: AtomicBool,
    left: Notify,
    /// Told when it takes no more calls.
    going: Notify,
}

impl Generation {
    pub(crate) fn new(plugin: &PluginCell, life: Arc<dyn Life>, footing: Arc<Footing>) -> Self {
        Generation {
            plugin: plugin.id.clone(),
            metrics: plugin.metrics.clone(),
            life: Mutex::new(Some(life)),
            footing,
            in_flight: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            left: Notify::new(),
            going: Notify::new(),
        }
    }

    /// Its life, until it was ended.
    pub(crate) fn life(&self) -> Option<Arc<dyn Life>> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its life, for whoever ends it.
    pub(crate) fn take_life(&self) -> Option<Arc<dyn Life>> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Takes calls again.
    pub(crate) fn resume(&self) {
        self.draining.store(false, Ordering::SeqCst);
    }

    pub(crate) fn plugin(&self) -> &str {
        &self.plugin
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Counts a call in; `false` when the generation takes none any more. Count first, look second, while
    /// [`drain`](Self::drain) sets first and counts second: one of the two sees the other.
    pub(crate) fn enter(&self) -> bool {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        if self.draining.load(Ordering::SeqCst) {
            self.leave();
            return false;
        }
        true
    }

    pub(crate) fn leave(&self) {
        if self.in_flight.fetch_sub(1, Ordering::SeqCst) == 1 && self.draining.load(Ordering::SeqCst) {
            self.left.notify_waiters();
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Completes when it takes no more calls.
    pub(crate) async fn drains(&self) {
        let told = self.going.notified();
        if !self.draining.load(Ordering::SeqCst) {
            told.await;
        }
    }

    /// Takes no more calls and waits until the last is out; `false` when the limit passed before that.
    pub(crate) async fn drain(&self, limit: Duration) -> bool {
        self.draining.store(true, Ordering::SeqCst);
        self.going.notify_waiters();
        let empty = async {
            loop {
                let left = self.left.notified();
                if self.in_flight.load(Ordering::SeqCst) == 0 {
                    return;
                }
                left.await;
            }
        };
        tokio::time::timeout(limit, empty).await.is_ok()
    }
}

/// Most tasks that one generation of a plugin may have at once: more is a loop that spawns without end.
const MOST_TASKS: usize = 4096;

/// What a generation has from before it exists until after it has ended: its tasks, what it publishes, and whom it may ask.
#[derive(Default)]
pub(crate) struct Footing {
    tasks: Mutex<Running>,
    stage: Mutex<Stage>,
    /// Of the configuration that it runs with, which is not always the newest.
    pub(crate) http: ArcSwapOption<HttpAllowed>,
    /// What the user granted of what the manifest asks for. Until it is set, all of it.
    pub(crate) granted: ArcSwapOption<Permissions>,
    /// How many requests it may make.
    pub(crate) rate: Rate,
}

#[derive(Default)]
struct Running {
    over: bool,
    list: Vec<AbortHandle>,
    /// The length at which those that have ended are taken out.
    sweep_at: usize,
}

enum Stage {
    /// What it published last, for when its generation is in place.
    Starting(Vec<Contribution>),
    Serving(Weak<Generation>),
    Over,
}

impl Default for Stage {
    fn default() -> Self {
        Stage::Starting(Vec::new())
    }
}

impl Footing {
    /// Runs a task of the plugin until it ends or the generation does.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` when too many run already; the task is dropped.
    pub(crate) fn spawn(&self, runtime: &Handle, task: BoxFuture<'static, ()>) -> Result<()> {
        let mut tasks = lock(&self.tasks);
        if tasks.over {
            // A start that was given up may still run and spawn.
            return Ok(());
        }
        if tasks.list.len() >= tasks.sweep_at {
            tasks.list.retain(|t| !t.is_finished());
            tasks.sweep_at = (2 * tasks.list.len()).clamp(64, MOST_TASKS);
        }
        if tasks.list.len() >= MOST_TASKS {
            drop(tasks);
            return Err(Error::new(Code::RESOURCE_EXHAUSTED, format!("runs {MOST_TASKS} tasks already; further ones are not run")));
        }
        // Spawning runs nothing of the task, so nothing of the plugin runs under the lock.
        tasks.list.push(runtime.spawn(task).abort_handle());
        Ok(())
    }

    /// Ends its tasks, and those that are still to come.
    pub(crate) fn abort(&self) {
        let mut tasks = lock(&self.tasks);
        tasks.over = true;
        let list = std::mem::take(&mut tasks.list);
        drop(tasks);
        list.iter().for_each(AbortHandle::abort);
    }

    /// The generation that contributions are published for. While it starts they are kept until it is there, and what was kept
    /// before comes back in their place: objects of the plugin, which are not dropped under a lock.
    ///
    /// # Errors
    /// `NOT_READY` when it has been stopped or replaced.
    pub(crate) fn publisher(&self, contributions: &mut Vec<Contribution>) -> Result<Option<Arc<Generation>>> {
        let serving = match &mut *lock(&self.stage) {
            Stage::Starting(early) => {
                std::mem::swap(early, contributions);
                return Ok(None);
            }
            Stage::Serving(generation) => generation.upgrade(),
            Stage::Over => None,
        };
        serving.map(Some).ok_or_else(|| Error::new(Code::NOT_READY, "the plugin has stopped, so nothing can be published"))
    }

    /// Whether its generation is in place, so that what it publishes serves at once.
    pub(crate) fn serving(&self) -> bool {
        matches!(&*lock(&self.stage), Stage::Serving(_))
    }

    /// What was published by now; from now on it is published for this generation.
    pub(crate) fn serves(&self, generation: &Arc<Generation>) -> Vec<Contribution> {
        match std::mem::replace(&mut *lock(&self.stage), Stage::Serving(Arc::downgrade(generation))) {
            Stage::Starting(early) => early,
            _ => Vec::new(),
        }
    }

    /// Nothing more can be published.
    pub(crate) fn retire(&self) {
        let before = std::mem::replace(&mut *lock(&self.stage), Stage::Over);
        crate::slot::drop_caught(before);
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
