//! A detector without arithmetic: a window with a sample beyond ±0.5 is speech.

use std::{
    collections::VecDeque,
    task::{Context, Poll},
};

use bespoke_plugin_api::{Code, Duplex, Error, Result, Vad, VadEvent, VadOptions};

/// Samples of a window, at any rate.
const WINDOW: u64 = 512;

pub(crate) struct Detector;

impl Vad for Detector {
    fn open(&self, options: &VadOptions) -> Result<Box<dyn Duplex<[f32], VadEvent>>> {
        if options.sample_rate == 0 {
            return Err(Error::new(Code::STT_AUDIO_INVALID, "a rate of 0 Hz"));
        }
        Ok(Box::new(Windows { heard: 0, loud: false, speaking: None, events: VecDeque::with_capacity(64), finished: false }))
    }
}

struct Windows {
    heard: u64,
    /// A sample of the current window was beyond the threshold.
    loud: bool,
    /// Where the speech began.
    speaking: Option<u64>,
    events: VecDeque<VadEvent>,
    finished: bool,
}

impl Windows {
    fn end_window(&mut self) {
        let (at, from) = (self.heard, self.heard - WINDOW);
        let probability = if self.loud { 1.0 } else { 0.0 };
        self.events.push_back(VadEvent::window(at, probability, 0));
        match (self.loud, self.speaking) {
            (true, None) => {
                self.speaking = Some(from);
                self.events.push_back(VadEvent::speech_start(at, from));
            }
            (false, Some(_)) => {
                self.speaking = None;
                self.events.push_back(VadEvent::speech_end(at, from));
            }
            _ => {}
        }
        self.loud = false;
    }
}

impl Duplex<[f32], VadEvent> for Windows {
    fn push(&mut self, samples: &[f32]) -> Result<()> {
        if self.finished {
            return Err(Error::invalid_params("push after finish"));
        }
        if samples.iter().any(|s| !s.is_finite()) {
            return Err(Error::new(Code::STT_AUDIO_INVALID, format!("a sample after {} is not finite", self.heard)));
        }
        for sample in samples {
            self.loud |= sample.abs() > 0.5;
            self.heard += 1;
            if self.heard.is_multiple_of(WINDOW) {
                self.end_window();
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        if !std::mem::replace(&mut self.finished, true)
            && let Some(_from) = self.speaking.take()
        {
            self.events.push_back(VadEvent::speech_end(self.heard, self.heard));
        }
        Ok(())
    }

    fn poll_next(&mut self, _cx: &mut Context<'_>) -> Poll<Option<Result<VadEvent>>> {
        match self.events.pop_front() {
            Some(event) => Poll::Ready(Some(Ok(event))),
            None if self.finished => Poll::Ready(None),
            // Nobody is woken: events come from pushes alone.
            None => Poll::Pending,
        }
    }
}
