//! Turns on recordings.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bespoke_agent::Session;
use bespoke_plugin_api::{Audio, CallCx, Code, Contribution, Error, Role, VadSpec};
use bespoke_voice::{Stage, VoiceEvent};

use crate::cast::{
    Fault, Gate, Loudness, Script,
    Step::{Fail, Say, Wait},
    TTS_RATE, candidate, sound, within,
};

/// Half a second of silence, a second of speech, half a second of silence.
fn question(rate: u32) -> Audio {
    Audio::new(sound(rate, &[(500, false), (1_000, true), (500, false)]), rate)
}

#[tokio::test]
async fn a_recording_is_heard_answered_and_spoken() {
    let cast = Script::new(&[" What is the capital of France? "], &[&[Say("**Paris**"), Say(" is the capital. It"), Say(" is big 🎉.")]])
        .start()
        .await;
    let mut session = Session::new("s");
    let mut events = Vec::new();
    let turn = within(cast.voice.turn(&CallCx::new(), &mut session, question(16_000), |event| events.push(event))).await.unwrap();

    assert_eq!(turn.heard.transcript.as_deref(), Some("What is the capital of France?"));
    let [span] = turn.heard.speech[..] else { panic!("{:?}", turn.heard.speech) };
    assert!(span.from.abs_diff(Duration::from_millis(500)) < Duration::from_millis(40), "{span:?}");
    assert!(span.to.abs_diff(Duration::from_millis(1_500)) < Duration::from_millis(40), "{span:?}");
    assert_eq!(turn.heard.windows.len(), 2 * 16_000 / 512);
    let reply = turn.reply.expect("an answer");
    assert_eq!(reply.text, "**Paris** is the capital. It is big 🎉.");
    // Marks and pictures are written, not read.
    assert_eq!(*cast.tts.pieces.lock().unwrap(), ["Paris is the capital.", "It is big ."]);
    let audio = turn.audio.expect("sound");
    // Chunks carry their own rate; nothing is assumed about it.
    assert_eq!((audio.rate, audio.samples.len()), (TTS_RATE, (21 + 11) * 80));
    assert!(turn.tts_error.is_none());
    assert!(turn.engines.iter().map(|e| (e.name.as_str(), e.degraded.as_deref())).eq([("loud", None), ("scribe", None), ("throat", None)]));

    // The transcriber got the speech at its rate with a short tail, and not the silence around it.
    let requests = cast.stt.requests.lock().unwrap().clone();
    assert_eq!(requests[0].audio.rate, 16_000);
    assert!((1_000..1_300).contains(&requests[0].audio.duration().as_millis()), "{:?}", requests[0].audio);

    let marks: Vec<_> = turn.timeline.marks().into_iter().map(|(name, at)| at.unwrap_or_else(|| panic!("no mark {name}"))).collect();
    assert!(marks[0] <= marks[1] && marks[1] <= marks[2] && marks[2] <= marks[4] && marks[3] <= marks[5], "{}", turn.timeline);
    assert!(turn.timeline.speech.abs_diff(Duration::from_secs(1)) < Duration::from_millis(80));
    assert!(matches!(events.last(), Some(VoiceEvent::Metrics(_))));
    within(cast.host.shutdown()).await;
}

