//! What an instance may use, and what becomes of one that wants more. The figures only; who measures is beside them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bespoke_manifest::Resources;
use bespoke_protocol::MAX_FRAME;
use wasmtime::ResourceLimiter;

/// What an instance may use. Where the manifest or the configuration has a key for it, that goes first.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Limits {
    /// Linear memory in bytes, of all memories of an instance together: `memory_mb`, or 256 MiB. A plugin in Rust begins with 1.1 MiB, one in
    /// JavaScript or Python with 2 to 20.
    pub memory: usize,
    /// Elements of a table: 100,000, eight bytes each. One element is one function that is called through a pointer; CPython has 15,000.
    pub table: usize,
    /// Core instances, memories and tables, of each so many: 100. QuickJS needs nine instances.
    pub instances: usize,
    /// Size of a component: 64 MiB. CPython has 18.
    pub artifact: u64,
    /// Time to compile one: 2 minutes. CPython takes 9 s on two cores, and 18 s is the longest that was measured.
    pub compile: Duration,
    /// Time that one step may compute while somebody waits: 30 s. By the clock it is twice that, as the machine may be busy.
    pub step: Duration,
    /// Time that a step may compute on after its calls were given up: 2 s.
    pub unwanted: Duration,
    /// CPU time over the life of an instance: `cpu_seconds`, or as much as it likes.
    pub cpu: Option<Duration>,
    /// Share of one processor: `cpu_percent`, or all of it. Whoever has used more is halted until it has come together; what a step may
    /// take by the clock holds all the same.
    pub cpu_percent: Option<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            memory: 256 << 20,
            table: 100_000,
            instances: 100,
            artifact: 64 << 20,
            compile: Duration::from_secs(120),
            step: Duration::from_secs(30),
            unwanted: Duration::from_secs(2),
            cpu: None,
            cpu_percent: None,
        }
    }
}

impl Limits {
    /// These, with what the manifest and the configuration say.
    pub(crate) fn under(mut self, terms: &Resources) -> Self {
        if let Some(mib) = terms.memory_mb {
            self.memory = usize::try_from(u64::from(mib) << 20).unwrap_or(usize::MAX);
        }
        if let Some(seconds) = terms.cpu_seconds {
            self.cpu = Some(Duration::from_secs(seconds.into()));
        }
        // An instance has one thread: a whole processor is no limit.
        self.cpu_percent = terms.cpu_percent.filter(|percent| *percent < 100).or(self.cpu_percent);
        self
    }

    /// The longest message that an instance takes: it has to lie in its memory, and once more where it is read.
    pub(crate) fn payload(&self) -> usize {
        (self.memory / 4).min(MAX_FRAME)
    }
}

/// What was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    Memory,
    Table,
}

/// What an instance uses, for whoever looks at it from outside.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    /// Bytes of all memories.
    memory: AtomicUsize,
    /// Microseconds that it has computed, as far as they are counted.
    computed: AtomicU64,
}

impl Gauge {
    pub(crate) fn memory(&self) -> usize {
        self.memory.load(Ordering::Relaxed)
    }

    pub(crate) fn computed(&self) -> Duration {
        Duration::from_micros(self.computed.load(Ordering::Relaxed))
    }
}

/// Says no to growth beyond the limits, and notes that it did: what a guest then does looks like any other trap.
#[derive(Debug)]
pub(crate) struct Room {
    limits: Limits,
    gauge: Arc<Gauge>,
    /// What the last growth added, which may still fail.
    last: usize,
    pub(crate) refused: Option<Refused>,
}

impl Room {
    pub(crate) fn new(limits: Limits, gauge: Arc<Gauge>) -> Self {
        Room { limits, gauge, last: 0, refused: None }
    }
}

impl ResourceLimiter for Room {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        let used = self.gauge.memory();
        if used.saturating_add(more) > self.limits.memory {
            self.refused = Some(Refused::Memory);
            return Ok(false);
        }
        self.last = more;
        self.gauge.memory.store(used + more, Ordering::Relaxed);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        // Also told of what was refused above, which added nothing.
        let last = std::mem::take(&mut self.last);
        self.gauge.memory.fetch_sub(last.min(self.gauge.memory()), Ordering::Relaxed);
        Ok(())
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let fits = desired <= self.limits.table;
        if !fits {
            self.refused = Some(Refused::Table);
        }
        Ok(fits)
    }

    fn instances(&self) -> usize {
        self.limits.instances
    }

    fn tables(&self) -> usize {
        self.limits.instances
    }

    fn memories(&self) -> usize {
        self.limits.instances
    }
}

/// Why a step was interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// It computed on although its calls were given up.
    Unwanted,
    /// It computed for too long.
    Step,
    /// Its CPU time is used up.
    Cpu,
    /// It waited on for something of WASI although its calls were given up.
    WaitedUnwanted,
    /// It waited for something of WASI for too long.
    Waited,
}

