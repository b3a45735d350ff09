//! The voice of an agent, and its turn on a recording. The turn on a microphone is in `live`.

use std::time::Duration;

use bespoke_agent::{Agent, Session, Turn};
use bespoke_audio::rms;
use bespoke_host::Workflow;
use bespoke_plugin_api::{Audio, CallCx, Code, Error, Result, Vad, VadOptions};
use tokio::sync::oneshot;

use crate::{
    Chosen, LiveEvents, LiveVoice, Span, Timeline, VadWindow, VoiceConfig, VoiceEvent,
    choice::Choice,
    exchange::{Emit, Reply, spoken_pieces},
    hearing::{self, Found, Hearing, RATE, Utterance, VadStream},
    timeline::Clock,
};

/// Utterances of a recording that stand closer than this are transcribed together: a pause for breath ends no sentence.
const BREATH: Duration = Duration::from_secs(1);
/// A piece that is too long is cut at its quietest moment within this much of its end.
const CUT_WITHIN: usize = 5 * RATE as usize;

/// Hears and speaks for an agent. Cheap to clone; holds no conversation.
#[derive(Debug, Clone)]
pub struct Voice {
    agent: Agent,
    config: VoiceConfig,
}

/// A turn on a recording.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct VoiceTurn {
    /// What was heard.
    pub heard: Heard,
    /// The agent's turn; none when there was nothing to answer.
    pub reply: Option<Turn>,
    /// The answer as sound, at the rate of the engine; none when there is no answer or no voice.
    pub audio: Option<Audio>,
    /// Why the answer could not be spoken, or not to its end.
    pub tts_error: Option<Error>,
    /// The engines that served, in the order of the stages.
    pub engines: Vec<Chosen>,
    /// How long each stage took.
    pub timeline: Timeline,
}

/// What was heard in a recording.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Heard {
    /// The words; none when nobody spoke, empty when the speech held no words.
    pub transcript: Option<String>,
    /// Where somebody spoke.
    pub speech: Vec<Span>,
    /// How likely each window of the detector is speech.
    pub windows: Vec<VadWindow>,
}

/// A text that was spoken.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Spoken {
    /// The sound, at the rate of the engine; none when the text has nothing to read aloud.
    pub audio: Option<Audio>,
    /// The engine.
    pub engine: Chosen,
}

impl Voice {
    /// A voice for an agent, whose host's plugins are started.
    ///
    /// # Errors
    /// `INVALID_PARAMS`, as [`VoiceConfig::check`].
    pub fn new(agent: Agent, config: VoiceConfig) -> Result<Self> {
        config.check()?;
        Ok(Voice { agent, config })
    }

    /// The agent.
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// How it hears and speaks.
    pub fn config(&self) -> &VoiceConfig {
        &self.config
    }

    /// Answers a recording of any rate. Text and audio go to `on_event` as they come. A recording in which nobody speaks is
    /// no error: there is no answer then, and the agent is not asked.
    ///
    /// # Errors
    /// What stopped the detector, the transcription or the agent; `STT_AUDIO_INVALID`; `CANCELLED`. Without a voice there
    /// still is an answer, with [`VoiceTurn::tts_error`].
    pub async fn turn(
        &self,
        cx: &CallCx,
        session: &mut Session,
        recording: Audio,
        mut on_event: impl FnMut(VoiceEvent) + Send,
    ) -> Result<VoiceTurn> {
        let mut engines = Vec::new();
        let mut audio = Collected::default();
        let mut emit = |event: VoiceEvent| {
            match &event {
                VoiceEvent::Engine(chosen) => engines.push(chosen.clone()),
                VoiceEvent::ReplyAudio { audio: chunk } => audio.add(chunk),
                _ => {}
            }
            on_event(event);
        };
        let mut clock = Clock::start();
        let workflow = Workflow::begin(self.agent.host().events(), "voice", Some(session.id()));
        let told = self.told(cx, session, recording, &mut clock, &workflow, &mut emit).await;
        workflow.complete(told.as_ref().map(drop));
        let (heard, reply) = told?;
        if let Some(reply) = &reply {
            emit(VoiceEvent::ReplyEnd { turn: reply.turn.clone() });
        }
        emit(VoiceEvent::Metrics(clock.timeline));
        let (turn, tts_error) = reply.map_or((None, None), |reply| (Some(reply.turn), reply.tts_error));
        Ok(VoiceTurn { heard, reply: turn, audio: audio.done(), tts_error, engines, timeline: clock.timeline })
    }

