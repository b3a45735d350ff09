//! What voices, detectors of speech and transcribers owe.

use bespoke_plugin_api::{
    Audio, AudioChunk, CallCx, Code, Contribution, Stt, SttRequest, SttSpec, Tts, TtsOptions, TtsSpec, Vad, VadEvent, VadOptions,
};

use super::{
    Examination, Fault, is_fault,
    report::{Kept, Part, Tried, read},
    samples,
};
use crate::{
    conformance::{
        beeps,
        record::{caught, line, passed},
    },
    rules::stream_ends,
};

/// Samples of one push: 20 ms.
const FRAME: usize = 320;

/// Samples of silence that a detector hears: two seconds.
const SILENCE: usize = 32_000;

pub(super) fn check(exam: &Examination, found: &Contribution, part: &mut Part<'_, '_>) {
    match found {
        Contribution::Tts(spec, tts) => of_tts(exam, spec, &**tts, part),
        Contribution::Vad(_, vad) => of_vad(exam, &**vad, part),
        Contribution::Stt(spec, stt) => of_stt(exam, spec, &**stt, part),
        _ => {}
    }
    part.check("ends its streams, and forgets those that are dropped", || {
        let audio = beeps();
        stream_ends(found, audio.rate, &audio.samples[..FRAME])
            .map_err(|got| Fault::new("a stream that ends when it is finished, and stays ended", got, read::STREAMS))
            .map(|()| Kept::Yes)
    });
}

fn of_tts(exam: &Examination, spec: &TtsSpec, tts: &dyn Tts, part: &mut Part<'_, '_>) {
    part.check("names its voices", || match exam.within("voices", tts.voices(&CallCx::new()))? {
        Ok(voices) if voices.is_empty() => Err(Fault::new("at least one voice, the default one first", "none", read::KINDS)),
        Ok(_) => Ok(Kept::Yes),
        Err(e) => Err(Fault::new("its voices, the default one first", line(&e), read::CALLS)),
    });
    part.check("speaks, in fragments, at its rate", || {
        let (chunks, error) = spoken(exam, tts, &TtsOptions::default(), &["Hello there. This is ", "a test."])?;
        if let Some(e) = error {
            return said_why(&e);
        }
        let samples: usize = chunks.iter().map(|chunk| chunk.audio.samples.len()).sum();
        if samples == 0 {
            return Err(Fault::new("audio", "none", read::KINDS));
        }
        if let Some(other) = chunks.iter().map(|chunk| chunk.audio.rate).find(|rate| *rate != spec.sample_rate) {
            return Err(Fault::new(format!("{} Hz, as its spec says", spec.sample_rate), format!("{other} Hz"), read::KINDS));
        }
        if chunks.iter().flat_map(|chunk| chunk.audio.samples.iter()).any(|sample| !sample.is_finite() || sample.abs() > 1.0) {
            return Err(Fault::new("samples from -1 to 1", "one that is not", read::KINDS));
        }
        Ok(Kept::Yes)
    });
    part.check("says nothing where there is nothing to say", || {
        for texts in [&[][..], &[" \n"][..]] {
            let (chunks, error) = spoken(exam, tts, &TtsOptions::default(), texts)?;
            if let Some(e) = error.filter(is_fault) {
                return Err(Fault::new("silence", line(&e), read::CALLS));
            }
            drop(chunks);
        }
        Ok(Kept::Yes)
    });
    part.check("refuses a voice that there is not", || {
        let (_, error) = spoken(exam, tts, &TtsOptions::default().voice("no such voice".into()), &["Hello."])?;
        match error {
            Some(e) if e.code() == Code::TTS_VOICE_NOT_FOUND => Ok(Kept::Yes),
            other => {
                let got = other.map_or_else(|| "it speaks".to_owned(), |e| line(&e));
                Err(Fault::new("TTS_VOICE_NOT_FOUND for the voice `no such voice`", got, read::KINDS))
            }
        }
    });
}

fn spoken(
    exam: &Examination,
    tts: &dyn Tts,
    options: &TtsOptions,
    texts: &[&str],
) -> Result<(Vec<AudioChunk>, Option<bespoke_plugin_api::Error>), Fault> {
    let speaking = async {
        let opened = caught(async { tts.open(options) }).await;
        Ok(passed(opened, texts.iter().copied()).await)
    };
    exam.within("speech", speaking)?.map_err(|e| Fault::new("speech", line(&e), read::CALLS))
}

