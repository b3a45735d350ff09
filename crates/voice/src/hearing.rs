//! Finds utterances in sound: resamples, runs the detector, and keeps just enough sound to cut out what it finds. Blocks and
//! computes: it lives on a thread of its own, never on an async one.
//!
//! The detector and whoever transcribes get the same samples from the same place; nobody competes for frames.

use std::{
    collections::VecDeque,
    panic::AssertUnwindSafe,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::Thread,
    time::{Duration, Instant},
};

use bespoke_audio::{ResampleError, Resampler};
use bespoke_host::Leased;
use bespoke_plugin_api::{Code, Duplex, Error, Result, Vad, VadEvent};

/// The rate in which everything here counts: what detectors and transcribers are trained on. Telephone sound is better
/// resampled to it than given to an 8 kHz model (AUC 0.9635 against 0.9328 on AMI).
pub(crate) const RATE: u32 = 16_000;

/// Sound kept while nobody speaks, for the beginning of the next speech. Detectors look back half a second.
const LOOK_BACK: u64 = 3 * RATE as u64;
/// Sound after the last window of speech that still goes to the transcriber, so that a soft ending is not cut off.
const TAIL: u64 = RATE as u64 / 5;
/// The most that a detector gets at once: 100 ms.
const BLOCK: usize = RATE as usize / 10;
/// The longest that a detector may keep its caller waiting.
const PATIENCE: Duration = Duration::from_secs(10);

/// A stream of a detector.
pub(crate) type VadStream = Leased<dyn Vad, Box<dyn Duplex<[f32], VadEvent>>>;

/// What was found. Positions count samples at [`RATE`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Found {
    /// A window was looked at.
    Window { at: u64, probability: f32 },
    /// Somebody began to speak; `at` is where it was decided.
    Start { at: u64, from: u64 },
    /// They stopped.
    End(Utterance),
}

/// Speech, cut out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Utterance {
    /// Where it begins, with the detector's padding.
    pub(crate) from: u64,
    /// Where it ends, without the silence after it.
    pub(crate) to: u64,
    /// It was cut off because it grew too long.
    pub(crate) truncated: bool,
    /// The sound, at [`RATE`], with a short tail.
    pub(crate) samples: Vec<f32>,
}

/// One sound being listened to.
pub(crate) struct Hearing {
    vad: VadStream,
    plugin: String,
    resampler: Resampler,
    resampled: Vec<f32>,
    kept: VecDeque<f32>,
    /// Samples heard so far; the last of them is the last of `kept`.
    heard: u64,
    /// Up to where sound was cut out already, so that none is transcribed twice.
    taken: u64,
    max: u64,
    speech: Option<Speech>,
    sees_windows: bool,
}

/// Speech going on.
#[derive(Clone, Copy)]
enum Speech {
    Heard {
        from: u64,
    },
    /// Too long already and handed on; waits for the detector to see silence.
    Spent,
}

impl Hearing {
    /// Listens to sound of `rate` Hz with a stream that was opened at [`RATE`]; utterances last at most `max`.
    pub(crate) fn new(vad: VadStream, plugin: &str, rate: u32, max: Duration) -> Result<Self> {
        let resampler = Resampler::new(rate, RATE).map_err(unusable)?;
        Ok(Hearing {
            vad,
            plugin: plugin.to_owned(),
            resampler,
            resampled: Vec::new(),
            kept: VecDeque::new(),
            heard: 0,
            taken: 0,
            max: samples(max),
            speech: None,
            sees_windows: false,
        })
    }

    /// Samples heard so far.
    pub(crate) fn heard(&self) -> u64 {
        self.heard
    }

    /// Takes a frame of any length and tells what was found. A sample that is no number is silence.
    pub(crate) fn push(&mut self, frame: &[f32], mut found: impl FnMut(Found)) -> Result<()> {
        let mut resampled = std::mem::take(&mut self.resampled);
        resampled.clear();
        let pushed = self.resampler.push(frame, |block| resampled.extend(block.iter().map(finite))).map_err(unusable);
        let result = pushed.and_then(|()| resampled.chunks(BLOCK).try_for_each(|block| self.hear(block, &mut found)));
        self.resampled = resampled;
        result
    }

    /// The sound is over. Speech that was going on ends here.
    pub(crate) fn finish(&mut self, mut found: impl FnMut(Found)) -> Result<()> {
        let mut rest = Vec::new();
        self.resampler.finish(|block| rest.extend(block.iter().map(finite))).map_err(unusable)?;
        rest.chunks(BLOCK).try_for_each(|block| self.hear(block, &mut found))?;
        self.guarded(|vad| vad.finish())?;
        while let Some(event) = self.wait(|vad, cx| vad.poll_next(cx))? {
            self.take(event.map_err(|e| e.with_plugin(&self.plugin))?, &mut found);
        }
        if let Some(Speech::Heard { from }) = self.speech.take() {
            found(Found::End(self.cut(from, self.heard, false)));
        }
        Ok(())
    }