    /// What was heard in a recording, and the answer.
    async fn told(
        &self,
        cx: &CallCx,
        session: &mut Session,
        recording: Audio,
        clock: &mut Clock,
        workflow: &Workflow,
        emit: Emit<'_>,
    ) -> Result<(Heard, Option<Reply>)> {
        let mut step = workflow.step("vad", None);
        let listened = cx.unless_cancelled(self.listen(cx, recording)).await.flatten();
        if let Ok(listened) = &listened {
            step.by(&listened.engine.name);
        }
        step.complete(listened.as_ref().map(drop));
        let listened = listened?;
        clock.first(|t| &mut t.vad);
        clock.timeline.speech = listened.speech();
        let mut heard = listened.tell(emit);
        let pieces = pieces(listened.utterances, self.config.max_utterance());
        let mut reply = None;
        if !pieces.is_empty() {
            let exchange = self.exchange(cx, session, &pieces, clock, workflow, emit).await.map_err(|failure| failure.error)?;
            heard.transcript = Some(exchange.transcript);
            reply = exchange.reply;
        }
        Ok((heard, reply))
    }

    /// Finds and transcribes the speech in a recording, without an answer.
    ///
    /// # Errors
    /// As [`turn`](Self::turn).
    pub async fn transcribe(&self, cx: &CallCx, recording: Audio, mut on_event: impl FnMut(VoiceEvent) + Send) -> Result<Heard> {
        let listened = cx.unless_cancelled(self.listen(cx, recording)).await??;
        let mut heard = listened.tell(&mut on_event);
        let pieces = pieces(listened.utterances, self.config.max_utterance());
        if !pieces.is_empty() {
            let (words, chosen) = cx.unless_cancelled(self.words(cx, &pieces)).await??;
            on_event(VoiceEvent::Engine(chosen));
            heard.transcript = Some(words);
        }
        Ok(heard)
    }

    /// Speaks a text; `on_audio` gets it as it comes.
    ///
    /// # Errors
    /// What the engine said; `CANCELLED`.
    pub async fn speak(&self, cx: &CallCx, text: &str, mut on_audio: impl FnMut(&Audio) + Send) -> Result<Spoken> {
        let (mut mouth, engine) = cx.unless_cancelled(self.mouth(cx)).await??;
        for piece in spoken_pieces(text) {
            mouth.say(piece);
        }
        mouth.finish();
        let mut audio = Collected::default();
        let speaking = async {
            while let Some(chunk) = std::future::poll_fn(|cx| mouth.poll_chunk(cx)).await {
                let chunk = chunk?;
                on_audio(&chunk);
                audio.add(&chunk);
            }
            Ok::<_, Error>(())
        };
        cx.unless_cancelled(speaking).await??;
        Ok(Spoken { audio: audio.done(), engine })
    }

    /// Begins a conversation over a microphone of `rate` Hz.
    ///
    /// # Errors
    /// When no detector works, or for a rate that is no rate of sound.
    pub async fn live(&self, cx: &CallCx, session: Session, rate: u32) -> Result<(LiveVoice, LiveEvents)> {
        let mut choice = Choice::new(self.agent.host(), "voice.vad", &self.config.vad);
        let (stream, chosen) = cx.unless_cancelled(open_vad(&mut choice, cx)).await??;
        let hearing = Hearing::new(stream, &chosen.plugin, rate, self.config.max_utterance())?;
        LiveVoice::start(self.clone(), cx, session, rate, hearing, chosen)
    }

    /// Runs the detector over a recording, on a thread of its own.
    async fn listen(&self, cx: &CallCx, recording: Audio) -> Result<Listened> {
        if recording.samples.is_empty() {
            return Err(Error::new(Code::STT_AUDIO_INVALID, "the recording is empty"));
        }
        let mut choice = Choice::new(self.agent.host(), "voice.vad", &self.config.vad);
        loop {
            let (stream, chosen) = open_vad(&mut choice, cx).await?;
            // All of it is kept: a recording is cut into pieces afterwards.
            let mut hearing = Hearing::new(stream, &chosen.plugin, recording.rate, Duration::MAX)?;
            let (tx, rx) = oneshot::channel();
            let (sound, until) = (recording.clone(), cx.clone());
            let work = move || {
                let (mut windows, mut utterances) = (Vec::new(), Vec::new());
                let mut found = |found| match found {
                    Found::Window { at, probability } => windows.push(VadWindow { at: hearing::time(at), probability }),
                    Found::Start { .. } => {}
                    Found::End(utterance) => utterances.push(utterance),
                };
                let mut blocks = sound.samples.chunks((sound.rate as usize / 10).max(1));
                let heard = blocks
                    .try_for_each(|block| until.check().and_then(|()| hearing.push(block, &mut found)))
                    .and_then(|()| hearing.finish(&mut found));
                // Nobody waits any more when the turn was cancelled.
                let _ = tx.send(heard.map(|()| (windows, utterances)));
            };
            thread("voice-vad", work)?;
            match rx.await {
                Ok(Ok((windows, utterances))) => return Ok(Listened { engine: chosen, windows, utterances }),
                Ok(Err(error)) if matches!(error.code(), Code::CANCELLED | Code::STT_AUDIO_INVALID) => return Err(error),
                Ok(Err(error)) => choice.failed(&chosen.name, error),
                Err(_) => return Err(Error::internal("the thread of the detector ended without a result")),
            }
        }
    }
}

