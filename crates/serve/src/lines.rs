//! The channels that are served: each listens on its own, and is tried again when it fails. A line is one of them; what it sends is `post`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bespoke_host::{Slot, topics};
use bespoke_plugin_api::{CallCx, CancelToken, Channel, Error, Inbox, Kind, Result};
use futures_util::StreamExt;
use tokio::sync::{Notify, watch};

use crate::{
    ChannelState, ChannelStatus,
    core::Core,
    inbox::Sink,
    pause,
    post::{self, Post},
};

/// How long a channel that is told to stop may go on before it is dropped.
const GRACE: Duration = Duration::from_secs(5);
/// A channel that has listened for so long has not failed for the second time.
const SOUND: Duration = Duration::from_secs(60);
/// How long it is until one whose source has ended, or that was switched off, is asked again.
const ENDED: Duration = Duration::from_secs(60);

/// The channels by their names.
///
/// **Invariant:** of one name, one listens at a time.
#[derive(Default)]
pub(crate) struct Lines {
    /// Those that are served.
    pub(crate) served: BTreeMap<String, Arc<Line>>,
    /// The last one of each name that was told to stop, until it has: who takes its place waits for it.
    pub(crate) leaving: BTreeMap<String, Arc<Line>>,
}

/// A channel that is served.
pub(crate) struct Line {
    name: Arc<str>,
    pub(crate) post: Post,
    condition: Mutex<Condition>,
    stop: CancelToken,
    /// It is worth a try.
    again: Notify,
    /// Tasks that work for it.
    tasks: watch::Sender<usize>,
}

struct Condition {
    state: ChannelState,
    error: Option<Error>,
    failures: u64,
    again_at: Option<Instant>,
}