/// The time of one instance. It is asked at each tick of the engine that a step lives to see. A step that ends before its first tick costs
/// nothing, and what a step computes before that is not counted, unless there is a limit over the whole life.
#[derive(Debug)]
pub(crate) struct Budget {
    limits: Limits,
    /// When the present poll of the step began, and when the step itself; as far as it is known.
    polled: Option<Instant>,
    begun: Option<Instant>,
    /// What the step has computed so far, and how much of that for nobody.
    computed: Duration,
    unwanted: Duration,
    /// What the instance has computed.
    life: Duration,
    gauge: Arc<Gauge>,
    share: Option<Share>,
}

impl Budget {
    pub(crate) fn new(limits: Limits, gauge: Arc<Gauge>) -> Self {
        let none = Duration::ZERO;
        let share = limits.cpu_percent.map(Share::new);
        Budget { limits, polled: None, begun: None, computed: none, unwanted: none, life: none, gauge, share }
    }

    /// How long it has to be halted, when it has used more than its share.
    pub(crate) fn owed(&mut self, now: Instant) -> Option<Duration> {
        self.share.as_mut().and_then(|share| share.owed(now))
    }

    /// Whether what is computed between two ticks counts, too.
    fn is_exact(&self) -> bool {
        self.limits.cpu.is_some() || self.share.is_some()
    }

    /// A step begins.
    pub(crate) fn begin(&mut self) {
        let now = self.is_exact().then(Instant::now);
        (self.begun, self.polled) = (now, now);
        (self.computed, self.unwanted) = (Duration::ZERO, Duration::ZERO);
    }

    /// A tick. `waited` is how long the step did nothing since the last one, and `wanted` says whether it computes for somebody.
    pub(crate) fn tick(&mut self, waited: Duration, now: Instant, wanted: bool) -> Option<Why> {
        let begun = *self.begun.get_or_insert(now);
        let passed = self.pass(now, waited);
        self.unwanted = if wanted { Duration::ZERO } else { self.unwanted + passed };
        let limits = &self.limits;
        if limits.cpu.is_some_and(|cpu| self.life > cpu) {
            Some(Why::Cpu)
        } else if self.unwanted > limits.unwanted {
            Some(Why::Unwanted)
        } else if self.computed > limits.step || now.saturating_duration_since(begun) > limits.step * 2 {
            Some(Why::Step)
        } else {
            None
        }
    }

    /// The step is over. Why, when the instance is, too.
    pub(crate) fn end(&mut self, waited: Duration) -> Option<Why> {
        if self.is_exact() {
            self.pass(Instant::now(), waited);
        }
        (self.life > self.limits.cpu?).then_some(Why::Cpu)
    }

