//! One reply being spoken: pieces of text go in when the engine has room, audio comes out. Synthesis itself runs wherever the
//! plugin does it, off the async threads.

use std::{
    collections::VecDeque,
    panic::AssertUnwindSafe,
    task::{Context, Poll},
};

use bespoke_host::Leased;
use bespoke_plugin_api::{Audio, AudioChunk, Code, Duplex, Error, Result, Tts};

use crate::hearing::panicked;

/// A stream of an engine.
pub(crate) type TtsStream = Leased<dyn Tts, Box<dyn Duplex<str, AudioChunk>>>;

/// Speaks one reply. Dropping it falls silent.
pub(crate) struct Mouth {
    stream: Option<TtsStream>,
    plugin: String,
    waiting: VecDeque<String>,
    has_spoken: bool,
    finish: Finish,
    rate: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Finish {
    /// More text may come.
    Open,
    /// No more comes, but some waits for room.
    Wanted,
    /// The engine knows.
    Told,
}

impl Mouth {
    pub(crate) fn new(stream: TtsStream, plugin: &str) -> Self {
        Mouth {
            stream: Some(stream),
            plugin: plugin.to_owned(),
            waiting: VecDeque::new(),
            has_spoken: false,
            finish: Finish::Open,
            rate: None,
        }
    }

    /// A reply without a voice.
    pub(crate) fn silent() -> Self {
        Mouth { stream: None, plugin: String::new(), waiting: VecDeque::new(), has_spoken: false, finish: Finish::Told, rate: None }
    }

    /// Says a piece after those before it.
    pub(crate) fn say(&mut self, piece: String) {
        // Engines that cut text themselves wait at its end for what follows; an empty line says that the piece is complete.
        self.waiting.push_back(piece + "\n\n");
    }

    /// There is no more to say. With nothing said at all, the engine is let go without a word.
    pub(crate) fn finish(&mut self) {
        if self.waiting.is_empty() && !self.has_spoken {
            self.stream = None;
        }
        if self.finish == Finish::Open {
            self.finish = Finish::Wanted;
        }
    }

    /// Whether all was said, or never will be.
    pub(crate) fn is_done(&self) -> bool {
        self.stream.is_none()
    }

    /// The next audio; `None` when all was said. After an error it is silent.
    pub(crate) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Audio>>> {
        if self.stream.is_none() {
            return Poll::Ready(None);
        }
        let polled =
            std::panic::catch_unwind(AssertUnwindSafe(|| self.advance(cx))).unwrap_or_else(|panic| Poll::Ready(Err(panicked(&*panic))));
        match polled {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(Some(audio))) => Poll::Ready(Some(Ok(audio))),
            Poll::Ready(Ok(None)) => {
                self.stream = None;
                Poll::Ready(None)
            }
            Poll::Ready(Err(error)) => {
                self.stream = None;
                Poll::Ready(Some(Err(error.with_plugin(&self.plugin))))
            }
        }
    }

    fn advance(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Audio>>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(None)) };
        // The leased stream itself: what panics behind it comes back as an error.
        while let Some(piece) = self.waiting.front() {
            match stream.poll_ready(cx)? {
                Poll::Ready(()) => {}
                Poll::Pending => break,
            }
            stream.push(piece)?;
            self.has_spoken = true;
            self.waiting.pop_front();
        }
        if self.finish == Finish::Wanted && self.waiting.is_empty() {
            stream.finish()?;
            self.finish = Finish::Told;
        }
        loop {
            return match stream.poll_next(cx)? {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Some(chunk)) if chunk.audio.samples.is_empty() => continue,
                Poll::Ready(Some(AudioChunk { audio, .. })) => Poll::Ready(checked(audio, &mut self.rate).map(Some)),
                Poll::Ready(None) if self.finish == Finish::Told => Poll::Ready(Ok(None)),
                Poll::Ready(None) => {
                    Poll::Ready(Err(Error::new(Code::TTS_SYNTHESIS_FAILED, "the engine ended its stream before the text was over")))
                }
            };
        }
    }
}

/// One reply is one sound: its rate is the engine's own, and stays.
fn checked(audio: Audio, rate: &mut Option<u32>) -> Result<Audio> {
    let first = *rate.get_or_insert(audio.rate);
    if audio.rate == 0 || audio.rate != first {
        let message = format!("the engine gave audio of {} Hz after audio of {first} Hz", audio.rate);
        return Err(Error::new(Code::TTS_SYNTHESIS_FAILED, message));
    }
    Ok(audio)
}
