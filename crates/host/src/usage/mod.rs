//! What plugins were used for: calls, errors, how long they took, what they cost. Kept on this machine by a store, a day at a time, and sent
//! nowhere. What was asked and answered is not in it.

mod histogram;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use bespoke_plugin_api::{Result, Timestamp};
use serde::{Deserialize, Serialize};

pub use histogram::Histogram;
pub(crate) use histogram::Recorder;

use crate::{Config, ConfigError, Host, candidate::Tier, clock, generation::lock, plugin::PluginCell};

/// Most plugins of which something waits for a store that cannot be written.
const MOST_WAITING: usize = 512;

/// Keeps what plugins were used for. Called on threads that may block.
pub trait UsageStore: Send + Sync {
    /// Adds to what is kept of plugins, by their ids, on the day of `at`; all or none.
    ///
    /// # Errors
    /// When it cannot be written.
    fn add(&self, at: Timestamp, usage: &BTreeMap<String, Usage>) -> Result<()>;

    /// What was kept of all plugins, by their ids, since a day: that of `at` when `today` is asked, else as long as the store goes back.
    ///
    /// # Errors
    /// When it cannot be read.
    fn usage(&self, at: Timestamp, today: bool) -> Result<BTreeMap<String, Usage>>;

    /// Forgets days that are so many before that of `at`.
    ///
    /// # Errors
    /// When it cannot be written.
    fn forget(&self, at: Timestamp, days: u32) -> Result<()>;

    /// Adds tokens to those of the day of `at`.
    ///
    /// # Errors
    /// When it cannot be written.
    fn spend(&self, at: Timestamp, tokens: u64) -> Result<()>;

    /// The tokens of the day of `at`.
    ///
    /// # Errors
    /// When it cannot be read.
    fn spent(&self, at: Timestamp) -> Result<u64>;
}

/// The day of a time, counted from 1970. Days are those of UTC, so that a machine that travels has one of each.
pub fn day_of(at: Timestamp) -> u64 {
    at.0 / DAY
}

const DAY: u64 = 24 * 60 * 60 * 1_000_000;

/// What a plugin was used for in some time.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Usage {
    /// Calls of its contributions.
    pub calls: u64,
    /// How many of them failed.
    pub errors: u64,
    /// How long they took. Of a plugin whose calls take less than 10 µs, one call in eight stands for eight.
    pub times: Histogram,
    /// How long the first piece of an answer took to come, of a provider: the first word, or the first call of a tool.
    pub firsts: Histogram,
    /// The longest of those that were timed.
    pub longest: Duration,
    /// Time of processors, of a plugin that is a process of its own; nobody knows that of the others.
    pub cpu: Option<Duration>,
    /// The most memory in millions of bytes that was seen, where it is known: once a minute.
    pub memory_mb: Option<f64>,
    /// When it was called last.
    pub last: Option<Timestamp>,
}

impl Usage {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.calls == 0 && self.errors == 0
    }

    /// Adds what was used in another time.
    pub fn merge(&mut self, other: &Usage) {
        self.calls = self.calls.saturating_add(other.calls);
        self.errors = self.errors.saturating_add(other.errors);
        self.times.merge(&other.times);
        self.firsts.merge(&other.firsts);
        self.longest = self.longest.max(other.longest);
        self.cpu = self.cpu.into_iter().chain(other.cpu).reduce(Duration::saturating_add);
        self.memory_mb = self.memory_mb.into_iter().chain(other.memory_mb).reduce(f64::max);
        self.last = self.last.max(other.last);
    }

    /// As it is shown: percentiles instead of buckets.
    pub fn summary(&self) -> UsageSummary {
        let ms = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
        // The middle of the last bucket may lie beyond the longest call.
        let at = |part| self.times.percentile(part).map(|time| ms(time.min(self.longest)));
        let first = |part| self.firsts.percentile(part).map(ms);
        UsageSummary {
            calls: self.calls,
            errors: self.errors,
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            max_ms: (self.times.count() > 0).then(|| ms(self.longest)),
            first_p50_ms: first(0.5),
            first_p90_ms: first(0.9),
            first_p99_ms: first(0.99),
            cpu_ms: self.cpu.map(ms),
            memory_mb: self.memory_mb,
            last_used: self.last,
        }
    }
}