    fn hear(&mut self, samples: &[f32], found: &mut dyn FnMut(Found)) -> Result<()> {
        self.wait(|vad, cx| vad.poll_ready(cx))??;
        self.kept.extend(samples);
        self.heard += samples.len() as u64;
        self.guarded(|vad| vad.push(samples))?;
        // Late events are welcome at the next frame.
        while let Poll::Ready(event) = self.poll(Waker::noop(), |vad, cx| vad.poll_next(cx))? {
            match event {
                Some(event) => self.take(event.map_err(|e| e.with_plugin(&self.plugin))?, found),
                None => {
                    let message = "the detector ended its stream while the sound went on";
                    return Err(Error::new(Code::PLUGIN_CRASHED, message).with_plugin(&self.plugin));
                }
            }
        }
        if let Some(Speech::Heard { from }) = self.speech {
            if !self.sees_windows {
                // A detector that gives no probabilities is sure of what it decides.
                found(Found::Window { at: self.heard, probability: 1.0 });
            }
            if self.heard - from >= self.max {
                self.speech = Some(Speech::Spent);
                found(Found::End(self.cut(from, from + self.max, true)));
            }
        }
        if !matches!(self.speech, Some(Speech::Heard { .. })) {
            let spare = self.kept.len().saturating_sub(LOOK_BACK as usize);
            self.kept.drain(..spare);
        }
        Ok(())
    }

    fn take(&mut self, event: VadEvent, found: &mut dyn FnMut(Found)) {
        match event {
            VadEvent::Window { at, probability, .. } => {
                self.sees_windows = true;
                found(Found::Window { at, probability });
            }
            VadEvent::SpeechStart { at, from, .. } if self.speech.is_none() => {
                let from = from.min(at).min(self.heard);
                self.speech = Some(Speech::Heard { from });
                found(Found::Start { at, from });
            }
            VadEvent::SpeechEnd { to, .. } => match self.speech.take() {
                Some(Speech::Heard { from }) => found(Found::End(self.cut(from, to.clamp(from, self.heard), false))),
                Some(Speech::Spent) | None => {}
            },
            // A second start within one speech says nothing new; nor does an event that is not known here.
            _ => {}
        }
    }

    fn cut(&mut self, from: u64, to: u64, truncated: bool) -> Utterance {
        let oldest = self.heard - self.kept.len() as u64;
        let begin = from.max(self.taken).max(oldest).min(self.heard);
        let tail = if truncated { 0 } else { TAIL };
        let end = to.saturating_add(tail).clamp(begin, self.heard);
        self.taken = end;
        let range = (begin - oldest) as usize..(end - oldest) as usize;
        Utterance { from, to, truncated, samples: self.kept.range(range).copied().collect() }
    }

    /// Calls the detector with a net below: its panic is its own.
    fn guarded<R>(&mut self, call: impl FnOnce(&mut dyn Duplex<[f32], VadEvent>) -> Result<R>) -> Result<R> {
        let vad = &mut **self.vad;
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| call(vad))).unwrap_or_else(|panic| Err(panicked(&*panic)));
        result.map_err(|e| e.with_plugin(&self.plugin))
    }

    fn poll<R>(
        &mut self,
        waker: &Waker,
        mut ask: impl FnMut(&mut dyn Duplex<[f32], VadEvent>, &mut Context<'_>) -> Poll<R>,
    ) -> Result<Poll<R>> {
        self.guarded(|vad| Ok(ask(vad, &mut Context::from_waker(waker))))
    }

    /// Blocks this thread until the detector answers.
    fn wait<R>(&mut self, mut ask: impl FnMut(&mut dyn Duplex<[f32], VadEvent>, &mut Context<'_>) -> Poll<R>) -> Result<R> {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let limit = Instant::now() + PATIENCE;
        loop {
            if let Poll::Ready(answer) = self.poll(&waker, &mut ask)? {
                return Ok(answer);
            }
            let left = limit.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let message = format!("the detector gave no answer within {PATIENCE:?}");
                return Err(Error::new(Code::EXECUTION_TIMEOUT, message).with_plugin(&self.plugin));
            }
            std::thread::park_timeout(left);
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// A length of time in samples at [`RATE`].
pub(crate) fn samples(time: Duration) -> u64 {
    u64::try_from(time.as_nanos() * u128::from(RATE) / 1_000_000_000).unwrap_or(u64::MAX)
}

/// A number of samples at [`RATE`] as time.
pub(crate) fn time(samples: u64) -> Duration {
    Duration::from_nanos(u64::try_from(u128::from(samples) * 1_000_000_000 / u128::from(RATE)).unwrap_or(u64::MAX))
}

/// The error of a plugin's panic; its message is in the log through the panic hook.
pub(crate) fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    let message = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Error::new(Code::PLUGIN_EXCEPTION, format!("panicked: {}", message.unwrap_or("no message")))
}

fn finite(sample: &f32) -> f32 {
    if sample.is_finite() { *sample } else { 0.0 }
}

fn unusable(error: ResampleError) -> Error {
    Error::new(Code::STT_AUDIO_INVALID, error.to_string())
}
