//! Keeping to Telegram's limits before it says so. Pure: time is passed in.
//!
//! Telegram asks for at most one message a second in a chat, 20 a minute in a group, and 30 a second in all; edits count as messages.
//! Each limit is a bucket: a few messages at once, then one in each interval, so that no window of its length holds too many.

use std::{collections::BTreeMap, time::Duration};

use bespoke_plugin_api::Timestamp;

/// Chats that are remembered. One that is forgotten was silent for longer than all others.
const MOST_CHATS: usize = 4096;

/// A limit: how many at once, and how far apart further ones are.
#[derive(Clone, Copy)]
struct Limit {
    burst: u32,
    every: Duration,
}

/// Short bursts are allowed in a chat.
const CHAT: Limit = Limit { burst: 3, every: Duration::from_secs(1) };
/// 5 at once and 15 in the minute after them.
const GROUP: Limit = Limit { burst: 5, every: Duration::from_secs(4) };
/// 10 at once and 20 in the second after them.
const ALL: Limit = Limit { burst: 10, every: Duration::from_millis(50) };

/// When what may be sent. The time that each bucket is empty again.
#[derive(Default)]
pub(crate) struct Pacer {
    all: Micros,
    chats: BTreeMap<String, Micros>,
    /// Until when Telegram wants to hear nothing of a chat.
    paused: BTreeMap<String, Timestamp>,
}

/// A time at which a bucket is empty, on the clock of [`Timestamp`].
type Micros = u64;

impl Pacer {
    /// Takes the next place in a chat, and says how long it is until then. One that is further away than `most` is not taken.
    ///
    /// # Errors
    /// How long it would be.
    pub(crate) fn reserve(&mut self, now: Timestamp, chat: &str, group: bool, most: Duration) -> Result<Duration, Duration> {
        if self.chats.len() >= MOST_CHATS && !self.chats.contains_key(chat) {
            self.forget(now);
        }
        let (own_emptied, own_wait) = next(self.chats.get(chat).copied().unwrap_or_default(), now, if group { GROUP } else { CHAT });
        let (all_emptied, all_wait) = next(self.all, now, ALL);
        let wait = own_wait.max(all_wait).max(self.pause(now, chat));
        if wait > most {
            return Err(wait);
        }
        self.chats.insert(chat.to_owned(), own_emptied);
        self.all = all_emptied;
        Ok(wait)
    }

    /// Telegram wants to hear nothing of a chat until then.
    pub(crate) fn hold(&mut self, chat: &str, now: Timestamp, until: Timestamp) {
        self.paused.retain(|_, until| *until > now);
        if self.paused.len() < MOST_CHATS {
            self.paused.insert(chat.to_owned(), until);
        }
    }

    /// How long it wants to hear nothing.
    pub(crate) fn pause(&self, now: Timestamp, chat: &str) -> Duration {
        self.paused.get(chat).map_or(Duration::ZERO, |until| now.until(*until))
    }

    fn forget(&mut self, now: Timestamp) {
        self.chats.retain(|_, emptied| *emptied > now.0);
        if self.chats.len() >= MOST_CHATS
            && let Some(oldest) = self.chats.iter().min_by_key(|(_, emptied)| **emptied).map(|(chat, _)| chat.clone())
        {
            self.chats.remove(&oldest);
        }
    }
}

/// When a bucket that loses one in each interval is empty with one more in it, and how long it is until that one fits.
fn next(emptied: Micros, now: Timestamp, limit: Limit) -> (Micros, Duration) {
    let every = u64::try_from(limit.every.as_micros()).unwrap_or(u64::MAX);
    let emptied = emptied.max(now.0).saturating_add(every);
    let full = every.saturating_mul(limit.burst.into());
    (emptied, Duration::from_micros(emptied.saturating_sub(now.0).saturating_sub(full)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000);

    fn reserve(pacer: &mut Pacer, now: Timestamp, chat: &str, group: bool) -> Duration {
        pacer.reserve(now, chat, group, Duration::MAX).unwrap()
    }

    /// When each of so many messages goes, in milliseconds, when all are there at once.
    fn times(pacer: &mut Pacer, chats: usize, each: usize, group: bool) -> Vec<u128> {
        let mut times = Vec::new();
        for n in 0..chats * each {
            times.push(reserve(pacer, NOW, &format!("{}", n % chats), group).as_millis());
        }
        times.sort_unstable();
        times
    }

    fn most_in(times: &[u128], window: u128) -> usize {
        times.iter().map(|start| times.iter().filter(|time| (*start..start + window).contains(*time)).count()).max().unwrap()
    }

    #[test]
    fn a_chat_gets_a_few_at_once_and_then_one_a_second() {
        assert_eq!(times(&mut Pacer::default(), 1, 6, false), [0, 0, 0, 1_000, 2_000, 3_000]);
    }

    #[test]
    fn a_group_never_gets_more_than_twenty_in_a_minute() {
        let times = times(&mut Pacer::default(), 1, 100, true);
        assert_eq!(times[..6], [0, 0, 0, 0, 0, 4_000]);
        assert!((15..=20).contains(&most_in(&times, 60_000)));
    }

    #[test]
    fn all_together_never_get_more_than_thirty_in_a_second() {
        let times = times(&mut Pacer::default(), 500, 1, false);
        assert!((20..=30).contains(&most_in(&times, 1_000)));
    }

    #[test]
    fn what_telegram_asks_for_goes_before_and_rests_are_made_up_for() {
        let mut pacer = Pacer::default();
        pacer.hold("1", NOW, NOW.plus(Duration::from_secs(7)));
        assert_eq!(reserve(&mut pacer, NOW, "1", false), Duration::from_secs(7));
        assert_eq!(reserve(&mut pacer, NOW, "2", false), Duration::ZERO);
        let later = NOW.plus(Duration::from_secs(60));
        assert_eq!((0..3).map(|_| reserve(&mut pacer, later, "1", false)).max(), Some(Duration::ZERO));
    }

    #[test]
    fn a_place_that_is_too_far_away_is_not_taken() {
        let mut pacer = Pacer::default();
        let within = |pacer: &mut Pacer, seconds| pacer.reserve(NOW, "1", false, Duration::from_secs(seconds));
        for _ in 0..3 {
            assert_eq!(within(&mut pacer, 0), Ok(Duration::ZERO));
        }
        for _ in 0..100 {
            assert_eq!(within(&mut pacer, 0), Err(Duration::from_secs(1)));
        }
        assert_eq!(within(&mut pacer, 1), Ok(Duration::from_secs(1)));
    }

    #[test]
    fn not_every_chat_is_remembered() {
        let mut pacer = Pacer::default();
        for n in 0..5_000u64 {
            reserve(&mut pacer, NOW, &format!("{n}"), false);
            pacer.hold(&format!("{n}"), NOW, NOW.plus(Duration::from_secs(9)));
        }
        assert!(pacer.chats.len() <= MOST_CHATS && pacer.paused.len() <= MOST_CHATS);
    }
}