async fn open_vad(choice: &mut Choice<'_>, cx: &CallCx) -> Result<(VadStream, Chosen)> {
    loop {
        let slot = choice.next::<dyn Vad>(cx).await?;
        match slot.enter(|vad| vad.open(&VadOptions::new(RATE))) {
            Ok(stream) => return Ok((stream, choice.chosen(&slot))),
            Err(error) => choice.failed(slot.name(), error),
        }
    }
}

/// Runs work that blocks on a thread of its own.
pub(crate) fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    let spawned = std::thread::Builder::new().name(name.into()).spawn(work);
    spawned.map(drop).map_err(|e| Error::new(Code::RESOURCE_EXHAUSTED, format!("no thread for the detector: {e}")))
}

/// What the detector found in a recording.
struct Listened {
    engine: Chosen,
    windows: Vec<VadWindow>,
    utterances: Vec<Utterance>,
}

impl Listened {
    fn speech(&self) -> Duration {
        hearing::time(self.utterances.iter().map(|u| u.to - u.from).sum())
    }

    fn tell(&self, emit: Emit<'_>) -> Heard {
        emit(VoiceEvent::Engine(self.engine.clone()));
        let speech: Vec<_> = self.utterances.iter().map(Utterance::span).collect();
        for &span in &speech {
            emit(VoiceEvent::SpeechStart { from: span.from });
            emit(VoiceEvent::SpeechEnd { span, ignored: false });
        }
        Heard { transcript: None, speech, windows: self.windows.clone() }
    }
}

impl Utterance {
    pub(crate) fn span(&self) -> Span {
        Span { from: hearing::time(self.from), to: hearing::time(self.to), truncated: self.truncated }
    }
}

/// Sound for the transcriber: utterances joined over short pauses, and none too long.
fn pieces(utterances: Vec<Utterance>, max: Duration) -> Vec<Audio> {
    let mut joined: Vec<(u64, Vec<f32>)> = Vec::new();
    for utterance in utterances {
        match joined.last_mut() {
            Some((to, samples)) if utterance.from.saturating_sub(*to) <= hearing::samples(BREATH) => {
                *to = utterance.to;
                samples.extend(utterance.samples);
            }
            _ => joined.push((utterance.to, utterance.samples)),
        }
    }
    let max = usize::try_from(hearing::samples(max)).unwrap_or(usize::MAX);
    let mut pieces = Vec::new();
    for (_, samples) in joined {
        let mut rest = &samples[..];
        while rest.len() > max {
            let (piece, after) = rest.split_at(quietest(&rest[..max]));
            pieces.push(Audio::new(piece, RATE));
            rest = after;
        }
        pieces.push(Audio::new(rest, RATE));
    }
    pieces
}

/// The middle of the quietest 20 ms near the end.
fn quietest(samples: &[f32]) -> usize {
    const WINDOW: usize = RATE as usize / 50;
    let begin = samples.len().saturating_sub(CUT_WITHIN).max(samples.len() / 2);
    let windows = samples[begin..].chunks_exact(WINDOW).enumerate();
    let quiet = windows.min_by(|(_, a), (_, b)| rms(a).total_cmp(&rms(b)));
    quiet.map_or(samples.len(), |(n, _)| begin + n * WINDOW + WINDOW / 2)
}

/// Chunks of one reply, put together.
#[derive(Default)]
struct Collected {
    samples: Vec<f32>,
    rate: Option<u32>,
}

impl Collected {
    fn add(&mut self, chunk: &Audio) {
        self.rate = Some(chunk.rate);
        self.samples.extend_from_slice(&chunk.samples);
    }

    fn done(self) -> Option<Audio> {
        self.rate.map(|rate| Audio::new(self.samples, rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utterance(from: u64, to: u64, samples: Vec<f32>) -> Utterance {
        Utterance { from, to, truncated: false, samples }
    }

    #[test]
    fn a_breath_joins_and_a_pause_does_not() {
        let second = u64::from(RATE);
        let found = pieces(
            vec![
                utterance(0, second, vec![0.1; 10]),
                utterance(2 * second, 3 * second, vec![0.2; 20]),
                utterance(5 * second, 6 * second, vec![0.3; 30]),
            ],
            Duration::from_secs(60),
        );
        assert_eq!(found.iter().map(|p| p.samples.len()).collect::<Vec<_>>(), [30, 30]);
        assert!(pieces(Vec::new(), Duration::from_secs(60)).is_empty());
    }

    #[test]
    fn a_long_piece_is_cut_where_it_is_quiet_and_nothing_is_lost() {
        let mut samples = vec![0.5_f32; 25 * RATE as usize];
        let quiet = 8 * RATE as usize;
        samples[quiet..quiet + 800].fill(0.0);
        let found = pieces(vec![utterance(0, samples.len() as u64, samples.clone())], Duration::from_secs(10));
        assert!((quiet..quiet + 800).contains(&found[0].samples.len()));
        assert!(found.iter().all(|p| p.samples.len() <= 10 * RATE as usize && !p.samples.is_empty()));
        assert_eq!(found.iter().flat_map(|p| p.samples.iter().copied()).collect::<Vec<_>>(), samples);
    }
}
