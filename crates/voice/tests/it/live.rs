//! Conversations over a microphone.

use std::time::Duration;

use bespoke_agent::Session;
use bespoke_plugin_api::{CallCx, Code, Role};
use bespoke_voice::{LiveEvents, LiveVoice, Stage, VoiceEvent};

use crate::cast::{
    Cast, Fault, Gate, Script,
    Step::{Fail, Say, Wait},
    sound, within,
};

const RATE: u32 = 16_000;

/// A microphone and what came of it.
struct Room {
    live: LiveVoice,
    events: LiveEvents,
    /// Names of the events so far, in order.
    seen: Vec<&'static str>,
}

impl Room {
    async fn enter(cast: &Cast, rate: u32) -> Self {
        let (live, events) = within(cast.voice.live(&CallCx::new(), Session::new("s"), rate)).await.unwrap();
        Room { live, events, seen: Vec::new() }
    }

    fn speak(&self, ms: u64) {
        self.live.push(&sound(RATE, &[(ms, true)])).unwrap();
    }

    fn pause(&self, ms: u64) {
        self.live.push(&sound(RATE, &[(ms, false)])).unwrap();
    }

    /// Speech, and silence enough for the detector to end it.
    fn say(&self) {
        self.speak(600);
        self.pause(400);
    }

    async fn next(&mut self) -> Option<VoiceEvent> {
        let event = within(self.events.next()).await?;
        self.seen.push(name(&event));
        Some(event)
    }

    /// The next event of that name; those before it go to `seen`.
    async fn until(&mut self, wanted: &str) -> VoiceEvent {
        loop {
            let event = self.next().await.unwrap_or_else(|| panic!("the session ended before {wanted}; seen: {:?}", self.seen));
            if name(&event) == wanted {
                return event;
            }
            assert!(wanted == "Error" || name(&event) != "Error", "{event:?}");
        }
    }

    /// All events to the end.
    async fn rest(&mut self) {
        while self.next().await.is_some() {}
    }
}

fn name(event: &VoiceEvent) -> &'static str {
    match event {
        VoiceEvent::Engine(_) => "Engine",
        VoiceEvent::SpeechStart { .. } => "SpeechStart",
        VoiceEvent::SpeechEnd { ignored: false, .. } => "SpeechEnd",
        VoiceEvent::SpeechEnd { ignored: true, .. } => "Ignored",
        VoiceEvent::Transcript { .. } => "Transcript",
        VoiceEvent::Agent(_) => "Agent",
        VoiceEvent::ReplyText { .. } => "ReplyText",
        VoiceEvent::ReplyAudio { .. } => "ReplyAudio",
        VoiceEvent::ReplyEnd { .. } => "ReplyEnd",
        VoiceEvent::Interrupted => "Interrupted",
        VoiceEvent::Error { .. } => "Error",
        VoiceEvent::Metrics(_) => "Metrics",
        _ => "?",
    }
}

fn said(session: &Session) -> Vec<&str> {
    session.messages().iter().map(|m| m.text.as_str()).collect()
}

#[tokio::test]
async fn two_turns_over_one_microphone_share_the_history() {
    let cast = Script::new(&["I am Ada.", "Who am I?"], &[&[Say("Hello Ada.")], &[Say("You are Ada.")]]).start().await;
    let mut room = Room::enter(&cast, RATE).await;
    room.pause(300);
    room.say();
    let VoiceEvent::Metrics(timeline) = room.until("Metrics").await else { unreachable!() };
    let expected =
        ["Engine", "SpeechStart", "SpeechEnd", "Engine", "Transcript", "Engine", "ReplyText", "ReplyAudio", "ReplyEnd", "Metrics"];
    assert_eq!(room.seen, expected);
    // The detector waited for five windows of silence, at most one of them cut by the frame; that much is counted.
    assert!(timeline.vad.unwrap() >= Duration::from_millis(128), "{timeline}");
    assert!(timeline.speech.abs_diff(Duration::from_millis(600)) < Duration::from_millis(70), "{timeline}");
    assert!(timeline.first_audio.unwrap() > timeline.transcript.unwrap());

    room.say();
    room.until("Metrics").await;
    // The same engines are not told again.
    assert_eq!(room.seen[expected.len()..].iter().filter(|n| **n == "Engine").count(), 0);
    let requests = cast.brain.requests.lock().unwrap().clone();
    let texts: Vec<_> = requests[1].messages.iter().filter(|m| m.role != Role::System).map(|m| m.text.as_str()).collect();
    assert_eq!(texts, ["I am Ada.", "Hello Ada.", "Who am I?"]);
    let session = within(room.live.finish()).await.unwrap();
    assert_eq!(said(&session), ["I am Ada.", "Hello Ada.", "Who am I?", "You are Ada."]);
}

