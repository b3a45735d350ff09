//! What happened, kept for longer than the bus does: where, which of it, and for how long. Written by a task of its own, so that
//! whoever tells something never waits for a disk. How it lies on the disk is the store's business.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bespoke_plugin_api::{CancelToken, Error, Event, Result, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{
    sync::{OnceCell, watch},
    task::JoinHandle,
};

use super::{Events, Listener, Topics, topics};
use crate::{Config, ConfigError, clock};

/// Events that may wait for the disk.
const WAITING: usize = 8 * 1024;
/// Most events of one write.
const BATCH: usize = 512;
/// How long a write waits for company.
const PATIENCE: Duration = Duration::from_millis(100);
/// So many events are written between two looks at what is too old.
const BETWEEN_LOOKS: usize = 1000;

/// Numbers that are set aside at once: of two runs none gives a number that the other has given, also after a kill, when nobody knows
/// which of the last ones were told and not written. More than may wait for the disk.
const SET_ASIDE: u64 = 2 * (WAITING + BATCH) as u64;

/// Keeps events. Called on threads that may block.
pub trait EventStore: Send + Sync {
    /// The highest number that an event of any run may have.
    ///
    /// # Errors
    /// When it cannot be read.
    fn last(&self) -> Result<u64>;

    /// Numbers up to this one may be given to events before they are added. Less than before: they were not given.
    ///
    /// # Errors
    /// When it cannot be written.
    fn set_aside(&self, number: u64) -> Result<()>;

    /// Adds events under their numbers, all or none.
    ///
    /// # Errors
    /// When it cannot be written.
    fn append(&self, events: &[Event]) -> Result<()>;

    /// Events that fit, oldest first: of more than there may be, the newest.
    ///
    /// # Errors
    /// When it cannot be read.
    fn query(&self, filter: &EventFilter) -> Result<Vec<Event>>;

    /// How many there are of which.
    ///
    /// # Errors
    /// When it cannot be read.
    fn stats(&self) -> Result<EventStats>;

    /// Forgets all but the newest `most`, and of those what happened before `since`. How many went.
    ///
    /// # Errors
    /// When it cannot be written.
    fn retain(&self, most: u64, since: Timestamp) -> Result<u64>;
}

/// Which events of a history are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventFilter {
    /// What their topics begin with.
    pub prefix: String,
    /// Only of this plugin.
    pub source: Option<String>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Not at or after.
    pub until: Option<Timestamp>,
    /// Only after this number.
    pub after: u64,
    /// At most so many.
    pub limit: u32,
}

impl Default for EventFilter {
    /// The last hundred.
    fn default() -> Self {
        EventFilter { prefix: String::new(), source: None, since: None, until: None, after: 0, limit: 100 }
    }
}

/// How much a history holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct EventStats {
    /// Events in all.
    pub count: u64,
    /// When the oldest happened.
    pub oldest: Option<Timestamp>,
    /// When the newest happened.
    pub newest: Option<Timestamp>,
    /// Events that should have been kept and were not, as far as that is kept.
    pub lost: u64,
    /// By topic, the most frequent first: its name, how many, and when the last one was.
    pub topics: Vec<TopicStats>,
}

/// How often one thing happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TopicStats {
    /// Its name.
    pub topic: String,
    /// How often.
    pub count: u64,
    /// When last.
    pub last: Timestamp,
}

/// The section `[events]`: how long what happened is kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize))]
#[non_exhaustive]
pub struct EventsConfig {
    /// Most events that are kept; 0 keeps none.
    #[cfg_attr(test, schemars(range(max = 100_000_000)))]
    pub keep: u64,
    /// How many days an event is kept; 0 for as long as there is room.
    #[cfg_attr(test, schemars(range(max = 36_500)))]
    pub keep_days: u32,
}

impl Default for EventsConfig {
    fn default() -> Self {
        EventsConfig { keep: 100_000, keep_days: 30 }
    }
}

impl EventsConfig {
    /// Name of the section.
    pub const SECTION: &'static str = "events";
    /// JSON Schema of the section.
    pub const SCHEMA: &'static str = include_str!("../../events.schema.json");

