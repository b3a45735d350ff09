//! What a family uses: memory, and a share of the CPU. It says what is too much; what is done about it is `supervise`'s. Time is passed in.

use std::{
    fs,
    time::{Duration, Instant},
};

use super::family::{self, Process};
use crate::policy::Limits;

/// How often is looked while something happens, and while nothing does.
const BUSY: Duration = Duration::from_millis(50);
const BUSY_SHARE: Duration = Duration::from_millis(20);
const IDLE: Duration = Duration::from_millis(200);
/// How long it may take until a process that was allowed stands in `/proc`.
const UNSEEN: Duration = Duration::from_millis(100);
/// How long whoever has a share may use all of a core before it is held to it.
const BURST: Duration = Duration::from_millis(500);
/// How much of its share must have come together before a halted family goes on.
const PAUSE: Duration = Duration::from_millis(50);

pub(super) struct Meter {
    memory: Option<u64>,
    share: Option<Share>,
    page: u64,
    tick: Duration,
    known: Vec<Process>,
    /// Somebody was added and may not be seen before then.
    unseen: Option<Instant>,
    last: Option<(Instant, u64)>,
    next: Instant,
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Bytes used, and allowed.
    TooMuchMemory(u64, u64),
    /// Percent used of late, and allowed: to be halted.
    Halt(u64, u64),
    /// To go on.
    Resume,
}

impl Meter {
    pub(super) fn new(limits: &Limits, now: Instant) -> Self {
        let ticks = u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100).max(1);
        Meter {
            memory: limits.memory,
            share: limits.cpu_percent.map(|percent| Share::new(percent, now)),
            page: rustix::param::page_size() as u64,
            tick: Duration::from_secs(1) / ticks,
            known: Vec::new(),
            unseen: None,
            last: None,
            next: now,
        }
    }

    /// When it wants to look again; never where nothing is limited.
    pub(super) fn next(&self) -> Option<Instant> {
        (self.memory.is_some() || self.share.is_some()).then_some(self.next)
    }

    /// Who was there when it looked last.
    pub(super) fn known(&self) -> &[Process] {
        &self.known
    }

    /// Looks, when it is time to. `grew` says that others may have come since.
    pub(super) fn look(&mut self, now: Instant, grew: bool) -> Option<Found> {
        if grew {
            self.unseen = Some(now + UNSEEN);
        }
        if self.next().is_none_or(|next| now < next) {
            return None;
        }
        let anew = self.unseen.is_some() || self.known.is_empty();
        // The first look after that time sees whoever was added before it.
        self.unseen = self.unseen.filter(|until| now < *until);
        self.known = if anew {
            family::descendants(std::process::id())
        } else {
            // Nobody was added, so that it is enough to look at those again. Only /proc knows who is whose child.
            let before = std::mem::take(&mut self.known);
            before.iter().filter_map(|old| family::look(old.pid).filter(|new| new.began == old.began)).collect()
        };
        // What has ended and was waited for stands with whoever waited.
        let waited = family::look(std::process::id()).map_or(0, |me| me.waited);
        let ticks = self.known.iter().map(|process| process.ticks.saturating_add(process.waited)).sum::<u64>().saturating_add(waited);
        let (since, used) = match self.last {
            Some((at, before)) => (now.duration_since(at), ticks.saturating_sub(before)),
            None => (Duration::ZERO, 0),
        };
        self.last = Some((now, ticks));

        let pages: u64 = self.known.iter().map(|process| process.pages).sum();
        let bytes = pages.saturating_mul(self.page);
        let near = self.memory.is_some_and(|limit| bytes > limit / 2);
        let busy = used > 0 || near || self.share.as_ref().is_some_and(|share| share.halted);
        let pause = match (busy, &self.share) {
            (true, Some(_)) => BUSY_SHARE,
            (true, None) => BUSY,
            (false, _) => IDLE,
        };
        self.next = now + pause;

        if let Some(limit) = self.memory.filter(|limit| bytes > *limit) {
            // Shared pages were counted for each that shares them.
            let exact = if self.known.len() > 1 { self.known.iter().map(|p| proportional(p, self.page)).sum() } else { bytes };
            if exact > limit {
                return Some(Found::TooMuchMemory(exact, limit));
            }
        }
        let used = self.tick.saturating_mul(u32::try_from(used).unwrap_or(u32::MAX));
        self.share.as_mut().and_then(|share| share.spend(since, used))
    }
}

/// Memory of a process, where a page that several share counts in parts.
fn proportional(process: &Process, page: u64) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", process.pid)).unwrap_or_default();
    let kilobytes = text.lines().find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kilobytes.map_or(process.pages.saturating_mul(page), |kilobytes| kilobytes.saturating_mul(1024))
}

/// A purse that fills with time and empties with use.
struct Share {
    percent: u32,
    /// Microseconds of CPU time; below zero is owed.
    purse: i128,
    halted: bool,
}

impl Share {
    fn new(percent: u32, _now: Instant) -> Self {
        let percent = percent.max(1);
        Share { percent, purse: Self::part(percent, BURST), halted: false }
    }

    fn part(percent: u32, of: Duration) -> i128 {
        i128::try_from(of.as_micros()).unwrap_or(0) * i128::from(percent) / 100
    }

    fn spend(&mut self, since: Duration, used: Duration) -> Option<Found> {
        let earned = Self::part(self.percent, since);
        let used_us = i128::try_from(used.as_micros()).unwrap_or(0);
        self.purse = (self.purse + earned - used_us).min(Self::part(self.percent, BURST));
        if self.halted {
            if self.purse < Self::part(self.percent, PAUSE) {
                return None;
            }
            self.halted = false;
            return Some(Found::Resume);
        }
        if self.purse >= 0 {
            return None;
        }
        self.halted = true;
        let percent = if since.is_zero() { 0 } else { used.as_micros() * 100 / since.as_micros().max(1) };
        Some(Found::Halt(u64::try_from(percent).unwrap_or(u64::MAX), u64::from(self.percent)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Somebody who uses a whole core whenever it may.
    #[test]
    fn a_share_is_kept_over_time() {
        for percent in [5, 25, 50, 90, 100, 200] {
            let mut share = Share::new(percent, Instant::now());
            let step = Duration::from_millis(10);
            let (mut used, mut runs) = (Duration::ZERO, true);
            let steps = 10_000;
            for _ in 0..steps {
                let spent = if runs { step } else { Duration::ZERO };
                used += spent;
                match share.spend(step, spent) {
                    Some(Found::Halt(..)) => runs = false,
                    Some(Found::Resume) => runs = true,
                    _ => {}
                }
            }
            let whole = (step * steps).as_secs_f64();
            let got = used.as_secs_f64() / whole * 100.0;
            let wanted = f64::from(percent.min(100));
            assert!((got - wanted).abs() < 2.0, "{percent}: {got}");
        }
    }
}
