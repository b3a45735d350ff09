//! Marks of a turn: when each stage had its result. Zero is the end of speech, or the start of work on a recording.

use std::{
    fmt,
    time::{Duration, Instant},
};

use serde::{Serialize, Serializer, ser::SerializeMap};

/// When each stage had its result, from the end of speech on. A stage that had none has no mark.
///
/// Live, the zero is the last sample of speech, so `vad` holds the silence that the detector waited for; for a recording
/// it is the start of work, so `vad` is the time that the detector took for all of it. Serialises as milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeline {
    /// How long the speech lasted; not a mark.
    pub speech: Duration,
    /// The detector knew that speech was over.
    pub vad: Option<Duration>,
    /// The words were known.
    pub transcript: Option<Duration>,
    /// The agent wrote the first word.
    pub first_token: Option<Duration>,
    /// The first of the reply could be heard.
    pub first_audio: Option<Duration>,
    /// The agent had written the last word.
    pub last_token: Option<Duration>,
    /// All of the reply could be heard.
    pub last_audio: Option<Duration>,
}

impl Timeline {
    /// The marks by name, in the order of the stages.
    pub fn marks(&self) -> [(&'static str, Option<Duration>); 6] {
        [
            ("vad", self.vad),
            ("transcript", self.transcript),
            ("first_token", self.first_token),
            ("first_audio", self.first_audio),
            ("last_token", self.last_token),
            ("last_audio", self.last_audio),
        ]
    }
}

impl fmt::Display for Timeline {
    /// One line per mark, with the step from the mark before it in time.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<12} {:>9.1} ms", "speech", milliseconds(self.speech))?;
        let mut known: Vec<_> = self.marks().into_iter().filter_map(|(name, at)| Some((name, at?))).collect();
        known.sort_by_key(|&(_, at)| at);
        let mut before = Duration::ZERO;
        for (name, at) in known {
            write!(f, "\n{name:<12} {:>9.1} ms  (+{:.1})", milliseconds(at), milliseconds(at - before))?;
            before = at;
        }
        Ok(())
    }
}

impl Serialize for Timeline {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("speech_ms", &milliseconds(self.speech))?;
        for (name, at) in self.marks() {
            map.serialize_entry(&format!("{name}_ms"), &at.map(milliseconds))?;
        }
        map.end()
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

/// A timeline being filled in.
#[derive(Debug)]
pub(crate) struct Clock {
    zero: Instant,
    pub(crate) timeline: Timeline,
}

impl Clock {
    /// Zero is now.
    pub(crate) fn start() -> Self {
        Clock { zero: Instant::now(), timeline: Timeline::default() }
    }

    /// Speech of that length ended `ago` before `decided`, when the detector knew it.
    pub(crate) fn since(decided: Instant, ago: Duration, speech: Duration) -> Self {
        // A clock that began less than `ago` back cannot show the zero; then the decision is the zero.
        let (zero, vad) = decided.checked_sub(ago).map_or((decided, Duration::ZERO), |zero| (zero, ago));
        Clock { zero, timeline: Timeline { speech, vad: Some(vad), ..Timeline::default() } }
    }

    /// Sets a mark to now; the first time counts.
    pub(crate) fn first(&mut self, mark: impl FnOnce(&mut Timeline) -> &mut Option<Duration>) {
        mark(&mut self.timeline).get_or_insert(self.zero.elapsed());
    }

    /// Sets a mark to now; the last time counts.
    pub(crate) fn last(&mut self, mark: impl FnOnce(&mut Timeline) -> &mut Option<Duration>) {
        *mark(&mut self.timeline) = Some(self.zero.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_marks_in_time_with_steps_and_leaves_out_what_never_came() {
        let ms = |n| Some(Duration::from_millis(n));
        let timeline = Timeline {
            speech: Duration::from_millis(1_500),
            vad: ms(10),
            transcript: ms(110),
            first_token: ms(150),
            first_audio: ms(200),
            last_token: ms(180),
            last_audio: None,
        };
        let shown = "speech          1500.0 ms\nvad               10.0 ms  (+10.0)\ntranscript       110.0 ms  (+100.0)\n\
                     first_token      150.0 ms  (+40.0)\nlast_token       180.0 ms  (+30.0)\nfirst_audio      200.0 ms  (+20.0)";
        assert_eq!(timeline.to_string(), shown);
        let json = serde_json::to_value(timeline).unwrap();
        assert_eq!((&json["first_audio_ms"], &json["last_audio_ms"]), (&200.0.into(), &serde_json::Value::Null));
    }
}
