//! A conversation over a microphone: frames go in, events come out. The detector runs on a thread of its own over every
//! frame; one task answers what it finds, and stops answering when somebody speaks into the reply.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use bespoke_agent::Session;
use bespoke_host::Workflow;
use bespoke_plugin_api::{Audio, CallCx, CancelToken, Code, Error, Result};
use tokio::{
    sync::{mpsc as async_mpsc, oneshot},
    task::JoinHandle,
};

use crate::{
    Chosen, Stage, Voice, VoiceEvent,
    exchange::Failure,
    floor::{Floor, Verdict},
    hearing::{self, Found, Hearing, RATE, Utterance},
    outbox::{Inlet, Outbox, outbox},
    timeline::Clock,
    voice::thread,
};

/// Sound that may wait for the detector. More than this means that it does not keep up.
const BACKLOG_S: u64 = 30;
/// How long the detector's thread may take to end when the session does.
const FAREWELL: Duration = Duration::from_secs(2);

/// The microphone's end of a live session. Dropping it ends the session at once.
#[derive(Debug)]
pub struct LiveVoice {
    frames: mpsc::Sender<Frame>,
    backlog: Arc<AtomicU64>,
    rate: u32,
    vad: Chosen,
    driver: JoinHandle<Session>,
    /// Gone when the detector's thread has ended.
    thread: oneshot::Receiver<()>,
    cancel: CancelOnDrop,
}

/// The listener's end of a live session. Dropping it ends the session.
pub struct LiveEvents(Inlet);

/// Sound as it came.
#[derive(Debug)]
struct Frame {
    samples: Vec<f32>,
    arrived: Instant,
}

#[derive(Debug)]
struct CancelOnDrop(CancelToken);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl LiveVoice {
    pub(crate) fn start(
        voice: Voice,
        cx: &CallCx,
        session: Session,
        rate: u32,
        hearing: Hearing,
        vad: Chosen,
    ) -> Result<(LiveVoice, LiveEvents)> {
        let cancel = cx.cancel_token().child();
        let (frames, sound) = mpsc::channel();
        let (found, ears) = async_mpsc::unbounded_channel();
        let (outbox, inlet) = outbox();
        let (ended, thread_ended) = oneshot::channel();
        let backlog = Arc::<AtomicU64>::default();
        let playback = Arc::<Playback>::default();
        let detector = Detector { hearing, sound, backlog: backlog.clone(), playback: playback.clone(), found };
        thread("voice-vad", move || {
            detector.run();
            drop(ended);
        })?;
        outbox.push(VoiceEvent::Engine(vad.clone()));
        let config = voice.config();
        let floor = Floor::new(config.barge_in, hearing::samples(config.barge_in_min()));
        let driver = Driver {
            cx: cx.with_cancel(cancel.clone()),
            voice,
            session,
            ears,
            outbox,
            listener: Listener { floor, playback, waiting: Vec::new() },
            engines: Vec::new(),
            unanswered: Vec::new(),
        };
        let driver = tokio::spawn(driver.run());
        let live = LiveVoice { frames, backlog, rate, vad, driver, thread: thread_ended, cancel: CancelOnDrop(cancel) };
        Ok((live, LiveEvents(inlet)))
    }

    /// Takes sound, in frames of any length, at the rate of the session. Never blocks.
    ///
    /// # Errors
    /// `NOT_READY` when the session has ended; `RESOURCE_EXHAUSTED` when the detector is half a minute behind: the frame
    /// was not taken.
    pub fn push(&self, samples: &[f32]) -> Result<()> {
        if samples.is_empty() {
            return Ok(());
        }
        let ended = || Error::new(Code::NOT_READY, "the live session has ended; begin a new one");
        if self.driver.is_finished() {
            return Err(ended());
        }
        let length = samples.len() as u64;
        let most = BACKLOG_S * u64::from(self.rate);
        // A single frame may be longer than that: it is there already, so it is taken.
        let waiting = self.backlog.fetch_add(length, Ordering::Relaxed);
        let frame = Frame { samples: samples.to_vec(), arrived: Instant::now() };
        let refused = if waiting > most {
            Error::new(Code::RESOURCE_EXHAUSTED, format!("the detector is {BACKLOG_S} s behind; the frame was not taken")).retryable()
        } else if self.frames.send(frame).is_err() {
            ended()
        } else {
            return Ok(());
        };
        self.backlog.fetch_sub(length, Ordering::Relaxed);
        Err(refused)
    }

