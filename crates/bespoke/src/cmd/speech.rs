//! `say`, `transcribe`, `speak`: single stages of the voice turn, and all of them on a recording.

use std::path::Path;

use bespoke_agent::Session;
use bespoke_audio::{read_wav, write_wav};
use bespoke_plugin_api::{Audio, CallCx, Kind};
use bespoke_voice::{Span, Voice, VoiceEvent, VoiceTurn};
use serde_json::json;

use crate::{
    cli::{Say, Speak, Transcribe},
    exit::{Exit, Failure, Result},
    models::Consent,
    output::Out,
    setup::{Need, Setup},
};

use super::{interruptible, with_pipe};

pub(crate) async fn say(setup: &Setup, args: Say) -> Result<()> {
    args.out.as_deref().map_or(Ok(()), can_be_written)?;
    let same = |out: &Path| out.canonicalize().is_ok_and(|out| args.input.canonicalize().is_ok_and(|input| input == out));
    if args.out.as_deref().is_some_and(same) {
        return Err(Failure::new(
            Exit::Usage,
            format!("{}: the answer would replace the recording; name another file", args.input.display()),
        ));
    }
    let audio = read(setup.out, &args.input)?;
    setup.start(&setup.voice_needs(), &Consent::from(&args.fetching)).await?;
    let out = setup.out;
    let mut session = Session::new("say");
    let mut wrote = Ok(());
    let (voice, cx) = (setup.voice()?, interruptible(&setup.host));
    let turn = voice.turn(&cx, &mut session, audio, |event| match event {
        VoiceEvent::Transcript { text } if !out.json => out.note(format!("> {text}")),
        VoiceEvent::ReplyText { text } if !out.json && wrote.is_ok() => wrote = out.text(&text),
        other => tell(out, &other),
    });
    let turn = turn.await;
    voice.agent().end(&CallCx::new(), session).await;
    wrote?;
    let turn = turn?;
    if !out.json && turn.reply.is_some() {
        out.line("")?;
    }
    if let (Some(path), Some(reply)) = (&args.out, &turn.audio) {
        write_wav(path, &reply.samples, reply.rate)?;
        out.note(format!("spoken in {} ({:.1} s)", path.display(), reply.duration().as_secs_f64()));
    }
    if out.json {
        out.json(&turn_json(&turn), true)?;
    }
    if turn.reply.is_none() {
        return Err(Failure::new(Exit::NotFound, format!("{}: nobody says anything", args.input.display())));
    }
    match turn.tts_error {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

/// What a person should know of an event that is not shown otherwise.
pub(crate) fn tell(out: Out, event: &VoiceEvent) {
    match event {
        VoiceEvent::Engine(chosen) => {
            if let Some(reason) = &chosen.degraded {
                out.note(format!("{} stands in: {reason}", chosen.name));
            }
        }
        VoiceEvent::Error { stage, error } => out.note(format!("{stage}: {error}")),
        _ => {}
    }
}

pub(crate) fn turn_json(turn: &VoiceTurn) -> serde_json::Value {
    json!({
        "transcript": turn.heard.transcript,
        "speech": spans(&turn.heard.speech),
        "reply": turn.reply.as_ref().map(|reply| &reply.text),
        "provider": turn.reply.as_ref().map(|reply| &reply.provider),
        "engines": turn.engines,
        "reply_seconds": turn.audio.as_ref().map(|audio| audio.duration().as_secs_f64()),
        "timeline": turn.timeline,
    })
}

/// Seconds from the start of the sound.
fn spans(speech: &[Span]) -> Vec<[f64; 2]> {
    speech.iter().map(|s| [s.from.as_secs_f64(), s.to.as_secs_f64()]).collect()
}

pub(crate) async fn transcribe(setup: &Setup, args: Transcribe) -> Result<()> {
    let needs = [Need::of(Kind::Vad, &setup.voice.vad), Need::of(Kind::Stt, &setup.voice.stt)];
    setup.start(&needs, &Consent::from(&args.fetching)).await?;
    let (out, voice, cx) = (setup.out, setup.voice()?, interruptible(&setup.host));
    let mut failed = 0;
    for path in &args.files {
        let heard = match read(out, path) {
            Ok(audio) => voice.transcribe(&cx, audio, |event| tell(out, &event)).await.map_err(Failure::from),
            Err(failure) => Err(failure),
        };
        match heard {
            Err(failure) if failure.exit == Exit::Interrupted => return Err(failure),
            Err(failure) => {
                out.note(failure.to_string());
                failed += 1;
            }
            Ok(heard) if out.json => out.json(&json!({ "file": path, "text": heard.transcript, "speech": spans(&heard.speech) }), false)?,
            Ok(heard) => {
                let text = heard.transcript.unwrap_or_default();
                if text.is_empty() {
                    out.note(format!("{}: nobody says anything", path.display()));
                } else if args.files.len() == 1 {
                    out.line(text)?;
                } else {
                    out.line(format!("{}: {text}", path.display()))?;
                }
            }
        }
    }
    match failed {
        0 => Ok(()),
        n => Err(Failure::failed(format!("{n} of {} files could not be transcribed", args.files.len()))),
    }
}

pub(crate) async fn speak(setup: &Setup, args: Speak) -> Result<()> {
    can_be_written(&args.out)?;
    let text = with_pipe(args.text)?;
    let mut config = setup.voice.clone();
    config.voice = args.voice.or(config.voice);
    config.speed = args.speed.or(config.speed);
    setup.start(&[Need::of(Kind::Tts, &config.tts)], &Consent::from(&args.fetching)).await?;
    let spoken = Voice::new(setup.agent()?, config)?.speak(&interruptible(&setup.host), &text, |_| {}).await;
    let audio = spoken?.audio.ok_or_else(|| Failure::failed("there is nothing to speak in this text"))?;
    write_wav(&args.out, &audio.samples, audio.rate)?;
    let seconds = audio.duration().as_secs_f64();
    if setup.out.json {
        return setup.out.json(&json!({ "file": args.out, "seconds": seconds, "sample_rate": audio.rate }), true);
    }
    setup.out.note(format!("{} ({seconds:.1} s)", args.out.display()));
    Ok(())
}

/// Refuses a place for a file that cannot work before any work is done.
pub(crate) fn can_be_written(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if path.is_dir() {
        return Err(Failure::new(Exit::Usage, format!("{}: is a folder; name a file in it", path.display())));
    }
    if !folder.is_dir() {
        return Err(Failure::new(Exit::NotFound, format!("{}: there is no folder {}", path.display(), folder.display())));
    }
    // What is no plain file, such as a pipe, is written as it stands.
    if !path.exists() || path.is_file() {
        tempfile::tempfile_in(folder)
            .map_err(|e| Failure::failed(format!("{}: {} cannot be written: {e}", path.display(), folder.display())))?;
    }
    Ok(())
}

/// Reads a recording; one that is shorter than it says is read as far as it goes, and that is told.
pub(crate) fn read(out: Out, path: &Path) -> Result<Audio> {
    let wav = read_wav(path)?;
    if let Some(cut) = wav.truncated {
        out.note(format!("{}: cut off after {} of {} samples", path.display(), cut.found, cut.promised));
    }
    Ok(Audio::new(wav.samples, wav.rate))
}
