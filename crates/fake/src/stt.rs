//! An ear that knows some recordings by their checksum and takes the rest from a list.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Waker},
};

use bespoke_plugin_api::{CallCx, Code, Duplex, Error, Result, Segment, Stt, SttEvent, SttOptions, SttRequest, Transcript, async_trait};

use crate::{Fake, checksum};

pub(crate) struct Ear(pub(crate) Arc<Fake>);

#[async_trait]
impl Stt for Ear {
    async fn transcribe(&self, cx: &CallCx, request: SttRequest) -> Result<Transcript> {
        cx.check()?;
        speaks(request.language.as_deref())?;
        hear(&self.0, &request.audio.samples, request.audio.rate)
    }

    fn open(&self, options: &SttOptions) -> Result<Box<dyn Duplex<[f32], SttEvent>>> {
        speaks(options.language.as_deref())?;
        if options.sample_rate == 0 {
            return Err(no_rate());
        }
        Ok(Box::new(Listening {
            fake: self.0.clone(),
            rate: options.sample_rate,
            samples: Vec::new(),
            events: VecDeque::new(),
            finished: false,
            waker: None,
        }))
    }
}

fn speaks(language: Option<&str>) -> Result<()> {
    match language {
        None | Some("en") => Ok(()),
        Some(other) => Err(Error::new(Code::STT_LANGUAGE_NOT_SUPPORTED, format!("`{other}` is not spoken here, only en"))),
    }
}

fn no_rate() -> Error {
    Error::new(Code::STT_AUDIO_INVALID, "a rate of 0 Hz")
}

fn hear(fake: &Fake, samples: &[f32], rate: u32) -> Result<Transcript> {
    if rate == 0 {
        return Err(no_rate());
    }
    if samples.iter().any(|s| !s.is_finite()) {
        return Err(Error::new(Code::STT_AUDIO_INVALID, "a sample is not finite"));
    }
    if samples.iter().all(|s| *s == 0.0) {
        return Ok(Transcript::new("").language("en".into()));
    }
    let sum = format!("{:016x}", checksum(samples.iter().flat_map(|s| s.to_le_bytes())));
    let script = fake.script();
    let text = script.heard.get(&sum).cloned().or_else(|| {
        let turn = fake.heard.fetch_add(1, Ordering::Relaxed);
        script.transcripts.get(turn).or(script.transcripts.last()).cloned()
    });
    let text = text.unwrap_or_else(|| format!("recording {sum}"));
    let end_ms = samples.len() as u64 * 1000 / u64::from(rate);
    Ok(Transcript::new(text.clone()).language("en".into()).segments(vec![Segment::new(0, end_ms, text)]))
}

/// A stream: an interim result each second, the final one at the end.
struct Listening {
    fake: Arc<Fake>,
    rate: u32,
    samples: Vec<f32>,
    events: VecDeque<Result<SttEvent>>,
    finished: bool,
    waker: Option<Waker>,
}

impl Duplex<[f32], SttEvent> for Listening {
    fn push(&mut self, samples: &[f32]) -> Result<()> {
        if self.finished {
            return Err(Error::invalid_params("push after finish"));
        }
        let seconds = self.samples.len() / self.rate as usize;
        self.samples.extend_from_slice(samples);
        if self.samples.len() / self.rate as usize > seconds {
            let at = self.samples.len() as u64;
            self.events.push_back(Ok(SttEvent::interim(at, format!("{at} samples"))));
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        if !std::mem::replace(&mut self.finished, true) {
            let heard = hear(&self.fake, &self.samples, self.rate);
            self.events.push_back(heard.map(|transcript| SttEvent::finished(self.samples.len() as u64, transcript)));
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
        Ok(())
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<SttEvent>>> {
        match self.events.pop_front() {
            Some(event) => Poll::Ready(Some(event)),
            None if self.finished => Poll::Ready(None),
            None => {
                self.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