    /// The section as a configuration has it.
    ///
    /// # Errors
    /// With the place of every offending key.
    pub fn of(config: &Config) -> Result<Self, ConfigError> {
        config.section_of(Self::SECTION, &serde_json::from_str(Self::SCHEMA).unwrap_or_default())
    }

    fn oldest(&self, now: Timestamp) -> Timestamp {
        if self.keep_days == 0 {
            return Timestamp(0);
        }
        Timestamp(now.0.saturating_sub(u64::from(self.keep_days) * 24 * 60 * 60 * 1_000_000))
    }
}

/// A store, and the task that writes to it.
pub(crate) struct History {
    pub(crate) store: Arc<dyn EventStore>,
    config: EventsConfig,
    begun: OnceCell<Begun>,
}

struct Begun {
    stop: CancelToken,
    task: Mutex<Option<JoinHandle<()>>>,
    /// The number up to which nothing waits for the disk.
    settled: watch::Receiver<u64>,
}

impl History {
    /// Nothing is read or written before it [begins](Self::begin).
    pub(crate) fn new(store: Arc<dyn EventStore>, config: EventsConfig) -> Self {
        History { store, config, begun: OnceCell::new() }
    }

    /// Keeps what happens on a bus, what happened there before among it, under numbers that go on where the store ends. Once.
    pub(crate) async fn begin(&self, events: &Events) {
        if self.config.keep == 0 {
            return;
        }
        let begin = async {
            let (store, of_store) = (self.store.clone(), self.store.clone());
            let last = tokio::task::spawn_blocking(move || {
                let last = of_store.last()?;
                of_store.set_aside(last + SET_ASIDE).map(|()| last)
            });
            let last = last.await.unwrap_or_else(|error| Err(Error::internal(error.to_string())));
            // Its numbers are those of this run then, as if there had been none before.
            let last = last.inspect_err(|error| tracing::warn!(%error, "what happened before cannot be looked at")).unwrap_or(0);
            events.go_on_after(last);
            let listener = events.listen(Topics::beginning(""), None, Some(0), WAITING);
            let (tell, settled) = watch::channel(last);
            let writer = Writer::new(store, self.config.clone(), last, tell);
            let stop = CancelToken::new();
            let task = tokio::spawn(writer.write(listener, stop.clone()));
            Begun { stop, task: Mutex::new(Some(task)), settled }
        };
        self.begun.get_or_init(|| begin).await;
    }

    /// Completes when the event of this number waits for the disk no more, or will never be written; within bounded time.
    pub(crate) async fn settled(&self, number: u64, limit: Duration) {
        let Some(begun) = self.begun.get() else { return };
        // An error: nothing is written any more.
        let _ = tokio::time::timeout(limit, begun.settled.clone().wait_for(|settled| *settled >= number)).await;
    }

    /// Writes what waits, and ends; within bounded time.
    pub(crate) async fn finish(&self, limit: Duration) {
        let Some(begun) = self.begun.get() else { return };
        begun.stop.cancel();
        let task = begun.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task
            && tokio::time::timeout(limit, task).await.is_err()
        {
            tracing::warn!("the last events were not written in time");
        }
    }
}

struct Writer {
    store: Arc<dyn EventStore>,
    config: EventsConfig,
    /// Since the last look at what is too old.
    written: usize,
    failing: bool,
    /// Events that could not be kept, until that is written down.
    lost: u64,
    /// The number of one of those, which the note of them gets.
    lost_at: u64,
    /// The highest number that was seen.
    last: u64,
    set_aside: u64,
    settled: watch::Sender<u64>,
}

impl Writer {
    fn new(store: Arc<dyn EventStore>, config: EventsConfig, last: u64, settled: watch::Sender<u64>) -> Self {
        Writer { store, config, written: BETWEEN_LOOKS, failing: false, lost: 0, lost_at: last, last, set_aside: last + SET_ASIDE, settled }
    }

