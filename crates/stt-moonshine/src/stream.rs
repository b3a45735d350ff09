//! Listening while somebody speaks: audio goes in as it comes, guesses come out every second or so, and a final text for
//! each stretch between pauses. The model runs on a working thread of the host, one job at a time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bespoke_plugin_api::{BoxFuture, CancelToken, Code, Duplex, Error, PluginContext, Result, Segment, SttEvent, Transcript};

use crate::engine::Engine;
use crate::error::EngineError;
use crate::pauses::LONG_PAUSE;
use crate::plugin::{LANGUAGE, plugin_error};
use crate::transcript::{Heard, transcribe};

/// The most audio that may wait for its text. A caller that never reads would fill the memory.
const MAX_WAITING: Duration = Duration::from_secs(30 * 60);

/// Between looks for a finished stretch when no guesses are wanted; the longest stretch.
const WITHOUT_GUESSES: Duration = Duration::from_secs(12);

pub(crate) struct ListenStream {
    cx: PluginContext,
    engine: Arc<Engine>,
    rate: u32,
    /// New audio between two guesses; zero for none.
    guess_every: Duration,
    /// Audio whose text is not final.
    waiting: Vec<f32>,
    /// Sample number of the first of them.
    start: u64,
    /// How much of it the last job saw.
    seen: usize,
    job: Option<Job>,
    events: VecDeque<SttEvent>,
    said_anything: bool,
    finished: bool,
    over: bool,
    cancel: CancelToken,
    waker: Option<Waker>,
}

type Outcome = std::result::Result<Vec<Heard>, EngineError>;

struct Job {
    work: BoxFuture<'static, Result<Outcome>>,
    /// Samples that it was given, and whether there will be no more.
    samples: usize,
    last: bool,
}

impl ListenStream {
    pub(crate) fn new(cx: PluginContext, engine: Arc<Engine>, rate: u32, guess_every: Duration) -> Self {
        Self {
            cx,
            engine,
            rate,
            guess_every,
            waiting: Vec::new(),
            start: 0,
            seen: 0,
            job: None,
            events: VecDeque::new(),
            said_anything: false,
            finished: false,
            over: false,
            cancel: CancelToken::new(),
            waker: None,
        }
    }

    fn samples(&self, time: Duration) -> usize {
        (time.as_millis() as u64 * u64::from(self.rate) / 1000) as usize
    }

    fn interval(&self) -> Duration {
        if self.guess_every.is_zero() { WITHOUT_GUESSES } else { self.guess_every }
    }

    /// Starts a job when there is reason to. With guesses it takes all that is there, so that a slow machine catches up;
    /// without, its steps are counted in samples, so that the events do not depend on the time of day.
    fn look(&mut self) {
        let (all, step) = (self.waiting.len(), self.seen + self.samples(self.interval()));
        let (samples, last) = match self.finished {
            _ if self.guess_every.is_zero() && step <= all => (step, false),
            true => (all, true),
            false if step <= all => (all, false),
            false => return,
        };
        let (engine, rate, cancel) = (self.engine.clone(), self.rate, self.cancel.clone());
        let audio = self.waiting[..samples].to_vec();
        self.seen = samples;
        let work = self.cx.blocking(move || transcribe(&engine, &audio, rate, &|| cancel.is_cancelled()));
        self.job = Some(Job { work: Box::pin(work), samples, last });
    }

    /// Turns what a job heard into events. Stretches that can no longer change leave the waiting audio.
    fn tell(&mut self, mut heard: Vec<Heard>, samples: usize, last: bool) {
        let long_pause = self.samples(LONG_PAUSE);
        let complete = |h: &Heard| last || h.range.end + long_pause <= samples;
        // The last stretch may go on; those before it end where they end.
        let open = heard.pop_if(|h| !complete(h));
        let at = self.start + samples as u64;
        let mut done = 0;
        for h in heard {
            done = h.range.end;
            self.said_anything = true;
            let millis = |sample: usize| (self.start + sample as u64) * 1000 / u64::from(self.rate);
            let segment = Segment::new(millis(h.range.start), millis(h.range.end), h.text.clone());
            let transcript = Transcript::new(h.text).language(LANGUAGE.into()).segments(vec![segment]);
            self.events.push_back(SttEvent::finished(at, transcript));
        }
        match open {
            Some(h) if !self.guess_every.is_zero() => self.events.push_back(SttEvent::interim(at, h.text)),
            Some(_) => {}
            // Nothing is being said. The last seconds stay: a word may just have begun.
            None => done = done.max(samples.saturating_sub(2 * long_pause)),
        }
        if last {
            done = samples;
            if !self.said_anything {
                self.events.push_back(SttEvent::finished(at, Transcript::new("").language(LANGUAGE.into())));
            }
        }
        self.waiting.drain(..done);
        self.start += done as u64;
        self.seen -= done;
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Duplex<[f32], SttEvent> for ListenStream {
    fn push(&mut self, audio: &[f32]) -> Result<()> {
        if self.finished {
            return Err(Error::invalid_params("audio after the end of the stream; open a new one"));
        }
        if self.waiting.len() + audio.len() > self.samples(MAX_WAITING) {
            let message = format!("{} minutes of audio wait for their text", MAX_WAITING.as_secs() / 60);
            return Err(Error::new(Code::RESOURCE_EXHAUSTED, message).with_help("read the events while pushing"));
        }
        self.waiting.extend_from_slice(audio);
        self.wake();
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.finished = true;
        self.wake();
        Ok(())
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<SttEvent>>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(Some(Ok(event)));
            }
            if self.over {
                return Poll::Ready(None);
            }
            if self.job.is_none() {
                self.look();
            }
            let Some(job) = &mut self.job else {
                self.waker = Some(cx.waker().clone());
                return Poll::Pending;
            };
            let Poll::Ready(heard) = job.work.as_mut().poll(cx) else { return Poll::Pending };
            let (samples, last) = (job.samples, job.last);
            self.job = None;
            match heard.and_then(|heard| heard.map_err(plugin_error)) {
                Ok(heard) => {
                    self.tell(heard, samples, last);
                    self.over = last;
                }
                Err(error) => {
                    self.over = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}

impl Drop for ListenStream {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}
