//! Who has the floor: whether speech into a reply stops it, is too short to, or is not listened to at all. A pure state
//! machine over the detector's events; the only clock is the count of samples heard.

/// What to do about a reply that is being made or played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing.
    GoOn,
    /// Stop it.
    Interrupt,
}

/// Follows the detector through one session. Positions and lengths are samples of the sound that the detector hears.
#[derive(Debug)]
pub(crate) struct Floor {
    barge_in: bool,
    min: u64,
    /// The last window that was looked at.
    at: u64,
    speech: Speech,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speech {
    /// None, or it is the user's turn anyway.
    Free,
    /// Into a reply, with this much of it likely speech.
    Into { voiced: u64 },
    /// Into a reply that nothing stops.
    Unheard,
}

impl Floor {
    pub(crate) fn new(barge_in: bool, min: u64) -> Self {
        Floor { barge_in, min, at: 0, speech: Speech::Free }
    }

    /// Speech began; `busy` says whether a reply is being made or played.
    pub(crate) fn start(&mut self, at: u64, busy: bool) -> Verdict {
        self.at = self.at.max(at);
        self.speech = match busy {
            false => Speech::Free,
            true if !self.barge_in => Speech::Unheard,
            true => Speech::Into { voiced: 0 },
        };
        self.decide()
    }

    /// A window was looked at.
    pub(crate) fn window(&mut self, at: u64, probability: f32, busy: bool) -> Verdict {
        let length = at.saturating_sub(self.at);
        self.at = self.at.max(at);
        if let Speech::Into { voiced } = &mut self.speech {
            if !busy {
                // The reply ended by itself: what goes on is an utterance like any other.
                self.speech = Speech::Free;
            } else if probability >= 0.5 {
                *voiced += length;
            }
        }
        self.decide()
    }

    /// Speech ended. Whether it is to be answered.
    pub(crate) fn end(&mut self) -> bool {
        std::mem::replace(&mut self.speech, Speech::Free) == Speech::Free
    }

    fn decide(&mut self) -> Verdict {
        match self.speech {
            Speech::Into { voiced } if voiced >= self.min => {
                self.speech = Speech::Free;
                Verdict::Interrupt
            }
            _ => Verdict::GoOn,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speech_that_lasts_takes_the_floor_once() {
        let mut floor = Floor::new(true, 1_000);
        assert_eq!(floor.start(512, true), Verdict::GoOn);
        assert_eq!(floor.window(1_024, 0.9, true), Verdict::GoOn);
        assert_eq!(floor.window(1_536, 0.9, true), Verdict::Interrupt);
        assert_eq!(floor.window(2_048, 0.9, true), Verdict::GoOn);
        assert!(floor.end());
    }

    #[test]
    fn a_cough_does_not_and_is_not_answered() {
        let mut floor = Floor::new(true, 1_000);
        floor.start(512, true);
        floor.window(1_024, 0.9, true);
        // The detector waits for its silence; those windows are no speech.
        assert!((3..30).all(|n| floor.window(n * 512, 0.1, true) == Verdict::GoOn));
        assert!(!floor.end());
        assert!(floor.end(), "the next one counts again");
    }

    #[test]
    fn without_barge_in_nothing_is_heard_until_the_reply_is_over() {
        let mut floor = Floor::new(false, 0);
        assert_eq!(floor.start(512, true), Verdict::GoOn);
        assert_eq!(floor.window(9_999, 1.0, false), Verdict::GoOn);
        assert!(!floor.end());
        assert_eq!(floor.start(20_000, false), Verdict::GoOn);
        assert!(floor.end());
    }

    #[test]
    fn zero_stops_at_once_and_a_reply_that_ends_by_itself_leaves_an_utterance() {
        assert_eq!(Floor::new(true, 0).start(512, true), Verdict::Interrupt);
        let mut floor = Floor::new(true, 1_000);
        floor.start(512, true);
        floor.window(1_024, 0.9, false);
        assert!(floor.end());
    }
}
