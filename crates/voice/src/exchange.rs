//! From an utterance to its answer: words, then the agent, whose text goes to the voice piece by piece while it is written.

use std::{future::poll_fn, pin::pin, time::Duration};

use bespoke_agent::{Session, Turn, TurnEvent};
use bespoke_host::{Slot, Workflow};
use bespoke_plugin_api::{Audio, CallCx, Code, Error, Result, Stt, SttRequest, Tts, TtsOptions};
use tokio::sync::mpsc;

use crate::{Chosen, Stage, Voice, VoiceEvent, choice::Choice, mouth::Mouth, sentences::Sentences, spoken::Markup, timeline::Clock};

/// The longest that an engine may be silent after it has all of the text.
const VOICE_PATIENCE: Duration = Duration::from_secs(30);
/// How long a cancelled agent may take to put its session in order.
const GRACE: Duration = Duration::from_secs(2);

/// Who is told.
pub(crate) type Emit<'a> = &'a mut (dyn FnMut(VoiceEvent) + Send);

/// An utterance and its answer.
pub(crate) struct Exchange {
    pub(crate) transcript: String,
    /// None when there were no words.
    pub(crate) reply: Option<Reply>,
}

/// An answer.
pub(crate) struct Reply {
    pub(crate) turn: Turn,
    /// Why it could not be spoken, or not to its end.
    pub(crate) tts_error: Option<Error>,
}

/// What ended an exchange.
pub(crate) struct Failure {
    pub(crate) stage: Stage,
    pub(crate) error: Error,
}

impl Voice {
    /// Transcribes an utterance, given in pieces, and answers it.
    pub(crate) async fn exchange(
        &self,
        cx: &CallCx,
        session: &mut Session,
        pieces: &[Audio],
        clock: &mut Clock,
        workflow: &Workflow,
        emit: Emit<'_>,
    ) -> Result<Exchange, Failure> {
        let mut step = workflow.step("stt", None);
        let words = cx.unless_cancelled(self.words(cx, pieces)).await.flatten();
        if let Ok((_, chosen)) = &words {
            step.by(&chosen.name);
        }
        step.complete(words.as_ref().map(drop));
        let (transcript, chosen) = words.map_err(|error| Failure { stage: Stage::Stt, error })?;
        clock.first(|t| &mut t.transcript);
        emit(VoiceEvent::Engine(chosen));
        emit(VoiceEvent::Transcript { text: transcript.clone() });
        if transcript.is_empty() {
            return Ok(Exchange { transcript, reply: None });
        }
        let reply =
            self.reply(cx, session, &transcript, clock, workflow, emit).await.map_err(|error| Failure { stage: Stage::Agent, error })?;
        Ok(Exchange { transcript, reply: Some(reply) })
    }

    /// The words of all pieces, by the first engine that can.
    pub(crate) async fn words(&self, cx: &CallCx, pieces: &[Audio]) -> Result<(String, Chosen)> {
        let mut choice = Choice::new(self.agent().host(), "voice.stt", &self.config().stt);
        loop {
            let slot = choice.next::<dyn Stt>(cx).await?;
            match self.words_by(&slot, cx, pieces).await {
                Ok(words) => return Ok((words, choice.chosen(&slot))),
                // Another engine would hear the same.
                Err(error) if matches!(error.code(), Code::CANCELLED | Code::STT_AUDIO_INVALID) => return Err(error),
                Err(error) => choice.failed(slot.name(), error),
            }
        }
    }

    async fn words_by(&self, slot: &Slot<dyn Stt>, cx: &CallCx, pieces: &[Audio]) -> Result<String> {
        let mut words = Vec::new();
        for piece in pieces {
            let mut request = SttRequest::new(piece.clone());
            if let Some(language) = &self.config().language {
                request = request.language(language.clone());
            }
            let transcript = slot.call(cx, |stt, cx| async move { stt.transcribe(&cx, request).await }).await?;
            words.push(transcript.text.trim().to_owned());
        }
        words.retain(|text| !text.is_empty());
        Ok(words.join(" "))
    }

