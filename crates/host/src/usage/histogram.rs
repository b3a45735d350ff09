//! How long calls took, in buckets that are a sixteenth of an octave wide: what is read from them is at most 3.2 % beside the truth.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Buckets of an octave, as a power of two.
const STEPS: u32 = 4;
/// Below 2^8 ns everything is as long: a guarded call costs half of that.
const SHORTEST: u32 = 8;
/// From 2^42 ns on, 73 minutes, everything is as long.
const LONGEST: u32 = 42;
const BUCKETS: usize = ((LONGEST - SHORTEST) << STEPS) as usize + 1;

/// Times of calls, counted without a lock. 4.3 KB.
#[derive(Debug)]
pub(crate) struct Recorder(Box<[AtomicU64]>);

impl Default for Recorder {
    fn default() -> Self {
        Recorder((0..BUCKETS).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Recorder {
    pub(crate) fn add(&self, nanos: u64, times: u64) {
        self.0[bucket(nanos)].fetch_add(times, Ordering::Relaxed);
    }

    /// What was counted since it was taken last.
    pub(crate) fn take(&self) -> Histogram {
        self.collect(|count| if count.load(Ordering::Relaxed) == 0 { 0 } else { count.swap(0, Ordering::Relaxed) })
    }

    pub(crate) fn look(&self) -> Histogram {
        self.collect(|count| count.load(Ordering::Relaxed))
    }

    fn collect(&self, count: impl Fn(&AtomicU64) -> u64) -> Histogram {
        let counts = self.0.iter().enumerate().map(|(at, own)| (at, count(own))).filter(|(_, count)| *count > 0);
        Histogram(counts.map(|(at, count)| (at as u16, count)).collect())
    }
}

/// Times of calls that can be added up and kept: buckets that are not empty, in their order, and how many calls are in each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram(Vec<(u16, u64)>);

impl Histogram {
    /// How many times are in it.
    pub fn count(&self) -> u64 {
        self.0.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// Adds the times of another.
    pub fn merge(&mut self, other: &Histogram) {
        for (at, count) in &other.0 {
            match self.0.binary_search_by_key(at, |(at, _)| *at) {
                Ok(found) => self.0[found].1 = self.0[found].1.saturating_add(*count),
                Err(place) => self.0.insert(place, (*at, *count)),
            }
        }
    }

    /// The time that so large a part of the calls did not take longer than, such as 0.99; `None` when there are none. From 256 ns to 73
    /// minutes it is at most 3.2 % beside the truth.
    pub fn percentile(&self, part: f64) -> Option<Duration> {
        let count = self.count();
        let wanted = ((count as f64 * part.clamp(0.0, 1.0)).ceil() as u64).clamp(1, count.max(1));
        let mut seen = 0_u64;
        let (at, _) = self.0.iter().find(|(_, own)| {
            seen = seen.saturating_add(*own);
            seen >= wanted
        })?;
        Some(Duration::from_nanos(middle(*at)))
    }

    /// As it is kept: two bytes of the bucket and eight of the count, the low byte first, for each bucket that is not empty.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|(at, count)| at.to_le_bytes().into_iter().chain(count.to_le_bytes())).collect()
    }

    /// What [`to_bytes`](Self::to_bytes) wrote. Buckets that nobody has are left out, and so is what is cut off.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut histogram = Histogram::default();
        for one in bytes.as_chunks::<10>().0 {
            let [a, b, count @ ..] = *one;
            let at = u16::from_le_bytes([a, b]);
            if usize::from(at) < BUCKETS {
                histogram.merge(&Histogram(vec![(at, u64::from_le_bytes(count))]));
            }
        }
        histogram
    }
}

fn bucket(nanos: u64) -> usize {
    let nanos = nanos.max(1 << SHORTEST);
    let octave = nanos.ilog2();
    if octave >= LONGEST {
        return BUCKETS - 1;
    }
    // The bits behind the first one.
    let step = (nanos >> (octave - STEPS)) & ((1 << STEPS) - 1);
    (((octave - SHORTEST) << STEPS) as usize) + step as usize
}

/// The middle of a bucket, in nanoseconds.
fn middle(at: u16) -> u64 {
    let at = u32::from(at);
    let (octave, step) = (SHORTEST + (at >> STEPS), u64::from(at & ((1 << STEPS) - 1)));
    if octave >= LONGEST {
        return 1 << LONGEST;
    }
    let wide = 1_u64 << (octave - STEPS);
    (1 << octave) + step * wide + wide / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sequence that is the same in every run.
    fn numbers(seed: u64) -> impl Iterator<Item = u64> {
        std::iter::successors(Some(seed), |n| Some(n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407)))
            .map(|n| n >> 11)
    }

    fn exact(times: &mut [u64], part: f64) -> u64 {
        times.sort_unstable();
        times[((times.len() as f64 * part).ceil() as usize).clamp(1, times.len()) - 1]
    }

    #[test]
    fn percentiles_are_within_the_bound_of_the_exact_ones() {
        type Shape = (&'static str, fn(u64) -> u64);
        let shapes: [Shape; 4] = [
            ("even", |n| 1_000 + n % 10_000_000),
            ("from a microsecond to a minute, each octave as often", |n| (1_000_u64 << (n % 26)) + (n >> 8) % 1_000),
            ("fast with a slow tail", |n| if n % 100 == 0 { 2_000_000_000 + n % 7 } else { 40_000 + n % 9_000 }),
            ("all the same", |_| 12_345_678),
        ];
        for (shape, make) in shapes {
            let recorder = Recorder::default();
            let mut times: Vec<u64> = numbers(42).take(50_000).map(make).collect();
            times.iter().for_each(|nanos| recorder.add(*nanos, 1));
            let histogram = recorder.take();
            for part in [0.0, 0.5, 0.9, 0.99, 0.999, 1.0] {
                let (told, truth) = (histogram.percentile(part).unwrap().as_nanos() as f64, exact(&mut times, part) as f64);
                assert!((told - truth).abs() / truth <= 0.032, "{shape}: {part}: {told} for {truth}");
            }
        }
    }

    #[test]
    fn every_time_has_a_bucket_and_the_ends_hold() {
        for nanos in (0..64).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit, (1 << bit) + 1]).chain([u64::MAX]) {
            let at = bucket(nanos);
            assert!(at < BUCKETS);
            if (1 << SHORTEST..1 << LONGEST).contains(&nanos) {
                let told = middle(at as u16) as f64;
                assert!((told - nanos as f64).abs() / nanos as f64 <= 0.032, "{nanos}: {told}");
            }
        }
        assert_eq!(Histogram::default().percentile(0.5), None);
    }