/// Were detector and transcriber to compete for frames, each would hear half of them.
#[tokio::test]
async fn every_frame_reaches_the_detector_and_the_transcriber_whatever_its_length() {
    let parts =
        [(1_000, 500), (700, 4_000), (900, 600)].map(|(speech, pause)| sound(RATE, &[(300, false), (speech, true), (pause, false)]));
    let whole = parts.concat();
    let sample = |at: Duration| (at.as_secs_f64() * f64::from(RATE)).round() as usize;
    let mut spans = Vec::new();
    for length in [1, 160, 441, 16_000, 200_000] {
        let cast = Script::new(&["one", "two", "three"], &[&[], &[], &[]]).start().await;
        let mut room = Room::enter(&cast, RATE).await;
        for (n, part) in parts.iter().enumerate() {
            for frame in part.chunks(length) {
                room.live.push(frame).unwrap();
            }
            let VoiceEvent::SpeechEnd { span, .. } = room.until("SpeechEnd").await else { unreachable!() };
            room.until("Metrics").await;
            // Sample for sample what was pushed, from the start of the speech to a short tail.
            let heard = cast.stt.requests.lock().unwrap()[n].audio.samples.clone();
            let from = sample(span.from);
            assert!(heard.len() >= sample(span.to) - from, "{length}: {} samples for {span:?}", heard.len());
            assert!(*heard == whole[from..from + heard.len()], "{length}: utterance {n} is not what was said");
            spans.push(span);
        }
        within(room.live.close()).await.unwrap();
    }
    // Time is counted in samples, so it is the same however they were cut.
    assert!(spans.chunks(3).all(|found| found == &spans[..3]), "{spans:?}");
}

#[tokio::test]
async fn a_microphone_of_another_rate_is_heard() {
    let cast = Script::new(&["hello"], &[&[Say("Hi.")]]).start().await;
    let mut room = Room::enter(&cast, 44_100).await;
    for frame in sound(44_100, &[(500, false), (1_000, true), (500, false)]).chunks(441) {
        room.live.push(frame).unwrap();
    }
    let VoiceEvent::SpeechEnd { span, .. } = room.until("SpeechEnd").await else { unreachable!() };
    assert!(span.from.abs_diff(Duration::from_millis(500)) < Duration::from_millis(40), "{span:?}");
    assert!(span.to.abs_diff(Duration::from_millis(1_500)) < Duration::from_millis(40), "{span:?}");
    room.until("ReplyEnd").await;
}

/// An interruption that cancels neither the model nor the voice would fail here.
#[tokio::test]
async fn speech_into_a_reply_stops_the_model_and_the_voice() {
    let never = Gate::closed();
    let answers: &[&[_]] = &[&[Say("A long story begins. "), Say("And"), Wait(never)], &[Say("I stopped.")]];
    let cast = Script::new(&["Tell me a story.", "Stop!"], answers).start().await;
    let mut room = Room::enter(&cast, RATE).await;
    room.say();
    room.until("ReplyAudio").await;
    assert_eq!((cast.brain.gone.get(), cast.tts.gone.get()), (0, 0));

    room.speak(500);
    room.until("Interrupted").await;
    cast.brain.gone.reaches(1).await;
    cast.tts.gone.reaches(1).await;
    let before = room.seen.len();
    room.pause(400);
    room.until("ReplyEnd").await;
    // No sound of the old reply after the interruption: the first comes after the words of the new one.
    assert_eq!(room.seen[before..], ["SpeechEnd", "Transcript", "ReplyText", "ReplyAudio", "ReplyEnd"]);
    let session = within(room.live.close()).await.unwrap();
    assert_eq!(said(&session), ["Tell me a story.", "A long story begins. And", "Stop!", "I stopped."]);
}

