//! A reply being spoken: text goes in as it is written, speech comes out clause by clause. Synthesis runs on a working
//! thread of the host, one clause at a time, and only as far as somebody reads.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bespoke_plugin_api::{Audio, AudioChunk, Code, Duplex, Error, Feed, FeedSender, PluginContext, Result, feed};

use crate::clauses::Cutter;
use crate::speaker::{SAMPLE_RATE, Said, Speaker};

/// A stream takes this many characters in all: about 20 minutes of speech.
pub const MAX_TEXT: usize = 20_000;

/// 100 ms: small enough to begin at once and to stop soon, large enough to be worth a message.
const CHUNK: usize = SAMPLE_RATE as usize / 10;

pub(crate) struct SpeechStream {
    cx: PluginContext,
    speaker: Arc<Speaker>,
    cutter: Cutter,
    /// Characters taken so far.
    taken: usize,
    finished: bool,
    over: bool,
    clause: Option<Clause>,
    audible: bool,
    left_out: bool,
    /// Who waits for text.
    waker: Option<Waker>,
}

/// The clause that is being said.
struct Clause {
    /// Holds all of a clause, at most 20 s, so that no thread of the host waits for a slow listener.
    audio: Feed<AudioChunk>,
    work: Pin<Box<dyn Future<Output = Result<Said>> + Send>>,
}

impl SpeechStream {
    pub(crate) fn new(cx: PluginContext, speaker: Speaker) -> Self {
        Self {
            cx,
            speaker: Arc::new(speaker),
            cutter: Cutter::default(),
            taken: 0,
            finished: false,
            over: false,
            clause: None,
            audible: false,
            left_out: false,
            waker: None,
        }
    }

    fn start(&self, text: String) -> Clause {
        let (sender, audio) = feed(usize::MAX);
        let speaker = self.speaker.clone();
        let work = self.cx.blocking(move || synthesise(&speaker, &text, &sender));
        Clause { audio, work: Box::pin(work) }
    }

    /// The next clause that can be said now.
    fn next_clause(&mut self) -> Option<Clause> {
        let text = match self.cutter.next_clause() {
            None if self.finished => self.cutter.rest(),
            clause => clause,
        }?;
        Some(self.start(text))
    }

    /// What there is to say at the end: silence is fine for a smile, not for words in a script that cannot be read.
    fn verdict(&self) -> Option<Error> {
        (self.left_out && !self.audible).then(|| {
            Error::new(Code::TTS_SYNTHESIS_FAILED, "none of the text can be spoken: this voice reads English, in Latin letters")
                .with_help("put a voice for that language into `voice.tts`")
        })
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// Dropping the stream closes the feed, and so ends this within a pitch period.
fn synthesise(speaker: &Speaker, text: &str, audio: &FeedSender<AudioChunk>) -> Said {
    let mut chunk: Vec<f32> = Vec::with_capacity(CHUNK + SAMPLE_RATE as usize / 40);
    let mut open = true;
    let mut send = |chunk: &mut Vec<f32>| {
        let samples = chunk.as_slice();
        open = audio.send(Ok(AudioChunk::new(Audio::new(samples, SAMPLE_RATE)))).is_ok();
        chunk.clear();
        open
    };
    let said = speaker.say(text, |period| {
        chunk.extend(period.iter().map(|&sample| f32::from(sample) / 32_768.0));
        chunk.len() < CHUNK || send(&mut chunk)
    });
    if !chunk.is_empty() {
        send(&mut chunk);
    }
    said
}

impl Duplex<str, AudioChunk> for SpeechStream {
    fn push(&mut self, text: &str) -> Result<()> {
        if self.finished {
            return Err(Error::invalid_params("text after the end of the stream; open a new one"));
        }
        let taken = self.taken + text.chars().count();
        if taken > MAX_TEXT {
            let message = format!("the text has {taken} characters or more; one stream takes {MAX_TEXT}");
            return Err(Error::new(Code::TTS_TEXT_TOO_LONG, message).with_help("speak it in parts, one stream each"));
        }
        self.taken = taken;
        self.cutter.push(text);
        self.wake();
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.finished = true;
        self.wake();
        Ok(())
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<AudioChunk>>> {
        if self.over {
            return Poll::Ready(None);
        }
        loop {
            let Some(clause) = &mut self.clause else {
                self.clause = self.next_clause();
                if self.clause.is_some() {
                    continue;
                }
                if !self.finished {
                    self.waker = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                self.over = true;
                return Poll::Ready(self.verdict().map(Err));
            };
            match clause.audio.poll_item(cx) {
                Poll::Ready(Some(chunk)) => return Poll::Ready(Some(chunk)),
                Poll::Ready(None) => {}
                Poll::Pending => return Poll::Pending,
            }
            // The feed ends before the work is reported done, or because the work panicked.
            match clause.work.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(said) => {
                    self.clause = None;
                    match said {
                        Ok(said) => {
                            self.audible |= said.audible;
                            self.left_out |= said.left_out;
                        }
                        Err(error) => {
                            self.over = true;
                            return Poll::Ready(Some(Err(error)));
                        }
                    }
                }
            }
        }
    }
}