    /// The detector that listens.
    pub fn vad(&self) -> &Chosen {
        &self.vad
    }

    /// The sound is over: what is being said is answered, then the session ends. Its events end with it.
    ///
    /// # Errors
    /// Only a fault of the session itself.
    pub async fn finish(self) -> Result<Session> {
        let LiveVoice { frames, driver, thread, cancel, .. } = self;
        drop(frames);
        let session = driver.await.map_err(|e| Error::internal(format!("the live session broke: {e}")));
        let _ = tokio::time::timeout(FAREWELL, thread).await;
        drop(cancel);
        session
    }

    /// Ends the session now: speech and generation stop, and its events end. The session holds what was said.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub async fn close(self) -> Result<Session> {
        self.cancel.0.cancel();
        self.finish().await
    }
}

impl LiveEvents {
    /// The next event, `None` after the last. May be dropped and called again without losing an event.
    pub async fn next(&mut self) -> Option<VoiceEvent> {
        poll_fn(|cx| self.0.poll_event(cx)).await
    }
}

impl std::fmt::Debug for LiveEvents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LiveEvents")
    }
}

/// How far a reply has been played, reckoned in the sound of the microphone: both run in real time, so the samples heard are
/// a clock that stands still when nobody listens.
#[derive(Debug, Default)]
struct Playback {
    heard: AtomicU64,
    until: AtomicU64,
}

impl Playback {
    fn add(&self, audio: &Audio) {
        let from = self.until.load(Ordering::Relaxed).max(self.heard.load(Ordering::Relaxed));
        self.until.store(from + hearing::samples(audio.duration()), Ordering::Relaxed);
    }

    fn stop(&self) {
        self.until.store(0, Ordering::Relaxed);
    }

    fn plays_at(&self, sample: u64) -> bool {
        sample < self.until.load(Ordering::Relaxed)
    }
}

/// What the detector's thread tells.
enum Ear {
    Found(Found),
    Utterance(Utterance, Clock),
    Failed(Error),
}

/// The detector's thread.
struct Detector {
    hearing: Hearing,
    sound: mpsc::Receiver<Frame>,
    backlog: Arc<AtomicU64>,
    playback: Arc<Playback>,
    found: async_mpsc::UnboundedSender<Ear>,
}

impl Detector {
    fn run(mut self) {
        // When nobody takes what is found, the session is over and so is this.
        if let Err(error) = self.listen() {
            let _ = self.found.send(Ear::Failed(error));
        }
    }

    fn listen(&mut self) -> Result<()> {
        let mut found = Vec::new();
        while let Ok(frame) = self.sound.recv() {
            if self.found.is_closed() {
                return Ok(());
            }
            let result = self.hearing.push(&frame.samples, |event| found.push(event));
            self.backlog.fetch_sub(frame.samples.len() as u64, Ordering::Relaxed);
            self.tell(&mut found, frame.arrived);
            result?;
        }
        if self.found.is_closed() {
            return Ok(());
        }
        let result = self.hearing.finish(|event| found.push(event));
        self.tell(&mut found, Instant::now());
        result
    }

    fn tell(&self, found: &mut Vec<Found>, arrived: Instant) {
        let heard = self.hearing.heard();
        self.playback.heard.store(heard, Ordering::Relaxed);
        for event in found.drain(..) {
            let ear = match event {
                Found::End(utterance) => {
                    // Silence that had to be waited for is counted, the work after it is measured.
                    let ago = hearing::time(heard - utterance.to) + arrived.elapsed();
                    let speech = hearing::time(utterance.to - utterance.from);
                    Ear::Utterance(utterance, Clock::since(Instant::now(), ago, speech))
                }
                other => Ear::Found(other),
            };
            let _ = self.found.send(ear);
        }
    }
}

/// The task that answers.
struct Driver {
    cx: CallCx,
    voice: Voice,
    session: Session,
    ears: async_mpsc::UnboundedReceiver<Ear>,
    outbox: Outbox,
    listener: Listener,
    /// Those told of, so that each is told once.
    engines: Vec<Chosen>,
    /// Speech that was interrupted before it was understood: it belongs to what follows.
    unanswered: Vec<f32>,
}

/// What was heard and not answered yet, and whose turn it is.
struct Listener {
    floor: Floor,
    playback: Arc<Playback>,
    waiting: Vec<(Utterance, Clock)>,
}

