//! One stream of the contract: any rate in, a probability per window and borders of speech out.
//! Resample, cut into windows, ask the engine, let the segmenter decide.
//!
//! **Invariant:** after the first window a push allocates nothing, unless it is so long that its
//! events do not fit the queue.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bespoke_audio::{Resampler, SpeechDetector, SpeechEdge, SpeechOptions, Windows};
use bespoke_plugin_api::{Code, Duplex, Error, Level, PluginContext, Result, VadEvent};

use crate::{Engine, Rate};

/// Windows that one push may hold before the queue of events grows: two seconds of sound.
const EVENTS: usize = 128;

/// A window that takes longer than this is reported: the machine does not keep up.
const SLOW: Duration = Duration::from_millis(200);

/// The options of the segmenter, shared by all streams of an instance, so that a change reaches those
/// that are open.
pub(crate) struct LiveOptions {
    options: RwLock<SpeechOptions>,
    generation: AtomicU64,
}

impl LiveOptions {
    pub(crate) fn new(options: SpeechOptions) -> Self {
        Self { options: RwLock::new(options), generation: AtomicU64::new(0) }
    }

    pub(crate) fn set(&self, options: SpeechOptions) {
        *self.options.write().unwrap_or_else(PoisonError::into_inner) = options;
        self.generation.fetch_add(1, Ordering::Release);
    }

    fn get(&self) -> (SpeechOptions, u64) {
        let generation = self.generation.load(Ordering::Acquire);
        (*self.options.read().unwrap_or_else(PoisonError::into_inner), generation)
    }
}

/// The stream.
pub(crate) struct Stream {
    resampler: Resampler,
    windows: Windows,
    listener: Listener,
    finished: bool,
    waker: Option<Waker>,
}

/// What looks at the windows; apart from the rest, so that both can be borrowed at once.
struct Listener {
    cx: PluginContext,
    engine: Box<dyn Engine>,
    detector: SpeechDetector,
    live: Arc<LiveOptions>,
    generation: u64,
    events: VecDeque<VadEvent>,
    /// Samples of the input so far.
    pushed: u64,
    /// How far behind the sound the engine is.
    delay: Duration,
}

impl Stream {
    /// A stream of sound at `rate` Hz for an engine at its own rate.
    pub(crate) fn new(cx: PluginContext, engine: Box<dyn Engine>, rate: u32, live: Arc<LiveOptions>) -> Result<Self> {
        let model: Rate = engine.rate();
        let resampler = Resampler::new(rate, model.hz()).map_err(|error| Error::new(Code::STT_AUDIO_INVALID, error.to_string()))?;
        let (options, generation) = live.get();
        let detector = SpeechDetector::new(options, rate, model.hz(), model.window() as u32);
        let events = VecDeque::with_capacity(EVENTS);
        let listener = Listener { cx, engine, detector, live, generation, events, pushed: 0, delay: Duration::ZERO };
        Ok(Self { resampler, windows: Windows::new(model.window()), listener, finished: false, waker: None })
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Listener {
    fn window(&mut self, samples: &[f32]) -> Result<()> {
        let (probability, elapsed) = self.probability(samples)?;
        self.keep_up(elapsed);
        if self.live.generation.load(Ordering::Acquire) != self.generation {
            let (options, generation) = self.live.get();
            self.detector.set_options(options);
            self.generation = generation;
        }
        let window = self.detector.push(probability);
        self.report(window.sample, probability, elapsed);
        if window.overflowed {
            self.cx.log(Level::Warn, "max_buffered_speech_ms is reached: the rest of this speech is not kept");
        }
        if let Some(event) = window.event {
            let at = event.sample.min(self.pushed);
            self.events.push_back(match event.edge {
                SpeechEdge::Start => VadEvent::speech_start(at, event.span.start),
                SpeechEdge::End => VadEvent::speech_end(at, event.last_speech),
            });
        }
        Ok(())
    }

    /// The last window, mostly zeros: worth its probability, but as in the LiveKit plugin no ground to
    /// start or end speech.
    fn rest(&mut self, samples: &[f32]) -> Result<()> {
        let (probability, elapsed) = self.probability(samples)?;
        self.report(self.pushed, probability, elapsed);
        Ok(())
    }

    /// What the engine says, and how long it took by the host's clock.
    fn probability(&mut self, samples: &[f32]) -> Result<(f32, Duration)> {
        let started = self.cx.now();
        let probability = self.engine.window(samples).map_err(|error| Error::internal(error.to_string()))?;
        Ok((probability, started.until(self.cx.now())))
    }

    fn report(&mut self, at: u64, probability: f32, elapsed: Duration) {
        let elapsed_us = u32::try_from(elapsed.as_micros()).unwrap_or(u32::MAX);
        self.events.push_back(VadEvent::window(at.min(self.pushed), probability, elapsed_us));
    }

    fn keep_up(&mut self, elapsed: Duration) {
        self.delay = (self.delay + elapsed).saturating_sub(Duration::from_millis(32));
        if elapsed > SLOW {
            let (took, behind) = (elapsed.as_millis(), self.delay.as_millis());
            self.cx.log(Level::Warn, &format!("inference is slower than real time: {took} ms for 32 ms of sound, {behind} ms behind"));
        }
    }
}

impl Duplex<[f32], VadEvent> for Stream {
    fn push(&mut self, samples: &[f32]) -> Result<()> {
        if self.finished {
            return Err(Error::invalid_params("the stream is finished; open another for more sound"));
        }
        let Self { resampler, windows, listener, .. } = self;
        listener.pushed += samples.len() as u64;
        let mut outcome = Ok(());
        let resampled = resampler.push(samples, |block| {
            if outcome.is_ok() {
                outcome = windows.push(block, |window| listener.window(window));
            }
        });
        self.finished = outcome.is_err() || resampled.is_err();
        self.wake();
        outcome?;
        resampled.map_err(|error| Error::internal(error.to_string()))
    }

    fn finish(&mut self) -> Result<()> {
        if self.finished {
            return Ok(());
        }
        self.finished = true;
        let Self { resampler, windows, listener, .. } = self;
        let mut outcome = Ok(());
        let resampled = resampler.finish(|block| {
            if outcome.is_ok() {
                outcome = windows.push(block, |window| listener.window(window));
            }
        });
        if let (Ok(()), Some(window)) = (&outcome, windows.finish()) {
            outcome = listener.rest(window);
        }
        self.wake();
        outcome?;
        resampled.map_err(|error| Error::internal(error.to_string()))
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<VadEvent>>> {
        match self.listener.events.pop_front() {
            Some(event) => Poll::Ready(Some(Ok(event))),
            None if self.finished => Poll::Ready(None),
            None => {
                // More comes with the next push, which wakes whoever waits here.
                if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    self.waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }
}