#[tokio::test]
async fn the_first_audio_comes_before_the_last_token() {
    let gate = Gate::closed();
    let cast = Script::new(&["hello"], &[&[Say("First sentence. "), Say("Second"), Wait(gate.clone()), Say(" one.")]]).start().await;
    let mut seen = Vec::new();
    // The provider goes on only after audio was seen: in the wrong order this waits for ever.
    let opens = gate.clone();
    let on_event = |event: VoiceEvent| {
        if let VoiceEvent::ReplyAudio { .. } = event {
            opens.open();
        }
        if let VoiceEvent::ReplyText { .. } | VoiceEvent::ReplyAudio { .. } = event {
            seen.push(event);
        }
    };
    let mut session = Session::new("s");
    let turn = within(cast.voice.turn(&CallCx::new(), &mut session, question(16_000), on_event)).await.unwrap();
    assert!(turn.timeline.first_audio.unwrap() < turn.timeline.last_token.unwrap(), "{}", turn.timeline);
    let audio_at = seen.iter().position(|e| matches!(e, VoiceEvent::ReplyAudio { .. })).unwrap();
    assert!(matches!(&seen.last(), Some(VoiceEvent::ReplyAudio { .. })) && audio_at < seen.len() - 2, "{seen:?}");
    assert_eq!(*cast.tts.pieces.lock().unwrap(), ["First sentence.", "Second one."]);
}

#[tokio::test]
async fn silence_asks_nobody() {
    let cast = Script::default().start().await;
    let mut session = Session::new("s");
    let silence = Audio::new(vec![0.0; 48_000], 48_000);
    let turn = within(cast.voice.turn(&CallCx::new(), &mut session, silence, drop)).await.unwrap();
    assert!(turn.heard.transcript.is_none() && turn.heard.speech.is_empty() && turn.reply.is_none() && turn.audio.is_none());
    assert!(turn.timeline.vad.is_some() && turn.timeline.transcript.is_none());
    assert!(cast.stt.requests.lock().unwrap().is_empty() && cast.brain.requests.lock().unwrap().is_empty());
    assert!(session.messages().is_empty());
}