    #[test]
    fn parts_add_up_to_the_whole_in_any_order_and_through_bytes() {
        let whole = Recorder::default();
        let parts: Vec<Recorder> = (0..7).map(|_| Recorder::default()).collect();
        for (n, nanos) in numbers(7).take(10_000).enumerate() {
            let nanos = nanos % 5_000_000_000;
            whole.add(nanos, 3);
            parts[n % 7].add(nanos, 3);
        }
        let whole = whole.look();
        for order in [[0, 1, 2, 3, 4, 5, 6], [6, 2, 4, 0, 1, 5, 3]] {
            let mut sum = Histogram::default();
            order.iter().for_each(|at| sum.merge(&Histogram::from_bytes(&parts[*at].look().to_bytes())));
            assert_eq!((sum.count(), &sum), (30_000, &whole));
        }
    }

    #[test]
    fn what_is_taken_is_gone_and_bytes_of_somebody_else_do_no_harm() {
        let recorder = Recorder::default();
        recorder.add(5_000, 2);
        assert_eq!((recorder.look().count(), recorder.take().count(), recorder.take().count()), (2, 2, 0));
        for bytes in [&b""[..], b"short", &[0xff; 25], &[7, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9]] {
            assert!(Histogram::from_bytes(bytes).count() <= 1);
        }
        let mut full = Histogram::from_bytes(&[[7, 0].as_slice(), &[0xff; 8]].concat());
        full.merge(&full.clone());
        assert_eq!(full.count(), u64::MAX);
    }
}