/// What is shown of a [`Usage`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UsageSummary {
    /// Calls of its contributions.
    pub calls: u64,
    /// How many of them failed.
    pub errors: u64,
    /// Half of the calls took no longer, in milliseconds, at most 3.2 % beside the truth.
    pub p50_ms: Option<f64>,
    /// Nine of ten took no longer.
    pub p90_ms: Option<f64>,
    /// 99 of a hundred took no longer.
    pub p99_ms: Option<f64>,
    /// The longest.
    pub max_ms: Option<f64>,
    /// Of a provider: half of its answers began no later than so long after they were asked for, in milliseconds.
    pub first_p50_ms: Option<f64>,
    /// Nine of ten began no later.
    pub first_p90_ms: Option<f64>,
    /// 99 of a hundred began no later.
    pub first_p99_ms: Option<f64>,
    /// Time of processors.
    pub cpu_ms: Option<f64>,
    /// The most memory that was seen, in millions of bytes.
    pub memory_mb: Option<f64>,
    /// When it was called last.
    pub last_used: Option<Timestamp>,
}

/// The section `[usage]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize))]
#[non_exhaustive]
pub struct UsageConfig {
    /// Whether what plugins were used for is kept from one run of the program to the next. It stays on this machine.
    pub enabled: bool,
    /// For how many days it is kept, 1–3650.
    #[cfg_attr(test, schemars(range(min = 1, max = 3650)))]
    pub keep_days: u32,
}

impl Default for UsageConfig {
    fn default() -> Self {
        UsageConfig { enabled: true, keep_days: 400 }
    }
}

impl UsageConfig {
    /// The name of the section.
    pub const SECTION: &'static str = "usage";
    /// JSON Schema of the section.
    pub const SCHEMA: &'static str = include_str!("../../usage.schema.json");

    /// The section as a configuration has it.
    ///
    /// # Errors
    /// With the place of every offending key.
    pub fn of(config: &Config) -> std::result::Result<Self, ConfigError> {
        config.section_of(Self::SECTION, &serde_json::from_str(Self::SCHEMA).unwrap_or_default())
    }
}

/// What has been used and is not kept yet.
#[derive(Default)]
pub(crate) struct Ledger {
    store: Option<Arc<dyn UsageStore>>,
    config: UsageConfig,
    /// Tokens of a day, of a program without a store.
    tokens: Mutex<(u64, u64)>,
    waiting: Mutex<BTreeMap<String, Usage>>,
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("is_kept", &self.is_kept()).finish_non_exhaustive()
    }
}

impl Ledger {
    pub(crate) fn new(store: Option<Arc<dyn UsageStore>>, config: UsageConfig) -> Self {
        Ledger { store, config, tokens: Mutex::default(), waiting: Mutex::default() }
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.config.enabled && self.store.is_some()
    }

    fn spend(&self, tokens: u64) -> Result<()> {
        let at = clock::time_of_day();
        if let Some(store) = &self.store {
            return store.spend(at, tokens);
        }
        let mut kept = lock(&self.tokens);
        let before = if kept.0 == day_of(at) { kept.1 } else { 0 };
        *kept = (day_of(at), before.saturating_add(tokens));
        Ok(())
    }

    fn spent(&self) -> Result<(u64, Duration)> {
        let at = clock::time_of_day();
        let left = Duration::from_micros(DAY - at.0 % DAY);
        let tokens = match &self.store {
            Some(store) => store.spent(at)?,
            None => Some(*lock(&self.tokens)).filter(|(day, _)| *day == day_of(at)).map_or(0, |(_, tokens)| tokens),
        };
        Ok((tokens, left))
    }

    /// Takes what a plugin was used for since the last time.
    pub(crate) fn take(&self, plugin: &PluginCell) {
        if !self.is_kept() {
            return;
        }
        let used = plugin.metrics().take(measured(plugin, true));
        let mut waiting = lock(&self.waiting);
        if !used.is_empty() && (waiting.len() < MOST_WAITING || waiting.contains_key(plugin.id())) {
            waiting.entry(plugin.id().to_owned()).or_default().merge(&used);
        }
    }

    /// Writes what was taken. What cannot be written waits for the next time.
    pub(crate) fn keep(&self) {
        let Some(store) = &self.store else { return };
        let new = std::mem::take(&mut *lock(&self.waiting));
        if new.is_empty() {
            return;
        }
        let at = clock::time_of_day();
        let kept = store.add(at, &new).and_then(|()| store.forget(at, self.config.keep_days));
        if let Err(error) = kept {
            tracing::warn!(%error, "what plugins were used for could not be kept");
            let mut waiting = lock(&self.waiting);
            for (id, used) in new {
                waiting.entry(id).or_default().merge(&used);
            }
        }
    }
}