#[tokio::test]
async fn speech_without_words_is_not_answered() {
    let cast = Script::new(&["  "], &[]).start().await;
    let turn = within(cast.voice.turn(&CallCx::new(), &mut Session::new("s"), question(16_000), drop)).await.unwrap();
    assert_eq!(turn.heard.transcript.as_deref(), Some(""));
    assert!(turn.reply.is_none() && cast.brain.requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn sound_that_is_none_is_refused() {
    let cast = Script::default().start().await;
    for recording in [Audio::new(Vec::new(), 16_000), Audio::new(vec![0.0; 10], 0), Audio::new(vec![0.0; 10], u32::MAX)] {
        let error = within(cast.voice.turn(&CallCx::new(), &mut Session::new("s"), recording, drop)).await.unwrap_err();
        assert_eq!(error.code(), Code::STT_AUDIO_INVALID);
    }
    // Samples that are no numbers are silence.
    let broken = Audio::new([f32::NAN, f32::INFINITY, -f32::INFINITY].repeat(9_000), 44_100);
    let turn = within(cast.voice.turn(&CallCx::new(), &mut Session::new("s"), broken, drop)).await.unwrap();
    assert!(turn.heard.speech.is_empty());
}

/// A rate fixed to 48 kHz, or durations that are sums of timestamps, would fail here.
#[tokio::test]
async fn any_rate_is_heard_and_time_is_counted_in_its_samples() {
    for rate in [8_000, 11_025, 44_100, 48_000, 96_000] {
        let cast = Script::new(&["hello"], &[&[Say("Hi.")]]).start().await;
        let turn = within(cast.voice.turn(&CallCx::new(), &mut Session::new("s"), question(rate), drop)).await.unwrap();
        let [span] = turn.heard.speech[..] else { panic!("{rate}: {:?}", turn.heard.speech) };
        assert!(span.from.abs_diff(Duration::from_millis(500)) < Duration::from_millis(40), "{rate}: {span:?}");
        assert!(span.to.abs_diff(Duration::from_millis(1_500)) < Duration::from_millis(40), "{rate}: {span:?}");
        assert_eq!(cast.stt.requests.lock().unwrap()[0].audio.rate, 16_000);
    }
}

/// A model that gets only the last transcript would not know the name.
#[tokio::test]
async fn two_turns_share_one_history() {
    let cast = Script::new(&["I am Ada.", "Who am I?"], &[&[Say("Hello Ada.")], &[Say("You are Ada.")]]).start().await;
    let mut session = Session::new("s");
    for _ in 0..2 {
        within(cast.voice.turn(&CallCx::new(), &mut session, question(16_000), drop)).await.unwrap();
    }
    let requests = cast.brain.requests.lock().unwrap();
    let said: Vec<_> = requests[1].messages.iter().filter(|m| m.role != Role::System).map(|m| m.text.as_str()).collect();
    assert_eq!(said, ["I am Ada.", "Hello Ada.", "Who am I?"]);
}

#[tokio::test]
async fn speech_after_a_breath_is_one_piece_and_after_a_pause_two() {
    let cast = Script::new(&["one two", "three"], &[&[Say("Yes.")]]).start().await;
    let parts = sound(16_000, &[(600, true), (500, false), (600, true), (2_000, false), (600, true), (300, false)]);
    let turn = within(cast.voice.turn(&CallCx::new(), &mut Session::new("s"), Audio::new(parts, 16_000), drop)).await.unwrap();
    assert_eq!(turn.heard.speech.len(), 3);
    assert_eq!(turn.heard.transcript.as_deref(), Some("one two three"));
    assert_eq!(cast.stt.requests.lock().unwrap().len(), 2);
}

/// The tail of one utterance and the padding of the next may be the same sound.
#[tokio::test]
async fn sound_between_two_utterances_is_transcribed_once() {
    let cast = Script::new(&["one two"], &[&[Say("Yes.")]]).start().await;
    let recording = sound(16_000, &[(320, false), (640, true), (192, false), (640, true), (600, false)]);
    let turn = within(cast.voice.turn(&CallCx::new(), &mut Session::new("s"), Audio::new(&recording[..], 16_000), drop)).await.unwrap();
    let [first, second] = turn.heard.speech[..] else { panic!("{:?}", turn.heard.speech) };
    assert!(second.from - first.to < Duration::from_millis(200));
    let heard = cast.stt.requests.lock().unwrap()[0].audio.samples.clone();
    let from = (first.from.as_secs_f64() * 16_000.0).round() as usize;
    assert!(*heard == recording[from..from + heard.len()] && heard.len() > 23_000, "{} samples", heard.len());
}

#[tokio::test]
async fn speech_to_the_very_end_is_heard() {
    let cast = Script::new(&["hello"], &[&[Say("Hi.")]]).start().await;
    let recording = Audio::new(sound(16_000, &[(300, false), (900, true)]), 16_000);
    let turn = within(cast.voice.turn(&CallCx::new(), &mut Session::new("s"), recording, drop)).await.unwrap();
    assert_eq!(turn.heard.speech[0].to, Duration::from_millis(1_200));
    assert!(turn.reply.is_some());
}

#[tokio::test]
async fn what_the_transcriber_says_of_its_failure_reaches_the_caller() {
    let mut script = Script::default();
    script.words.push(Err(Error::new(Code::STT_TRANSCRIPTION_FAILED, "the model broke").with_help("bespoke doctor")));
    let cast = script.start().await;
    let mut session = Session::new("s");
    let error = within(cast.voice.turn(&CallCx::new(), &mut session, question(16_000), drop)).await.unwrap_err();
    assert_eq!((error.code(), error.plugin(), error.help()), (Code::STT_TRANSCRIPTION_FAILED, Some("cast"), Some("bespoke doctor")));
    assert!(session.messages().is_empty());
}

#[tokio::test]
async fn without_a_voice_the_answer_stays() {
    for fault in [Fault::Open, Fault::Push, Fault::Panic, Fault::Ends] {
        // The rest of the answer is written after the voice is gone.
        let gate = Gate::closed();
        let mut script = Script::new(&["hello"], &[&[Say("One. T"), Wait(gate.clone()), Say("wo.")]]);
        script.tts_fault = Some(fault);
        let cast = script.start().await;
        let mut session = Session::new("s");
        let mut failed = Vec::new();
        let on_event = |event| {
            if let VoiceEvent::Error { stage, error } = event {
                failed.push((stage, error));
                gate.open();
            }
        };
        let turn = within(cast.voice.turn(&CallCx::new(), &mut session, question(16_000), on_event)).await.unwrap();
        assert_eq!(turn.reply.unwrap().text, "One. Two.");
        let error = turn.tts_error.expect("a reason");
        assert_eq!(error.plugin(), Some("cast"), "{error}");
        assert_eq!(failed, [(Stage::Tts, error)]);
        assert_eq!(session.messages().len(), 2);
    }
}

#[tokio::test]
async fn an_agent_that_fails_mid_way_is_an_error_after_what_was_said() {
    let cast = Script::new(&["hello"], &[&[Say("I think that. "), Say("Well"), Fail]]).start().await;
    let mut session = Session::new("s");
    let mut text = String::new();
    let on_event = |event| {
        if let VoiceEvent::ReplyText { text: more } = event {
            text.push_str(&more);
        }
    };
    let error = within(cast.voice.turn(&CallCx::new(), &mut session, question(16_000), on_event)).await.unwrap_err();
    assert_eq!(error.code(), Code::LLM_COMPLETION_FAILED);
    assert_eq!(text, "I think that. Well");
    assert_eq!(cast.tts.gone.get(), 1, "the voice falls silent");
}

#[tokio::test]
async fn a_cancelled_turn_lets_everybody_go() {
    let cast = Script::new(&["hello"], &[&[Say("One sentence. "), Say("And"), Wait(Gate::closed())]]).start().await;
    let cx = CallCx::new();
    let cancel = cx.cancel_token().clone();
    let mut session = Session::new("s");
    let on_event = move |event| {
        if let VoiceEvent::ReplyAudio { .. } = event {
            cancel.cancel();
        }
    };
    let error = within(cast.voice.turn(&cx, &mut session, question(16_000), on_event)).await.unwrap_err();
    assert_eq!(error.code(), Code::CANCELLED);
    cast.brain.gone.reaches(1).await;
    cast.tts.gone.reaches(1).await;
    // What was said until then is part of the conversation.
    assert_eq!(session.messages().last().unwrap().text, "One sentence. And");
}

fn broken_detector(fault: Option<Fault>) -> Contribution {
    Contribution::Vad(VadSpec::new("fine"), Arc::new(Loudness { opened: AtomicUsize::new(0), fault }))
}

#[tokio::test]
async fn a_detector_that_stands_in_says_for_whom_and_why() {
    let missing = || Error::new(Code::MODEL_NOT_FOUND, "fine.onnx is missing").with_help("bespoke plugin download-files fine");
    let cases = [
        // It did not start, it cannot be opened, it breaks at work, it panics; and it was never there.
        (Some(candidate("fine", vec![broken_detector(None)], Some(missing()))), "fine.onnx is missing"),
        (Some(candidate("fine", vec![broken_detector(Some(Fault::Open))], None)), "loud.onnx is missing"),
        (Some(candidate("fine", vec![broken_detector(Some(Fault::Push))], None)), "the engine broke"),
        (Some(candidate("fine", vec![broken_detector(Some(Fault::Panic))], None)), "panicked: out of its mind"),
        (Some(candidate("fine", vec![broken_detector(Some(Fault::Ends))], None)), "ended its stream"),
        (None, "no vad named `fine`"),
    ];
    for (plugin, why) in cases {
        let mut script = Script::new(&["hello"], &[&[Say("Hi.")]]);
        script.extra.extend(plugin);
        script.config.vad = vec!["fine".into(), "loud".into()];
        let cast = script.start().await;
        let turn = within(cast.voice.turn(&CallCx::new(), &mut Session::new("s"), question(16_000), drop)).await.unwrap();
        let vad = &turn.engines[0];
        assert_eq!((vad.kind.name(), vad.name.as_str(), vad.plugin.as_str()), ("vad", "loud", "cast"));
        let degraded = vad.degraded.as_deref().expect("it stands in");
        assert!(degraded.starts_with("fine: ") && degraded.contains(why), "{degraded}");
        assert_eq!(cast.vad.opened.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn when_nothing_works_the_first_reason_leads() {
    let mut script = Script { vad_fault: Some(Fault::Open), ..Script::default() };
    script.config.vad = vec!["nobody".into(), "loud".into()];
    let cast = script.start().await;
    let error = within(cast.voice.turn(&CallCx::new(), &mut Session::new("s"), question(16_000), drop)).await.unwrap_err();
    assert_eq!(error.code(), Code::PLUGIN_NOT_FOUND);
    assert!(error.message().contains("nobody: no vad") && error.message().contains("loud: loud.onnx is missing"), "{error}");
}

#[tokio::test]
async fn a_voice_that_takes_one_piece_at_a_time_says_all_of_it() {
    let mut script = Script::new(&["hello"], &[&[Say("One. Two. Three. Four.")]]);
    script.narrow = true;
    let cast = script.start().await;
    let turn = within(cast.voice.turn(&CallCx::new(), &mut Session::new("s"), question(16_000), drop)).await.unwrap();
    assert_eq!(*cast.tts.pieces.lock().unwrap(), ["One.", "Two.", "Three.", "Four."]);
    assert_eq!(turn.audio.unwrap().samples.len(), (4 + 4 + 6 + 5) * 80);
}

#[tokio::test]
async fn text_is_spoken_and_speech_transcribed_alone() {
    let cast = Script::new(&["hello"], &[]).start().await;
    let mut chunks = 0;
    let spoken = within(cast.voice.speak(&CallCx::new(), "# Title\nOne. Two.", |_| chunks += 1)).await.unwrap();
    assert_eq!((chunks, spoken.audio.unwrap().rate, spoken.engine.name.as_str()), (3, TTS_RATE, "throat"));
    assert!(within(cast.voice.speak(&CallCx::new(), "🎉", |_| ())).await.unwrap().audio.is_none());
    let heard = within(cast.voice.transcribe(&CallCx::new(), question(44_100), drop)).await.unwrap();
    assert_eq!(heard.transcript.as_deref(), Some("hello"));
}

#[tokio::test]
async fn a_turn_and_its_stages_are_told_as_events_without_a_word_of_it() {
    let cast = Script::new(&["SECRET question"], &[&[Say("SECRET answer.")]]).start().await;
    let _listener = cast.host.events().subscribe("", None);
    let mut session = Session::new("s");
    within(cast.voice.turn(&CallCx::new(), &mut session, question(16_000), |_| {})).await.unwrap();
    let told = cast.host.events().history("", 0);
    let of = |topic: &str, keys: &[&str]| -> Vec<String> {
        let events = told.iter().filter(|event| event.topic == topic);
        events.map(|event| keys.iter().map(|key| event.payload[key].to_string()).collect::<Vec<_>>().join(" ")).collect()
    };
    let stages = of("step_completed", &["kind", "name", "ok"]);
    assert_eq!(stages.len(), 5, "{stages:?}");
    for stage in ["\"vad\" \"loud\" true", "\"stt\" \"scribe\" true", "\"tts\" \"throat\" true", "\"agent\" null true"] {
        assert!(stages.iter().any(|told| told == stage), "{stage}: {stages:?}");
    }
    // The spoken turn, and the agent's within it.
    assert_eq!(
        of("workflow_started", &["kind", "session"]),
        of("workflow_completed", &["kind", "session"]).into_iter().rev().collect::<Vec<_>>()
    );
    assert_eq!(of("workflow_completed", &["kind", "ok", "steps"]), ["\"agent\" true 1", "\"voice\" true 4"]);
    assert!(!format!("{:?}", cast.host.events().history("", 0)).contains("SECRET"));
    within(cast.host.shutdown()).await;
}
