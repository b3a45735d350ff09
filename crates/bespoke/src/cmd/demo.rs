//! `demo`: two spoken turns through the whole chain, on recordings that are inside the binary.

use std::{path::Path, time::Duration};

use bespoke_agent::{Session, TurnEvent};
use bespoke_audio::{decode_wav, write_wav};
use bespoke_plugin_api::{Audio, Kind};
use bespoke_voice::{Timeline, VoiceEvent, VoiceTurn};
use serde_json::json;

use crate::{
    assets::{RECORDINGS, Recording},
    cli::Demo,
    exit::{Failure, Result},
    models::Consent,
    output::{Out, Style},
    setup::{Setup, build_with},
};

use super::{interruptible, speech, vad};

pub(crate) async fn run(setup: &Setup, args: Demo) -> Result<()> {
    if RECORDINGS.is_empty() {
        return Err(Failure::failed("this binary holds no recordings for a demo").help(build_with(&["local"])));
    }
    speech::can_be_written(&args.out)?;
    refuse_stand_ins(setup)?;
    setup.start(&setup.voice_needs(), &Consent::from(&args.fetching)).await?;
    let (out, voice, cx) = (setup.out, setup.voice()?, interruptible(&setup.host));
    let mut turns = Vec::new();
    for (n, recording) in RECORDINGS.iter().enumerate() {
        let wav = decode_wav(recording.wav, Path::new(recording.name))?;
        let audio = Audio::new(wav.samples, wav.rate);
        if !out.json {
            let head = format!("turn {}  {}", n + 1, recording.about);
            out.line(format!("{}  {:.1} s at {} Hz", out.paint(Style::Bold, &head), audio.duration().as_secs_f64(), audio.rate))?;
        }
        // Each recording is a conversation of its own: the second question must not lean on the first.
        let mut session = Session::new(format!("demo-{}", n + 1));
        let turn = voice.turn(&cx, &mut session, audio.clone(), |event| match event {
            VoiceEvent::Agent(TurnEvent::ToolStarted(call)) => out.note(format!("  [{} {}]", call.name, call.args)),
            other => speech::tell(out, &other),
        });
        let turn = turn.await;
        voice.agent().end(&cx, session).await;
        let turn = turn?;
        if !out.json {
            show(out, &audio, &turn)?;
        }
        turns.push((recording, turn));
    }

    let Some((_, last)) = turns.last() else { return Ok(()) };
    let reply = last.audio.as_ref().ok_or_else(|| Failure::failed("the answer could not be spoken; the messages above say why"))?;
    write_wav(&args.out, &reply.samples, reply.rate)?;
    if out.json {
        return out.json(&summary(&turns, &args.out), true);
    }
    out.line(format!("the last answer, spoken: {} ({:.1} s)", args.out.display(), reply.duration().as_secs_f64()))
}

/// A demo with scripted answers would show nothing.
fn refuse_stand_ins(setup: &Setup) -> Result<()> {
    let providers = setup.agent()?.providers();
    let chosen =
        [(Kind::Vad, &setup.voice.vad), (Kind::Stt, &setup.voice.stt), (Kind::Tts, &setup.voice.tts), (Kind::Provider, &providers)];
    for (kind, names) in chosen {
        for name in names {
            if setup.host.provider_of(kind, name).is_some_and(|id| setup.host.is_stand_in(&id)) {
                return Err(Failure::failed(format!(
                    "the configuration names the {kind} `{name}`, a stand-in for tests; a demo needs a real one"
                ))
                .help("bespoke demo without that configuration, or with --config FILE"));
            }
        }
    }
    Ok(())
}

fn show(out: Out, audio: &Audio, turn: &VoiceTurn) -> Result<()> {
    const WIDTH: usize = 60;
    let line = |name: &str, text: &str| out.line(format!("  {} {text}", out.paint(Style::Dim, &format!("{name:<8}"))));
    let probabilities: Vec<f32> = turn.heard.windows.iter().map(|w| w.probability).collect();
    let mut engines: Vec<&str> = turn.engines.iter().map(|e| e.name.as_str()).collect();
    if let Some(reply) = &turn.reply {
        // Between those who hear and the one who speaks.
        engines.insert(engines.len().min(2), &reply.provider);
    }
    line("engines", &engines.join(" → "))?;
    line("speech", &format!("▕{}▏", vad::picture(&probabilities, WIDTH)))?;
    let spans: Vec<String> = turn.heard.speech.iter().map(|s| format!("{:.2}–{:.2} s", s.from.as_secs_f64(), s.to.as_secs_f64())).collect();
    line("", &format!("{} of {:.2} s", spans.join(", "), audio.duration().as_secs_f64()))?;
    line("heard", turn.heard.transcript.as_deref().unwrap_or("(nothing was said)"))?;
    line("answer", turn.reply.as_ref().map_or("(none)", |reply| &reply.text))?;
    line("latency", &latency(&turn.timeline))?;
    out.line("")
}

/// `vad 12 ms · transcript +240 ms · …`: the step that each stage took.
fn latency(timeline: &Timeline) -> String {
    let mut marks: Vec<(&str, Duration)> = timeline.marks().into_iter().filter_map(|(name, at)| Some((name, at?))).collect();
    marks.sort_by_key(|(_, at)| *at);
    let mut before = Duration::ZERO;
    let steps: Vec<String> = marks
        .iter()
        .map(|(name, at)| {
            let step = *at - before;
            before = *at;
            format!("{} +{:.0} ms", name.replace('_', " "), step.as_secs_f64() * 1e3)
        })
        .collect();
    format!("{}  = {:.0} ms", steps.join(" · "), before.as_secs_f64() * 1e3)
}

fn summary(turns: &[(&Recording, VoiceTurn)], file: &Path) -> serde_json::Value {
    let turns: Vec<_> = turns
        .iter()
        .map(|(recording, turn)| {
            let mut value = speech::turn_json(turn);
            value["recording"] = json!(recording.name);
            value
        })
        .collect();
    json!({ "turns": turns, "reply_file": file })
}