impl Host {
    /// Adds tokens that a model was asked and answered with to those of today.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub fn spend_tokens(&self, tokens: u64) -> Result<()> {
        self.inner().usage.spend(tokens)
    }

    /// The tokens of today that were [counted](Self::spend_tokens), by all programs that share the store, and how long today still is. Without
    /// a store, those of this program.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn tokens_today(&self) -> Result<(u64, Duration)> {
        self.inner().usage.spent()
    }

    /// What a plugin was used for today, and since it is counted; together with what is not kept yet. Without a store, since the program
    /// began.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn usage(&self, id: &str) -> Result<(Usage, Usage)> {
        let of = |all: &BTreeMap<String, Usage>| all.get(id).cloned().unwrap_or_default();
        let (today, total) = self.usages()?;
        Ok((of(&today), of(&total)))
    }

    /// As [`usage`](Self::usage), of all plugins by their ids.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn usages(&self) -> Result<(BTreeMap<String, Usage>, BTreeMap<String, Usage>)> {
        let ledger = &self.inner().usage;
        let (mut today, mut total) = match ledger.store.as_ref().filter(|_| ledger.is_kept()) {
            Some(store) => {
                let at = clock::time_of_day();
                (store.usage(at, true)?, store.usage(at, false)?)
            }
            None => Default::default(),
        };
        let mut fresh = lock(&ledger.waiting).clone();
        for plugin in self.plugins().iter() {
            let used = plugin.metrics().look(measured(plugin, false));
            if !used.is_empty() {
                fresh.entry(plugin.id().to_owned()).or_default().merge(&used);
            }
        }
        for (id, used) in fresh {
            today.entry(id.clone()).or_default().merge(&used);
            total.entry(id).or_default().merge(&used);
        }
        Ok((today, total))
    }
}

/// Processor time since the last look, and memory, of a plugin whose tier measures them.
fn measured(plugin: &PluginCell, taken: bool) -> (Option<Duration>, Option<f64>) {
    // Of what is part of the program, only the whole program is known.
    if plugin.candidate.tier == Tier::Compiled || plugin.generation.load().is_none() {
        return (None, None);
    }
    let facts = plugin.facts();
    let number = |name: &str| facts.get(name).and_then(|value| value.split_whitespace().next()?.parse::<f64>().ok());
    let seconds = number("cpu").and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let memory = number("memory").map(|mib| mib * 1.048_576);
    (seconds.map(|now| plugin.cpu_since(now, taken)), memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_fresh() {
        let fresh = serde_json::to_string_pretty(&schemars::schema_for!(UsageConfig)).unwrap() + "\n";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/usage.schema.json");
        if std::env::var_os("BESPOKE_UPDATE").is_some_and(|v| v == "1") {
            std::fs::write(path, &fresh).unwrap();
        } else {
            assert_eq!(std::fs::read_to_string(path).unwrap(), fresh, "run it with BESPOKE_UPDATE=1");
        }
    }

    #[test]
    fn usages_add_up_and_are_shown_in_percentiles() {
        let recorder = Recorder::default();
        (1..=100_u64).for_each(|ms| recorder.add(ms * 1_000_000, 1));
        let mut usage = Usage { calls: 100, errors: 2, times: recorder.take(), longest: Duration::from_millis(100), ..Usage::default() };
        usage.merge(&Usage {
            calls: 1,
            cpu: Some(Duration::from_secs(2)),
            memory_mb: Some(3.0),
            last: Some(Timestamp(7)),
            ..Usage::default()
        });
        usage.merge(&Usage { cpu: Some(Duration::from_secs(1)), memory_mb: Some(2.0), last: Some(Timestamp(5)), ..Usage::default() });
        let shown = usage.summary();
        assert_eq!(
            (shown.calls, shown.errors, shown.cpu_ms, shown.memory_mb, shown.last_used),
            (101, 2, Some(3_000.0), Some(3.0), Some(Timestamp(7)))
        );
        for (told, truth) in [(shown.p50_ms, 50.0), (shown.p90_ms, 90.0), (shown.p99_ms, 99.0), (shown.max_ms, 100.0)] {
            assert!((told.unwrap() - truth).abs() / truth <= 0.032, "{told:?} for {truth}");
        }
        let nothing = Usage::default().summary();
        assert_eq!((nothing.p50_ms, nothing.max_ms, nothing.first_p50_ms, nothing.cpu_ms), (None, None, None, None));
    }

    #[test]
    fn the_beginning_of_answers_is_told_apart_from_their_whole() {
        let metrics = crate::metrics::Metrics::default();
        (1..=100_u64).for_each(|ms| metrics.first(Duration::from_millis(ms)));
        let mut usage = metrics.look((None, None));
        usage.merge(&metrics.take((None, None)));
        assert_eq!((usage.firsts.count(), metrics.take((None, None)).firsts.count()), (200, 0));
        let shown = usage.summary();
        assert_eq!((shown.calls, shown.p50_ms), (0, None));
        for (told, truth) in [(shown.first_p50_ms, 50.0), (shown.first_p90_ms, 90.0), (shown.first_p99_ms, 99.0)] {
            assert!((told.unwrap() - truth).abs() / truth <= 0.032, "{told:?} for {truth}");
        }
    }
}
