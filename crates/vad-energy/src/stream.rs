//! One stream of the contract: windows of 32 ms at the rate of the input.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll, Waker};

use bespoke_audio::{MAX_RATE, MIN_RATE, SpeechDetector, SpeechEdge, SpeechOptions, Windows};
use bespoke_plugin_api::{Code, Duplex, Error, Level, PluginContext, Result, VadEvent};

use crate::LoudnessDetector;

/// Windows that one push may hold before the queue of events grows: two seconds of sound.
const EVENTS: usize = 128;

/// What may change while streams are open.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    pub(crate) speech: SpeechOptions,
    pub(crate) snr: f64,
}

/// The options, shared by all streams of an instance.
pub(crate) struct LiveOptions {
    options: RwLock<Options>,
    generation: AtomicU64,
}

impl LiveOptions {
    pub(crate) fn new(options: Options) -> Self {
        Self { options: RwLock::new(options), generation: AtomicU64::new(0) }
    }

    pub(crate) fn set(&self, options: Options) {
        *self.options.write().unwrap_or_else(PoisonError::into_inner) = options;
        self.generation.fetch_add(1, Ordering::Release);
    }

    fn get(&self) -> (Options, u64) {
        let generation = self.generation.load(Ordering::Acquire);
        (*self.options.read().unwrap_or_else(PoisonError::into_inner), generation)
    }
}

/// The stream. After the first window a push of usual length allocates nothing.
pub(crate) struct Stream {
    windows: Windows,
    listener: Listener,
    finished: bool,
    waker: Option<Waker>,
}

/// What looks at the windows; apart from the rest, so that both can be borrowed at once.
struct Listener {
    cx: PluginContext,
    loudness: LoudnessDetector,
    detector: SpeechDetector,
    live: Arc<LiveOptions>,
    generation: u64,
    events: VecDeque<VadEvent>,
    /// Samples of the input so far.
    pushed: u64,
}

impl Stream {
    pub(crate) fn new(cx: PluginContext, rate: u32, live: Arc<LiveOptions>) -> Result<Self> {
        if !(MIN_RATE..=MAX_RATE).contains(&rate) {
            let message = format!("sample rate {rate} Hz is outside {MIN_RATE}..={MAX_RATE} Hz");
            return Err(Error::new(Code::STT_AUDIO_INVALID, message));
        }
        // 32 ms, to the nearest sample.
        let window = (rate * 4 + 62) / 125;
        let (options, generation) = live.get();
        let listener = Listener {
            cx,
            loudness: LoudnessDetector::new(options.snr),
            detector: SpeechDetector::new(options.speech, rate, rate, window),
            live,
            generation,
            events: VecDeque::with_capacity(EVENTS),
            pushed: 0,
        };
        Ok(Self { windows: Windows::new(window as usize), listener, finished: false, waker: None })
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Listener {
    fn window(&mut self, samples: &[f32]) {
        if self.live.generation.load(Ordering::Acquire) != self.generation {
            let (options, generation) = self.live.get();
            self.detector.set_options(options.speech);
            self.loudness.set_snr(options.snr);
            self.generation = generation;
        }
        let probability = self.loudness.window(samples);
        let window = self.detector.push(probability);
        self.events.push_back(VadEvent::window(window.sample, probability, 0));
        if window.overflowed {
            self.cx.log(Level::Warn, "max_buffered_speech_ms is reached: the rest of this speech is not kept");
        }
        if let Some(event) = window.event {
            self.events.push_back(match event.edge {
                SpeechEdge::Start => VadEvent::speech_start(event.sample, event.span.start),
                SpeechEdge::End => VadEvent::speech_end(event.sample, event.last_speech),
            });
        }
    }
}

impl Duplex<[f32], VadEvent> for Stream {
    fn push(&mut self, samples: &[f32]) -> Result<()> {
        if self.finished {
            return Err(Error::invalid_params("the stream is finished; open another for more sound"));
        }
        let Self { windows, listener, .. } = self;
        listener.pushed += samples.len() as u64;
        let Ok(()) = windows.push(samples, |window| {
            listener.window(window);
            Ok::<_, Infallible>(())
        });
        self.wake();
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        if !self.finished {
            self.finished = true;
            if let Some(window) = self.windows.finish() {
                // Worth its probability, but no ground to start or end speech: most of it is padding.
                let probability = self.listener.loudness.window(window);
                let at = self.listener.pushed;
                self.listener.events.push_back(VadEvent::window(at, probability, 0));
            }
            self.wake();
        }
        Ok(())
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