    async fn write(mut self, mut listener: Listener, stop: CancelToken) {
        let mut behind = false;
        loop {
            let first = tokio::select! {
                biased;
                first = listener.next() => first,
                () = stop.cancelled() => None,
            };
            let Some(first) = first else {
                // What came in between the last look and the end.
                while let Some(next) = listener.next_now() {
                    let batch = self.batch(next, &mut listener);
                    let Some(after) = self.append(batch).await else { return };
                    self = after;
                }
                // What was set aside beyond that was not given.
                let (store, last) = (self.store.clone(), self.last);
                _ = tokio::task::spawn_blocking(move || store.set_aside(last)).await;
                return;
            };
            // Some come together; where many wait, they do so already.
            if !behind && !stop.is_cancelled() {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(PATIENCE) => {}
                }
            }
            let batch = self.batch(first, &mut listener);
            behind = batch.len() >= BATCH;
            let Some(after) = self.append(batch).await else { return };
            self = after;
        }
    }

    fn batch(&mut self, first: Result<Arc<Event>, u64>, listener: &mut Listener) -> Vec<Event> {
        let (mut batch, mut skipped) = (Vec::new(), false);
        let mut next = Some(first);
        while let Some(one) = next {
            match one {
                Ok(event) => {
                    if std::mem::take(&mut skipped) {
                        self.lost_at = event.seq - 1;
                    }
                    self.last = event.seq;
                    batch.push(Event::clone(&event));
                }
                Err(lost) => {
                    self.lost += lost;
                    skipped = true;
                }
            }
            next = if batch.len() < BATCH { listener.next_now() } else { None };
        }
        batch
    }

    /// What cannot be written is lost, and counted: memory does not grow because a disk is full.
    ///
    /// `None` when the store broke, or the runtime ends.
    async fn append(mut self, mut batch: Vec<Event>) -> Option<Self> {
        if self.lost > 0 {
            batch.push(Event::new(topics::EVENTS_LOST, self.lost_at, clock::time_of_day(), None, json!({ "lost": self.lost })));
        }
        let work = move || {
            let kept = self.store.append(&batch);
            self.settle(batch.len() as u64, kept);
            self
        };
        let after = tokio::task::spawn_blocking(work).await;
        after.inspect_err(|error| tracing::error!(%error, "what happens is not kept any more")).ok()
    }

    fn settle(&mut self, count: u64, kept: Result<()>) {
        match kept {
            Ok(()) => {
                (self.lost, self.failing) = (0, false);
                self.written += usize::try_from(count).unwrap_or(usize::MAX);
            }
            Err(error) => {
                // The note of what was lost before is lost with it, and its number is not.
                self.lost += count - u64::from(self.lost > 0);
                self.lost_at = self.last;
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(%error, "what happens cannot be kept");
                }
            }
        }
        if self.last + SET_ASIDE / 2 > self.set_aside {
            self.set_aside = self.last + SET_ASIDE;
            if let Err(error) = self.store.set_aside(self.set_aside) {
                tracing::warn!(%error, "numbers of events cannot be set aside");
            }
        }
        self.settled.send_replace(self.last);
        if self.written >= BETWEEN_LOOKS {
            self.written = 0;
            if let Err(error) = self.store.retain(self.config.keep, self.config.oldest(clock::time_of_day())) {
                tracing::warn!(%error, "old events cannot be forgotten");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures_util::{FutureExt, StreamExt};

    use super::*;

    #[test]
    fn the_schema_is_fresh() {
        let schema = schemars::schema_for!(EventsConfig);
        let fresh = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/events.schema.json");
        if std::env::var_os("BESPOKE_UPDATE").is_some_and(|v| v == "1") {
            std::fs::write(path, &fresh).unwrap();
        } else {
            assert_eq!(EventsConfig::SCHEMA, fresh, "run with BESPOKE_UPDATE=1");
        }
    }

    #[derive(Default)]
    struct Shelf {
        kept: Mutex<Vec<Event>>,
        full: AtomicBool,
        retained: Mutex<Vec<u64>>,
        set_aside: Mutex<u64>,
    }

    impl EventStore for Shelf {
        fn last(&self) -> Result<u64> {
            Ok(*self.set_aside.lock().unwrap())
        }

        fn set_aside(&self, number: u64) -> Result<()> {
            *self.set_aside.lock().unwrap() = number;
            Ok(())
        }

        fn append(&self, events: &[Event]) -> Result<()> {
            if self.full.load(Ordering::SeqCst) {
                return Err(Error::internal("the disk is full"));
            }
            self.kept.lock().unwrap().extend_from_slice(events);
            Ok(())
        }

        fn query(&self, _: &EventFilter) -> Result<Vec<Event>> {
            Ok(self.kept.lock().unwrap().clone())
        }

        fn stats(&self) -> Result<EventStats> {
            Ok(EventStats::default())
        }

        fn retain(&self, most: u64, _: Timestamp) -> Result<u64> {
            self.retained.lock().unwrap().push(most);
            Ok(0)
        }
    }

    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn what_happens_is_written_to_the_last_and_from_before_the_beginning() {
        let (events, shelf) = (Events::default(), Arc::new(Shelf::default()));
        events.emit("before", None, json!(0));
        let history = History::new(shelf.clone(), EventsConfig::default());
        history.begin(&events).await;
        for n in 0..3 * BATCH {
            events.emit("n", None, json!(n));
        }
        history.finish(LONG).await;
        let kept = shelf.query(&EventFilter::default()).unwrap();
        assert_eq!(kept.len(), 3 * BATCH + 1);
        assert!(kept.windows(2).all(|two| two[0].seq + 1 == two[1].seq));
        assert_eq!(shelf.retained.lock().unwrap().first(), Some(&100_000));
    }

    #[tokio::test]
    async fn numbers_go_on_in_the_next_run_and_leave_room_for_what_a_kill_may_have_lost() {
        let shelf = Arc::new(Shelf::default());
        // A run that is killed ends nothing: where its bus were dropped, its writer would take that for the end, and tell the store so.
        let killed = Mutex::new(Vec::new());
        let run = async |in_order: bool| {
            let events = Events::default();
            events.emit("before", None, json!(0));
            let history = History::new(shelf.clone(), EventsConfig::default());
            history.begin(&events).await;
            let mut heard = events.subscribe("", None);
            let told = events.emit("n", None, json!(1));
            assert_eq!(heard.next().await.unwrap().unwrap().seq, told);
            history.settled(told, LONG).await;
            let kept: Vec<u64> = shelf.query(&EventFilter::default()).unwrap().iter().map(|event| event.seq).collect();
            assert_eq!(kept[kept.len() - 2..], [told - 1, told], "the history has the numbers that were told");
            assert!(
                events.subscribe_since("", None, 0).next().now_or_never().unwrap().unwrap().is_ok(),
                "what other runs told is not lost"
            );
            if in_order {
                history.finish(LONG).await;
            } else {
                killed.lock().unwrap().push((events, history));
            }
            told
        };
        assert_eq!((run(true).await, run(false).await), (2, 4));
        assert_eq!(run(true).await, 2 + SET_ASIDE + 2);
    }

    #[tokio::test]
    async fn what_cannot_be_kept_is_counted_and_that_is_written_down() {
        let (events, shelf) = (Events::default(), Arc::new(Shelf::default()));
        shelf.full.store(true, Ordering::SeqCst);
        // More than may wait, before anybody writes.
        let listener = events.listen(Topics::beginning(""), None, None, WAITING);
        let extra = 7;
        for n in 0..WAITING + extra {
            events.emit("n", None, json!(n));
        }
        let mut writer = Writer::new(shelf.clone(), EventsConfig::default(), 0, watch::Sender::new(0));
        let mut listener = listener;
        for _ in 0..3 {
            let first = listener.next_now().unwrap();
            let batch = writer.batch(first, &mut listener);
            writer = writer.append(batch).await.unwrap();
        }
        shelf.full.store(false, Ordering::SeqCst);
        let stop = CancelToken::new();
        stop.cancel();
        writer.write(listener, stop).await;
        let kept = shelf.query(&EventFilter::default()).unwrap();
        let lost = kept.iter().find(|e| e.topic == topics::EVENTS_LOST).unwrap();
        assert_eq!(lost.payload, json!({ "lost": 3 * BATCH + extra }));
        assert_eq!(kept.len(), WAITING - 3 * BATCH + 1);
        assert!(kept.iter().all(|e| e.topic == topics::EVENTS_LOST || e.seq != lost.seq), "the note has a number that is free");
    }

    #[tokio::test]
    async fn with_room_for_none_nobody_listens() {
        let events = Events::default();
        let config = EventsConfig { keep: 0, ..EventsConfig::default() };
        let history = History::new(Arc::new(Shelf::default()), config);
        history.begin(&events).await;
        assert!(!events.is_heard());
        history.finish(LONG).await;
    }
}