impl Driver {
    async fn run(mut self) -> Session {
        while !self.cx.is_cancelled() {
            if !self.listener.waiting.is_empty() {
                let (utterance, clock) = self.listener.waiting.remove(0);
                self.answer(utterance, clock).await;
                continue;
            }
            let ear = tokio::select! {
                biased;
                () = self.cx.cancelled() => break,
                () = poll_fn(|cx| self.outbox.poll_unread(cx)) => break,
                ear = self.ears.recv() => ear,
            };
            let Some(ear) = ear else { break };
            if self.listener.take(ear, false, &self.outbox) == Verdict::Interrupt {
                self.listener.interrupt(&self.outbox);
            }
        }
        self.session
    }

    async fn answer(&mut self, utterance: Utterance, mut clock: Clock) {
        let Driver { cx, voice, session, ears, outbox, listener, engines, unanswered } = self;
        let mut sound = std::mem::take(unanswered);
        sound.extend(utterance.samples);
        let piece = [Audio::new(sound, RATE)];

        let token = cx.cancel_token().child();
        let turn_cx = cx.with_cancel(token.clone());
        let playback = listener.playback.clone();
        let (speaker, stopped) = (&*outbox, &token);
        // Polled by this task alone: once the token is cancelled below, nothing more gets through.
        let mut emit = |event: VoiceEvent| {
            if stopped.is_cancelled() {
                return;
            }
            match &event {
                VoiceEvent::ReplyAudio { audio } => playback.add(audio),
                VoiceEvent::Engine(chosen) if engines.contains(chosen) => return,
                VoiceEvent::Engine(chosen) => {
                    engines.retain(|known| known.kind != chosen.kind);
                    engines.push(chosen.clone());
                }
                _ => {}
            }
            speaker.push(event);
        };

        let workflow = Workflow::begin(voice.agent().host().events(), "voice", Some(session.id()));
        let result = {
            let mut exchange = pin!(voice.exchange(&turn_cx, session, &piece, &mut clock, &workflow, &mut emit));
            let mut listening = true;
            loop {
                tokio::select! {
                    biased;
                    () = poll_fn(|cx| outbox.poll_unread(cx)), if !token.is_cancelled() => token.cancel(),
                    ear = ears.recv(), if listening => match ear {
                        None => listening = false,
                        Some(ear) => if listener.take(ear, !token.is_cancelled(), outbox) == Verdict::Interrupt {
                            token.cancel();
                            listener.interrupt(outbox);
                        },
                    },
                    result = &mut exchange => break result,
                }
            }
        };
        workflow.complete(result.as_ref().map(drop).map_err(|failure| &failure.error));
        if token.is_cancelled() {
            if let Err(Failure { stage: Stage::Stt, .. }) = result {
                let [piece] = piece;
                unanswered.extend_from_slice(&piece.samples);
                // What was never understood may not grow for ever.
                let most = usize::try_from(hearing::samples(voice.config().max_utterance())).unwrap_or(usize::MAX);
                let spare = unanswered.len().saturating_sub(most);
                unanswered.drain(..spare);
            }
            return;
        }
        match result {
            Ok(exchange) => {
                if let Some(reply) = exchange.reply {
                    outbox.push(VoiceEvent::ReplyEnd { turn: reply.turn });
                }
            }
            Err(Failure { stage, error }) => outbox.push(VoiceEvent::Error { stage, error }),
        }
        outbox.push(VoiceEvent::Metrics(clock.timeline));
    }
}

impl Listener {
    /// Takes what the detector tells; `answering` says whether a reply is being made.
    fn take(&mut self, ear: Ear, answering: bool, outbox: &Outbox) -> Verdict {
        match ear {
            Ear::Found(Found::Start { at, from }) => {
                outbox.push(VoiceEvent::SpeechStart { from: hearing::time(from) });
                self.floor.start(at, answering || self.playback.plays_at(at))
            }
            Ear::Found(Found::Window { at, probability }) => self.floor.window(at, probability, answering || self.playback.plays_at(at)),
            Ear::Utterance(utterance, clock) => {
                let answered = self.floor.end();
                outbox.push(VoiceEvent::SpeechEnd { span: utterance.span(), ignored: !answered });
                if answered {
                    self.waiting.push((utterance, clock));
                }
                Verdict::GoOn
            }
            Ear::Failed(error) => {
                outbox.push(VoiceEvent::Error { stage: Stage::Vad, error });
                Verdict::GoOn
            }
            // The thread sends an end with its clock.
            Ear::Found(Found::End(_)) => Verdict::GoOn,
        }
    }

    fn interrupt(&self, outbox: &Outbox) {
        self.playback.stop();
        outbox.interrupt();
    }
}
