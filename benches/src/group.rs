//! Cases side by side: measured by turns, shown as one table.

use std::{
    fmt,
    io::{self, Write},
    time::{Duration, Instant},
};

use crate::allocations;

/// How long one turn of a case takes at least, so that the clock's own cost and grain do not show.
const TURN: Duration = Duration::from_millis(1);

/// Turns per case.
const TURNS: usize = 200;

/// What a case should reach.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Aim {
    /// At most so many times the floor.
    Ratio(f64),
    /// At most so much over the floor, per operation.
    Over(Duration),
    /// At most so long, per operation.
    Within(Duration),
    /// At most so many allocations per operation.
    Allocations(u64),
}

/// A title, a floor and what is held against it. The first case is the floor.
#[must_use]
pub struct Group<'c> {
    title: String,
    cases: Vec<Case<'c>>,
    turn: Duration,
    turns: usize,
}

struct Case<'c> {
    name: String,
    run: Box<dyn FnMut(u64) -> Duration + 'c>,
    aims: Vec<Aim>,
    per_turn: u64,
    /// Nanoseconds per operation, one per turn.
    times: Vec<f64>,
    allocations: u64,
}

impl<'c> Group<'c> {
    /// A group without cases.
    pub fn new(title: impl Into<String>) -> Self {
        Group { title: title.into(), cases: Vec::new(), turn: TURN, turns: TURNS }
    }

    /// For cases that take long, or whose turn has a cost of its own: so many turns of at least this time each.
    pub fn turns(mut self, turns: usize, turn: Duration) -> Self {
        (self.turns, self.turn) = (turns, turn);
        self
    }

    /// Adds a case: `run` makes so many operations. The loop is the case's own, so that nothing stands between two operations.
    pub fn case(self, name: impl Into<String>, mut run: impl FnMut(u64) + 'c) -> Self {
        self.timed(name, move |n| {
            let begun = Instant::now();
            run(n);
            begun.elapsed()
        })
    }

    /// Adds a case that says itself how long its operations took, because what they make has to be taken away again.
    pub fn timed(mut self, name: impl Into<String>, run: impl FnMut(u64) -> Duration + 'c) -> Self {
        let run = Box::new(run);
        self.cases.push(Case { name: name.into(), run, aims: Vec::new(), per_turn: 1, times: Vec::new(), allocations: 0 });
        self
    }

    /// Sets an aim for the case added last.
    pub fn aim(mut self, aim: Aim) -> Self {
        if let Some(case) = self.cases.last_mut() {
            case.aims.push(aim);
        }
        self
    }

    /// Measures and prints, or only tries each case when this is no `cargo bench`.
    pub fn run(mut self) {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let mut words = arguments.iter().filter(|a| !a.starts_with('-')).peekable();
        if words.peek().is_some() && !words.any(|word| self.title.contains(word.as_str())) {
            return;
        }
        if !arguments.iter().any(|a| a == "--bench") {
            self.cases.iter_mut().for_each(|case| _ = (case.run)(3));
            return;
        }
        let turn = self.turn;
        self.cases.iter_mut().for_each(|case| case.calibrate(turn));
        for _ in 0..self.turns {
            self.cases.iter_mut().for_each(Case::turn);
        }
        // A closed pipe is no reason to stop measuring.
        let _ = write!(io::stdout().lock(), "{self}");
    }
}

impl Case<'_> {
    fn calibrate(&mut self, turn: Duration) {
        // Warms caches and lazy statics, then doubles until a turn is long enough.
        (self.run)(1);
        loop {
            if (self.run)(self.per_turn) >= turn {
                break;
            }
            self.per_turn *= 2;
        }
        let before = allocations::made();
        (self.run)(self.per_turn);
        // Rounded: a queue that grows once in a thousand operations is not an allocation per operation.
        self.allocations = (allocations::made() - before + self.per_turn / 2) / self.per_turn;
    }

    fn turn(&mut self) {
        let took = (self.run)(self.per_turn);
        self.times.push(took.as_secs_f64() * 1e9 / self.per_turn as f64);
    }

    fn min(&self) -> f64 {
        self.times.iter().copied().fold(f64::INFINITY, f64::min)
    }

    fn median(&self) -> f64 {
        let mut times = self.times.clone();
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

impl fmt::Display for Group<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}", self.title)?;
        writeln!(f, "  {:<44} {:>10} {:>10} {:>8} {:>10} {:>7}  aim", "", "min", "median", "ratio", "over", "allocs")?;
        let floor = self.cases.first().map_or(f64::NAN, Case::min);
        for (n, case) in self.cases.iter().enumerate() {
            let min = case.min();
            let (ratio, over) = match n {
                0 => ("floor".to_owned(), String::new()),
                _ => (format!("{:.2}×", min / floor), time(min - floor)),
            };
            let aims: Vec<_> = case.aims.iter().map(|aim| aim.judge(case, floor)).collect();
            let (min, median) = (time(min), time(case.median()));
            let line =
                format!("  {:<44} {min:>10} {median:>10} {ratio:>8} {over:>10} {:>7}  {}", case.name, case.allocations, aims.join(", "));
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

impl Aim {
    fn judge(self, case: &Case<'_>, floor: f64) -> String {
        let (aim, met) = match self {
            Aim::Ratio(most) => (format!("≤ {most}×"), case.min() / floor <= most),
            Aim::Over(most) => (format!("≤ {} over", time(most.as_secs_f64() * 1e9)), case.min() - floor <= most.as_secs_f64() * 1e9),
            Aim::Within(most) => (format!("≤ {}", time(most.as_secs_f64() * 1e9)), case.min() <= most.as_secs_f64() * 1e9),
            Aim::Allocations(most) => (format!("≤ {most} allocs"), case.allocations <= most),
        };
        format!("{aim} {}", if met { "met" } else { "MISSED" })
    }
}

/// Nanoseconds, with a unit that fits.
fn time(ns: f64) -> String {
    match ns.abs() {
        n if n < 10.0 => format!("{ns:.2} ns"),
        n if n < 1e3 => format!("{ns:.0} ns"),
        n if n < 1e6 => format!("{:.2} µs", ns / 1e3),
        _ => format!("{:.2} ms", ns / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_holds_cases_against_the_first() {
        let mut group = Group::new("t").case("a", |_| {}).case("b", |_| {}).aim(Aim::Ratio(1.5)).aim(Aim::Over(Duration::from_nanos(150)));
        group.cases[0].times = vec![100.0, 300.0, 200.0];
        group.cases[1].times = vec![1200.0, 201.0];
        let text = group.to_string();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[3], ["a", "100", "ns", "200", "ns", "floor", "0"]);
        assert_eq!(lines[4].join(" "), "b 201 ns 1.20 µs 2.01× 101 ns 0 ≤ 1.5× MISSED, ≤ 150 ns over met");
    }

    #[test]
    fn a_turn_is_long_enough_for_the_clock() {
        let mut group = Group::new("t").case("a", |n| (0..n).for_each(|i| _ = std::hint::black_box(i)));
        group.cases[0].calibrate(TURN);
        assert!(group.cases[0].per_turn > 1000);
    }
}
