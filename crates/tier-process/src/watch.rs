//! Whether a plugin is alive: it says something, or answers a ping. A state machine; the time is passed in, and who pings and kills is
//! the pump.

use std::time::{Duration, Instant};

/// How long a plugin may keep everybody waiting.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Patience {
    /// A plugin that has said nothing for so long is asked whether it is there, and again after as long.
    pub ping_every: Duration,
    /// It is ended after so many questions without a word.
    pub pings: u32,
    /// What it has to answer `plugin.shutdown`.
    pub shutdown: Duration,
    /// And then to end when its standard input does.
    pub goodbye: Duration,
    /// What installing its packages may take.
    pub install: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            ping_every: Duration::from_secs(5),
            pings: 6,
            shutdown: Duration::from_secs(2),
            goodbye: Duration::from_secs(1),
            // A little less than the host waits, so that it is this that ends pip, and says so.
            install: Duration::from_secs(14 * 60),
        }
    }
}

impl Patience {
    /// Asks so often, and ends a plugin after so many questions without a word.
    #[must_use]
    pub fn pings(mut self, every: Duration, most: u32) -> Self {
        (self.ping_every, self.pings) = (every, most);
        self
    }

    /// Gives up installing packages after so long.
    #[must_use]
    pub fn install(mut self, limit: Duration) -> Self {
        self.install = limit;
        self
    }
}

/// When a plugin was last heard.
#[derive(Debug)]
pub(crate) struct Watch {
    patience: Patience,
    heard: Instant,
    asked: Instant,
    /// Pings since it was last heard. Counted, not only timed: a machine or a host that stood still for a minute has asked no more
    /// than once, so nobody is killed for it.
    unanswered: u32,
    last_ping: u32,
}

/// What is to be done now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    Ping(u32),
    /// It has said nothing for so long although it was asked.
    End(Duration),
}

impl Watch {
    pub(crate) fn new(patience: Patience, now: Instant) -> Self {
        Watch { patience, heard: now, asked: now, unanswered: 0, last_ping: 0 }
    }

    /// Any byte is a sign of life.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.asked = now;
        self.unanswered = 0;
    }

    pub(crate) fn due(&mut self, now: Instant) -> Due {
        if now < self.next() {
            return Due::Nothing;
        }
        if self.unanswered >= self.patience.pings {
            return Due::End(now - self.heard);
        }
        self.asked = now;
        self.unanswered += 1;
        self.last_ping = self.last_ping.wrapping_add(1).max(1);
        Due::Ping(self.last_ping)
    }

    /// When to look again.
    pub(crate) fn next(&self) -> Instant {
        self.asked + self.patience.ping_every
    }

    /// For how long it has not answered, once it should have.
    pub(crate) fn silent(&self, now: Instant) -> Option<Duration> {
        (self.unanswered > 1).then(|| now.saturating_duration_since(self.heard))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_asked_about_and_then_ends_it() {
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        let mut watch = Watch::new(Patience::default(), start);
        assert_eq!(watch.due(at(4)), Due::Nothing);
        assert_eq!((watch.due(at(5)), watch.silent(at(5))), (Due::Ping(1), None));
        assert_eq!(watch.due(at(5)), Due::Nothing);
        assert_eq!((watch.due(at(10)), watch.silent(at(10))), (Due::Ping(2), Some(Duration::from_secs(10))));
        watch.heard(at(11));
        assert_eq!((watch.silent(at(11)), watch.next()), (None, at(16)));
        for (n, s) in (16..=41).step_by(5).enumerate() {
            assert_eq!(watch.due(at(s)), Due::Ping(n as u32 + 3));
        }
        assert_eq!(watch.due(at(45)), Due::Nothing);
        assert_eq!(watch.due(at(46)), Due::End(Duration::from_secs(35)));
    }

    #[test]
    fn a_clock_that_leaps_is_nobodys_fault() {
        let start = Instant::now();
        let mut watch = Watch::new(Patience::default(), start);
        assert_eq!(watch.due(start + Duration::from_secs(3600)), Due::Ping(1));
        assert_eq!(watch.due(start + Duration::from_secs(3604)), Due::Nothing);
    }
}
