//! Text to speech: sentences go to the server as they are written, samples come back as they are made.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bespoke_plugin_api::{
    Audio, AudioChunk, BoxFuture, CallCx, CancelToken, Code, Duplex, Error, Result, TtsOptions,
    bytes::{Buf, BytesMut},
    serde_json::json,
};

use crate::{
    body::{Body, MAX_ANSWER},
    client::{Ask, Client},
    failure::Op,
    sentences::Sentences,
};

/// The rate of what the protocol calls `pcm`: 24 kHz, 16 bits, little-endian, mono.
pub(crate) const RATE: u32 = 24_000;

/// Bytes of one chunk: 100 ms.
const CHUNK: usize = RATE as usize / 10 * 2;

/// A stream takes this many characters in all: about 20 minutes of speech.
const MAX_TEXT: usize = 20_000;

/// Beginnings of sound files that are no bare samples, and what they are.
const CONTAINERS: &[(&[u8], &str)] =
    &[(b"RIFF", "WAV"), (b"ID3", "MP3"), (b"\xff\xfb", "MP3"), (b"\xff\xf3", "MP3"), (b"OggS", "Ogg"), (b"fLaC", "FLAC")];

/// A reply being spoken. Dropping it ends the request that is under way.
pub(crate) struct Speech {
    client: Arc<Client>,
    call: CallCx,
    voice: String,
    speed: Option<f32>,
    text: Sentences,
    /// Characters taken so far.
    taken: usize,
    finished: bool,
    over: bool,
    work: Work,
    /// Who waits for text.
    waker: Option<Waker>,
}

enum Work {
    Idle,
    Asking(BoxFuture<'static, Result<Body>>),
    Speaking(Box<Speaking>),
}

/// The samples of one request.
struct Speaking {
    body: Body,
    /// Bytes that are no whole chunk yet.
    kept: BytesMut,
    /// Something has come and was looked at.
    begun: bool,
    ended: bool,
}

impl Speech {
    pub(crate) fn open(client: Arc<Client>, options: &TtsOptions) -> Result<Self> {
        if let Some(speed) = options.speed.filter(|speed| !(0.5..=2.0).contains(speed)) {
            return Err(Error::invalid_params(format!("speed is {speed}; it has to be between 0.5 and 2")));
        }
        Ok(Speech {
            call: CallCx::new().with_cancel(CancelToken::new()),
            voice: options.voice.clone().unwrap_or_else(|| client.settings.config.voice.clone()),
            client,
            speed: options.speed,
            text: Sentences::default(),
            taken: 0,
            finished: false,
            over: false,
            work: Work::Idle,
            waker: None,
        })
    }

    fn ask(&self, text: &str) -> BoxFuture<'static, Result<Body>> {
        let model = &self.client.settings.config.tts_model;
        let mut body = json!({ "model": model, "input": text, "voice": self.voice, "response_format": "pcm" });
        if let Some(speed) = self.speed {
            body["speed"] = json!(speed);
        }
        let ask = Ask::json(Op::Speak, &body, self.client.settings.first_token());
        let (client, call) = (self.client.clone(), self.call.clone());
        Box::pin(async move {
            let reply = client.send(&call, &ask).await?;
            Ok(Body::new(&client.cx, &call, reply.body, MAX_ANSWER, client.settings.first_token()))
        })
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<AudioChunk>>> {
        loop {
            match &mut self.work {
                Work::Idle => match self.text.take(self.finished) {
                    Some(text) => self.work = Work::Asking(self.ask(&text)),
                    None if self.finished => return Poll::Ready(None),
                    None => {
                        self.waker = Some(cx.waker().clone());
                        return Poll::Pending;
                    }
                },
                Work::Asking(asking) => match Pin::new(asking).poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(e)) => return Poll::Ready(Some(Err(e))),
                    Poll::Ready(Ok(body)) => {
                        self.work = Work::Speaking(Box::new(Speaking { body, kept: BytesMut::new(), begun: false, ended: false }));
                    }
                },
                Work::Speaking(speaking) => match speaking.poll_chunk(cx, &self.client) {
                    Poll::Ready(None) => self.work = Work::Idle,
                    other => return other,
                },
            }
        }
    }
}

impl Speaking {
    fn poll_chunk(&mut self, cx: &mut Context<'_>, client: &Client) -> Poll<Option<Result<AudioChunk>>> {
        let failed = Op::Speak.failed();
        loop {
            // Chunks of one length, however the network cut the bytes. Half a sample at the very end is none.
            if self.kept.len() >= CHUNK || self.ended && self.kept.len() >= 2 {
                let length = self.kept.len().min(CHUNK) & !1;
                let samples: Vec<f32> =
                    self.kept[..length].chunks_exact(2).map(|pair| f32::from(i16::from_le_bytes([pair[0], pair[1]])) / 32_768.0).collect();
                self.kept.advance(length);
                return Poll::Ready(Some(Ok(AudioChunk::new(Audio::new(samples, RATE)))));
            }
            if self.ended && self.begun {
                return Poll::Ready(None);
            }
            let piece = match self.body.poll_piece(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(stopped)) => return Poll::Ready(Some(Err(stopped.into_error(failed)))),
                Poll::Ready(Ok(piece)) => piece,
            };
            match piece {
                Some(piece) => {
                    self.body.heard(client.settings.silence());
                    self.kept.extend_from_slice(&piece);
                }
                None if self.kept.is_empty() && !self.begun => {
                    let message = format!("{} answered without any sound", client.url(Op::Speak));
                    return Poll::Ready(Some(Err(Error::new(failed, message))));
                }
                None => self.ended = true,
            }
            // Four bytes tell bare samples from a file.
            if !self.begun && (self.kept.len() >= 4 || self.ended) {
                self.begun = true;
                if let Some(what) = self.no_samples() {
                    let message = format!("{} answered with {what} instead of bare samples", client.url(Op::Speak));
                    let error =
                        Error::new(failed, message).with_help("the server has to know response_format = \"pcm\": 24 kHz, 16 bits, mono");
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }

    fn no_samples(&self) -> Option<String> {
        let container =
            CONTAINERS.iter().find(|(magic, _)| self.kept.starts_with(magic)).map(|(_, name)| format!("a file of the kind {name}"));
        container.or_else(|| self.kept.starts_with(b"{\"").then(|| "JSON".to_owned()))
    }
}

impl Duplex<str, AudioChunk> for Speech {
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
        self.text.push(text);
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
        let polled = self.poll_chunk(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.over = true;
            self.work = Work::Idle;
        }
        polled
    }
}