    async fn reply(
        &self,
        cx: &CallCx,
        session: &mut Session,
        input: &str,
        clock: &mut Clock,
        workflow: &Workflow,
        emit: Emit<'_>,
    ) -> Result<Reply> {
        let mut tts_error = None;
        let mut speaking = workflow.step("tts", None);
        let mut mouth = match cx.unless_cancelled(self.mouth(cx)).await.flatten() {
            Ok((mouth, chosen)) => {
                speaking.by(&chosen.name);
                emit(VoiceEvent::Engine(chosen));
                mouth
            }
            Err(error) if error.code() == Code::CANCELLED => return Err(error),
            Err(error) => {
                emit(VoiceEvent::Error { stage: Stage::Tts, error: error.clone() });
                tts_error = Some(error);
                Mouth::silent()
            }
        };

        let (written, mut writing) = mpsc::unbounded_channel();
        let listener = move |event| _ = written.send(event);
        let mut turn = pin!(self.agent().turn(cx, session, input, listener));
        let mut thinking = Some(workflow.step("agent", None));
        let mut done = None;
        let mut reading = Reading::default();
        let mut cancelled = cx.cancelled();
        while done.is_none() || !mouth.is_done() {
            tokio::select! {
                biased;
                () = &mut cancelled => {
                    drop(mouth);
                    if done.is_none() {
                        // The agent keeps what was said so far in its session.
                        let _ = tokio::time::timeout(GRACE, turn).await;
                    }
                    return Err(Error::cancelled());
                }
                Some(event) = writing.recv(), if done.is_none() => reading.take(event, &mut mouth, clock, emit),
                chunk = poll_fn(|cx| mouth.poll_chunk(cx)), if !mouth.is_done() => match chunk {
                    Some(Ok(audio)) => {
                        clock.first(|t| &mut t.first_audio);
                        clock.last(|t| &mut t.last_audio);
                        emit(VoiceEvent::ReplyAudio { audio });
                        // An engine that always has more must not keep others from being heard.
                        tokio::task::consume_budget().await;
                    }
                    Some(Err(error)) => {
                        emit(VoiceEvent::Error { stage: Stage::Tts, error: error.clone() });
                        tts_error = Some(error);
                    }
                    None => {}
                },
                result = &mut turn, if done.is_none() => {
                    // What was written in the same breath comes first.
                    while let Ok(event) = writing.try_recv() {
                        reading.take(event, &mut mouth, clock, emit);
                    }
                    if let Some(step) = thinking.take() {
                        step.complete(result.as_ref().map(drop));
                    }
                    done = Some(result?);
                    clock.last(|t| &mut t.last_token);
                    reading.finish(&mut mouth);
                }
                // Anything that happens starts this limit anew.
                () = tokio::time::sleep(VOICE_PATIENCE), if done.is_some() => {
                    mouth = Mouth::silent();
                    let error = Error::new(Code::EXECUTION_TIMEOUT, format!("the voice was silent for {VOICE_PATIENCE:?}")).retryable();
                    emit(VoiceEvent::Error { stage: Stage::Tts, error: error.clone() });
                    tts_error = Some(error);
                }
            }
        }
        speaking.complete(tts_error.as_ref().map_or(Ok(()), Err));
        match done {
            Some(turn) => Ok(Reply { turn, tts_error }),
            // The loop runs until it is there.
            None => Err(Error::internal("the reply ended without the agent's turn")),
        }
    }

    /// A stream of the first engine that opens one.
    pub(crate) async fn mouth(&self, cx: &CallCx) -> Result<(Mouth, Chosen)> {
        let config = self.config();
        let mut options = TtsOptions::default();
        options.voice.clone_from(&config.voice);
        options.speed = config.speed;
        let mut choice = Choice::new(self.agent().host(), "voice.tts", &config.tts);
        loop {
            let slot = choice.next::<dyn Tts>(cx).await?;
            match slot.enter(|tts| tts.open(&options)) {
                Ok(stream) => return Ok((Mouth::new(stream, slot.plugin()), choice.chosen(&slot))),
                Err(error) => choice.failed(slot.name(), error),
            }
        }
    }
}

/// What was written so far and is not yet said.
#[derive(Default)]
struct Reading {
    sentences: Sentences,
    markup: Markup,
}

impl Reading {
    fn take(&mut self, event: TurnEvent, mouth: &mut Mouth, clock: &mut Clock, emit: Emit<'_>) {
        let TurnEvent::Text(text) = event else { return emit(VoiceEvent::Agent(event)) };
        clock.first(|t| &mut t.first_token);
        self.sentences.push(&text);
        emit(VoiceEvent::ReplyText { text });
        while let Some(piece) = self.sentences.next_piece() {
            self.say(&piece, mouth);
        }
    }

    fn finish(&mut self, mouth: &mut Mouth) {
        if let Some(piece) = self.sentences.rest() {
            self.say(&piece, mouth);
        }
        mouth.finish();
    }

    fn say(&mut self, piece: &str, mouth: &mut Mouth) {
        if let Some(words) = self.markup.spoken(piece) {
            mouth.say(words);
        }
    }
}

/// The pieces of a whole text, as a voice should read them.
pub(crate) fn spoken_pieces(text: &str) -> Vec<String> {
    let (mut sentences, mut markup) = (Sentences::default(), Markup::default());
    sentences.push(text);
    let mut pieces: Vec<_> = std::iter::from_fn(|| sentences.next_piece()).collect();
    pieces.extend(sentences.rest());
    pieces.iter().filter_map(|piece| markup.spoken(piece)).collect()
}
