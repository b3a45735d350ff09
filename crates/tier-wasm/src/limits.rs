//! What an instance may use, and what becomes of one that wants more. The figures only; who measures is beside them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
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

/// Says no to growth beyond the limits, and notes that it did: what a guest then does looks like any other trap.
#[derive(Debug)]
pub(crate) struct Room {
    limits: Limits,
    /// Bytes of all memories. Shown, so that others read it.
    used: Arc<AtomicUsize>,
    /// What the last growth added, which may still fail.
    last: usize,
    pub(crate) refused: Option<Refused>,
}

impl Room {
    pub(crate) fn new(limits: Limits, used: Arc<AtomicUsize>) -> Self {
        Room { limits, used, last: 0, refused: None }
    }
}

impl ResourceLimiter for Room {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        let used = self.used.load(Ordering::Relaxed);
        if used.saturating_add(more) > self.limits.memory {
            self.refused = Some(Refused::Memory);
            return Ok(false);
        }
        self.last = more;
        self.used.store(used + more, Ordering::Relaxed);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        // Also told of what was refused above, which added nothing.
        let last = std::mem::take(&mut self.last);
        self.used.fetch_sub(last.min(self.used.load(Ordering::Relaxed)), Ordering::Relaxed);
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
}

impl Budget {
    pub(crate) fn new(limits: Limits) -> Self {
        Budget { limits, polled: None, begun: None, computed: Duration::ZERO, unwanted: Duration::ZERO, life: Duration::ZERO }
    }

    /// A step begins.
    pub(crate) fn begin(&mut self) {
        let now = self.limits.cpu.map(|_| Instant::now());
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
        let cpu = self.limits.cpu?;
        self.pass(Instant::now(), waited);
        (self.life > cpu).then_some(Why::Cpu)
    }

    fn pass(&mut self, now: Instant, waited: Duration) -> Duration {
        let passed = self.polled.map_or(Duration::ZERO, |polled| now.saturating_duration_since(polled).saturating_sub(waited));
        self.polled = Some(now);
        self.computed += passed;
        self.life += passed;
        passed
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
        let used = Arc::new(AtomicUsize::new(0));
        let mut room = Room::new(Limits { memory: 10 << 16, ..Limits::default() }, used.clone());
        assert!(room.memory_growing(0, 6 << 16, None).unwrap());
        assert!(!room.memory_growing(0, 5 << 16, None).unwrap());
        assert_eq!((room.refused.take(), used.load(Ordering::Relaxed)), (Some(Refused::Memory), 6 << 16));
        assert!(room.memory_growing(0, 4 << 16, None).unwrap());
        room.memory_grow_failed(wasmtime::Error::msg("no")).unwrap();
        assert_eq!(used.load(Ordering::Relaxed), 6 << 16);
        assert!(room.table_growing(0, 100_000, None).unwrap() && room.refused.is_none());
        assert!(!room.table_growing(0, 100_001, None).unwrap() && room.refused == Some(Refused::Table));
    }

    #[test]
    fn a_step_ends_for_what_it_computes_and_not_for_what_it_waits() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let limits = Limits { step: Duration::from_millis(100), unwanted: Duration::from_millis(30), ..Limits::default() };
        let (mut budget, ms, none) = (Budget::new(limits), Duration::from_millis, Duration::ZERO);
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
        let mut budget = Budget::new(Limits { cpu: Some(Duration::from_secs(60)), ..Limits::default() });
        budget.begin();
        assert_eq!(budget.end(Duration::ZERO), None);
        budget.begin();
        let now = Instant::now();
        assert_eq!(budget.tick(Duration::ZERO, now + Duration::from_secs(20), true), None);
        assert_eq!(budget.tick(Duration::from_secs(30), now + Duration::from_secs(80), true), None);
        assert_eq!(budget.tick(Duration::ZERO, now + Duration::from_secs(101), true), Some(Why::Cpu));
    }
}