#[tokio::test]
async fn audio_that_nobody_fetched_is_taken_back() {
    let answers: &[&[_]] = &[&[Say("A long story begins. "), Say("And"), Wait(Gate::closed())]];
    let cast = Script::new(&["Tell me a story."], answers).start().await;
    let mut room = Room::enter(&cast, RATE).await;
    room.say();
    // The voice has nothing left to give, so its sound lies with the listener, who is slow.
    let spoken = async {
        while cast.tts.pieces.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    within(spoken).await;
    let idle = cast.tts.idle.get();
    cast.tts.idle.reaches(idle.max(1)).await;
    room.speak(500);
    cast.tts.gone.reaches(1).await;
    room.until("Interrupted").await;
    assert!(!room.seen.contains(&"ReplyAudio"), "{:?}", room.seen);
}

#[tokio::test]
async fn a_reply_that_is_only_playing_is_interrupted_too_and_one_that_is_over_is_not() {
    // 10 ms a character: the first answer plays for 10 s, the second for 60 ms.
    let mut script = Script::new(&["one", "two", "three"], &[&[Say("0123456789")], &[Say("Short.")], &[Say("Short.")]]);
    script.drawl = 100;
    script.answers[0] = vec![Say("abcdefghij")];
    let cast = script.start().await;
    let mut room = Room::enter(&cast, RATE).await;
    room.say();
    room.until("Metrics").await;
    room.say();
    room.until("Interrupted").await;
    room.until("Metrics").await;
    // "Short." at this drawl plays for 6 s of the microphone's time.
    room.pause(7_000);
    room.say();
    room.until("Metrics").await;
    assert_eq!(room.seen.iter().filter(|n| **n == "Interrupted").count(), 1);
    assert_eq!(room.seen.iter().filter(|n| **n == "ReplyEnd").count(), 3);
}

#[tokio::test]
async fn a_cough_does_not_stop_a_reply() {
    let gate = Gate::closed();
    let cast = Script::new(&["one"], &[&[Say("First. "), Say("And"), Wait(gate.clone()), Say(" then.")]]).start().await;
    let mut room = Room::enter(&cast, RATE).await;
    room.say();
    room.until("ReplyAudio").await;
    room.speak(96);
    room.pause(400);
    room.until("Ignored").await;
    gate.open();
    room.until("ReplyEnd").await;
    assert!(!room.seen.contains(&"Interrupted"));
    assert_eq!(cast.stt.asked.get(), 1);
}

#[tokio::test]
async fn without_barge_in_a_reply_is_spoken_to_its_end() {
    let gate = Gate::closed();
    let mut script = Script::new(&["one"], &[&[Say("First. "), Say("And"), Wait(gate.clone()), Say(" then.")]]);
    script.config.barge_in = false;
    let cast = script.start().await;
    let mut room = Room::enter(&cast, RATE).await;
    room.say();
    room.until("ReplyAudio").await;
    room.say();
    room.until("Ignored").await;
    gate.open();
    room.until("ReplyEnd").await;
    assert!(!room.seen.contains(&"Interrupted"));
}

#[tokio::test]
async fn speech_that_goes_on_before_it_was_understood_is_one_utterance() {
    let gate = Gate::closed();
    let mut script = Script::new(&["both halves"], &[&[Say("Yes.")]]);
    script.stt_gate = Some(gate.clone());
    let cast = script.start().await;
    let mut room = Room::enter(&cast, RATE).await;
    room.speak(1_000);
    room.pause(400);
    cast.stt.asked.reaches(1).await;
    room.speak(1_000);
    room.until("Interrupted").await;
    gate.open();
    room.pause(400);
    room.until("ReplyEnd").await;
    let request = cast.stt.requests.lock().unwrap()[1].clone();
    assert!((2_000..2_600).contains(&request.audio.duration().as_millis()), "{:?}", request.audio);
    assert!(!room.seen[..room.seen.len() - 1].contains(&"ReplyEnd"));
    assert_eq!(said(&within(room.live.close()).await.unwrap()), ["both halves", "Yes."]);
}

#[tokio::test]
async fn an_utterance_without_an_end_is_answered_at_the_limit() {
    let mut script = Script::new(&["on and on", "again"], &[&[Say("Yes.")], &[Say("Yes.")]]);
    script.config.max_utterance_s = 2;
    let cast = script.start().await;
    let mut room = Room::enter(&cast, RATE).await;
    for _ in 0..30 {
        room.speak(100);
    }
    let VoiceEvent::SpeechEnd { span, .. } = room.until("SpeechEnd").await else { unreachable!() };
    assert!(span.truncated && span.to - span.from == Duration::from_secs(2), "{span:?}");
    room.until("ReplyEnd").await;
    // The rest up to the pause is not heard; what follows is.
    room.pause(1_000);
    room.say();
    let VoiceEvent::SpeechEnd { span, .. } = room.until("SpeechEnd").await else { unreachable!() };
    assert!(!span.truncated);
    room.until("ReplyEnd").await;
    assert_eq!(cast.stt.asked.get(), 2);
}

#[tokio::test]
async fn closing_in_the_middle_ends_everything_and_keeps_what_was_said() {
    let cast = Script::new(&["one"], &[&[Say("First. "), Say("And"), Wait(Gate::closed())]]).start().await;
    let mut room = Room::enter(&cast, RATE).await;
    room.say();
    room.until("ReplyAudio").await;
    let session = within(room.live.close()).await.unwrap();
    assert_eq!(said(&session), ["one", "First. And"]);
    assert_eq!((cast.brain.gone.get(), cast.tts.gone.get()), (1, 1));
    let before = room.seen.len();
    while within(room.events.next())
        .await
        .is_some_and(|event| matches!(event, VoiceEvent::ReplyText { .. } | VoiceEvent::ReplyAudio { .. }))
    {}
    assert!(within(room.events.next()).await.is_none(), "{:?}", &room.seen[before..]);
    // Nothing of the session holds on to a plugin.
    assert!(cast.host.rows().iter().all(|row| row.in_flight == 0));
}

/// A closed channel gives no values: zeros would read as a start of speech, for ever.
#[tokio::test]
async fn nothing_comes_after_the_end() {
    let cast = Script::default().start().await;
    let mut room = Room::enter(&cast, RATE).await;
    room.pause(500);
    let session = within(room.live.finish()).await.unwrap();
    assert!(session.messages().is_empty());
    for _ in 0..3 {
        if let Some(event) = within(room.events.next()).await {
            assert_eq!(name(&event), "Engine");
        }
    }
    assert!(within(room.events.next()).await.is_none());
}

#[tokio::test]
async fn finishing_answers_what_is_being_said() {
    let cast = Script::new(&["hello"], &[&[Say("Hi.")]]).start().await;
    let room = Room::enter(&cast, RATE).await;
    room.pause(300);
    room.speak(700);
    let Room { live, events, seen } = room;
    let session = within(live.finish()).await.unwrap();
    assert_eq!(said(&session), ["hello", "Hi."]);
    // All of it can still be fetched.
    let mut events = events;
    let mut all = seen;
    while let Some(event) = within(events.next()).await {
        all.push(name(&event));
    }
    assert_eq!(all.last(), Some(&"Metrics"));
}

#[tokio::test]
async fn a_detector_that_breaks_ends_the_session_with_its_reason() {
    for fault in [Fault::Push, Fault::Panic, Fault::Ends] {
        let cast = Script { vad_fault: Some(fault), ..Script::default() }.start().await;
        let mut room = Room::enter(&cast, RATE).await;
        room.pause(300);
        let VoiceEvent::Error { stage, error } = room.until("Error").await else { unreachable!() };
        assert_eq!((stage, error.plugin()), (Stage::Vad, Some("cast")));
        room.rest().await;
        assert!(!room.seen.contains(&"SpeechStart"));
        let refused = room.live.push(&[0.0; 160]).unwrap_err();
        assert_eq!(refused.code(), Code::NOT_READY);
        within(room.live.finish()).await.unwrap();
    }
}

#[tokio::test]
async fn a_turn_that_fails_does_not_end_the_session() {
    let cast = Script::new(&["one", "two"], &[&[Say("Well"), Fail], &[Say("Better.")]]).start().await;
    let mut room = Room::enter(&cast, RATE).await;
    room.say();
    let VoiceEvent::Error { stage, error } = room.until("Error").await else { unreachable!() };
    assert_eq!((stage, error.code()), (Stage::Agent, Code::LLM_COMPLETION_FAILED));
    room.until("Metrics").await;
    room.say();
    room.until("ReplyEnd").await;
}

#[tokio::test]
async fn whoever_stops_listening_or_speaking_ends_the_session() {
    let cast = Script::new(&["one"], &[&[Say("First. "), Say("And"), Wait(Gate::closed())]]).start().await;
    let mut room = Room::enter(&cast, RATE).await;
    room.say();
    room.until("ReplyAudio").await;
    drop(room.events);
    cast.brain.gone.reaches(1).await;
    within(room.live.finish()).await.unwrap();

    let cast = Script::new(&["one"], &[&[Say("First. "), Say("And"), Wait(Gate::closed())]]).start().await;
    let mut room = Room::enter(&cast, RATE).await;
    room.say();
    room.until("ReplyAudio").await;
    drop(room.live);
    cast.brain.gone.reaches(1).await;
    while within(room.events.next()).await.is_some() {}
}