fn of_vad(exam: &Examination, vad: &dyn Vad, part: &mut Part<'_, '_>) {
    part.check("hears no speech in silence", || {
        let (events, error) = heard(exam, vad, &samples::silence(SILENCE), FRAME)?;
        if let Some(e) = error {
            return said_why(&e);
        }
        match events.iter().find(|event| matches!(event, VadEvent::SpeechStart { .. })) {
            Some(start) => Err(Fault::new("no start of speech", format!("{start:?}"), read::KINDS)),
            None => Ok(Kept::Yes),
        }
    });
    part.check("tells in order, starts and ends in turn", || {
        let audio = beeps();
        let (events, error) = heard(exam, vad, &audio, FRAME)?;
        if let Some(e) = error {
            return said_why(&e);
        }
        in_order(&events, audio.samples.len() as u64)
    });
    part.check("hears the same in pieces of any length", || {
        let audio = beeps();
        let of = |length| heard(exam, vad, &audio, length).map(|(events, _)| events.into_iter().filter(is_speech).collect::<Vec<_>>());
        let (long, short) = (of(512)?, of(160)?);
        if long == short { Ok(Kept::Yes) } else { Err(Fault::new(format!("{long:?}"), format!("{short:?}"), read::KINDS)) }
    });
    part.check("refuses a rate that there is not", || match vad.open(&VadOptions::new(0)) {
        Err(e) if !is_fault(&e) => Ok(Kept::Yes),
        Err(e) => Err(Fault::new("STT_AUDIO_INVALID for 0 Hz", line(&e), read::KINDS)),
        // Behind a wire the answer comes later.
        Ok(stream) => {
            let (_, error) = exam.within("the stream", async { Ok(passed(Ok(stream), [&[0.0_f32; 160][..]]).await) })?.unwrap_or_default();
            match error {
                Some(e) if !is_fault(&e) => Ok(Kept::Yes),
                other => Err(Fault::new("STT_AUDIO_INVALID for 0 Hz", format!("{other:?}"), read::KINDS)),
            }
        }
    });
}

fn heard(
    exam: &Examination,
    vad: &dyn Vad,
    audio: &Audio,
    frame: usize,
) -> Result<(Vec<VadEvent>, Option<bespoke_plugin_api::Error>), Fault> {
    let hearing = async {
        let opened = caught(async { vad.open(&VadOptions::new(audio.rate)) }).await;
        Ok(passed(opened, audio.samples.chunks(frame)).await)
    };
    exam.within("the stream", hearing)?.map_err(|e| Fault::new("events", line(&e), read::CALLS))
}

fn is_speech(event: &VadEvent) -> bool {
    matches!(event, VadEvent::SpeechStart { .. } | VadEvent::SpeechEnd { .. })
}

fn in_order(events: &[VadEvent], samples: u64) -> Tried {
    let wrong = |expected: &str, event: &VadEvent| Err(Fault::new(expected, format!("{event:?}"), read::KINDS));
    let (mut before, mut speaks) = (0, false);
    for event in events {
        let at = match event {
            VadEvent::Window { at, probability, .. } => {
                if !(0.0..=1.0).contains(probability) {
                    return wrong("a probability from 0 to 1", event);
                }
                *at
            }
            VadEvent::SpeechStart { at, from, .. } if !speaks && from <= at => {
                speaks = true;
                *at
            }
            VadEvent::SpeechEnd { at, to, .. } if speaks && to <= at => {
                speaks = false;
                *at
            }
            VadEvent::SpeechStart { .. } | VadEvent::SpeechEnd { .. } => {
                return wrong("starts and ends in turn, each decided after what it is about", event);
            }
            _ => continue,
        };
        if at < before || at > samples {
            return wrong(&format!("events in order, within {samples} samples"), event);
        }
        before = at;
    }
    Ok(Kept::Yes)
}

fn of_stt(exam: &Examination, spec: &SttSpec, stt: &dyn Stt, part: &mut Part<'_, '_>) {
    let cx = CallCx::new();
    let transcribe = |request| exam.within("the transcript", stt.transcribe(&cx, request));
    part.check("transcribes what it is given", || match transcribe(SttRequest::new(beeps()))? {
        Ok(_) => Ok(Kept::Yes),
        Err(e) => said_why(&e),
    });
    part.check("outlives no audio, and what is no number", || {
        for audio in [Audio::new([], 16_000), Audio::new([f32::NAN; 600], 16_000), Audio::new([0.0; 100], 0)] {
            if let Err(e) = transcribe(SttRequest::new(audio))?
                && is_fault(&e)
            {
                return Err(Fault::new("a transcript, or STT_AUDIO_INVALID", line(&e), read::KINDS));
            }
        }
        Ok(Kept::Yes)
    });
    if !spec.languages.is_empty() {
        part.check("refuses a language that it does not name", || match transcribe(SttRequest::new(beeps()).language("tlh".into()))? {
            Err(e) if e.code() == Code::STT_LANGUAGE_NOT_SUPPORTED => Ok(Kept::Yes),
            other => {
                let got = other.map_or_else(|e| line(&e), |_| "a transcript".to_owned());
                Err(Fault::new("STT_LANGUAGE_NOT_SUPPORTED for `tlh`", got, read::KINDS))
            }
        });
    }
}

/// An error that a plugin gives where it was to work: not its fault if it says why.
fn said_why(e: &bespoke_plugin_api::Error) -> Tried {
    if is_fault(e) {
        return Err(Fault::new("an answer, or an error that says why", line(e), read::CALLS).help(e.help()));
    }
    Ok(Kept::Untried(line(e)))
}