impl Line {
    fn new(name: &str) -> Self {
        Line {
            name: name.into(),
            post: Post::default(),
            condition: Mutex::new(Condition { state: ChannelState::Starting, error: None, failures: 0, again_at: None }),
            stop: CancelToken::new(),
            again: Notify::new(),
            tasks: watch::Sender::new(0),
        }
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What serves it now.
    ///
    /// # Errors
    /// As [`Host::find`](bespoke_host::Host::find).
    pub(crate) fn slot(&self, core: &Core) -> Result<Slot<dyn Channel>> {
        core.host.find::<dyn Channel>(&self.name)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    pub(crate) fn stop(&self) {
        self.stop.cancel();
        self.post.wake();
    }

    pub(crate) fn stopped(&self) -> bespoke_plugin_api::Cancelled {
        self.stop.cancelled()
    }

    /// Completes when none of its tasks runs any more.
    pub(crate) async fn ended(&self) {
        // The sender is part of this line, so it is never gone while we look.
        let _ = self.tasks.subscribe().wait_for(|tasks| *tasks == 0).await;
    }

    fn has_ended(&self) -> bool {
        *self.tasks.borrow() == 0
    }

    /// Completes when nothing that may leave now has still to leave.
    pub(crate) async fn flushed(&self, core: &Core) {
        loop {
            let moved = self.post.moved();
            let due = core.state.next_letter_in(&self.name).unwrap_or_default();
            if self.post.is_idle() && due.is_none_or(|due| !due.is_zero()) {
                return;
            }
            // Now and then even without a sign: what waits for its time comes due without one.
            let _ = tokio::time::timeout(Duration::from_millis(200), moved).await;
        }
    }

    pub(crate) fn status(&self) -> ChannelStatus {
        let condition = self.condition();
        ChannelStatus {
            name: self.name.to_string(),
            state: condition.state,
            error: condition.error.as_ref().map(Error::to_string),
            fix: condition.error.as_ref().and_then(Error::help).map(str::to_owned),
            failures: condition.failures,
            again_in_ms: condition
                .again_at
                .map(|at| u64::try_from(at.saturating_duration_since(Instant::now()).as_millis()).unwrap_or(u64::MAX)),
        }
    }

    fn condition(&self) -> MutexGuard<'_, Condition> {
        self.condition.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is(&self, state: ChannelState) {
        let mut condition = self.condition();
        condition.state = state;
        condition.again_at = None;
        if matches!(state, ChannelState::Running | ChannelState::Disabled) {
            condition.error = None;
        }
    }

    /// Runs a task for it.
    fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        struct Counted(Arc<Line>);
        impl Drop for Counted {
            fn drop(&mut self) {
                self.0.tasks.send_modify(|tasks| *tasks -= 1);
            }
        }
        self.tasks.send_modify(|tasks| *tasks += 1);
        let counted = Counted(self.clone());
        tokio::spawn(async move {
            let _counted = counted;
            task.await;
        });
    }
}

/// Starts the channels that the configuration names and that are not served yet, and stops those that it does not name any more.
pub(crate) fn settle(core: &Arc<Core>) {
    let mut begun = Vec::new();
    {
        // What is wanted is asked under the lock, so that whoever comes later goes by what is newer; and so is whether it is over, because a
        // drain looks at the lines after it has said so.
        let mut lines = core.table();
        if core.is_closed() {
            return;
        }
        let wanted = wanted(core);
        let Lines { served, leaving } = &mut *lines;
        leaving.retain(|_, line| !line.has_ended());
        served.retain(|name, line| {
            let stays = wanted.contains(name);
            if !stays {
                tracing::info!(channel = name, "is not served any more");
                line.stop();
                leaving.insert(name.clone(), line.clone());
            }
            stays
        });
        for name in wanted {
            if let Some(line) = served.get(&name) {
                line.again.notify_one();
                continue;
            }
            tracing::info!(channel = name, "is served");
            let line = Arc::new(Line::new(&name));
            let before = leaving.get(&name).cloned();
            line.spawn(after(before.clone(), listen(core.clone(), line.clone())));
            line.spawn(after(before, post::run(core.clone(), line.clone())));
            served.insert(name, line.clone());
            begun.push(line);
        }
    }
    for line in begun {
        match core.state.chats_waiting(&line.name) {
            Ok(chats) => chats.into_iter().for_each(|chat| core.desk.knock(core, &line.name, &chat)),
            Err(error) => tracing::error!(channel = &*line.name, %error, "messages from before cannot be read"),
        }
    }
}

/// Works for a channel when the one before it of its name does so no more.
async fn after(before: Option<Arc<Line>>, work: impl Future<Output = ()>) {
    if let Some(before) = before {
        before.ended().await;
    }
    work.await;
}

/// Names of the channels that are to be served.
fn wanted(core: &Core) -> BTreeSet<String> {
    let named = &core.config.load().channels;
    if !named.is_empty() {
        return named.iter().cloned().collect();
    }
    let config = core.host.config();
    let served = config.plugin_ids().into_iter().filter(|id| config.is_enabled(id) && !core.host.is_stand_in(id));
    let provided = served.filter_map(|id| core.host.manifest(&id)).flat_map(|manifest| manifest.provides.clone());
    let mut names: BTreeSet<String> = provided.filter(|p| p.kind == Kind::Channel).filter_map(|p| p.name).collect();
    // Those that a plugin offers without having declared their names.
    let offered = core.host.registry().all::<dyn Channel>();
    let asked = |plugin: &str| config.plugin_ids().iter().any(|id| id == plugin) && !core.host.is_stand_in(plugin);
    names.extend(offered.iter().filter(|slot| asked(slot.plugin())).map(|slot| slot.name().to_owned()));
    names
}

/// Follows what becomes of plugins: one that has come may bring a channel, or make one work again.
pub(crate) fn follow(core: &Arc<Core>) {
    let mut events = core.host.events().subscribe("plugin_", None);
    let (weak, over) = (Arc::downgrade(core), core.over.cancelled());
    tokio::spawn(async move {
        let mut over = over;
        loop {
            let event = tokio::select! {
                () = &mut over => return,
                event = events.next() => event,
            };
            // Losing some is no harm: whatever is next looks at everything.
            let Some(event) = event else { return };
            let topic = event.map(|event| event.topic);
            if topic.is_ok_and(|topic| topic == topics::PLUGIN_LOADED || topic == topics::PLUGIN_UPDATED)
                && let Some(core) = weak.upgrade()
            {
                settle(&core);
            }
        }
    });
}

/// Listens to a channel until it is stopped.
async fn listen(core: Arc<Core>, line: Arc<Line>) {
    let cx = core.cx().with_cancel(line.stop.child());
    let mut in_a_row = 0;
    while !line.is_stopped() {
        line.is(ChannelState::Starting);
        let begun = Instant::now();
        let result = match line.slot(&core) {
            Ok(slot) => run(&core, &line, &slot, &cx).await,
            Err(error) => Err(error),
        };
        if line.is_stopped() {
            break;
        }
        if begun.elapsed() >= SOUND {
            in_a_row = 0;
        }
        let pause = match result {
            // Another instance has its place.
            Ok(End::Replaced) => continue,
            Ok(End::Source) => {
                line.is(ChannelState::Ended);
                Some(ENDED)
            }
            // Whoever switched it off knows, and it is told when it is switched on.
            Err(_) if is_switched_off(&core, &line.name) => {
                line.is(ChannelState::Disabled);
                None
            }
            Err(error) => {
                in_a_row += 1;
                let pause = pause::after(in_a_row, core.config.load().retry());
                let error = core.host.redactor().redact_error(&error);
                tracing::warn!(channel = &*line.name, %error, help = error.help(), "failed, and is tried again in {} ms", pause.as_millis());
                let mut condition = line.condition();
                condition.state = ChannelState::Failed;
                condition.failures += 1;
                condition.error = Some(error);
                Some(pause)
            }
        };
        line.condition().again_at = pause.map(|pause| Instant::now() + pause);
        tokio::select! {
            () = line.stopped() => {}
            () = line.again.notified() => {}
            () = tokio::time::sleep(pause.unwrap_or(ENDED)) => {}
        }
    }
    line.is(ChannelState::Stopped);
}

fn is_switched_off(core: &Core, channel: &str) -> bool {
    core.host.provider_of(Kind::Channel, channel).is_some_and(|id| !core.host.config().is_enabled(&id))
}

/// Why a channel listens no longer.
enum End {
    /// Nothing more comes.
    Source,
    /// Its plugin is stopped or replaced.
    Replaced,
}

async fn run(core: &Arc<Core>, line: &Arc<Line>, slot: &Slot<dyn Channel>, cx: &CallCx) -> Result<End> {
    let inbox = Inbox::new(Arc::new(Sink::new(core, line)));
    let told = AtomicBool::new(false);
    let (told, line) = (&told, line.clone());
    slot.run(cx, move |channel, cx| async move {
        line.is(ChannelState::Running);
        // A try that is under way is the one that was asked for.
        let _ = futures_util::FutureExt::now_or_never(line.again.notified());
        let late = async {
            cx.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        let result = tokio::select! {
            result = channel.run(&cx, inbox) => result,
            () = late => {
                tracing::warn!(channel = &*line.name, "does not stop when it is told to, and is dropped");
                Ok(())
            }
        };
        told.store(cx.is_cancelled(), Ordering::Relaxed);
        result
    })
    .await
    .map(|()| if told.load(Ordering::Relaxed) { End::Replaced } else { End::Source })
    // Whatever it says when it was told to stop.
    .or_else(|error| if told.load(Ordering::Relaxed) { Ok(End::Replaced) } else { Err(error) })
}