    fn pass(&mut self, now: Instant, waited: Duration) -> Duration {
        let passed = self.polled.map_or(Duration::ZERO, |polled| now.saturating_duration_since(polled).saturating_sub(waited));
        self.polled = Some(now);
        self.computed += passed;
        self.life += passed;
        self.gauge.computed.store(u64::try_from(self.life.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        if let Some(share) = &mut self.share {
            share.spend(passed);
        }
        passed
    }
}

/// A purse that fills with time and empties with use, as the one of processes.
#[derive(Debug)]
struct Share {
    percent: u32,
    /// Time that may be computed, and time that was computed beyond that.
    purse: Duration,
    debt: Duration,
    filled: Option<Instant>,
}

/// What may come together in the purse of one that rests: so long at its share.
const BURST: Duration = Duration::from_secs(1);

impl Share {
    fn new(percent: u32) -> Self {
        let percent = percent.max(1);
        Share { percent, purse: BURST * percent / 100, debt: Duration::ZERO, filled: None }
    }

    fn spend(&mut self, used: Duration) {
        self.debt += used.saturating_sub(self.purse);
        self.purse = self.purse.saturating_sub(used);
    }

    /// How long it takes until the debt is paid; from then on it counts as paid up to that moment.
    fn owed(&mut self, now: Instant) -> Option<Duration> {
        let earned = now.saturating_duration_since(self.filled.unwrap_or(now)) * self.percent / 100;
        self.filled = Some(now);
        let left = earned.saturating_sub(self.debt);
        self.debt = self.debt.saturating_sub(earned);
        self.purse = (self.purse + left).min(BURST * self.percent / 100);
        (!self.debt.is_zero()).then(|| self.debt * 100 / self.percent)
    }
}

/// The patience with a step that does nothing but wait for WASI: no tick of the engine sees it, so the clock does. It has twice the time
/// that a step may compute, as that has by the clock.
#[derive(Debug)]
pub(crate) struct Patience {
    limits: Limits,
    begun: Instant,
    /// Since when nobody waits for it.
    unwanted: Option<Instant>,
}

impl Patience {
    pub(crate) fn new(limits: Limits, now: Instant) -> Self {
        Patience { limits, begun: now, unwanted: None }
    }

    /// Asked now and then while it waits.
    pub(crate) fn look(&mut self, now: Instant, wanted: bool) -> Option<Why> {
        self.unwanted = if wanted { None } else { self.unwanted.or(Some(now)) };
        let over = |since: Instant, limit: Duration| now.saturating_duration_since(since) > limit * 2;
        if self.unwanted.is_some_and(|since| over(since, self.limits.unwanted)) {
            Some(Why::WaitedUnwanted)
        } else {
            over(self.begun, self.limits.step).then_some(Why::Waited)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_counted_over_all_memories_and_what_failed_is_given_back() {
        let used = Arc::<Gauge>::default();
        let mut room = Room::new(Limits { memory: 10 << 16, ..Limits::default() }, used.clone());
        assert!(room.memory_growing(0, 6 << 16, None).unwrap());
        assert!(!room.memory_growing(0, 5 << 16, None).unwrap());
        assert_eq!((room.refused.take(), used.memory()), (Some(Refused::Memory), 6 << 16));
        assert!(room.memory_growing(0, 4 << 16, None).unwrap());
        room.memory_grow_failed(wasmtime::Error::msg("no")).unwrap();
        assert_eq!(used.memory(), 6 << 16);
        assert!(room.table_growing(0, 100_000, None).unwrap() && room.refused.is_none());
        assert!(!room.table_growing(0, 100_001, None).unwrap() && room.refused == Some(Refused::Table));
    }

    #[test]
    fn a_step_ends_for_what_it_computes_and_not_for_what_it_waits() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let limits = Limits { step: Duration::from_millis(100), unwanted: Duration::from_millis(30), ..Limits::default() };
        let (mut budget, ms, none) = (Budget::new(limits, Arc::default()), Duration::from_millis, Duration::ZERO);
        budget.begin();
        assert_eq!(budget.tick(none, at(0), true), None);
        assert_eq!(budget.tick(none, at(60), true), None);
        // Others had a go, and nobody counts that but the clock.
        assert_eq!(budget.tick(ms(90), at(180), true), None);
        assert_eq!(budget.tick(none, at(195), true), Some(Why::Step));

        budget.begin();
        assert_eq!(budget.tick(none, at(200), false), None);
        assert_eq!(budget.tick(none, at(220), false), None);
        assert_eq!(budget.tick(none, at(225), true), None);
        assert_eq!(budget.tick(none, at(250), false), None);
        assert_eq!(budget.tick(none, at(260), false), Some(Why::Unwanted));

        budget.begin();
        assert_eq!(budget.tick(none, at(300), true), None);
        assert_eq!(budget.tick(ms(201), at(502), true), Some(Why::Step), "by the clock");
    }

    #[test]
    fn a_step_that_waits_ends_by_the_clock_and_sooner_when_nobody_waits_for_it() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let limits = Limits { step: Duration::from_millis(100), unwanted: Duration::from_millis(30), ..Limits::default() };
        let mut patience = Patience::new(limits, start);
        for (ms, wanted, why) in [(50, true, None), (60, false, None), (115, false, None), (118, true, None), (119, false, None)] {
            assert_eq!(patience.look(at(ms), wanted), why, "{ms}");
        }
        assert_eq!(patience.look(at(180), false), Some(Why::WaitedUnwanted));
        assert_eq!(patience.look(at(200), true), None);
        assert_eq!(patience.look(at(201), true), Some(Why::Waited));
    }

    #[test]
    fn cpu_time_is_counted_over_the_life() {
        let (cpu, step) = (Some(Duration::from_secs(60)), Duration::from_secs(200));
        let mut budget = Budget::new(Limits { cpu, step, ..Limits::default() }, Arc::default());
        budget.begin();
        assert_eq!(budget.end(Duration::ZERO), None);
        budget.begin();
        let now = Instant::now();
        assert_eq!(budget.tick(Duration::ZERO, now + Duration::from_secs(20), true), None);
        assert_eq!(budget.tick(Duration::from_secs(30), now + Duration::from_secs(80), true), None);
        assert_eq!(budget.tick(Duration::ZERO, now + Duration::from_secs(101), true), Some(Why::Cpu));
    }

    #[test]
    fn who_has_used_more_than_its_share_waits_until_it_has_come_together() {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let mut share = Share::new(20);
        assert_eq!(share.owed(start), None);
        // What was saved may be used at once.
        share.spend(ms(200));
        assert_eq!(share.owed(start), None);
        share.spend(ms(10));
        assert_eq!(share.owed(start), Some(ms(50)));
        // Half of it, and more again.
        share.spend(ms(5));
        assert_eq!(share.owed(start + ms(25)), Some(ms(50)));
        assert_eq!(share.owed(start + ms(75)), None);
        // However long it rests.
        assert_eq!(share.owed(start + ms(60_000)), None);
        share.spend(ms(201));
        assert_eq!(share.owed(start + ms(60_000)), Some(ms(5)));
    }
}
